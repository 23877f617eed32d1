// Package shell turns the plan of a container into a script that builds the same
// container by hand, with the tools of util-linux: unshare, mount, nsenter,
// pivot_root, prlimit, chrt, setpriv.
//
// # Theory of operation
//
// The plan is interpreted symbolically. A register that holds a descriptor becomes
// a variable that holds a path; fsopen, fsconfig, fsmount and move_mount become one
// mount command; a lookup inside the root becomes a function that follows links as
// the kernel would with RESOLVE_IN_ROOT. Every group of commands stands under the
// reasons of its steps. A step that no command stands for is named in a comment that
// says why.
//
// A shell needs the host's tools up to the very end, and the end has neither tools
// nor privileges. So the script has four parts, and in one point its order is not
// that of the plan:
//
//	host     makes control groups, before the birth
//	helper   stays outside, in the background: writes id maps, moves the process
//	         into its control groups, and at last swaps the root
//	inside   is the container's first process: mounts, devices, limits; it ends by
//	         becoming setpriv, which gives up the privileges and becomes
//	last     a shell that has been loaded already and needs nothing but its built-in
//	         commands: it waits until the helper has swapped the root under it
//	         (pivot_root(2) moves every process from the old root to the new one)
//	         and becomes the program
//
// The parts talk through two fifos. nsenter, which enters a mount namespace at its
// topmost mount, finds there the old root that pivot_root has put above the new one;
// that is how the helper gets at it to unmount it.
//
// # What differs
//
// The container is the same in its mounts, namespaces, ids, capabilities, limits,
// signals and descriptors, except:
//
//   - The system call filter is loaded only if setpriv can (util-linux 2.41), and then
//     before the last shell, which must get along with it. Otherwise the script says
//     on standard error that there is none.
//   - The signals 32 and 33, which C libraries keep for themselves, stay ignored if
//     the caller ignores them.
//   - The session keyring stays the caller's: util-linux has no tool for it.
//   - There is no new terminal; the program has the caller's descriptors 0, 1 and 2,
//     and no others.
//   - On version 2 of control groups the device filter is missing: a shell cannot
//     load eBPF.
//   - For root, the permitted and effective sets are the bounding set with the
//     inheritable one, as always after an execve of root's; a configuration that
//     permits less than it bounds gets more.
//   - The environment is the same but in another order, and without the few variables
//     that bash keeps for itself (a comment names them).
//   - A file without #! that is no program is run by bash as a script instead of
//     failing.
//   - Errors that a step tolerates are told apart by success alone.
//   - Links of a procfs on the way to the working directory are read as text, inside
//     the root, where the plan refuses them.
//
// The container has a session of its own, so an interrupt from the keyboard does not
// reach it, and the script waits for its end.
//
// What is not trusted is the image: links in it are followed inside the root only.
// Unlike the plan, the script does so by names, one after the other, so nobody may
// change the tree meanwhile.
//
// The package is pure: it makes no call, on any system.
package shell

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Options say how the script is written.
type Options struct {
	// Name is what the first comment calls the container; "the container" if empty.
	Name string
}

// ErrCannot means that a plan asks for what a script cannot do, and that without it
// the container would be another one.
var ErrCannot = errors.New("a shell script cannot build this container")

// ErrNetwork means that what a script cannot do belongs to the container's network.
var ErrNetwork = errors.New("a script cannot make this network")

// Script writes the plan of a new container as a script for bash. The script must be
// run by root, and ends with the exit status of the container's program; what it made
// on the host is gone then.
//
// Errors wrap ErrCannot and name the step.
func Script(p *plan.Plan, o Options) (string, error) {
	for i := range p.Steps {
		if s := &p.Steps[i]; s.Call.Name() == (linux.Provide{}).Name() {
			return "", fmt.Errorf("%w: step %d: %s: %s: what secrets hold is written down nowhere", ErrCannot, i+1, s.Why, s)
		}
	}
	w := newWriter(p)
	for i := 0; i < len(p.Steps); {
		if holdsZero(p.Steps[i].Call.AppendArgs(nil)) {
			return "", fmt.Errorf("%w: step %d: a string holds a zero byte", ErrCannot, i+1)
		}
		next, err := w.step(i)
		if err != nil {
			s := &p.Steps[i]
			if s.Chapter == plan.NetworkChapter {
				err = fmt.Errorf("%w: %w", ErrNetwork, err)
			}
			return "", fmt.Errorf("%w: step %d: %s: %s: %w", ErrCannot, i+1, s.Why, s, err)
		}
		i = next
	}
	if err := w.complete(); err != nil {
		return "", fmt.Errorf("%w: %w", ErrCannot, err)
	}
	return w.assemble(o), nil
}

// holdsZero finds the byte that no argument of a command can hold.
func holdsZero(args []plan.Arg) bool {
	for i := range args {
		a := &args[i]
		if a.Kind == plan.Text && strings.IndexByte(a.Text, 0) >= 0 || strings.IndexByte(strings.Join(a.Words, ""), 0) >= 0 || holdsZero(a.List) {
			return true
		}
	}
	return false
}
