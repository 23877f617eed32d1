package userland

import (
	"fmt"
	"regexp"
	"strings"
)

// compilePattern compiles a POSIX regular expression, basic or extended, to Go's. The match is leftmost-longest, as
// POSIX has it. Back-references (\1 in a pattern) have no counterpart in an engine of linear time; they are refused.
func compilePattern(pattern string, extended, ignoreCase bool) (*regexp.Regexp, error) {
	return compileGo(toGo(pattern, extended), ignoreCase)
}

// compileGo compiles an expression that is already in Go's notation.
func compileGo(text string, ignoreCase bool) (*regexp.Regexp, error) {
	if ignoreCase {
		text = "(?i)" + text
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("invalid pattern: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	re.Longest()
	return re, nil
}

// toGo rewrites what differs: in a basic expression the operators ( ) { } | + ? carry a backslash and are ordinary
// without it, and a backslash inside brackets is ordinary in both.
func toGo(pattern string, extended bool) string {
	var out strings.Builder
	atStart := true // of the expression or of a group, where * and ^ have no operand
	for i := 0; i < len(pattern); {
		c := pattern[i]
		switch {
		case c == '[':
			n := bracketLength(pattern[i:])
			out.WriteString(strings.ReplaceAll(pattern[i:i+n], `\`, `\\`))
			i += n
			atStart = false
			continue
		case c == '\\' && i+1 < len(pattern):
			atStart = writeEscape(&out, pattern[i+1], extended)
			i += 2
			continue
		case !extended && strings.IndexByte("(){}|+?", c) >= 0:
			out.WriteString(`\` + string(c))
		case c == '*' && atStart:
			out.WriteString(`\*`)
		default:
			out.WriteByte(c)
		}
		atStart = c == '^' && atStart || extended && (c == '(' || c == '|')
		i++
	}
	return out.String()
}

// writeEscape writes a backslash and its character, and says whether an expression begins after it.
func writeEscape(out *strings.Builder, c byte, extended bool) bool {
	switch {
	case !extended && strings.IndexByte("(){}|+?", c) >= 0:
		out.WriteByte(c)
		return c == '(' || c == '|'
	case c == '<' || c == '>':
		out.WriteString(`\b`)
	default:
		out.WriteByte('\\')
		out.WriteByte(c)
	}
	return false
}

// bracketLength is the length of the bracket expression that s begins with: a "]" that comes first, and those of
// classes such as [:alpha:], do not end it.
func bracketLength(s string) int {
	i := 1
	if i < len(s) && s[i] == '^' {
		i++
	}
	if i < len(s) && s[i] == ']' {
		i++
	}
	for i < len(s) {
		if strings.HasPrefix(s[i:], "[:") {
			if end := strings.Index(s[i:], ":]"); end > 0 {
				i += end + 2
				continue
			}
		}
		if s[i] == ']' {
			return i + 1
		}
		i++
	}
	return len(s)
}
