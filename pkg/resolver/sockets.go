package resolver

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// endpoint is an address where names are asked for.
type endpoint struct {
	udp *net.UDPConn
	tcp net.Listener

	mu    sync.Mutex
	conns map[net.Conn]bool // over TCP; nil when closed
}

// receiveBuffer holds the questions that wait, in bytes.
const receiveBuffer = 4 << 20

// openSockets answers at an address, which the host may get in a moment: the bridge is made after the names are known.
func (s *server) openSockets(at netip.Addr) (*endpoint, error) {
	free := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		level, option := unix.SOL_IP, unix.IP_FREEBIND
		if strings.HasSuffix(network, "6") {
			level, option = unix.SOL_IPV6, unix.IPV6_FREEBIND
		}
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) }), err)
	}}
	address := netip.AddrPortFrom(at, port).String()
	packets, err := free.ListenPacket(s.ctx, "udp", address)
	if err != nil {
		return nil, fmt.Errorf("answer names: %w", err)
	}
	e := &endpoint{udp: packets.(*net.UDPConn), conns: map[net.Conn]bool{}}
	if err := enlarge(e.udp); err != nil {
		return nil, errors.Join(err, e.udp.Close())
	}
	if e.tcp, err = free.Listen(s.ctx, "tcp", address); err != nil {
		return nil, errors.Join(fmt.Errorf("answer names: %w", err), e.udp.Close())
	}
	go s.servePackets(e.udp, at)
	go s.serveConns(e, at)
	return e, nil
}

// enlarge has the kernel keep many questions for us.
func enlarge(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
		if errors.Is(err, unix.EPERM) { // who is not the host's root has what the host lets everybody have
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		}
	})
	return errors.Join(controlErr, os.NewSyscallError("setsockopt SO_RCVBUF", err))
}

func (e *endpoint) close() {
	if e == nil {
		return
	}
	e.udp.Close()
	e.tcp.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		c.Close()
	}
	e.conns = nil
}

// servePackets answers questions over UDP.
func (s *server) servePackets(c *net.UDPConn, at netip.Addr) {
	buf := make([]byte, tcpSize)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // about an answer that nobody wanted
			continue
		}
		now, wait := s.answer(buf[:n], from.Addr().Unmap(), at, "udp")
		if wait != nil {
			message := bytes.Clone(buf[:n])
			go func() { c.WriteToUDPAddrPort(wait(message), from) }()
			continue
		}
		if now != nil {
			c.WriteToUDPAddrPort(now, from)
		}
	}
}

// Connections over TCP: how many there may be at an address, and how long they may say nothing.
const (
	maxConns = 256
	connIdle = 10 * time.Second
)

// serveConns answers questions over TCP.
func (s *server) serveConns(e *endpoint, at netip.Addr) {
	for {
		c, err := e.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // no descriptor is left, for instance
			continue
		}
		if !e.add(c) {
			c.Close()
			continue
		}
		go func() {
			defer e.drop(c)
			s.serveConn(c, at)
		}()
	}
}

func (e *endpoint) add(c net.Conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conns == nil || len(e.conns) >= maxConns {
		return false
	}
	e.conns[c] = true
	return true
}

func (e *endpoint) drop(c net.Conn) {
	c.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
}

func (s *server) serveConn(c net.Conn, at netip.Addr) {
	from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	buf := make([]byte, tcpSize)
	for in := bufio.NewReader(c); ; {
		c.SetDeadline(time.Now().Add(connIdle))
		message, err := readFrame(in, buf)
		if err != nil {
			return
		}
		now, wait := s.answer(message, from, at, "tcp")
		if wait != nil {
			now = wait(message)
		}
		if now == nil || writeFrame(c, now) != nil {
			return
		}
	}
}

// inotifyEvent is struct inotify_event.
type inotifyEvent struct {
	mask uint32
	name string
	size int
}

func event(b []byte) inotifyEvent {
	length := int(binary.NativeEndian.Uint32(b[12:]))
	end := min(len(b), unix.SizeofInotifyEvent+length)
	return inotifyEvent{binary.NativeEndian.Uint32(b[4:]), unix.ByteSliceToString(b[unix.SizeofInotifyEvent:end]), end}
}

// protocol is the version of what is said over the socket, and of what entries hold.
const protocol = 2

// requestPatience is how long a client may take to say what it wants.
const requestPatience = 5 * time.Second

// serveControl answers requests until the socket is closed.
func (s *server) serveControl() error {
	for {
		c, err := s.listen.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(requestPatience))
			line, err := bufio.NewReaderSize(c, 4096).ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s\n", s.request(strings.Fields(line)))
		}()
	}
}

// Answers to requests.
const (
	answerOK     = "ok"
	answerLeaves = "leaves"
	answerError  = "error "
)

// request does what is asked: VERSION look ADDRESS...
func (s *server) request(words []string) string {
	if len(words) < 2 || words[1] != "look" {
		return answerError + "unknown request"
	}
	if version, err := strconv.Atoi(words[0]); err != nil || version > protocol || replaced() {
		s.listen.Close() // the client starts a newer one
		return answerLeaves
	}
	s.sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.failed) > 0 {
		s.apply() // perhaps it goes now
	}
	for _, w := range words[2:] {
		if at, err := netip.ParseAddr(w); err == nil && s.failed[at] != nil {
			return answerError + s.failed[at].Error()
		}
	}
	return answerOK
}

// replaced reports whether a package manager has put another program where ours was.
func replaced() bool {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return false
	}
	path, gone := strings.CutSuffix(path, " (deleted)")
	if !gone {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
