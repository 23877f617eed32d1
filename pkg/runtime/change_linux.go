package runtime

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// pausePatience is how long Pause waits for processes that cannot stop now, because
// they wait for a device.
const pausePatience = 10 * time.Second

// Pause stops all processes of a container that runs, or waits for its start, and
// returns when they have stopped. A paused container stays so.
func (r *Runtime) Pause(id string) error {
	st, l, err := r.loadLocked(id)
	if err != nil {
		return err
	}
	defer l.release()
	if r.status(st) == specs.StateStopped {
		return fmt.Errorf("container %q: cannot pause: %w", id, ErrNotRunning)
	}
	if len(st.Cgroups) == 0 {
		return fmt.Errorf("container %q: cannot pause: %w", id, ErrNoGroup)
	}
	ctx, cancel := context.WithTimeout(context.Background(), pausePatience)
	defer cancel()
	if err := r.group(st).Freeze(ctx); err != nil {
		return fmt.Errorf("container %q: %w", id, err)
	}
	return nil
}

// Resume lets the processes of a paused container go on. It needs no lock, so that a
// verb which waits for a paused process does not keep it from going on.
func (r *Runtime) Resume(id string) error {
	st, err := r.load(id)
	if err != nil {
		return err
	}
	s, err := r.present(st)
	switch {
	case err != nil:
		return err
	case s != StatePaused:
		return fmt.Errorf("container %q: cannot resume: %w: it is %s", id, ErrNotPaused, s)
	}
	if err := r.group(st).Thaw(); err != nil {
		return fmt.Errorf("container %q: %w", id, err)
	}
	return nil
}

// loadLocked loads a container's state under its lock, which the caller releases.
func (r *Runtime) loadLocked(id string) (*state, dirLock, error) {
	l, err := r.lock(id, unix.LOCK_EX)
	if err != nil {
		return nil, 0, err
	}
	st, err := r.load(id)
	if err != nil {
		l.release()
		return nil, 0, err
	}
	return st, l, nil
}
