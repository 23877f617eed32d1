package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/cgroup"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
)

// Update changes limits of a created or running container; what change does not set
// stays. The steps that it makes are those of PlanUpdate. When one of them fails, the limits
// from before are set once more, as far as there were any; Warn is told of what does not let itself be taken back.
func (r *Runtime) Update(id string, change *specs.LinuxResources) error {
	l, err := r.lock(id, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer l.release()
	st, p, merged, err := r.planUpdate(id, change)
	if err != nil {
		return err
	}
	if err := cgroup.Open(r.Facts.CgroupMode, st.Cgroups).Fits(change); err != nil {
		return err
	}
	if err := carryOut(p.Steps, false); err != nil {
		r.takeBack(st, merged)
		return err
	}
	st.Limits = merged
	return r.replaceState(st)
}

// carryOut executes steps of the host; until one fails, or with on all of them. It returns the first error.
func carryOut(steps []plan.Step, on bool) (first error) {
	e := &execution{plan: &plan.Plan{Steps: steps}, regs: map[plan.Reg]int{}}
	defer e.closeFiles()
	for i := range steps {
		if err := e.hostStep(i); err != nil {
			if first = cmp.Or(first, err); !on {
				break
			}
		}
	}
	return first
}

// takeBack sets the limits that a container had before an update that has failed, as far as that goes.
func (r *Runtime) takeBack(st *state, merged *specs.LinuxResources) {
	old, err := r.limits(st)
	if err != nil || old == nil {
		return
	}
	steps, err := r.planLimits(st, merged, old)
	if err == nil {
		err = carryOut(steps, true)
	}
	if err != nil && r.Warn != nil {
		r.Warn(fmt.Errorf("container %q: its former limits: %w", st.ID, err))
	}
}

// planLimits are the steps from some limits of a container to others.
func (r *Runtime) planLimits(st *state, old, change *specs.LinuxResources) ([]plan.Step, error) {
	facts := r.Facts
	if st.Unit != "" {
		var err error
		if facts, err = r.managerFacts(); err != nil {
			return nil, err
		}
	}
	return cgroup.Update(cgroup.Change{Paths: st.Cgroups, Unit: cgroup.Unit{Name: st.Unit, User: st.UserUnit}, Old: old, New: change}, facts)
}

// UpdateClass changes what the class of service of a created or running container gets, and
// with it all that are in the class: the lines of a file schemata, empty for no change.
func (r *Runtime) UpdateClass(id, l3, bandwidth string) error {
	st, l, err := r.loadLocked(id)
	if err != nil {
		return err
	}
	defer l.release()
	if r.status(st) == specs.StateStopped {
		return fmt.Errorf("container %q: %w", id, ErrNotRunning)
	}
	spec, _, err := loadSpec(st.Config)
	if err != nil {
		return err
	}
	root, err := host.FindResctrl()
	if err != nil {
		return err
	}
	steps, err := changeClass(root, id, spec, l3, bandwidth)
	if err != nil {
		return fmt.Errorf("container %q: %w", id, err)
	}
	return carryOutClass(root, steps)
}

// carryOutClass executes steps of changeClass. The kernel says in a file of its own what it
// had against a line.
func carryOutClass(root string, steps []plan.Step) error {
	e := &execution{plan: &plan.Plan{Steps: steps}, regs: map[plan.Reg]int{}}
	defer e.closeFiles()
	for i := range steps {
		err := e.hostStep(i)
		if err == nil {
			continue
		}
		if said, readErr := sys.ReadFile(root+"/info/last_cmd_status", maxConfig); readErr == nil {
			err = fmt.Errorf("%w (the kernel says: %s)", err, quotable(string(said)))
		}
		return err
	}
	return nil
}

// PlanUpdate returns what Update would do.
func (r *Runtime) PlanUpdate(id string, change *specs.LinuxResources) (*plan.Plan, error) {
	_, p, _, err := r.planUpdate(id, change)
	return p, err
}

func (r *Runtime) planUpdate(id string, change *specs.LinuxResources) (*state, *plan.Plan, *specs.LinuxResources, error) {
	st, err := r.load(id)
	if err != nil {
		return nil, nil, nil, err
	}
	if r.status(st) == specs.StateStopped {
		return nil, nil, nil, fmt.Errorf("container %q: %w", id, ErrNotRunning)
	}
	if len(st.Cgroups) == 0 {
		return nil, nil, nil, fmt.Errorf("container %q: its limits cannot change: %w", id, ErrNoGroup)
	}
	old, err := r.limits(st)
	if err != nil {
		return nil, nil, nil, err
	}
	steps, err := r.planLimits(st, old, change)
	if err != nil {
		return nil, nil, nil, err
	}
	return st, &plan.Plan{Steps: steps}, cgroup.Merge(old, change), nil
}

// limits are those that the container has now.
func (r *Runtime) limits(st *state) (*specs.LinuxResources, error) {
	if st.Limits != nil {
		return st.Limits, nil
	}
	spec, _, err := loadSpec(st.Config)
	if err != nil || spec.Linux == nil {
		return nil, err
	}
	return spec.Linux.Resources, nil
}

// replaceState writes a changed state. The lock is held.
func (r *Runtime) replaceState(st *state) error {
	text, err := quickjson.Append(nil, st)
	if err != nil {
		return err
	}
	file := filepath.Join(r.Root, st.ID, stateFile)
	if err := sys.WriteFile(file+newSuffix, text); err != nil {
		return err
	}
	if err := os.Rename(file+newSuffix, file); err != nil {
		return errors.Join(err, os.Remove(file+newSuffix))
	}
	return nil
}
