// Package usernet carries the packets of one container by ordinary sockets, as a process of the
// user whose container it is.
//
// # Theory of operation
//
// The container's only device is a tap; its other end is a descriptor of ours. On our side of it
// is a whole network stack in Go (gVisor's tcpip), which plays the rest of the world: it takes
// packets for any address. What the container begins, and where it goes:
//
//	TCP          the host connects first; only then is the container's SYN answered. So
//	             refused stays refused (outgoing.go). Then bytes are passed on, and each end of input (stream.go)
//	UDP          a socket of the host for each pair of ends, until nothing came for a while
//	ping         a ping socket of the host, icmp(7), for each number and address (ping.go)
//	names        what is for port 53 of the address .3 goes to the host's name servers (names.go)
//
// What comes from outside comes through ports of the host that were asked for. The stack may
// send from any address, so the container sees the client's, and answers go back the same way
// (publish.go).
//
// A container, or who calls it, may have us hold connections that nobody reads from, and every one
// of them with its buffers full. So there are maxTCP at the most, out and in together, and what
// each may hold is bounded: 256 MB in all, in the worst case. One more is refused with a reset
// (seat.go).
//
// Nothing here waits inside a system call, and one goroutine, the loop, reads the tap and reads and writes all sockets of the host that are of TCP: when
// the kernel says that they are ready, or the stack that an endpoint is, and by calls that Go's scheduler does not hear of (sys.ReadNow). A
// connection has no goroutine and no buffer of its own. The stack's goroutines, which take what the tap has brought in, run in between,
// on the same thread. They tell of their endpoints by events, with an endpoint's lock held: then no endpoint can be read or
// written, so an event only puts the connection into the loop's list (loop.go). See processorsEach.
//
// What acknowledges little data waits for the answer, which says it as well (link.withhold).
//
// Where the container may not go is decided in one place, reach.go: the host's loopback
// addresses, in any of their disguises, are closed unless asked for.
//
// The process ends when the container's first process does. It holds a lock from before its
// first moment to its last, so whoever wants its ports waits for that.
package usernet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/containr/containr/pkg/network/usermode"
)

// Options say what network it is.
type Options struct {
	Net usermode.Net
	// IPv6 says that the container has an address of version 6.
	IPv6 bool
	// MTU is the longest packet in bytes; 0 is 1500.
	MTU int
	// HostLoopback: see usermode.Input.
	HostLoopback bool
	Ports        []usermode.Port
	// Hub says that the container is the network of many, which ports come to and go from.
	Hub bool
	// Tap is the device's other end. The network takes it over.
	Tap *os.File
	// NameServers says where names are asked for.
	NameServers func() []netip.Addr
	// Warn is told what went wrong, seldom more than once.
	Warn func(error)
}

// Network is a network that carries packets.
type Network struct {
	o     Options
	stack *stack.Stack
	link  *link
	loop  *loop
	reach *reach
	seats *seats
	pings pings

	mu sync.Mutex
	// open are the sockets of each port.
	open map[usermode.Port]published
}

const nic tcpip.NICID = 1

// entrances are the addresses of version 4 that Net.Entrance makes.
var entrances = tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4([4]byte{240}), PrefixLen: 4}.Subnet()

// defaultMTU is that of most of the internet. Segments of TCP travel whole all the same.
const defaultMTU = 1500

// timeWait is how long the number of a connection that has ended stays taken: nothing is late on this cable.
const timeWait = time.Second

// New makes the network and binds its ports. Packets are carried when it returns.
func New(ctx context.Context, o Options) (*Network, error) {
	if o.MTU == 0 {
		o.MTU = defaultMTU
	}
	r, err := newReach(o)
	if err != nil {
		return nil, err
	}
	n := &Network{o: o, reach: r, seats: newSeats(), open: map[usermode.Port]published{}}
	n.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
		HandleLocal:        false,
	})
	listeners := make([][]listener, len(o.Ports))
	for i, p := range o.Ports { // before the stack works: what is taken is said at once
		if listeners[i], err = bind(p); err != nil {
			return nil, err
		}
	}
	if n.link, err = newLink(o.Tap, uint32(o.MTU), n.intercept); err != nil {
		return nil, err
	}
	if n.loop, err = newLoop(n.link); err != nil {
		return nil, err
	}
	n.pings.init(n)
	if err := n.configure(); err != nil {
		return nil, err
	}
	n.forward(ctx)
	for i, p := range o.Ports {
		if err := n.publish(p, published{sockets: listeners[i]}); err != nil {
			return nil, err
		}
	}
	go func() {
		if err := n.loop.run(); err != nil {
			o.Warn(err)
		}
	}()
	return n, nil
}

// configure gives the stack its device and addresses, and has it play everybody else.
func (n *Network) configure() error {
	s := n.stack
	// The largest one decides how large a window can be said when a connection begins.
	buffers := tcpip.TCPReceiveBufferSizeRangeOption{Min: bufferMin, Default: narrowReceive, Max: wideReceive}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: bufferMin, Default: narrowSend, Max: wideSend}
	sack, moderate, wait := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true), tcpip.TCPTimeWaitTimeoutOption(timeWait)
	recovery := tcpip.TCPRecovery(0) // nothing is lost on this cable, and nothing overtakes
	for _, option := range []tcpip.SettableTransportProtocolOption{&buffers, &send, &sack, &moderate, &wait, &recovery} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return stackError("option of TCP", err)
		}
	}
	if err := s.CreateNIC(nic, n.link); err != nil {
		return stackError("device", err)
	}
	for _, err := range []tcpip.Error{s.SetPromiscuousMode(nic, true), s.SetSpoofing(nic, true)} {
		if err != nil {
			return stackError("device", err)
		}
	}
	addresses := []netip.Addr{n.o.Net.Gateway(), n.o.Net.Names()}
	routes := []tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}}
	if n.o.IPv6 {
		addresses = append(addresses, n.o.Net.Gateway6(), n.o.Net.Names6())
		routes = append(routes, tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: nic})
	}
	for _, a := range addresses {
		p := tcpip.ProtocolAddress{Protocol: protocolOf(a), AddressWithPrefix: fromAddr(a).WithPrefix()}
		if err := s.AddProtocolAddress(nic, p, stack.AddressProperties{}); err != nil {
			return stackError("address "+a.String(), err)
		}
	}
	if n.o.Hub { // who the host's addresses stand for is in there
		routes = append([]tcpip.Route{{Destination: entrances, Gateway: fromAddr(n.o.Net.Container()), NIC: nic}}, routes...)
	}
	s.SetRouteTable(routes)
	return nil
}

// Wait returns when the container's process has ended.
func Wait(pidfd int) error {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func stackError(what string, err tcpip.Error) error { return fmt.Errorf("%s: %s", what, err) }

func fromAddr(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func toAddr(a tcpip.Address) netip.Addr {
	out, _ := netip.AddrFromSlice(a.AsSlice())
	return out
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}
