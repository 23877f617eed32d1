package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/network/apply"
	"github.com/containr/containr/pkg/network/bridge"
	"github.com/containr/containr/pkg/networks"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/runtime"
)

// plug gives the container addresses in its networks, and ports of the host. They are its
// own until unplug, or until there is no such container.
func (e *Engine) plug(ctx context.Context, p *prepared) (err error) {
	if p.attachments, err = e.attach(p.config); err != nil {
		return err
	}
	if hub, err := e.usesHub(); err != nil {
		return err
	} else if hub {
		p.config.PublishPolicy = "" // a program listens in any case
	}
	names := askedInterfaces(p.config.Networks)
	for _, a := range p.attachments {
		names = append(names, a.Interface)
	}
	for i, plug := range p.config.Networks {
		if _, plugins := plug.CNINetwork(); plugins {
			continue
		}
		if plug.Interface == "" {
			plug.Interface = freeInterface(i, names)
			names = append(names, plug.Interface)
		}
		endpoint, n, err := e.lease(ctx, p.place.ID, i, plug)
		if err == nil {
			err = e.checkBackend(n)
		}
		if err != nil {
			return err
		}
		if n.Backend == BackendNetavark {
			p.attachments = append(p.attachments, e.netavarkAttachment(endpoint))
			continue
		}
		p.endpoints = append(p.endpoints, endpoint)
	}
	forwardNames(p.endpoints, p.config.DNS, e.isBridged)
	if err := e.checkPolicies(p.config, p.endpoints); err != nil {
		return err
	}
	var exposed map[string]struct{}
	if p.image != nil {
		exposed = p.image.Config.Config.ExposedPorts
	}
	ports, err := container.Ports(p.config, exposed)
	if err != nil || len(ports) == 0 {
		return err
	}
	if err := e.canPublish(p.config, p.endpoints, ports); err != nil {
		return err
	}
	if err := checkRelay(p.config, ports, p.attachments, len(p.endpoints) > 0); err != nil {
		return err
	}
	p.published, err = e.choosePorts(ctx, ports)
	return err
}

// ErrLoopback6 means that a port is to be published at ::1 of the host.
var ErrLoopback6 = errors.New("what is sent to ::1 cannot leave the host for a container, as what is sent to 127.0.0.1 can")

// canPublish refuses ports that rules cannot lead to a container: all, if it is in networks of the drivers macvlan and ipvlan
// only, and those at ::1, where no program of ours listens.
func (e *Engine) canPublish(c container.Config, endpoints []container.Endpoint, ports []container.Port) error {
	planned, err := e.plannedEndpoints(endpoints)
	if len(planned) > 0 && !planned[0].Network.Hub {
		for _, p := range ruled(c, ports) {
			if p.HostIP == "::1" {
				return fmt.Errorf("port %s of the host: %w", portText(p), ErrLoopback6)
			}
		}
	}
	if err != nil || len(planned) == 0 || slices.ContainsFunc(planned, func(p bridge.Endpoint) bool { return p.Network.Shared.Kind == "" }) {
		return err
	}
	return fmt.Errorf("network %s, driver %s: %w", endpoints[0].Network, planned[0].Network.Shared.Kind, ErrNoPortsThere)
}

// ErrNoNames means that a container is to have a name in a network where nobody answers for names.
var ErrNoNames = errors.New("nobody answers for names in this network")

// maxEndpoints is how many networks a container may be in.
const maxEndpoints = 32

// lease connects a container with a network, on paper. The plug says what its device is called.
func (e *Engine) lease(ctx context.Context, id string, index int, plug container.Plug) (container.Endpoint, networks.Network, error) {
	none, n := container.Endpoint{}, networks.Network{}
	if index >= maxEndpoints {
		return none, n, fmt.Errorf("network %s: a container can be in %d networks", plug.Network, maxEndpoints)
	}
	store, containers, err := e.stores()
	if err != nil {
		return none, n, err
	}
	var wanted []netip.Addr
	for _, s := range []string{plug.IPv4, plug.IPv6} {
		if a, err := netip.ParseAddr(s); err == nil {
			wanted = append(wanted, a)
		}
	}
	n, given, err := store.Lease(ctx, plug.Network, id, wanted, containers.Alive)
	if errors.Is(err, networks.ErrNotFound) && (isDefaultNetwork(plug.Network) || e.options.NetworkBackend == BackendNetavark && plug.Network == NetavarkNetwork) {
		if err := e.createDefaultNetwork(ctx); err != nil {
			return none, n, err
		}
		n, given, err = store.Lease(ctx, plug.Network, id, wanted, containers.Alive)
	}
	if err != nil {
		return none, n, err
	}
	if len(plug.Aliases) > 0 && !n.Resolver().IsValid() {
		return none, n, errors.Join(fmt.Errorf("network %s, name %s: %w", n.Name, plug.Aliases[0], ErrNoNames), store.Release(n.Name, id))
	}
	out := container.Endpoint{Plug: plug, NetworkID: n.ID, Link: "ctr" + id[:9] + "-" + strconv.Itoa(index)}
	out.Network, out.Internal = n.Name, n.Internal
	if r := n.Resolver(); r.IsValid() {
		out.Resolver = r.String()
	}
	for i, a := range given {
		out.Prefixes = append(out.Prefixes, a.String())
		out.Gateways = append(out.Gateways, n.Subnets[i].Gateway.String())
	}
	if out.MAC == "" {
		out.MAC = net.HardwareAddr(bridge.MAC(given[0].Addr())).String()
	}
	return out, n, nil
}

// createDefaultNetwork makes the network that is there by itself. If there is a device of its usual name, that is the one of
// another state root.
func (e *Engine) createDefaultNetwork(ctx context.Context) error {
	n := networks.Network{Name: networks.Default, Bridge: networks.DefaultBridge}
	if _, err := net.InterfaceByName(n.Bridge); err == nil {
		n.Bridge = ""
	}
	if e.options.NetworkBackend == BackendNetavark {
		n = networks.Network{Name: NetavarkNetwork}
	}
	_, err := e.CreateNetwork(ctx, NetworkRequest{Network: n})
	if errors.Is(err, networks.ErrExists) {
		return nil
	}
	return err
}

// findNetwork finds a network by its name or id. The default one, which users take to be there, is made if it is not; an ordinary user has
// none.
func (e *Engine) findNetwork(ctx context.Context, store *networks.Store, ref string) (networks.Network, error) {
	n, err := store.Get(ref)
	if !errors.Is(err, networks.ErrNotFound) || !isDefaultNetwork(ref) || e.options.NetworkBackend != "" && e.options.NetworkBackend != BackendBuiltin {
		return n, err
	}
	if hub, hubErr := e.usesHub(); hubErr != nil || hub {
		return n, errors.Join(err, hubErr)
	}
	if err := e.createDefaultNetwork(ctx); err != nil {
		return n, err
	}
	return store.Get(ref)
}

func isDefaultNetwork(name string) bool {
	return name == networks.Default || name == container.NetworkBridge || name == "default"
}

func (e *Engine) stores() (*networks.Store, *container.Store, error) {
	store, err := e.networks()
	if err != nil {
		return nil, nil, err
	}
	containers, err := e.containers()
	return store, containers, err
}

// defaultNetwork is the network of a container that names none; why says why it is none, if another cannot be made.
func (e *Engine) defaultNetwork(c container.Config) (word, why string, err error) {
	word = e.options.Network
	if word == "" || container.IsNetworkWord(word) || c.Namespaces.Network != "" || len(c.Networks) > 0 {
		return word, "", nil
	}
	facts, err := e.facts()
	if err != nil {
		return "", "", err
	}
	if !facts.Root() {
		word, why = e.ordinaryNetwork()
		return word, why, nil
	}
	link, err := e.defaultLink()
	if err != nil {
		return "", "", err
	}
	if why = apply.Unable(facts, link); why != "" {
		return container.NetworkNone, why, nil
	}
	return word, "", nil
}

// warnOfNoNetwork is for a container that names no network, and can have none.
func warnOfNoNetwork(why string) {
	if why != "" {
		slog.Warn("no network can be made here: the container has none, as with --network none, which does away with this message; containr doctor says what mends it", "reason", why)
	}
}

// defaultLink is the device of the default network.
func (e *Engine) defaultLink() (string, error) {
	store, err := e.networks()
	if err != nil {
		return "", err
	}
	n, err := store.Get(networks.Default)
	if errors.Is(err, networks.ErrNotFound) {
		return networks.DefaultBridge, nil
	}
	return n.Bridge, err
}

// unplug gives the addresses of a container back.
func (e *Engine) unplug(id string, endpoints []container.Endpoint) error {
	if len(endpoints) == 0 {
		return nil
	}
	store, err := e.networks()
	for _, endpoint := range endpoints {
		if err == nil {
			err = store.Release(endpoint.Network, id)
		}
	}
	return err
}

// networkSteps plans the network of a container that is to be started.
func (e *Engine) networkSteps(id string, c container.Config, endpoints []container.Endpoint, published []container.Port) ([]plan.Step, error) {
	if len(endpoints) == 0 {
		return nil, nil
	}
	before, err := e.forwardsBefore()
	if err != nil {
		return nil, err
	}
	in := bridge.Input{PID: namespace.PID, Host: before}
	if in.Endpoints, err = e.plannedEndpoints(endpoints); err != nil {
		return nil, err
	}
	lead(in.Endpoints)
	in.Ports = allPorts(ruled(c, published), in.Endpoints)
	relay, err := e.relaySteps(id, c, in.Endpoints, published)
	return append(bridge.Connect(in), relay...), err
}

// lead decides which networks are the way to everywhere else, in each version of IP.
func lead(endpoints []bridge.Endpoint) {
	for i := range endpoints {
		endpoints[i].Leads = bridge.Versions{Four: bridge.Leader(endpoints, false) == i, Six: bridge.Leader(endpoints, true) == i}
	}
}

// leadsAnywhere reports whether one of them is.
func leadsAnywhere(endpoints []bridge.Endpoint) bool {
	return bridge.Leader(endpoints, false) >= 0 || bridge.Leader(endpoints, true) >= 0
}

func plannedNetwork(n networks.Network) bridge.Network {
	b := bridge.Network{Link: n.Bridge, MTU: n.MTU, Internal: n.Internal, Isolated: n.Isolated, Unmasked: n.Unmasked, Own: n.Backend == ""}
	if n.Driver != networks.DriverBridge {
		b.Shared = bridge.Shared{Kind: n.Driver, Mode: n.Mode, Flag: n.Flag, Parent: n.Parent, Base: n.Base, VLAN: n.VLAN}
	} else if n.MTU == 0 {
		b.MTU = uplinkMTU()
	}
	for _, s := range n.Subnets {
		b.Subnets = append(b.Subnets, bridge.Subnet{Prefix: s.Prefix, Gateway: s.Gateway})
	}
	return b
}

func plannedEndpoint(endpoint container.Endpoint, n networks.Network) (bridge.Endpoint, error) {
	out := bridge.Endpoint{Network: plannedNetwork(n), Link: endpoint.Link, Interface: endpoint.Interface, Bound: true, Priority: endpoint.Priority}
	mac, err := net.ParseMAC(endpoint.MAC)
	if err != nil {
		return out, err
	}
	out.MAC = string(mac)
	for _, s := range endpoint.Prefixes {
		a, err := netip.ParsePrefix(s)
		if err != nil {
			return out, err
		}
		out.Addresses = append(out.Addresses, a)
	}
	return out, nil
}

// portsTo is what a published port is for each version of IP: it leads to the container's address in the network that is the way to
// everywhere else, so that answers take the same way; or if the host is not in that one, in the first that it is in.
func portsTo(p container.Port, endpoints []bridge.Endpoint) []bridge.Port {
	var list []bridge.Port
	for _, six := range []bool{false, true} {
		port := bridge.Port{Protocol: p.Protocol, HostPort: p.HostPort, Container: p.Port}
		if p.HostIP != "" {
			a := netip.MustParseAddr(p.HostIP) // as ParsePorts wrote it
			if a.Is6() != six {
				continue
			}
			if !a.IsUnspecified() {
				port.Host = a
			}
		}
		bridged := slices.DeleteFunc(slices.Clone(endpoints), func(e bridge.Endpoint) bool { return e.Network.Shared.Kind != "" })
		i := bridge.Leader(bridged, six)
		if i < 0 {
			continue
		}
		if bridged[i].Network.Hub && port.Host.IsValid() {
			port.Host = hubNet().Entrance(port.Host, six)
		}
		for _, a := range bridged[i].Addresses {
			if a.Addr().Is6() == six {
				port.To = a.Addr()
			}
		}
		list = append(list, port)
	}
	return list
}

// forwardsBefore is what whoever leads packets between networks does with them: the host, or an ordinary user's hub, which
// does nothing that it is not told.
func (e *Engine) forwardsBefore() (bridge.Host, error) {
	hub, err := e.usesHub()
	if err != nil || hub {
		return bridge.Host{}, err
	}
	return lookAtForwarding(), nil
}

// lookAtForwarding reads what the host does with packets that are not for it.
func lookAtForwarding() bridge.Host {
	on := func(path string) bool { return strings.TrimSpace(string(readIfThere("/proc/sys/net/"+path))) == "1" }
	h := bridge.Host{Forwards4: on("ipv4/ip_forward"), Forwards6: on("ipv6/conf/all/forwarding")}
	if h.Forwards6 {
		return h
	}
	entries, err := os.ReadDir("/proc/sys/net/ipv6/conf")
	if err != nil { // there is no version 6
		return h
	}
	for _, entry := range entries {
		if name := entry.Name(); name != "all" && name != "default" && name != "lo" && !isPort(name) && on("ipv6/conf/"+name+"/accept_ra") {
			h.Listens = append(h.Listens, name)
		}
	}
	return h
}

// isPort: the device is plugged into a bridge, and so has no addresses or routes of its own to learn.
func isPort(device string) bool {
	_, err := os.Lstat("/sys/class/net/" + device + "/brport")
	return err == nil
}

// forwardingFile notes what the host did with packets that are not for it, before it was
// changed for networks.
func (e *Engine) forwardingFile() string { return filepath.Join(e.run, "forwarding.json") }

// noteForwarding writes down what is about to be changed, unless that has been done.
func (e *Engine) noteForwarding() error {
	if hub, err := e.usesHub(); err != nil || hub { // nothing of the host's is changed
		return err
	}
	h := lookAtForwarding()
	if h.Forwards4 && h.Forwards6 {
		return nil
	}
	data, err := quickjson.Append(nil, h)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(e.run, 0o700); err != nil {
		return err
	}
	if _, err := os.Lstat(e.forwardingFile()); err == nil {
		return nil
	}
	// In one piece, or who is killed would leave a note that nobody can read. Whoever writes one
	// at the same time has seen the same: nothing is changed before it is there.
	return durable.WriteFile(e.forwardingFile(), data, durable.Options{Volatile: true})
}

// restoreForwarding has the host do with packets what it did before there were networks.
func (e *Engine) restoreForwarding() error {
	data, err := os.ReadFile(e.forwardingFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var h bridge.Host
	if err == nil {
		err = quickjson.Decode(string(data), &h)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", e.forwardingFile(), err)
	}
	set := func(path, value string) error {
		err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0)
		if errors.Is(err, fs.ErrNotExist) { // the device is gone
			return nil
		}
		return err
	}
	if !h.Forwards4 {
		err = set("ipv4/ip_forward", "0")
	}
	if !h.Forwards6 {
		err = errors.Join(err, set("ipv6/conf/all/forwarding", "0"))
		for _, name := range h.Listens {
			err = errors.Join(err, set("ipv6/conf/"+name+"/accept_ra", "1"))
		}
	}
	cutOff, _ := filepath.Glob(e.forwardingFile() + ".tmp-*") // the pattern is right
	for _, path := range cutOff {
		err = errors.Join(err, os.Remove(path))
	}
	return errors.Join(err, os.Remove(e.forwardingFile()))
}

// connect completes a request by the container's network. live says that it is to be made, and not only to be shown.
func (e *Engine) connect(req *runtime.CreateRequest, name string, c container.Config, endpoints []container.Endpoint, published []container.Port, live bool) (err error) {
	if u, ok := c.Namespaces.UserNetwork(); ok {
		req.Network, err = e.userNetworkSteps(req.ID, c.Namespaces, u, published)
		return err
	}
	hub, err := e.usesHub()
	if err != nil {
		return err
	}
	if req.Network, err = e.policySteps(req.ID, name, c, endpoints); err != nil {
		return err
	}
	if hub && len(endpoints) > 0 {
		return e.connectInHub(req, c, endpoints, published, live)
	}
	steps, err := e.networkSteps(req.ID, c, endpoints, published)
	req.Network = append(req.Network, steps...)
	return err
}

// NetworkRequest asks for a network.
type NetworkRequest struct {
	// Network has what was asked for: Subnets may be incomplete, or missing.
	Network networks.Network
	// NoIPv6 leaves out the subnet of version 6 that every network has otherwise.
	NoIPv6 bool
}

// ErrNetworkNeedsRoot means that an ordinary user asks for a network that only root can have.
var ErrNetworkNeedsRoot = errors.New("that takes root")

// canHaveNetwork refuses networks that an ordinary user cannot have: those of the host's devices, and where nobody carries
// packets.
func (e *Engine) canHaveNetwork(n networks.Network) error {
	if n.Driver != "" && n.Driver != networks.DriverBridge {
		return fmt.Errorf("driver %s, a share of a device of the host's: %w", n.Driver, ErrNetworkNeedsRoot)
	}
	if n.Name == networks.Default {
		return fmt.Errorf("the default network is root's: %w", ErrNetworkNeedsRoot)
	}
	if e.NetworkProgram() == "" {
		return ErrNoNetworkProgram
	}
	if err := canMakeTaps(); err != nil {
		return fmt.Errorf("%w: %w", container.ErrNoNetwork, err)
	}
	return nil
}

// CreateNetwork makes a network. Nothing of it is in the kernel before a container is.
func (e *Engine) CreateNetwork(ctx context.Context, r NetworkRequest) (networks.Network, error) {
	n := r.Network
	facts, err := e.facts()
	if err != nil {
		return n, err
	}
	switch e.options.NetworkBackend {
	case BackendCNI:
		return n, fmt.Errorf("network %s: --network-backend %s: networks are files in %s there, and its name is to be written into one: %w", n.Name, BackendCNI, e.cniDirs().Conf, ErrNotByBackend)
	case BackendNetavark:
		if n, err = e.forNetavark(n); err != nil {
			return n, err
		}
	}
	if !facts.Root() {
		if err := e.canHaveNetwork(n); err != nil {
			return n, fmt.Errorf("network %s: %w", n.Name, err)
		}
	}
	store, err := e.networks()
	if err != nil {
		return n, err
	}
	if n.Driver == "" {
		n.Driver = networks.DriverBridge
	}
	if n.Driver != networks.DriverBridge {
		if n, err = sharing(store, n); err != nil {
			return n, fmt.Errorf("network %s: %w", n.Name, err)
		}
		if n, err = store.Create(ctx, n, nil); err == nil { // its addresses are those of the host's network
			e.tellNetwork(events.Create, n)
		}
		return n, err
	}
	if n.Bridge != "" && facts.Root() {
		if _, err := net.InterfaceByName(n.Bridge); err == nil {
			return n, fmt.Errorf("network %s, device %s: %w", n.Name, n.Bridge, apply.ErrForeign)
		}
	}
	six := slices.IndexFunc(n.Subnets, func(s networks.Subnet) bool { return s.Prefix.Addr().Is6() })
	switch has := kernelHasIPv6(); {
	case six >= 0 && !has:
		return n, fmt.Errorf("network %s, subnet %s: %w", n.Name, n.Subnets[six].Prefix, ErrNoIPv6)
	case six < 0 && has && !r.NoIPv6:
		n.Subnets = append(n.Subnets, networks.Subnet{})
	}
	routes, err := hostRoutes()
	if err != nil {
		return n, err
	}
	if !facts.Root() {
		routes = append(routes, hubNet().IPv4, hubNet().IPv6)
	}
	n, err = store.Create(ctx, n, routes)
	if err == nil {
		e.tellNetwork(events.Create, n)
	}
	return n, err
}

// ErrNoIPv6 means that a network is to have addresses of version 6 of IP, and no device of a container can have one.
var ErrNoIPv6 = errors.New("this kernel has no IPv6")

// kernelHasIPv6 reports whether devices of a new network namespace can have addresses of version 6. What sysctl says of the host's own is
// no matter; ipv6.disable_ipv6 on the kernel's command line is for all namespaces.
func kernelHasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil && strings.TrimSpace(string(readIfThere("/sys/module/ipv6/parameters/disable_ipv6"))) != "1"
}

// hostRoutes lists the ranges of addresses that the host knows a way to.
func hostRoutes() ([]netip.Prefix, error) {
	r, err := sys.OpenRoute()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	routes, err := r.Routes()
	var list []netip.Prefix
	for _, route := range routes {
		if a, ok := netip.AddrFromSlice([]byte(route.Address)); ok && !a.IsMulticast() && !a.IsLinkLocalUnicast() {
			list = append(list, netip.PrefixFrom(a, route.Bits))
		}
	}
	return list, err
}

// Networks lists the networks, by name.
func (e *Engine) Networks() ([]networks.Network, error) {
	store, err := e.networks()
	if err != nil {
		return nil, err
	}
	return store.List()
}

// Network finds a network by its name or id, with the containers that are in it.
func (e *Engine) Network(ctx context.Context, ref string) (networks.Network, []container.Record, error) {
	store, containers, err := e.stores()
	if err != nil {
		return networks.Network{}, nil, err
	}
	n, err := e.findNetwork(ctx, store, ref)
	if err != nil {
		return n, nil, err
	}
	records, err := containers.List()
	return n, slices.DeleteFunc(records, func(r container.Record) bool {
		return !slices.ContainsFunc(r.Endpoints, func(p container.Endpoint) bool { return p.NetworkID == n.ID }) &&
			!slices.ContainsFunc(r.Attachments, func(a container.Attachment) bool { return a.NetworkID == n.ID })
	}), err
}
