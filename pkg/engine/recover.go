package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/runtime"
)

// recover finishes what processes that were killed had begun: containers that were
// never finished making are removed; those whose program has ended, without anybody
// who attended to them, get the state Exited, or are removed if that was their wish.
// A container that still runs is left alone.
func (e *Engine) recover(ctx context.Context) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	rt, err := e.runtime()
	if err != nil {
		return err
	}
	swept, err := containers.Sweep(ctx)
	for _, id := range swept {
		err = errors.Join(err, rt.Delete(id, true), e.removeLayers(id))
	}
	if err != nil {
		return err
	}
	records, err := containers.List()
	for _, r := range records {
		if finishErr := e.finish(ctx, containers, rt, r); finishErr != nil && !errors.Is(finishErr, container.ErrNotFound) {
			err = errors.Join(err, fmt.Errorf("container %s: %w", r.Name, finishErr))
		}
	}
	return err
}

// removeLayers removes the layer of a container of which nothing but the id is known.
func (e *Engine) removeLayers(id string) error {
	layers, err := filepath.Glob(filepath.Join(e.mappedDir(), "*", "layers", id))
	for _, dir := range append(layers, (&home{dir: e.root}).layer(id)) {
		err = errors.Join(err, safepath.RemoveAll(dir))
	}
	return err
}

// finish does what the process that ran the container would have done at its end.
func (e *Engine) finish(ctx context.Context, containers *container.Store, rt *runtime.Runtime, r container.Record) error {
	st, err := containers.State(r.ID)
	if err != nil || st.Status == container.Exited || st.Status == container.Created && !r.Config.AutoRemove {
		return err
	}
	attended, err := containers.TakeOver(r.ID)
	if errors.Is(err, durable.ErrLocked) || errors.Is(err, fs.ErrNotExist) { // it is attended to, or goes away
		return nil
	}
	if err != nil {
		return err
	}
	defer attended.Release()
	state, err := rt.State(r.ID)
	if err == nil && state.Status != specs.StateStopped {
		return nil
	}
	if err != nil && !errors.Is(err, runtime.ErrNotFound) {
		return err
	}
	if err := rt.Delete(r.ID, true); err != nil {
		return err
	}
	dir, err := containers.Dir(r.ID)
	if err != nil {
		return err
	}
	code, err := runtime.ReadExit(exitFile(dir))
	st.Status, st.PID, st.Finished, st.ExitCode = container.Exited, 0, time.Now().UTC(), code
	if err != nil {
		st.Error = "nobody saw its end: containr and the container's keeper were killed"
	}
	e.tellEnd(r, st)
	if r.Config.AutoRemove {
		return e.remove(ctx, r)
	}
	return containers.Update(ctx, r.ID, func(present *container.State) error {
		*present = st
		return nil
	})
}
