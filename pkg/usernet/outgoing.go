package usernet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/containr/containr/internal/sys"
)

// Bounds of what a container can have us do at the same time.
const (
	// maxOpening is how many connections may be on their way to be made; the container's kernel
	// tries again for others.
	maxOpening = maxTCP
	// maxUDP is how many pairs of ends of UDP there are.
	maxUDP = 4096
	// udpPatience is how long a pair of ends stays after its last packet, RFC 4787.
	udpPatience = 120 * time.Second
	// namesPatience is how long one stays that asked for a name.
	namesPatience = 15 * time.Second
)

// forward has the stack hand over what the container begins.
func (n *Network) forward(ctx context.Context) {
	streams := tcp.NewForwarder(n.stack, 0, maxOpening, func(r *tcp.ForwarderRequest) { n.connect(ctx, r) })
	n.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, streams.HandlePacket)
	pairs := make(chan struct{}, maxUDP)
	packets := udp.NewForwarder(n.stack, func(r *udp.ForwarderRequest) bool { return n.converse(r, pairs) })
	n.stack.SetTransportProtocolHandler(udp.ProtocolNumber, packets.HandlePacket)
}

// connect makes a connection of the container's, once the host has made its own.
func (n *Network) connect(ctx context.Context, r *tcp.ForwarderRequest) {
	id := r.ID()
	to, isNames, ok := n.destination(id)
	var s *seat
	if ok {
		s, ok = n.seats.take()
	}
	if !ok {
		r.Complete(true)
		return
	}
	c := &stream{network: n, seat: s, stage: waiting}
	err := n.dial(ctx, c, to, isNames)
	if err != nil {
		n.seats.free(s)
		n.complain(err)
		r.Complete(true)
		return
	}
	ep, failed := r.CreateEndpoint(&c.queue)
	r.Complete(false)
	if failed != nil { // the container has thought better of it
		n.loop.forget(c)
		sys.CloseNow(c.fd)
		n.seats.free(s)
		return
	}
	c.own(ep)
	c.handed.Store(true)
	n.loop.ready(c)
}

// dial has the host connect, and the loop told of the socket. If it fails nothing is left.
func (n *Network) dial(ctx context.Context, c *stream, to netip.AddrPort, isNames bool) (err error) {
	if isNames {
		if c.fd, err = n.dialNamesNow(ctx); err != nil {
			return err
		}
	} else if c.fd, err = sys.DialNow(peerOf(to)); err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		return err
	}
	if err == nil {
		err = n.loop.watch(c, c.fd)
	} else {
		c.stage, c.done = dialing, make(chan error, 1)
		if err = n.loop.watch(c, c.fd); err == nil {
			err = <-c.done
		}
	}
	if err == nil {
		err = keepAlive(c.fd)
	}
	if err != nil {
		n.loop.forget(c)
		sys.CloseNow(c.fd)
	}
	return err
}

// dialNamesNow connects with a name server, by a socket that Go does not have.
func (n *Network) dialNamesNow(ctx context.Context) (fd int, err error) {
	conn, err := n.dialNames(ctx, "tcp")
	if err != nil {
		return -1, err
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return -1, err
	}
	failed := raw.Control(func(of uintptr) { fd, err = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, failed)
}

func peerOf(a netip.AddrPort) *sys.Peer {
	p := &sys.Peer{Six: a.Addr().Is6(), Port: a.Port()}
	copy(p.Address[:], a.Addr().AsSlice())
	return p
}

// Of a connection on which nothing comes: after how many seconds, and then how often and how many times, the other end is asked whether it is there.
const (
	keepIdle  = 15
	keepTimes = 9
)

// keepAlive has a socket, and those that it accepts, send at once what is written, and find out that the other end is gone.
func keepAlive(fd int) error {
	for _, o := range [...][3]int{{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepIdle},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepIdle}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepTimes}} {
		if err := sys.SetNow(fd, o[0], o[1], o[2]); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// destination is where the first packet of id is to go.
func (n *Network) destination(id stack.TransportEndpointID) (to netip.AddrPort, isNames, ok bool) {
	a := toAddr(id.LocalAddress)
	if a == n.o.Net.Names() || a == n.o.Net.Names6() {
		return netip.AddrPort{}, true, id.LocalPort == namesPort
	}
	a, ok = n.reach.target(a)
	return netip.AddrPortFrom(a, id.LocalPort), false, ok
}

// complain tells of errors that are ours and not of who was called.
func (n *Network) complain(err error) {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		n.o.Warn(err)
	}
}

// converse begins to pass on packets of UDP between two ends. False has the stack say that there
// is no such port.
func (n *Network) converse(r *udp.ForwarderRequest, pairs chan struct{}) bool {
	to, isNames, ok := n.destination(r.ID())
	if !ok {
		return false
	}
	select {
	case pairs <- struct{}{}:
	default:
		return true // too many at once: it is lost, as packets may be
	}
	var outside net.Conn
	var err error
	patience := udpPatience
	if isNames {
		patience = namesPatience
		outside, err = n.dialNames(context.Background(), "udp")
	} else {
		outside, err = net.Dial("udp", to.String())
	}
	if err != nil {
		<-pairs
		n.complain(err)
		return false
	}
	var queue waiter.Queue
	ep, failed := r.CreateEndpoint(&queue)
	if failed != nil {
		<-pairs
		outside.Close()
		return true
	}
	go func() {
		relay(gonet.NewUDPConn(&queue, ep), outside, patience)
		<-pairs
	}()
	return true
}

// maxDatagram is the longest packet of UDP.
const maxDatagram = 65535

// relay passes packets on in both directions until none came for some time.
func relay(a, b net.Conn, patience time.Duration) {
	var both sync.WaitGroup
	var last idle
	last.touch()
	for _, way := range [...]struct{ from, to net.Conn }{{a, b}, {b, a}} {
		both.Go(func() {
			last.copy(way.to, way.from, patience)
			a.Close()
			b.Close()
		})
	}
	both.Wait()
}

// idle knows when something happened last.
type idle struct {
	mu sync.Mutex
	at time.Time
}

func (l *idle) touch() {
	l.mu.Lock()
	l.at = time.Now()
	l.mu.Unlock()
}

func (l *idle) since() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.at)
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// copy passes packets of one direction on. An error of one packet (nobody listens there) ends
// nothing but tells the sender nothing either: the next one may be answered.
func (l *idle) copy(to, from net.Conn, patience time.Duration) {
	packet := make([]byte, maxDatagram)
	for {
		if err := from.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return
		}
		size, err := from.Read(packet)
		switch {
		case isTimeout(err):
			if l.since() >= patience {
				return
			}
			continue
		case errors.Is(err, syscall.ECONNREFUSED):
			continue
		case err != nil:
			return
		}
		l.touch()
		if _, err := to.Write(packet[:size]); errors.Is(err, net.ErrClosed) {
			return
		}
	}
}
