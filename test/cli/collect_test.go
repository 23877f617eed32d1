package cli_test

import (
	"bytes"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// collector is a server of a script: of syslog, GELF or fluentd.
type collector struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
	// listener is that of a stream.
	listener net.Listener
}

// collect NETWORK [ADDRESS] begins to collect what comes over udp, tcp or unixgram, and puts the
// address, as --log-opt syslog-address has it, into $SYSLOG. Over the network fluentd, which is tcp, messages
// that ask for an answer get it, and what is not printable in them is shown as |.
func collect(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: collect NETWORK [ADDRESS]")
	}
	c := &collector{more: make(chan struct{}, 1)}
	scheme := args[0]
	if scheme == "fluentd" {
		scheme = "tcp"
	}
	ts.Setenv("SYSLOG", scheme+"://"+c.listen(ts, args))
	collectors[ts] = c
}

// collectors are those of the scripts, which run one after the other.
var collectors = map[*testscript.TestScript]*collector{}

func (c *collector) listen(ts *testscript.TestScript, args []string) string {
	address := "127.0.0.1:0"
	if args[0] == "unixgram" {
		address = filepath.Join(ts.MkAbs("."), "syslog")
	}
	if len(args) == 2 {
		_, after, found := strings.Cut(args[1], "://")
		if address = args[1]; found {
			address = after
		}
	}
	serve := c.lines
	if args[0] == "fluentd" {
		serve = c.fluentd
	}
	if args[0] == "tcp" || args[0] == "fluentd" {
		l, err := net.Listen("tcp", address)
		ts.Check(err)
		c.listener = l
		ts.Defer(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go serve(conn)
			}
		}()
		return l.Addr().String()
	}
	conn, err := net.ListenPacket(args[0], address)
	ts.Check(err)
	ts.Defer(func() { conn.Close() })
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			c.add(string(b[:n]) + "\n")
		}
	}()
	return conn.LocalAddr().String()
}

// uncollect has nobody listen any more at the address of collect tcp.
func uncollect(ts *testscript.TestScript, neg bool, args []string) {
	c := collectors[ts]
	if neg || len(args) != 0 || c == nil || c.listener == nil {
		ts.Fatalf("usage: uncollect, after collect tcp")
	}
	ts.Check(c.listener.Close())
}

// lines collects what is separated by newlines or by zero bytes.
func (c *collector) lines(conn net.Conn) {
	defer conn.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := conn.Read(b)
		c.add(strings.ReplaceAll(string(b[:n]), "\x00", "\n"))
		if err != nil {
			return
		}
	}
}

// fluentd answers messages that have 32 digits as their chunk, one after the other.
func (c *collector) fluentd(conn net.Conn) {
	defer conn.Close()
	var message []byte
	b := make([]byte, 64<<10)
	for {
		n, err := conn.Read(b)
		if err != nil {
			return
		}
		message = append(message, b[:n]...)
		_, after, found := bytes.Cut(message, []byte("\xa5chunk\xd9 "))
		if !found || len(after) < 32 {
			continue
		}
		c.add(strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return '|'
			}
			return r
		}, string(message)) + "\n")
		if _, err := conn.Write(append([]byte("\x81\xa3ack\xd9 "), after[:32]...)); err != nil {
			return
		}
		message = nil
	}
}

func (c *collector) add(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.WriteString(text)
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// collected PATTERN waits until a line that fits has come, and fails after a while.
func collected(ts *testscript.TestScript, neg bool, args []string) {
	c := collectors[ts]
	if neg || len(args) != 1 || c == nil {
		ts.Fatalf("usage: collected PATTERN, after collect")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	end := time.After(patience)
	for {
		c.mu.Lock()
		text := c.text.String()
		c.mu.Unlock()
		if pattern.MatchString(text) {
			return
		}
		select {
		case <-c.more:
		case <-end:
			ts.Fatalf("no line fits %s:\n%s", args[0], text)
		}
	}
}
