package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containr/containr/pkg/logs"
)

// JournalSocket is where systemd's journal takes entries: sd_journal_send(3), "Native Journal
// Protocol".
const JournalSocket = "/run/systemd/journal/socket"

// journal sends entries to systemd's journal, with the fields that docker gives them.
type journal struct {
	socket string
	fields []byte // of every entry
	conn   net.Conn
}

func newJournal(socket string, o logs.Options, s Source) *journal {
	t := &journal{socket: socket}
	tag := logs.ExpandTag(o.Tag, s.ID, s.Name, s.Image)
	for _, f := range [][2]string{
		{"CONTAINER_ID", s.ID[:min(12, len(s.ID))]}, {"CONTAINER_ID_FULL", s.ID}, {"CONTAINER_NAME", s.Name},
		{"CONTAINER_TAG", tag}, {"SYSLOG_IDENTIFIER", tag}, {"IMAGE_NAME", s.Image},
	} {
		t.fields = appendField(t.fields, f[0], []byte(f[1]))
	}
	for _, key := range slices.Sorted(maps.Keys(s.Attributes)) {
		if name := fieldName(key); name != "" {
			t.fields = appendField(t.fields, name, []byte(s.Attributes[key]))
		}
	}
	return t
}

// fieldName makes a name as the journal takes it: capital letters, digits and underscores, of which it
// begins with a letter.
func fieldName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(s))
	return strings.TrimLeft(s, "_0123456789")
}

// appendField writes a field. A value with a newline has its length before it.
func appendField(to []byte, name string, value []byte) []byte {
	to = append(to, name...)
	if bytes.IndexByte(value, '\n') < 0 {
		to = append(append(to, '='), value...)
		return append(to, '\n')
	}
	to = append(to, '\n')
	to = binary.LittleEndian.AppendUint64(to, uint64(len(value)))
	return append(append(to, value...), '\n')
}

// Send sends the first record.
func (t *journal) Send(records []logs.Record) (int, error) {
	if err := t.send(records[0]); err != nil {
		return 0, err
	}
	return 1, nil
}

func (t *journal) send(r logs.Record) error {
	if t.conn == nil {
		conn, err := net.Dial("unixgram", t.socket)
		if err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		t.conn = conn
	}
	priority := severityInfo
	if r.Stream == logs.Stderr {
		priority = severityError
	}
	line, whole := bytes.CutSuffix(r.Data, []byte{'\n'})
	entry := appendField(nil, "MESSAGE", line)
	entry = appendField(entry, "PRIORITY", strconv.AppendInt(nil, int64(priority), 10))
	entry = appendField(entry, "SYSLOG_TIMESTAMP", r.Time.UTC().AppendFormat(nil, time.RFC3339Nano))
	if !whole {
		entry = appendField(entry, "CONTAINER_PARTIAL_MESSAGE", []byte("true"))
	}
	err := t.conn.SetWriteDeadline(time.Now().Add(sendTime))
	if err == nil {
		_, err = t.conn.Write(append(entry, t.fields...))
	}
	if err != nil {
		t.Close()
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func (t *journal) Close() error {
	if t.conn == nil {
		return nil
	}
	conn := t.conn
	t.conn = nil
	return conn.Close()
}
