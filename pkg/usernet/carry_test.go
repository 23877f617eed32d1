package usernet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/network/usermode"
)

// cable is a namespace that is a container's, and a network that carries its packets. The host is the test's process.
type cable struct {
	t       *testing.T
	inside  *testkit.NetNS
	network *Network
}

// published is where the container's port 80 is.
const (
	hostPort      = 18080
	containerPort = 80
)

func newCable(t *testing.T) *cable {
	t.Helper()
	c := &cable{t: t, inside: testkit.NewNetNS(t)}
	var fd int
	var err error
	c.inside.Do(func() {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
			return
		}
		var request *unix.Ifreq
		if request, err = unix.NewIfreq("eth0"); err != nil {
			return
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err == nil {
			err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
		}
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		t.Skipf("this kernel makes no taps: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Net: usermode.DefaultNet(), HostLoopback: true, Tap: os.NewFile(uintptr(fd), "tap"), NameServers: func() []netip.Addr { return nil },
		Ports: []usermode.Port{{HostIP: netip.MustParseAddr("127.0.0.1"), Host: hostPort, Container: containerPort, Protocol: "tcp"}},
		Warn:  func(err error) { t.Log(err) }}
	c.inside.Run("ip", "address", "add", fmt.Sprintf("%s/%d", o.Net.Container(), o.Net.IPv4.Bits()), "dev", "eth0")
	c.inside.Run("ip", "link", "set", "eth0", "up")
	c.inside.Run("ip", "route", "add", "default", "via", o.Net.Gateway().String())
	ctx, cancel := context.WithCancel(context.Background())
	if c.network, err = New(ctx, o); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		for _, p := range o.Ports {
			c.network.withdraw(p, "")
		}
		c.inside.Run("ip", "link", "delete", "eth0") // ends the loop
		o.Tap.Close()
	})
	return c
}

// pairs makes a connection by each of the two ways: the end of who began it, and the other end.
func (c *cable) pair(out bool) (near, far *net.TCPConn) {
	c.t.Helper()
	l := c.listen(out)
	defer l.Close()
	near, err := c.dial(out, l)
	if err != nil {
		c.t.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range []net.Conn{near, a} {
		s.SetDeadline(time.Now().Add(time.Minute))
		c.t.Cleanup(func() { s.Close() })
	}
	return near, a.(*net.TCPConn)
}

// listen is the host's end of what goes out, or the container's of what comes in.
func (c *cable) listen(out bool) (l net.Listener) {
	c.t.Helper()
	var err error
	if out {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	} else {
		c.inside.Do(func() { l, err = net.Listen("tcp", fmt.Sprintf(":%d", containerPort)) })
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { l.Close() })
	return l
}

func (c *cable) dial(out bool, l net.Listener) (*net.TCPConn, error) {
	if !out {
		s, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", hostPort))
		if err != nil {
			return nil, err
		}
		return s.(*net.TCPConn), nil
	}
	return c.call(l.Addr().(*net.TCPAddr).Port)
}

// call calls a port of the host from the container.
func (c *cable) call(port int) (s *net.TCPConn, err error) {
	c.inside.Do(func() {
		var raw net.Conn
		if raw, err = net.DialTimeout("tcp", fmt.Sprintf("%s:%d", c.network.o.Net.Gateway(), port), 20*time.Second); err == nil {
			s = raw.(*net.TCPConn)
		}
	})
	return s, err
}

func bothWays(t *testing.T, f func(t *testing.T, out bool)) {
	t.Run("out", func(t *testing.T) { f(t, true) })
	t.Run("in", func(t *testing.T) { f(t, false) })
}

// pattern is a stream of bytes that says where in it a piece is from.
type pattern struct{ at, size int }

func (p *pattern) Read(b []byte) (n int, err error) {
	for ; n < len(b) && p.at < p.size; n++ {
		b[n] = byte(p.at ^ p.at>>8 ^ p.at>>17)
		p.at++
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// TestBytesArrive sends 100 MB in both directions at the same time, and half closes: what arrives is what was sent, and its end too.
func TestBytesArrive(t *testing.T) {
	const size = 100 << 20
	want := sha256.New()
	if _, err := io.Copy(want, &pattern{size: size}); err != nil {
		t.Fatal(err)
	}
	bothWays(t, func(t *testing.T, out bool) {
		near, far := newCable(t).pair(out)
		var all sync.WaitGroup
		for _, s := range []*net.TCPConn{near, far} {
			all.Go(func() {
				if _, err := io.Copy(s, &pattern{size: size}); err != nil {
					t.Error(err)
				}
				if err := s.CloseWrite(); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() {
				sum := sha256.New()
				n, err := io.Copy(sum, s)
				if err != nil || n != size || !bytes.Equal(sum.Sum(nil), want.Sum(nil)) {
					t.Errorf("%d bytes arrived, %v; or others", n, err)
				}
			})
		}
		all.Wait()
	})
}

// TestSlowReader: who does not read stops who writes, loses nothing, and does not stop other connections.
func TestSlowReader(t *testing.T) {
	bothWays(t, func(t *testing.T, out bool) {
		c := newCable(t)
		near, far := c.pair(out)
		for _, way := range []struct{ from, to *net.TCPConn }{{near, far}, {far, near}} {
			sent := 0
			for chunk := make([]byte, 1<<20); ; {
				way.from.SetWriteDeadline(time.Now().Add(time.Second))
				n, err := io.ReadFull(&pattern{at: sent, size: sent + len(chunk)}, chunk)
				if err != nil {
					t.Fatal(err)
				}
				n, err = way.from.Write(chunk[:n])
				sent += n
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				if err != nil || sent > 256<<20 {
					t.Fatalf("%d bytes are on their way: %v", sent, err)
				}
			}
			otherNear, otherFar := c.pair(out)
			if _, err := otherNear.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(otherFar, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			go way.from.CloseWrite()
			got, want := sha256.New(), sha256.New()
			n, err := io.Copy(got, way.to)
			if _, err := io.Copy(want, &pattern{size: sent}); err != nil {
				t.Fatal(err)
			}
			if err != nil || n != int64(sent) || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
				t.Errorf("%d bytes were sent, %d arrived: %v", sent, n, err)
			}
		}
	})
}

// TestSmallPieces sends byte after byte to somebody who does not read at first.
func TestSmallPieces(t *testing.T) {
	bothWays(t, func(t *testing.T, out bool) {
		near, far := newCable(t).pair(out)
		const size = 20000
		go func() {
			p := &pattern{size: size}
			for b := make([]byte, 1); ; {
				if _, err := p.Read(b); err != nil {
					near.CloseWrite()
					return
				}
				if _, err := near.Write(b); err != nil {
					return
				}
			}
		}()
		got, err := io.ReadAll(far)
		want, _ := io.ReadAll(&pattern{size: size})
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d: %v", len(got), size, err)
		}
	})
}

// TestHalfClosed: who has said all still hears the answer.
func TestHalfClosed(t *testing.T) {
	bothWays(t, func(t *testing.T, out bool) {
		near, far := newCable(t).pair(out)
		for _, way := range []struct{ from, to *net.TCPConn }{{near, far}, {far, near}} {
			if _, err := io.WriteString(way.from, "all"); err != nil {
				t.Fatal(err)
			}
			if err := way.from.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(way.to); err != nil || string(got) != "all" {
				t.Fatalf("%q, %v", got, err)
			}
		}
	})
}

// TestResets: a connection that is cut off at one end is cut off at the other, whoever does it.
func TestResets(t *testing.T) {
	bothWays(t, func(t *testing.T, out bool) {
		c := newCable(t)
		for i := range 2 {
			near, far := c.pair(out)
			ends := []*net.TCPConn{near, far}
			if _, err := ends[i].Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(ends[1-i], make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			ends[i].SetLinger(0)
			ends[i].Close()
			if _, err := ends[1-i].Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("end %d was cut off: %v", i, err)
			}
		}
		c.quiet()
	})
}

// quiet waits until no connection is left.
func (c *cable) quiet() {
	c.t.Helper()
	s, l := c.network.seats, c.network.loop
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		l.mu.Lock()
		free, members := s.wide+s.narrow, len(l.members)
		l.mu.Unlock()
		s.mu.Unlock()
		if free == maxTCP && members == len(c.network.o.Ports) {
			return
		}
		if time.Now().After(end) {
			c.t.Fatalf("%d of %d seats are free, and %d are watched", free, maxTCP, members)
		}
	}
}

// TestNobodyListens: refused stays refused, and a port that nobody is at ends the client's connection.
func TestNobodyListens(t *testing.T) {
	c := newCable(t)
	l := c.listen(true)
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	if s, err := c.call(port); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, %v", s, err)
	}
	s, err := c.dial(false, nil)
	if err == nil {
		defer s.Close()
		s.SetDeadline(time.Now().Add(time.Minute))
		_, err = s.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) { // which may come before who dials has looked
		t.Error(err)
	}
	c.quiet()
}

// TestManyAtOnce has 200 connections that all are there at the same time, and none of them afterwards.
func TestManyAtOnce(t *testing.T) {
	bothWays(t, func(t *testing.T, out bool) {
		c := newCable(t)
		l := c.listen(out)
		var all sync.WaitGroup
		all.Go(func() {
			for range 200 {
				far, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				all.Go(func() {
					defer far.Close()
					if _, err := io.Copy(far, far); err != nil {
						t.Error(err)
					}
				})
			}
		})
		var list []*net.TCPConn
		for range 200 {
			near, err := c.dial(out, l)
			if err != nil {
				t.Fatal(err)
			}
			near.SetDeadline(time.Now().Add(time.Minute))
			list = append(list, near)
		}
		for i, near := range list {
			all.Go(func() {
				defer near.Close()
				const size = 100_000
				go func() {
					if _, err := io.Copy(near, &pattern{at: i, size: i + size}); err != nil {
						t.Error(err)
					}
					near.CloseWrite()
				}()
				got, err := io.ReadAll(near)
				want, _ := io.ReadAll(&pattern{at: i, size: i + size})
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("connection %d: %d bytes came back: %v", i, len(got), err)
				}
			})
		}
		all.Wait()
		c.quiet()
	})
}
