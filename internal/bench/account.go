package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/host"
	containr "github.com/containr/containr/pkg/runtime"
)

// account says what of a run is the kernel's work, which every runtime has to ask for.
// It is measured without a runtime, in two parts: a program that is nothing but the
// container's plan, and the making, entering and removing of its control groups.
func (b *bench) account() ([]table, error) {
	list, err := b.ociRuntimes()
	if err != nil {
		return nil, err
	}
	warm, err := newWarmer()
	if err != nil {
		return nil, err
	}
	t, err := b.accountOf(list, warm)
	return []table{t}, err
}

func (b *bench) accountOf(list []*ociRuntime, warm *warmer) (t table, err error) {
	c := runs(list[:min(2, len(list))], passing)
	program, err := b.planProgram(list[0])
	if err != nil {
		return t, err
	}
	dirs, err := groupDirs(group + "/account")
	if err != nil {
		return t, err
	}
	c = append(c,
		&contestant{name: "the plan alone", turn: func(int) (sample, error) { return cmd(program).measure() }},
		&contestant{name: "the control groups alone", turn: func(int) (sample, error) { return enterAndLeave(dirs) }})
	if err := race(b.ctx, options{rounds: b.rounds(100), warmUp: 3, before: warm.warm}, c); err != nil {
		return t, err
	}
	t = table{title: "Runtime: where the time of a run goes", rule: numbers, head: []string{"", "n", "median ms", "CPU ms", "page faults"},
		text: "The same run, hot, and the part of it that is the kernel's: a program that is only the plan of that container, as `explain --as elf` writes it, " +
			"without control groups; and control groups like its own that are made, entered by a thread and removed. No runtime could be faster than their sum."}
	for _, one := range c {
		var wall, cpu, faults []float64
		for _, s := range one.samples {
			wall, cpu, faults = append(wall, milliseconds(s.wall)), append(cpu, milliseconds(s.cpu)), append(faults, float64(s.faults))
		}
		t.rows = append(t.rows, []string{one.name, fmt.Sprint(len(wall)), number(summarize(wall).median), number(summarize(cpu).median),
			fmt.Sprintf("%.0f", summarize(faults).median)})
	}
	return t, nil
}

// planProgram writes the program of a runtime's container that ends at once.
func (b *bench) planProgram(r *ociRuntime) (string, error) {
	facts, err := host.Probe()
	if err != nil {
		return "", err
	}
	in, err := (&containr.Runtime{Root: r.root, Facts: facts}).Input(&containr.CreateRequest{ID: r.id, Bundle: r.passing})
	if err != nil {
		return "", err
	}
	p, err := containr.Compile(in)
	if err != nil {
		return "", err
	}
	path := filepath.Join(b.dir, "plan")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return "", err
	}
	_, err = containr.WriteELF(f, p)
	return path, errors.Join(err, f.Close())
}

// enterAndLeave makes control groups, has a thread enter them on version 1, where a
// thread can do so alone, and removes them.
func enterAndLeave(dirs []string) (s sample, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &before); err != nil {
		return s, err
	}
	begin := time.Now()
	for _, dir := range dirs {
		err = errors.Join(err, makeAndEnter(dir))
	}
	for _, dir := range dirs {
		if tasks := filepath.Join(filepath.Dir(filepath.Dir(dir)), "tasks"); unix.Access(tasks, unix.W_OK) == nil {
			err = errors.Join(err, put(tasks, "0"))
		}
		err = errors.Join(err, unix.Rmdir(dir))
	}
	s.wall = time.Since(begin)
	err = errors.Join(err, unix.Getrusage(unix.RUSAGE_THREAD, &after))
	s.count(&after)
	var earlier sample
	earlier.count(&before)
	s.cpu, s.faults = s.cpu-earlier.cpu, s.faults-earlier.faults
	return s, err
}

// makeAndEnter makes a group, which as a cpuset takes over what its parent has.
func makeAndEnter(dir string) error {
	err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o755), unix.Mkdir(dir, 0o755))
	if _, v1 := os.Stat(filepath.Join(dir, "tasks")); v1 != nil {
		return err
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		for _, below := range []string{filepath.Dir(dir), dir} {
			above, missing := os.ReadFile(filepath.Join(filepath.Dir(below), name))
			if missing == nil {
				err = errors.Join(err, put(filepath.Join(below, name), string(above)))
			}
		}
	}
	return errors.Join(err, put(filepath.Join(dir, "tasks"), "0"))
}

func put(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}
