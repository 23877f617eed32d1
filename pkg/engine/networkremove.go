package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/network/apply"
	"github.com/containr/containr/pkg/network/bridge"
	"github.com/containr/containr/pkg/networks"
	"github.com/containr/containr/pkg/plan/linux"
)

// RemoveNetwork removes a network that no container is in, from the kernel too.
func (e *Engine) RemoveNetwork(ctx context.Context, ref string) (networks.Network, error) {
	if err := e.refuseOther(ref, "removed"); err != nil {
		return networks.Network{}, err
	}
	store, containers, err := e.stores()
	if err != nil {
		return networks.Network{}, err
	}
	if _, err := e.attendToAll(ctx); err != nil {
		return networks.Network{}, err
	}
	hub, err := e.usesHub()
	if err != nil {
		return networks.Network{}, err
	}
	n, err := store.Remove(ctx, ref, containers.Alive, func(n networks.Network, last bool) error {
		if hub {
			_, err := e.inHub(plannedNetwork(n).Remove(), nil, true)
			if errors.Is(err, errNoHub) {
				return nil
			}
			return err
		}
		if err := removeDevice(store, n); err != nil {
			return err
		}
		if used, err := apply.Networks(); err != nil || used > 0 || !last {
			return err // another state root may have networks of its own
		}
		for _, call := range bridge.RemoveTables() {
			if err := apply.Undo(call); err != nil {
				return err
			}
		}
		return e.restoreForwarding()
	})
	if err == nil {
		e.tellNetwork(events.Destroy, n)
	}
	return n, err
}

// removeDevice takes a network out of the kernel: its rules, and its device if the network has made it and no other one uses it. The
// caller holds the store's lock.
func removeDevice(store *networks.Store, n networks.Network) error {
	planned := plannedNetwork(n)
	owns := n.Backend == BackendNetavark
	if !owns {
		var err error
		if owns, err = apply.Owns(planned); err != nil {
			return err
		}
	}
	others, err := store.List()
	if err != nil {
		return err
	}
	shared := n.Parent != "" && slices.ContainsFunc(others, func(o networks.Network) bool { return o.ID != n.ID && o.Parent == n.Parent })
	for _, call := range planned.Remove() {
		if _, device := call.(linux.DeleteLink); device && (!owns || shared) {
			continue
		}
		if err := apply.Undo(call); err != nil {
			return err
		}
	}
	return nil
}

// PruneNetworks removes the networks that no container is in and that may go.
func (e *Engine) PruneNetworks(ctx context.Context, doomed func(networks.Network) bool) ([]networks.Network, error) {
	list, err := e.Networks()
	if err != nil {
		return nil, err
	}
	store, err := e.networks()
	if err != nil {
		return nil, err
	}
	if err := store.Sweep(ctx); err != nil {
		return nil, err
	}
	var gone []networks.Network
	for _, n := range list {
		if n.Name == networks.Default || !doomed(n) {
			continue
		}
		_, err := e.RemoveNetwork(ctx, n.ID)
		switch {
		case errors.Is(err, networks.ErrInUse), errors.Is(err, networks.ErrNotFound):
			continue
		case err != nil:
			return gone, err
		}
		gone = append(gone, n)
	}
	return gone, nil
}
