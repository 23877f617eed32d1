package linux

import (
	"encoding/binary"

	"github.com/containr/containr/pkg/plan"
)

// LinkRequest is ioctl(2) about a network device, netdevice(7), by the child: in a network
// namespace that an ordinary user owns nobody outside may make one. What it asks for is Request;
// FD is a Socket, or for the requests about a tap, linux/if_tun.h, /dev/net/tun.
type LinkRequest struct {
	FD      FD
	Request LinkWord
	// Interface is the device's name, where it is known by that, and Index its number.
	Interface string
	Index     uint32
	// Address is in network order: 4 bytes, or for version 6 of the protocol 16.
	Address string
	// Number is the length of the longest packet, or of a prefix.
	Number int
}

// LinkWord is a request, by its name in C.
type LinkWord string

// The requests.
const (
	// TapIndex gives the device that FD will make the number Index.
	TapIndex LinkWord = "TUNSETIFINDEX"
	// MakeTap makes FD the other end of a new device: what the namespace sends through it is read from
	// FD, and what is written there arrives. In front of each frame is a struct virtio_net_hdr.
	MakeTap LinkWord = "TUNSETIFF"
	// TapOffload says that the reader of FD takes packets whose checksum is still to be made, and segments of TCP
	// that are longer than the device's frames.
	TapOffload LinkWord = "TUNSETOFFLOAD"
	// LinkMTU bounds the device's packets to Number bytes.
	LinkMTU LinkWord = "SIOCSIFMTU"
	// LinkAddress gives the device Address; of version 6 with a prefix of Number bits, by Index.
	LinkAddress LinkWord = "SIOCSIFADDR"
	// LinkMask says by the bits that are set in Address which of those of its address are the network's.
	LinkMask LinkWord = "SIOCSIFNETMASK"
	// LinkGateway sends what is for nobody near to Address; of version 6 by Index.
	LinkGateway LinkWord = "SIOCADDRT"
)

var linkRequests = map[LinkWord]uint64{TapIndex: 0x400454da, MakeTap: 0x400454ca, TapOffload: 0x400454d0, LinkMTU: 0x8922,
	LinkAddress: 0x8916, LinkMask: 0x891c, LinkGateway: 0x890b}

// Name is the system call.
func (LinkRequest) Name() string { return "ioctl" }

// AppendArgs lays out what the request points to, as a 64-bit kernel has it.
func (c LinkRequest) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, c.FD.arg(), plan.OneOf(linkRequests[c.Request], &ioctlNames), c.operand())
}

func (c LinkRequest) operand() plan.Arg {
	const tap, noHeader, virtioHeader = 0x0002, 0x1000, 0x4000
	six := len(c.Address) == 16
	switch {
	case c.Request == TapOffload:
		const checksum, tcp4, tcp6 = 1, 2, 4
		return plan.Flags(checksum|tcp4|tcp6, &offloadNames)
	case c.Request == TapIndex:
		return plan.Pointer(word("", uint64(c.Index)))
	case c.Request == MakeTap:
		return c.ifreq(plan.Flags(tap|noHeader|virtioHeader, &tapFlagNames).Member("ifr_flags", 8), word("", 0), word("", 0))
	case c.Request == LinkGateway && six:
		return c.route6()
	case c.Request == LinkGateway:
		return c.route()
	case six: // struct in6_ifreq
		return plan.Pointer(append(words("ifr6_addr", c.Address), plan.Number(c.Number).Member("ifr6_prefixlen", 4), plan.Number(c.Index).Member("ifr6_ifindex", 4))...)
	case c.Request == LinkMTU:
		return c.ifreq(plan.Number(c.Number).Member("ifr_mtu", 8), word("", 0), word("", 0))
	}
	return c.ifreq(append(socketAddress("ifr_addr", c.Address), word("", 0))...)
}

// ifreq is struct ifreq: 16 bytes of name, and 24 more.
func (c LinkRequest) ifreq(rest ...plan.Arg) plan.Arg {
	const longest = 15 // IFNAMSIZ without the closing zero
	return plan.Pointer(append(words("ifr_name", c.Interface[:min(longest, len(c.Interface))]), rest...)...)
}

// Flags of routes, linux/route.h.
const routeUp, routeGateway = 1, 2

// route is struct rtentry.
func (c LinkRequest) route() plan.Arg {
	list := []plan.Arg{word("", 0)}
	list = append(list, socketAddress("rt_dst", "")...)
	list = append(list, socketAddress("rt_gateway", c.Address)...)
	list = append(list, socketAddress("rt_genmask", "")...)
	list = append(list, plan.Flags(routeUp|routeGateway, &routeFlagNames).Member("rt_flags", 8))
	for range 7 {
		list = append(list, word("", 0))
	}
	return plan.Pointer(list...)
}

// route6 is struct in6_rtmsg.
func (c LinkRequest) route6() plan.Arg {
	list := append(words("rtmsg_dst", ""), words("rtmsg_src", "")...)
	list = append(list, words("rtmsg_gateway", c.Address)...)
	return plan.Pointer(append(list, word("", 0), word("rtmsg_metric", 1), word("", 0),
		plan.Flags(routeUp|routeGateway, &routeFlagNames).Member("rtmsg_flags", 4), plan.Number(c.Index).Member("rtmsg_ifindex", 4))...)
}

// socketAddress is struct sockaddr_in without a port.
func socketAddress(label, address string) []plan.Arg {
	const inet = 2
	b := append([]byte{inet, 0, 0, 0}, address...)
	return words(label, string(b))
}

// words are at most 16 bytes as two numbers.
func words(label, b string) []plan.Arg {
	var all [16]byte
	copy(all[:], b)
	return []plan.Arg{word(label, binary.LittleEndian.Uint64(all[:8])), word("", binary.LittleEndian.Uint64(all[8:]))}
}

func word(label string, n uint64) plan.Arg { return plan.Arg{Kind: plan.Hex, Num: n}.Member(label, 8) }
