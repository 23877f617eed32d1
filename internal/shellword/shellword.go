// Package shellword writes text as one word of a shell.
//
// # Theory of operation
//
// Every line of a plan that looks like a command is to be one: somebody will copy it into a terminal. Text in it that came from
// an image, a registry or a path must stay text there, whatever is in it. So a word is written as it is only if all of its
// characters are known to mean nothing to a shell; else between single quotes, between which nothing means anything. What would
// do something to the terminal, or break the line, is written as an escape in the form $'...', which bash, zsh and ksh know and
// POSIX has since its issue 8 (XCU 2.2.4).
package shellword

import "strings"

// Quote writes a string of any bytes as one word, in printable ASCII and on one line. A zero byte, which no argument of a program
// can hold, is not checked for.
func Quote(s string) string {
	switch {
	case Plain(s):
		return s
	case strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0:
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	b := append(make([]byte, 0, len(s)+8), "$'"...)
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\\':
			b = append(b, `\\`...)
		case c < ' ' || c > '~' || c == '\'': // no quote: a shell that does not know the form ends no word there
			b = append(b, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '\''))
}

// Join quotes words and puts spaces between them.
func Join(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = Quote(w)
	}
	return strings.Join(quoted, " ")
}

// Plain reports whether a shell takes a word as it is wherever it stands. An equals sign would make an assignment of the first
// word of a command.
func Plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_./:@%+,-", c) >= 0 {
			continue
		}
		return false
	}
	return s != ""
}
