package usernet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Bounds of what a container can have us do at the same time.
const (
	// maxOpening is how many connections may be on their way to be made; the container's kernel
	// tries again for others.
	maxOpening = maxTCP
	// maxUDP is how many pairs of ends of UDP there are.
	maxUDP = 4096
	// dialPatience is how long the host tries to connect: somewhat less than the kernel's.
	dialPatience = 120 * time.Second
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
	defer n.seats.free(s)
	dialing, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	var outside net.Conn
	var err error
	if isNames {
		outside, err = n.dialNames(dialing, "tcp")
	} else {
		outside, err = new(net.Dialer).DialContext(dialing, "tcp", to.String())
	}
	if err != nil {
		n.complain(err)
		r.Complete(true)
		return
	}
	var queue waiter.Queue
	ep, failed := r.CreateEndpoint(&queue)
	r.Complete(false)
	if failed != nil { // the container has thought better of it
		outside.Close()
		return
	}
	join(newInside(&queue, ep), outside.(*net.TCPConn), s)
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

// stream is either side of a connection.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// join passes bytes on in both directions, and the end of each, until both have ended or one
// has failed: then the other one fails too. When it returns nothing of the connection takes
// memory any more.
func join(in *inside, conn *net.TCPConn, s *seat) {
	in.fit(s)
	out, err := newOutside(conn)
	if err != nil { // it is closed
		in.ep.Abort()
		conn.Close()
		in.finish()
		return
	}
	failed := make(chan error, 2)
	go func() { failed <- pass(in, out, s) }()
	go func() { failed <- pass(out, in, s) }()
	err = <-failed
	other := err == nil
	if other {
		err = <-failed
	}
	if err != nil { // a connection that was cut off is not to look as if it had ended
		_ = out.SetLinger(0) // it may be closed
		in.ep.Abort()
	}
	out.Close()
	in.finish()
	if !other {
		<-failed
	}
}

func pass(to, from stream, s *seat) error {
	chunk := s.chunks.Get().(*[]byte)
	defer s.chunks.Put(chunk)
	// Neither side's shortcuts: they would copy through less at a time.
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, *chunk)
	if err != nil {
		return err
	}
	return to.CloseWrite()
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
