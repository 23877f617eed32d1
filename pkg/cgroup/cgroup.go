// Package cgroup turns the limits of an OCI configuration into plan steps, and
// reads, freezes, kills and removes the control groups that such steps made.
//
// # Theory of operation
//
// A control group is a directory. Making one is mkdir, limiting it is writing a
// number to a file in it, entering it is writing a process number to its file
// cgroup.procs, and its end is rmdir; see cgroups(7). So this package plans
// mkdir and echo, and there is nothing else to a limit.
//
// There are two versions of the interface. Version 1 mounts one tree for each
// controller, and a process is in one directory of every tree: nine on a typical
// machine, so a container costs nine mkdir and nine writes to cgroup.procs. The
// writes are Early: the child makes its mounts meanwhile. Version 2 has one tree.
// A controller works in a directory only if all directories above it name the
// controller in cgroup.subtree_control, and clone3(2) bears the child inside, so
// no attaching is needed and no instruction of the child runs without limits.
//
// The order is: directories from the top down, then limits, then, at last, the
// process. Where two files constrain each other (memory with and without swap,
// quota and period) a new group has one right order; for a living one it depends
// on numbers that a planner cannot know, and a tolerated first write followed by
// Then and Else steps finds it out.
//
// Device access is a list of rules, of which the last that fits decides. Version 1
// takes them as lines; for version 2 they are compiled to a small eBPF program,
// see bpf.go.
//
// Where systemd manages the tree, PlanUnit asks it for the directory; see unit.go.
//
// Plan, PlanUnit and Update are pure: they know the machine from host.Facts alone. Group has
// the effects; it believes that a directory is a control group only when its file
// system says so.
package cgroup

import (
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Directory is the register of the open directory that a version 2 plan leaves
// for clone3(2).
const Directory plan.Reg = "cgroup"

// Process is the register in which a version 1 plan finds the number of the
// process to attach. The planner of the clone step fills it.
const Process plan.Reg = "pid"

var (
	// ErrNoController means that a limit was asked for whose controller this
	// machine does not have, or not in the version that is mounted, or which
	// does not know that limit yet.
	ErrNoController = errors.New("cgroup controller not available")
	// ErrNotDelegated means that an ordinary user asked for a limit where the
	// administrator has given that user no control group of its own.
	ErrNotDelegated = errors.New("no control group is delegated to this user")
	// ErrInvalid means that the configuration contradicts itself or the
	// kernel's rules.
	ErrInvalid = errors.New("invalid cgroup configuration")
)

// Placement is what a container's control group asks of the plan.
type Placement struct {
	// Setup is host steps that run before the container exists.
	Setup []plan.Step
	// Enter is host steps to be made as soon as the container's process exists,
	// whose number is in the register Process, and before it makes its mounts:
	// they ask systemd for the group, see PlanUnit.
	Enter []plan.Step
	// Into is the open directory for clone3's CLONE_INTO_CGROUP; empty on
	// version 1 and when the container stays in its maker's group.
	Into linux.FD
	// Attach is host steps to be made while the container's process exists but
	// does not run its program yet. On version 1 they write the limits and move
	// it, whose number is in the register Process, into its groups, unless it does
	// that itself with Join; on version 2 there are none but on kernels before 6.4,
	// which have to be told the CPUs again.
	Attach []plan.Step
	// Join is steps of the container's process, to be made after Attach and while it
	// sees the host's files, by which it moves into its groups of version 1.
	Join []plan.Step
	// Paths are the container's directories, one in every hierarchy. They are
	// what Open and Update take later.
	Paths []string
	// Unit is systemd's, if the group comes from there.
	Unit Unit
}

// Plan plans the control group of the container called id.
//
// It is at spec.Linux.CgroupsPath: an absolute path counts from the root of each
// hierarchy, a relative one from the group that containr itself is in (version 1)
// or from that group's parent (version 2, where a group with processes cannot
// have limited children), as runc(8) has it; ".." leads nowhere above. Without a
// path the group is called "containr-ID", relative.
//
// An ordinary user gets a group only where one is delegated. Otherwise the
// container stays in the user's own group if no limit and no path is given, and
// the error is ErrNotDelegated if one is. Device rules do not count as limits
// here: user namespaces keep devices out already.
//
// Errors wrap ErrInvalid, ErrNoController or ErrNotDelegated.
func Plan(spec *specs.Spec, f *host.Facts, id string) (*Placement, error) {
	res, path := resources(spec), ""
	if spec.Linux != nil {
		path = spec.Linux.CgroupsPath
	}
	if err := check(res); err != nil {
		return nil, err
	}
	loc, err := locate(path, id)
	if err != nil {
		return nil, err
	}
	if staysOutside(f, path) {
		return outside(f, res)
	}
	if err := available(f, res); err != nil {
		return nil, err
	}
	if f.CgroupMode == host.CgroupV2 {
		return planV2(spec, f, loc, res)
	}
	return planV1(f, loc, res, movesAlone(spec, f))
}

// resources is never nil.
func resources(spec *specs.Spec) *specs.LinuxResources {
	if spec.Linux == nil || spec.Linux.Resources == nil {
		return &specs.LinuxResources{}
	}
	return spec.Linux.Resources
}

// staysOutside reports whether the container gets no group of its own: there is
// no cgroup file system, or the user has no place to make groups in and did not
// name one either.
func staysOutside(f *host.Facts, path string) bool {
	if f.CgroupMode == host.NoCgroup {
		return true
	}
	return path == "" && !f.Administrator() && !delegated(f)
}

func delegated(f *host.Facts) bool {
	return f.CgroupMode == host.CgroupV2 && len(f.Hierarchies) > 0 && f.Hierarchies[0].Delegated
}

func outside(f *host.Facts, res *specs.LinuxResources) (*Placement, error) {
	wants := asked(res, f.CgroupMode)
	if len(wants) == 0 {
		return &Placement{}, nil
	}
	if f.CgroupMode == host.NoCgroup {
		return nil, fmt.Errorf("%s: %w: no cgroup file system is mounted", wants[0].field, ErrNoController)
	}
	return nil, fmt.Errorf("%s: %w", wants[0].field, ErrNotDelegated)
}

// available fails when a controller, or a file, that res needs is not there.
func available(f *host.Facts, res *specs.LinuxResources) error {
	if c := res.CPU; c != nil && c.Burst != nil && !f.Kernel.AtLeast(5, 14) {
		return fmt.Errorf("linux.resources.cpu.burst: %w: it came with Linux 5.14, this is %s", ErrNoController, f.Kernel)
	}
	if c := res.CPU; c != nil && c.Idle != nil && !f.Kernel.AtLeast(5, 15) {
		return fmt.Errorf("linux.resources.cpu.idle: %w: it came with Linux 5.15, this is %s", ErrNoController, f.Kernel)
	}
	for _, w := range asked(res, f.CgroupMode) {
		if w.controller == "" {
			return fmt.Errorf("%s: %w: cgroup %s has none for it", w.field, ErrNoController, f.CgroupMode)
		}
		if _, ok := f.Hierarchy(w.controller); !ok {
			return fmt.Errorf("%s: %w: %s", w.field, ErrNoController, w.controller)
		}
	}
	return nil
}

func invalid(field, why string) error {
	return fmt.Errorf("%w: linux.resources.%s: %s", ErrInvalid, field, why)
}
