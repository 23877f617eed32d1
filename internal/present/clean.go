package present

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Much of what is printed was written by others: names of files, commands, comments and labels of images, what a program
// calls itself. A terminal obeys some characters in it: it changes its title, hides lines, answers as if its user had
// typed. So they are replaced where people read, in tables, sentences and errors; JSON spells them out, which means the
// same; and what a template makes is as it is, for scripts, unless it goes to a terminal.

// replacement takes the place of a character that could command a terminal.
const replacement = '?'

// Clean replaces what could command a terminal, or change the order in which it shows letters, and what is no UTF-8.
// Line feeds and tabs stay.
func Clean(s string) string {
	if isPlain(s) || strings.IndexFunc(s, commands) < 0 && utf8.ValidString(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if commands(r) || r == utf8.RuneError {
			return replacement
		}
		return r
	}, s)
}

// CleanLine is Clean for what has to stay on one line, and in its column.
func CleanLine(s string) string { return oneLine.Replace(Clean(s)) }

var oneLine = strings.NewReplacer("\n", " ", "\t", " ")

// isPlain reports whether a text is printable ASCII, as nearly all are: that is quick to see.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// commands reports whether a terminal may take a character for a command: controls, of which a terminal understands those
// of two bytes too (U+009B is ESC and [), separators of lines, and those that format, among which are the directions of text.
func commands(r rune) bool {
	if r < utf8.RuneSelf { // nearly always
		return (r < ' ' || r == 0x7f) && r != '\n' && r != '\t'
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// cleanCells cleans the cells of rows that are texts: one with a line feed in it would be a row of its own.
func cleanCells(rows reflect.Value) reflect.Value {
	out := reflect.MakeSlice(rows.Type(), rows.Len(), rows.Len())
	reflect.Copy(out, rows)
	for i := range out.Len() {
		row := out.Index(i)
		if row.Kind() != reflect.Struct {
			continue
		}
		for n := range row.NumField() {
			if f := row.Field(n); f.Kind() == reflect.String && f.CanSet() {
				f.SetString(CleanLine(f.String()))
			}
		}
	}
	return out
}

// Cleaner returns a writer that cleans each text that is written to it, which must not end within a character.
func Cleaner(w io.Writer) io.Writer { return cleaner{w} }

type cleaner struct{ w io.Writer }

func (c cleaner) Write(p []byte) (int, error) {
	if _, err := io.WriteString(c.w, Clean(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// EscapeJSON writes as \u what JSON may leave as it is and a terminal obeys. Outside of strings JSON has none of it.
func EscapeJSON(text []byte) []byte {
	if bytes.IndexFunc(text, commands) < 0 {
		return text
	}
	var out bytes.Buffer
	for _, r := range string(text) {
		switch {
		case !commands(r):
			out.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.Bytes()
}
