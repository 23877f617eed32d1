package usernet

import (
	"bufio"
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

	"github.com/containr/containr/internal/sys"
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
	doors   []*acceptor
}

// publish serves a port.
func (n *Network) publish(p usermode.Port, served published) error {
	for _, l := range served.sockets {
		if l.streams == nil {
			go n.receive(l)
			continue
		}
		a, err := n.serve(l)
		if err != nil {
			served.close(n)
			return fmt.Errorf("publish %s: %w", p, err)
		}
		served.doors = append(served.doors, a)
	}
	n.mu.Lock()
	n.open[p] = served
	n.mu.Unlock()
	return nil
}

func (p published) close(n *Network) {
	for _, a := range p.doors {
		n.loop.forget(a)
	}
	for _, l := range p.sockets {
		l.close()
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
	served.close(n)
}

// requestPatience is how long who asks for a port may take to say which.
const requestPatience = 5 * time.Second

// obey listens at further ports, and ceases to, as it is asked: "publish PORT OWNER" and "withdraw PORT OWNER", a connection for each.
// The answer is ok, errno and the kernel's number of an error, or another one in words. "elsewhere ADDRESS OWNER" is answered with ok if
// the address is that of another machine, and not the host's own.
func (n *Network) obey(l net.Listener) {
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
				_, _ = io.WriteString(c, n.request(strings.TrimSpace(line))+"\n") // nobody may listen any more
			}
		}()
	}
}

func (n *Network) request(line string) string {
	words := strings.Fields(line)
	if len(words) != 3 {
		return "three words are expected"
	}
	verb, owner := words[0], words[2]
	if verb == "elsewhere" {
		return n.reach.elsewhere(words[1])
	}
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
			err = n.publish(p, published{owner: owner, sockets: list})
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

// acceptor takes clients of a port.
type acceptor struct {
	place
	network *Network
	port    usermode.Port
	socket  syscall.RawConn
}

// serve begins to take clients.
func (n *Network) serve(l listener) (a *acceptor, err error) {
	raw, err := l.streams.SyscallConn()
	if err != nil {
		return nil, err
	}
	a = &acceptor{network: n, port: l.port, socket: raw}
	failed := raw.Control(func(fd uintptr) {
		if err = keepAlive(int(fd)); err == nil {
			err = n.loop.watch(a, int(fd))
		}
	})
	return a, errors.Join(err, failed)
}

func (a *acceptor) happened(uint32) bool { return true }

// work takes some clients.
func (a *acceptor) work() {
	for range turns {
		var fd int
		var from sys.Peer
		var err error
		if a.socket.Control(func(of uintptr) { fd, from, err = sys.AcceptNow(int(of)) }) != nil {
			return // it was closed
		}
		switch {
		case err == nil:
			a.network.admit(a.port, fd, from)
		case errors.Is(err, syscall.EAGAIN):
			return
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
			a.network.complain(err)
			time.AfterFunc(acceptPause, func() { a.network.loop.ready(a) }) // a descriptor may come free
			return
		}
	}
	a.network.loop.ready(a)
}

// admit connects a client with the container. A client of version 6 comes to a container that listens with version 4 only all
// the same, but not by its own name.
func (n *Network) admit(p usermode.Port, fd int, from sys.Peer) {
	seat, ok := n.seats.take()
	if !ok {
		sys.ResetNow(fd)
		return
	}
	s := &stream{network: n, seat: seat, fd: fd, stage: entering}
	if err := n.loop.watch(s, fd); err != nil {
		n.complain(err)
		sys.ResetNow(fd)
		n.seats.free(seat)
		return
	}
	client := netip.AddrPortFrom(netip.AddrFrom16(from.Address), from.Port)
	if !from.Six {
		client = netip.AddrPortFrom(netip.AddrFrom4([4]byte(from.Address[:4])), from.Port)
	}
	six := client.Addr().Unmap().Is6() && n.o.IPv6
	s.attempts = append(s.attempts, n.ends(client, p, six))
	if six && !(n.o.Hub && p.HostIP.IsValid()) { // what stands for an address of version 6 has no other
		s.attempts = append(s.attempts, n.ends(client, p, false))
	}
	s.enter()
}

// ends are both ends of what a client says to the container.
func (n *Network) ends(client netip.AddrPort, port usermode.Port, six bool) ends {
	container, gateway := n.o.Net.Container(), n.o.Net.Gateway()
	if six {
		container, gateway = n.o.Net.Container6(), n.o.Net.Gateway6()
	}
	if n.o.Hub {
		container = n.o.Net.Entrance(port.HostIP, six)
	}
	to := tcpip.FullAddress{NIC: nic, Addr: fromAddr(container), Port: port.Container}
	a := client.Addr().Unmap().WithZone("")
	from := tcpip.FullAddress{NIC: nic, Addr: fromAddr(a), Port: client.Port()}
	// The host itself calls from addresses that mean something else inside, or nothing. Others do so, too; in a hub they are not taken for
	// the host, whom policies let in.
	host := a.IsLoopback() || a.IsUnspecified()
	if host || a.Is6() != six || a.IsLinkLocalUnicast() && a.Is6() || n.reach.inside(a) {
		if n.o.Hub && !host {
			gateway = stranger(six)
		}
		from = tcpip.FullAddress{NIC: nic, Addr: fromAddr(gateway)}
	}
	return ends{from, to}
}

// stranger is the address of who has none inside: the dummy address of RFC 7600, and one of the prefix that discards (RFC 6666). All of
// the hub's routes lead back here.
func stranger(six bool) netip.Addr {
	if six {
		return netip.AddrFrom16([16]byte{0: 0x01, 15: 8})
	}
	return netip.AddrFrom4([4]byte{192, 0, 0, 8})
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
	e := n.ends(client, l.port, six)
	from, to := e.from, e.to
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
