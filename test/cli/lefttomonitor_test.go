package cli_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/monitor"
)

// Who starts a container lets go of it, and asks the monitor to look after it. Commands that look whether somebody attends
// to it hold its lock for a moment, and the monitor may find it held by one of them: it takes the container when the lock is free.
func TestMonitorTakesWhatAnotherLooksAt(t *testing.T) {
	x := newOutside(t)
	id := strings.TrimSpace(x.run("run", "-d", "--name", "one", "base", "sleep", "1000"))
	if err := unix.Kill(monitorOf(t, x.root), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(x.root, "run")
	store, err := container.OpenStore(x.root, run)
	if err != nil {
		t.Fatal(err)
	}
	look, err := store.Await(t.Context(), id) // until the kill has been done
	if err != nil {
		t.Fatal(err)
	}
	x.run("run", "-d", "--name", "other", "base", "sleep", "1000") // a monitor, which finds the first one's lock held
	asks := &monitor.Client{Options: monitor.Options{Root: x.root, Run: run}}
	for range 2 {
		if err := asks.Adopt(t.Context(), id); !errors.Is(err, durable.ErrLocked) {
			t.Fatalf("%v, want that another process attends to it", err)
		}
	}
	if err := look.Release(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the monitor looks after it", func() bool {
		lock, err := store.TakeOver(id)
		if err == nil {
			lock.Release()
		}
		return errors.Is(err, durable.ErrLocked)
	})
	if n := fieldOf(t, monitorOf(t, x.root), "status", "Threads:"); n > 16 {
		t.Errorf("the monitor has %d threads", n)
	}
}
