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
	if err := writeJournal(path+newSuffix, slices.Concat(p.Undo(), before)); err != nil {
		return err
	}
	if err := os.Rename(path+newSuffix, path); err != nil {
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
