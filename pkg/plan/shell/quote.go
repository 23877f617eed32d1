package shell

import (
	"strings"
)

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
