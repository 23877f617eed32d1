package dbus

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Patience is how long an answer or a signal is waited for.
const Patience = 30 * time.Second

// maxSignals bounds the signals that are kept while an answer is waited for.
const maxSignals = 4096

// Conn is a connection after the exchange about who we are. Plain system calls do for
// it; package net would cost a part of the start of every program that links it.
type Conn struct {
	fd     int
	serial uint32
	// signals came while an answer was waited for.
	signals []*Message
	// deadline ends the present wait.
	deadline time.Time
}

// Dial connects to a socket and proves who we are: the mechanism EXTERNAL refers to
// the credentials that the kernel tells the other side. On a bus with a broker, the
// first call must be Hello of org.freedesktop.DBus.
func Dial(path string) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	c := &Conn{fd: fd}
	c.begin()
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		c.Close()
		return nil, &os.PathError{Op: "connect", Path: path, Err: err}
	}
	if err := c.authenticate(); err != nil {
		c.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Close ends the connection.
func (c *Conn) Close() { _ = unix.Close(c.fd) } // nothing is buffered

// begin starts the clock for one call or one wait.
func (c *Conn) begin() { c.deadline = time.Now().Add(Patience) }

// authenticate says BEGIN at once, before the answer, as systemd's own programs do. If
// it came with the first call, systemd could read both at one time, take the first for
// all there is, and sleep until something more arrives, with the call unread.
func (c *Conn) authenticate() error {
	if err := c.write(fmt.Appendf(nil, "\x00AUTH EXTERNAL %x\r\nBEGIN\r\n", strconv.Itoa(OuterUID(os.Geteuid())))); err != nil {
		return err
	}
	var line []byte
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		var b [1]byte // messages may follow the line
		if _, err := c.Read(b[:]); err != nil {
			return err
		}
		if line = append(line, b[0]); len(line) > 512 {
			return errors.New("D-Bus: the answer to AUTH is too long")
		}
	}
	if !bytes.HasPrefix(line, []byte("OK ")) {
		return fmt.Errorf("D-Bus: AUTH EXTERNAL was answered %q", bytes.TrimSpace(line))
	}
	return nil
}

// OuterUID is the number that a user of this process's user namespace has in the one around it, where whoever answers is: the same, if there is none
// around, or no procfs to ask.
func OuterUID(uid int) int {
	table, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return uid
	}
	for line := range strings.Lines(string(table)) {
		var n [3]int // inside, outside, how many
		for i, word := range strings.Fields(line) {
			n[i%len(n)], _ = strconv.Atoi(word) // the kernel writes numbers
		}
		if n[0] <= uid && uid-n[0] < n[2] {
			return n[1] + uid - n[0]
		}
	}
	return uid
}

// ready waits until the descriptor can be read or written, or the deadline.
func (c *Conn) ready(events int16) error {
	for {
		left := time.Until(c.deadline)
		if left <= 0 {
			return fmt.Errorf("D-Bus: no answer within %v: %w", Patience, unix.ETIMEDOUT)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: events}}, int(left.Milliseconds())+1)
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
		if n > 0 {
			return nil
		}
	}
}

func (c *Conn) write(b []byte) error {
	for len(b) > 0 {
		if err := c.ready(unix.POLLOUT); err != nil {
			return err
		}
		n, err := unix.SendmsgN(c.fd, b, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if err != nil && err != unix.EINTR && err != unix.EAGAIN {
			return os.NewSyscallError("sendmsg", err)
		}
		b = b[max(n, 0):]
	}
	return nil
}

// Read reads what has arrived, for ReadMessage; it waits until the present wait ends.
func (c *Conn) Read(b []byte) (int, error) {
	for {
		if err := c.ready(unix.POLLIN); err != nil {
			return 0, err
		}
		switch n, err := unix.Read(c.fd, b); {
		case err == unix.EINTR:
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, errors.New("D-Bus: the other side has hung up")
		default:
			return n, nil
		}
	}
}

// Call sends a method call and returns the words of the answer. Its serial number is
// set here. An answer that says no is an *Error.
func (c *Conn) Call(m Message) ([]string, error) {
	c.begin()
	c.serial++
	m.Kind, m.Serial = Call, c.serial
	words, err := c.call(&m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Member, err)
	}
	return words, nil
}

func (c *Conn) call(m *Message) ([]string, error) {
	text, err := m.Append(nil)
	if err != nil {
		return nil, err
	}
	if err := c.write(text); err != nil {
		return nil, err
	}
	for {
		answer, err := ReadMessage(c)
		if err != nil {
			return nil, err
		}
		switch {
		case answer.Kind == Signal && len(c.signals) < maxSignals:
			c.signals = append(c.signals, answer)
		case answer.Reply != m.Serial:
		case answer.Kind == Return:
			return answer.Words, nil
		case answer.Kind == Failed:
			return nil, answer.failure()
		}
	}
}

// Signal returns the next signal of this name. Those that came while calls waited for
// their answer are there still, in order. On a bus anybody may send us one: whether it
// is from whom it should be is the caller's to check, by its Sender.
func (c *Conn) Signal(member string) (*Message, error) {
	c.begin()
	for {
		var m *Message
		if len(c.signals) > 0 {
			m, c.signals = c.signals[0], c.signals[1:]
		} else {
			var err error
			if m, err = ReadMessage(c); err != nil {
				return nil, fmt.Errorf("signal %s: %w", member, err)
			}
		}
		if m.Kind == Signal && m.Member == member {
			return m, nil
		}
	}
}
