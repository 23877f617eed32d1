package shell

import (
	"fmt"
	"strings"
)

// Quote writes a string of any bytes as one word of bash, in printable ASCII and on
// one line: as it is when nothing in it is special, in single quotes, or in the
// $'...' form when it holds a quote, a control character or a byte beyond ASCII. A
// zero byte, which no argument can hold, is not checked for here.
func Quote(s string) string {
	switch {
	case plain(s):
		return s
	case strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '\'' }) < 0:
		return "'" + s + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\'' || c == '\\':
			b.WriteString(`\` + string(rune(c)))
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// plain reports whether the shell takes a word as it is wherever it stands. An equals
// sign would make an assignment of the first word of a command.
func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_./:@%+,-", c) >= 0 {
			continue
		}
		return false
	}
	return s != ""
}

// words quotes and joins.
func words(list ...string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = Quote(s)
	}
	return strings.Join(quoted, " ")
}

// remark makes text fit for a comment: on one line, and in printable characters.
func remark(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r > 0x7e && r < 0xa1 || r == 0x2028 || r == 0x2029 {
			return '?'
		}
		return r
	}, s)
}

// identifier reports whether a name can be a variable of the shell.
func identifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
