package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/registry"
	"github.com/containr/containr/pkg/runtime"
)

// Errors of the verbs that callers tell apart.
var (
	// ErrRunning means that a container cannot be removed because it runs.
	ErrRunning = errors.New("container is running")
	// ErrNotRunning means that the verb needs a container that runs.
	ErrNotRunning = errors.New("container is not running")
	// ErrPaused means that the verb needs a container that is not paused.
	ErrPaused = errors.New("container is paused")
	// ErrNotPaused means that the verb needs one that is.
	ErrNotPaused = errors.New("container is not paused")
)

// CreateRequest asks for a container that is made and not run.
type CreateRequest struct {
	Config container.Config
	// ConsoleSize is the size of the terminal of a container with one.
	ConsoleSize *specs.Box
	// Progress, if set, is told how a pull goes on.
	Progress func(registry.Progress)
}

// Create makes a container without running it.
func (e *Engine) Create(ctx context.Context, r CreateRequest) (container.Record, error) {
	record, attended, err := e.create(ctx, r.Config, prepareOptions{progress: r.Progress, consoleSize: r.ConsoleSize})
	if err != nil {
		return container.Record{}, err
	}
	containers, err := e.containers()
	if err == nil && record.Config.AutoRemove { // not the remains of a run that was killed
		err = containers.Update(ctx, record.ID, func(st *container.State) error { st.Waits = true; return nil })
	}
	return record, errors.Join(err, attended.Release())
}

// StartRequest asks for a container that was made before to be run.
type StartRequest struct {
	// Container is its name, its id or the beginning of its id.
	Container string
	// Foreground has Start wait for the program's end, with the streams; else it is
	// detached.
	Foreground bool
	Streams
}

// Start runs a container that was made before. One that runs already is left alone, and
// the answer is Exit.Left.
func (e *Engine) Start(ctx context.Context, r StartRequest) (Exit, error) {
	record, err := e.Get(ctx, r.Container)
	if err != nil {
		return Exit{}, err
	}
	attended, err := e.whenIdle(ctx, record)
	if errors.Is(err, ErrRunning) {
		if st, err := e.State(record); err == nil && st.Status == container.Paused {
			return Exit{}, fmt.Errorf("container %s: it does not run on by being started: %w", record.Name, ErrPaused)
		}
		return Exit{ID: record.ID, Left: true}, nil
	}
	if err != nil {
		return Exit{}, err
	}
	defer attended.Release()
	if err := errors.Join(e.ensureLayers(ctx, record), e.forgetRestarts(ctx, record)); err != nil {
		return Exit{}, err
	}
	if record, err = e.followHost(ctx, record); err != nil {
		return Exit{}, err
	}
	exit, started, err := e.execute(ctx, record, attended, RunRequest{Detach: !r.Foreground, Streams: r.Streams})
	if !started && err != nil {
		err = errors.Join(e.diagnoseRecord(record, err), e.noteFailure(ctx, record, err))
	}
	if started && record.Config.AutoRemove && !exit.Left {
		err = errors.Join(err, e.remove(ctx, record))
	}
	return exit, err
}

// forgetRestarts has the restart policy begin anew: a user starts the container.
func (e *Engine) forgetRestarts(ctx context.Context, record container.Record) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	return containers.Update(ctx, record.ID, func(st *container.State) error {
		st.Restarts, st.Quick = 0, 0
		return nil
	})
}

// noteFailure writes down that a container could not be started again. A restart that came while it was being started, and ended it, is
// still due: who asked for it may have been killed.
func (e *Engine) noteFailure(ctx context.Context, record container.Record, failure error) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	return containers.Update(context.WithoutCancel(ctx), record.ID, func(st *container.State) error {
		due := st.Status == container.Running && st.Again // what this start was for it took away when it had a process
		if st.Status != container.Created {
			st.Status, st.PID = container.Exited, 0
		}
		if due {
			st.Status, st.RestartAt = container.Restarting, time.Now().UTC()
		}
		st.ExitCode, st.Error = ExitStatus(failure), failure.Error()
		return nil
	})
}

// startLocked is a detached start of a container whose lock is held.
func (e *Engine) startLocked(ctx context.Context, record container.Record, attended *durable.Lock) error {
	record, err := e.followHost(ctx, record)
	if err == nil {
		err = e.ensureLayers(ctx, record)
	}
	started := false
	if err == nil {
		_, started, err = e.execute(ctx, record, attended, RunRequest{Detach: true})
	}
	if !started && err != nil {
		err = errors.Join(err, e.noteFailure(ctx, record, err))
	}
	return err
}

// whenIdle waits until nobody attends to a container that has ended, or has not run, and
// takes its lock. One that runs is ErrRunning.
func (e *Engine) whenIdle(ctx context.Context, record container.Record) (*durable.Lock, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	rt, err := e.runtime()
	if err != nil {
		return nil, err
	}
	for {
		if st, err := e.State(record); err != nil {
			return nil, err
		} else if st.PID != 0 {
			if err := awaitProgram(ctx, st.PID); errors.Is(err, ErrNotRunning) {
				continue
			} else if err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("container %s: %w", record.Name, ErrRunning)
		}
		if err := e.settle(ctx, record); err != nil {
			return nil, err
		}
		attended, err := takeIdle(containers, rt, record.ID)
		if errors.Is(err, durable.ErrLocked) {
			continue // somebody else was quicker: settle waits for him
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("container %s: %w", record.Name, container.ErrNotFound)
		}
		return attended, err
	}
}

// takeIdle takes the lock of a container that does not run, if nobody attends to it. One that runs and whose lock is free is
// durable.ErrLocked too: who has just started it has let go of it, and the monitor, which he has asked, takes it in a moment.
func takeIdle(containers *container.Store, rt *runtime.Runtime, id string) (*durable.Lock, error) {
	attended, err := containers.TakeOver(id)
	if err != nil {
		return nil, err
	}
	info, err := rt.State(id)
	if errors.Is(err, runtime.ErrNotFound) || err == nil && info.Status == specs.StateStopped {
		return attended, nil
	}
	if err == nil {
		err = fmt.Errorf("container %s runs: %w", id, durable.ErrLocked)
	}
	return nil, errors.Join(err, attended.Release())
}

// programLook is how often awaitProgram looks: the kernel does not tell of an execve.
const programLook = 5 * time.Millisecond

// awaitProgram waits until a container's first process has executed the program. Until then
// it may end without having done that, for who starts it may be killed; that is ErrNotRunning.
func awaitProgram(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return ErrNotRunning
	}
	if err != nil {
		return fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	defer unix.Close(fd)
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && !child.IsProgram(exe) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		n, err := unix.Poll(poll, int(programLook.Milliseconds()))
		switch {
		case n > 0:
			return ErrNotRunning
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for process %d: %w", pid, err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// settlePatience is how long the end of a container that has ended may take: what it
// wrote is read, its plan undone.
const settlePatience = 30 * time.Second

// settleLook is how often endIfRunning looks where the kernel cannot tell it of changes.
const settleLook = 100 * time.Millisecond

// settle waits until everything is done that is to be done at the end of a container
// whose program has ended, by the process that attends to it, or here if there is none. If
// it runs again by then, that is done too.
func (e *Engine) settle(ctx context.Context, record container.Record) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	rt, err := e.runtime()
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	for {
		attended, err := e.awaitTurn(waiting, containers, record)
		if attended == nil || err != nil {
			return err
		}
		unread, err := e.unread(rt, record.ID)
		if err == nil && !unread {
			err = e.concludeIfEnded(ctx, rt, record)
		}
		err = errors.Join(err, attended.Release())
		if err != nil || !unread {
			return err
		}
		m, err := e.monitor() // which reads what is left, and then concludes
		if err != nil {
			return err
		}
		if err := m.Adopt(waiting, record.ID); err != nil && !errors.Is(err, durable.ErrLocked) && waiting.Err() == nil {
			return err
		}
	}
}

// errNoTurn ends the waiting for a container that is gone, or runs.
var errNoTurn = errors.New("nothing is to be done for the container")

// awaitTurn waits until nobody attends to a container, and takes its lock. The lock is nil
// if there is nothing to wait for: the container is gone, or runs.
func (e *Engine) awaitTurn(ctx context.Context, containers *container.Store, record container.Record) (*durable.Lock, error) {
	waiting, end := context.WithCancelCause(ctx)
	defer end(nil)
	changes, err := containers.Watch(record.ID)
	switch {
	case err == nil:
		defer changes.Close()
	case errors.Is(err, container.ErrNotFound):
		return nil, nil
	case !errors.Is(err, unix.EMFILE): // a user has 128 of these, if nobody gave him more
		return nil, err
	}
	go e.endIfRunning(waiting, changes, record, end)
	attended, err := containers.Await(waiting, record.ID)
	switch cause := context.Cause(waiting); {
	case err == nil:
		return attended, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, container.ErrNotFound), errors.Is(cause, errNoTurn):
		return nil, nil
	case cause != nil:
		err = cause
	}
	return nil, fmt.Errorf("container %s: wait for its end: %w", record.Name, err)
}

// endIfRunning ends a waiting when it finds that the container runs, or is gone: then nobody lets
// go of the lock. It looks whenever the container's files change; changes is nil if the kernel
// cannot tell.
func (e *Engine) endIfRunning(ctx context.Context, changes *container.Changes, record container.Record, end context.CancelCauseFunc) {
	look := func() {
		switch st, err := e.State(record); {
		case errors.Is(err, container.ErrNotFound), err == nil && st.PID != 0:
			end(errNoTurn)
		case err != nil:
			end(err)
		}
	}
	for look(); ctx.Err() == nil; look() {
		if changes != nil {
			if changes.Next() != nil {
				return // the waiting is over
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(settleLook):
		}
	}
}

// concludeIfEnded is conclude for a container that may run again by now.
func (e *Engine) concludeIfEnded(ctx context.Context, rt *runtime.Runtime, record container.Record) error {
	info, err := rt.State(record.ID)
	switch {
	case err == nil && info.Status != specs.StateStopped:
		return nil
	case err != nil && !errors.Is(err, runtime.ErrNotFound):
		return err
	}
	containers, err := e.containers()
	if err != nil {
		return err
	}
	st, err := containers.State(record.ID)
	if err != nil || st.Status == container.Created {
		if errors.Is(err, container.ErrNotFound) {
			return nil
		}
		return err
	}
	return e.conclude(ctx, record)
}

// StopRequest asks for a container to end.
type StopRequest struct {
	Container string
	// Signal asks the program to end; 0 is the container's own.
	Signal int
	// Timeout is how long to wait before it is killed; nil is the container's own, and
	// less than nothing for ever.
	Timeout *time.Duration
}

// Stop ends a container, and keeps its restart policy from starting it again. One that
// does not run is no error.
func (e *Engine) Stop(ctx context.Context, r StopRequest) (container.Record, error) {
	record, err := e.Get(ctx, r.Container)
	if err != nil {
		return record, err
	}
	return record, e.stop(ctx, record, r, false)
}

// stop ends a container. With again it is started again by whoever deals with its end, if
// not by the caller: he may be killed.
func (e *Engine) stop(ctx context.Context, record container.Record, r StopRequest, again bool) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	running := false
	err = containers.Update(ctx, record.ID, func(st *container.State) error {
		running = st.Status == container.Running || st.Status == container.Paused || st.Status == container.Created
		st.Stopped, st.Again = !again, again && running
		switch {
		case st.Status == container.Restarting && again: // now, and whoever is killed in between
			st.Again, st.RestartAt = true, time.Now().UTC()
		case st.Status == container.Restarting:
			st.Status = container.Exited
		}
		if again {
			st.Quick = 0 // the policy begins anew
		}
		return nil
	})
	if err != nil || !running {
		return err
	}
	st, err := e.State(record)
	if err != nil {
		return err
	}
	if st.PID != 0 {
		if err := e.endProgram(ctx, record, st, r); err != nil {
			return err
		}
		e.tell(events.Stop, record)
	}
	if st.Status == container.Created {
		return nil
	}
	return e.settle(ctx, record)
}

// endProgram asks the program to end, and kills it when its time is over.
func (e *Engine) endProgram(ctx context.Context, record container.Record, st container.State, r StopRequest) error {
	signal := unix.Signal(r.Signal)
	if signal == 0 {
		signal = unix.Signal(record.StopSignal)
	}
	if signal == 0 {
		signal = unix.SIGTERM
	}
	rt, err := e.runtime()
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(st.PID, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("container %s: process %d: %w", record.Name, st.PID, err)
	}
	process := os.NewFile(uintptr(fd), "process "+strconv.Itoa(st.PID))
	defer process.Close()
	if st.Status == container.Paused && signal != unix.SIGKILL {
		if err := rt.Resume(record.ID); err != nil && !errors.Is(err, runtime.ErrNotPaused) {
			return err
		}
	}
	if done, err := e.signalAndWait(ctx, rt, record, process, signal, stopTimeout(record.Config, r)); done || err != nil {
		return err
	}
	_, err = e.signalAndWait(ctx, rt, record, process, unix.SIGKILL, settlePatience)
	return err
}

// stopTimeout is how long a stop waits, negative for ever.
func stopTimeout(c container.Config, r StopRequest) time.Duration {
	switch {
	case r.Timeout != nil:
		return *r.Timeout
	case c.StopTimeout != nil:
		return time.Duration(*c.StopTimeout) * time.Second
	}
	return container.DefaultStopTimeout * time.Second
}

// signalAndWait sends a signal to the program, whose process is that of a pidfd, and waits
// for its end.
func (e *Engine) signalAndWait(ctx context.Context, rt *runtime.Runtime, record container.Record, process *os.File, signal unix.Signal, timeout time.Duration) (done bool, err error) {
	err = rt.Kill(record.ID, signal, false)
	if errors.Is(err, runtime.ErrNotRunning) || errors.Is(err, runtime.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("container %s: %w", record.Name, err)
	}
	e.tell(events.Kill, record, "signal", strconv.Itoa(int(signal)))
	return awaitProcess(ctx, process, timeout)
}

// awaitProcess waits until the process of a pidfd that does not block has ended, for a time
// that, if it is negative, does not end.
func awaitProcess(ctx context.Context, process *os.File, timeout time.Duration) (done bool, err error) {
	var deadline time.Time
	if timeout >= 0 {
		deadline = time.Now().Add(timeout)
	}
	if err := process.SetReadDeadline(deadline); err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, func() { process.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	switch err := sys.AwaitReadable(process); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, ctx.Err()
	case err != nil:
		return false, err
	}
	return true, nil
}

// KillRequest asks for a signal to a container's program.
type KillRequest struct {
	Container string
	// Signal is the signal's number; 0 is SIGKILL.
	Signal int
}

// Kill sends a signal to the program of a container that runs.
func (e *Engine) Kill(ctx context.Context, r KillRequest) (container.Record, error) {
	record, err := e.Get(ctx, r.Container)
	if err != nil {
		return record, err
	}
	rt, err := e.runtime()
	if err != nil {
		return record, err
	}
	signal := unix.Signal(r.Signal)
	if signal == 0 {
		signal = unix.SIGKILL
	}
	if signal == unix.SIGKILL || signal == unix.Signal(record.StopSignal) || signal == unix.SIGTERM {
		if err := e.setStopped(ctx, record); err != nil {
			return record, err
		}
	}
	err = rt.Kill(record.ID, signal, false)
	if errors.Is(err, runtime.ErrNotRunning) || errors.Is(err, runtime.ErrNotFound) {
		return record, fmt.Errorf("container %s: %w", record.Name, ErrNotRunning)
	}
	if err == nil {
		e.tell(events.Kill, record, "signal", strconv.Itoa(int(signal)))
	}
	return record, err
}

// setStopped remembers that a user has ended a container that runs.
func (e *Engine) setStopped(ctx context.Context, record container.Record) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	return containers.Update(ctx, record.ID, func(st *container.State) error {
		st.Stopped = st.Stopped || st.Status == container.Running || st.Status == container.Paused
		return nil
	})
}

// Restart stops a container, if it runs, and starts it.
func (e *Engine) Restart(ctx context.Context, r StopRequest) (container.Record, error) {
	record, err := e.Get(ctx, r.Container)
	if err != nil {
		return record, err
	}
	attended, err := e.endAndLock(ctx, record, r)
	if errors.Is(err, ErrRunning) {
		return record, nil // it has been started already
	}
	if err != nil {
		return record, err
	}
	defer attended.Release()
	e.tell(events.Restart, record)
	return record, e.startLocked(ctx, record, attended)
}

// endAndLock ends a container and takes its lock. One with --rm would be removed at its
// end; it is refused.
func (e *Engine) endAndLock(ctx context.Context, record container.Record, r StopRequest) (*durable.Lock, error) {
	if record.Config.AutoRemove {
		return nil, fmt.Errorf("container %s: it was made with --rm: its end removes it", record.Name)
	}
	if err := e.stop(ctx, record, r, true); err != nil {
		return nil, err
	}
	return e.whenIdle(ctx, record)
}

// Pause stops all processes of a container where they are.
func (e *Engine) Pause(ctx context.Context, ref string) (container.Record, error) {
	record, rt, err := e.running(ctx, ref)
	if err != nil {
		return record, err
	}
	if st, err := e.State(record); err == nil && st.Status == container.Paused {
		return record, fmt.Errorf("container %s: %w", record.Name, ErrPaused)
	}
	switch err := rt.Pause(record.ID); {
	case errors.Is(err, runtime.ErrNoGroup):
		return record, fmt.Errorf("container %s: cannot pause: %w", record.Name, runtime.ErrNoGroup)
	case err != nil:
		return record, err
	}
	e.tell(events.Pause, record)
	return record, nil
}

// Unpause lets the processes of a paused container go on.
func (e *Engine) Unpause(ctx context.Context, ref string) (container.Record, error) {
	record, rt, err := e.running(ctx, ref)
	if err != nil {
		return record, err
	}
	err = rt.Resume(record.ID)
	if errors.Is(err, runtime.ErrNotPaused) {
		return record, fmt.Errorf("container %s: %w", record.Name, ErrNotPaused)
	}
	if err == nil {
		e.tell(events.Unpause, record)
	}
	return record, err
}

// running finds a container that runs or is paused.
func (e *Engine) running(ctx context.Context, ref string) (container.Record, *runtime.Runtime, error) {
	record, err := e.getOne(ctx, ref)
	if err != nil {
		return record, nil, err
	}
	rt, err := e.runtime()
	if err != nil {
		return record, nil, err
	}
	st, err := e.State(record)
	if err == nil && st.PID == 0 {
		err = fmt.Errorf("container %s: %w", record.Name, ErrNotRunning)
	}
	return record, rt, err
}

// Rename gives a container another name.
func (e *Engine) Rename(ctx context.Context, ref, name string) error {
	record, err := e.Get(ctx, ref)
	if err != nil {
		return err
	}
	containers, err := e.containers()
	if err != nil {
		return err
	}
	err = containers.Rename(ctx, record.ID, name)
	if err == nil {
		old := record.Name
		record.Name = name
		e.tell(events.Rename, record, "oldName", old)
		err = errors.Join(e.renewNames(ctx, record.ID), e.renewPolicies(ctx, record.Endpoints))
	}
	return err
}

// Wait waits until a container does not run, and returns its exit status.
func (e *Engine) Wait(ctx context.Context, ref string) (int, error) {
	record, err := e.Get(ctx, ref)
	if err != nil {
		return 0, err
	}
	return e.waitFor(ctx, record)
}

func (e *Engine) waitFor(ctx context.Context, record container.Record) (int, error) {
	containers, err := e.containers()
	if err != nil {
		return 0, err
	}
	rt, err := e.runtime()
	if err != nil {
		return 0, err
	}
	keeper, err := rt.Keeper(record.ID)
	switch {
	case err == nil:
		defer keeper.Close()
		dir, err := containers.Dir(record.ID)
		if err != nil {
			return 0, err
		}
		return keeper.AwaitExit(ctx, container.ExitFile(dir))
	case !errors.Is(err, runtime.ErrNotFound) && !errors.Is(err, runtime.ErrNoKeeper):
		return 0, err
	}
	st, err := e.State(record)
	return st.ExitCode, err
}
