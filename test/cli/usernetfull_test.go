package cli_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit"
)

// Bounds that the program has, as its documentation says.
const (
	connectionsMax = 1024
	carrierMemory  = 256 << 10 // kB
)

// TestUserNetworkIsFull: of the connections that nobody reads from, and both ends write to, there are so many at the most, in
// and out together, in so much memory; one more is refused, until another one ends.
func TestUserNetworkIsFull(t *testing.T) {
	p := newPerson(t)
	p.containr("run", "-d", "--name", "full", "--network", "builtin", "-p", "8083:83", "base", "sleep", "1000")
	in := p.inside("full")
	floods(t, p.lan, "192.0.2.2:7003")
	floods(t, in, ":83")
	outgoing, published := route{in, "192.0.2.2:7003"}, route{p.lan, "192.0.2.1:8083"}
	var all []net.Conn
	t.Cleanup(func() {
		for _, c := range all {
			c.Close()
		}
	})
	for i := range connectionsMax {
		way := outgoing
		if i%4 == 1 {
			way = published
		}
		c, err := way.flooded()
		if err != nil {
			t.Fatalf("connection %d, to %s: %v", i, way.to, err)
		}
		all = append(all, c)
	}
	for _, way := range []route{outgoing, published} {
		if c, err := way.flooded(); err == nil {
			c.Close()
			t.Errorf("there is still room for one to %s", way.to)
		} else if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v; want it refused", way.to, err)
		}
	}
	var writers sync.WaitGroup
	for _, c := range all {
		writers.Go(func() { flood(c, 2*time.Second) })
	}
	writers.Wait()
	peak := peakMemory(t, p.carrier("full"))
	t.Logf("%d connections: %d kB", len(all), peak)
	if peak > carrierMemory {
		t.Errorf("%d connections take %d kB; want %d at the most", len(all), peak, carrierMemory)
	}
	for i, way := range []route{outgoing, published} {
		all[i].Close()
		p.await(func() bool {
			c, err := way.flooded()
			if err == nil {
				all[i] = c
			}
			return err == nil
		})
	}
	p.containr("rm", "-f", "full")
}

// route is who calls whom.
type route struct {
	from *testkit.NetNS
	to   string
}

// flooded makes a connection, of which one byte is read.
func (r route) flooded() (c net.Conn, err error) {
	r.from.Do(func() { c, err = net.DialTimeout("tcp", r.to, networkPatience) })
	if err != nil {
		return nil, err
	}
	if err = c.SetReadDeadline(time.Now().Add(networkPatience)); err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// floods is a server that writes without end and reads nothing.
func floods(t *testing.T, n *testkit.NetNS, address string) {
	t.Helper()
	var l net.Listener
	var err error
	n.Do(func() { l, err = net.Listen("tcp", address) })
	must(t, err)
	var all []net.Conn // of the goroutine that accepts, until it has ended
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all = append(all, c)
			go flood(c, 10*time.Minute)
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
		for _, c := range all {
			c.Close()
		}
	})
}

// flood writes until nothing more is taken for some time.
func flood(c net.Conn, patience time.Duration) {
	_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10) // what the kernel keeps is not what is asked here
	b := make([]byte, 64<<10)
	for {
		if err := c.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			return
		}
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// peakMemory is how much memory a process had at the most, in kB.
func peakMemory(t *testing.T, pid int) (kB int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	_, err = fmt.Sscan(rest, &kB)
	must(t, err)
	return kB
}
