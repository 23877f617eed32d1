package engine

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/runtime"
)

// Info is what there is here: numbers of things, and the machine.
type Info struct {
	// Root is the directory for what outlives a boot, Run that for what does not.
	Root, Run string
	// Running, Paused, Stopped are numbers of containers; those that were made and never started are Stopped.
	Running, Paused, Stopped int
	// Images is the number of names, and of images without one.
	Images int
	// Facts are what containr knows about the machine.
	Facts host.Facts
}

// Containers is the number of all containers.
func (i *Info) Containers() int { return i.Running + i.Paused + i.Stopped }

// Info counts what there is. Nothing is made: where no state root is, there is nothing.
func (e *Engine) Info() (*Info, error) {
	facts, err := e.facts()
	if err != nil {
		return nil, err
	}
	i := &Info{Root: e.root, Run: e.run, Facts: *facts}
	listed, err := e.Images()
	if err != nil {
		return nil, err
	}
	i.Images = len(listed)
	return i, e.countContainers(i)
}

// countContainers asks the kernel, through the runtime, what containers do: what their files say may be old.
func (e *Engine) countContainers(i *Info) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	records, err := containers.List()
	if err != nil {
		return err
	}
	rt, err := e.runtime()
	if err != nil {
		return err
	}
	alive, err := rt.List()
	if err != nil {
		return err
	}
	doing := map[string]specs.ContainerState{}
	for _, a := range alive {
		doing[a.ID] = a.Status
	}
	for _, r := range records {
		switch doing[r.ID] {
		case specs.StateRunning:
			i.Running++
		case runtime.StatePaused:
			i.Paused++
		default:
			i.Stopped++
		}
	}
	return nil
}
