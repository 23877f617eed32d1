package resolver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// fakeServer answers what it is asked at a loopback address, over UDP and TCP, with what answer makes of it: any number of
// messages, from any number of sockets.
func fakeServer(t *testing.T, at string, port uint16, answer func(question []byte) [][]byte) uint16 {
	t.Helper()
	c, l := listenBoth(t, at, port)
	t.Cleanup(func() { c.Close(); l.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			for _, m := range answer(buf[:n]) {
				c.WriteToUDPAddrPort(m, from)
			}
		}
	}()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if m, err := readFrame(conn, make([]byte, tcpSize)); err == nil {
				for _, a := range answer(m) {
					writeFrame(conn, a)
				}
			}
			conn.Close()
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// listenBoth listens on one port by UDP and by TCP. If any port will do, the one that UDP gets may be taken for TCP: then
// another is tried.
func listenBoth(t *testing.T, at string, port uint16) (*net.UDPConn, net.Listener) {
	t.Helper()
	for range 100 {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr(at), port)))
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", netip.AddrPortFrom(addr(at), c.LocalAddr().(*net.UDPAddr).AddrPort().Port()).String())
		if err == nil {
			return c, l
		}
		c.Close()
		if port != 0 || !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	t.Fatal("no port that is free for UDP and TCP")
	return nil, nil
}

// says is an answer to a question with an address.
func says(t *testing.T, question []byte, a string, code dnsmessage.RCode, change func(*dnsmessage.Message)) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		t.Error(err)
		return nil
	}
	m.Response, m.RCode = true, code
	if code == dnsmessage.RCodeSuccess {
		m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET},
			Body: &dnsmessage.AResource{A: addr(a).As4()}}}
	}
	if change != nil {
		change(&m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

// asked asks for a name that is no container's, and returns the addresses, or the code.
func asked(t *testing.T, s *server, from, at, network string) string {
	t.Helper()
	question := ask(t, "example.com.", dnsmessage.TypeA, nil)
	now, wait := s.answer(question, addr(from), addr(at), network)
	if wait != nil {
		now = wait(question)
	}
	var m dnsmessage.Message
	if err := m.Unpack(now); err != nil {
		t.Fatal(err)
	}
	if m.ID != 4711 {
		t.Errorf("the answer's id is %d", m.ID)
	}
	if m.RCode != dnsmessage.RCodeSuccess {
		return strings.TrimPrefix(m.RCode.GoString(), "dnsmessage.RCode")
	}
	return strings.Join(texts(m), " ")
}

func host(t *testing.T, s *server, text string) {
	t.Helper()
	path := filepath.Join(s.run, "resolv.conf")
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// An answer counts if it has the question's id, repeats the question, and is an answer: all others are not heard.
func TestPoison(t *testing.T) {
	s := lab(t)
	s.forward.port = fakeServer(t, "127.0.0.1", 0, func(q []byte) [][]byte {
		bad := "203.0.113.66"
		return [][]byte{
			says(t, q, bad, 0, func(m *dnsmessage.Message) { m.ID++ }),
			says(t, q, bad, 0, func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("example.org.") }),
			says(t, q, bad, 0, func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeAAAA }),
			says(t, q, bad, 0, func(m *dnsmessage.Message) { m.Questions = nil }),
			says(t, q, bad, 0, func(m *dnsmessage.Message) { m.Response = false }),
			q[:5],
			says(t, q, "192.0.2.7", 0, nil),
		}
	})
	host(t, s, "nameserver 127.0.0.1\n")
	for _, network := range []string{"udp", "tcp"} {
		if got := asked(t, s, "10.0.1.2", "10.0.1.1", network); got != "192.0.2.7" {
			t.Errorf("%s: %s", network, got)
		}
	}
}

// If one server does not answer, or cannot, the next is asked.
func TestOtherServersAreAsked(t *testing.T) {
	s := lab(t)
	s.forward.port = fakeServer(t, "127.0.0.1", 0, func(q []byte) [][]byte { return [][]byte{says(t, q, "", dnsmessage.RCodeServerFailure, nil)} })
	fakeServer(t, "127.0.0.3", s.forward.port, func(q []byte) [][]byte { return [][]byte{says(t, q, "192.0.2.7", 0, nil)} })
	fakeServer(t, "127.0.0.4", s.forward.port, func(q []byte) [][]byte { return [][]byte{says(t, q, "", dnsmessage.RCodeNameError, nil)} })
	for text, want := range map[string]string{
		"nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.3\n": "192.0.2.7", // nobody listens at 127.0.0.2
		"nameserver 127.0.0.1\n":                       "ServerFailure",
		"nameserver 127.0.0.4\nnameserver 127.0.0.3\n": "NameError",
		"nameserver 10.0.1.1\nnameserver 127.0.0.3\n":  "192.0.2.7", // that is we ourselves
		"# none\n": "ServerFailure",
	} {
		host(t, s, text)
		if got := asked(t, s, "10.0.1.2", "10.0.1.1", "udp"); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if err := os.Remove(filepath.Join(s.run, "resolv.conf")); err != nil {
		t.Fatal(err)
	}
	if got := asked(t, s, "10.0.1.2", "10.0.1.1", "udp"); got != "ServerFailure" {
		t.Errorf("without resolv.conf: %s", got)
	}
}

// A container's own servers are asked in place of the host's, and who is in internal networks alone asks none but those
// that are there with it.
func TestWhoIsAskedForWhom(t *testing.T) {
	s := lab(t)
	s.forward.port = fakeServer(t, "127.0.0.1", 0, func(q []byte) [][]byte { return [][]byte{says(t, q, "192.0.2.1", 0, nil)} })
	fakeServer(t, "127.0.0.3", s.forward.port, func(q []byte) [][]byte { return [][]byte{says(t, q, "192.0.2.3", 0, nil)} })
	host(t, s, "nameserver 127.0.0.1\n")
	web := Entry{ID: idWeb, Name: "web", PID: os.Getpid(), Servers: []netip.Addr{addr("127.0.0.3")}, Plugs: []Plug{plug("front", 1, 2)}}
	if err := Write(s.run, web); err != nil {
		t.Fatal(err)
	}
	inside := plug("back", 2, 4)
	inside.Internal = true
	deep := Entry{ID: idBack, Name: "deep", PID: os.Getpid(), Servers: []netip.Addr{addr("127.0.0.3")}, Plugs: []Plug{inside}}
	for from, want := range map[string]string{"10.0.1.2": "192.0.2.3", "10.0.1.3": "192.0.2.1", "10.0.2.4": "NameError", "10.0.2.1": "NameError"} {
		at := netip.PrefixFrom(addr(from), 24).Masked().Addr().Next().String()
		if got := asked(t, s, from, at, "udp"); got != want {
			t.Errorf("%s: %s, want %s", from, got, want)
		}
	}
	if err := Write(s.run, deep); err != nil {
		t.Fatal(err)
	}
	if got := asked(t, s, "10.0.2.4", "10.0.2.1", "udp"); got != "NameError" {
		t.Errorf("from an internal network, by --dns: %s", got)
	}
	deep.Plugs[0].Subnets = append(deep.Plugs[0].Subnets, netip.MustParsePrefix("127.0.0.3/32"))
	if err := Write(s.run, deep); err != nil {
		t.Fatal(err)
	}
	if got := asked(t, s, "10.0.2.4", "10.0.2.1", "udp"); got != "192.0.2.3" {
		t.Errorf("of a server in the internal network itself: %s", got)
	}
}

// An answer that is longer than the asker takes is not passed on, and opens no addresses.
func TestLongAnswersOfOthers(t *testing.T) {
	s := lab(t)
	s.forward.port = fakeServer(t, "127.0.0.1", 0, func(q []byte) [][]byte {
		return [][]byte{says(t, q, "192.0.2.7", 0, func(m *dnsmessage.Message) {
			for range 50 {
				m.Answers = append(m.Answers, m.Answers[0])
			}
		})}
	})
	host(t, s, "nameserver 127.0.0.1\n")
	question := ask(t, "example.com.", dnsmessage.TypeA, nil)
	realTransact, realElsewhere, opened := transact, elsewhere, 0
	t.Cleanup(func() { transact, elsewhere = realTransact, realElsewhere })
	transact = func(...string) error { opened++; return nil }
	elsewhere = func(netip.Addr) (bool, error) { return true, nil }
	e := s.view.Load().members[addr("10.0.1.2")]
	e.Table, e.Plugs[0].Opens = "bridge t", []Open{{"example.com", "dns-1-"}}
	for network, truncated := range map[string]bool{"udp": true, "tcp": false} {
		opened = 0
		_, wait := s.answer(question, addr("10.0.1.2"), addr("10.0.1.1"), network)
		var m dnsmessage.Message
		if err := m.Unpack(wait(question)); err != nil || m.Truncated != truncated || len(m.Answers) == 51 == truncated {
			t.Errorf("%s: truncated %v, %d answers, error %v", network, m.Truncated, len(m.Answers), err)
		}
		if opened == 0 != truncated {
			t.Errorf("%s: an answer that is passed on %v opens addresses %d times", network, !truncated, opened)
		}
	}
}

// One container that asks what nobody answers does not keep others from asking.
func TestQuestionsThatWaitAreFew(t *testing.T) {
	u := newUpstream("/nowhere")
	one, other := addr("10.0.1.2"), addr("10.0.1.3")
	for range maxWaitingOne {
		if err := u.enter(one); err != nil {
			t.Fatal(err)
		}
	}
	if err := u.enter(one); !errors.Is(err, errTooMany) {
		t.Errorf("one more: error %v", err)
	}
	if err := u.enter(other); err != nil {
		t.Errorf("another container: %v", err)
	}
	u.leave(one)
	if err := u.enter(one); err != nil {
		t.Errorf("when one has left: %v", err)
	}
}

// A server that says nothing is not waited for longer than programs wait.
func TestSilentServer(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: it takes seconds")
	}
	u := newUpstream("/nowhere")
	u.port = fakeServer(t, "127.0.0.1", 0, func([]byte) [][]byte { return nil })
	began := time.Now()
	_, err := u.ask(context.Background(), "udp", []netip.Addr{addr("127.0.0.1")}, ask(t, "example.com.", dnsmessage.TypeA, nil))
	if err == nil || time.Since(began) > 2*forwardPatience {
		t.Errorf("error %v after %v", err, time.Since(began))
	}
}

// TestAContainerDoesNotFillTheLog: each question that nobody answers fails with an error of its own, which has the port in it.
func TestAContainerDoesNotFillTheLog(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	s := lab(t)
	complain := func(i int) {
		q, _, _ := parse(ask(t, fmt.Sprintf("x%d.example.", i), dnsmessage.TypeA, nil))
		s.complain(q, addr("10.0.1.2"), fmt.Errorf("read udp 10.0.1.1:%d: i/o timeout", i))
	}
	for i := range 1000 {
		complain(i)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Fatalf("1000 questions made %d lines:\n%.1000s", n, log.String())
	}
	s.lastAt = s.lastAt.Add(-complaintInterval)
	complain(1000)
	if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "others=999") {
		t.Errorf("later the log is\n%s", got)
	}
}
