package cli_test

import (
	"bufio"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// collector is a syslog server of a script.
type collector struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

// collect NETWORK [ADDRESS] begins to collect what comes over udp, tcp or unixgram, and puts the
// address, as --log-opt syslog-address has it, into $SYSLOG.
func collect(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: collect NETWORK [ADDRESS]")
	}
	c := &collector{more: make(chan struct{}, 1)}
	ts.Setenv("SYSLOG", args[0]+"://"+c.listen(ts, args))
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
		address = strings.TrimPrefix(args[1], args[0]+"://")
	}
	if args[0] == "tcp" {
		l, err := net.Listen("tcp", address)
		ts.Check(err)
		ts.Defer(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go c.lines(conn)
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

func (c *collector) lines(conn io.ReadCloser) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		c.add(line)
		if err != nil {
			return
		}
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
