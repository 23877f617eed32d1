package container

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// idBytes is the length of an id before it is written in hexadecimal.
const idBytes = 32

// NewID returns a fresh random id: 64 hexadecimal digits. The first twelve never
// look like a decimal number, since they become the host name, and a host name of
// digits alone is taken for an address by some programs.
func NewID() string {
	var b [idBytes]byte
	for {
		rand.Read(b[:]) // never fails: crypto/rand
		id := hex.EncodeToString(b[:])
		if !isDecimal(id[:shortID]) {
			return id
		}
	}
}

func isDecimal(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// maxName keeps a name usable as a file name with something added.
const maxName = 128

// ValidateName checks a container's name: letters, digits, underscore, point and
// dash, at least two, a letter or digit first.
func ValidateName(name string) error {
	if len(name) < 2 || len(name) > maxName {
		return fmt.Errorf("container name %q: use 2 to %d characters", name, maxName)
	}
	for i, c := range []byte(name) {
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alphanumeric && (i == 0 || c != '_' && c != '.' && c != '-') {
			return fmt.Errorf("container name %q: only letters, digits and _ . - are allowed, a letter or digit first", name)
		}
	}
	return nil
}

// Words of which RandomName makes names: what stones, plants and tools are like,
// and what they are called. They are short, plain and nobody's.
var (
	nameAdjectives = [...]string{
		"amber", "bold", "brave", "bright", "brisk", "calm", "clear", "clever",
		"cosy", "crisp", "curly", "dapper", "deft", "eager", "early", "fair",
		"fleet", "fond", "fresh", "gentle", "glad", "golden", "grand", "green",
		"happy", "hardy", "humble", "jolly", "keen", "kind", "lively", "lucid",
		"lucky", "mellow", "merry", "mild", "neat", "nimble", "noble", "patient",
		"placid", "plain", "proud", "quick", "quiet", "rapid", "ready", "robust",
		"rosy", "round", "silver", "sleek", "smooth", "snug", "sober", "solid",
		"spry", "steady", "sunny", "swift", "tidy", "vivid", "warm", "witty",
	}
	nameNouns = [...]string{
		"acorn", "alder", "anvil", "aspen", "badger", "basalt", "beech", "birch",
		"bobbin", "bramble", "brook", "cedar", "chisel", "clover", "cobalt", "comet",
		"copper", "coral", "cricket", "dahlia", "delta", "ember", "falcon", "fern",
		"finch", "flint", "gable", "garnet", "geyser", "ginger", "granite", "hazel",
		"heron", "island", "jasper", "juniper", "kettle", "lagoon", "lantern", "larch",
		"linnet", "maple", "marble", "meadow", "nettle", "onyx", "otter", "pebble",
		"pepper", "plover", "poplar", "quartz", "raven", "rowan", "saffron", "shuttle",
		"sparrow", "tamarind", "thistle", "topaz", "tulip", "walnut", "willow", "wren",
	}
)

// RandomName makes up a name, adjective_noun, one of 4096.
func RandomName() string {
	var b [2]byte
	rand.Read(b[:])
	return nameAdjectives[int(b[0])%len(nameAdjectives)] + "_" + nameNouns[int(b[1])%len(nameNouns)]
}
