package dbus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Values on the wire, as the D-Bus specification's chapter on marshalling has them:
// each type is aligned to its size, counted from the start of the message's header or
// body, with zeros before it. We write and read little-endian.

// errSignature means that a signature is not one, or that words do not fit it.
var errSignature = errors.New("value does not fit its D-Bus type")

// maxDepth is how deeply the specification lets containers be nested.
const maxDepth = 64

// alignment of the type that a signature begins with.
func alignment(kind byte) int {
	switch kind {
	case 'n', 'q':
		return 2
	case 'b', 'i', 'u', 's', 'o', 'a':
		return 4
	case 'x', 't', 'd', '(', '{':
		return 8
	}
	return 1
}

// first splits a signature after its first complete type. A struct without members is
// not one: an array of them would have no end.
func first(signature string) (one, rest string, err error) {
	var closing []byte // what ends the structs that are open
	for i := range min(len(signature), 256) {
		switch c := signature[i]; c {
		case '(':
			closing = append(closing, ')')
			continue
		case '{':
			closing = append(closing, '}')
			continue
		case 'a':
			continue
		case ')', '}':
			last := len(closing) - 1
			if last < 0 || c != closing[last] || strings.IndexByte("({", signature[i-1]) >= 0 {
				return "", "", fmt.Errorf("%w: signature %q", errSignature, signature)
			}
			closing = closing[:last]
		}
		if len(closing) == 0 {
			return signature[:i+1], signature[i+1:], nil
		}
	}
	return "", "", fmt.Errorf("%w: signature %q", errSignature, signature)
}

// encoder appends values to a body.
type encoder struct {
	out   []byte
	words []string
	depth int
}

// Encode lays words out for a signature. The words are busctl's: an array begins with
// the number of its members, a variant with its signature.
func Encode(signature string, words []string) ([]byte, error) {
	e := &encoder{words: words}
	if err := e.all(signature); err != nil {
		return nil, err
	}
	if len(e.words) > 0 {
		return nil, fmt.Errorf("%w: %d words too many for %q", errSignature, len(e.words), signature)
	}
	return e.out, nil
}

func (e *encoder) all(signature string) error {
	for signature != "" {
		one, rest, err := first(signature)
		if err != nil {
			return err
		}
		if err := e.one(one); err != nil {
			return err
		}
		signature = rest
	}
	return nil
}

func (e *encoder) pad(n int) {
	for len(e.out)%n != 0 {
		e.out = append(e.out, 0)
	}
}

func (e *encoder) word() (string, error) {
	if len(e.words) == 0 {
		return "", fmt.Errorf("%w: too few words", errSignature)
	}
	w := e.words[0]
	e.words = e.words[1:]
	return w, nil
}

func (e *encoder) one(kind string) error {
	if e.depth++; e.depth > maxDepth {
		return fmt.Errorf("%w: nested too deeply", errSignature)
	}
	defer func() { e.depth-- }()
	e.pad(alignment(kind[0]))
	switch kind[0] {
	case '(', '{':
		return e.all(kind[1 : len(kind)-1])
	case 'a':
		return e.array(kind[1:])
	case 'v':
		signature, err := e.word()
		if err != nil {
			return err
		}
		if one, rest, err := first(signature); err != nil || rest != "" {
			return fmt.Errorf("%w: variant of %q", errSignature, one+rest)
		}
		e.signature(signature)
		return e.one(signature)
	}
	w, err := e.word()
	if err != nil {
		return err
	}
	return e.basic(kind[0], w)
}

func (e *encoder) signature(s string) {
	e.out = append(append(append(e.out, byte(len(s))), s...), 0)
}

// array writes the length of the members in bytes, without the padding before the first.
func (e *encoder) array(member string) error {
	w, err := e.word()
	if err != nil {
		return err
	}
	count, err := strconv.ParseUint(w, 10, 16)
	if err != nil {
		return fmt.Errorf("%w: array of %q", errSignature, w)
	}
	at := len(e.out)
	e.out = append(e.out, 0, 0, 0, 0)
	e.pad(alignment(member[0]))
	start := len(e.out)
	for range count {
		if err := e.one(member); err != nil {
			return err
		}
	}
	binary.LittleEndian.PutUint32(e.out[at:], uint32(len(e.out)-start))
	return nil
}

// basic writes a value without parts.
func (e *encoder) basic(kind byte, w string) error {
	var err error
	integer := func(bits int) uint64 {
		var n uint64
		if kind == 'n' || kind == 'i' || kind == 'x' {
			var s int64
			s, err = strconv.ParseInt(w, 10, bits)
			n = uint64(s)
		} else {
			n, err = strconv.ParseUint(w, 10, bits)
		}
		return n
	}
	switch kind {
	case 's', 'o':
		e.out = binary.LittleEndian.AppendUint32(e.out, uint32(len(w)))
		e.out = append(append(e.out, w...), 0)
	case 'g':
		e.signature(w)
	case 'b':
		var yes bool
		yes, err = strconv.ParseBool(w)
		n := uint32(0)
		if yes {
			n = 1
		}
		e.out = binary.LittleEndian.AppendUint32(e.out, n)
	case 'y':
		e.out = append(e.out, byte(integer(8)))
	case 'n', 'q':
		e.out = binary.LittleEndian.AppendUint16(e.out, uint16(integer(16)))
	case 'i', 'u':
		e.out = binary.LittleEndian.AppendUint32(e.out, uint32(integer(32)))
	case 'x', 't':
		e.out = binary.LittleEndian.AppendUint64(e.out, integer(64))
	case 'd':
		var f float64
		f, err = strconv.ParseFloat(w, 64)
		e.out = binary.LittleEndian.AppendUint64(e.out, math.Float64bits(f))
	default:
		return fmt.Errorf("%w: type %q", errSignature, string(kind))
	}
	if err != nil {
		return fmt.Errorf("%w: %q as %q", errSignature, w, string(kind))
	}
	return nil
}

// decoder reads what Encode writes. It trusts no length.
type decoder struct {
	data  []byte
	at    int
	words []string
	depth int
}

// Decode takes a body apart into words.
func Decode(signature string, data []byte) ([]string, error) {
	d := &decoder{data: data}
	if err := d.all(signature); err != nil {
		return nil, err
	}
	return d.words, nil
}

func (d *decoder) all(signature string) error {
	for signature != "" {
		one, rest, err := first(signature)
		if err != nil {
			return err
		}
		if err := d.one(one); err != nil {
			return err
		}
		signature = rest
	}
	return nil
}

// errShort is about a message that is shorter than it says.
var errShort = errors.New("D-Bus message ends too early")

// take returns the next n bytes.
func (d *decoder) take(n int) ([]byte, error) {
	if n < 0 || n > len(d.data)-d.at {
		return nil, errShort
	}
	b := d.data[d.at : d.at+n]
	d.at += n
	return b, nil
}

func (d *decoder) align(n int) error {
	_, err := d.take((n - d.at%n) % n)
	return err
}

func (d *decoder) number(bytes int) (uint64, error) {
	b, err := d.take(bytes)
	if err != nil {
		return 0, err
	}
	var n uint64
	for i, x := range b {
		n |= uint64(x) << (8 * i)
	}
	return n, nil
}

// text reads a string whose length takes so many bytes.
func (d *decoder) text(lengthBytes int) (string, error) {
	n, err := d.number(lengthBytes)
	if err != nil {
		return "", err
	}
	if n >= uint64(len(d.data)-d.at) { // before it is an int, which may have 32 bits
		return "", errShort
	}
	b, err := d.take(int(n) + 1)
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

func (d *decoder) one(kind string) error {
	if d.depth++; d.depth > maxDepth {
		return fmt.Errorf("%w: nested too deeply", errSignature)
	}
	defer func() { d.depth-- }()
	if err := d.align(alignment(kind[0])); err != nil {
		return err
	}
	switch kind[0] {
	case '(', '{':
		return d.all(kind[1 : len(kind)-1])
	case 'a':
		return d.array(kind[1:])
	case 'v':
		signature, err := d.text(1)
		if err != nil {
			return err
		}
		one, rest, err := first(signature)
		if err != nil || rest != "" {
			return fmt.Errorf("%w: variant of %q", errSignature, signature)
		}
		d.words = append(d.words, signature)
		return d.one(one)
	}
	w, err := d.basic(kind[0])
	d.words = append(d.words, w)
	return err
}

func (d *decoder) array(member string) error {
	n, err := d.number(4)
	if err != nil {
		return err
	}
	if err := d.align(alignment(member[0])); err != nil {
		return err
	}
	if n > uint64(len(d.data)-d.at) {
		return errShort
	}
	place, count := len(d.words), 0
	d.words = append(d.words, "")
	for end := d.at + int(n); d.at < end; count++ {
		if err := d.one(member); err != nil {
			return err
		}
	}
	d.words[place] = strconv.Itoa(count)
	return nil
}

func (d *decoder) basic(kind byte) (string, error) {
	switch kind {
	case 's', 'o':
		return d.text(4)
	case 'g':
		return d.text(1)
	case 'b':
		n, err := d.number(4)
		return strconv.FormatBool(n != 0), err
	case 'd':
		n, err := d.number(8)
		return strconv.FormatFloat(math.Float64frombits(n), 'g', -1, 64), err
	case 'n':
		n, err := d.number(2)
		return strconv.FormatInt(int64(int16(n)), 10), err
	case 'i':
		n, err := d.number(4)
		return strconv.FormatInt(int64(int32(n)), 10), err
	case 'x':
		n, err := d.number(8)
		return strconv.FormatInt(int64(n), 10), err
	case 'y', 'q', 'u', 't':
		n, err := d.number(map[byte]int{'y': 1, 'q': 2, 'u': 4, 't': 8}[kind])
		return strconv.FormatUint(n, 10), err
	case 'h':
		n, err := d.number(4) // a descriptor's place in a list that we do not take
		return strconv.FormatUint(n, 10), err
	}
	return "", fmt.Errorf("%w: type %q", errSignature, string(kind))
}
