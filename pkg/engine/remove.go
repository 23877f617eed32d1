package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/runtime"
)

// RemoveRequest asks for a container to be removed.
type RemoveRequest struct {
	// Container is its name, its id or the beginning of its id.
	Container string
	// Force kills it if it runs.
	Force bool
	// Unchanged refuses one that has changes which would be lost: ErrChanges.
	Unchanged bool
	// Volumes removes its volumes without a name, unless others use them.
	Volumes bool
}

// Remove removes a container with its layer, its log and its name.
func (e *Engine) Remove(ctx context.Context, r RemoveRequest) (container.Record, error) {
	record, err := e.Get(ctx, r.Container)
	if err != nil {
		return record, err
	}
	st, err := e.State(record)
	if err != nil {
		return record, err
	}
	if st.PID != 0 && !r.Force {
		return record, fmt.Errorf("container %s: %w", record.Name, ErrRunning)
	}
	if st.Status == container.Created && !r.Force && e.isAttended(record.ID) {
		return record, fmt.Errorf("container %s: it is being started: %w", record.Name, ErrRunning)
	}
	if r.Unchanged {
		if err := e.mustBeUnchanged(ctx, record.ID, record.Name); err != nil {
			return record, err
		}
	}
	if r.Force && st.PID != 0 {
		e.tell(events.Kill, record, "signal", "9")
	}
	err = e.endAndRemove(ctx, record, r.Force)
	for r.Force && errors.Is(err, ErrRunning) && ctx.Err() == nil {
		err = e.endAndRemove(ctx, record, true) // somebody has started it in between
	}
	if r.Force && (errors.Is(err, container.ErrNotFound) || errors.Is(err, fs.ErrNotExist)) {
		err = nil // it was to go away by itself
	}
	if err == nil && r.Volumes {
		err = e.removeAnonymous(ctx, record)
	}
	return record, err
}

// endAndRemove removes a container, and kills it before with force. If somebody starts it meanwhile the error is ErrRunning.
func (e *Engine) endAndRemove(ctx context.Context, record container.Record, force bool) error {
	if force {
		if err := e.end(ctx, record); err != nil {
			return err
		}
	}
	// Who ran it writes down how it ended; only then is it ours alone.
	if err := e.settle(ctx, record); err != nil {
		return err
	}
	return e.removeEnded(ctx, record)
}

// isAttended reports whether a process attends to a container.
func (e *Engine) isAttended(id string) bool {
	containers, err := e.containers()
	if err != nil {
		return false
	}
	lock, err := containers.TakeOver(id)
	if err == nil {
		lock.Release()
	}
	return errors.Is(err, durable.ErrLocked)
}

// end kills a container's program if there is one, and keeps it from being started again.
func (e *Engine) end(ctx context.Context, record container.Record) error {
	rt, err := e.runtime()
	if err != nil {
		return err
	}
	containers, err := e.containers()
	if err != nil {
		return err
	}
	err = containers.Update(ctx, record.ID, func(st *container.State) error {
		if st.Status == container.Restarting {
			st.Status = container.Exited
		}
		st.Stopped, st.Again = true, false
		return nil
	})
	if err == nil {
		err = rt.Delete(record.ID, true)
	}
	if errors.Is(err, container.ErrNotFound) || errors.Is(err, runtime.ErrNotFound) {
		return nil
	}
	return err
}

// removeEnded removes a container whose program has ended.
func (e *Engine) removeEnded(ctx context.Context, record container.Record) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	attended, err := e.awaitTurn(waiting, containers, record)
	if err != nil {
		return err
	}
	if attended != nil {
		defer attended.Release()
	}
	st, err := e.State(record)
	if err != nil {
		return err
	}
	if st.PID != 0 || attended == nil { // it runs, or has just run
		return fmt.Errorf("container %s: %w", record.Name, ErrRunning)
	}
	rt, err := e.runtime()
	if err == nil {
		err = rt.Delete(record.ID, true) // there are remains if who began to start it was killed
	}
	if err != nil {
		return err
	}
	return e.remove(ctx, record)
}

// endTime is how long the end of a container that was killed may take.
const endTime = 10 * time.Second
