package resolver

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// How long others are waited for. Programs ask again after 5 seconds, and after 10 they give up.
const (
	serverPatience  = 2 * time.Second
	forwardPatience = 4500 * time.Millisecond
)

// How many questions may wait for others at a time: of all, and of one container.
const (
	maxWaiting    = 1024
	maxWaitingOne = 128
)

// port is where name servers listen.
const port = 53

// Errors of asking others.
var (
	errNoServer = errors.New("there is no name server to ask")
	errTooMany  = errors.New("too many questions wait for an answer")
)

// upstream asks the name servers of others.
type upstream struct {
	// file is the host's resolv.conf.
	file string
	// port is where they listen.
	port uint16

	mu      sync.Mutex
	seen    os.FileInfo
	servers []netip.Addr
	waiting map[netip.Addr]int
	all     int
}

func newUpstream(file string) *upstream {
	return &upstream{file: file, port: port, waiting: map[netip.Addr]int{}}
}

// hostServers are the host's name servers as they are now.
func (u *upstream) hostServers() ([]netip.Addr, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	info, err := os.Stat(u.file)
	if err != nil {
		u.seen = nil
		return nil, fmt.Errorf("%w: %w", errNoServer, err)
	}
	if u.seen == nil || !os.SameFile(info, u.seen) || !info.ModTime().Equal(u.seen.ModTime()) || info.Size() != u.seen.Size() {
		data, err := os.ReadFile(u.file)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoServer, err)
		}
		u.seen, u.servers = info, serversIn(string(data))
	}
	if len(u.servers) == 0 {
		return nil, fmt.Errorf("%w: %s names none", errNoServer, u.file)
	}
	return u.servers, nil
}

// serversIn reads the name servers of resolv.conf(5).
func serversIn(text string) []netip.Addr {
	var list []netip.Addr
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			list = append(list, a)
		}
	}
	return list
}

// enter takes a place among those that wait.
func (u *upstream) enter(who netip.Addr) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all >= maxWaiting || u.waiting[who] >= maxWaitingOne {
		return errTooMany
	}
	u.all++
	u.waiting[who]++
	return nil
}

func (u *upstream) leave(who netip.Addr) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all--
	if u.waiting[who]--; u.waiting[who] == 0 {
		delete(u.waiting, who)
	}
}

// ask asks servers, one after the other, until one answers. The answer is to message: it has its ID. One that says that the
// server could not, or would not, stands if there is no better.
func (u *upstream) ask(ctx context.Context, network string, servers []netip.Addr, message []byte) ([]byte, error) {
	if len(servers) == 0 {
		return nil, errNoServer
	}
	ctx, cancel := context.WithTimeout(ctx, forwardPatience)
	defer cancel()
	var poor []byte
	var failures []error
	for ctx.Err() == nil {
		for _, s := range servers {
			answer, err := u.exchange(ctx, network, netip.AddrPortFrom(s, u.port), message)
			switch {
			case err != nil:
				failures = append(failures, err)
			case answer[3]&0xf == byte(dnsmessage.RCodeServerFailure), answer[3]&0xf == byte(dnsmessage.RCodeRefused):
				poor = answer
			default:
				return answer, nil
			}
		}
		if poor != nil {
			return poor, nil
		}
		if len(failures) >= 2*len(servers) {
			break
		}
	}
	return nil, errors.Join(failures...)
}

// exchange asks one server, with an ID and from a port that nobody can guess, and takes no answer to another question.
func (u *upstream) exchange(ctx context.Context, network string, server netip.AddrPort, message []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, serverPatience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	asked := bytes.Clone(message)
	rand.Read(asked[:2])
	if network == "tcp" {
		err = writeFrame(conn, asked)
	} else {
		_, err = conn.Write(asked)
	}
	if err != nil {
		return nil, err
	}
	buf := make([]byte, tcpSize)
	for {
		var answer []byte
		if network == "tcp" {
			answer, err = readFrame(conn, buf)
		} else {
			var n int
			n, err = conn.Read(buf)
			answer = buf[:n]
		}
		if err != nil {
			return nil, err
		}
		if answersTo(asked, answer) {
			copy(answer, message[:2])
			return answer, nil
		}
	}
}

// answersTo reports whether a message is an answer to a question: it has its ID and repeats it.
func answersTo(asked, answer []byte) bool {
	if len(answer) < headerSize || !bytes.Equal(asked[:2], answer[:2]) || answer[2]&0x80 == 0 {
		return false
	}
	end := questionEnd(asked)
	if binary.BigEndian.Uint16(answer[4:]) == 0 { // who understands nothing may repeat nothing
		return answer[3]&0xf != 0 && len(answer) == headerSize
	}
	return end > 0 && len(answer) >= end && binary.BigEndian.Uint16(answer[4:]) == 1 && sameFold(asked[headerSize:end], answer[headerSize:end])
}

// sameFold compares names byte by byte; letters of ASCII are the same in both cases, and nothing else is.
func sameFold(a, b []byte) bool {
	lower := func(c byte) byte {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// questionEnd is where the only question of a message ends, 0 if it does not.
func questionEnd(message []byte) int {
	at := headerSize
	for at < len(message) && message[at] != 0 {
		if message[at]&0xc0 != 0 {
			return 0
		}
		at += 1 + int(message[at])
	}
	if at += 1 + 4; at > len(message) { // the zero, type and class
		return 0
	}
	return at
}

// readFrame reads a message over TCP, where each has its length in front, into a buffer.
func readFrame(r io.Reader, buf []byte) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	message := buf[:binary.BigEndian.Uint16(length[:])]
	_, err := io.ReadFull(r, message)
	return message, err
}

func writeFrame(w io.Writer, message []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(message)), uint16(len(message))), message...))
	return err
}
