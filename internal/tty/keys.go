package tty

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// DefaultDetachKeys are docker's.
const DefaultDetachKeys = "ctrl-p,ctrl-q"

// ParseKeys reads a sequence of keys: single characters, ctrl- with a letter or
// one of @ [ \ ] ^ _, and DEL, with commas between them. An empty text is
// DefaultDetachKeys. It returns the bytes that a terminal sends for them.
func ParseKeys(s string) ([]byte, error) {
	if s == "" {
		s = DefaultDetachKeys
	}
	var keys []byte
	for name := range strings.SplitSeq(s, ",") {
		key, ok := parseKey(name)
		if !ok {
			return nil, fmt.Errorf("detach keys %q: %q is not a character, ctrl- with a letter or one of @[\\]^_, or DEL", s, name)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseKey(name string) (byte, bool) {
	letter, isControl := strings.CutPrefix(name, "ctrl-")
	switch {
	case isControl && len(letter) == 1 && letter[0] >= 'a' && letter[0] <= 'z':
		return letter[0] - 'a' + 1, true
	case isControl && len(letter) == 1 && strings.Contains(`@[\]^_`, letter):
		return letter[0] - '@', true
	case name == "DEL":
		return 0x7f, true
	case len(name) == 1 && name[0] < 0x80:
		return name[0], true
	}
	return 0, false
}

// keyScanner looks for a sequence of keys in what is typed. Bytes that may be the
// beginning of it are held back until the next byte decides.
type keyScanner struct {
	keys []byte
	held []byte
}

// scan returns what may be passed on after p was typed, and whether the whole sequence has been typed. Neither it nor
// what was typed after it is passed on.
func (k *keyScanner) scan(p []byte) (out []byte, found bool) {
	if len(k.keys) == 0 {
		return p, false
	}
	for _, b := range p {
		k.held = append(k.held, b)
		for !bytes.HasPrefix(k.keys, k.held) {
			out = append(out, k.held[0])
			k.held = slices.Delete(k.held, 0, 1)
		}
		if len(k.held) == len(k.keys) {
			return out, true
		}
	}
	return out, false
}
