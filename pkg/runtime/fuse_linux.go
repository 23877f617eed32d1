package runtime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// servingFD is the descriptor under which a program finds the mount that it is to serve.
const servingFD = 3

// serve starts the program that serves a mount of FUSE, and waits until it does: such programs go to the background then,
// and their first process ends.
//
// It must be in the user namespace of the mount, whose ids the kernel asks it about, and nowhere else of the container's: in
// the mount namespace it would keep the mount alive that it serves, and among the processes it could be looked into. So it
// begins as a program of ours of a few steps. It ends by itself when the mount is gone, with the container's mount
// namespace: the kernel then ends the conversation.
func (e *execution) serve(c linux.ServeFuse) error {
	program, err := exec.LookPath(c.Program)
	if err != nil {
		return err
	}
	var said [2]int
	if err := unix.Pipe2(said[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(said[0])
	defer unix.Close(said[1])
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	regs := map[plan.Reg]int{"null": int(null.Fd()), "said": said[1], "fuse": e.regs[c.Fuse]}
	if c.Users {
		users, err := unix.Open("/proc/"+strconv.Itoa(e.pid)+"/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("user namespace of the container: %w", err)
		}
		defer unix.Close(users)
		regs["users"] = users
	}
	pid, err := startServer(c, program, regs)
	if err != nil {
		return err
	}
	var status unix.WaitStatus
	for {
		if _, err = unix.Wait4(pid, &status, 0, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err == nil && (!status.Exited() || status.ExitStatus() != 0) {
		text := make([]byte, 4096)
		n, _ := unix.Read(said[0], text)
		text = text[:max(n, 0)]
		err = fmt.Errorf("%s: %s (status %d)", program, strings.TrimSpace(string(text)), status.ExitStatus())
	}
	return err
}

// startServer starts the program and returns its process, when the program itself runs.
func startServer(c linux.ServeFuse, program string, regs map[plan.Reg]int) (int, error) {
	clone := linux.Clone{}
	b := plan.Build(plan.Host, plan.RootfsChapter)
	b.Do("a process to serve the mount", clone)
	b.By(plan.Child)
	if c.Users {
		b.Do("it speaks of ids as the container's user namespace does", linux.Setns{FD: "users", Flags: linux.CloneNewuser})
		b.Do("and has none but the rights of its root", linux.Setgroups{}).Ok(plan.EPERM)
		b.Do("and has none but the rights of its root", linux.Setresgid{})
		b.Do("and has none but the rights of its root", linux.Setresuid{})
	}
	for i, reg := range []linux.FD{"null", "said", "said", "fuse"} {
		b.Do("what it inherits", linux.Dup3{Old: reg, New: linux.FDNumber(i)})
	}
	b.Do("and nothing else", linux.CloseRange{First: servingFD + 1})
	b.Do("the program", linux.Execve{Path: program, Args: []string{c.Program, "-o", c.Options, "/dev/fd/" + strconv.Itoa(servingFD)}, Env: []string{"PATH=/usr/bin:/bin"}})
	prog, err := child.Lower(&plan.Plan{Steps: b.Steps}, child.Options{Arch: goarch, Values: regs, FirstFD: servingFD + 1})
	if err != nil {
		return 0, err
	}
	proc, err := child.Start(prog, &clone, regs)
	if err != nil {
		return 0, err
	}
	defer proc.Close()
	for {
		ev, err := proc.Next()
		if err == nil && ev.Kind == child.Baton {
			err = proc.Continue()
		}
		switch {
		case err != nil:
		case ev.Kind == child.Failed && ev.Step >= 0 && ev.Step < len(b.Steps):
			err = fmt.Errorf("%s: %w", b.Steps[ev.Step].Call.Name(), ev.Errno)
		case ev.Kind == child.Failed:
			err = ev.Errno
		case ev.Kind == child.Closed:
			return proc.PID, nil
		default:
			continue
		}
		_ = unix.Kill(proc.PID, unix.SIGKILL) // it is not reaped yet, so the number is its own
		reap(proc.PID)
		return 0, err
	}
}
