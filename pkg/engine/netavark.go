package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/network/cni"
	"github.com/containr/containr/pkg/networks"
)

// NetavarkNetwork is the network of those who name none, where netavark makes networks.
const NetavarkNetwork = "netavark"

// ErrOtherBackend means that a network belongs to another back end than the one that was asked for.
var ErrOtherBackend = errors.New("another back end makes this network")

// ErrNotByBackend means that the back end that makes a network cannot do that.
var ErrNotByBackend = errors.New("the network's back end cannot do that")

// netavarkBin are the directories where netavark is looked for: its usual ones, unless others are named for plugins.
func (e *Engine) netavarkBin() []string {
	if len(e.options.CNIBin) > 0 && !slices.Equal(e.options.CNIBin, cni.DefaultBin) {
		return e.options.CNIBin
	}
	return cni.NetavarkBin
}

// forNetavark completes a network that netavark is to make, and refuses what it cannot have there.
func (e *Engine) forNetavark(n networks.Network) (networks.Network, error) {
	facts, err := e.facts()
	if err != nil {
		return n, err
	}
	if !facts.Root() {
		return n, fmt.Errorf("network %s, by netavark: %w", n.Name, ErrNetworkNeedsRoot)
	}
	if _, err := cni.FindNetavark(e.netavarkBin()); err != nil {
		return n, fmt.Errorf("network %s: %w", n.Name, err)
	}
	for _, refused := range []struct {
		is   bool
		what string
	}{
		{n.Driver != "" && n.Driver != networks.DriverBridge, "driver " + n.Driver + ", and not bridge"},
		{n.Isolated, "keeping its containers apart"},
		{n.Unmasked, "showing their addresses to other machines"},
		{n.Name == networks.Default, "the default network of the back end builtin"},
	} {
		if refused.is {
			return n, fmt.Errorf("network %s: netavark: %s: %w", n.Name, refused.what, ErrNotByBackend)
		}
	}
	n.Backend, n.NoNames = BackendNetavark, true
	return n, nil
}

// preferNetavark is what a name means where netavark makes networks: only that of the usual one is another.
func preferNetavark(name string) (string, error) {
	if isDefaultNetwork(name) {
		name = NetavarkNetwork
	}
	return name, nil
}

// checkBackend refuses a network that the back end that was asked for does not make.
func (e *Engine) checkBackend(n networks.Network) error {
	if e.options.NetworkBackend == BackendNetavark && n.Backend != BackendNetavark {
		return fmt.Errorf("network %s: --network-backend %s, and the network is of %s: %w", n.Name, BackendNetavark, BackendBuiltin, ErrOtherBackend)
	}
	return nil
}

// netavarkAttachment is how a container is connected with a network that netavark makes. The addresses are chosen here.
func (e *Engine) netavarkAttachment(p container.Endpoint) container.Attachment {
	return container.Attachment{Plug: p.Plug, NetworkID: p.NetworkID, Bin: e.netavarkBin(), Addresses: p.Prefixes}
}

// netavarkRequest asks for it, with the network as it is now.
func (e *Engine) netavarkRequest(id string, a container.Attachment) (cni.Request, error) {
	store, err := e.networks()
	if err != nil {
		return cni.Request{}, err
	}
	n, err := store.Get(a.NetworkID)
	if err != nil {
		return cni.Request{}, err
	}
	if _, err := cni.FindNetavark(a.Bin); err != nil {
		return cni.Request{}, fmt.Errorf("network %s: %w", n.Name, err)
	}
	told := cni.NetavarkNetwork{Name: n.Name, ID: n.ID, Driver: n.Driver, Link: n.Bridge, Internal: n.Internal, IPAM: map[string]string{"driver": "host-local"}}
	mtu := n.MTU
	if mtu == 0 {
		mtu = uplinkMTU()
	}
	if mtu > 0 {
		told.Options = map[string]string{"mtu": strconv.Itoa(mtu)}
	}
	for _, s := range n.Subnets {
		told.Subnets = append(told.Subnets, cni.NetavarkSubnet{Subnet: s.Prefix, Gateway: s.Gateway})
		told.IPv6 = told.IPv6 || s.Prefix.Addr().Is6()
	}
	r := cni.Request{Container: id, Interface: a.Interface, MAC: a.MAC, Bin: a.Bin}
	if r.Network, err = cni.Netavark(told); err != nil {
		return r, err
	}
	for _, text := range a.Addresses {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return r, err
		}
		r.Addresses = append(r.Addresses, p)
	}
	return r, nil
}

// resultName is the name under which what was said of an attachment is kept.
func resultName(a container.Attachment) string {
	if a.NetworkID != "" {
		return cni.NetavarkResult(a.Network)
	}
	name, _ := a.CNINetwork()
	return name
}

// byNetavark reports whether netavark makes one of a container's networks.
func byNetavark(list []container.Attachment) bool {
	return slices.ContainsFunc(list, func(a container.Attachment) bool { return a.NetworkID != "" })
}
