package bridge

import (
	"net/netip"

	"github.com/containr/containr/internal/nft"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Table is the table of the packet filter that is containr's.
const Table = nft.Table("containr")

// The sets and maps that the rules ask, by false for version 4 of IP and true for 6.
var (
	// bridges are the devices of all networks; internal those of the internal ones.
	bridges  = nft.Set{Table: Table, Name: "bridges", Key: []nft.Field{nft.Interface}, ID: 1}
	internal = nft.Set{Table: Table, Name: "internal", Key: []nft.Field{nft.Interface}, ID: 2}
	// neighbours are pairs of a bridge with itself, of the networks whose containers may reach each other.
	neighbours = nft.Set{Table: Table, Name: "neighbours", Key: []nft.Field{nft.Interface, nft.Interface}, ID: 3}
	// subnets are the addresses of networks, masked those that are hidden behind the host's.
	subnets = map[bool]nft.Set{
		false: {Table: Table, Name: "subnets4", Key: []nft.Field{nft.IPv4}, Interval: true, ID: 4},
		true:  {Table: Table, Name: "subnets6", Key: []nft.Field{nft.IPv6}, Interval: true, ID: 5},
	}
	masked = map[bool]nft.Set{
		false: {Table: Table, Name: "masked4", Key: []nft.Field{nft.IPv4}, Interval: true, ID: 6},
		true:  {Table: Table, Name: "masked6", Key: []nft.Field{nft.IPv6}, Interval: true, ID: 7},
	}
	// published leads from a port of any of the host's addresses to a container's,
	// publishedAt from a port of one address.
	published = map[bool]nft.Set{
		false: {Table: Table, Name: "published4", Key: []nft.Field{nft.Protocol, nft.Port}, Data: []nft.Field{nft.IPv4, nft.Port}, ID: 8},
		true:  {Table: Table, Name: "published6", Key: []nft.Field{nft.Protocol, nft.Port}, Data: []nft.Field{nft.IPv6, nft.Port}, ID: 9},
	}
	publishedAt = map[bool]nft.Set{
		false: {Table: Table, Name: "published_at4", Key: []nft.Field{nft.IPv4, nft.Protocol, nft.Port}, Data: []nft.Field{nft.IPv4, nft.Port}, ID: 10},
		true:  {Table: Table, Name: "published_at6", Key: []nft.Field{nft.IPv6, nft.Protocol, nft.Port}, Data: []nft.Field{nft.IPv6, nft.Port}, ID: 11},
	}
	// gateways are pairs of an internal network's bridge and the address that the host has in that network.
	gateways = map[bool]nft.Set{
		false: {Table: Table, Name: "gateways4", Key: []nft.Field{nft.Interface, nft.IPv4}, ID: 12},
		true:  {Table: Table, Name: "gateways6", Key: []nft.Field{nft.Interface, nft.IPv6}, ID: 13},
	}
	// version is empty. That it is there says that the rules are those of this containr.
	version = nft.Set{Table: Table, Name: "rules2", Key: []nft.Field{nft.Interface}, ID: 14}
)

// rule is a message of the table with the reason for it.
type rule struct {
	why string
	nft.Message
}

// Priorities of hooks, NF_IP_PRI_.
const (
	raw            = -300
	destinationNAT = -100
	filter         = 0
	sourceNAT      = 100
)

// tableRules is the whole table as it is before there is any network. What is in the sets of one that an earlier containr
// has made stays; its rules are thrown away for these.
func tableRules() []rule {
	list := []rule{{"one table for all that containr asks of the packet filter", Table.New()}}
	for _, s := range []struct {
		why string
		set nft.Set
	}{
		{"the networks' bridges", bridges}, {"those that lead nowhere", internal}, {"a bridge and itself, where containers may reach each other", neighbours},
		{"the networks' addresses", subnets[false]}, {"the networks' addresses", subnets[true]},
		{"those that are hidden behind the host's own", masked[false]}, {"those that are hidden behind the host's own", masked[true]},
		{"published ports: from which of the host to which container's", published[false]}, {"published ports: from which of the host to which container's", published[true]},
		{"ports that are published at one address", publishedAt[false]}, {"ports that are published at one address", publishedAt[true]},
		{"the host's addresses in internal networks", gateways[false]}, {"the host's addresses in internal networks", gateways[true]},
		{"which rules these are", version},
	} {
		list = append(list, rule{s.why, s.set.New()})
	}
	list = append(list, rule{"the rules of an earlier containr, if there are any, go", Table.Flush()})
	for _, part := range [][]rule{past(), translation(), forwarding(), delivery()} {
		list = append(list, part...)
	}
	return list
}

// past is about what does not come through a bridge. The kernel takes frames to the addresses 01:80:c2:00:00:02 to 0f, which are for
// the next device only, for the host's own, on the cable that they came through, before the rules for bridges see them: a packet
// in one would be no internal network's, nor anybody's who may not be a router.
func past() []rule {
	return []rule{
		{"packets before anything is done with them", Table.BaseChain("past", nft.Hook{Type: "filter", Hook: "prerouting", Priority: raw})},
		{"what containers send comes through their bridge: a cable itself has no packets for the host", Table.Rule("past", nft.FromGroup(linux.CableGroup), nft.Drop())},
	}
}

// LoopbackEntrance4 and LoopbackEntrance6 have the addresses that stand in a user's hub for 127.0.0.0/8 and ::1 of the host: a port that is
// published there is one of these here (usermode.Net.Entrance).
var (
	LoopbackEntrance4 = netip.MustParsePrefix("255.0.0.0/8")
	LoopbackEntrance6 = netip.MustParsePrefix("fd00:c0a7::8000:0:0:1/128")
)

// translation is about addresses that are changed.
func translation() []rule {
	const publish = "a port that is published: the container's address takes the host's place"
	return []rule{
		{"addresses that published ports change", Table.Chain("publish")},
		{publish, Table.Rule("publish", nft.Translate(publishedAt[false]))},
		{publish, Table.Rule("publish", nft.Translate(publishedAt[true]))},
		{publish, Table.Rule("publish", nft.Translate(published[false]))},
		{publish, Table.Rule("publish", nft.Translate(published[true]))},
		{"packets that arrive", Table.BaseChain("arrive", nft.Hook{Type: "nat", Hook: "prerouting", Priority: destinationNAT})},
		{"a port published at 127.0.0.1 is for the host alone, whatever its neighbours send",
			Table.Rule("arrive", nft.FromInterface("lo", true), nft.ToLoopback(), nft.Return())},
		{"nor is it for containers, at the address that stands for it in a user's hub",
			Table.Rule("arrive", nft.FromInterfaces(bridges, false), nft.To(LoopbackEntrance4), nft.Return())},
		{"nor is it for containers, at the address that stands for it in a user's hub",
			Table.Rule("arrive", nft.FromInterfaces(bridges, false), nft.To(LoopbackEntrance6), nft.Return())},
		{"what is for the host may be for a container", Table.Rule("arrive", nft.ToLocal(), nft.Jump("publish"))},
		{"packets of the host's own programs", Table.BaseChain("send", nft.Hook{Type: "nat", Hook: "output", Priority: destinationNAT})},
		{"they reach published ports too", Table.Rule("send", nft.ToLocal(), nft.Jump("publish"))},
		{"packets that leave", Table.BaseChain("leave", nft.Hook{Type: "nat", Hook: "postrouting", Priority: sourceNAT})},
		{"what the host sent to its own 127.0.0.1: a container could not answer to that", Table.Rule("leave", nft.FromLoopback(), nft.ToInterfaces(bridges, false), nft.Masquerade())},
		{"a container that talks to a published port: the answer has to come back through the host", Table.Rule("leave", nft.Translated(), nft.From(subnets[false]), nft.ToInterfaces(bridges, false), nft.Masquerade())},
		{"a container that talks to a published port: the answer has to come back through the host", Table.Rule("leave", nft.Translated(), nft.From(subnets[true]), nft.ToInterfaces(bridges, false), nft.Masquerade())},
		{"what the host says to itself, at its address in a network, does not leave", Table.Rule("leave", nft.ToLocal(), nft.Return())},
		{"nobody else knows the containers' addresses: what leaves has the host's", Table.Rule("leave", nft.From(masked[false]), nft.ToInterfaces(bridges, true), nft.Masquerade())},
		{"nobody else knows the containers' addresses: what leaves has the host's", Table.Rule("leave", nft.From(masked[true]), nft.ToInterfaces(bridges, true), nft.Masquerade())},
	}
}

// forwarding is about packets that are let through.
func forwarding() []rule {
	return []rule{
		{"packets that the host passes on", Table.BaseChain("forward", nft.Hook{Type: "filter", Hook: "forward", Priority: filter})},
		{"what is no container's is not our affair", Table.Rule("forward", nft.FromInterfaces(bridges, true), nft.ToInterfaces(bridges, true), nft.Accept())},
		{"answers", Table.Rule("forward", nft.Established(), nft.Accept())},
		{"neighbours in one network, unless its containers are kept apart", Table.Rule("forward", nft.Between(neighbours), nft.Accept())},
		{"an internal network leads nowhere", Table.Rule("forward", nft.FromInterfaces(internal, false), nft.Drop())},
		{"and nobody leads there", Table.Rule("forward", nft.ToInterfaces(internal, false), nft.Drop())},
		{"published ports", Table.Rule("forward", nft.ToInterfaces(bridges, false), nft.Translated(), nft.Accept())},
		{"nobody else is let in: neither other networks nor other machines that guess an address", Table.Rule("forward", nft.ToInterfaces(bridges, false), nft.Drop())},
	}
}

// delivery is about packets for the host itself.
func delivery() []rule {
	return []rule{
		{"what the gateway of an internal network is asked", Table.Chain("ask")},
		{"whether it is there", Table.Rule("ask", nft.IsProtocol("icmp"), nft.Accept())},
		{"whether it is there", Table.Rule("ask", nft.IsProtocol("ipv6-icmp"), nft.Accept())},
		{"for names", Table.Rule("ask", nft.ToPort("udp", 53), nft.Accept())},
		{"for names", Table.Rule("ask", nft.ToPort("tcp", 53), nft.Accept())},
		{"packets for the host", Table.BaseChain("deliver", nft.Hook{Type: "filter", Hook: "input", Priority: filter})},
		{"answers to what the host has sent from 127.0.0.1", Table.Rule("deliver", nft.Established(), nft.Accept())},
		{"what listens at 127.0.0.1 is for the host alone", Table.Rule("deliver", nft.FromInterfaces(bridges, false), nft.ToLoopback(), nft.Drop())},
		{"other networks reach the host", Table.Rule("deliver", nft.FromInterfaces(internal, true), nft.Accept())},
		{"who has which address", Table.Rule("deliver", nft.IsNeighbour("nd-neighbor-solicit"), nft.Accept())},
		{"who has which address", Table.Rule("deliver", nft.IsNeighbour("nd-neighbor-advert"), nft.Accept())},
		{"an internal network talks to its own gateway", Table.Rule("deliver", nft.FromWithin(gateways[false]), nft.Jump("ask"))},
		{"an internal network talks to its own gateway", Table.Rule("deliver", nft.FromWithin(gateways[true]), nft.Jump("ask"))},
		{"but to no service of the host's, at whatever address", Table.Rule("deliver", nft.Drop())},
	}
}

// makeTable plans the table, if it is not there, or if an earlier containr has made it. That one has no set that says which
// rules these are; what is new in the sets the networks come into when they are joined the next time, or by a reload.
func makeTable(b *plan.Builder) {
	b.Do("is the table of rules there, as this containr makes it?", linux.NftSet{Table: string(Table), Set: version.Name}).Ok(plan.ENOENT)
	for _, r := range tableRules() {
		b.Do(r.why, nftStep(r.Message)).Else()
	}
	b.Do("all at once", linux.NftCommit{}).Else()
}

// change is what a network adds to the sets, or takes from them.
type change struct{ add, remove nft.Message }

func (n Network) changes() []change {
	link := nft.InterfaceName(n.Link)
	list := []change{element(bridges, link)}
	if !n.Isolated {
		list = append(list, element(neighbours, link, link))
	}
	if n.Internal {
		list = append(list, element(internal, link))
	}
	for _, s := range n.Subnets {
		six := s.Prefix.Addr().Is6()
		list = append(list, change{subnets[six].AddRange(s.Prefix), subnets[six].DeleteRange(s.Prefix)})
		switch {
		case n.Internal:
			list = append(list, element(gateways[six], link, nft.Address(s.Gateway)))
		case !n.Unmasked:
			list = append(list, change{masked[six].AddRange(s.Prefix), masked[six].DeleteRange(s.Prefix)})
		}
	}
	return list
}

func element(s nft.Set, key ...nft.Item) change { return change{s.Add(key, nil, false), s.Delete(key)} }

func (n Network) elements() []nft.Message {
	var list []nft.Message
	for _, c := range n.changes() {
		list = append(list, c.add)
	}
	return list
}

// Bridges is the set that has an element for each network whose rules are there.
func Bridges() nft.Set { return bridges }

// RemoveTables is what takes the rules away, when no network is left.
func RemoveTables() []plan.Call {
	return []plan.Call{nftStep(Table.Delete()), nftStep(BridgeTable.Delete())}
}

// Remove is what takes a network away that no container is in.
func (n Network) Remove() []plan.Call {
	if n.Shared.VLAN != 0 {
		return []plan.Call{linux.DeleteLink{Link: n.Shared.Parent}}
	}
	if n.Shared.Kind != "" {
		return nil
	}
	calls := []plan.Call{linux.DeleteLink{Link: n.Link}}
	for _, c := range append(n.changes(), n.claims()...) {
		calls = append(calls, nftStep(c.remove))
	}
	return calls
}
