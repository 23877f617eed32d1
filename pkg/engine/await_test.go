package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/container"
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

// stopped makes a container that has not run, and takes its lock.
func stopped(t *testing.T) (*Engine, container.Record, *durable.Lock) {
	e := New(Options{Root: t.TempDir()})
	containers, err := e.containers()
	if err != nil {
		t.Fatal(err)
	}
	place, err := containers.Reserve(t.Context(), container.NewID(), "web", false)
	if err != nil {
		t.Fatal(err)
	}
	record, err := place.Commit(container.Record{})
	if err != nil {
		t.Fatal(err)
	}
	attended, err := containers.Attend(record.ID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { attended.Release() })
	return e, record, attended
}

// A restart that ends what is just being started is still due when that start has failed for it; a start that fails by itself is not tried
// for ever.
func TestRestartDuringAStartIsStillDue(t *testing.T) {
	e, record, _ := stopped(t)
	containers, err := e.containers()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status container.Status
		again  bool
		want   container.Status
	}{
		{container.Running, true, container.Restarting}, {container.Running, false, container.Exited}, {container.Restarting, true, container.Exited},
		{container.Exited, false, container.Exited}, {container.Created, false, container.Created},
	} {
		set := func(st *container.State) error {
			*st = container.State{Status: c.status, PID: 1, Again: c.again}
			return nil
		}
		if err := errors.Join(containers.Update(t.Context(), record.ID, set), e.noteFailure(t.Context(), record, errors.New("killed"))); err != nil {
			t.Fatal(err)
		}
		if st, err := containers.State(record.ID); err != nil || st.Status != c.want || st.Error != "killed" {
			t.Errorf("%s, again %v: %+v, error %v, want %s", c.status, c.again, st, err, c.want)
		}
	}
}

// Who has just started a container has let go of its lock, and the monitor has not taken it yet: who gets the lock then leaves
// it, or a second start would begin with ending what the first has started.
func TestLockOfWhatRunsIsNotTaken(t *testing.T) {
	e, record, attended := stopped(t)
	if err := attended.Release(); err != nil {
		t.Fatal(err)
	}
	containers, err := e.containers()
	if err != nil {
		t.Fatal(err)
	}
	rt, err := e.runtime()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := takeIdle(containers, rt, record.ID)
	if err != nil {
		t.Fatalf("it has not run: %v", err)
	}
	lock.Release()
	for pid, runs := range map[int]bool{os.Getpid(): true, math.MaxInt32: false} {
		start, _ := sys.StartTime(pid) // one of them is no process
		dir := filepath.Join(rt.Root, record.ID)
		testkit.WriteFile(t, filepath.Join(dir, "state.json"), fmt.Sprintf(`{"ociVersion":"1.3.0","id":%q,"pid":%d,"startTime":%d}`, record.ID, pid, start), 0o600)
		lock, err := takeIdle(containers, rt, record.ID)
		if err == nil {
			lock.Release()
		}
		if runs != errors.Is(err, durable.ErrLocked) || !runs && err != nil {
			t.Errorf("runs: %v, error %v", runs, err)
		}
		if lock, err := containers.TakeOver(record.ID); err != nil {
			t.Errorf("afterwards the lock is not free: %v", err)
		} else {
			lock.Release()
		}
	}
}

// A wait for a lock cannot be taken back, and keeps a thread: there is one, however long it
// takes.
func TestTurnIsAwaitedOnce(t *testing.T) {
	e, record, attended := stopped(t)
	containers, err := e.containers()
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	patience, cancel := context.WithTimeout(t.Context(), 6*settleLook)
	defer cancel()
	if lock, err := e.awaitTurn(patience, containers, record); lock != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another attends to it: %v, %v", lock, err)
	}
	if more := runtime.NumGoroutine() - before; more > 2 {
		t.Errorf("%d goroutines still wait for the lock", more)
	}
	if err := attended.Release(); err != nil {
		t.Fatal(err)
	}
	lock, err := e.awaitTurn(t.Context(), containers, record)
	if err != nil || lock == nil {
		t.Fatalf("when nobody attends to it: %v, %v", lock, err)
	}
	lock.Release()
}

func TestTurnThatCannotBeAwaited(t *testing.T) {
	e, record, _ := stopped(t)
	containers, err := e.containers()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := containers.Dir(record.ID)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "attended")
	if err := errors.Join(os.Remove(file), os.Symlink("attended", file)); err != nil {
		t.Fatal(err)
	}
	if lock, err := e.awaitTurn(t.Context(), containers, record); lock != nil || !errors.Is(err, unix.ELOOP) {
		t.Errorf("a lock that cannot be opened: %v, %v", lock, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if lock, err := e.awaitTurn(t.Context(), containers, record); lock != nil || err != nil {
		t.Errorf("a container that is gone: %v, %v", lock, err)
	}
}
