package bridge

import (
	"net/netip"

	"github.com/containr/containr/internal/nft"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// A container with CAP_NET_RAW writes its frames itself, and could be its neighbour, or the gateway, to the others in its
// network. So what is plugged into a bridge may send with an address of a network only if it is its own: as source of a
// packet, in ARP, in answers who has an address of version 6 of IP, and in questions whether one is free; and with a hardware address of
// the kind that containers are given, likewise. So it is with link-local addresses that are made of a hardware address, as all devices
// make theirs: only the one of its own. It is no router either. Packets of IP with a container's own addresses pass after
// one look into a set. Addresses that are of no network are nobody's here: a container that leads
// a VPN, or has one more address of its own, is not disturbed.
//
// The bridge learns no hardware address from a container's frames (linux.AddVeth, Fixed): it is told the one that each has, so
// nobody takes a neighbour's place in its table, whatever address that one has chosen, and nobody fills it. What is for an address
// that it does not know, as of a virtual machine inside a container, goes to everybody in the network.
//
// The rules are in a table of bridges, the only one that sees what the bridge itself passes on. A kernel that has none
// (CONFIG_NF_TABLES_BRIDGE) does without.

// BridgeTable is the table that sees what bridges pass on.
const BridgeTable = nft.Table(nft.BridgeFamily + "containr")

// The sets that its rules ask, by false for version 4 of IP and true for 6.
var (
	// cables are the host's ends of containers' cables.
	cables = nft.Set{Table: BridgeTable, Name: "cables", Key: []nft.Field{nft.Interface}, ID: 1}
	// claimed are the addresses of networks, which only their owners may send with.
	claimed = map[bool]nft.Set{
		false: {Table: BridgeTable, Name: "claimed4", Key: []nft.Field{nft.IPv4}, Interval: true, ID: 2},
		true:  {Table: BridgeTable, Name: "claimed6", Key: []nft.Field{nft.IPv6}, Interval: true, ID: 3},
	}
	// own are cables with the hardware address and an address of who is at the other end.
	own = map[bool]nft.Set{
		false: {Table: BridgeTable, Name: "sender4", Key: []nft.Field{nft.Interface, nft.MAC, nft.IPv4}, ID: 4},
		true:  {Table: BridgeTable, Name: "sender6", Key: []nft.Field{nft.Interface, nft.MAC, nft.IPv6}, ID: 5},
	}
	ownHardware = nft.Set{Table: BridgeTable, Name: "own_mac", Key: []nft.Field{nft.Interface, nft.MAC}, ID: 6}
	// bridgeVersion is empty. That it is there says that the rules are those of this containr.
	bridgeVersion = nft.Set{Table: BridgeTable, Name: "rules3", Key: []nft.Field{nft.Interface}, ID: 7}
)

// bridged is the priority of filters in bridges, NF_BR_PRI_FILTER_BRIDGED.
const bridged = -200

// bridgeRules is the whole table as it is before there is any network.
func bridgeRules() []rule {
	const right, otherwise = "who sends with his own addresses is not looked at any further", "an address of a network is only its owner's to send with"
	list := []rule{{"one table for what bridges pass on", BridgeTable.New()}}
	for _, s := range []struct {
		why string
		set nft.Set
	}{
		{"the containers' cables", cables}, {"the networks' addresses", claimed[false]}, {"the networks' addresses", claimed[true]},
		{"who has which address", own[false]}, {"who has which address", own[true]}, {"who has which hardware address", ownHardware},
		{"which rules these are", bridgeVersion},
	} {
		list = append(list, rule{s.why, s.set.New()})
	}
	r := func(words ...nft.Word) nft.Message { return BridgeTable.Rule("send", words...) }
	const free = "as is to ask whether an address is free"
	ask := func(words ...nft.Word) nft.Message {
		return r(append([]nft.Word{nft.Carries("ip6"), nft.IsNeighbour("nd-neighbor-solicit"), nft.FromNowhere()}, words...)...)
	}
	return append(list,
		rule{"the rules of an earlier containr, if there are any, go", BridgeTable.Flush()},
		rule{"what containers send", BridgeTable.BaseChain("send", nft.Hook{Type: "filter", Hook: "prerouting", Priority: bridged})},
		rule{right, r(nft.Carries("ip"), nft.ClaimsRightly(nft.ClaimIP, own[false]), nft.Accept())},
		rule{right, r(nft.Carries("ip6"), nft.IsNotProtocol("ipv6-icmp"), nft.ClaimsRightly(nft.ClaimIP6, own[true]), nft.Accept())},
		rule{"what others have plugged into a bridge is not our affair", r(nft.FromInterfaces(cables, true), nft.Accept())},
		rule{"what is in a VLAN twice hides what it carries", r(nft.Carries("8021q"), nft.Drop())},
		rule{"what is in a VLAN twice hides what it carries", r(nft.Carries("8021ad"), nft.Drop())},
		rule{"a hardware address as containers have is only its owner's", r(nft.HardwareBegins(0x02, 0x42), nft.NotItsHardware(ownHardware), nft.Drop())},
		rule{otherwise, r(nft.Carries("ip"), nft.Claims(nft.ClaimIP, claimed[false]), nft.Drop())},
		rule{"as is to ask with", r(nft.Carries("arp"), nft.ClaimsRightly(nft.ClaimARP, own[false]), nft.Accept())},
		rule{otherwise, r(nft.Carries("arp"), nft.Claims(nft.ClaimARP, claimed[false]), nft.Drop())},
		rule{"no container is the router of others", r(nft.Carries("ip6"), nft.IsNeighbour("nd-router-advert"), nft.Drop())},
		rule{"no container is the router of others", r(nft.Carries("ip6"), nft.IsNeighbour("nd-redirect"), nft.Drop())},
		rule{"as is to answer with", r(nft.Carries("ip6"), nft.IsNeighbour("nd-neighbor-advert"), nft.ClaimsRightly(nft.ClaimHave, own[true]), nft.Accept())},
		rule{otherwise, r(nft.Carries("ip6"), nft.IsNeighbour("nd-neighbor-advert"), nft.ClaimsLocal(nft.ClaimHave), nft.Drop())},
		rule{otherwise, r(nft.Carries("ip6"), nft.IsNeighbour("nd-neighbor-advert"), nft.Claims(nft.ClaimHave, claimed[true]), nft.Drop())},
		rule{free, ask(nft.ClaimsRightly(nft.ClaimHave, own[true]), nft.Accept())},
		rule{otherwise, ask(nft.ClaimsLocal(nft.ClaimHave), nft.Drop())},
		rule{otherwise, ask(nft.Claims(nft.ClaimHave, claimed[true]), nft.Drop())},
		rule{right, r(nft.Carries("ip6"), nft.ClaimsRightly(nft.ClaimIP6, own[true]), nft.Accept())},
		rule{otherwise, r(nft.Carries("ip6"), nft.ClaimsLocal(nft.ClaimIP6), nft.Drop())},
		rule{otherwise, r(nft.Carries("ip6"), nft.Claims(nft.ClaimIP6, claimed[true]), nft.Drop())},
	)
}

// makeBridgeTable plans the table, if it is not there and the kernel has such.
func makeBridgeTable(b *plan.Builder) {
	b.Do("is the table of what bridges pass on there, as this containr makes it?", linux.NftSet{Table: string(BridgeTable), Set: bridgeVersion.Name}).Ok(plan.ENOENT)
	for _, r := range bridgeRules() {
		b.Do(r.why, nftStep(r.Message)).Else()
	}
	b.Do("all at once, unless the kernel has no rules for bridges", linux.NftCommit{}).Ok(plan.EOPNOTSUP).Else()
}

// claims is what a network adds to the sets, or takes from them.
func (n Network) claims() []change {
	var list []change
	for _, s := range n.Subnets {
		set := claimed[s.Prefix.Addr().Is6()]
		list = append(list, change{set.AddRange(s.Prefix), set.DeleteRange(s.Prefix)})
	}
	return list
}

// LocalAddress is the link-local address that a device makes of its hardware address, of 6 bytes: RFC 4291, appendix A.
func LocalAddress(mac string) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// bound reports whether the container's addresses are known, and it sends with no others.
func (e Endpoint) bound() bool { return e.Bound && len(e.MAC) == 6 && e.Network.Shared.Kind == "" }

// Bind plans that a container sends with its own addresses only.
func (e Endpoint) Bind() []plan.Step {
	if !e.bound() {
		return nil
	}
	b := plan.Build(plan.Host, plan.NetworkChapter)
	for _, c := range e.Network.claims() {
		b.Do("the addresses of this network are only their owners' to send with", nftStep(c.add))
	}
	link, hardware := nft.InterfaceName(e.Link), nft.HardwareAddress(e.MAC)
	list := []change{element(cables, link), element(ownHardware, link, hardware)}
	for _, a := range e.Addresses {
		list = append(list, element(own[a.Addr().Is6()], link, hardware, nft.Address(a.Addr())))
	}
	list = append(list, element(own[true], link, hardware, nft.Address(LocalAddress(e.MAC))))
	// One inverse for all: each would wait for the kernel.
	var undo linux.NftDelete
	for i, c := range list {
		if i > 0 {
			undo.Command += "; "
		}
		undo.Command, undo.Message = undo.Command+c.remove.Text, undo.Message+c.remove.Bytes
	}
	for i, c := range list {
		step := b.Do("the container has this cable, and these addresses", nftStep(c.add))
		if i == 0 {
			step.Reverse(undo)
		}
	}
	b.Do("all at once, if there is the table", linux.NftCommit{}).Ok(plan.ENOENT)
	return b.Steps
}
