package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/network/bridge"
	"github.com/containr/containr/pkg/plan"
)

// ErrNotPublished means that a container does not publish a port.
var ErrNotPublished = errors.New("the port is not published")

// ErrPortsAtStart means that a network gets its ports with its container, and no others later.
var ErrPortsAtStart = errors.New("the program that carries its packets is told the ports when the container starts, and cannot be given others later")

// changePorts takes ports of the host from a container, and gives it others. Whoever is killed
// meanwhile leaves the record with what is published, or is to be: ReloadNetwork and the next
// start go by that.
func (e *Engine) changePorts(ctx context.Context, record container.Record, r UpdateRequest) (container.Record, error) {
	planned, err := e.plannedEndpoints(record.Endpoints)
	if err != nil {
		return record, err
	}
	if record.Config.Namespaces.Network == container.HostNamespace {
		return record, fmt.Errorf("container %s, --network host: its ports are the host's already", record.Name)
	}
	if record.Config.PublishPolicy == container.PublishFirewall {
		return record, fmt.Errorf("container %s, --publish-policy %s: %w", record.Name, record.Config.PublishPolicy, ErrPortsAtStart)
	}
	if _, carried := record.Config.Namespaces.UserNetwork(); carried {
		return record, fmt.Errorf("container %s, --network %s: %w", record.Name, record.Config.Namespaces.Network, ErrPortsAtStart)
	}
	if len(record.Endpoints) == 0 && len(record.Attachments) > 0 {
		return record, fmt.Errorf("container %s, network %s: plugins publish ports when a container starts: say -p at run", record.Name, record.Attachments[0].Network)
	}
	if len(record.Endpoints) == 0 {
		return record, fmt.Errorf("container %s, --network %s: %w", record.Name, record.Config.Namespaces.Network, ErrNoPortsThere)
	}
	if !leadsAnywhere(planned) {
		return record, fmt.Errorf("container %s: %w", record.Name, ErrNoPortsThere)
	}
	if err := e.canPublish(record.Config, record.Endpoints, r.Publish); err != nil {
		return record, fmt.Errorf("container %s: %w", record.Name, err)
	}
	for _, p := range r.Unpublish {
		if record, err = e.unpublish(ctx, record, p, planned); err != nil {
			return record, err
		}
	}
	if len(r.Publish) == 0 {
		return record, nil
	}
	added, err := e.choosePorts(ctx, r.Publish)
	if err != nil {
		return record, err
	}
	for _, p := range added {
		if slices.ContainsFunc(record.Published, func(o container.Port) bool { return samePort(o, p) }) {
			return record, fmt.Errorf("port %s of the host: container %s has it: %w", portText(p), record.Name, ErrPortTaken)
		}
	}
	extended := record
	extended.Published = added
	if err := e.checkPorts(extended); err != nil {
		return record, err
	}
	record, err = e.setPorts(ctx, record.ID, func(list []container.Port) []container.Port { return append(list, added...) })
	if err != nil {
		return record, err
	}
	steps, err := e.publishing(record.ID, added, planned)
	if err == nil {
		err = e.extend(record.ID, steps)
	}
	if err != nil {
		_, undo := e.setPorts(ctx, record.ID, func(list []container.Port) []container.Port {
			return slices.DeleteFunc(list, func(p container.Port) bool { return slices.Contains(added, p) })
		})
		return record, errors.Join(fmt.Errorf("container %s: %w", record.Name, err), undo)
	}
	return record, nil
}

// unpublish takes the ports back that p names: one of the host's, or all that lead to one of the
// container's.
func (e *Engine) unpublish(ctx context.Context, record container.Record, p container.Port, planned []bridge.Endpoint) (container.Record, error) {
	named := func(o container.Port) bool {
		return o.Port == p.Port && o.Protocol == p.Protocol && (p.HostPort == 0 || p.HostPort == o.HostPort) && (p.HostIP == "" || p.HostIP == o.HostIP)
	}
	var gone []container.Port
	for _, o := range record.Published {
		if named(o) {
			gone = append(gone, o)
		}
	}
	if len(gone) == 0 {
		return record, fmt.Errorf("container %s, its port %d/%s: %w", record.Name, p.Port, p.Protocol, ErrNotPublished)
	}
	steps, err := e.publishing(record.ID, gone, planned)
	if err != nil {
		return record, err
	}
	rt, err := e.runtime()
	if err == nil {
		err = rt.Retract(record.ID, (&plan.Plan{Steps: steps}).Undo())
	}
	if err != nil {
		return record, err
	}
	return e.setPorts(ctx, record.ID, func(list []container.Port) []container.Port { return slices.DeleteFunc(list, named) })
}

// setPorts changes the ports in a container's record.
func (e *Engine) setPorts(ctx context.Context, id string, change func([]container.Port) []container.Port) (container.Record, error) {
	containers, err := e.containers()
	if err != nil {
		return container.Record{}, err
	}
	return containers.Change(context.WithoutCancel(ctx), id, func(c *container.Record) error {
		c.Published = change(slices.Clone(c.Published))
		return nil
	})
}

// allPorts is where published ports lead to.
func allPorts(ports []container.Port, endpoints []bridge.Endpoint) (list []bridge.Port) {
	for _, p := range ports {
		list = append(list, portsTo(p, endpoints)...)
	}
	return list
}
