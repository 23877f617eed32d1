package nft

import (
	"encoding/binary"
	"net/netip"
)

// Protocols of frames, ETH_P_.
var etherTypes = map[string]uint16{"ip": 0x0800, "arp": 0x0806, "ip6": 0x86dd, "8021q": 0x8100, "8021ad": 0x88a8}

// linkBase is where the header of a frame begins, NFT_PAYLOAD_LL_HEADER. A source is behind a destination of 6 bytes.
const (
	linkBase   = 0
	linkSource = 6
	arpSource  = 14
	neighbour  = 8 // who a message of ICMPv6 about neighbours is about
)

// metaProtocol is NFT_META_PROTOCOL: what a frame carries, behind the mark of a VLAN if it has one.
const metaProtocol = 1

// Carries: the frame carries this: ip, arp, ip6, 8021q or 8021ad, behind the first mark of a VLAN.
func Carries(name string) Word {
	return Word{"meta protocol " + name, [][]byte{meta(metaProtocol, reg0), compare(false, reg0, binary.BigEndian.AppendUint16(nil, etherTypes[name]))}}
}

// HardwareBegins: the first two bytes of the frame's source.
func HardwareBegins(first, second byte) Word {
	text := "@ll,48,16 0x" + HardwareAddress(string([]byte{first, second})).text
	return Word{text[:len(text)-3] + text[len(text)-2:], [][]byte{payload(linkBase, linkSource, 2, reg0), compare(false, reg0, []byte{first, second})}}
}

// NotItsHardware: the interface that the frame came through and its source are no pair of the set.
func NotItsHardware(s Set) Word {
	return Word{"iifname . ether saddr != @" + s.Name, [][]byte{meta(metaIIfName, reg0), payload(linkBase, linkSource, 6, reg4), lookup(s.Name, reg0, true)}}
}

// claim is a place of an address that a frame says is its sender's.
type claim struct {
	words              string
	base, offset, size uint32
}

// The claims that there are: of packets of IP, of questions and answers of ARP, and of answers who has an address of version 6.
var (
	ClaimIP   = claim{"ip saddr", networkBase, source4, 4}
	ClaimARP  = claim{"arp saddr ip", networkBase, arpSource, 4}
	ClaimIP6  = claim{"ip6 saddr", networkBase, source6, 16}
	ClaimHave = claim{"icmpv6 taddr", transport, neighbour, 16}
)

// Claims: the address that the frame says is its sender's is in an interval set. The rule has said what the frame carries.
func Claims(c claim, s Set) Word {
	return Word{c.words + " @" + s.Name, [][]byte{payload(c.base, c.offset, c.size, reg0), lookup(s.Name, reg0, false)}}
}

// ClaimsRightly: the interface that the frame came through, its source and that address are three of the set. The rule has said
// what the frame carries.
func ClaimsRightly(c claim, s Set) Word {
	return Word{"iifname . ether saddr . " + c.words + " @" + s.Name,
		[][]byte{meta(metaIIfName, reg0), payload(linkBase, linkSource, 6, reg4), payload(c.base, c.offset, c.size, reg6), lookup(s.Name, reg0, false)}}
}

// ClaimsLocal: the address that the frame says is its sender's is a link-local one that is made of a hardware address (RFC 4291,
// appendix A). The rule has said that the frame carries ip6.
func ClaimsLocal(c claim) Word {
	const mask, local = "ffff:ffff:ffff:ffff:0:ff:ff00:0", "fe80::ff:fe00:0"
	return Word{c.words + " & " + mask + " == " + local, [][]byte{payload(c.base, c.offset, c.size, reg0),
		masked(reg0, netip.MustParseAddr(mask).AsSlice()), compare(false, reg0, netip.MustParseAddr(local).AsSlice())}}
}

// FromNowhere: the source of a packet of IPv6 is ::, as who looks whether an address is free has it.
func FromNowhere() Word {
	return Word{"ip6 saddr ::", [][]byte{payload(networkBase, source6, 16, reg0), compare(false, reg0, make([]byte, 16))}}
}

// masked keeps bits of a register.
func masked(reg uint32, mask []byte) []byte {
	return expression("bitwise", number(1, reg), number(2, reg), number(3, uint32(len(mask))), value(4, mask), value(5, make([]byte, len(mask))))
}

// IsNotProtocol: it is of another protocol above IP than this.
func IsNotProtocol(name string) Word {
	return Word{"meta l4proto != " + name, [][]byte{meta(metaL4Proto, reg0), compare(true, reg0, []byte{protocols[name]})}}
}
