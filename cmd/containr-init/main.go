// Command containr-init is what `run --init` puts in front of a container's
// program. It is process 1 and does the two things that the kernel expects of it
// and that most programs do not do: it reaps orphans, and it handles signals, which
// the kernel otherwise drops for process 1. It starts the program, passes every
// signal on to it, and exits as it does.
//
//	containr-init -- PROGRAM [ARG...]
//
// It is linked statically and small, because it is shown in containers of any
// image and lives as long as they do.
package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit statuses for a program that cannot be started, as a shell has them.
const (
	statusUsage         = 125
	statusNotExecutable = 126
	statusNotFound      = 127
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fail(statusUsage, "usage: containr-init -- PROGRAM [ARG...]")
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	pid, err := start(args)
	if err != nil {
		fail(startStatus(err), err.Error())
	}
	os.Exit(supervise(pid, signals))
}

func fail(status int, text string) {
	os.Stderr.WriteString("containr-init: " + text + "\n")
	os.Exit(status)
}

// start runs the program in a process group of its own, in the foreground of the
// terminal if there is one, so that Ctrl-C reaches its whole group.
func start(args []string) (int, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return 0, err
	}
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true}}
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		attr.Sys = &syscall.SysProcAttr{Foreground: true, Ctty: 0}
	}
	return syscall.ForkExec(path, args, attr)
}

func startStatus(err error) int {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return statusNotFound
	}
	return statusNotExecutable
}

// supervise passes signals on and reaps whoever ends, until the program has. The
// status is the program's, or 128 and the number of the signal that ended it.
func supervise(pid int, signals <-chan os.Signal) int {
	for sig := range signals {
		switch sig {
		case syscall.SIGCHLD:
			if status, ended := reap(pid); ended {
				return status
			}
		case syscall.SIGURG, syscall.SIGTTIN, syscall.SIGTTOU:
			// The first is Go's own; the others mean us and the terminal.
		default:
			syscall.Kill(pid, sig.(syscall.Signal)) // it may have ended: SIGCHLD tells
		}
	}
	return statusUsage
}

// reap collects all children that have ended, since signals of the same number
// that come close together are one.
func reap(program int) (status int, ended bool) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR), err == nil && pid > 0 && ws.Stopped():
			continue // stopped: it has made us trace it, which we do not
		case err != nil || pid == 0:
			return status, ended
		case pid == program && ws.Signaled():
			status, ended = 128+int(ws.Signal()), true
		case pid == program:
			status, ended = ws.ExitStatus(), true
		}
	}
}
