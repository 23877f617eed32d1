package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/host"
)

// Events tells at once when the kernel kills for want of memory, tells the counters in each
// interval, and ends with the container.
func TestEventsOfMemoryAndTime(t *testing.T) {
	limit := int64(32 << 20)
	spec := limited(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}})
	c := runWaiting(t, spec)
	c.control("memory", "memory.limit_in_bytes", "memory.max") // or skip
	events, ended := make(chan Event, 1000), make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const interval = 20 * time.Millisecond
	began := time.Now()
	go func() {
		ended <- c.Events(ctx, "test", interval, func(e Event) error { events <- e; return nil })
	}()
	next := func() Event {
		t.Helper()
		select {
		case e := <-events:
			return e
		case err := <-ended:
			t.Fatalf("events has ended: %v", err)
		case <-ctx.Done():
			t.Fatal("no event came")
		}
		return Event{}
	}
	const several = 3
	for range several {
		if e := next(); e.Type != "stats" || e.ID != "test" || e.Data == nil || e.Data.Memory.Usage.Limit != uint64(limit) {
			t.Fatalf("%+v, %+v", e, e.Data)
		}
	}
	if took := time.Since(began); took < several*interval {
		t.Errorf("%d intervals of %v took %v", several, interval, took)
	}
	greedy, err := c.Exec(&ExecRequest{ID: "test", Process: &specs.Process{Args: []string{"/probe", "-alloc", "200M"}, Cwd: "/"}})
	if err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(greedy.PID, &ws, 0, nil); err != nil || ws.Signal() != unix.SIGKILL {
		t.Fatalf("it was not killed: %v, error %v", ws, err)
	}
	for e := next(); e.Type != "oom"; e = next() {
	}
	if err := unix.Kill(c.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := c.Events(ctx, "test", interval, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("of a container that has ended: %v", err)
	}
	if err := c.Events(ctx, "test", 0, nil); err == nil {
		t.Error("no interval at all was accepted")
	}
}

// A further process goes to the groups below the container's that it is told, and to no
// others, whatever their names.
func TestExecIntoGroupsBelow(t *testing.T) {
	c := runWaiting(t, exampleSpec())
	st, err := c.load("test")
	if err != nil {
		t.Fatal(err)
	}
	if len(st.Cgroups) == 0 {
		t.Skip("this machine has no control groups")
	}
	controller, ask := "", "below/deep"
	dir := st.Cgroups[0]
	if c.Facts.CgroupMode == host.CgroupV1 {
		controller, ask = "memory", "memory:below/deep"
		for _, d := range st.Cgroups {
			if hierarchyOf(c.Facts, d, controller) {
				dir = d
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "below/deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	groups := func(asked ...string) (map[string]string, error) {
		t.Helper()
		s, err := c.Exec(&ExecRequest{ID: "test", Process: &specs.Process{Args: []string{"/probe", "-wait-signal", "USR1"}, Cwd: "/"},
			Cgroups: asked, Stdio: [3]*os.File{null, null, null}})
		if err != nil {
			return nil, err
		}
		text, err := os.ReadFile("/proc/" + strconv.Itoa(s.PID) + "/cgroup")
		if err := errors.Join(err, unix.Kill(s.PID, unix.SIGKILL)); err != nil {
			t.Fatal(err)
		}
		reap(s.PID)
		in := make(map[string]string)
		for line := range strings.Lines(string(text)) {
			f := strings.SplitN(strings.TrimSpace(line), ":", 3)
			in[f[1]] = f[2]
		}
		return in, nil
	}
	all, err := groups()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ask, strings.Replace(ask, "below", "../../below", 1)} {
		below, err := groups(name)
		if err != nil {
			t.Fatal(err)
		}
		for controllers, path := range all {
			want := path
			if controllers == controller {
				want += "/below/deep"
			}
			if below[controllers] != want {
				t.Errorf("%s: in %s of %q, want %s", name, below[controllers], controllers, want)
			}
		}
	}
	for _, wrong := range [][]string{{strings.Replace(ask, "deep", "missing", 1)}, {ask, ask}, {"nothing:below"}} {
		if _, err := groups(wrong...); err == nil {
			t.Errorf("%q was accepted", wrong)
		}
	}
}
