package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/monitor"
	"github.com/containr/containr/pkg/runtime"
)

// recover finishes what processes that were killed had begun: containers that were
// never finished making are removed; those whose program has ended, without anybody
// who attended to them, get the state Exited, or are removed if that was their wish.
// A container that still runs is left alone.
func (e *Engine) recover(ctx context.Context) error {
	_, err := e.scanAndRecover(ctx)
	return err
}

// found is a container as the files describe it.
type found struct {
	*container.Found
	// rests says that this is all there is to know, and nothing to do: it has ended, and that was
	// noted, or it was made and has not been started.
	rests bool
}

// scanAndRecover is recover, and returns the containers as they were before.
func (e *Engine) scanAndRecover(ctx context.Context) ([]found, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	rt, err := e.runtime()
	if err != nil {
		return nil, err
	}
	scanned, incomplete, err := containers.Scan()
	if isAmong() {
		all := make([]found, len(scanned))
		for i, f := range scanned {
			all[i] = found{f, true}
		}
		return all, err
	}
	if incomplete {
		if err := e.sweep(ctx, containers, rt); err != nil {
			return nil, err
		}
	}
	// Afterwards: of what is not there now, no program has been started since.
	begun, beganErr := rt.Names()
	if beganErr != nil {
		return nil, beganErr
	}
	if retryErr := e.retryConnections(); retryErr != nil {
		return nil, retryErr
	}
	_, owedErr := e.owedUnmounts(ctx)
	if err := errors.Join(err, owedErr); err != nil {
		return nil, err
	}
	all := make([]found, len(scanned))
	for i, f := range scanned {
		all[i] = found{f, rests(f, begun)}
		if all[i].rests {
			continue
		}
		if finishErr := e.finish(ctx, containers, rt, f.Record); finishErr != nil && !errors.Is(finishErr, container.ErrNotFound) {
			err = errors.Join(err, fmt.Errorf("container %s: %w", f.Record.Name, finishErr))
		}
	}
	return all, err
}

// rests reports whether nothing can be found out of a container but what its files said. The runtime
// knows those that are begun.
func rests(f *container.Found, begun map[string]bool) bool {
	switch f.State.Status {
	case container.Exited:
		return true
	case container.Created:
		return !begun[f.Record.ID] && (!f.Record.Config.AutoRemove || f.State.Waits)
	}
	return false
}

// sweep removes containers that were never finished making.
func (e *Engine) sweep(ctx context.Context, containers *container.Store, rt *runtime.Runtime) error {
	_, err := containers.Sweep(ctx, func(id string) error {
		return errors.Join(rt.Delete(id, true), e.removeLayers(id), e.releaseUsers(id), monitor.RemoveLog(e.root, e.run, id))
	})
	var left *container.LeftError
	if errors.As(err, &left) { // it is in nobody's way; a check of the store tells of it, too
		slog.Warn(err.Error())
		return nil
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

// finish does what the process that ran the container would have done at its end, unless
// somebody attends to it, or what it wrote last has still to be read: then the monitor is
// there for it.
func (e *Engine) finish(ctx context.Context, containers *container.Store, rt *runtime.Runtime, r container.Record) error {
	if isAmong() {
		return nil
	}
	st, err := containers.State(r.ID)
	if err != nil || st.Status == container.Exited {
		return err
	}
	if st.Status == container.Restarting {
		if formerBoot(st) && !r.Config.Restart.AtBoot() {
			return e.stayEnded(ctx, r)
		}
		if time.Since(st.RestartAt) < overdue {
			return nil
		}
		return e.remind(ctx, r.ID)
	}
	info, err := rt.State(r.ID)
	switch {
	case errors.Is(err, runtime.ErrNotFound) && st.Status == container.Created && (!r.Config.AutoRemove || st.Waits):
		return nil
	case err != nil && !errors.Is(err, runtime.ErrNotFound):
		return err
	case err == nil && info.Status != specs.StateStopped:
		return nil
	}
	attended, err := containers.TakeOver(r.ID)
	if errors.Is(err, durable.ErrLocked) || errors.Is(err, fs.ErrNotExist) { // it is attended to, or goes away
		return nil
	}
	if err != nil {
		return err
	}
	// It may have been started between the two: who did that has let go of it, and the monitor has not taken it yet.
	if info, err := rt.State(r.ID); err == nil && info.Status != specs.StateStopped {
		return attended.Release()
	}
	unread, err := e.unread(rt, r.ID)
	if err == nil && !unread {
		err = e.conclude(ctx, r)
	}
	err = errors.Join(err, attended.Release())
	if err == nil && unread {
		err = e.remind(ctx, r.ID)
	}
	return err
}

// overdue is how late the start of a container may be before the monitor is reminded: who
// was to tell it may have been killed.
const overdue = time.Second

// remind tells the monitor, if there is one, of a container that it may not know of. If
// there is none, one that is started finds it by itself.
func (e *Engine) remind(ctx context.Context, id string) error {
	m, err := e.monitor()
	if err != nil || !m.Running() {
		return err
	}
	err = m.Adopt(ctx, id)
	if errors.Is(err, durable.ErrLocked) {
		return nil
	}
	return err
}

// unread reports whether a keeper still holds what a container that has ended wrote.
func (e *Engine) unread(rt *runtime.Runtime, id string) (bool, error) {
	k, err := rt.Keeper(id)
	if errors.Is(err, runtime.ErrNoKeeper) || errors.Is(err, runtime.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer k.Close()
	return k.Holds(), nil
}

// conclude undoes the plan of a container that has ended and writes down how it ended: it
// is removed, or waits to be started again, or stays. Its lock is held.
func (e *Engine) conclude(ctx context.Context, r container.Record) (err error) {
	defer func() { err = errors.Join(err, e.unmountPlugins(ctx, r.ID)) }()
	containers, err := e.containers()
	if err != nil {
		return err
	}
	rt, err := e.runtime()
	if err != nil {
		return err
	}
	st, err := containers.State(r.ID)
	if err != nil || st.Status == container.Exited || st.Status == container.Restarting {
		return err
	}
	dir, err := containers.Dir(r.ID)
	if err != nil {
		return err
	}
	code, exitErr := runtime.ReadExit(container.ExitFile(dir))
	finished := exitTime(dir)
	if formerBoot(st) && exitErr == nil && finished.Before(st.Started) {
		exitErr = errFormerExit
	}
	_, stateErr := rt.State(r.ID)
	cutOff := exitErr != nil && errors.Is(stateErr, runtime.ErrNotFound) && !formerBoot(st)
	// When the container can be found already the process that would execute the program says so itself. A program may end like that,
	// too, but ForAgain is taken back as soon as it runs.
	cutOff = cutOff || exitErr == nil && stateErr == nil && code == exitCutOff && st.ForAgain
	oom := exitErr == nil && e.oomKilled(r, code)
	used := e.countUsed(r)
	if err := errors.Join(rt.Delete(r.ID, true), e.forgetNames(r)); err != nil {
		return err
	}
	if err := e.unmountEnded(ctx, r.ID); err != nil { // before anybody hears of the end
		return err
	}
	if exitErr != nil {
		code = exitLost
	}
	last := st
	last.Status, last.PID, last.Finished, last.ExitCode, last.OOMKilled = container.Exited, 0, finished, code, oom
	last.Used = used
	if exitErr != nil {
		last.Finished, last.Error = time.Now().UTC(), whyNobodySaw(st)
	}
	if cutOff {
		last.ExitCode, last.Error = exitCutOff, "its program did not run: who started it was killed"
	}
	e.tellEnd(r, last)
	if r.Config.AutoRemove {
		return e.remove(ctx, r)
	}
	return containers.Update(ctx, r.ID, func(st *container.State) error {
		last.Stopped, last.Again = st.Stopped, st.Again // a user may have decided meanwhile
		last.Again = last.Again || cutOff && st.ForAgain && !st.Stopped
		*st = last
		quick, after, again := r.Config.Restart.Next(*st)
		if formerBoot(*st) { // it is no fault of the program's
			quick, after, again = 0, 0, st.Again || again && r.Config.Restart.AtBoot()
		}
		st.Quick = quick
		if again {
			st.Status, st.RestartAt = container.Restarting, time.Now().UTC().Add(after)
		}
		return nil
	})
}

// exitLost is the exit status of a program of which none is known, as docker has it.
const exitLost = 255

// exitCutOff is that of a program that was not executed, because who was about to start it was
// killed, as that of all that fails before the program runs.
const exitCutOff = 125

// exitTime is when the keeper wrote the exit status down.
func exitTime(dir string) time.Time {
	info, err := os.Stat(container.ExitFile(dir))
	if err != nil {
		return time.Now().UTC()
	}
	return info.ModTime().UTC()
}

// wholeID is how many digits an ID has.
const wholeID = 64

// Cleanup does what is to be done for one container that has ended, and starts it again if
// that is due. The monitor has it done. One that is gone is no error if its whole ID is given, as who asks knows that there was
// one; a name of nothing is container.ErrNotFound.
func (e *Engine) Cleanup(ctx context.Context, ref string) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	rt, err := e.runtime()
	if err != nil {
		return err
	}
	r, err := containers.Get(ref)
	if err == nil {
		err = e.finish(ctx, containers, rt, r)
	}
	if err == nil {
		err = e.restartIfDue(ctx, r)
	}
	if err == nil {
		err = e.seeToRestart(ctx, r.ID)
	}
	if errors.Is(err, container.ErrNotFound) && len(ref) == wholeID {
		return nil
	}
	return err
}

// seeToRestart tells the monitor of a container that is to be started again later. The one that had it cleaned up may have
// been killed meanwhile, or have made room for a newer one.
func (e *Engine) seeToRestart(ctx context.Context, id string) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	st, err := containers.State(id)
	if err != nil || st.Status != container.Restarting {
		return err
	}
	m, err := e.monitor()
	if err != nil {
		return err
	}
	if err := m.Adopt(ctx, id); err != nil && !errors.Is(err, durable.ErrLocked) {
		return err
	}
	return nil
}

// restartIfDue starts a container again whose restart policy wants that by now.
func (e *Engine) restartIfDue(ctx context.Context, r container.Record) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	attended, err := containers.TakeOver(r.ID)
	if errors.Is(err, durable.ErrLocked) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer attended.Release()
	st, err := containers.State(r.ID)
	if err != nil || st.Status != container.Restarting || time.Now().Before(st.RestartAt) {
		return err
	}
	if err := containers.Update(ctx, r.ID, func(st *container.State) error {
		if !st.Again {
			st.Restarts++
		}
		return nil
	}); err != nil {
		return err
	}
	return e.startLocked(ctx, r, attended)
}
