package shell

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// limits are the resources of ulimit with their units in bytes or pieces (getrlimit(2)).
func limits() []struct {
	flag     byte
	resource int
	unit     uint64
	does     string
} {
	return []struct {
		flag     byte
		resource int
		unit     uint64
		does     string
	}{
		{'c', unix.RLIMIT_CORE, 512, "core file size (512-byte blocks)"},
		{'d', unix.RLIMIT_DATA, 1024, "data segment (KiB)"},
		{'f', unix.RLIMIT_FSIZE, 512, "file size (512-byte blocks)"},
		{'l', unix.RLIMIT_MEMLOCK, 1024, "locked memory (KiB)"},
		{'m', unix.RLIMIT_RSS, 1024, "resident memory (KiB)"},
		{'n', unix.RLIMIT_NOFILE, 1, "open files"},
		{'s', unix.RLIMIT_STACK, 1024, "stack (KiB)"},
		{'t', unix.RLIMIT_CPU, 1, "CPU time (seconds)"},
		{'u', unix.RLIMIT_NPROC, 1, "processes"},
		{'v', unix.RLIMIT_AS, 1024, "address space (KiB)"},
	}
}

// ulimit prints or sets resource limits.
func (s *shell) ulimit(w io.Writer, args []string) error {
	hard, soft, all, flag, value := false, false, false, byte('f'), ""
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			value = a
			continue
		}
		for _, c := range []byte(a[1:]) {
			switch c {
			case 'H':
				hard = true
			case 'S':
				soft = true
			case 'a':
				all = true
			default:
				flag = c
			}
		}
	}
	for _, l := range limits() {
		if !all && l.flag != flag {
			continue
		}
		r, err := s.children.limit(l.resource)
		if err != nil {
			return fmt.Errorf("ulimit: %w", err)
		}
		switch {
		case value != "":
			return setLimit(l.resource, l.unit, r, value, hard, soft)
		case all:
			fmt.Fprintf(w, "-%c: %-34s %s\n", l.flag, l.does, limitText(r, l.unit, hard))
		default:
			fmt.Fprintln(w, limitText(r, l.unit, hard))
			return nil
		}
	}
	if !all {
		return fmt.Errorf("ulimit: -%c: unknown limit", flag)
	}
	return nil
}

func limitText(r unix.Rlimit, unit uint64, hard bool) string {
	n := r.Cur
	if hard {
		n = r.Max
	}
	if n == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return strconv.FormatUint(n/unit, 10)
}

func setLimit(resource int, unit uint64, r unix.Rlimit, value string, hard, soft bool) error {
	n := uint64(unix.RLIM_INFINITY)
	if value != "unlimited" {
		parsed, err := strconv.ParseUint(value, 10, 54)
		if err != nil {
			return fmt.Errorf("ulimit: %s: not a number", value)
		}
		n = parsed * unit
	}
	if hard || !soft {
		r.Max = n
	}
	if soft || !hard {
		r.Cur = n
	}
	if err := unix.Setrlimit(resource, &r); err != nil {
		return fmt.Errorf("ulimit: %w", err)
	}
	return nil
}

// limit is the limit that programs get which the shell starts. The Go runtime raises its own soft limit on open files
// to nearly the hard one, gives programs back what it found, and does not tell. So one is started, and held before its
// first instruction.
func (c *children) limit(resource int) (unix.Rlimit, error) {
	var own unix.Rlimit
	if err := unix.Getrlimit(resource, &own); err != nil || resource != unix.RLIMIT_NOFILE {
		return own, err
	}
	runtime.LockOSThread() // the thread that starts a traced process is its tracer
	defer runtime.UnlockOSThread()
	c.mu.Lock() // the reaper must not take it for an orphan
	defer c.mu.Unlock()
	p, err := os.StartProcess("/proc/self/exe", []string{"true"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{Ptrace: true}})
	if err != nil {
		return own, nil // near enough
	}
	defer func() {
		p.Kill()
		p.Wait()
	}()
	var status unix.WaitStatus
	if _, err := unix.Wait4(p.Pid, &status, 0, nil); err != nil || !status.Stopped() {
		return own, nil
	}
	given := own
	if err := unix.Prlimit(p.Pid, resource, nil, &given); err != nil {
		return own, nil
	}
	return given, nil
}
