package cgroup

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Annotations give properties in the text format of GVariant, the notation of GLib's
// gvariant-text: 'text', true, 5 (32 bits), uint64 5, [1, 2], ('a', 'b'), @as []. This
// file turns a value into its D-Bus signature and its words; see linux.StartUnit. Maybe
// types, dictionaries and nested variants, which no property of a unit has, are not
// known.

// numberTypes are the keywords that say what a number is.
var numberTypes = map[string]byte{"byte": 'y', "int16": 'n', "uint16": 'q', "int32": 'i', "uint32": 'u', "int64": 'x', "uint64": 't', "double": 'd'}

// maxNesting bounds arrays of arrays.
const maxNesting = 8

type variantParser struct {
	rest  string
	depth int
}

// parseVariant reads a whole value.
func parseVariant(text string) (signature string, words []string, err error) {
	p := &variantParser{rest: text}
	signature, words, err = p.value("")
	if err == nil && p.skip() != 0 {
		err = fmt.Errorf("%q follows the value", p.rest)
	}
	return signature, words, err
}

// skip leaves white space behind and tells what comes next, 0 for the end.
func (p *variantParser) skip() byte {
	p.rest = strings.TrimLeft(p.rest, " \t\n")
	if p.rest == "" {
		return 0
	}
	return p.rest[0]
}

// value reads a value; want is its type if the place that it is in has one already.
func (p *variantParser) value(want string) (string, []string, error) {
	if p.depth++; p.depth > maxNesting {
		return "", nil, errors.New("nested too deeply")
	}
	defer func() { p.depth-- }()
	switch c := p.skip(); c {
	case 0:
		return "", nil, errors.New("a value is missing")
	case '@':
		signature, rest, _ := strings.Cut(p.rest[1:], " ")
		p.rest = rest
		return p.value(signature)
	case '\'', '"':
		return p.text(c, want)
	case '[':
		return p.array(want)
	case '(':
		return p.tuple(want)
	}
	end := strings.IndexAny(p.rest, " \t\n,[]()")
	if end < 0 {
		end = len(p.rest)
	}
	word := p.rest[:end]
	p.rest = p.rest[end:]
	if kind, ok := numberTypes[word]; ok {
		return p.value(string(kind))
	}
	if word == "objectpath" || word == "signature" {
		return p.value(map[string]string{"objectpath": "o", "signature": "g"}[word])
	}
	return scalar(word, want)
}

// scalar reads true, false and numbers. A number without a type is one of 32 bits, or
// with a point in it a fraction.
func scalar(word, want string) (string, []string, error) {
	if word == "true" || word == "false" {
		if want != "" && want != "b" {
			return "", nil, fmt.Errorf("%s is not of type %q", word, want)
		}
		return "b", []string{word}, nil
	}
	if want == "" {
		want = "i"
		if strings.ContainsAny(word, ".e") && !strings.HasPrefix(word, "0x") {
			want = "d"
		}
	}
	bits := map[string]int{"y": 8, "n": 16, "q": 16, "i": 32, "u": 32, "x": 64, "t": 64}[want]
	switch want {
	case "d":
		if _, err := strconv.ParseFloat(word, 64); err != nil {
			return "", nil, fmt.Errorf("%q is no number", word)
		}
		return want, []string{word}, nil
	case "n", "i", "x":
		n, err := strconv.ParseInt(word, 0, bits)
		if err != nil {
			return "", nil, fmt.Errorf("%q is no number of %d bits", word, bits)
		}
		return want, []string{strconv.FormatInt(n, 10)}, nil
	case "y", "q", "u", "t":
		n, err := strconv.ParseUint(word, 0, bits)
		if err != nil {
			return "", nil, fmt.Errorf("%q is no number of %d bits without a sign", word, bits)
		}
		return want, []string{strconv.FormatUint(n, 10)}, nil
	}
	return "", nil, fmt.Errorf("%q is not of type %q", word, want)
}

// text reads a string up to its closing quote.
func (p *variantParser) text(quote byte, want string) (string, []string, error) {
	if want == "" {
		want = "s"
	}
	if want != "s" && want != "o" && want != "g" {
		return "", nil, fmt.Errorf("a string is not of type %q", want)
	}
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case quote:
			p.rest = p.rest[i+1:]
			return want, []string{b.String()}, nil
		case '\\':
			if i++; i == len(p.rest) || !strings.ContainsRune(`\'"`, rune(p.rest[i])) {
				return "", nil, errors.New(`only \\, \' and \" are known after a backslash`)
			}
			b.WriteByte(p.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", nil, errors.New("a string does not end")
}

// array reads members of one type, that of the first.
func (p *variantParser) array(want string) (string, []string, error) {
	member := ""
	if want != "" {
		var ok bool
		if member, ok = strings.CutPrefix(want, "a"); !ok {
			return "", nil, fmt.Errorf("an array is not of type %q", want)
		}
	}
	count, words := 0, []string{""}
	err := p.members(']', func() error {
		signature, list, err := p.value(member)
		if err != nil {
			return err
		}
		if member != "" && signature != member {
			return fmt.Errorf("an array has members of type %q and %q", member, signature)
		}
		member, count, words = signature, count+1, append(words, list...)
		return nil
	})
	if err == nil && member == "" {
		err = errors.New("an empty array needs its type before it, as in @as []")
	}
	words[0] = strconv.Itoa(count)
	return "a" + member, words, err
}

// tuple reads members of any type. Types from outside reach them as a whole only, so
// that a type before a tuple is compared and not handed on.
func (p *variantParser) tuple(want string) (string, []string, error) {
	signature, words := "(", []string(nil)
	err := p.members(')', func() error {
		s, list, err := p.value("")
		signature, words = signature+s, append(words, list...)
		return err
	})
	signature += ")"
	if err == nil && want != "" && want != signature {
		err = fmt.Errorf("a tuple of type %q is not of type %q", signature, want)
	}
	if err == nil && signature == "()" {
		err = errors.New("a tuple without members")
	}
	return signature, words, err
}

// members reads what stands between commas up to the closing character.
func (p *variantParser) members(end byte, one func() error) error {
	p.rest = p.rest[1:]
	for n := 0; ; n++ {
		switch c := p.skip(); {
		case c == end:
			p.rest = p.rest[1:]
			return nil
		case n > 0 && c != ',':
			return fmt.Errorf("%q is missing before %q", ",", p.rest)
		case n > 0:
			p.rest = p.rest[1:]
		}
		if err := one(); err != nil {
			return err
		}
	}
}
