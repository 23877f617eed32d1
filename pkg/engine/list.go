package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/spelling"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/runtime"
)

// Container is a container as it is now.
type Container struct {
	container.Record
	State container.State
}

// NotFoundError says that there is no container of a name, and which one may be meant.
type NotFoundError struct {
	Ref, Near string
}

// Error says so.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("container %s: %v", e.Ref, container.ErrNotFound)
}

// Unwrap is container.ErrNotFound.
func (e *NotFoundError) Unwrap() error { return container.ErrNotFound }

// Get finds a container by its name, its id or the beginning of its id. What processes
// that were killed have left undone is done before.
func (e *Engine) Get(ctx context.Context, ref string) (container.Record, error) {
	containers, err := e.containers()
	if err != nil {
		return container.Record{}, err
	}
	if ctx.Value(attendedKey{}) != nil {
		record, err := e.attendTo(ctx, containers, ref)
		if !errors.Is(err, container.ErrNotFound) {
			return record, err
		}
	}
	if _, err := e.attendToAll(ctx); err != nil {
		return container.Record{}, err
	}
	record, err := containers.Get(ref)
	if !errors.Is(err, container.ErrNotFound) {
		return record, err
	}
	missing := &NotFoundError{Ref: ref}
	if records, err := containers.List(); err == nil {
		var names []string
		for _, r := range records {
			names = append(names, r.Name)
		}
		missing.Near = spelling.Nearest(ref, names)
	}
	return record, missing
}

// attendTo finds a container, and does of it alone what processes that were killed have left undone.
func (e *Engine) attendTo(ctx context.Context, containers *container.Store, ref string) (container.Record, error) {
	record, err := containers.Get(ref)
	if err != nil {
		return record, err
	}
	rt, err := e.runtime()
	if err != nil {
		return record, err
	}
	if err := e.finish(ctx, containers, rt, record); err != nil {
		return record, err
	}
	return containers.Get(record.ID) // it may have been removed, or have another name
}

// getOne is Get for a verb that works in a container that runs, whatever the others do: while there is a monitor, which looks
// after those, it looks at this one only.
func (e *Engine) getOne(ctx context.Context, ref string) (container.Record, error) {
	m, err := e.monitor()
	if err == nil && m.Running() {
		ctx = context.WithValue(ctx, attendedKey{}, true)
	}
	return e.Get(ctx, ref)
}

// Attend does what processes that were killed have left undone of all containers, and sees to it that there is a monitor if one needs it.
func (e *Engine) Attend(ctx context.Context) error {
	_, err := e.attendToAll(ctx)
	return err
}

// attendToAll is recover, and sees to it that there is a monitor if a container needs one. It returns the containers as
// they were before.
func (e *Engine) attendToAll(ctx context.Context) ([]found, error) {
	all, err := e.scanAndRecover(ctx)
	if err != nil || isAmong() {
		return all, err
	}
	if err := e.ensureResolver(ctx); err != nil {
		return nil, err
	}
	m, err := e.monitor()
	if err != nil || m.Running() {
		return all, err
	}
	id, err := e.needsMonitor(all)
	if id == "" || err != nil {
		return all, err
	}
	// One that was started meanwhile may have found its lock held here. It finds the others by itself.
	if err := m.Adopt(ctx, id); err != nil && !errors.Is(err, durable.ErrLocked) {
		return all, err
	}
	return all, nil
}

// needsMonitor finds a container that nobody attends to and that a monitor would look
// after; empty if there is none.
func (e *Engine) needsMonitor(all []found) (string, error) {
	containers, err := e.containers()
	if err != nil {
		return "", err
	}
	rt, err := e.runtime()
	if err != nil {
		return "", err
	}
	for _, f := range all {
		if f.rests {
			continue
		}
		id := f.Record.ID
		st, err := containers.State(id) // it may have been recovered
		if err == nil && st.Status == container.Restarting {
			return id, nil
		}
		if unread, err := e.unread(rt, id); err != nil || !unread {
			continue
		}
		lock, err := containers.TakeOver(id)
		if err == nil {
			return id, lock.Release()
		}
	}
	return "", nil
}

// List returns all containers as they are now, the newest first. Those that come and go
// meanwhile may or may not be there.
func (e *Engine) List(ctx context.Context) ([]Container, error) {
	all, err := e.attendToAll(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Container, 0, len(all))
	for _, f := range all {
		st := f.State
		if !f.rests {
			var stateErr error
			st, stateErr = e.State(f.Record)
			if errors.Is(stateErr, container.ErrNotFound) {
				continue
			}
			if stateErr != nil {
				err = errors.Join(err, stateErr)
				continue
			}
		}
		out = append(out, Container{Record: f.Record, State: st})
	}
	return out, err
}

// State returns what a container is doing: what its files say, and the kernel knows
// better. Its PID is 0 if its program does not run.
func (e *Engine) State(r container.Record) (container.State, error) {
	containers, err := e.containers()
	if err != nil {
		return container.State{}, err
	}
	rt, err := e.runtime()
	if err != nil {
		return container.State{}, err
	}
	for {
		st, err := containers.State(r.ID)
		if err != nil || st.Status == container.Exited || st.Status == container.Restarting {
			return st, err
		}
		info, infoErr := rt.State(r.ID)
		now, err := e.combine(containers, r, st, info, infoErr)
		if err != nil {
			return now, err
		}
		if errors.Is(infoErr, runtime.ErrNotFound) && now.PID == 0 && hasBegun(rt, r.ID) {
			continue // its first step was made meanwhile
		}
		// It may have ended and begun again between the two.
		if again, err := containers.State(r.ID); err != nil || again.Status == st.Status && again.Started.Equal(st.Started) {
			return now, err
		}
	}
}

// combine makes a container's state of what its files say and of what the runtime found.
func (e *Engine) combine(containers *container.Store, r container.Record, st container.State, info *runtime.Info, err error) (container.State, error) {
	switch {
	case errors.Is(err, runtime.ErrNotFound) && st.Status == container.Created:
		return st, nil
	case errors.Is(err, runtime.ErrNotFound) && e.beingStarted(r.ID, st):
		return st, nil
	case err != nil && !errors.Is(err, runtime.ErrNotFound):
		return st, err
	case err != nil, info.Status == specs.StateStopped:
		return e.ended(containers, r, st)
	case info.Status == runtime.StatePaused:
		st.Status = container.Paused
	default:
		st.Status = container.Running
	}
	st.PID = info.PID
	if st.Started.IsZero() {
		st.Started = info.Created
	}
	return st, nil
}

// beingStarted reports whether a container is between its state, which says already that it runs, and its first step: who
// starts it has its lock, and its process is there.
func (e *Engine) beingStarted(id string, st container.State) bool {
	return st.Status == container.Running && !formerBoot(st) && st.PID > 0 && unix.Kill(st.PID, 0) == nil && e.isAttended(id)
}

// keeperPatience is how long a keeper may need to write down that its container has ended.
const keeperPatience = 10 * time.Second

// exitStatus is that of a container which has ended. Its keeper may be about to write it
// down.
func (e *Engine) exitStatus(id, file string) (int, error) {
	rt, err := e.runtime()
	if err != nil {
		return 0, err
	}
	keeper, err := rt.Keeper(id)
	if err != nil {
		return runtime.ReadExit(file)
	}
	defer keeper.Close()
	ctx, cancel := context.WithTimeout(context.Background(), keeperPatience)
	defer cancel()
	return keeper.AwaitExit(ctx, file)
}

// ended is the state of a container that has ended, before that is written down.
func (e *Engine) ended(containers *container.Store, r container.Record, st container.State) (container.State, error) {
	dir, err := containers.Dir(r.ID)
	if err != nil {
		return st, err
	}
	st.ExitCode, err = e.exitStatus(r.ID, container.ExitFile(dir))
	st.Status, st.PID, st.Finished = container.Exited, 0, exitTime(dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			st.Error = whyNobodySaw(st)
		}
		st.ExitCode = exitLost
	}
	if _, _, again := r.Config.Restart.Next(st); again {
		st.Status = container.Restarting
	}
	return st, nil
}

// hasBegun reports whether the runtime knows a container.
func hasBegun(rt *runtime.Runtime, id string) bool {
	_, err := rt.State(id)
	return err == nil
}
