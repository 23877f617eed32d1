package engine

import (
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/snapshot"
)

// Snapshotter is the way in which containers get their root file systems.
type Snapshotter struct {
	host.Snapshotter
	// Why says why it is this one; empty if it is the best.
	Why string
}

// Snapshotter says in which way new containers get their root file systems.
func (e *Engine) Snapshotter() (Snapshotter, error) {
	facts, err := e.facts()
	if err != nil {
		return Snapshotter{}, err
	}
	return e.chooseSnapshotter(e.root, !facts.Root())
}

// storage is host.ProbeStorage, which is asked once for the engine's own directory.
func (e *Engine) storage(dir string) (host.Storage, error) {
	if dir != e.root {
		return host.ProbeStorage(dir)
	}
	e.probed.Do(func() { e.storageOf, e.noStorage = host.ProbeStorage(dir) })
	return e.storageOf, e.noStorage
}

func (e *Engine) chooseSnapshotter(dir string, inUserNamespace bool) (Snapshotter, error) {
	facts, err := e.facts()
	if err != nil {
		return Snapshotter{}, err
	}
	if e.root == "" {
		return Snapshotter{}, ErrNoRoot
	}
	on, err := e.storage(dir)
	if err != nil {
		return Snapshotter{}, err
	}
	s, why, err := host.ChooseSnapshotter(facts.Snapshotters(on, inUserNamespace), e.options.Snapshotter)
	return Snapshotter{s, why}, err
}

// presented is the home's snapshot store, with the driver that new containers get.
func (h *home) presented(e *Engine) (*snapshot.Store, error) {
	s, err := h.snapshots(e)
	if err != nil {
		return nil, err
	}
	facts, err := e.facts()
	if err != nil {
		return nil, err
	}
	chosen, err := e.chooseSnapshotter(h.dir, h.mapped || !facts.Root())
	return s.With(snapshot.Driver(chosen.Name)), err
}
