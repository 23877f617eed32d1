package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/plan"
)

// Extend makes further steps of the host for a container that runs: a network that it is
// connected with. Their inverses are added to the container's, before the first is made. If
// one fails, all of them are undone.
func (r *Runtime) Extend(id string, steps []plan.Step) error {
	st, l, err := r.loadLocked(id)
	if err != nil {
		return err
	}
	defer l.release()
	if r.status(st) == specs.StateStopped {
		return fmt.Errorf("container %q: %w", id, ErrNotRunning)
	}
	path := filepath.Join(r.Root, id, journalFile)
	before, err := r.Actions.readJournal(path)
	if err != nil {
		return err
	}
	p := &plan.Plan{Steps: steps}
	if err := rewriteJournal(path, slices.Concat(p.Undo(), without(before, p.Undo()))); err != nil {
		return err
	}
	e := &execution{plan: p, o: StartOptions{Actions: r.Actions}, regs: map[plan.Reg]int{namespace.PID: st.PID}, pid: st.PID}
	defer e.closeFiles()
	for i := range steps {
		if err := e.hostStep(i); err != nil {
			return errors.Join(err, r.Actions.undoAll(p.Undo()))
		}
	}
	return nil
}

// Retract makes inverses of steps that Extend or the start of a container made, and takes
// them out of the container's journal, which would grow with each change otherwise. Calls
// that were made before are no error, nor is a container that is gone.
func (r *Runtime) Retract(id string, calls []plan.Call) error {
	_, l, err := r.loadLocked(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.release()
	if err := r.Actions.undoAll(calls); err != nil {
		return err
	}
	path := filepath.Join(r.Root, id, journalFile)
	before, err := r.Actions.readJournal(path)
	if err != nil {
		return err
	}
	return rewriteJournal(path, without(before, calls))
}

// without is the calls that are not among others.
func without(calls, others []plan.Call) []plan.Call {
	return slices.DeleteFunc(slices.Clone(calls), func(c plan.Call) bool {
		j, ok := c.(journaled)
		return ok && slices.ContainsFunc(others, func(o plan.Call) bool { return sameEntry(j, o) })
	})
}

// sameEntry reports whether two inverses are one in a journal.
func sameEntry(a journaled, b plan.Call) bool {
	other, ok := b.(journaled)
	if !ok {
		return false
	}
	action, operand := a.Entry()
	otherAction, otherOperand := other.Entry()
	return action == otherAction && operand == otherOperand
}

// rewriteJournal replaces a journal: whoever is killed leaves the old one or the new.
func rewriteJournal(path string, calls []plan.Call) error {
	if err := writeJournal(path+newSuffix, calls); err != nil {
		return err
	}
	return os.Rename(path+newSuffix, path)
}

// Perform makes steps of the host that are no container's of a runtime, one after the other. regs holds what is known before. If
// one fails, all of them are undone.
func Perform(steps []plan.Step, regs map[plan.Reg]int, a Actions) error {
	p := &plan.Plan{Steps: steps}
	e := &execution{plan: p, o: StartOptions{Actions: a}, regs: regs, pid: regs[namespace.PID]}
	defer e.closeFiles()
	for i := range steps {
		if err := e.hostStep(i); err != nil {
			return errors.Join(err, a.undoAll(p.Undo()))
		}
	}
	return nil
}
