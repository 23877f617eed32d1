package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/cgroup"
)

// OOMKills counts the processes of a container that were killed because memory ran
// out. It is to be asked before Delete, with which the count goes. A container
// without control groups has none. If systemd has removed its group already, the
// answer is what was killed in the group above since the container was born.
func (r *Runtime) OOMKills(id string) (uint64, error) {
	st, err := r.load(id)
	if err != nil || !st.ownGroup() {
		return 0, err
	}
	kills, err := r.group(st).OOMKills()
	if err != nil || kills > 0 || st.Above == "" {
		return kills, err
	}
	if _, err := os.Stat(st.Cgroups[0]); !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	kills, err = cgroup.KillsIn(st.Above)
	return max(kills, st.KillsBefore) - st.KillsBefore, err
}

// Stats reads what the kernel has counted for a container that has not stopped.
func (r *Runtime) Stats(id string) (*cgroup.Stats, error) {
	st, err := r.load(id)
	if err != nil {
		return nil, err
	}
	if r.status(st) == specs.StateStopped {
		return nil, fmt.Errorf("container %q: %w", id, ErrNotRunning)
	}
	return r.group(st).Stats()
}

// Usage is what a container that has not stopped has used and uses, for people. A container
// without control groups has used nothing that is known.
func (r *Runtime) Usage(id string) (*cgroup.Usage, error) {
	st, err := r.load(id)
	if err != nil {
		return nil, err
	}
	if r.status(st) == specs.StateStopped {
		return nil, fmt.Errorf("container %q: %w", id, ErrNotRunning)
	}
	return r.usage(st)
}

// LastUsage is Usage of a container that may have stopped. Its counters go with Delete.
func (r *Runtime) LastUsage(id string) (*cgroup.Usage, error) {
	st, err := r.load(id)
	if err != nil {
		return nil, err
	}
	return r.usage(st)
}

func (r *Runtime) usage(st *state) (*cgroup.Usage, error) {
	if !st.ownGroup() {
		return &cgroup.Usage{}, nil
	}
	return r.group(st).Usage()
}

// Event is something to tell of a container.
type Event struct {
	// Type is "stats", or "oom" when memory ran out.
	Type string `json:"type"`
	ID   string `json:"id"`
	// Data is there with stats only.
	Data *cgroup.Stats `json:"data,omitempty"`
}

// Events tells of a container until its first process has ended, or ctx: its counters
// in each interval, and at once when memory runs out. An error of tell ends it.
func (r *Runtime) Events(ctx context.Context, id string, interval time.Duration, tell func(Event) error) error {
	if interval <= 0 {
		return errors.New("events: the interval is not longer than nothing")
	}
	st, err := r.load(id)
	if err != nil {
		return err
	}
	if r.status(st) == specs.StateStopped {
		return fmt.Errorf("container %q: %w", id, ErrNotRunning)
	}
	fd, err := openFirst(st)
	if err != nil {
		return fmt.Errorf("container %q: %w", id, err)
	}
	defer unix.Close(fd)
	w := watch{r: r, st: st, tell: tell, fds: []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}}
	w.oom, err = r.group(st).NotifyOOM()
	switch {
	case err == nil:
		defer w.oom.Close()
		w.fds = append(w.fds, unix.PollFd{Fd: int32(w.oom.File.Fd()), Events: unix.POLLIN})
	case !errors.Is(err, cgroup.ErrNoController):
		return fmt.Errorf("container %q: %w", id, err)
	}
	return w.run(ctx, interval)
}

// openFirst opens a pidfd on a container's first process.
func openFirst(st *state) (int, error) {
	fd, err := unix.PidfdOpen(st.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return 0, ErrNotRunning
	}
	if err != nil {
		return 0, fmt.Errorf("pidfd_open %d: %w", st.PID, err)
	}
	if t, _ := startTime(st.PID); t != st.Start {
		unix.Close(fd)
		return 0, ErrNotRunning
	}
	return fd, nil
}

// watch is one run of Events. The first descriptor is the process, the second, if the
// container's memory is counted, the notice.
type watch struct {
	r    *Runtime
	st   *state
	tell func(Event) error
	oom  *cgroup.OOMNotice
	fds  []unix.PollFd
}

func (w *watch) run(ctx context.Context, interval time.Duration) error {
	next := time.Now().Add(interval)
	for {
		// Ten times a second it is asked whether ctx has ended.
		wait := min(time.Until(next), 100*time.Millisecond)
		if _, err := unix.Poll(w.fds, int(max(wait, 0).Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("events: poll: %w", err)
		}
		if err := w.noticed(); err != nil {
			return err
		}
		if w.fds[0].Revents != 0 || ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().Before(next) {
			continue
		}
		next = next.Add(interval)
		stats, err := w.r.group(w.st).Stats()
		if err != nil {
			return fmt.Errorf("container %q: %w", w.st.ID, err)
		}
		if err := w.tell(Event{Type: "stats", ID: w.st.ID, Data: stats}); err != nil {
			return err
		}
	}
}

// noticed tells of each time that memory ran out.
func (w *watch) noticed() error {
	if w.oom == nil || w.fds[1].Revents == 0 {
		return nil
	}
	count, err := w.oom.Take()
	for ; count > 0 && err == nil; count-- {
		err = w.tell(Event{Type: "oom", ID: w.st.ID})
	}
	return err
}
