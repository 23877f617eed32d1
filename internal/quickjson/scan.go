package quickjson

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// space passes over white space.
func (d *decoder) space() {
	for d.pos < len(d.text) {
		switch d.text[d.pos] {
		case ' ', '\t', '\r', '\n':
			d.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, 0 at the end.
func (d *decoder) peek() byte {
	if d.pos < len(d.text) {
		return d.text[d.pos]
	}
	return 0
}

// take passes over the next byte if it is c.
func (d *decoder) take(c byte) bool {
	if d.peek() != c || d.pos == len(d.text) {
		return false
	}
	d.pos++
	return true
}

func (d *decoder) boolean() (bool, *Error) {
	switch rest := d.text[d.pos:]; {
	case strings.HasPrefix(rest, "true"):
		d.pos += len("true")
		return true, nil
	case strings.HasPrefix(rest, "false"):
		d.pos += len("false")
		return false, nil
	}
	return false, d.fail("expected true or false")
}

// number reads a number as the grammar has it: no sign +, no leading zeroes, digits on
// both sides of the point.
func (d *decoder) number() (string, *Error) {
	begin := d.pos
	d.take('-')
	ok := d.take('0') || d.digits()
	if ok && d.take('.') {
		ok = d.digits()
	}
	if ok && (d.take('e') || d.take('E')) {
		if !d.take('-') {
			d.take('+')
		}
		ok = d.digits()
	}
	if !ok {
		return "", d.fail("expected a number")
	}
	return d.text[begin:d.pos], nil
}

// digits passes over digits and reports whether there were any.
func (d *decoder) digits() bool {
	begin := d.pos
	for c := d.peek(); '0' <= c && c <= '9'; c = d.peek() {
		d.pos++
	}
	return d.pos > begin
}

// str reads a string. Nearly all are plain: they are a part of the text.
func (d *decoder) str() (string, *Error) {
	if !d.take('"') {
		return "", d.fail("expected a string")
	}
	begin := d.pos
	for ; d.pos < len(d.text); d.pos++ {
		switch c := d.text[d.pos]; {
		case c == '"':
			d.pos++
			return d.text[begin : d.pos-1], nil
		case c == '\\', c >= utf8.RuneSelf:
			return d.written(d.text[begin:d.pos])
		case c < ' ':
			return "", d.fail("a control character in a string")
		}
	}
	return "", d.fail("the string has no end")
}

// written reads the rest of a string that is not plain; head was before it.
func (d *decoder) written(head string) (string, *Error) {
	var b strings.Builder
	b.WriteString(head)
	for d.pos < len(d.text) {
		switch c := d.text[d.pos]; {
		case c == '"':
			d.pos++
			return b.String(), nil
		case c == '\\':
			r, err := d.escape()
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
		case c < ' ':
			return "", d.fail("a control character in a string")
		default:
			r, size := utf8.DecodeRuneInString(d.text[d.pos:])
			d.pos += size
			b.WriteRune(r)
		}
	}
	return "", d.fail("the string has no end")
}

// escape reads a backslash and what belongs to it.
func (d *decoder) escape() (rune, *Error) {
	d.pos++
	const marks, meant = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if i := strings.IndexByte(marks, d.peek()); i >= 0 {
		d.pos++
		return rune(meant[i]), nil
	}
	r, err := d.unicode()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	// Only a pair of surrogates is a character; one alone is none, and what
	// follows it stands for itself.
	before := d.pos
	if d.take('\\') && d.peek() == 'u' {
		second, err := d.unicode()
		if err != nil {
			return 0, err
		}
		if pair := utf16.DecodeRune(r, second); pair != utf8.RuneError {
			return pair, nil
		}
	}
	d.pos = before
	return utf8.RuneError, nil
}

// unicode reads u and four hexadecimal digits.
func (d *decoder) unicode() (r rune, err *Error) {
	if !d.take('u') {
		return 0, d.fail("an unknown escape in a string")
	}
	for range 4 {
		digit := strings.IndexByte("0123456789abcdef", d.peek()|0x20)
		if d.pos == len(d.text) || digit < 0 || d.peek() < '0' {
			return 0, d.fail("expected four hexadecimal digits")
		}
		r = r<<4 | rune(digit)
		d.pos++
	}
	return r, nil
}
