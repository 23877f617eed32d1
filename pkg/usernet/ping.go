package usernet

import (
	"encoding/binary"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Bounds of pings.
const (
	maxPings     = 256
	pingPatience = 10 * time.Second
	pingHops     = 64
)

// pings passes echo requests on by ping sockets, icmp(7), and the replies back.
//
// The stack would answer echo requests itself, for any address, as it plays everybody. So they
// are taken out of its way before. To the gateway's address it may answer: that is us.
type pings struct {
	network *Network
	warned  sync.Once

	mu    sync.Mutex
	flows map[pingFlow]*os.File
}

// pingFlow is a series of requests of one program to one address.
type pingFlow struct {
	id uint16
	to netip.Addr
}

func (p *pings) init(n *Network) { p.network, p.flows = n, map[pingFlow]*os.File{} }

// intercept takes frames that are none of the stack's business.
func (n *Network) intercept(protocol tcpip.NetworkProtocolNumber, frame []byte) bool {
	e, ok := parseEcho(protocol, frame)
	if !ok || n.reach.inside(e.to) {
		return false
	}
	to, ok := n.reach.target(e.to)
	if ok {
		n.pings.request(e, to)
	}
	return true
}

// echo is an echo request: who sends it to whom, and the ICMP message.
type echo struct {
	from, to netip.Addr
	mac      [6]byte
	message  []byte
}

func (e *echo) six() bool { return e.to.Is6() }

// parseEcho reads an echo request that is whole. Of version 6 it must follow the header at once,
// as it does unless somebody plays.
func parseEcho(protocol tcpip.NetworkProtocolNumber, frame []byte) (e echo, ok bool) {
	packet := frame[header.EthernetMinimumSize:]
	switch protocol {
	case header.IPv4ProtocolNumber:
		h := header.IPv4(packet)
		if !h.IsValid(len(packet)) || h.Protocol() != uint8(header.ICMPv4ProtocolNumber) || h.More() || h.FragmentOffset() != 0 {
			return e, false
		}
		m := h.Payload()
		if len(m) < header.ICMPv4MinimumSize || header.ICMPv4(m).Type() != header.ICMPv4Echo {
			return e, false
		}
		e.from, e.to, e.message = toAddr(h.SourceAddress()), toAddr(h.DestinationAddress()), m
	case header.IPv6ProtocolNumber:
		h := header.IPv6(packet)
		if !h.IsValid(len(packet)) || h.NextHeader() != uint8(header.ICMPv6ProtocolNumber) {
			return e, false
		}
		m := h.Payload()
		if len(m) < header.ICMPv6EchoMinimumSize || header.ICMPv6(m).Type() != header.ICMPv6EchoRequest {
			return e, false
		}
		e.from, e.to, e.message = toAddr(h.SourceAddress()), toAddr(h.DestinationAddress()), m
	default:
		return e, false
	}
	copy(e.mac[:], frame[6:12])
	return e, true
}

// request sends a request by the socket of its flow.
func (p *pings) request(e echo, to netip.Addr) {
	flow := pingFlow{id: binary.BigEndian.Uint16(e.message[4:]), to: e.to}
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.flows[flow]
	if f == nil {
		if len(p.flows) >= maxPings {
			return
		}
		var err error
		if f, err = pingSocket(to); err != nil {
			p.warned.Do(func() { p.network.o.Warn(err) })
			return
		}
		p.flows[flow] = f
		go p.replies(flow, f, e)
	}
	_, _ = f.Write(e.message) // the kernel puts its own number in; packets may be lost
}

func pingSocket(to netip.Addr) (*os.File, error) {
	family, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	var address unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{}}
	if to.Is6() {
		family, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
		address = &unix.SockaddrInet6{Addr: to.As16()}
	} else {
		address = &unix.SockaddrInet4{Addr: to.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, os.NewSyscallError("ping socket (see net.ipv4.ping_group_range)", err)
	}
	if err := unix.Connect(fd, address); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("ping socket: connect", err)
	}
	return os.NewFile(uintptr(fd), "ping"), nil
}

// replies passes the replies of a flow on until none came for a while.
func (p *pings) replies(flow pingFlow, f *os.File, e echo) {
	message := make([]byte, maxDatagram)
	for {
		if err := f.SetReadDeadline(time.Now().Add(pingPatience)); err != nil {
			break
		}
		size, err := f.Read(message)
		if err != nil {
			break
		}
		if size >= header.ICMPv4MinimumSize {
			p.reply(flow, message[:size], e)
		}
	}
	p.mu.Lock()
	delete(p.flows, flow)
	p.mu.Unlock()
	f.Close()
}

// reply writes a reply as it would have come: with the number that the container chose.
func (p *pings) reply(flow pingFlow, message []byte, e echo) {
	binary.BigEndian.PutUint16(message[4:], flow.id)
	frame := make([]byte, virtioSize+header.EthernetMinimumSize, virtioSize+header.EthernetMinimumSize+header.IPv6MinimumSize+len(message))
	protocol := header.IPv4ProtocolNumber
	if e.six() {
		protocol = header.IPv6ProtocolNumber
	}
	header.Ethernet(frame[virtioSize:]).Encode(&header.EthernetFields{SrcAddr: ourMAC, DstAddr: tcpip.LinkAddress(e.mac[:]), Type: protocol})
	if e.six() {
		frame = append(frame, replyHeader6(message, e)...)
	} else {
		frame = append(frame, replyHeader4(message, e)...)
	}
	_ = p.network.link.write([][]byte{frame, message}) // packets may be lost
}

func replyHeader4(message []byte, e echo) []byte {
	m := header.ICMPv4(message)
	m.SetChecksum(0)
	m.SetChecksum(^checksum.Checksum(m, 0))
	h := header.IPv4(make([]byte, header.IPv4MinimumSize))
	h.Encode(&header.IPv4Fields{TotalLength: uint16(len(h) + len(message)), TTL: pingHops, Protocol: uint8(header.ICMPv4ProtocolNumber),
		SrcAddr: fromAddr(e.to), DstAddr: fromAddr(e.from)})
	h.SetChecksum(^h.CalculateChecksum())
	return h
}

func replyHeader6(message []byte, e echo) []byte {
	m := header.ICMPv6(message)
	m.SetChecksum(0)
	m.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: m, Src: fromAddr(e.to), Dst: fromAddr(e.from)}))
	h := header.IPv6(make([]byte, header.IPv6MinimumSize))
	h.Encode(&header.IPv6Fields{PayloadLength: uint16(len(message)), TransportProtocol: header.ICMPv6ProtocolNumber, HopLimit: pingHops,
		SrcAddr: fromAddr(e.to), DstAddr: fromAddr(e.from)})
	return h
}
