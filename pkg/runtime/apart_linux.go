package runtime

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/cgroup"
)

// Apart is a control group below a container's. What a process in it starts is in it too,
// whoever its parent and its session are.
type Apart struct {
	group    *cgroup.Group
	entrance []string
}

// ErrNoGroup means that a container has no control group of its own.
var ErrNoGroup = errors.New("the container has no control group of its own")

// Apart makes such a group, or finds the one of this name.
func (r *Runtime) Apart(id, name string) (*Apart, error) {
	st, err := r.load(id)
	if err != nil {
		return nil, err
	}
	if !st.ownGroup() {
		return nil, fmt.Errorf("container %q: %w", id, ErrNoGroup)
	}
	group, entrance, err := r.group(st).Apart(name)
	if err != nil {
		return nil, fmt.Errorf("container %q: %w", id, err)
	}
	return &Apart{group, entrance}, nil
}

// Kill ends every process in the group, and waits for that until ctx ends.
func (a *Apart) Kill(ctx context.Context) error { return a.group.Kill(ctx) }

// Remove removes the group, if nothing is left in it.
func (a *Apart) Remove() error {
	pids, err := a.group.Procs()
	if err != nil || len(pids) > 0 {
		return err
	}
	err = a.group.Remove()
	if errors.Is(err, unix.EBUSY) { // it is used again
		return nil
	}
	return err
}
