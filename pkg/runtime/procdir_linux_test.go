package runtime

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
)

// TestProcDirIsTheChild: a number that went to somebody else is not written to.
func TestProcDirIsTheChild(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	ours := cmd.Process.Pid
	for _, tt := range []struct {
		name        string
		pid, parent int // parent is pid where the container is our own child
		want        error
	}{
		{"our child", ours, ours, nil},
		{"a child of the keeper, which is us here", ours, os.Getpid(), nil},
		{"somebody else's child", ours, os.Getppid(), unix.ESRCH},
		{"the first process of all", 1, os.Getpid(), unix.ESRCH},
		{"nobody", 1 << 30, os.Getpid(), unix.ESRCH},
	} {
		e := &execution{pid: tt.pid, proc: &child.Process{PID: tt.parent}}
		dir, err := e.procDir()
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if err == nil {
			unix.Close(dir)
		}
	}
}

// TestProcDirOfTheDead: what was opened does not become somebody else's.
func TestProcDirOfTheDead(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e := &execution{pid: cmd.Process.Pid, proc: &child.Process{PID: cmd.Process.Pid}}
	dir, err := e.procDir()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	cmd.Process.Kill()
	cmd.Wait()
	if _, err := parentOf(dir); !errors.Is(err, unix.ESRCH) {
		t.Errorf("after its end: %v, want ESRCH", err)
	}
	if err := e.writeProc("oom_score_adj", "0"); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a write after its end: %v, want ESRCH", err)
	}
}
