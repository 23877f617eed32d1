package forward

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containr/containr/pkg/logs"
)

func driverOptions(t *testing.T, driver string, opts ...string) logs.Options {
	t.Helper()
	m := map[string]string{}
	for _, o := range opts {
		key, value, _ := strings.Cut(o, "=")
		m[key] = value
	}
	o, err := logs.Parse(driver, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// assembler puts chunks together as a server does, in whatever order they come.
type assembler map[string][][]byte

// take returns a message when its last chunk has come.
func (a assembler) take(d []byte) ([]byte, error) {
	if len(d) < 2 || d[0] != 0x1e || d[1] != 0x0f {
		return d, nil
	}
	if len(d) <= 12 || d[10] >= d[11] || d[11] > 128 {
		return nil, fmt.Errorf("a chunk of %d bytes, number %d of %d", len(d), d[10], d[11])
	}
	id := string(d[2:10])
	if a[id] == nil {
		a[id] = make([][]byte, d[11])
	}
	parts := a[id]
	if len(parts) != int(d[11]) || parts[d[10]] != nil {
		return nil, errors.New("a chunk that does not belong there")
	}
	parts[d[10]] = slices.Clone(d[12:])
	if slices.ContainsFunc(parts, func(p []byte) bool { return p == nil }) {
		return nil, nil
	}
	delete(a, id)
	return bytes.Join(parts, nil), nil
}

// unpack undoes the compression that the first bytes tell of.
func unpack(b []byte) ([]byte, error) {
	in, err := io.Reader(bytes.NewReader(b)), error(nil)
	switch {
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b}):
		in, err = gzip.NewReader(in)
	case b[0] == 0x78:
		in, err = zlib.NewReader(in)
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(in)
}

// FuzzChunks: chunks of any message, in any order, and mixed with those of another one, are that message.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("short"), 1, int64(1))
	f.Add([]byte("a message"), 1000, int64(2))
	f.Add([]byte("0123456789"), 100000, int64(3))
	f.Fuzz(func(t *testing.T, unit []byte, times int, seed int64) {
		if len(unit) == 0 || unit[0] == 0x1e || times < 1 || times > 1<<20/len(unit) {
			return
		}
		messages := [][]byte{bytes.Repeat(unit, times), append([]byte("other"), bytes.Repeat(unit, times)...)}
		var all [][]byte
		for _, m := range messages {
			got, err := chunks(m)
			if err != nil {
				if len(m) <= maxChunks*(largeChunk-chunkHeader) {
					t.Fatal(err)
				}
				return
			}
			all = append(all, got...)
		}
		rand.New(rand.NewSource(seed)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		a, whole := assembler{}, map[string]bool{}
		for _, d := range all {
			if len(d) > largeChunk {
				t.Fatalf("a datagram of %d bytes", len(d))
			}
			m, err := a.take(d)
			if err != nil {
				t.Fatal(err)
			}
			if m != nil {
				whole[string(m)] = true
			}
		}
		if len(whole) != 2 || !whole[string(messages[0])] || !whole[string(messages[1])] || len(a) != 0 {
			t.Fatalf("%d messages of %d bytes came out, and %d are not complete", len(whole), len(messages[0]), len(a))
		}
	})
}

// gelfWant is what a message says, but for its text and level.
func gelfWant(text string, level float64) map[string]any {
	return map[string]any{"version": "1.1", "host": "my host", "short_message": text, "level": level, "timestamp": 1795953600.123,
		"_container_id": source.ID, "_container_name": "web", "_image_name": "base", "_image_id": "", "_command": "", "_created": "0001-01-01T00:00:00Z",
		"_tag": "0123456789ab", "_com.example_tier": "front"}
}

func checkGelf(t *testing.T, message []byte, want map[string]any) {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal(message, &got); err != nil {
		t.Fatalf("%v: %.200q", err, message)
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// TestGelfDatagrams: messages arrive whole with each compression, also those of several datagrams.
func TestGelfDatagrams(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	noise := make([]byte, logs.MaxLine)
	rand.New(rand.NewSource(1)).Read(noise)
	for i := range noise {
		noise[i] = noise[i]%95 + ' '
	}
	for _, compression := range []string{"gzip", "zlib", "none"} {
		target, err := Open(driverOptions(t, logs.Gelf, "gelf-address=udp://"+conn.LocalAddr().String(), "gelf-compression-type="+compression, "gelf-compression-level=9"), source)
		if err != nil {
			t.Fatal(err)
		}
		defer target.Close()
		a, b := assembler{}, make([]byte, 64<<10)
		for _, text := range []string{"out", string(noise)} {
			if n, err := target.Send([]logs.Record{{Stream: logs.Stderr, Time: when, Data: []byte(text + "\n")}}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			var message []byte
			for message == nil {
				conn.SetReadDeadline(time.Now().Add(patience))
				n, _, err := conn.ReadFrom(b)
				if err != nil {
					t.Fatal(err)
				}
				if message, err = a.take(b[:n]); err != nil {
					t.Fatal(err)
				}
			}
			if (message[0] == '{') != (compression == "none") {
				t.Errorf("%s: it begins with %x", compression, message[:2])
			}
			plain, err := unpack(message)
			if err != nil {
				t.Fatal(err)
			}
			checkGelf(t, plain, gelfWant(text, 3))
		}
	}
}

// TestGelfStream: over tcp each message ends with a zero byte; an empty line is none, and a part of a line says so.
func TestGelfStream(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := all(t, l)
	target, err := Open(driverOptions(t, logs.Gelf, "gelf-address=tcp://"+l.Addr().String()), source)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{"one\n", "\n", "part"} {
		if n, err := target.Send([]logs.Record{{Stream: logs.Stdout, Time: when, Data: []byte(data)}}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	target.Close()
	messages := strings.Split(<-got, "\x00")
	if len(messages) != 3 || messages[2] != "" {
		t.Fatalf("%q", messages)
	}
	checkGelf(t, []byte(messages[0]), gelfWant("one", 6))
	part := gelfWant("part", 6)
	part["_partial_message"] = "true"
	checkGelf(t, []byte(messages[1]), part)
}

// TestServerThatComesBack: a server that was ended and started anew gets every line: its end is seen before a line is written.
func TestServerThatComesBack(t *testing.T) {
	for driver, option := range map[string]string{logs.Gelf: "gelf-address", logs.Syslog: "syslog-address"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		target, err := Open(driverOptions(t, driver, option+"=tcp://"+l.Addr().String()), source)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			type accepted struct {
				conn net.Conn
				err  error
			}
			comes := make(chan accepted, 1)
			go func() {
				conn, err := l.Accept()
				comes <- accepted{conn, err}
			}()
			if _, err := target.Send([]logs.Record{{Stream: logs.Stdout, Time: when, Data: []byte(strconv.Itoa(1000+i) + "\n")}}); err != nil {
				t.Fatal(err)
			}
			a := <-comes
			if a.err != nil {
				t.Fatal(a.err)
			}
			a.conn.SetReadDeadline(time.Now().Add(patience))
			b := make([]byte, 4096)
			n, err := a.conn.Read(b)
			if err != nil || !strings.Contains(string(b[:n]), strconv.Itoa(1000+i)) {
				t.Errorf("%s: connection %d: %q, error %v", driver, i, b[:n], err)
			}
			a.conn.Close()
		}
		target.Close()
		l.Close()
	}
}

// unpacker reads MessagePack: a reader of the test's own, by its specification.
type unpacker struct{ *bufio.Reader }

func (u unpacker) number(width int) (n int, err error) {
	var b [8]byte
	_, err = io.ReadFull(u, b[8-width:])
	return int(binary.BigEndian.Uint64(b[:])), err
}

func (u unpacker) value() (any, error) {
	kind, err := u.ReadByte()
	if err != nil {
		return nil, err
	}
	n, width := 0, map[byte]int{0xdc: 2, 0xde: 2, 0xd9: 1, 0xda: 2, 0xdb: 4, 0xce: 4}[kind]
	if width > 0 {
		if n, err = u.number(width); err != nil {
			return nil, err
		}
	}
	switch {
	case kind < 0x90:
		return u.pairs(int(kind & 15))
	case kind == 0xde:
		return u.pairs(n)
	case kind < 0xa0:
		return u.values(int(kind & 15))
	case kind == 0xdc:
		return u.values(n)
	case kind < 0xc0:
		n = int(kind & 31)
	case kind == 0xce:
		return n, nil
	case kind == 0xd7:
		n = 9
	case width == 0:
		return nil, fmt.Errorf("type %#x", kind)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(u, b)
	return string(b), err
}

func (u unpacker) values(n int) (out []any, err error) {
	for range n {
		v, err := u.value()
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (u unpacker) pairs(n int) (map[string]any, error) {
	out := map[string]any{}
	for range n {
		key, err := u.value()
		if err != nil {
			return nil, err
		}
		if out[fmt.Sprint(key)], err = u.value(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// fluentdServer answers what comes over a connection, with answer, and returns what came until it ended or answer has an error.
func fluentdServer(conn net.Conn, answer func(chunk string) ([]byte, error)) (messages [][]any, err error) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	in := unpacker{bufio.NewReader(conn)}
	for {
		v, err := in.value()
		if errors.Is(err, io.EOF) {
			return messages, nil
		}
		if err != nil {
			return messages, err
		}
		m, ok := v.([]any)
		if !ok || len(m) != 3 {
			return messages, fmt.Errorf("a message is %v", v)
		}
		messages = append(messages, m)
		chunk, ok := m[2].(map[string]any)["chunk"].(string)
		if !ok {
			continue
		}
		b, err := answer(chunk)
		if err != nil {
			return messages, nil
		}
		if _, err := conn.Write(b); err != nil {
			return messages, err
		}
	}
}

func acknowledge(chunk string) ([]byte, error) {
	return appendString(appendString(appendMap(nil, 1), "ack"), chunk), nil
}

type conversation struct {
	messages [][]any
	err      error
}

// serveFluentd has each connection to a listener answered.
func serveFluentd(l net.Listener, answer func(string) ([]byte, error)) <-chan conversation {
	out := make(chan conversation, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			m, err := fluentdServer(conn, answer)
			out <- conversation{m, err}
		}
	}()
	return out
}

// TestFluentd: over tcp, unix and tls a server gets tag, times and docker's fields of each line.
func TestFluentd(t *testing.T) {
	cert, _ := certificate(t)
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	for _, network := range []string{"tcp", "unix", "tls"} {
		listen, socket := "127.0.0.1:0", network
		switch network {
		case "unix":
			listen = filepath.Join(t.TempDir(), "socket")
		case "tls":
			socket = "tcp"
		}
		l, err := net.Listen(socket, listen)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if network == "tls" {
			l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}})
		}
		came := serveFluentd(l, acknowledge)
		for _, sub := range []bool{false, true} {
			o := driverOptions(t, logs.Fluentd, "fluentd-address="+network+"://"+l.Addr().String(), "tag=docker.{{.Name}}", fmt.Sprint("fluentd-sub-second-precision=", sub))
			target := newFluentd(o, source)
			if network == "tls" {
				target.tls.RootCAs = pool
			}
			records := []logs.Record{{Stream: logs.Stdout, Time: when, Data: []byte("one\n")}, {Stream: logs.Stderr, Time: when, Data: bytes.Repeat([]byte{'x'}, 16<<10)}}
			if n, err := target.Send(records); n != 2 || err != nil {
				t.Fatal(network, n, err)
			}
			target.Close()
			var seconds any = 1795953600
			if sub {
				b := binary.BigEndian.AppendUint32([]byte{0}, 1795953600)
				seconds = string(binary.BigEndian.AppendUint32(b, 123456789))
			}
			event := func(source_, log string) map[string]any {
				return map[string]any{"container_id": source.ID, "container_name": "/web", "com.example/tier": "front", "source": source_, "log": log}
			}
			first, second := event("stdout", "one"), event("stderr", strings.Repeat("x", 16<<10))
			second["partial_message"] = "true"
			got := <-came
			if got.err != nil || len(got.messages) != 1 {
				t.Fatalf("%s: %d messages, %v", network, len(got.messages), got.err)
			}
			equal(t, network, fmt.Sprint(got.messages[0][:2]), fmt.Sprint([]any{"docker.web", []any{[]any{seconds, first}, []any{seconds, second}}}))
		}
	}
}

// TestFluentdCertificate: a server whose certificate nobody knows gets nothing.
func TestFluentdCertificate(t *testing.T) {
	cert, _ := certificate(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	came := serveFluentd(l, acknowledge)
	target := newFluentd(driverOptions(t, logs.Fluentd, "fluentd-address=tls://"+l.Addr().String()), source)
	defer target.Close()
	var unknown *tls.CertificateVerificationError
	if _, err := target.Send([]logs.Record{{Stream: logs.Stdout, Time: when, Data: []byte("secret\n")}}); !errors.As(err, &unknown) {
		t.Errorf("an unknown certificate: %v", err)
	}
	if got := <-came; len(got.messages) != 0 {
		t.Errorf("the server got %v", got.messages)
	}
}

// TestNothingIsSentWithoutAnswer: lines count as sent when their answer has come, and not before: a server that takes what is sent
// and ends without a word, or answers something else, gets it again.
func TestNothingIsSentWithoutAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answers := 0
	came := serveFluentd(l, func(chunk string) ([]byte, error) {
		switch answers++; answers {
		case 1:
			return nil, io.ErrUnexpectedEOF
		case 2:
			return acknowledge("another")
		case 3:
			return []byte{0xc0}, nil
		}
		return acknowledge(chunk)
	})
	target, err := Open(driverOptions(t, logs.Fluentd, "fluentd-address="+l.Addr().String()), source)
	if err != nil {
		t.Fatal(err)
	}
	o, dir := runOptions(t, target, over)
	o.Pause = time.Millisecond
	writeLog(t, dir, logs.Options{Driver: logs.Fluentd, MaxSize: 1 << 20, MaxFiles: 2}, 0, 600)
	if err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	target.Close()
	for range 3 {
		if got := <-came; got.err != nil || len(got.messages) != 1 {
			t.Errorf("a server that does not answer: %d messages, %v", len(got.messages), got.err)
		}
	}
	got := <-came
	var lines strings.Builder
	for _, m := range got.messages {
		for _, e := range m[1].([]any) {
			fmt.Fprintln(&lines, e.([]any)[1].(map[string]any)["log"])
		}
	}
	equal(t, "lines", lines.String(), numbers(0, 600))
	if len(got.messages) != 3 {
		t.Errorf("600 lines are %d messages", len(got.messages))
	}
}

// FuzzAnswer: whatever a server answers is read or refused.
func FuzzAnswer(f *testing.F) {
	good, _ := acknowledge("chunk")
	f.Add(good)
	f.Add([]byte{0x81, 0xd9, 3, 'a', 'c', 'k', 0xda, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		ack, err := readAnswer(bufio.NewReader(bytes.NewReader(b)))
		if err == nil && ack != "" && !bytes.Contains(b, []byte(ack)) {
			t.Errorf("%q is not in %q", ack, b)
		}
	})
}

// TestRetries: with a bound of attempts a line is lost after that many, and said to be; the next ones are sent.
func TestRetries(t *testing.T) {
	target := &stubborn{refuse: "2\n"}
	o, dir := runOptions(t, target, over)
	o.Pause, o.Retries = time.Millisecond, 3
	var told []string
	o.Failed = func(err error) { told = append(told, err.Error()) }
	writeLog(t, dir, logs.Options{Driver: logs.Gelf, MaxSize: 1 << 20, MaxFiles: 2}, 0, 5)
	if err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	equal(t, "lines", target.got.String(), "0\n1\n3\n4\n")
	if target.refused != 4 || !slices.Equal(told, []string{"never", "a line is lost after 4 attempts: never"}) {
		t.Errorf("refused %d times, told %q", target.refused, told)
	}
}

// stubborn never takes one line.
type stubborn struct {
	refuse  string
	refused int
	got     bytes.Buffer
}

func (s *stubborn) Send(records []logs.Record) (int, error) {
	if string(records[0].Data) == s.refuse {
		s.refused++
		return 0, errors.New("never")
	}
	s.got.Write(records[0].Data)
	return 1, nil
}

func (s *stubborn) Close() error { return nil }
