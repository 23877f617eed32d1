package usernet

import (
	"errors"
	"flag"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/containr/containr/pkg/network/usermode"
)

// relayed is how many connections there may be at the same time, and as many senders of packets at each port.
const relayed = 1024

// handover listens at ports of the host and hands on what comes to a container, whose address it reaches: so it is for the host, as any
// program's is, and the host's rules for what comes in decide.
type handover struct {
	to4, to6 netip.Addr
	places   chan struct{}
}

// runRelay is the program in the word relay: it returns when the container has ended.
func runRelay(args []string, ready *os.File) error {
	flags := flag.NewFlagSet("relay", flag.ContinueOnError)
	r := &handover{places: make(chan struct{}, relayed)}
	var published []usermode.Port
	flags.TextVar(&r.to4, "to4", netip.Addr{}, "the container's address of version 4")
	flags.TextVar(&r.to6, "to6", netip.Addr{}, "the container's address of version 6")
	flags.Var((*ports)(&published), "publish", "ADDRESS:PORT:CONTAINERPORT/PROTOCOL")
	if err := flags.Parse(args); err != nil {
		return err
	}
	debug.SetMemoryLimit(memoryGoal)
	for _, p := range published {
		list, err := bind(p)
		if err != nil {
			return err
		}
		for _, l := range list {
			if l.streams != nil {
				go r.accept(l)
			} else {
				go r.receive(l)
			}
		}
	}
	if err := becomeNobody(); err != nil {
		return err
	}
	if err := tellReady(ready); err != nil {
		return err
	}
	return Wait(pidFD)
}

// target is where what comes to a listener goes: by the same version of IP, or by the only one that the container has.
func (r *handover) target(l listener) netip.AddrPort {
	local := net.Addr(nil)
	if l.streams != nil {
		local = l.streams.Addr()
	} else {
		local = l.packets.LocalAddr()
	}
	to := r.to4
	if six := strings.HasPrefix(local.String(), "["); six && r.to6.IsValid() || !to.IsValid() {
		to = r.to6
	}
	return netip.AddrPortFrom(to, l.port.Container)
}

// accept serves connections.
func (r *handover) accept(l listener) {
	for {
		c, err := l.streams.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptor is free
			time.Sleep(acceptPause)
			continue
		}
		select {
		case r.places <- struct{}{}:
			go func() {
				defer func() { <-r.places }()
				r.connect(c, r.target(l))
			}()
		default: // one too many is refused
			refuse(c)
		}
	}
}

// refuse ends a connection as if nobody had listened.
func refuse(c *net.TCPConn) {
	_ = c.SetLinger(0) // it is closed in any case
	c.Close()
}

// connect hands on a connection. Each half ends when its sender has ended it.
func (r *handover) connect(outside *net.TCPConn, to netip.AddrPort) {
	c, err := net.DialTimeout("tcp", to.String(), insidePatience)
	if err != nil {
		refuse(outside)
		return
	}
	inside := c.(*net.TCPConn)
	var both sync.WaitGroup
	half := func(to, from *net.TCPConn) {
		if _, err := io.Copy(to, from); err != nil { // a reset is passed on
			_ = to.SetLinger(0)
			to.Close()
			return
		}
		_ = to.CloseWrite() // who has gone already need not be told
	}
	both.Go(func() { half(inside, outside) })
	both.Go(func() { half(outside, inside) })
	both.Wait()
	inside.Close()
	outside.Close()
}

// receive serves packets: each sender has a socket of its own towards the container, as that answers to who has asked.
func (r *handover) receive(l listener) {
	var mu sync.Mutex
	senders := map[netip.AddrPort]*net.UDPConn{}
	to := net.UDPAddrFromAddrPort(r.target(l))
	// begin makes the socket. The lock is held.
	begin := func(from netip.AddrPort) *net.UDPConn {
		c, err := net.DialUDP("udp", nil, to)
		if err != nil {
			return nil
		}
		senders[from] = c
		go func() {
			var last idle
			last.touch()
			last.copy(answers{c, l.packets, from}, c, udpPatience)
			mu.Lock()
			delete(senders, from)
			mu.Unlock()
			c.Close()
		}()
		return c
	}
	for packet := make([]byte, maxDatagram); ; {
		n, from, err := l.packets.ReadFromUDPAddrPort(packet)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // what nobody took is told here, too
		}
		mu.Lock()
		c := senders[from]
		if c == nil && len(senders) < relayed {
			c = begin(from)
		}
		mu.Unlock()
		if c != nil {
			_, _ = c.Write(packet[:n]) // a packet may be lost
		}
	}
}
