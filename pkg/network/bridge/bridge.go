// Package bridge plans the networks of containers that are bridges.
//
// # Theory of operation
//
// A network is a bridge, a switch in the kernel, that the host is plugged into with the
// gateway's address. A container is plugged in with a cable, a veth pair. What leaves for
// elsewhere goes through the host, which forwards it and gives it its own address; what comes
// for a published port gets the container's. Connect plans all that, by the host, while the
// child makes its mounts.
//
// The rules for it are in one table of the packet filter that is containr's alone
// (rules.go). They are the same however many networks, containers and ports there are:
// they ask sets and maps, and a container adds elements to those.
//
// The bridge, the table and the host's kernel parameters belong to the network: every
// container's plan makes what of it is not there, and none takes it away. What belongs to
// the container has an inverse.
//
// It is a package of its own, beside what every container needs, so that the OCI runtime
// does not carry it.
package bridge

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/nft"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Subnet is a range of addresses and the one of them that the host has.
type Subnet struct {
	Prefix  netip.Prefix
	Gateway netip.Addr
}

// Network is a bridge with its addresses.
type Network struct {
	// Link is the name of its device.
	Link    string
	MTU     int
	Subnets []Subnet
	// Internal networks lead nowhere but to their containers and the host.
	Internal bool
	// Isolated containers do not reach each other.
	Isolated bool
	// Unmasked containers keep their addresses when they talk to other machines.
	Unmasked bool
	// Own: the device is the network's, and none that was there before. Networks of CNI and netavark share theirs with other programs.
	Own bool
	// Hub says that it is in the network of an ordinary user's hub, where other addresses stand for the host's.
	Hub bool
	// Shared, if its Kind is not empty, makes it no bridge but shares of a device of the host's.
	Shared Shared
}

// Shared is a device of the host's that containers have shares of.
type Shared struct {
	// Kind, Mode and Flag: see linux.AddSubLink.
	Kind, Mode, Flag string
	// Parent is the device. If VLAN is not 0 it is made of the device Base, and is the network's.
	Parent, Base string
	VLAN         int
}

// Endpoint is a container's plug in a network.
type Endpoint struct {
	Network Network
	// Link is the device on the host, and Interface the one in the container.
	Link, Interface string
	// MAC is the container's address on the bridge, 6 bytes.
	MAC string
	// Addresses are the container's, with the lengths of their prefixes.
	Addresses []netip.Prefix
	// Leads: what is for elsewhere leaves through this network.
	Leads Versions
	// Takes: it takes the place of the network that did so before.
	Takes bool
	// Priority decides between networks, see Leader.
	Priority int
	// Bound: the container sends with its own of the network's addresses only, and the bridge learns no hardware address from it.
	Bound bool
}

// Versions are versions of IP.
type Versions struct{ Four, Six bool }

// Has reports whether one of them is among them.
func (v Versions) Has(six bool) bool { return six && v.Six || !six && v.Four }

// Leader is the endpoint that what is for elsewhere, in one version of IP, leaves through, and that published ports lead to: of those whose
// network leads anywhere and has addresses of that version the first with the highest priority; -1 if there is none.
func Leader(endpoints []Endpoint, six bool) int {
	best := -1
	for i, e := range endpoints {
		has := slices.ContainsFunc(e.Addresses, func(a netip.Prefix) bool { return a.Addr().Is6() == six })
		if has && !e.Network.Internal && (best < 0 || e.Priority > endpoints[best].Priority) {
			best = i
		}
	}
	return best
}

// Port is a port of the host's that leads to one of the container's.
type Port struct {
	// Host is the address of the host, invalid for all.
	Host netip.Addr
	// To is the container's address. It has the same version of IP as Host.
	To                  netip.Addr
	Protocol            string
	HostPort, Container uint16
}

// Input is what a container's network depends on.
type Input struct {
	// PID is the register of the container's process.
	PID       plan.Reg
	Endpoints []Endpoint
	Ports     []Port
	Host      Host
}

// Host is what the machine's kernel parameters are before.
type Host struct {
	// Forwards4 and Forwards6: it forwards packets already.
	Forwards4, Forwards6 bool
	// Listens are the devices that learn routes from others, which a machine that forwards
	// does only if it is told to. "default", for those that are made later, is none of them: that
	// would be the cables and bridges of all containers, whoever makes them.
	Listens []string
}

// Connect plans a container's network, as its owner wants it: by the host, as soon as there
// is a process.
func Connect(in Input) []plan.Step {
	if len(in.Endpoints) == 0 {
		return nil
	}
	b := plan.Build(plan.Host, plan.NetworkChapter)
	six, bridges := false, false
	for _, e := range in.Endpoints {
		if e.Network.Shared.Kind != "" {
			continue
		}
		bridges = true
		for _, s := range e.Network.Subnets {
			six = six || s.Prefix.Addr().Is6()
		}
	}
	if bridges {
		makeTable(b)
		makeBridgeTable(b)
		forward(b, in.Host, six)
	}
	for i, e := range in.Endpoints {
		e.Network.make(b)
		e.plug(b, in.PID, plan.Reg("link_"+strconv.Itoa(i)))
	}
	b.Add(Publish(in.Ports))
	for i := range b.Steps {
		b.Steps[i].Early()
	}
	return b.Steps
}

// forward has the host pass packets on.
func forward(b *plan.Builder, h Host, six bool) {
	if !h.Forwards4 {
		b.Do("the host passes packets on between its networks", linux.WriteFile{Path: "/proc/sys/net/ipv4/ip_forward", Data: "1"})
	}
	if h.Forwards6 || !six {
		return
	}
	for _, name := range h.Listens {
		b.Do("a host that passes packets on learns its own routes only if told to", linux.WriteFile{Path: "/proc/sys/net/ipv6/conf/" + name + "/accept_ra", Data: "2"})
	}
	b.Do("and those of version 6", linux.WriteFile{Path: "/proc/sys/net/ipv6/conf/all/forwarding", Data: "1"})
}

// make plans what of the network is not there yet.
func (n Network) make(b *plan.Builder) {
	if n.Shared.Kind != "" {
		if n.Shared.VLAN != 0 {
			b.Do("the network is what is marked so on the host's device", linux.AddVLAN{Parent: n.Shared.Base, Link: n.Shared.Parent, ID: n.Shared.VLAN}).Ok(plan.EEXIST)
		}
		return
	}
	n.join(b)
	b.Do("the network is a switch in the kernel", linux.AddBridge{Link: n.Link, MAC: n.MAC(), MTU: n.MTU, Own: n.Own}).Ok(plan.EEXIST)
	ignoreRouters(b, n.Link)
	if slices.ContainsFunc(n.Subnets, func(s Subnet) bool { return s.Prefix.Addr().Is6() }) {
		b.Do("it has IPv6, whatever the host has said of devices that are made later", linux.WriteFile{Path: "/proc/sys/net/ipv6/conf/" + n.Link + "/disable_ipv6", Data: "0"})
	}
	for _, s := range n.Subnets {
		b.Do("the host is plugged in, as the gateway", linux.AddLinkAddress{Link: n.Link, Local: string(s.Gateway.AsSlice()), Prefix: s.Prefix.Bits()}).Ok(plan.EEXIST)
	}
	if !n.Internal {
		b.Do("what the host sends to its own 127.0.0.1 may leave for a container with a published port; the rules keep others out",
			linux.WriteFile{Path: "/proc/sys/net/ipv4/conf/" + n.Link + "/route_localnet", Data: "1"})
	}
}

// ignoreRouters plans that the host takes no routes from what is at a device of ours. It would learn them even where it passes packets
// on, if whoever set it up has said so for all devices that are made later.
func ignoreRouters(b *plan.Builder, link string) {
	b.Do("no container is the host's router; a kernel without IPv6 has no such file", linux.WriteFile{Path: "/proc/sys/net/ipv6/conf/" + link + "/accept_ra", Data: "0"}).Ok(plan.ENOENT)
}

// join plans that the rules know of the network.
func (n Network) join(b *plan.Builder) {
	for _, m := range n.elements() {
		b.Do("the rules apply to this network", nftStep(m))
	}
	b.Do("all at once", linux.NftCommit{})
}

// MAC is the hardware address of the bridge, 6 bytes: without one of its own it would take another whenever
// a container is plugged in. It tells the bridge from those of others, too.
func (n Network) MAC() string {
	if len(n.Subnets) == 0 {
		return ""
	}
	return MAC(n.Subnets[0].Gateway)
}

// MAC makes an address on a bridge out of an IP address: who knew the one knows the
// other.
func MAC(a netip.Addr) string {
	b := a.AsSlice()
	return "\x02\x42" + string(b[len(b)-4:])
}

// plug plans the cable, and what is at the container's end of it.
func (e Endpoint) plug(b *plan.Builder, pid, link plan.Reg) {
	if s := e.Network.Shared; s.Kind != "" {
		c := linux.AddSubLink{Kind: s.Kind, Mode: s.Mode, Flag: s.Flag, Parent: s.Parent, PID: pid, Link: e.Interface, MAC: e.MAC, MTU: e.Network.MTU}
		if s.Kind == "ipvlan" {
			c.MAC = "" // it has the parent's
		}
		b.Do("a share of the host's device, with an address of its own; it goes with the container", c).As(link)
		e.address(b, pid, link)
		return
	}
	b.Add(e.Bind())
	b.Do("a cable: one end in the switch, the other in the container", linux.AddVeth{Link: e.Link, Bridge: e.Network.Link, Isolated: e.Network.Isolated, Fixed: e.bound(), PID: pid,
		Peer: e.Interface, MAC: e.MAC, MTU: e.Network.MTU}).As(link).Reverse(linux.DeleteLink{Link: e.Link})
	ignoreRouters(b, e.Link)
	// Frames to 01:80:c2:00:00:02 to 0f, for the next device only, would be answered here: see past. IP is thrown away there, ARP is not.
	b.Do("who is asked past the switch has no address; 8 is: none of the host's", linux.WriteFile{Path: "/proc/sys/net/ipv4/conf/" + e.Link + "/arp_ignore", Data: "8"})
	e.address(b, pid, link)
}

// address plans what is at the container's end: addresses, and the way out.
func (e Endpoint) address(b *plan.Builder, pid, link plan.Reg) {
	for _, a := range e.Addresses {
		flags := uint32(0)
		if a.Addr().Is6() {
			flags = noDuplicateCheck
		}
		b.Do("the container's address", linux.AddAddress{PID: pid, Link: link, Local: string(a.Addr().AsSlice()), Prefix: a.Bits(), Flags: flags})
	}
	b.Do("and is up", linux.RaiseLink{PID: pid, Link: link})
	e.leadOut(b, pid, link)
}

// leadOut plans the way to everywhere else, in the versions of IP that the network is to lead in.
func (e Endpoint) leadOut(b *plan.Builder, pid, link plan.Reg) {
	if e.Network.Internal {
		return
	}
	if s := e.Network.Shared; s.Kind != "" {
		for _, subnet := range e.Network.Subnets {
			if !e.Leads.Has(subnet.Prefix.Addr().Is6()) {
				continue
			}
			gateway := string(subnet.Gateway.AsSlice())
			if strings.HasPrefix(s.Mode, "l3") {
				gateway = strings.Repeat("\x00", len(gateway)) // the host routes it
			}
			b.Do("what is for elsewhere goes to the router of the network", linux.AddRoute{PID: pid, Link: link, Gateway: gateway, Replace: e.Takes})
		}
		return
	}
	for _, s := range e.Network.Subnets {
		if e.Leads.Has(s.Prefix.Addr().Is6()) {
			b.Do("what is for elsewhere goes to the host", linux.AddRoute{PID: pid, Link: link, Gateway: string(s.Gateway.AsSlice()), Replace: e.Takes})
		}
	}
}

// Lead plans that a container that runs, and is in e's network already, reaches everything
// else through it: the network that did that before is left.
func Lead(e Endpoint, pid plan.Reg) []plan.Step {
	b := plan.Build(plan.Host, plan.NetworkChapter)
	b.Do("the container's device in the network that is the first one now", linux.FindLink{PID: pid, Link: e.Interface}).As("link")
	e.leadOut(b, pid, "link")
	return b.Steps
}

// Reload plans that rules that somebody has thrown away are made again, for a container that
// runs. What is there stays.
func Reload(in Input) []plan.Step {
	b := plan.Build(plan.Host, plan.NetworkChapter)
	makeTable(b)
	makeBridgeTable(b)
	for _, e := range in.Endpoints {
		if e.Network.Shared.Kind == "" {
			e.Network.join(b)
			b.Add(e.Bind())
		}
	}
	for _, p := range in.Ports {
		set, key := p.element()
		b.Do("what comes for this port of the host is for the container", nftStep(set.Add(key, []nft.Item{nft.Address(p.To), nft.PortNumber(p.Container)}, true)))
		b.Do("unless it is so already", linux.NftCommit{}).Ok(plan.EEXIST)
	}
	return b.Steps
}

// noDuplicateCheck is IFA_F_NODAD.
const noDuplicateCheck = 0x02

// Publish plans what leads ports of the host to a container.
func Publish(ports []Port) []plan.Step {
	b := plan.Build(plan.Host, plan.NetworkChapter)
	for _, p := range ports {
		set, key := p.element()
		data := []nft.Item{nft.Address(p.To), nft.PortNumber(p.Container)}
		remove := set.Delete(key)
		b.Do("what comes for this port of the host is for the container", nftStep(set.Add(key, data, true))).
			Reverse(linux.NftDelete{Command: remove.Text, Message: remove.Bytes, Data: nft.DataBytes(data)})
	}
	if len(ports) > 0 {
		b.Do("all at once", linux.NftCommit{})
	}
	return b.Steps
}

// element is the map that the port is in, and its key there.
func (p Port) element() (nft.Set, []nft.Item) {
	key := []nft.Item{nft.ProtocolName(p.Protocol), nft.PortNumber(p.HostPort)}
	six := p.To.Is6()
	if p.Host.IsValid() {
		return publishedAt[six], append([]nft.Item{nft.Address(p.Host)}, key...)
	}
	return published[six], key
}

func nftStep(m nft.Message) linux.Nft { return linux.Nft{Command: m.Text, Message: m.Bytes} }
