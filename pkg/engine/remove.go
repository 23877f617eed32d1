package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/runtime"
)

// ErrRunning means that a container cannot be removed because it runs.
var ErrRunning = errors.New("container is running")

// RemoveRequest asks for a container to be removed.
type RemoveRequest struct {
	// Container is its name, its id or the beginning of its id.
	Container string
	// Force kills it if it runs.
	Force bool
}

// Remove removes a container with its layer and its name.
func (e *Engine) Remove(ctx context.Context, r RemoveRequest) (container.Record, error) {
	containers, err := e.containers()
	if err != nil {
		return container.Record{}, err
	}
	if err := e.recover(ctx); err != nil {
		return container.Record{}, err
	}
	record, err := containers.Get(r.Container)
	if err != nil {
		return container.Record{}, err
	}
	rt, err := e.runtime()
	if err != nil {
		return container.Record{}, err
	}
	if r.Force {
		if st, err := rt.State(record.ID); err == nil && st.Status == specs.StateRunning {
			e.tell(events.Kill, record, "signal", "9")
		}
	}
	err = rt.Delete(record.ID, r.Force)
	switch {
	case errors.Is(err, runtime.ErrRunning):
		return container.Record{}, fmt.Errorf("container %s: %w", record.Name, ErrRunning)
	case err != nil && !errors.Is(err, runtime.ErrNotFound):
		return container.Record{}, err
	}
	// The containr that ran it writes down how it ended; only then is it ours alone.
	waiting, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	attended, err := containers.Await(waiting, record.ID)
	if err == nil {
		err = e.remove(ctx, record)
		attended.Release()
	}
	if r.Force && (errors.Is(err, container.ErrNotFound) || errors.Is(err, fs.ErrNotExist)) {
		err = nil // it was to go away by itself
	}
	return record, err
}

// endTime is how long the end of a container that was killed may take.
const endTime = 10 * time.Second
