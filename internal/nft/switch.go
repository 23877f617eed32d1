package nft

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"time"
)

// What rules of the family bridge ask of what a switch passes on. There the version of IP is the frame's protocol, and
// no table of connections has to be there: sets that rules fill themselves (Tuple, Update) stand in for it.

// Keys and offsets that only these rules use.
const (
	protocol4   = 0x0800
	protocol6   = 0x86dd
	protocolARP = 0x0806
)

//go:noinline
func frameIs(protocol uint16) [][]byte {
	return [][]byte{meta(metaProtocol, reg0), compare(false, reg0, binary.BigEndian.AppendUint16(nil, protocol))}
}

//go:noinline
func frameVersion(six bool) [][]byte {
	if six {
		return frameIs(protocol6)
	}
	return frameIs(protocol4)
}

// IsARP: the frame asks who has an address of version 4 of IP, or answers.
func IsARP() Word { return Word{"meta protocol arp", frameIs(protocolARP)} }

// FrameVersion: it carries version 4 of IP, or with six version 6.
//
//go:noinline
func FrameVersion(six bool) Word {
	return Word{"meta protocol ip" + map[bool]string{true: "6"}[six], frameVersion(six)}
}

// FromPort and ToPorts: it came through, or is to leave through, one of the set of a switch's ports.
//
//go:noinline
func FromPort(s Set) Word { return FromInterfaces(s, false) }

// FromNoPort: it came through none of them, but from the host, or from beyond it.
func FromNoPort(s Set) Word { return FromInterfaces(s, true) }

// ToSwitchPort: see FromPort.
//
//go:noinline
func ToSwitchPort(s Set) Word { return ToInterfaces(s, false) }

// address loads the source, or the destination, of a packet into register.
//
//go:noinline
func address(six, source bool, register uint32) (words string, load []byte) {
	switch {
	case six && source:
		return "ip6 saddr", payload(networkBase, source6, 16, register)
	case six:
		return "ip6 daddr", payload(networkBase, destination6, 16, register)
	case source:
		return "ip saddr", payload(networkBase, source4, 4, register)
	}
	return "ip daddr", payload(networkBase, destination4, 4, register)
}

// Within: its source, or its destination, is in a range of addresses, or with not in none of it.
//
//go:noinline
func Within(p netip.Prefix, source, not bool) Word {
	six := p.Addr().Is6()
	words, load := address(six, source, reg0)
	text := p.String()
	if p.IsSingleIP() {
		text = p.Addr().String()
	}
	w := Word{words + " " + isNot(not) + text, append(frameVersion(six), load)}
	size := p.Addr().BitLen() / 8
	if p.Bits() == 0 { // an exception of that kind would leave nothing
		return Word{"meta protocol ip" + map[bool]string{true: "6"}[six], frameVersion(six)}
	}
	if !p.IsSingleIP() {
		mask := make([]byte, size)
		for i := range p.Bits() {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		w.expressions = append(w.expressions, expression("bitwise", number(1, reg0), number(2, reg0), number(3, uint32(size)), value(4, mask), value(5, make([]byte, size))))
	}
	w.expressions = append(w.expressions, compare(not, reg0, p.Masked().Addr().AsSlice()))
	return w
}

// Owns: the port that it came through and its source are a pair of the set, or with not none.
//
//go:noinline
func Owns(s Set, not bool) Word {
	six := s.Key[1] == IPv6
	words, load := address(six, true, reg4)
	return Word{"iifname . " + words + " " + isNot(not) + "@" + s.Name, append(frameVersion(six), meta(metaIIfName, reg0), load, lookup(s.Name, reg0, not))}
}

// Knows: the port that it came through and its destination are a pair of the set.
func Knows(s Set) Word {
	six := s.Key[1] == IPv6
	words, load := address(six, false, reg4)
	return Word{"iifname . " + words + " @" + s.Name, append(frameVersion(six), meta(metaIIfName, reg0), load, lookup(s.Name, reg0, false))}
}

// Renew are the messages that have an element stay for a time from now on, whether it is there or not. Kernels before 6.12 leave the
// time of one that is there as it is, so it goes and comes, at one moment.
func (s Set) Renew(key []Item, stay time.Duration) []Message {
	words, data := joinItems(key)
	add := s.elements("add", msgNewElement, flagCreate, words+" timeout "+seconds(stay), nested(1, value(1, data), attribute(4, milliseconds(stay))))
	return []Message{add, s.Delete(key), add}
}

// ToPorts: it is for one of a range of ports of tcp, udp or sctp.
func ToPorts(protocol string, first, last uint16) Word {
	if first == last {
		return ToPort(protocol, first)
	}
	const atMost, atLeast = 3, 5 // NFT_CMP_LTE, NFT_CMP_GTE
	bound := func(op uint32, n uint16) []byte {
		return expression("cmp", number(1, reg0), number(2, op), value(3, PortNumber(n).data))
	}
	return Word{protocol + " dport " + strconv.Itoa(int(first)) + "-" + strconv.Itoa(int(last)),
		append(IsProtocol(protocol).expressions, payload(transport, 2, 2, reg0), bound(atLeast, first), bound(atMost, last))}
}

// IsICMP: it is of ICMP in the version of IP, and of this type.
//
//go:noinline
func IsICMP(six bool, kind string) Word {
	protocol, words := "icmp", "icmp type "
	if six {
		protocol, words = "ipv6-icmp", "icmpv6 type "
	}
	return Word{words + kind, append(IsProtocol(protocol).expressions, payload(transport, 0, 1, reg0), compare(false, reg0, []byte{ICMPTypes[six][kind]}))}
}

// ICMPTypes are the types that rules ask for, by false for version 4 of IP and true for 6.
var ICMPTypes = map[bool]map[string]byte{
	false: {"echo-request": 8, "echo-reply": 0, "destination-unreachable": 3, "time-exceeded": 11, "parameter-problem": 12},
	true: {"echo-request": 128, "echo-reply": 129, "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4,
		"nd-neighbor-solicit": 135, "nd-neighbor-advert": 136},
}

// EndsTCP: it ends a connection of TCP, as its flags fin or rst say.
//
//go:noinline
func EndsTCP() Word {
	return Word{"tcp flags & (fin | rst) != 0", append(IsProtocol("tcp").expressions, payload(transport, 13, 1, reg0),
		expression("bitwise", number(1, reg0), number(2, reg0), number(3, 1), value(4, []byte{1 | 4}), value(5, []byte{0})), compare(true, reg0, []byte{0}))}
}

// ProtocolIn: its protocol above IP is in a set.
//
//go:noinline
func ProtocolIn(s Set) Word {
	return Word{"meta l4proto @" + s.Name, [][]byte{meta(metaL4Proto, reg0), lookup(s.Name, reg0, false)}}
}

// Tuple is what tells a flow of packets from others: both addresses, the protocol, both ports.
type Tuple struct {
	// Six: it is of version 6 of IP. Reversed: as the other end would send it.
	Six, Reversed bool
	// Pair: the addresses alone. Short: and the protocol and the port of the destination, without the source's; Kind: in its place type
	// and code of ICMP.
	Pair, Short, Kind bool
}

// Fields is what a set for tuples has as its key.
func (t Tuple) Fields() []Field {
	a := IPv4
	if t.Six {
		a = IPv6
	}
	all := []Field{a, a, Protocol, Port, Port}
	switch {
	case t.Pair:
		return all[:2]
	case t.Short:
		return all[:4]
	}
	return all
}

// load puts the tuple into registers from the first on.
func (t Tuple) load() (words string, expressions [][]byte) {
	size := uint32(1)
	if t.Six {
		size = 4
	}
	at := func(i uint32) uint32 { // the i-th register of 4 bytes, NFT_REG32_00
		if i == 0 {
			return reg0
		}
		return 8 + i
	}
	one, loadOne := address(t.Six, !t.Reversed, at(0))
	two, loadTwo := address(t.Six, t.Reversed, at(size))
	words, expressions = one+" . "+two, append(frameVersion(t.Six), loadOne, loadTwo)
	if t.Pair {
		return words, expressions
	}
	words, expressions = words+" . meta l4proto", append(expressions, meta(metaL4Proto, at(2*size)))
	third, fourth := at(2*size+1), at(2*size+2)
	switch {
	case t.Kind:
		return words + " . th sport", append(expressions, payload(transport, 0, 2, third))
	case t.Short:
		return words + " . th dport", append(expressions, payload(transport, 2, 2, third))
	case t.Reversed:
		return words + " . th dport . th sport", append(expressions, payload(transport, 2, 2, third), payload(transport, 0, 2, fourth))
	}
	return words + " . th sport . th dport", append(expressions, payload(transport, 0, 2, third), payload(transport, 2, 2, fourth))
}

// TupleIn: the tuple is in a set.
//
//go:noinline
func TupleIn(t Tuple, s Set) Word {
	words, expressions := t.load()
	return Word{words + " @" + s.Name, append(expressions, lookup(s.Name, reg0, false))}
}

// Update puts the tuple into a dynamic set, or has it stay longer: for a time, or 0 for the set's own. If the set is full, the
// rule does not apply. With counted, packets are counted with it.
//
//go:noinline
func Update(t Tuple, s Set, stay time.Duration, counted bool) Word {
	const update = 1
	words, expressions := t.load()
	attributes := [][]byte{text(1, s.Name), number(3, update), number(4, reg0)}
	if stay != 0 {
		words += " timeout " + seconds(stay)
		attributes = append(attributes, attribute(6, milliseconds(stay)))
	}
	if counted {
		words += " counter"
		attributes = append(attributes, nested(7, text(1, "counter"), nested(2)))
	}
	return Word{"update @" + s.Name + " { " + words + " }", append(expressions, expression("dynset", attributes...))}
}

// Limit lets through count packets, or with bytes bytes, in a time, and burst more at once. A rule has one of its own.
//
//go:noinline
func Limit(count uint64, per time.Duration, burst uint32, bytes bool) Word {
	words, attributes := limit(count, per, burst, bytes)
	return Word{"limit rate " + words, [][]byte{expression("limit", attributes...)}}
}

// limit is a limit in words and as the attributes NFTA_LIMIT_RATE, UNIT, BURST and TYPE.
func limit(count uint64, per time.Duration, burst uint32, bytes bool) (words string, attributes [][]byte) {
	kind := uint32(0)
	words = strconv.FormatUint(count, 10) + "/" + map[time.Duration]string{time.Second: "second", time.Minute: "minute", time.Hour: "hour"}[per] +
		" burst " + strconv.Itoa(int(burst)) + " packets"
	if bytes {
		kind, words = 1, strconv.FormatUint(count, 10)+" bytes/second burst "+strconv.Itoa(int(burst))+" bytes"
	}
	wide := func(kind uint16, n uint64) []byte { return attribute(kind, binary.BigEndian.AppendUint64(nil, n)) }
	return words, [][]byte{wide(1, count), wide(2, uint64(per/time.Second)), number(3, burst), number(4, kind)}
}

// Types of objects, NFT_OBJECT_COUNTER and NFT_OBJECT_LIMIT.
const (
	objectCounter = 1
	objectLimit   = 4
)

// Limited lets through what a limit of the table does, which many rules may share.
//
//go:noinline
func Limited(name string) Word {
	return Word{"limit name " + strconv.Quote(name), [][]byte{expression("objref", number(1, objectLimit), text(2, name))}}
}

// Limit makes a limit of the table, see Limit, if it is not there: one that is goes on as it is.
func (t Table) Limit(name string, count uint64, per time.Duration, burst uint32, bytes bool) Message {
	words, attributes := limit(count, per, burst, bytes)
	return Message{"add limit " + t.words() + " " + name + " { rate " + words + " ; }",
		t.message(msgNewObject, flagCreate, text(2, name), number(3, objectLimit), nested(4, attributes...))}
}

// DeleteLimit deletes a limit that no rule uses.
func (t Table) DeleteLimit(name string) Message {
	return Message{"delete limit " + t.words() + " " + name, t.message(msgDelObject, 0, text(2, name), number(3, objectLimit))}
}

// Tally counts the packet with a counter of the table.
//
//go:noinline
func Tally(name string) Word {
	return Word{"counter name " + strconv.Quote(name), [][]byte{expression("objref", number(1, objectCounter), text(2, name))}}
}

// Choose jumps to the chain that a map has for the port that the frame came through, or with to for the one that it is to leave through.
//
//go:noinline
func Choose(s Set, to bool) Word {
	words, key := "iifname", uint32(metaIIfName)
	if to {
		words, key = "oifname", metaOIfName
	}
	return Word{words + " vmap @" + s.Name, [][]byte{meta(key, reg0), expression("lookup", text(1, s.Name), number(2, reg0), number(3, 0))}}
}

// Counter makes a counter of the table, if it is not there.
func (t Table) Counter(name string) Message {
	return Message{"add counter " + t.words() + " " + name, t.message(msgNewObject, flagCreate, text(2, name), number(3, objectCounter), nested(4))}
}

// DeleteCounter deletes a counter that no rule uses.
func (t Table) DeleteCounter(name string) Message {
	return Message{"delete counter " + t.words() + " " + name, t.message(msgDelObject, 0, text(2, name), number(3, objectCounter))}
}

// DeleteChain deletes a chain that no rule and no map leads to.
func (t Table) DeleteChain(name string) Message {
	return Message{"delete chain " + t.words() + " " + name, t.message(msgDelChain, 0, text(3, name))}
}

// FlushChain deletes the rules of a chain.
func (t Table) FlushChain(name string) Message {
	return Message{"flush chain " + t.words() + " " + name, t.message(msgDelRule, 0, text(2, name))}
}

// Flush deletes the set's elements.
func (s Set) Flush() Message {
	return Message{"flush set " + s.Table.words() + " " + s.Name, s.Table.message(msgDelElement, 0, text(2, s.Name))}
}

// DeleteSet deletes a set that no rule uses.
func (s Set) DeleteSet() Message {
	return Message{"delete set " + s.Table.words() + " " + s.Name, s.Table.message(msgDelSet, 0, text(2, s.Name))}
}

// AddJump adds an element to a map of verdicts: to jump to a chain.
func (s Set) AddJump(key []Item, chain string) Message {
	words, data := joinItems(key)
	return s.elements("add", msgNewElement, flagCreate, words+" : jump "+chain, nested(1, value(1, data), verdictData(2, verdictJump, text(2, chain))))
}
