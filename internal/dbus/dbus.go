// Package dbus speaks as much D-Bus as it takes to call a method and to hear a signal.
//
// # Theory of operation
//
// D-Bus is messages on a Unix socket, after three lines about who we are (conn.go). A
// message has a header of fixed size, numbered fields (the object, the method, the
// layout of the body), and a body (message.go). Values are laid out by a signature,
// which tells their types (wire.go). See the D-Bus specification, version 0.43.
//
// There are no Go types for D-Bus types: a value is a signature and a flat list of
// words, as busctl(1) takes it on its command line. "a(ss)" with the words "1
// /dev/null rw" is an array of one pair of strings. So what is sent can be printed,
// stored and typed by hand, and the package needs no reflection, which programs that
// are started for each container would feel.
//
// A Conn is for one goroutine. Every wait of it ends after Patience.
package dbus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Kind is what a message is.
type Kind byte

// The kinds of messages.
const (
	Call   Kind = 1
	Return Kind = 2
	Failed Kind = 3
	Signal Kind = 4
)

// The numbers of header fields, see "Message Format" in the specification. All have
// values without parts.
const (
	fieldPath        = 1
	fieldInterface   = 2
	fieldMember      = 3
	fieldErrorName   = 4
	fieldReplySerial = 5
	fieldDestination = 6
	fieldSender      = 7
	fieldSignature   = 8
)

// Message is one message. Fields that are empty are not sent.
type Message struct {
	Kind   Kind
	Serial uint32
	// Path, Interface and Member name a method or a signal, Destination who has it.
	Path, Interface, Member, Destination string
	// Sender is who the message is from by its unique name, ":1.7". A broker says it,
	// whatever the sender itself has said; without a broker it means nothing.
	Sender string
	// ErrorName is what a Failed message says, Reply the serial number of the call
	// that it, or a Return, answers.
	ErrorName string
	Reply     uint32
	// Signature and Words are the body.
	Signature string
	Words     []string
}

// maxMessage bounds a message that is read, in bytes; D-Bus itself allows 128 MB.
const maxMessage = 16 << 20

// Append lays the message out.
func (m *Message) Append(dst []byte) ([]byte, error) {
	body, err := Encode(m.Signature, m.Words)
	if err != nil {
		return nil, err
	}
	fields := []string{""}
	add := func(number int, kind, value string) {
		if value != "" && value != "0" {
			fields = append(fields, strconv.Itoa(number), kind, value)
		}
	}
	add(fieldPath, "o", m.Path)
	add(fieldInterface, "s", m.Interface)
	add(fieldMember, "s", m.Member)
	add(fieldErrorName, "s", m.ErrorName)
	add(fieldReplySerial, "u", strconv.FormatUint(uint64(m.Reply), 10))
	add(fieldDestination, "s", m.Destination)
	add(fieldSender, "s", m.Sender)
	add(fieldSignature, "g", m.Signature)
	fields[0] = strconv.Itoa(len(fields) / 3)
	out := []byte{'l', byte(m.Kind), 0, 1}
	out = binary.LittleEndian.AppendUint32(out, uint32(len(body)))
	out = binary.LittleEndian.AppendUint32(out, m.Serial)
	e := &encoder{out: out, words: fields}
	if err := e.all("a(yv)"); err != nil {
		return nil, err
	}
	e.pad(8)
	return append(append(dst, e.out...), body...), nil
}

// ReadMessage reads one message. It takes little-endian ones only, which is what those
// who run on the machines that containr runs on send.
func ReadMessage(r io.Reader) (*Message, error) {
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	if head[0] != 'l' || head[3] != 1 {
		return nil, fmt.Errorf("D-Bus: a message of version %d that begins with %q", head[3], head[:1])
	}
	bodySize, fieldSize := binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint32(head[12:])
	if bodySize > maxMessage || fieldSize > maxMessage {
		return nil, fmt.Errorf("D-Bus: a message of %d bytes, at most %d are taken", uint64(bodySize)+uint64(fieldSize), maxMessage)
	}
	padded := (int(fieldSize) + 7) &^ 7
	rest := make([]byte, padded+int(bodySize))
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, err
	}
	m := &Message{Kind: Kind(head[1]), Serial: binary.LittleEndian.Uint32(head[8:])}
	if err := m.fields(append(head, rest[:fieldSize]...)); err != nil {
		return nil, err
	}
	words, err := Decode(m.Signature, rest[padded:])
	m.Words = words
	return m, err
}

// fields reads the header: behind seven words there is, for each field, a number, a
// signature and a value.
func (m *Message) fields(header []byte) error {
	words, err := Decode("yyyyuua(yv)", header)
	if err != nil {
		return err
	}
	for f := words[7:]; len(f) >= 3; f = f[3:] {
		number, err := strconv.Atoi(f[0])
		if err != nil || len(f[1]) != 1 {
			return fmt.Errorf("D-Bus: header field %q of type %q", f[0], f[1])
		}
		switch number {
		case fieldPath:
			m.Path = f[2]
		case fieldInterface:
			m.Interface = f[2]
		case fieldMember:
			m.Member = f[2]
		case fieldErrorName:
			m.ErrorName = f[2]
		case fieldDestination:
			m.Destination = f[2]
		case fieldSender:
			m.Sender = f[2]
		case fieldSignature:
			m.Signature = f[2]
		case fieldReplySerial:
			n, err := strconv.ParseUint(f[2], 10, 32)
			if err != nil {
				return fmt.Errorf("D-Bus: reply to %q", f[2])
			}
			m.Reply = uint32(n)
		}
	}
	return nil
}

// Error is an answer that says no.
type Error struct {
	// Name is the D-Bus error name, "org.freedesktop.systemd1.NoSuchUnit".
	Name string
	Text string
}

// Error says both.
func (e *Error) Error() string { return e.Text + " (" + e.Name + ")" }

// IsError reports whether err is, or wraps, an answer of this name.
func IsError(err error, name string) bool {
	var e *Error
	return errors.As(err, &e) && e.Name == name
}

// failure is the error that a Failed message carries; its first word is for people.
func (m *Message) failure() *Error {
	e := &Error{Name: m.ErrorName, Text: "the call was refused"}
	if strings.HasPrefix(m.Signature, "s") {
		e.Text = m.Words[0]
	}
	return e
}
