package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/network/bridge"
	"github.com/containr/containr/pkg/networks"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/runtime"
)

// Errors of connecting.
var (
	// ErrConnected means that a container is in a network already.
	ErrConnected = errors.New("the container is in the network already")
	// ErrNotConnected means that it is not.
	ErrNotConnected = errors.New("the container is not in the network")
	// ErrNothingToReload means that containr has made no rules for a container.
	ErrNothingToReload = errors.New("the container is in no network whose rules are containr's")
)

// ConnectRequest asks for a container to be connected with a network, or taken out of it.
type ConnectRequest struct {
	// Container is its name, its id or the beginning of its id.
	Container string
	// Plug names the network; the rest is for connecting.
	Plug container.Plug
}

// Connect connects a container with a network: at once if it runs, and at each start.
func (e *Engine) Connect(ctx context.Context, r ConnectRequest) error {
	lock, err := e.lockNetworks(ctx, r.Container)
	if err != nil {
		return err
	}
	defer lock.Release()
	record, n, err := e.both(ctx, r, false)
	if err != nil {
		return err
	}
	if !record.Config.Namespaces.OwnNetwork() {
		return fmt.Errorf("container %s: its network is that of --network %s, and not its own", record.Name, record.Config.Namespaces.Network)
	}
	if u, ok := record.Config.Namespaces.UserNetwork(); ok {
		return fmt.Errorf("container %s: its network is that of --network %s, which cannot be joined with others", record.Name, u.Backend)
	}
	if slices.ContainsFunc(record.Endpoints, func(p container.Endpoint) bool { return p.NetworkID == n.ID }) {
		return fmt.Errorf("container %s, network %s: %w", record.Name, n.Name, ErrConnected)
	}
	for _, p := range record.Config.Policies {
		if err := policyFits(n, p); err != nil {
			return fmt.Errorf("container %s: %w", record.Name, err)
		}
	}
	r.Plug.Network = n.Name
	if r.Plug, err = nameDevice(r.Plug, record); err != nil {
		return err
	}
	// Who was killed while he connected them has left an address that counts for nothing.
	if err := e.unplug(record.ID, []container.Endpoint{{Plug: r.Plug}}); err != nil {
		return err
	}
	endpoint, _, err := e.lease(ctx, record.ID, freeIndex(record.Endpoints), r.Plug)
	if err != nil {
		return err
	}
	containers, err := e.containers()
	if err != nil {
		return err
	}
	all := append(slices.Clone(record.Endpoints), endpoint)
	forwardNames(all, record.Config.DNS, e.isBridged)
	extended, err := containers.Change(ctx, record.ID, func(c *container.Record) error {
		c.Endpoints = all
		return e.renewFiles(c, record.Endpoints, all)
	})
	if err == nil {
		err = e.enforce(ctx, extended)
	}
	if err == nil {
		err = e.plugIn(endpoint, record, n)
	}
	if err == nil {
		err = e.renewNames(ctx, record.ID)
	}
	if err != nil {
		return errors.Join(err, e.forgetEndpoint(ctx, record.ID, endpoint))
	}
	e.tellConnection("connect", record, n)
	return nil
}

// lockNetworks waits until nobody else changes the networks or ports of a container that runs or may be started. What is known of it from
// before is not to be trusted.
func (e *Engine) lockNetworks(ctx context.Context, ref string) (*durable.Lock, error) {
	record, err := e.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	dir, err := containers.Dir(record.ID)
	if err != nil {
		return nil, err
	}
	return durable.AcquireExisting(ctx, dir, durable.Exclusive) // the directory itself: it goes with the container
}

// nameDevice completes a plug by the name of its device, which no other one of the container's has.
func nameDevice(p container.Plug, record container.Record) (container.Plug, error) {
	used := map[string]string{}
	for _, endpoint := range record.Endpoints {
		used[endpoint.Interface] = endpoint.Network
	}
	for _, a := range record.Attachments {
		used[a.Interface] = a.Network
	}
	if p.Interface == "" {
		p.Interface = freeInterface(freeIndex(record.Endpoints), slices.Collect(maps.Keys(used)))
	}
	if other := used[p.Interface]; other != "" {
		return p, fmt.Errorf("network %s: interface %s is that of network %s", p.Network, p.Interface, other)
	}
	return p, nil
}

// freeIndex is the lowest number that no device of a container has.
func freeIndex(endpoints []container.Endpoint) int {
	for i := 0; ; i++ {
		suffix := "-" + strconv.Itoa(i)
		if !slices.ContainsFunc(endpoints, func(p container.Endpoint) bool { return strings.HasSuffix(p.Link, suffix) }) {
			return i
		}
	}
}

// both finds the container and the network of a request, which is to leave it or to connect them.
func (e *Engine) both(ctx context.Context, r ConnectRequest, leaves bool) (container.Record, networks.Network, error) {
	record, err := e.Get(ctx, r.Container)
	if err != nil {
		return record, networks.Network{}, err
	}
	if name, ok := r.Plug.CNINetwork(); ok {
		if _, err := e.CNINetwork(name); err != nil {
			return record, networks.Network{}, err
		}
		in := slices.ContainsFunc(record.Attachments, func(a container.Attachment) bool { return a.Network == r.Plug.Network })
		switch {
		case leaves && !in:
			err = fmt.Errorf("container %s, network %s: %w", record.Name, r.Plug.Network, ErrNotConnected)
		case leaves:
			err = fmt.Errorf("network %s, container %s: plugins disconnect a container when it ends: `containr stop %s`", r.Plug.Network, record.Name, record.Name)
		case in:
			err = fmt.Errorf("container %s, network %s: %w", record.Name, r.Plug.Network, ErrConnected)
		default:
			err = fmt.Errorf("network %s, container %s: plugins connect a container when it starts: say --network %s at run", r.Plug.Network, record.Name, r.Plug.Network)
		}
		return record, networks.Network{}, err
	}
	if err := e.refuseOther(r.Plug.Network, map[bool]string{false: "connected with", true: "left"}[leaves]); err != nil {
		return record, networks.Network{}, err
	}
	store, err := e.networks()
	if err != nil {
		return record, networks.Network{}, err
	}
	n, err := store.Get(r.Plug.Network)
	if !leaves {
		n, err = e.findNetwork(ctx, store, r.Plug.Network)
	}
	if err == nil && n.Backend == BackendNetavark {
		err = fmt.Errorf("network %s, container %s: netavark connects a container when it starts, and disconnects it when it ends: say --network %s at run: %w", n.Name, record.Name, n.Name, ErrNotByBackend)
	}
	return record, n, err
}

// plugIn makes what a container that runs needs for an endpoint. record is the container's as
// it was before.
func (e *Engine) plugIn(endpoint container.Endpoint, record container.Record, n networks.Network) error {
	st, err := e.State(record)
	if err != nil || st.PID == 0 {
		return err
	}
	if err := e.noteForwarding(); err != nil {
		return err
	}
	planned, err := e.plannedEndpoints(append(slices.Clone(record.Endpoints), endpoint))
	if err != nil {
		return err
	}
	last := len(planned) - 1
	before, err := e.forwardsBefore()
	if err != nil {
		return err
	}
	lead(planned)
	former, now := allPorts(ruled(record.Config, record.Published), planned[:last]), allPorts(ruled(record.Config, record.Published), planned)
	in := bridge.Input{PID: namespace.PID, Host: before, Ports: without(now, former)}
	planned[last].Takes = leadsAnywhere(planned[:last])
	in.Endpoints = planned[last:]
	if err := e.retract(record.ID, bridge.Publish(without(former, now))); err != nil {
		return err
	}
	err = e.extend(record.ID, append(e.entrancesFor(planned, in.Ports), bridge.Connect(in)...))
	if err != nil && planned[last].Takes { // what was before is again
		err = errors.Join(err, e.extend(record.ID, leadAgain(planned[:last], without(former, now))))
	}
	return err
}

// without are the ports of a list that are not in another one.
func without(list, other []bridge.Port) []bridge.Port {
	return slices.DeleteFunc(slices.Clone(list), func(p bridge.Port) bool { return slices.Contains(other, p) })
}

// leadAgain plans that a container's networks are the way to everywhere else that are it by rights, and that ports lead there.
func leadAgain(endpoints []bridge.Endpoint, ports []bridge.Port) (steps []plan.Step) {
	endpoints = slices.Clone(endpoints)
	lead(endpoints)
	for _, e := range endpoints {
		if e.Takes = true; e.Leads != (bridge.Versions{}) {
			steps = append(steps, bridge.Lead(e, namespace.PID)...)
		}
	}
	return append(steps, bridge.Publish(ports)...)
}

// retract makes the inverses of steps, for a container that runs or not.
func (e *Engine) retract(id string, steps []plan.Step) error {
	if len(steps) == 0 {
		return nil
	}
	rt, err := e.runtime()
	if err != nil {
		return err
	}
	return rt.Retract(id, (&plan.Plan{Steps: steps}).Undo())
}

// RunningIDs lists the containers that run.
func (e *Engine) RunningIDs() ([]string, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	records, err := containers.List()
	var ids []string
	for _, r := range records {
		if st, err := e.State(r); err == nil && st.PID != 0 {
			ids = append(ids, r.ID)
		}
	}
	return ids, err
}

// ReloadNetwork makes the rules of a container's networks and ports again, if it runs: somebody
// may have thrown away the host's. What is there stays.
func (e *Engine) ReloadNetwork(ctx context.Context, ref string) (container.Record, error) {
	lock, err := e.lockNetworks(ctx, ref)
	if err != nil {
		return container.Record{}, err
	}
	defer lock.Release()
	record, err := e.Get(ctx, ref)
	switch {
	case err != nil:
		return record, err
	case len(record.Endpoints) == 0 && len(record.Attachments) > 0:
		return record, fmt.Errorf("container %s, network %s: its plugins made the rules when it started, and do so again when it is restarted: %w", record.Name, record.Attachments[0].Network, ErrNothingToReload)
	case len(record.Endpoints) == 0:
		return record, fmt.Errorf("container %s, --network %s: %w", record.Name, record.Config.Namespaces.Network, ErrNothingToReload)
	}
	in := bridge.Input{PID: namespace.PID}
	if in.Endpoints, err = e.plannedEndpoints(record.Endpoints); err != nil {
		return record, err
	}
	in.Ports = allPorts(ruled(record.Config, record.Published), in.Endpoints)
	steps := append(e.entrancesFor(in.Endpoints, in.Ports), bridge.Reload(in)...)
	if in.Endpoints[0].Network.Hub {
		steps = append(steps, e.carried(record.ID, record.Published)...)
	}
	return record, errors.Join(e.extend(record.ID, steps), e.enforce(ctx, record))
}

// extend makes further steps for a container, if it still runs.
func (e *Engine) extend(id string, steps []plan.Step) error {
	rt, err := e.runtime()
	if err != nil {
		return err
	}
	if hub, err := e.usesHub(); err != nil {
		return err
	} else if hub {
		steps = inHub(steps)
	}
	err = rt.Extend(id, steps)
	if errors.Is(err, runtime.ErrNotRunning) || errors.Is(err, runtime.ErrNotFound) {
		return nil // it has just ended
	}
	return err
}

// plannedEndpoints are a container's endpoints with what is known of their networks.
func (e *Engine) plannedEndpoints(endpoints []container.Endpoint) ([]bridge.Endpoint, error) {
	store, err := e.networks()
	if err != nil {
		return nil, err
	}
	hub, err := e.usesHub()
	if err != nil {
		return nil, err
	}
	var list []bridge.Endpoint
	for _, endpoint := range endpoints {
		n, err := store.Get(endpoint.Network)
		if err != nil {
			return nil, err
		}
		if n.ID != endpoint.NetworkID {
			return nil, fmt.Errorf("network %s: it was removed, and this is another one of the same name: %w", n.Name, networks.ErrNotFound)
		}
		planned, err := plannedEndpoint(endpoint, n)
		if err != nil {
			return nil, err
		}
		planned.Network.Hub = hub
		list = append(list, planned)
	}
	return list, nil
}

// forgetEndpoint takes an endpoint out of a container's record, and gives its addresses back.
func (e *Engine) forgetEndpoint(ctx context.Context, id string, endpoint container.Endpoint) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	_, err = containers.Change(context.WithoutCancel(ctx), id, func(c *container.Record) error {
		before := slices.Clone(c.Endpoints)
		c.Endpoints = slices.DeleteFunc(c.Endpoints, func(p container.Endpoint) bool { return p.NetworkID == endpoint.NetworkID })
		return e.renewFiles(c, before, c.Endpoints)
	})
	if err == nil {
		err = e.renewNames(ctx, id)
	}
	return errors.Join(err, e.unplug(id, []container.Endpoint{endpoint}), e.renewPolicies(ctx, []container.Endpoint{endpoint}))
}

// Disconnect takes a container out of a network, at once. If the container's way to everywhere
// else, and its published ports, went through it, the next one takes over.
func (e *Engine) Disconnect(ctx context.Context, r ConnectRequest) error {
	lock, err := e.lockNetworks(ctx, r.Container)
	if err != nil {
		return err
	}
	defer lock.Release()
	record, n, err := e.both(ctx, r, true)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(record.Endpoints, func(p container.Endpoint) bool { return p.NetworkID == n.ID })
	if i < 0 { // if who connected them was killed, there may be an address
		return errors.Join(fmt.Errorf("container %s, network %s: %w", record.Name, n.Name, ErrNotConnected),
			e.unplug(record.ID, []container.Endpoint{{Plug: container.Plug{Network: n.Name}}}))
	}
	planned, err := e.plannedEndpoints(record.Endpoints)
	if err != nil {
		return err
	}
	if to := relayedTo(planned); record.Config.PublishPolicy == container.PublishFirewall && len(record.Published) > 0 && to != relayedTo(slices.Delete(slices.Clone(planned), i, i+1)) && e.runs(record) {
		return fmt.Errorf("container %s, network %s, --publish-policy %s: its ports lead there: %w", record.Name, n.Name, record.Config.PublishPolicy, ErrPortsAtStart)
	}
	steps := append(slices.Concat(bridge.Publish(allPorts(ruled(record.Config, record.Published), planned[i:i+1])), planned[i].Bind()), plan.Step{Undo: linux.DeleteLink{Link: record.Endpoints[i].Link}})
	if err := e.retract(record.ID, steps); err != nil {
		return err
	}
	if planned[i].Network.Shared.Kind != "" {
		drop := plan.Build(plan.Host, plan.NetworkChapter)
		drop.Do("the container leaves the network", linux.DropLink{PID: namespace.PID, Link: planned[i].Interface})
		if err := e.extend(record.ID, drop.Steps); err != nil {
			return err
		}
	}
	left := slices.Delete(slices.Clone(planned), i, i+1)
	lead(planned)
	lead(left)
	ports := without(allPorts(ruled(record.Config, record.Published), left), allPorts(ruled(record.Config, record.Published), planned))
	for _, next := range left {
		next.Leads.Four = next.Leads.Four && planned[i].Leads.Four
		next.Leads.Six = next.Leads.Six && planned[i].Leads.Six
		if err == nil && next.Leads != (bridge.Versions{}) {
			err = e.extend(record.ID, bridge.Lead(next, namespace.PID))
		}
	}
	if err == nil && len(ports) > 0 {
		err = e.extend(record.ID, bridge.Publish(ports))
	}
	if err == nil {
		err = e.forgetEndpoint(ctx, record.ID, record.Endpoints[i])
	}
	if err == nil {
		e.tellConnection("disconnect", record, n)
	}
	return err
}

// tellConnection says that a container has come into a network, or has left it.
func (e *Engine) tellConnection(action string, record container.Record, n networks.Network) {
	e.write(events.Event{Type: events.Network, Action: action, ID: n.ID, Attributes: events.Attributes("name", n.Name, "type", n.Driver, "container", record.ID)})
}
