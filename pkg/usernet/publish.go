package usernet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/containr/containr/pkg/network/usermode"
)

// insidePatience is how long the container may take to answer a client's SYN.
const insidePatience = 10 * time.Second

// listener is one socket of the host, for a port.
type listener struct {
	port    usermode.Port
	streams *net.TCPListener
	packets *net.UDPConn
}

// bind takes a port of the host.
func bind(p usermode.Port) (list []listener, err error) {
	versions := []string{"4", "6"}
	if p.HostIP.IsValid() {
		versions = []string{"4"}
		if p.HostIP.Is6() {
			versions = []string{"6"}
		}
	}
	for _, v := range versions {
		l, err := listen(p, v)
		if v == "6" && !p.HostIP.IsValid() && (errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)) {
			continue // this host has no version 6
		}
		if err != nil {
			for _, l := range list {
				l.close()
			}
			return nil, fmt.Errorf("publish %s: %w", p, err)
		}
		list = append(list, l)
	}
	return list, nil
}

func (l listener) close() {
	if l.streams != nil {
		l.streams.Close()
	}
	if l.packets != nil {
		l.packets.Close()
	}
}

func listen(p usermode.Port, version string) (l listener, err error) {
	l.port = p
	host := ""
	if p.HostIP.IsValid() {
		host = p.HostIP.String()
	}
	address := net.JoinHostPort(host, strconv.Itoa(int(p.Host)))
	switch p.Protocol {
	case "tcp":
		var s net.Listener
		if s, err = net.Listen("tcp"+version, address); err == nil {
			l.streams = s.(*net.TCPListener)
		}
	case "udp":
		var c net.PacketConn
		if c, err = net.ListenPacket("udp"+version, address); err == nil {
			l.packets = c.(*net.UDPConn)
		}
	default:
		err = fmt.Errorf("protocol %s: this network carries tcp and udp", p.Protocol)
	}
	return l, err
}

// published is a port that is served.
type published struct {
	// owner is who asked for it, empty for who started the program.
	owner   string
	sockets []listener
}

// publish serves a port.
func (n *Network) publish(ctx context.Context, p usermode.Port, served published) {
	n.mu.Lock()
	n.open[p] = served
	n.mu.Unlock()
	for _, l := range served.sockets {
		if l.streams != nil {
			go n.accept(ctx, l)
		} else {
			go n.receive(l)
		}
	}
}

// withdraw serves a port no longer, if it is the owner's. Connections stay.
func (n *Network) withdraw(p usermode.Port, owner string) {
	n.mu.Lock()
	served := n.open[p]
	if served.owner == owner {
		delete(n.open, p)
	}
	n.mu.Unlock()
	if served.owner != owner {
		return
	}
	for _, l := range served.sockets {
		l.close()
	}
}

// requestPatience is how long who asks for a port may take to say which.
const requestPatience = 5 * time.Second

// obey listens at further ports, and ceases to, as it is asked: "publish PORT OWNER" and "withdraw PORT OWNER", a connection for each.
// The answer is ok, errno and the kernel's number of an error, or another one in words.
func (n *Network) obey(ctx context.Context, l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			n.complain(err)
			time.Sleep(acceptPause)
			continue
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(requestPatience)) // a socket of this machine
			line, err := bufio.NewReaderSize(c, 512).ReadString('\n')
			if err == nil {
				_, _ = io.WriteString(c, n.request(ctx, strings.TrimSpace(line))+"\n") // nobody may listen any more
			}
		}()
	}
}

func (n *Network) request(ctx context.Context, line string) string {
	words := strings.Fields(line)
	if len(words) != 3 {
		return "three words are expected"
	}
	verb, owner := words[0], words[2]
	p, err := parsePort(words[1])
	switch {
	case err != nil:
	case verb == "withdraw":
		n.withdraw(p, owner)
	case verb == "publish":
		n.mu.Lock()
		served, there := n.open[p]
		n.mu.Unlock()
		if there && served.owner == owner { // asked by somebody who was killed then
			break
		}
		var list []listener
		if list, err = bind(p); err == nil {
			n.publish(ctx, p, published{owner, list})
		}
	default:
		err = fmt.Errorf("unknown word %q", verb)
	}
	var number syscall.Errno
	switch {
	case errors.As(err, &number):
		return "errno " + strconv.Itoa(int(number))
	case err != nil:
		return err.Error()
	}
	return "ok"
}

// acceptPause is how long it is waited when the host cannot give a connection.
const acceptPause = 50 * time.Millisecond

func (n *Network) accept(ctx context.Context, l listener) {
	for {
		c, err := l.streams.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			n.complain(err)
			time.Sleep(acceptPause) // a descriptor may come free
			continue
		}
		s, ok := n.seats.take()
		if !ok {
			refuse(c)
			continue
		}
		go n.admit(ctx, l.port, c, s)
	}
}

// admit connects a client with the container.
func (n *Network) admit(ctx context.Context, p usermode.Port, outside *net.TCPConn, s *seat) {
	defer n.seats.free(s)
	client, err := netip.ParseAddrPort(outside.RemoteAddr().String())
	if err == nil {
		var in *inside
		if in, err = n.enter(ctx, client, p); err == nil {
			join(in, outside, s)
			return
		}
	}
	refuse(outside)
}

// refuse has the client see that the container did not take it.
func refuse(outside *net.TCPConn) {
	_ = outside.SetLinger(0) // it may be closed
	outside.Close()
}

// ends are both ends of what a client says to the container.
func (n *Network) ends(client netip.AddrPort, port usermode.Port, six bool) (from, to tcpip.FullAddress) {
	container, gateway := n.o.Net.Container(), n.o.Net.Gateway()
	if six {
		container, gateway = n.o.Net.Container6(), n.o.Net.Gateway6()
	}
	if n.o.Hub {
		container = n.o.Net.Entrance(port.HostIP, six)
	}
	to = tcpip.FullAddress{NIC: nic, Addr: fromAddr(container), Port: port.Container}
	a := client.Addr().Unmap().WithZone("")
	from = tcpip.FullAddress{NIC: nic, Addr: fromAddr(a), Port: client.Port()}
	// The host itself calls from addresses that mean something else inside, or nothing.
	if a.Is6() != six || a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() && a.Is6() || n.reach.inside(a) {
		from = tcpip.FullAddress{NIC: nic, Addr: fromAddr(gateway)}
	}
	return from, to
}

// enter connects to a port of the container, from the client's address. A client of version 6
// comes to a container that listens with version 4 only all the same, but not by its own name.
func (n *Network) enter(ctx context.Context, client netip.AddrPort, port usermode.Port) (*inside, error) {
	six := client.Addr().Unmap().Is6() && n.o.IPv6
	from, to := n.ends(client, port, six)
	in, err := n.dialInside(ctx, from, to)
	if err != nil && from.Port != 0 && errors.Is(err, errPortInUse) {
		from.Port = 0
		in, err = n.dialInside(ctx, from, to)
	}
	if err != nil && six && !(n.o.Hub && port.HostIP.IsValid()) { // what stands for an address of version 6 has no other
		from, to = n.ends(client, port, false)
		in, err = n.dialInside(ctx, from, to)
	}
	return in, err
}

// errPortInUse means that the same client has a connection from this port to the same port of the container, through
// another one of the host's.
var errPortInUse = errors.New("port in use")

func (n *Network) dialInside(ctx context.Context, from, to tcpip.FullAddress) (in *inside, err error) {
	ctx, cancel := context.WithTimeout(ctx, insidePatience)
	defer cancel()
	var queue waiter.Queue
	ep, failed := n.stack.NewEndpoint(tcp.ProtocolNumber, protocolOf(toAddr(to.Addr)), &queue)
	if failed != nil {
		return in, stackError("endpoint", failed)
	}
	defer func() {
		if err != nil {
			ep.Abort()
		}
	}()
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	ep.SocketOptions().SetReuseAddress(true)
	if failed := ep.Bind(from); failed != nil {
		return in, fmt.Errorf("%s: %w", failed, errPortInUse)
	}
	failed = ep.Connect(to)
	if _, started := failed.(*tcpip.ErrConnectStarted); started {
		select {
		case <-ctx.Done():
			return in, ctx.Err()
		case <-ready:
			failed = ep.LastError()
		}
	}
	if failed != nil {
		if _, used := failed.(*tcpip.ErrPortInUse); used {
			return in, errPortInUse
		}
		return in, stackError("connect", failed)
	}
	return newInside(&queue, ep), nil
}

// receive passes packets of UDP on to the container, each client's from its own address.
func (n *Network) receive(l listener) {
	clients := &clients{list: map[netip.AddrPort]*gonet.UDPConn{}}
	packet := make([]byte, maxDatagram)
	for {
		size, from, err := l.packets.ReadFromUDPAddrPort(packet)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // of a packet that was sent
			continue
		}
		in := clients.get(from)
		if in == nil {
			if in = n.welcome(clients, l, from); in == nil {
				continue
			}
		}
		_, _ = in.Write(packet[:size]) // packets may be lost
	}
}

// clients are those that have sent something lately.
type clients struct {
	mu   sync.Mutex
	list map[netip.AddrPort]*gonet.UDPConn
}

func (c *clients) get(a netip.AddrPort) *gonet.UDPConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.list[a]
}

// welcome begins to pass a client's packets on, and the answers back.
func (n *Network) welcome(c *clients, l listener, client netip.AddrPort) *gonet.UDPConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.list) >= maxUDP {
		return nil
	}
	six := client.Addr().Unmap().Is6() && n.o.IPv6
	from, to := n.ends(client, l.port, six)
	in, err := gonet.DialUDP(n.stack, &from, &to, protocolOf(toAddr(to.Addr)))
	if err != nil {
		from.Port = 0
		if in, err = gonet.DialUDP(n.stack, &from, &to, protocolOf(toAddr(to.Addr))); err != nil {
			return nil
		}
	}
	c.list[client] = in
	go func() {
		var last idle
		last.touch()
		last.copy(answers{in, l.packets, client}, in, udpPatience)
		c.mu.Lock()
		delete(c.list, client)
		c.mu.Unlock()
		in.Close()
	}()
	return in
}

// answers goes to one client of a socket.
type answers struct {
	net.Conn
	socket *net.UDPConn
	client netip.AddrPort
}

// Write sends to the client.
func (a answers) Write(b []byte) (int, error) { return a.socket.WriteToUDPAddrPort(b, a.client) }
