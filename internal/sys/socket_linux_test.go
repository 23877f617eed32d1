package sys_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
)

// TestSocketsNow: sockets that Go does not know do what its own do.
func TestSocketsNow(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil && address != "127.0.0.1:0" {
			t.Logf("this host has no version 6: %v", err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		to := netip.MustParseAddrPort(l.Addr().String())
		peer := &sys.Peer{Six: to.Addr().Is6(), Port: to.Port()}
		copy(peer.Address[:], to.Addr().AsSlice())
		fd, err := sys.DialNow(peer)
		if err != nil && !errors.Is(err, unix.EINPROGRESS) {
			t.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		if err := sys.ErrorNow(fd); err != nil {
			t.Error(err)
		}
		if err := sys.SetNow(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 77); err != nil {
			t.Error(err)
		}
		if got, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE); got != 77 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
		if _, err := sys.WriteNow(fd, []byte("hello")); err != nil {
			t.Error(err)
		}
		if err := sys.EndNow(fd); err != nil {
			t.Error(err)
		}
		far.SetDeadline(time.Now().Add(time.Minute))
		if got, err := io.ReadAll(far); string(got) != "hello" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		sys.CloseNow(fd)
		l.Close()
		if fd, err := sys.DialNow(peer); err == nil || errors.Is(err, unix.EINPROGRESS) {
			// It was begun, and what has become of it is told later.
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			if _, err := unix.Poll(fds, 60_000); err != nil {
				t.Fatal(err)
			}
			if err := sys.ErrorNow(fd); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("nobody listens: %v", err)
			}
			sys.CloseNow(fd)
		} else if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("nobody listens: %v", err)
		}
	}
}

// TestAcceptNow: who has come is told, and that nobody has.
func TestAcceptNow(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	accept := func() (fd int, from sys.Peer, err error) {
		if failed := raw.Control(func(of uintptr) { fd, from, err = sys.AcceptNow(int(of)) }); failed != nil {
			t.Fatal(failed)
		}
		return fd, from, err
	}
	if _, _, err := accept(); !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("nobody has come: %v", err)
	}
	near, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	fd, from, err := accept()
	if err != nil {
		t.Fatal(err)
	}
	defer sys.CloseNow(fd)
	want := near.LocalAddr().(*net.TCPAddr)
	if from.Six || int(from.Port) != want.Port || !net.IP(from.Address[:4]).Equal(want.IP) {
		t.Errorf("%+v has come, not %s", from, want)
	}
}
