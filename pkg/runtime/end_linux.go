package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/cgroup"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Kill sends a signal to the container's first process, or with all to every process of
// the container, see Processes. SIGKILL goes to every process also where the end of the
// first one would not end the others, and reaches a paused container.
func (r *Runtime) Kill(id string, signal unix.Signal, all bool) error {
	st, err := r.load(id)
	if err != nil {
		return err
	}
	if all || signal == unix.SIGKILL && st.SharedPIDs && r.status(st) != specs.StateStopped {
		return r.signalAll(st, signal)
	}
	if r.status(st) == specs.StateStopped {
		return fmt.Errorf("container %q: %w", id, ErrNotRunning)
	}
	return r.signalFirst(st, signal)
}

func (r *Runtime) signalAll(st *state, signal unix.Signal) error {
	if st.ownGroup() {
		return r.group(st).Signal(signal)
	}
	c, err := r.crowd(st)
	if err != nil {
		return err
	}
	defer c.close()
	if r.status(st) != specs.StateStopped {
		// Before the others: a process that has just been born may be missed.
		if err := r.signalFirst(st, signal); err != nil && !errors.Is(err, ErrNotRunning) {
			return err
		}
	}
	return c.signalOthers(st.PID, signal)
}

// signalFirst signals the first process. In a frozen group of version 1 it would stay
// frozen, and alive, so SIGKILL ends the pause.
func (r *Runtime) signalFirst(st *state, signal unix.Signal) error {
	err := signalProcess(st.PID, st.Start, signal)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, ErrNotRunning) {
		return fmt.Errorf("container %q: %w", st.ID, ErrNotRunning)
	}
	if err != nil || signal != unix.SIGKILL || r.Facts.CgroupMode != host.CgroupV1 || len(st.Cgroups) == 0 {
		return err
	}
	// Not only if it has stopped: who was pausing it may have been killed before it had, and it stops with the signal pending.
	if _, ok := r.group(st).Freezer(); !ok {
		return nil
	}
	return r.group(st).Thaw()
}

// Delete removes a stopped container, with force a running one too, which it kills.
// A container whose creation was interrupted is removed with force only, and with force
// it is no error if there is none.
func (r *Runtime) Delete(id string, force bool) error {
	err := r.delete(id, force)
	if force && errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

func (r *Runtime) delete(id string, force bool) error {
	if err := ValidateID(id); err != nil {
		return err
	}
	if force {
		// Who holds the lock may wait for a process of the container.
		if st, _, err := r.loadAny(id); err != nil {
			return err
		} else if st != nil && r.status(st) == specs.StateRunning {
			if err := r.signalFirst(st, unix.SIGKILL); err != nil && !errors.Is(err, ErrNotRunning) {
				return err
			}
		}
	}
	l, err := r.lock(id, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer l.release()
	return r.remove(id, force)
}

// remove deletes a container whose lock is held.
func (r *Runtime) remove(id string, force bool) error {
	st, complete, err := r.loadAny(id)
	if err != nil {
		return err
	}
	if !complete && !force {
		return fmt.Errorf("container %q: its creation was interrupted: delete it with --force: %w", id, ErrState)
	}
	dir := filepath.Join(r.Root, id)
	calls, err := r.Actions.readJournal(filepath.Join(dir, journalFile))
	if err != nil {
		return err
	}
	if st == nil {
		err = errors.Join(endStray(id), r.endUnborn(calls))
		return r.forget(dir, nil, calls, nil, err)
	}
	hooks, err := r.later(st)
	if err != nil && !force {
		return err
	}
	if hooks == nil && !st.loose() && st.Held == 0 && r.status(st) == specs.StateStopped {
		if done, err := r.discard(id, ended(calls)); done || err != nil {
			return err
		}
	}
	return r.forget(dir, st, calls, hooks, r.end(st, force))
}

// forget removes what is left of a container when its processes have ended, or returns
// the error that they have not.
func (r *Runtime) forget(dir string, st *state, calls []plan.Call, hooks *laterHooks, err error) error {
	if err != nil {
		return err
	}
	if err := r.Actions.undoAll(ended(calls)); err != nil {
		return err
	}
	if err := st.endKeeper(); err != nil {
		return err
	}
	hooks.stopped(r.Warn)
	return os.RemoveAll(dir)
}

// loadAny is load for a container that may not be complete: killed while it made one,
// the runtime leaves a state that does not count yet, or none, which is nil.
func (r *Runtime) loadAny(id string) (st *state, complete bool, err error) {
	st, err = r.load(id)
	if !errors.Is(err, ErrNotFound) {
		return st, true, err
	}
	if host.Kind(filepath.Join(r.Root, id)) != host.Directory {
		return nil, false, err
	}
	st, err = r.loadFile(id, stateFile+newSuffix)
	if err != nil {
		st = nil // not there, or torn
	}
	return st, false, nil
}

// Finish removes a container that Create made and whose first process has ended and
// been waited for. It is Delete for one who knows already what the container's files
// say.
func (r *Runtime) Finish(s *Started) error {
	if !s.hooks && !s.loose && !s.held {
		if done, err := r.discard(s.id, ended(s.undos)); done || err != nil {
			return err
		}
	}
	return r.Delete(s.id, true)
}

// discard removes a container whose first process has ended, if nobody is left in its
// control groups: those that are empty can be removed, so that nobody has to be asked.
func (r *Runtime) discard(id string, undos []plan.Call) (done bool, err error) {
	for _, c := range undos {
		if _, ok := c.(journaled); ok {
			if err := r.Actions.undo(c); err != nil {
				return false, err
			}
			continue
		}
		if d, ok := c.(linux.RemoveDir); !ok || !removed(unix.Rmdir(d.Path)) {
			return false, nil
		}
	}
	dir := filepath.Join(r.Root, id)
	for _, name := range [...]string{stateFile, configFile, journalFile} {
		if err := unix.Unlink(filepath.Join(dir, name)); !removed(err) {
			return false, fmt.Errorf("unlink %s: %w", filepath.Join(dir, name), err)
		}
	}
	if removed(unix.Rmdir(dir)) {
		return true, nil
	}
	return true, os.RemoveAll(dir)
}

// removed tells of the result of rmdir or unlink that nothing is there any more.
func removed(err error) bool { return err == nil || errors.Is(err, unix.ENOENT) }

// endPatience is how long the processes of a container may take to die, after all of
// them have been killed, and how long those are hunted that fork meanwhile.
const endPatience = 10 * time.Second

// end makes sure that nothing of the container runs any more.
func (r *Runtime) end(st *state, force bool) error {
	s := r.status(st)
	if s != specs.StateStopped && s != specs.StateCreated && !force {
		return fmt.Errorf("container %q is %s: %w", st.ID, s, ErrRunning)
	}
	var others crowd
	if !st.ownGroup() {
		c, err := r.crowd(st) // before the first process ends: it shows the namespace
		if err != nil {
			return err
		}
		others = *c
		defer others.close()
	}
	if s != specs.StateStopped {
		if err := r.signalFirst(st, unix.SIGKILL); err != nil && !errors.Is(err, ErrNotRunning) {
			return err
		}
		if err := waitGone(st.PID, st.Start); err != nil {
			return err
		}
	}
	if !st.ownGroup() {
		return others.signalOthers(0, unix.SIGKILL)
	}
	// Without a process namespace others may be left, and groups that they made.
	if err := killGroup(r.group(st)); err != nil {
		return err
	}
	return r.group(st).Remove()
}

// killGroup ends the processes of a control group, or says which are left.
func killGroup(g *cgroup.Group) error {
	ctx, cancel := context.WithTimeout(context.Background(), endPatience)
	defer cancel()
	err := g.Kill(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	pids, listed := g.Procs()
	if listed != nil {
		return errors.Join(err, listed)
	}
	if len(pids) == 0 {
		return nil // the last one has ended just now
	}
	return &LeftError{PIDs: pids}
}

// endStray ends the keeper, and the process that has not become the program, of a container
// whose making was cut off. They end by themselves, but not before another one with the same
// id may be made, for which the keeper would take itself.
func endStray(id string) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	until := time.Now().Add(execPatience)
	for _, e := range entries {
		pid, notNumber := strconv.Atoi(e.Name())
		if notNumber != nil {
			continue
		}
		if endErr := endIfStray(pid, id, until); endErr != nil {
			err = errors.Join(err, fmt.Errorf("container %q: end what its maker left, process %d: %w", id, pid, endErr))
		}
	}
	return err
}

// execPatience is how long endStray waits in all for processes that are executing the keeper's program.
const execPatience = time.Second

// commandLine reads that of a process; empty if it has ended. In the midst of an execve a process has let go of the lock of
// its maker, by which we come here, and shows no command line yet, though already the program: that is looked at again.
func commandLine(read, program func() string, until time.Time) string {
	for {
		line := read()
		if line != "" || !child.IsProgram(program()) || time.Now().After(until) {
			return line
		}
		time.Sleep(time.Millisecond)
	}
}

func endIfStray(pid int, id string, until time.Time) error {
	dir := "/proc/" + strconv.Itoa(pid)
	read := func() string {
		text, _ := sys.ReadFile(dir+"/cmdline", maxConfig) // it may have ended
		return string(text)
	}
	program := func() string {
		exe, _ := os.Readlink(dir + "/exe") // as above
		return exe
	}
	if !child.TellsItIsFor(commandLine(read, program, until), id) {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(fd)
	if !child.TellsItIsFor(read(), id) { // the number may be another process's by now
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal: %w", err)
	}
	return awaitEnd(fd, pid)
}

// endUnborn kills what a runtime that was killed has left of a container it had not
// written the state of. Mostly that is nothing, since the child notices. What is in the
// journal was made for this container, so whoever is in there belongs to it.
func (r *Runtime) endUnborn(calls []plan.Call) error {
	var dirs []string
	for _, c := range slices.Backward(calls) { // the last is undone first
		if d, ok := c.(linux.RemoveDir); ok {
			dirs = append(dirs, d.Path)
		}
	}
	for _, dir := range dirs {
		err := killGroup(cgroup.Open(r.Facts.CgroupMode, []string{dir}))
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, cgroup.ErrNotCgroup) {
			return err
		}
	}
	return nil
}
