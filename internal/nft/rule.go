package nft

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// What builds messages is not inlined: its bodies in some hundred places were a tenth of a MiB.

// A Word is a part of a rule: its text, and the expressions that mean it.
type Word struct {
	text        string
	expressions [][]byte
}

// Rule adds a rule to a chain's end.
//
//go:noinline
func (t Table) Rule(chain string, words ...Word) Message {
	parts := []string{"add rule", t.words(), chain}
	var list [][]byte
	for _, w := range words {
		if w.text != "" {
			parts = append(parts, w.text)
		}
		list = append(list, w.expressions...)
	}
	return Message{strings.Join(parts, " "),
		t.message(msgNewRule, flagCreate|flagAppend, text(2, chain), nested(4, list...))}
}

// expression is one instruction of a rule.
//
//go:noinline
func expression(name string, attributes ...[]byte) []byte {
	return nested(1, text(1, name), nested(2, attributes...))
}

// Registers: the first three of 4 bytes, and those that lie behind an address of version
// 6 or an interface's name, which fill four.
const (
	reg0 = 1 // NFT_REG_1
	reg1 = 9 // NFT_REG32_01
	reg2 = 10
	reg4 = 12
	reg5 = 13
	reg6 = 14
)

// Keys of meta, NFT_META_.
const (
	metaIIfName  = 6
	metaOIfName  = 7
	metaNFProto  = 15
	metaIIfGroup = 21
	metaL4Proto  = 16
	networkBase  = 1
	transport    = 2
	ctState      = 0
	ctStatus     = 2
	destination4 = 16 // offsets in the headers of IP
	source4      = 12
	destination6 = 24
	source6      = 8
)

//go:noinline
func meta(key, reg uint32) []byte { return expression("meta", number(1, reg), number(2, key)) }

//go:noinline
func payload(base, offset, size, reg uint32) []byte {
	return expression("payload", number(1, reg), number(2, base), number(3, offset), number(4, size))
}

// compare is EQ or, with not, NEQ.
//
//go:noinline
func compare(not bool, reg uint32, data []byte) []byte {
	op := uint32(0)
	if not {
		op = 1
	}
	return expression("cmp", number(1, reg), number(2, op), value(3, data))
}

//go:noinline
func lookup(set string, reg uint32, not bool) []byte {
	attributes := [][]byte{text(1, set), number(2, reg)}
	if not {
		attributes = append(attributes, number(5, 1))
	}
	return expression("lookup", attributes...)
}

//go:noinline
func isNot(not bool) string {
	if not {
		return "!= "
	}
	return ""
}

// FromInterface: the packet came through this interface, or with not through another.
func FromInterface(name string, not bool) Word {
	return Word{"iifname " + isNot(not) + InterfaceName(name).text,
		[][]byte{meta(metaIIfName, reg0), compare(not, reg0, InterfaceName(name).data)}}
}

// FromInterfaces: it came through one of the set, or with not through none of them.
func FromInterfaces(s Set, not bool) Word {
	return Word{"iifname " + isNot(not) + "@" + s.Name, [][]byte{meta(metaIIfName, reg0), lookup(s.Name, reg0, not)}}
}

// FromGroup: it came through a device of this group.
func FromGroup(n uint32) Word {
	return Word{"iifgroup " + strconv.Itoa(int(n)), [][]byte{meta(metaIIfGroup, reg0), compare(false, reg0, binary.NativeEndian.AppendUint32(nil, n))}}
}

// ToInterfaces: it is to leave through one of the set, or with not through none of them.
func ToInterfaces(s Set, not bool) Word {
	return Word{"oifname " + isNot(not) + "@" + s.Name, [][]byte{meta(metaOIfName, reg0), lookup(s.Name, reg0, not)}}
}

// Between: the interfaces that it came through and leaves through are a pair of the set.
func Between(s Set) Word {
	return Word{"iifname . oifname @" + s.Name, [][]byte{meta(metaIIfName, reg0), meta(metaOIfName, reg4), lookup(s.Name, reg0, false)}}
}

// FromWithin: the interface that it came through and its destination are a pair of the set.
func FromWithin(s Set) Word {
	words, v, offset, size := "iifname . ip daddr @", version(false), uint32(destination4), uint32(4)
	if s.Key[1] == IPv6 {
		words, v, offset, size = "iifname . ip6 daddr @", version(true), destination6, 16
	}
	return Word{words + s.Name, append(v, meta(metaIIfName, reg0), payload(networkBase, offset, size, reg4), lookup(s.Name, reg0, false))}
}

//go:noinline
func version(six bool) [][]byte {
	n := byte(2)
	if six {
		n = 10
	}
	return [][]byte{meta(metaNFProto, reg0), compare(false, reg0, []byte{n})}
}

// ToLoopback and FromLoopback: its destination, or source, is in 127.0.0.0/8.
func ToLoopback() Word {
	return Word{"ip daddr 127.0.0.0/8", append(version(false), payload(networkBase, destination4, 1, reg0), compare(false, reg0, []byte{127}))}
}

// To: its destination is in p, whose length is one of whole bytes.
func To(p netip.Prefix) Word {
	six, family, offset := p.Addr().Is6(), "ip", uint32(destination4)
	if six {
		family, offset = "ip6", destination6
	}
	text, n := p.String(), p.Bits()/8
	if p.IsSingleIP() {
		text = p.Addr().String()
	}
	return Word{family + " daddr " + text, append(version(six), payload(networkBase, offset, uint32(n), reg0), compare(false, reg0, p.Addr().AsSlice()[:n]))}
}

// FromLoopback: see ToLoopback.
func FromLoopback() Word {
	return Word{"ip saddr 127.0.0.0/8", append(version(false), payload(networkBase, source4, 1, reg0), compare(false, reg0, []byte{127}))}
}

// From: its source is in an interval set of addresses.
func From(s Set) Word {
	if s.Key[0] == IPv6 {
		return Word{"ip6 saddr @" + s.Name, append(version(true), payload(networkBase, source6, 16, reg0), lookup(s.Name, reg0, false))}
	}
	return Word{"ip saddr @" + s.Name, append(version(false), payload(networkBase, source4, 4, reg0), lookup(s.Name, reg0, false))}
}

// ToLocal: its destination is an address of this host.
func ToLocal() Word {
	const addressType, byDestination, local = 3, 2, 2
	return Word{"fib daddr type local", [][]byte{expression("fib", number(1, reg0), number(2, addressType), number(3, byDestination)),
		compare(false, reg0, binary.NativeEndian.AppendUint32(nil, local))}}
}

// IsProtocol: it is of this protocol above IP: tcp, udp, sctp, icmp or ipv6-icmp.
//
//go:noinline
func IsProtocol(name string) Word {
	return Word{"meta l4proto " + name, [][]byte{meta(metaL4Proto, reg0), compare(false, reg0, []byte{protocols[name]})}}
}

// neighbourMessages are types of ICMPv6.
var neighbourMessages = map[string]byte{"nd-neighbor-solicit": 135, "nd-neighbor-advert": 136, "nd-router-advert": 134, "nd-redirect": 137}

// IsNeighbour: it is the question who has an address of version 6 of IP, nd-neighbor-solicit, or its answer,
// nd-neighbor-advert; or what routers say, nd-router-advert and nd-redirect.
func IsNeighbour(kind string) Word {
	return Word{"icmpv6 type " + kind, append(IsProtocol("ipv6-icmp").expressions,
		payload(transport, 0, 1, reg0), compare(false, reg0, []byte{neighbourMessages[kind]}))}
}

// ToPort: it is for this port of tcp, udp or sctp.
func ToPort(protocol string, port uint16) Word {
	return Word{protocol + " dport " + strconv.Itoa(int(port)), append(IsProtocol(protocol).expressions,
		payload(transport, 2, 2, reg0), compare(false, reg0, PortNumber(port).data))}
}

// anyBit: connection tracking has one of these bits under the key.
func anyBit(text string, key, mask uint32) Word {
	bits := binary.NativeEndian.AppendUint32(nil, mask)
	return Word{text, [][]byte{expression("ct", number(1, reg0), number(2, key)),
		expression("bitwise", number(1, reg0), number(2, reg0), number(3, 4), value(4, bits), value(5, make([]byte, 4))),
		compare(true, reg0, make([]byte, 4))}}
}

// Established: it belongs to a connection that has been let through before.
func Established() Word { return anyBit("ct state established,related", ctState, 2|4) }

// Translated: its destination has been changed, as by Translate.
func Translated() Word { return anyBit("ct status dnat", ctStatus, 1<<5) }

// Translate gives the packet the destination that a map has for it. The map's key is
// protocol and port, or destination, protocol and port; its data is address and port.
func Translate(s Set) Word {
	six, whole := s.Data[0] == IPv6, len(s.Key) == 3
	v, f, offset, size, behind, next := "ip", uint32(2), uint32(destination4), uint32(4), uint32(reg1), uint32(reg2)
	if six {
		v, f, offset, size, behind, next = "ip6", 10, destination6, 16, reg4, reg5
	}
	w := Word{expressions: version(six)}
	if whole {
		w.text = "dnat " + v + " to " + v + " daddr . meta l4proto . th dport map @" + s.Name
		w.expressions = append(w.expressions, payload(networkBase, offset, size, reg0), meta(metaL4Proto, behind), payload(transport, 2, 2, next))
	} else {
		w.text = "meta nfproto ipv" + map[bool]string{false: "4", true: "6"}[six] + " dnat " + v + " to meta l4proto . th dport map @" + s.Name
		w.expressions = append(w.expressions, meta(metaL4Proto, reg0), payload(transport, 2, 2, reg1))
	}
	const destinationNAT = 1
	w.expressions = append(w.expressions, expression("lookup", text(1, s.Name), number(2, reg0), number(3, reg0)),
		expression("nat", number(1, destinationNAT), number(2, f), number(3, reg0), number(5, behind)))
	return w
}

// Masquerade gives the packet the source address of the interface that it leaves through.
func Masquerade() Word { return Word{"masquerade", [][]byte{expression("masq")}} }

// Codes of verdicts.
const (
	verdictDrop   = 0
	verdictAccept = 1
	verdictJump   = -3 & 0xffffffff
	verdictGoto   = -4 & 0xffffffff
	verdictReturn = -5 & 0xffffffff
)

//go:noinline
func verdict(words string, code uint32, chain ...[]byte) Word {
	return Word{words, [][]byte{expression("immediate", number(1, 0), verdictData(2, code, chain...))}}
}

// verdictData is NFTA_DATA_VERDICT in an attribute.
//
//go:noinline
func verdictData(kind uint16, code uint32, chain ...[]byte) []byte {
	return nested(kind, nested(2, append([][]byte{number(1, code)}, chain...)...))
}

// Drop throws the packet away.
//
//go:noinline
func Drop() Word { return verdict("drop", verdictDrop) }

// Accept ends this table's say.
//
//go:noinline
func Accept() Word { return verdict("accept", verdictAccept) }

// Return goes back to the chain that jumped here, or ends a base chain.
//
//go:noinline
func Return() Word { return verdict("return", verdictReturn) }

// Jump goes through another chain.
//
//go:noinline
func Jump(chain string) Word { return verdict("jump "+chain, verdictJump, text(2, chain)) }

// Goto goes through another chain, and from its end to where this one was jumped from.
//
//go:noinline
func Goto(chain string) Word { return verdict("goto "+chain, verdictGoto, text(2, chain)) }
