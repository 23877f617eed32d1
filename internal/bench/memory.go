package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// memory measures what a runtime needs for itself while it works, and what it leaves in
// memory for a container that waits for its start and for one that runs. The payload
// is one page of code, and a few pages of the kernel's making.
func (b *bench) memory(list []*ociRuntime, _ *warmer) (table, error) {
	t := table{title: "Runtime: memory", rule: numbers, head: []string{"", "n", "created, private kB", "running, private kB", "runtime, peak kB"},
		text: "Private pages of the container's process (`/proc/PID/smaps_rollup`) when it waits for its start and when its program runs, " +
			"and the most that the runtime itself had during `run`, pages of files included; medians."}
	for _, r := range list {
		var created, running, peak []float64
		for range b.rounds(6) {
			c, s, err := r.privateMemory(b.dir)
			if err != nil {
				return t, fmt.Errorf("%s: %w", r.name, err)
			}
			p, err := r.command("run", "--bundle", r.passing, r.id).peakMemory()
			if err != nil {
				return t, fmt.Errorf("%s: %w", r.name, err)
			}
			created, running, peak = append(created, c), append(running, s), append(peak, p)
		}
		row := []string{r.name, fmt.Sprint(len(created))}
		for _, values := range [][]float64{created, running, peak} {
			row = append(row, fmt.Sprintf("%.0f", summarize(values).median))
		}
		t.rows = append(t.rows, row)
	}
	return t, nil
}

// privateMemory returns the private memory of a container's process before and after the
// start of its program, in kB.
func (r *ociRuntime) privateMemory(dir string) (created, running float64, err error) {
	pid, _, err := r.create(dir, r.staying, r.id)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, r.destroy(pid)) }()
	if created, err = privatePages(pid); err != nil {
		return 0, 0, err
	}
	before, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return 0, 0, err
	}
	if _, err := r.command("start", r.id).measure(); err != nil {
		return 0, 0, err
	}
	for exe := before; exe == before; { // start does not wait for the program's execve
		if exe, err = os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil {
			return 0, 0, err
		}
	}
	running, err = privatePages(pid)
	return created, running, err
}

// privatePages returns the private memory of a process, in kB.
func privatePages(pid int) (kB float64, err error) {
	return sizes(pid, "smaps_rollup", func(name string) bool {
		return strings.HasPrefix(name, "Private_") && name != "Private_Hugetlb:"
	})
}

// sizes adds up lines of a file of procfs that give a size in kB.
func sizes(pid int, file string, wanted func(name string) bool) (kB float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && wanted(fields[0]) {
			n, err := strconv.ParseFloat(fields[1], 64)
			if err != nil {
				return 0, err
			}
			kB += n
		}
	}
	return kB, nil
}

// peakMemory runs the command and returns the most that its process ever had in memory, in
// kB. What wait4 says of it would be at least the memory of this process, which it is
// forked from. So it is traced, and asked when it is about to exit. If it executes
// another program before, as crun does to run from a copy of itself, that one counts.
func (c command) peakMemory() (kB float64, err error) {
	runtime.LockOSThread() // the kernel has a thread trace, not a process
	defer runtime.UnlockOSThread()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	attr := &syscall.ProcAttr{Env: c.env, Files: []uintptr{null.Fd(), null.Fd(), 2}, Sys: &syscall.SysProcAttr{Ptrace: true}}
	pid, err := syscall.ForkExec(c.argv[0], c.argv, attr)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.argv[0], err)
	}
	for first := true; ; first = false {
		var ws unix.WaitStatus
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil {
			return 0, fmt.Errorf("wait for process %d: %w", pid, err)
		}
		signal := 0
		switch {
		case ws.Exited() || ws.Signaled():
			if status := exitStatus(ws); status != c.status {
				err = fmt.Errorf("%s: exit status %d, want %d", strings.Join(c.argv, " "), status, c.status)
			}
			return kB, err
		case first: // its execve
			// Without TRACEEXEC a further execve would send it a SIGTRAP, as if it had been asked for.
			err = unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACEEXEC|unix.PTRACE_O_TRACEEXIT|unix.PTRACE_O_EXITKILL)
		case ws.TrapCause() == unix.PTRACE_EVENT_EXEC: // what it had in memory before is gone
		case ws.TrapCause() == unix.PTRACE_EVENT_EXIT:
			kB, err = sizes(pid, "status", func(name string) bool { return name == "VmHWM:" })
		default:
			signal = int(ws.StopSignal())
		}
		if err := errors.Join(err, unix.PtraceCont(pid, signal)); err != nil {
			return 0, fmt.Errorf("trace process %d: %w", pid, err)
		}
	}
}
