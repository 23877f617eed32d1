package engine

import (
	"context"
	"os"
	"testing"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Whoever sees a program run must find its container, even if we are killed in that
// moment: so the state tells of the process before there is a program.
func TestStateIsWrittenBeforeTheProgramRuns(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	e := New(Options{Root: t.TempDir()})
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	executed := false
	exit, err := e.Run(context.Background(), RunRequest{
		Config:  container.Config{Name: "early", Rootfs: testkit.Rootfs(t), Args: []string{"/probe", "-exit", "3"}, AutoRemove: true},
		Streams: Streams{Stdio: [3]*os.File{null, null, null}},
		Before: func(_ int, step *plan.Step) error {
			if _, ok := step.Call.(linux.Execve); !ok {
				return nil
			}
			executed = true
			containers, err := e.containers()
			if err != nil {
				return err
			}
			record, err := containers.Get("early")
			if err != nil {
				return err
			}
			st, err := containers.State(record.ID)
			if err == nil && (st.Status != container.Running || st.PID == 0) {
				t.Errorf("the program is about to be executed, the state is %q with process %d", st.Status, st.PID)
			}
			return err
		},
	})
	if err != nil || exit.Code != 3 || !executed {
		t.Errorf("exit code %d, %v; execve was seen: %v", exit.Code, err, executed)
	}
}
