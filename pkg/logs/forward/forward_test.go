package forward

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containr/containr/pkg/logs"
)

const patience = 30 * time.Second

var when = time.Date(2026, 11, 29, 12, 0, 0, 123456789, time.UTC)

var source = Source{ID: "0123456789abcdef0123", Name: "web", Image: "base", Host: "my host", Attributes: map[string]string{"com.example/tier": "front"}}

// options reads the options of the driver syslog.
func options(t *testing.T, opts map[string]string) logs.Options {
	t.Helper()
	o, err := logs.Parse(logs.Syslog, opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// sends sends two records and closes.
func sends(t *testing.T, o logs.Options) {
	t.Helper()
	target, err := Open(o, source)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	for _, r := range []logs.Record{{Stream: logs.Stdout, Time: when, Data: []byte("out\n")}, {Stream: logs.Stderr, Time: when, Data: []byte("err")}} {
		if n, err := target.Send([]logs.Record{r}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
}

const (
	first  = "<30>1 2026-11-29T12:00:00.123456Z my_host 0123456789ab - stdout - out"
	second = "<27>1 2026-11-29T12:00:00.123456Z my_host 0123456789ab - stderr - err"
)

func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got  %q\nwant %q", what, got, want)
	}
}

// TestDatagrams: over udp and unixgram each message is a datagram.
func TestDatagrams(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for network, listen := range map[string]string{"udp": "127.0.0.1:0", "unixgram": path} {
		conn, err := net.ListenPacket(network, listen)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(patience))
		sends(t, options(t, map[string]string{"syslog-address": network + "://" + conn.LocalAddr().String()}))
		b := make([]byte, 1000)
		for _, want := range []string{first, second} {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, network, string(b[:n]), want)
		}
	}
}

// all returns what the first connection to a listener brings.
func all(t *testing.T, l net.Listener) <-chan string {
	got := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			got <- err.Error()
			return
		}
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(patience))
		b, err := io.ReadAll(conn)
		if err != nil {
			b = append(b, err.Error()...)
		}
		got <- string(b)
	}()
	return got
}

// TestStreams: over tcp and unix each message ends with a newline.
func TestStreams(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for network, listen := range map[string]string{"tcp": "127.0.0.1:0", "unix": path} {
		l, err := net.Listen(network, listen)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		got := all(t, l)
		sends(t, options(t, map[string]string{"syslog-address": network + "://" + l.Addr().String(), "tag": "{{.Name}}/{{.ImageName}}/{{.ID}}", "syslog-facility": "local0", "syslog-format": "rfc5424"}))
		equal(t, network, <-got, "<134>1 2026-11-29T12:00:00Z my_host web/base/0123456789ab - stdout - out\n"+
			"<131>1 2026-11-29T12:00:00Z my_host web/base/0123456789ab - stderr - err\n")
	}
}

// certificate makes one for 127.0.0.1, and writes it to a file.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// TestTLS: over tls each message begins with its length, and a server whose certificate
// nobody knows gets nothing.
func TestTLS(t *testing.T) {
	cert, file := certificate(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := "tcp+tls://" + l.Addr().String()
	got := all(t, l)
	sends(t, options(t, map[string]string{"syslog-address": address, "syslog-tls-ca-cert": file}))
	equal(t, "tls", <-got, fmt.Sprintf("%d %s%d %s", len(first), first, len(second), second))

	got = all(t, l)
	target, err := Open(options(t, map[string]string{"syslog-address": address}), source)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	_, err = target.Send([]logs.Record{{Stream: logs.Stdout, Time: when, Data: []byte("secret\n")}})
	var unknown *tls.CertificateVerificationError
	if !errors.As(err, &unknown) {
		t.Errorf("an unknown certificate: %v", err)
	}
	if text := <-got; strings.Contains(text, "secret") {
		t.Errorf("the server got %q", text)
	}
}

// TestJournal: entries have docker's fields, in the journal's own form.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	conn, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(patience))
	target := newJournal(path, logs.Options{Driver: logs.Journald}, source)
	defer target.Close()
	const common = "CONTAINER_ID=0123456789ab\nCONTAINER_ID_FULL=0123456789abcdef0123\nCONTAINER_NAME=web\nCONTAINER_TAG=0123456789ab\n" +
		"SYSLOG_IDENTIFIER=0123456789ab\nIMAGE_NAME=base\nCOM_EXAMPLE_TIER=front\n"
	for data, want := range map[string]string{
		"line\n":          "MESSAGE=line\nPRIORITY=6\nSYSLOG_TIMESTAMP=2026-11-29T12:00:00.123456789Z\n",
		"a long line":     "MESSAGE=a long line\nPRIORITY=6\nSYSLOG_TIMESTAMP=2026-11-29T12:00:00.123456789Z\nCONTAINER_PARTIAL_MESSAGE=true\n",
		"two\nlines\n":    "MESSAGE\n\x09\x00\x00\x00\x00\x00\x00\x00two\nlines\nPRIORITY=6\nSYSLOG_TIMESTAMP=2026-11-29T12:00:00.123456789Z\n",
		"not \xff text\n": "MESSAGE=not \xff text\nPRIORITY=6\nSYSLOG_TIMESTAMP=2026-11-29T12:00:00.123456789Z\n",
	} {
		if _, err := target.Send([]logs.Record{{Stream: logs.Stdout, Time: when, Data: []byte(data)}}); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, _, err := conn.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, data, string(b[:n]), want+common)
	}
}

// writeLog writes numbered lines as a container does.
func writeLog(t *testing.T, dir string, o logs.Options, from, to int) {
	t.Helper()
	w, err := logs.OpenWriter(dir, filepath.Join(filepath.Dir(dir), "position"), o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := from; i < to; i++ {
		if err := errors.Join(w.Write(logs.Stdout, []byte(strconv.Itoa(i)+"\n"), when), w.Emptied()); err != nil {
			t.Fatal(err)
		}
	}
}

// flaky is a target that fails now and then, and remembers what it has taken.
type flaky struct {
	tries, every int
	got          bytes.Buffer
	after        func(sent int)
	sent         int
}

func (f *flaky) Send(records []logs.Record) (int, error) {
	if f.tries++; f.every > 0 && f.tries%f.every == 0 {
		return 0, errors.New("not now")
	}
	f.got.Write(records[0].Data)
	f.sent++
	if f.after != nil {
		f.after(f.sent)
	}
	return 1, nil
}

func (f *flaky) Close() error { return nil }

// numbers are the lines from first to last.
func numbers(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

func runOptions(t *testing.T, target Target, ended func() (bool, error)) (Options, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return Options{Dir: dir, Position: filepath.Join(dir, "forwarded"), Target: target, Ended: ended}, dir
}

func over() (bool, error) { return true, nil }

// TestOnceAndInOrder: each line is passed on once and in order, whatever the server does, also across
// renamed files and by a forwarder that goes on where another has stopped.
func TestOnceAndInOrder(t *testing.T) {
	target := &flaky{every: 7}
	o, dir := runOptions(t, target, over)
	files := logs.Options{Driver: logs.Syslog, MaxSize: 1000, MaxFiles: 100}
	writeLog(t, dir, files, 0, 100)
	ctx, cancel := context.WithCancel(context.Background())
	target.after = func(sent int) {
		if sent == 40 {
			cancel() // it ends before it has taken note of this one at the latest
		}
	}
	if err := Run(ctx, o); !errors.Is(err, context.Canceled) && err != nil {
		t.Fatal(err)
	}
	target.after = nil
	if err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	writeLog(t, dir, files, 100, 150)
	if err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	equal(t, "lines", target.got.String(), numbers(0, 150))
}

// TestFollows: what is written later is passed on when it is written.
func TestFollows(t *testing.T) {
	var ended atomic.Bool
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	target, err := Open(options(t, map[string]string{"syslog-address": "tcp://" + l.Addr().String()}), source)
	if err != nil {
		t.Fatal(err)
	}
	o, dir := runOptions(t, target, func() (bool, error) { return ended.Load(), nil })
	files := logs.Options{Driver: logs.Syslog, MaxSize: 1 << 20, MaxFiles: 2}
	writeLog(t, dir, files, 0, 1)
	done := make(chan error, 1)
	go func() { done <- Run(context.Background(), o) }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	for i := range 3 {
		line, err := in.ReadString('\n')
		if err != nil || !strings.HasSuffix(line, fmt.Sprintf("- %d\n", i)) {
			t.Fatalf("line %d: %q, error %v", i, line, err)
		}
		writeLog(t, dir, files, i+1, i+2)
	}
	ended.Store(true)
	writeLog(t, dir, files, 4, 5)
	if err := <-done; err != nil {
		t.Error(err)
	}
	target.Close()
}

// TestGivesUp: a server that takes nothing is not waited for without end once the container has ended.
func TestGivesUp(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for Linger")
	}
	var failed int
	o, dir := runOptions(t, &flaky{every: 1}, over)
	o.Failed = func(error) { failed++ }
	writeLog(t, dir, logs.Options{Driver: logs.Syslog, MaxSize: 1000, MaxFiles: 2}, 0, 3)
	if err := Run(context.Background(), o); !errors.Is(err, ErrGivenUp) || failed != 1 {
		t.Errorf("%v, told of %d times", err, failed)
	}
}
