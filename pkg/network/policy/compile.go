package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containr/containr/internal/nft"
)

// Network is a network of the driver bridge, as the rules need it.
type Network struct {
	ID, Name string
	// Gateways are the host's addresses there. Resolver is where names are asked for; invalid if nobody answers.
	Gateways []netip.Addr
	Resolver netip.Addr
	Policies []Policy
}

// Container is a container, whether it runs or not: its rules are there before it does.
type Container struct {
	ID, Name string
	Labels   map[string]string
	// Own are policies of its own; they hold in all its networks.
	Own   []Policy
	Plugs []Plug
}

// Plug is a container's end of a cable on the host.
type Plug struct {
	// Network is the network's id, and Link the name of the device, which no other container ever has.
	Network, Link string
	Addresses     []netip.Addr
}

// Input is what the rules are made of.
type Input struct {
	Table      nft.Table
	Networks   []Network
	Containers []Container
}

// Step is a message with the reason for it.
type Step struct {
	Why string
	nft.Message
}

// Rules is what is to be in the table.
type Rules struct {
	Table nft.Table
	// These are the chains, sets, counters and limits of the table, by name.
	Chains, Sets, Counters, Limits map[string]bool
	// made come before rules, which come before elements. flushed are the sets whose elements are all in elements.
	made, rules, elements []Step
	flushed               []nft.Set
	// chainOf is the chain that each of rules is for.
	chainOf []string
	id      uint32
}

// Governed reports whether a policy is for somebody at all.
func (in Input) Governed() bool {
	return slices.ContainsFunc(in.Containers, in.Governs)
}

// Governs reports whether a policy is for a container.
func (in Input) Governs(c Container) bool {
	return slices.ContainsFunc(c.Plugs, func(p Plug) bool { return len(in.applying(c, p)) > 0 })
}

// Named is a policy with whose it is: "network NAME" or "container NAME".
type Named struct {
	Policy
	Owner string
	// counters is the beginning of the names of its counters.
	counters string
}

// applying lists the policies that are for a container in one of its networks.
func (in Input) applying(c Container, p Plug) []Named {
	var list []Named
	n, ok := in.network(p.Network)
	if !ok {
		return nil
	}
	for _, own := range c.Own {
		list = append(list, Named{own, "container " + c.Name, ContainerCounters(c.ID, own.Name)})
	}
	for _, o := range n.Policies {
		if o.Selects(c) {
			list = append(list, Named{o, "network " + n.Name, NetworkCounters(n.ID, o.Name)})
		}
	}
	return list
}

// Refusing lists the policies of which none lets a packet for a port of a container, in one of its networks, through from everywhere. some says
// that one of them does so from somewhere. It is empty if the packet comes in.
func (in Input) Refusing(c Container, p Plug, protocol string, port uint16) (list []Named, some bool) {
	for _, n := range in.applying(c, p) {
		if !n.GovernsIngress {
			continue
		}
		list = append(list, n)
		for _, r := range n.Ingress {
			if len(r.Ports) > 0 && !slices.ContainsFunc(r.Ports, func(p Port) bool { return p.has(protocol, port) }) {
				continue
			}
			if len(r.Peers) == 0 {
				return nil, false
			}
			some = true
		}
	}
	return list, some
}

func (p Port) has(protocol string, port uint16) bool {
	return p.Protocol == protocol && (p.First == 0 || p.First <= port && port <= p.Last)
}

// NetworkCounters is the beginning of the names of the counters of a network's policy: "/ingress/1" follows, and so on.
func NetworkCounters(id, name string) string { return "n/" + short(id) + "/" + name }

// ContainerCounters is that for a policy of a container's own.
func ContainerCounters(id, name string) string { return "c/" + short(id) + "/" + name }

func short(id string) string { return id[:min(12, len(id))] }

func (in Input) network(id string) (Network, bool) {
	i := slices.IndexFunc(in.Networks, func(n Network) bool { return n.ID == id })
	if i < 0 {
		return Network{}, false
	}
	return in.Networks[i], true
}

// Sets that are in every table.
//
//go:noinline
func (r *Rules) set(name string, key ...nft.Field) nft.Set {
	return nft.Set{Table: r.Table, Name: name, Key: key}
}

//go:noinline
func (r *Rules) from() nft.Set { s := r.set("from", nft.Interface); s.Verdicts = true; return s }

//go:noinline
func (r *Rules) to() nft.Set { s := r.set("to", nft.Interface); s.Verdicts = true; return s }

//go:noinline
func (r *Rules) portSet() nft.Set { return r.set("ports", nft.Interface) }

//go:noinline
func (r *Rules) ported() nft.Set { return r.set("ported", nft.Protocol) }

//go:noinline
func (r *Rules) owners(six bool) nft.Set {
	if six {
		return r.set("owners6", nft.Interface, nft.IPv6)
	}
	return r.set("owners4", nft.Interface, nft.IPv4)
}

// Compile plans the table: all of it, or if only is the id of a container what is the table's and that container's.
func Compile(in Input, only string) *Rules {
	r := &Rules{Table: in.Table, Chains: map[string]bool{}, Sets: map[string]bool{}, Counters: map[string]bool{}, Limits: map[string]bool{}}
	r.base()
	governed := map[string]bool{}
	for _, c := range in.Containers {
		for _, p := range c.Plugs {
			if list := in.applying(c, p); len(list) > 0 {
				governed[p.Network] = true
				if only == "" || only == c.ID {
					r.plug(in, p, list)
				}
			}
		}
	}
	for _, c := range in.Containers {
		for _, p := range c.Plugs {
			if governed[p.Network] && (only == "" || only == c.ID) {
				r.own(p)
			}
		}
	}
	return r
}

// beforeOthers is NF_BR_PRI_FILTER_BRIDGED. Where br_netfilter shows bridged packets to the rules for IP, what stands at 0, where it
// stands itself, is passed over.
const beforeOthers = -200

// base plans what is the table's.
func (r *Rules) base() {
	r.add("a table for what containers may send and receive, in a family that sees what the switch passes on", r.Table.New())
	r.make("the ports of containers, and the rules for what they send", r.from(), true)
	r.make("and for what they receive", r.to(), true)
	r.make("the ports of all containers in these networks", r.portSet(), true)
	r.make("and the addresses that they have", r.owners(false), true)
	r.make("and the addresses that they have", r.owners(true), true)
	r.make("the protocols that have ports", r.ported(), true)
	for _, name := range []string{"tcp", "udp", "sctp"} {
		r.element("the protocols that have ports", r.ported().Add([]nft.Item{nft.ProtocolName(name)}, nil, false))
	}
	r.chain("own", "addresses as senders have them")
	for _, name := range []string{"fe80::/10", "::/128"} {
		r.rule("own", "an address that every device makes for itself", nft.Within(netip.MustParsePrefix(name), true, false), nft.Return())
	}
	for _, six := range []bool{false, true} {
		r.rule("own", "the container's own address", nft.Owns(r.owners(six), false), nft.Return())
	}
	for _, six := range []bool{false, true} {
		r.rule("own", "who makes up an address does not get past a rule by it", nft.FrameVersion(six), nft.Drop())
	}
	for _, hook := range []struct {
		name, why string
		from, to  bool
	}{
		{"forward", "what the switch passes on from one container to another", true, true},
		{"input", "what a container sends to the host, or beyond it", true, false},
		{"output", "what comes from the host, or from beyond it", false, true},
	} {
		r.Chains[hook.name] = true
		r.add(hook.why, r.Table.BaseChain(hook.name, nft.Hook{Type: "filter", Hook: hook.name, Priority: beforeOthers}))
		r.rule(hook.name, "who has which address is no secret", nft.IsARP(), nft.Accept())
		for _, kind := range []string{"nd-neighbor-solicit", "nd-neighbor-advert"} {
			r.rule(hook.name, "who has which address is no secret", nft.FrameVersion(true), nft.IsNeighbour(kind), nft.Accept())
		}
		if hook.from {
			r.rule(hook.name, "nobody speaks for another one", nft.FromPort(r.portSet()), nft.Jump("own"))
			r.rule(hook.name, "whoever has rules for what he sends", nft.Choose(r.from(), false))
		}
		if hook.to {
			r.rule(hook.name, "whoever has rules for what he receives", nft.Choose(r.to(), true))
		}
	}
}

//go:noinline
func (r *Rules) add(why string, m nft.Message) { r.made = append(r.made, Step{why, m}) }

//go:noinline
func (r *Rules) element(why string, m nft.Message) { r.elements = append(r.elements, Step{why, m}) }

//go:noinline
func (r *Rules) rule(chain, why string, words ...nft.Word) {
	r.rules, r.chainOf = append(r.rules, Step{why, r.Table.Rule(chain, words...)}), append(r.chainOf, chain)
}

// make plans a set. If it is whole, all its elements are in this plan.
//
//go:noinline
func (r *Rules) make(why string, s nft.Set, whole bool) {
	if r.Sets[s.Name] {
		return
	}
	r.id++
	s.ID = r.id
	r.Sets[s.Name] = true
	r.add(why, s.New())
	if whole {
		r.flushed = append(r.flushed, s)
	}
}

func (r *Rules) chain(name, why string) {
	r.Chains[name] = true
	r.add(why, r.Table.Chain(name))
}

func (r *Rules) counter(name string) nft.Word {
	if !r.Counters[name] {
		r.Counters[name] = true
		r.add("packets that it lets through are counted", r.Table.Counter(name))
	}
	return nft.Tally(name)
}

// own plans that a port has addresses.
func (r *Rules) own(p Plug) {
	link := nft.InterfaceName(p.Link)
	r.element("a container's port", r.portSet().Add([]nft.Item{link}, nil, false))
	for _, a := range p.Addresses {
		r.element("the addresses that it has", r.owners(a.Is6()).Add([]nft.Item{link, nft.Address(a)}, nil, false))
	}
}

// How long a flow is known after the last that its beginner has sent.
const (
	usualStay = 3 * time.Minute
	tcpStay   = 24 * time.Hour
	endStay   = 10 * time.Second
	echoStay  = 30 * time.Second
	// namedStay is how long a flow to somebody known by name goes on without a packet when the name's time is over.
	namedStay = time.Hour
	// MaxNameStay is how long an address is known by a name, at most.
	MaxNameStay = time.Hour
	// noteStay is how long the table knows of what was refused.
	noteStay = 24 * time.Hour
)

// errorsPerSecond is how many errors of routers a container gets of each kind.
const errorsPerSecond = 50

// Most flows of a container in one direction, and of what it was refused.
const (
	maxFlows = 65535
	maxNotes = 256
)

// Directions are both: what a container receives, and sends.
var Directions = []string{"ingress", "egress"}

var chainWord = map[string]string{"ingress": "in", "egress": "out"}

// flows is the set of what was begun in a direction.
//
//go:noinline
func (r *Rules) flows(direction string, six bool, link, generation string) nft.Set {
	v := map[bool]string{false: "4", true: "6"}[six]
	s := r.set(chainWord[direction]+v+"-"+link+"-"+generation, nft.Tuple{Six: six}.Fields()...)
	s.Timeout, s.Dynamic, s.Size = usualStay, true, maxFlows
	return s
}

// pairs is the set of who was sent something in a direction that is no connection.
//
//go:noinline
func (r *Rules) pairs(direction string, six bool, link, generation string) nft.Set {
	s := r.flows(direction, six, link, generation)
	s.Name, s.Key = "pairs-"+s.Name, nft.Tuple{Six: six, Pair: true}.Fields()
	return s
}

// Notes is the set of what was refused in a direction.
//
//go:noinline
func Notes(t nft.Table, direction string, six bool, link string) nft.Set {
	v := map[bool]string{false: "4", true: "6"}[six]
	return nft.Set{Table: t, Name: "refused-" + chainWord[direction] + v + "-" + link, Key: nft.Tuple{Six: six, Short: true}.Fields(), Timeout: noteStay, Dynamic: true, Size: maxNotes}
}

// RefusedCounter is the counter of what was refused in a direction, "ingress" or "egress".
func RefusedCounter(direction, link string) string { return "refused/" + link + "/" + direction }

func digest(words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return hex.EncodeToString(sum[:4])
}

// plug plans the rules of a container in one network.
func (r *Rules) plug(in Input, p Plug, list []Named) {
	n, _ := in.network(p.Network)
	generation := digest(fmt.Sprintf("%+v", list))
	for _, d := range Directions {
		for _, six := range []bool{false, true} {
			r.make("flows that have begun, by which answers are known", r.flows(d, six, p.Link, generation), false)
			r.make("and who was sent something", r.pairs(d, six, p.Link, generation), false)
			r.make("what was refused", Notes(r.Table, d, six, p.Link), false)
		}
	}
	for i, d := range Directions {
		other := Directions[1-i]
		chain, began := chainWord[d]+"-"+p.Link, "began-"+chainWord[d]+"-"+p.Link
		r.chain(began, "what has been let through begins a flow")
		r.chain(chain, "what a container may do in one direction: "+d)
		r.begin(began, d, p.Link, generation)
		r.answers(chain, other, p.Link, generation)
		r.allow(in, n, p, list, d, chain, began, generation)
		r.refuse(chain, d, p.Link)
	}
	link := []nft.Item{nft.InterfaceName(p.Link)}
	r.element("what comes out of this port", r.from().AddJump(link, "out-"+p.Link))
	r.element("what goes into this port", r.to().AddJump(link, "in-"+p.Link))
}

// begin plans the chain for what a rule has let through.
func (r *Rules) begin(chain, direction, link, generation string) {
	for _, six := range []bool{false, true} {
		flows, t := r.flows(direction, six, link, generation), nft.Tuple{Six: six}
		r.rule(chain, "a connection that ends is forgotten soon", nft.EndsTCP(), nft.Update(t, flows, endStay, false), nft.Return())
		r.rule(chain, "a connection is known, and what answers it", nft.IsProtocol("tcp"), nft.Update(t, flows, tcpStay, false), nft.Return())
		pairs, pair := r.pairs(direction, six, link, generation), nft.Tuple{Six: six, Pair: true}
		r.rule(chain, "who is sent packets may say that they do not arrive", nft.ProtocolIn(r.ported()), nft.Update(pair, pairs, 0, false))
		r.rule(chain, "packets of other protocols are known for a while, too", nft.ProtocolIn(r.ported()), nft.Update(t, flows, 0, false), nft.Return())
		r.rule(chain, "and who is to echo", nft.IsICMP(six, "echo-request"), nft.Update(pair, pairs, echoStay, false), nft.Return())
	}
	r.rule(chain, "there are too many: this one could not be answered", nft.ProtocolIn(r.ported()), nft.Drop())
}

// answers plans that what answers a flow of the other direction gets through.
func (r *Rules) answers(chain, begun, link, generation string) {
	for _, six := range []bool{false, true} {
		flows := r.flows(begun, six, link, generation)
		r.rule(chain, "answers", nft.TupleIn(nft.Tuple{Six: six, Reversed: true}, flows), nft.Return())
		known := nft.TupleIn(nft.Tuple{Six: six, Reversed: true, Pair: true}, r.pairs(begun, six, link, generation))
		r.rule(chain, "answers", nft.IsICMP(six, "echo-reply"), known, nft.Return())
		for _, kind := range []string{"destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem"} {
			if _, has := nft.ICMPTypes[six][kind]; !has {
				continue
			}
			r.rule(chain, "what became of a packet that was sent", nft.IsICMP(six, kind), known, nft.Return())
			if begun == "egress" {
				r.rule(chain, "a router on the way may say so, too; not all the time", nft.FromNoPort(r.portSet()), nft.IsICMP(six, kind),
					nft.Limit(errorsPerSecond, time.Second, errorsPerSecond, false), nft.Return())
			}
		}
	}
}

// allow plans the rules of all policies for a direction.
func (r *Rules) allow(in Input, n Network, p Plug, list []Named, direction, chain, began, generation string) {
	egress, governed, some := direction == "egress", false, false
	for _, named := range list {
		rules, governs := named.Ingress, named.GovernsIngress
		if egress {
			rules, governs = named.Egress, named.GovernsEgress
		}
		governed = governed || governs
		for i, rule := range rules {
			some = true
			why := fmt.Sprintf("%s, policy %s, %s rule %d: %s", named.Owner, named.Name, direction, i+1, rule)
			counter := r.counter(fmt.Sprintf("%s/%s/%d", named.counters, direction, i+1))
			limit := r.limit(rule, named, direction, p.Link, i+1)
			for _, match := range r.matches(in, n, p, rule, egress) {
				if match.byName {
					r.goOn(chain, began, why, match, rule.Rate, limit, counter, p.Link, generation)
				}
				r.through(chain, began, why, match, rule.Rate, limit, counter, r.flows(direction, false, p.Link, generation), r.flows(direction, true, p.Link, generation))
			}
		}
	}
	if !governed {
		r.rule(chain, "no policy governs this direction", nft.Goto(began))
		return
	}
	if egress && some && n.Resolver.IsValid() {
		for _, protocol := range []string{"udp", "tcp"} {
			r.rule(chain, "names can be asked for", nft.Within(netip.PrefixFrom(n.Resolver, n.Resolver.BitLen()), false, false), nft.ToPort(protocol, 53), nft.Goto(began))
		}
	}
}

// goOn plans that what has begun while an address was known by its name goes on when it is no longer. Which flows those are is in a set
// of its own: that a flow is known alone would let it pass the bound of another rule.
func (r *Rules) goOn(chain, began, why string, m match, rate Rate, limit, counter nft.Word, link, generation string) {
	named, flows, tuple := r.named(m.six, link, generation), r.flows("egress", m.six, link, generation), nft.Tuple{Six: m.six}
	r.make("flows that have begun to somebody known by name", named, false)
	words := append(slices.Clone(m.ports), nft.TupleIn(tuple, flows), nft.TupleIn(tuple, named))
	if rate.Bytes {
		words = append(words, limit)
	}
	r.rule(chain, why+"; what has begun goes on", append(words, nft.Update(tuple, named, namedStay, false), counter, nft.Goto(began))...)
	r.rule(chain, why+"; it may go on", append(m.words(), nft.Update(tuple, named, namedStay, false))...)
}

// named is the set of flows that have begun to somebody known by name.
func (r *Rules) named(six bool, link, generation string) nft.Set {
	s := r.flows("egress", six, link, generation)
	s.Name, s.Timeout = "named-"+s.Name, namedStay
	return s
}

// wholePacket is how much a rate of bytes lets through at once at least: a packet of TCP is that long before the device cuts it up.
const wholePacket = 64 << 10

// limit plans what holds a container to a rate by a rule, whichever of its peers and ports a packet is for. It is named by what it is, and
// so stays as it is when the rules are made anew: who comes and goes, or gives the policy again, gets no other.
func (r *Rules) limit(rule Rule, named Named, direction, link string, i int) nft.Word {
	rate := rule.Rate
	if rate.Count == 0 {
		return nft.Word{}
	}
	name := "rate/" + link + "/" + direction + "/" + digest(named.counters, fmt.Sprint(i), rate.String())
	if !r.Limits[name] {
		r.Limits[name] = true
		burst := min(rate.Count, 1<<20)
		if rate.Bytes { // the kernel adds what goes through in a second
			burst = max(rate.Count, wholePacket) - rate.Count
		}
		r.add("a rate for what a rule lets through", r.Table.Limit(name, rate.Count, rate.Per, uint32(burst), rate.Bytes))
	}
	return nft.Limited(name)
}

// through plans that a match is let through, as often as the rate says.
func (r *Rules) through(chain, began, why string, m match, rate Rate, limit, counter nft.Word, flows4, flows6 nft.Set) {
	match := m.words()
	words := slices.Clone(match)
	switch {
	case rate.Count == 0:
	case rate.Bytes:
		words = append(words, limit)
	default:
		for i, s := range []nft.Set{flows4, flows6} {
			if m.byName && m.six != (i == 1) {
				continue // no packet is of both versions
			}
			r.rule(chain, why+"; what has begun goes on", append(slices.Clone(match), nft.TupleIn(nft.Tuple{Six: i == 1}, s), counter, nft.Goto(began))...)
		}
		words = append(words, limit)
	}
	r.rule(chain, why, append(words, counter, nft.Goto(began))...)
}

// match is a condition of a rule: who is at the other end, and at which ports.
type match struct {
	peer, ports []nft.Word
	// byName: the other end is known by a name, at an address of version 6 of IP or of 4.
	byName, six bool
}

func (m match) words() []nft.Word { return append(slices.Clone(m.peer), m.ports...) }

// matches are the conditions of a rule: each peer with each port.
func (r *Rules) matches(in Input, n Network, p Plug, rule Rule, egress bool) (list []match) {
	peers := []match{{}}
	if len(rule.Peers) > 0 {
		peers = nil
		for _, peer := range rule.Peers {
			if peer.DNS != "" {
				peers = append(peers, r.byName(peer)...)
				continue
			}
			for _, words := range r.peer(in, n, p, peer, egress) {
				peers = append(peers, match{peer: words})
			}
		}
	}
	ports := [][]nft.Word{nil}
	if len(rule.Ports) > 0 {
		ports = nil
		for _, port := range rule.Ports {
			ports = append(ports, portWords(port)...)
		}
	}
	for _, a := range peers {
		for _, b := range ports {
			a.ports = b
			list = append(list, a)
		}
	}
	return list
}

// byName is what tells that somebody with a name of DNS is at the other end. The resolver fills the sets.
func (r *Rules) byName(peer Peer) (list []match) {
	for _, six := range []bool{false, true} {
		s := NameSet(r.Table, peer.DNS, six)
		r.make("ports of containers, and the addresses that they have been told for "+peer.DNS, s, false)
		list = append(list, match{peer: []nft.Word{nft.Knows(s)}, byName: true, six: six})
	}
	return list
}

// NameSet is the set with the addresses that are known by a name, by whom: ports of containers. It is the resolver's to fill.
func NameSet(t nft.Table, pattern string, six bool) nft.Set {
	v, field := "4", nft.IPv4
	if six {
		v, field = "6", nft.IPv6
	}
	return nft.Set{Table: t, Name: NameSetPrefix(pattern) + v, Key: []nft.Field{nft.Interface, field}, Timeout: MaxNameStay, Size: maxFlows}
}

// NameSetPrefix is the beginning of the names of a name's sets: 4 or 6 follows.
func NameSetPrefix(pattern string) string { return "dns-" + digest(pattern) + "-" }

// Names lists the names of DNS that a container may reach through a plug, as Peer.DNS has them.
func (in Input) Names(c Container, p Plug) []string {
	var list []string
	for _, named := range in.applying(c, p) {
		for _, rule := range named.Egress {
			for _, peer := range rule.Peers {
				if peer.DNS != "" && !slices.Contains(list, peer.DNS) {
					list = append(list, peer.DNS)
				}
			}
		}
	}
	return list
}

func portWords(p Port) [][]nft.Word {
	switch {
	case p.Protocol == "icmp":
		return [][]nft.Word{{nft.FrameVersion(false), nft.IsProtocol("icmp")}, {nft.FrameVersion(true), nft.IsProtocol("ipv6-icmp")}}
	case p.First == 0:
		return [][]nft.Word{{nft.IsProtocol(p.Protocol)}}
	}
	return [][]nft.Word{{nft.ToPorts(p.Protocol, p.First, p.Last)}}
}

// peer is what tells that somebody is at the other end.
func (r *Rules) peer(in Input, n Network, p Plug, peer Peer, egress bool) (list [][]nft.Word) {
	switch {
	case peer.Host:
		for _, a := range n.Gateways {
			list = append(list, []nft.Word{nft.Within(netip.PrefixFrom(a, a.BitLen()), !egress, false)})
		}
	case peer.Range.IsValid():
		words := []nft.Word{nft.Within(peer.Range, !egress, false)}
		for _, x := range peer.Except {
			words = append(words, nft.Within(x, !egress, true))
		}
		list = append(list, words)
	default:
		s := r.set("peers-"+digest(n.ID, peer.String()), nft.Interface)
		if !r.Sets[s.Name] {
			r.make("the ports of containers with "+peer.String()+" in network "+n.Name, s, true)
			for _, c := range in.Containers {
				for _, other := range c.Plugs {
					if other.Network == n.ID && peer.matches(c) {
						r.element("container "+c.Name, s.Add([]nft.Item{nft.InterfaceName(other.Link)}, nil, false))
					}
				}
			}
		}
		if egress {
			return [][]nft.Word{{nft.ToSwitchPort(s)}}
		}
		return [][]nft.Word{{nft.FromPort(s)}}
	}
	return list
}

// refuse plans what becomes of the rest.
func (r *Rules) refuse(chain, direction, link string) {
	const often, burst = 20, 100
	for _, all := range []string{"224.0.0.0/4", "ff00::/8"} {
		r.rule(chain, "what devices tell all neighbours by themselves is worth no word", nft.Within(netip.MustParsePrefix(all), false, false), nft.Drop())
	}
	r.Counters[RefusedCounter(direction, link)] = true
	r.add("packets that are refused are counted", r.Table.Counter(RefusedCounter(direction, link)))
	r.rule(chain, "refused", nft.Tally(RefusedCounter(direction, link)))
	for _, six := range []bool{false, true} {
		notes := Notes(r.Table, direction, six, link)
		r.rule(chain, "and noted, so that events tell who to whom", nft.ProtocolIn(r.ported()), nft.Limit(often, time.Second, burst, false), nft.Update(nft.Tuple{Six: six, Short: true}, notes, 0, true))
		r.rule(chain, "and noted, so that events tell who to whom", nft.IsProtocol(map[bool]string{false: "icmp", true: "ipv6-icmp"}[six]), nft.Limit(often, time.Second, burst, false),
			nft.Update(nft.Tuple{Six: six, Short: true, Kind: true}, notes, 0, true))
	}
	r.rule(chain, "nobody else", nft.Drop())
}

// Steps are the messages that add the rules of Compile for one container to the table.
func (r *Rules) Steps() []Step {
	list := slices.Clone(r.made)
	for _, name := range sorted(r.Chains) {
		list = append(list, Step{"what was there is made anew", r.Table.FlushChain(name)})
	}
	return append(append(list, r.rules...), r.elements...)
}

// Are reports whether the table has the chains, sets and counters of these rules, and no others. The names of sets are
// made of the policies, so those of others differ.
func (r *Rules) Are(there nft.Contents) bool {
	if len(there.Chains) != len(r.Chains) || len(there.Sets) != len(r.Sets) || len(there.Counters) != len(r.Counters) || len(there.Limits) != len(r.Limits) {
		return false
	}
	for name := range there.Counters {
		if !r.Counters[name] {
			return false
		}
	}
	if slices.ContainsFunc(there.Limits, func(name string) bool { return !r.Limits[name] }) {
		return false
	}
	return !slices.ContainsFunc(there.Chains, func(name string) bool { return !r.Chains[name] }) &&
		!slices.ContainsFunc(there.Sets, func(name string) bool { return !r.Sets[name] })
}

func sorted(m map[string]bool) []string {
	var list []string
	for name := range m {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}
