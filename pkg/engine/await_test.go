package engine

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestProcessIsAwaited(t *testing.T) {
	cat := exec.Command("cat")
	input, err := cat.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(cat.Process.Pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	process := os.NewFile(uintptr(fd), "cat")
	defer process.Close()

	if done, err := awaitProcess(t.Context(), process, 0); done || err != nil {
		t.Errorf("it runs, and there is no patience: %v, %v", done, err)
	}
	if done, err := awaitProcess(t.Context(), process, time.Millisecond); done || err != nil {
		t.Errorf("it runs, and there is little patience: %v, %v", done, err)
	}
	called, callOff := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, callOff)
	if done, err := awaitProcess(called, process, -1); done || !errors.Is(err, context.Canceled) {
		t.Errorf("called off while it waited: %v, %v", done, err)
	}
	if done, err := awaitProcess(called, process, time.Minute); done || !errors.Is(err, context.Canceled) {
		t.Errorf("called off before: %v, %v", done, err)
	}
	if err := input.Close(); err != nil {
		t.Fatal(err)
	}
	if done, err := awaitProcess(t.Context(), process, -1); !done || err != nil {
		t.Errorf("it ends: %v, %v", done, err)
	}
	if err := cat.Wait(); err != nil {
		t.Fatal(err)
	}
	if done, err := awaitProcess(t.Context(), process, time.Minute); !done || err != nil {
		t.Errorf("it has ended: %v, %v", done, err)
	}
}
