package forward

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/containr/containr/pkg/logs"
)

// What the GELF documentation ("Chunked GELF") says of messages over udp that are longer than a datagram:
// each chunk begins with two magic bytes, eight that name the message, its number and how many there are.
const (
	chunkHeader = 12
	maxChunks   = 128
	// smallChunk fits into a packet of most paths, largeChunk is what every server takes.
	smallChunk = 1420
	largeChunk = 8192
	// mostAttributes is how long what belongs to every line may be, so that the longest line, 16 kB of which each byte may
	// become six, still fits into maxChunks.
	mostAttributes = maxChunks*(largeChunk-chunkHeader) - 6*logs.MaxLine - 1024
)

// gelf sends messages of GELF 1.1. Over tcp each ends with a zero byte and is not compressed; over udp it is a
// datagram, or several.
type gelf struct {
	o      logs.GelfOptions
	fields []byte // of every message: the inside of an object, with a comma at its end
	conn   net.Conn
	buf    bytes.Buffer
}

func newGelf(o logs.Options, s Source) (*gelf, error) {
	t := &gelf{o: o.Gelf}
	fields := map[string]string{
		"version": "1.1", "host": s.Host, "_container_id": s.ID, "_container_name": s.Name, "_image_id": s.ImageID, "_image_name": s.Image,
		"_command": s.Command, "_tag": logs.ExpandTag(o.Tag, s.ID, s.Name, s.Image), "_created": s.Created.UTC().Format(time.RFC3339Nano),
	}
	for key, value := range s.Attributes {
		fields[gelfName(key)] = value
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		t.fields = append(appendJSON(t.fields, key), ':')
		t.fields = append(appendJSON(t.fields, fields[key]), ',')
	}
	if len(t.fields) > mostAttributes {
		return nil, fmt.Errorf("--log-opt labels, env: what they name has %d bytes, more than the %d that a message has room for", len(t.fields), mostAttributes)
	}
	return t, nil
}

// gelfName makes a name of an additional field: letters, digits, dots, dashes and underscores, of which the first is an
// underscore. The name _id is the server's own.
func gelfName(key string) string {
	name := "_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '_'
	}, key)
	if name == "_id" {
		return "_id_"
	}
	return name
}

// appendJSON writes a string. Bytes that are no UTF-8 become U+FFFD.
func appendJSON(to []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string has no error
	}
	return append(to, b...)
}

// message is a record as JSON.
func (t *gelf) message(r logs.Record) []byte {
	level := severityInfo
	if r.Stream == logs.Stderr {
		level = severityError
	}
	line, whole := bytes.CutSuffix(r.Data, []byte{'\n'})
	m := append([]byte{'{'}, t.fields...)
	if !whole {
		m = append(m, `"_partial_message":"true",`...)
	}
	ms := r.Time.UnixMilli()
	m = fmt.Appendf(m, `"timestamp":%d.%03d,"level":%d,"short_message":`, ms/1000, ms%1000, level)
	return append(appendJSON(m, string(line)), '}')
}

// Send sends the first record. An empty line is passed over: servers refuse a message without a text.
func (t *gelf) Send(records []logs.Record) (int, error) {
	if len(bytes.TrimSpace(records[0].Data)) == 0 {
		return 1, nil
	}
	if err := t.send(t.message(records[0])); err != nil {
		t.Close()
		return 0, fmt.Errorf("gelf %s: %w", t.o.Address, err)
	}
	return 1, nil
}

func (t *gelf) send(message []byte) error {
	if t.conn != nil && hungUp(t.conn) {
		t.Close()
	}
	if t.conn == nil {
		var err error
		if t.conn, err = dial(t.o.Network, t.o.Address, nil); err != nil {
			return err
		}
	}
	if err := t.conn.SetWriteDeadline(time.Now().Add(sendTime)); err != nil {
		return err
	}
	if t.o.Network == "tcp" {
		_, err := t.conn.Write(append(message, 0))
		return err
	}
	packed, err := t.pack(message)
	if err != nil {
		return err
	}
	datagrams, err := chunks(packed)
	if err != nil {
		return err
	}
	for _, d := range datagrams {
		if _, err := t.conn.Write(d); err != nil {
			return err
		}
	}
	return nil
}

// pack compresses a message. What it returns is good until the next call.
func (t *gelf) pack(message []byte) ([]byte, error) {
	t.buf.Reset()
	var w io.WriteCloser
	var err error
	switch t.o.Compression {
	case "none":
		return message, nil
	case "zlib":
		w, err = zlib.NewWriterLevel(&t.buf, t.o.Level)
	default:
		w, err = gzip.NewWriterLevel(&t.buf, t.o.Level)
	}
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(message); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return t.buf.Bytes(), nil
}

// chunks makes datagrams of a message: one, or chunks of it.
func chunks(message []byte) ([][]byte, error) {
	if len(message) <= smallChunk {
		return [][]byte{message}, nil
	}
	size := smallChunk - chunkHeader
	if len(message) > maxChunks*size {
		size = largeChunk - chunkHeader
	}
	count := (len(message) + size - 1) / size
	if count > maxChunks {
		return nil, fmt.Errorf("a message of %d bytes is more than %d chunks of %d", len(message), maxChunks, size)
	}
	header := [chunkHeader]byte{0x1e, 0x0f, 11: byte(count)}
	rand.Read(header[2:10]) // it cannot fail
	out := make([][]byte, 0, count)
	for part := range slices.Chunk(message, size) {
		header[10] = byte(len(out))
		out = append(out, append(header[:len(header):len(header)], part...))
	}
	return out, nil
}

// Close implements Target.
func (t *gelf) Close() error {
	if t.conn == nil {
		return nil
	}
	conn := t.conn
	t.conn = nil
	return conn.Close()
}
