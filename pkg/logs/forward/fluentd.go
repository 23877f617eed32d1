package forward

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/containr/containr/pkg/logs"
)

// errNotAcknowledged means that a fluentd server did not say that it has what was sent to it.
var errNotAcknowledged = errors.New("the server has not acknowledged what it got")

// fluentd sends events by fluentd's forward protocol, version 1, in its mode "Forward": an array of a tag, of events,
// and of options, of which chunk asks for an answer. A connection has one message at a time, and what has no answer
// is sent again, over another one.
type fluentd struct {
	o      logs.FluentdOptions
	tls    *tls.Config
	tag    string
	fields []byte // of every event: pairs of a map
	count  int    // how many pairs these are
	conn   net.Conn
	in     *bufio.Reader
}

func newFluentd(o logs.Options, s Source) *fluentd {
	t := &fluentd{o: o.Fluentd, tag: logs.ExpandTag(o.Tag, s.ID, s.Name, s.Image)}
	if t.o.Network == "tls" {
		t.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	fields := map[string]string{"container_id": s.ID, "container_name": "/" + s.Name} // docker's has the slash
	for key, value := range s.Attributes {
		if key != "log" && key != "source" && key != "partial_message" {
			fields[key] = value
		}
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		t.fields = appendString(appendString(t.fields, key), fields[key])
	}
	t.count = len(fields)
	return t
}

// Send sends all the records as one message.
func (t *fluentd) Send(records []logs.Record) (int, error) {
	if err := t.send(records); err != nil {
		t.Close()
		return 0, fmt.Errorf("fluentd %s: %w", t.o.Address, err)
	}
	return len(records), nil
}

func (t *fluentd) send(records []logs.Record) error {
	if t.conn != nil && hungUp(t.conn) {
		t.Close()
	}
	if t.conn == nil {
		conn, err := dial(t.o.Network, t.o.Address, t.tls)
		if err != nil {
			return err
		}
		t.conn, t.in = conn, bufio.NewReaderSize(conn, maxAnswer)
	}
	chunk := ""
	if t.o.Acknowledge {
		var b [16]byte
		rand.Read(b[:]) // it cannot fail
		chunk = hex.EncodeToString(b[:])
	}
	if err := t.conn.SetDeadline(time.Now().Add(sendTime)); err != nil {
		return err
	}
	if _, err := t.conn.Write(t.message(records, chunk)); err != nil {
		return err
	}
	if chunk == "" {
		return nil
	}
	switch answer, err := readAnswer(t.in); {
	case err != nil:
		return fmt.Errorf("%w: %w", errNotAcknowledged, err)
	case answer != chunk:
		return fmt.Errorf("%w: it answered %.40q", errNotAcknowledged, answer)
	}
	return nil
}

// message is [tag, [[time, event], ...], options].
func (t *fluentd) message(records []logs.Record, chunk string) []byte {
	m := appendString(appendArray(nil, 3), t.tag)
	m = appendArray(m, len(records))
	for _, r := range records {
		m = appendArray(m, 2)
		m = t.appendTime(m, r.Time)
		m = t.appendEvent(m, r)
	}
	if chunk == "" {
		return appendMap(m, 0)
	}
	return appendString(appendString(appendMap(m, 1), "chunk"), chunk)
}

// appendTime writes seconds, or an EventTime, which has nanoseconds: the extension 0 of eight bytes.
func (t *fluentd) appendTime(to []byte, when time.Time) []byte {
	if !t.o.SubSecond {
		return binary.BigEndian.AppendUint32(append(to, 0xce), uint32(when.Unix()))
	}
	to = append(to, 0xd7, 0)
	to = binary.BigEndian.AppendUint32(to, uint32(when.Unix()))
	return binary.BigEndian.AppendUint32(to, uint32(when.Nanosecond()))
}

func (t *fluentd) appendEvent(to []byte, r logs.Record) []byte {
	line, whole := bytes.CutSuffix(r.Data, []byte{'\n'})
	pairs := t.count + 2
	if !whole {
		pairs++
	}
	to = append(appendMap(to, pairs), t.fields...)
	to = appendString(appendString(to, "source"), r.Stream.String())
	to = appendString(appendString(to, "log"), string(line))
	if !whole {
		to = appendString(appendString(to, "partial_message"), "true")
	}
	return to
}

// The types of MessagePack that are needed, as its specification writes them (formats "fixarray, array 16", "fixmap, map 16",
// "fixstr, str 8, 16, 32"). Counts are below 1<<16, see maxBatch and the bounds of labels.

func appendArray(to []byte, n int) []byte {
	if n < 16 {
		return append(to, 0x90|byte(n))
	}
	return binary.BigEndian.AppendUint16(append(to, 0xdc), uint16(n))
}

func appendMap(to []byte, n int) []byte {
	if n < 16 {
		return append(to, 0x80|byte(n))
	}
	return binary.BigEndian.AppendUint16(append(to, 0xde), uint16(n))
}

func appendString(to []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		to = append(to, 0xa0|byte(n))
	case n < 1<<8:
		to = append(to, 0xd9, byte(n))
	case n < 1<<16:
		to = binary.BigEndian.AppendUint16(append(to, 0xda), uint16(n))
	default:
		to = binary.BigEndian.AppendUint32(append(to, 0xdb), uint32(n))
	}
	return append(to, s...)
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 4096

// readAnswer reads {"ack": TEXT}, and returns the text. Other texts in the map are passed over.
func readAnswer(in *bufio.Reader) (ack string, err error) {
	first, err := in.ReadByte()
	if err != nil {
		return "", err
	}
	pairs := int(first & 0xf)
	if first&0xf0 != 0x80 {
		return "", fmt.Errorf("an answer begins with %#02x, which is no short map", first)
	}
	for range pairs {
		key, err := readString(in)
		if err != nil {
			return "", err
		}
		value, err := readString(in)
		if err != nil {
			return "", err
		}
		if key == "ack" {
			ack = value
		}
	}
	return ack, nil
}

// readString reads a str or bin of up to maxAnswer bytes.
func readString(in *bufio.Reader) (string, error) {
	kind, err := in.ReadByte()
	if err != nil {
		return "", err
	}
	n := int(kind & 0x1f)
	switch width := map[byte]int{0xd9: 1, 0xc4: 1, 0xda: 2, 0xc5: 2}[kind]; {
	case width > 0:
		var b [2]byte
		if _, err := io.ReadFull(in, b[2-width:]); err != nil {
			return "", err
		}
		n = int(binary.BigEndian.Uint16(b[:]))
	case kind&0xe0 != 0xa0:
		return "", fmt.Errorf("an answer has a %#02x where a text is expected", kind)
	}
	if n > maxAnswer {
		return "", fmt.Errorf("an answer has a text of %d bytes, more than %d", n, maxAnswer)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(in, b)
	return string(b), err
}

// Close implements Target.
func (t *fluentd) Close() error {
	if t.conn == nil {
		return nil
	}
	conn := t.conn
	t.conn, t.in = nil, nil
	return conn.Close()
}
