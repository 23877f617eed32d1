package logs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Record is one line of a container's output, or a part of a long one.
type Record struct {
	Stream Stream
	Time   time.Time
	// Data is what was written, with the line's end unless the line goes on.
	Data []byte
}

const hexDigits = "0123456789abcdef"

// appendRecord writes a record as a line of the file. Bytes that are no UTF-8 cannot be in
// JSON: log has U+FFFD in their place, as docker's has, and a member bytes, which docker
// passes over, has all as they were.
func appendRecord(to []byte, r Record) []byte {
	to = append(to, `{"log":"`...)
	to, exact := appendText(to, r.Data)
	to = append(to, `","stream":"`...)
	to = append(to, r.Stream.String()...)
	to = append(to, `","time":"`...)
	to = r.Time.UTC().AppendFormat(to, time.RFC3339Nano)
	if !exact {
		to = append(to, `","bytes":"`...)
		to = base64.StdEncoding.AppendEncode(to, r.Data)
	}
	return append(to, "\"}\n"...)
}

// appendText writes the inside of a JSON string as docker does; exact says that it can
// be read back.
func appendText(to, data []byte) (out []byte, exact bool) {
	exact = true
	for i := 0; i < len(data); {
		c := data[i]
		switch {
		case c == '"' || c == '\\':
			to = append(to, '\\', c)
		case c == '\n':
			to = append(to, '\\', 'n')
		case c == '\r':
			to = append(to, '\\', 'r')
		case c < 0x20 || c == '<' || c == '>' || c == '&':
			to = append(to, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		case c < utf8.RuneSelf:
			to = append(to, c)
		default:
			r, n := utf8.DecodeRune(data[i:])
			switch {
			case r == utf8.RuneError && n == 1:
				to, exact = append(to, `\ufffd`...), false
			case r == 0x2028 || r == 0x2029:
				to = append(to, `\u202`...)
				to = append(to, hexDigits[r&15])
			default:
				to = append(to, data[i:i+n]...)
			}
			i += n
			continue
		}
		i++
	}
	return to, exact
}

// parseRecord reads a line of the file, in whatever form of JSON it is.
func parseRecord(line []byte) (Record, error) {
	var l struct {
		Log, Stream string
		Time        time.Time
		Bytes       []byte
	}
	if err := json.Unmarshal(bytes.TrimRight(line, "\x00\n"), &l); err != nil {
		return Record{}, fmt.Errorf("log: a line is damaged: %w", err)
	}
	r := Record{Stream: Stdout, Time: l.Time, Data: []byte(l.Log)}
	if l.Stream == Stderr.String() {
		r.Stream = Stderr
	}
	if l.Bytes != nil {
		r.Data = l.Bytes
	}
	return r, nil
}
