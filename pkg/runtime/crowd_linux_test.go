package runtime

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit"
)

// Who cannot be ended in time is named, and the wait has an end.
func TestCrowdThatIsLeftIsNamed(t *testing.T) {
	testkit.RequireRoot(t)
	cmd := exec.Command(testkit.Probe(t), "-wait-signal", "USR1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	start, _ := startTime(pid)
	c, err := new(Runtime).crowd(&state{PID: pid, Start: start, Crowd: crowdMount})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	var left *LeftError
	if err := c.killOthers(0, time.Now()); !errors.As(err, &left) || !slices.Equal(left.PIDs, []int{pid}) {
		t.Errorf("error %v, want process %d in it", err, pid)
	} else if !strings.Contains(Hint(err), "pids.max") {
		t.Errorf("hint %q", Hint(err))
	}
	if err := c.killOthers(pid, time.Now()); err != nil {
		t.Errorf("alone: %v", err)
	}
	if err := c.killOthers(0, time.Now().Add(endPatience)); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", err)
	}
}

func TestLeftErrorNamesAFew(t *testing.T) {
	for n, want := range map[int]string{
		1:  "process 100 of the container does not end",
		2:  "killed: 100 101",
		11: "11 processes of the container do not end, or fork faster than they can be killed: 100 101 102 103 104 105 106 107 108 109 and others",
	} {
		e := &LeftError{}
		for i := range n {
			e.PIDs = append(e.PIDs, 100+i)
		}
		if got := e.Error(); !strings.HasSuffix(got, want) {
			t.Errorf("%d: %q", n, got)
		}
	}
}
