package userland

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// sedParser reads a sed script from left to right.
type sedParser struct {
	text     string
	extended bool
	last     *regexp.Regexp // of the last pattern, which an empty one repeats
}

// parseSed parses a script and resolves its blocks and labels.
func parseSed(script string, extended bool) ([]*sedCommand, error) {
	s := &sedParser{text: script, extended: extended}
	var commands []*sedCommand
	for {
		s.text = strings.TrimLeft(s.text, " \t\n;")
		if s.text == "" {
			break
		}
		if s.text[0] == '#' {
			s.line()
			continue
		}
		c, err := s.command()
		if err != nil {
			return nil, err
		}
		commands = append(commands, c)
	}
	return commands, resolve(commands)
}

// resolve gives every { and every branch the index where it goes on.
func resolve(commands []*sedCommand) error {
	labels := map[string]int{}
	var open []*sedCommand
	for i, c := range commands {
		switch c.verb {
		case ':':
			labels[c.text] = i + 1
		case '{':
			open = append(open, c)
		case '}':
			if len(open) == 0 {
				return fmt.Errorf("unexpected }")
			}
			open[len(open)-1].block = i + 1
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		return fmt.Errorf("a { is not closed")
	}
	for _, c := range commands {
		if (c.verb == 'b' || c.verb == 't') && c.text != "" {
			at, ok := labels[c.text]
			if !ok {
				return fmt.Errorf("no label %q", c.text)
			}
			c.block = at
		}
	}
	return nil
}

func (s *sedParser) command() (*sedCommand, error) {
	c := &sedCommand{}
	var err error
	if c.from, err = s.address(); err != nil {
		return nil, err
	}
	if c.from != nil && strings.HasPrefix(s.text, ",") {
		s.text = strings.TrimLeft(s.text[1:], " ")
		if c.to, err = s.address(); err != nil {
			return nil, err
		}
		if c.to == nil {
			return nil, fmt.Errorf("missing address after the comma")
		}
	}
	s.text = strings.TrimLeft(s.text, " \t")
	if strings.HasPrefix(s.text, "!") {
		c.negate = true
		s.text = strings.TrimLeft(s.text[1:], " \t")
	}
	if s.text == "" {
		return nil, fmt.Errorf("missing command")
	}
	c.verb = s.text[0]
	s.text = s.text[1:]
	return c, s.arguments(c)
}

func (s *sedParser) arguments(c *sedCommand) error {
	var err error
	switch {
	case strings.IndexByte("{}dDpPnNgGhHx=l", c.verb) >= 0:
		return nil
	case c.verb == 's':
		c.sub, err = s.substitution()
	case c.verb == 'y':
		c.table, err = s.transliteration()
	case strings.IndexByte("aic", c.verb) >= 0:
		c.text = s.textArgument()
	case c.verb == 'r', c.verb == 'w':
		c.text = strings.TrimSpace(s.line())
		if c.verb == 'w' && c.text == "" {
			err = fmt.Errorf("w needs a file")
		}
	case strings.IndexByte("btqQ:", c.verb) >= 0:
		end := strings.IndexAny(s.text, ";\n}")
		if end < 0 {
			end = len(s.text)
		}
		c.text = strings.TrimSpace(s.text[:end])
		s.text = s.text[end:]
		if (c.verb == 'q' || c.verb == 'Q') && strings.Trim(c.text, "0123456789") != "" {
			err = fmt.Errorf("%q is no exit status", c.text)
		}
	default:
		err = fmt.Errorf("unknown command %q", string(c.verb))
	}
	return err
}

// line cuts off the rest of the line.
func (s *sedParser) line() string {
	line, rest, _ := strings.Cut(s.text, "\n")
	s.text = rest
	return line
}

// textArgument is the text of a, i and c: the rest of the line, or, after a backslash, the next lines.
func (s *sedParser) textArgument() string {
	s.text = strings.TrimLeft(s.text, " \t")
	if strings.HasPrefix(s.text, "\\\n") {
		s.text = s.text[2:]
	} else {
		s.text = strings.TrimPrefix(s.text, "\\")
	}
	text := s.line()
	for strings.HasSuffix(text, "\\") {
		text = strings.TrimSuffix(text, "\\") + "\n" + s.line()
	}
	return text
}

// address reads a line number, $, +N, /pattern/ or \cpatternc; nil if there is none.
func (s *sedParser) address() (*address, error) {
	if s.text == "" {
		return nil, nil
	}
	switch c := s.text[0]; {
	case c == '$':
		s.text = s.text[1:]
		return &address{last: true}, nil
	case c == '+':
		s.text = s.text[1:]
		n, err := s.number()
		return &address{plus: n}, err
	case c >= '0' && c <= '9':
		n, err := s.number()
		return &address{line: n}, err
	case c == '/' || c == '\\' && len(s.text) > 1:
		if c == '\\' {
			s.text = s.text[1:]
		}
		text, err := s.delimited(s.text[0], true)
		if err != nil {
			return nil, err
		}
		fold := strings.HasPrefix(s.text, "I")
		if fold {
			s.text = s.text[1:]
		}
		re, err := s.pattern(text, fold)
		return &address{pattern: re}, err
	}
	return nil, nil
}

func (s *sedParser) number() (int, error) {
	digits := len(s.text) - len(strings.TrimLeft(s.text, "0123456789"))
	n, err := strconv.Atoi(s.text[:digits])
	s.text = s.text[digits:]
	return n, err
}

// delimited reads what stands between two delimiters, the first of which begins the text. The second is left out. A
// delimiter with a backslash is an ordinary character; in a pattern so is one inside brackets.
func (s *sedParser) delimited(delimiter byte, pattern bool) (string, error) {
	var out strings.Builder
	for i := 1; i < len(s.text); i++ {
		c := s.text[i]
		switch {
		case c == '\\' && i+1 < len(s.text):
			i++
			if s.text[i] != delimiter {
				out.WriteByte('\\')
			}
			out.WriteByte(s.text[i])
		case c == '[' && pattern:
			n := bracketLength(s.text[i:])
			out.WriteString(s.text[i : i+n])
			i += n - 1
		case c == delimiter:
			s.text = s.text[i+1:]
			return out.String(), nil
		default:
			out.WriteByte(c)
		}
	}
	return "", fmt.Errorf("missing %q", string(delimiter))
}

func (s *sedParser) pattern(text string, fold bool) (*regexp.Regexp, error) {
	if text == "" && s.last != nil {
		return s.last, nil
	}
	re, err := compilePattern(text, s.extended, fold)
	s.last = re
	return re, err
}

func (s *sedParser) substitution() (*substitution, error) {
	if s.text == "" {
		return nil, fmt.Errorf("s needs /pattern/replacement/")
	}
	delimiter := s.text[0]
	text, err := s.delimited(delimiter, true)
	if err != nil {
		return nil, err
	}
	s.text = string(delimiter) + s.text
	replacement, err := s.delimited(delimiter, false)
	if err != nil {
		return nil, err
	}
	sub := &substitution{parts: replacementParts(replacement)}
	fold := false
	for s.text != "" && strings.IndexByte("gpiI0123456789", s.text[0]) >= 0 {
		switch s.text[0] {
		case 'g':
			sub.global = true
		case 'p':
			sub.print = true
		case 'i', 'I':
			fold = true
		default:
			if sub.nth, err = s.number(); err != nil {
				return nil, err
			}
			continue
		}
		s.text = s.text[1:]
	}
	if s.text != "" && strings.IndexByte(" \t\n;}", s.text[0]) < 0 {
		return nil, fmt.Errorf("unknown flag %q of s", s.text[:1])
	}
	sub.pattern, err = s.pattern(text, fold)
	return sub, err
}

// replacementParts splits a replacement into literal text and references: & is the whole match, \1 to \9 a group.
func replacementParts(replacement string) []string {
	parts, text := []string{}, ""
	for i := 0; i < len(replacement); i++ {
		c := replacement[i]
		switch {
		case c == '&':
			parts, text = append(parts, text, "0"), ""
		case c == '\\' && i+1 < len(replacement):
			i++
			switch next := replacement[i]; {
			case next >= '0' && next <= '9':
				parts, text = append(parts, text, string(next)), ""
			case next == 'n':
				text += "\n"
			case next == 't':
				text += "\t"
			default:
				text += string(next)
			}
		default:
			text += string(c)
		}
	}
	return append(parts, text)
}

func (s *sedParser) transliteration() (map[rune]rune, error) {
	if s.text == "" {
		return nil, fmt.Errorf("y needs /from/to/")
	}
	delimiter := s.text[0]
	from, err := s.delimited(delimiter, false)
	if err != nil {
		return nil, err
	}
	s.text = string(delimiter) + s.text
	to, err := s.delimited(delimiter, false)
	if err != nil {
		return nil, err
	}
	a, b := []rune(from), []rune(to)
	if len(a) != len(b) {
		return nil, fmt.Errorf("the two sets of y differ in length")
	}
	table := map[rune]rune{}
	for i := range a {
		table[a[i]] = b[i]
	}
	return table, nil
}
