package quickjson

// Indent adds JSON text that Append has written, spread over lines: each member and each
// element on its own, with one indent for each level it is in.
func Indent(dst []byte, text []byte, indent string) []byte {
	level := 0
	line := func() {
		dst = append(dst, '\n')
		for range level {
			dst = append(dst, indent...)
		}
	}
	inString := false
	for i, c := range text {
		switch {
		case inString:
			inString = c != '"' || escaped(text[:i])
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			dst = append(dst, c)
			if level++; text[i+1] != '}' && text[i+1] != ']' {
				line()
			}
			continue
		case c == '}' || c == ']':
			if level--; text[i-1] != '{' && text[i-1] != '[' {
				line()
			}
		case c == ',':
			dst = append(dst, c)
			line()
			continue
		case c == ':':
			dst = append(dst, ": "...)
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

// escaped tells whether what follows the text of a string has a backslash of its own
// before it.
func escaped(text []byte) bool {
	n := 0
	for n < len(text) && text[len(text)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}
