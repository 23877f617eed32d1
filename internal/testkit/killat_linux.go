package testkit

import (
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// KillAt runs a command and kills it, with SIGKILL, before the nth system call of all its threads; its children run on.
// Calls are counted from the moment at which begun says so, nil for the start. It returns how many there were, and whether
// the command ended by itself before the nth.
func KillAt(t testing.TB, cmd *exec.Cmd, n int, begun func() bool) (calls int, ended bool) {
	t.Helper()
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	defer cmd.Process.Release()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, unix.WALL, nil); err != nil || !ws.Stopped() {
		t.Fatalf("the command did not stop: %v, %v", ws, err)
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
		t.Fatal(err)
	}
	inside := make(map[int]bool)
	counts := begun == nil
	for tid, pass := pid, 0; ; {
		_ = unix.PtraceSyscall(tid, pass) // a thread that has just ended is told of below
		var err error
		for {
			if tid, err = unix.Wait4(-1, &ws, unix.WALL, nil); err != unix.EINTR {
				break
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		pass = 0
		switch {
		case tid == pid && (ws.Exited() || ws.Signaled()):
			return calls, ws.Exited()
		case !ws.Stopped():
		case ws.StopSignal() == unix.SIGTRAP|0x80:
			if inside[tid] = !inside[tid]; inside[tid] {
				if counts = counts || begun(); counts {
					if calls++; calls == n {
						_ = unix.Kill(pid, unix.SIGKILL)
					}
				}
			}
		case ws.StopSignal() != unix.SIGTRAP && ws.StopSignal() != unix.SIGSTOP:
			pass = int(ws.StopSignal())
		}
	}
}
