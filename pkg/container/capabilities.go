package container

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containr/containr/internal/spelling"
	"github.com/containr/containr/pkg/plan/linux"
)

// capabilityNames lists the names of capabilities(7) by number: the index of a name
// is its bit.
func capabilityNames() []string {
	var names []string
	for n := range uint(linux.LastCapability + 1) {
		names = append(names, linux.CapabilityName(n))
	}
	return names
}

// defaultCapabilities are the fourteen that docker leaves a container: what
// programs written for root expect (own files of others, bind low ports, change
// user) and nothing that reaches the host.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD",
	"CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP",
	"CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

const allCapabilities = "ALL"

// CapabilitySet returns the names of the capabilities whose bits are set in mask,
// in the order of their numbers: what a line such as CapBnd of
// /proc/self/status says. Bits without a name are left out.
func CapabilitySet(mask uint64) []string {
	var out []string
	for bit, name := range capabilityNames() {
		if mask&(1<<bit) != 0 {
			out = append(out, name)
		}
	}
	return out
}

// ParseCapability brings the name of a capability, or ALL, into its full form:
// upper case with CAP_ in front. An unknown name is an error that names the
// nearest known one.
func ParseCapability(s string) (string, error) {
	name := strings.ToUpper(strings.TrimSpace(s))
	if name == allCapabilities || name == "CAP_ALL" {
		return allCapabilities, nil
	}
	if !strings.HasPrefix(name, "CAP_") {
		name = "CAP_" + name
	}
	if _, ok := linux.CapabilityByName(name); ok {
		return name, nil
	}
	if near := spelling.Nearest(name, capabilityNames()); near != "" {
		return "", fmt.Errorf("unknown capability %q: did you mean %s?", s, near)
	}
	return "", fmt.Errorf("unknown capability %q: see capabilities(7)", s)
}

// Capabilities returns what the container's program may hold, sorted by number:
//
//   - privileged: everything that can be given;
//   - --cap-add ALL: everything but what --cap-drop names;
//   - --cap-drop ALL: nothing but what --cap-add names;
//   - else the default fourteen, less the drops, plus the adds, so that a
//     capability that is both dropped and added is there.
//
// available is Machine.Capabilities. A capability that was asked for by name
// and is not available is an error; a default one that is not is left out.
func Capabilities(c Config, available []string) ([]string, error) {
	add, err := parseCapabilities(c.CapAdd)
	if err != nil {
		return nil, fmt.Errorf("--cap-add: %w", err)
	}
	drop, err := parseCapabilities(c.CapDrop)
	if err != nil {
		return nil, fmt.Errorf("--cap-drop: %w", err)
	}
	if err := validateAvailable(add, available); err != nil {
		return nil, err
	}
	return inOrder(chooseCapabilities(c.Privileged, add, drop, available), available), nil
}

func chooseCapabilities(privileged bool, add, drop, available []string) []string {
	switch {
	case privileged:
		return available
	case slices.Contains(add, allCapabilities):
		return without(available, drop)
	case slices.Contains(drop, allCapabilities):
		return add
	default:
		return append(without(defaultCapabilities, drop), add...)
	}
}

func parseCapabilities(names []string) ([]string, error) {
	var out []string
	for _, n := range names {
		name, err := ParseCapability(n)
		if err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return out, nil
}

func validateAvailable(add, available []string) error {
	for _, name := range add {
		if name != allCapabilities && !slices.Contains(available, name) {
			return fmt.Errorf("--cap-add: %s cannot be given: containr itself does not hold it here", name)
		}
	}
	return nil
}

func without(names, drop []string) []string {
	var out []string
	for _, n := range names {
		if !slices.Contains(drop, n) {
			out = append(out, n)
		}
	}
	return out
}

// inOrder returns the names that are both wanted and available, each once, by
// capability number.
func inOrder(wanted, available []string) []string {
	out := []string{}
	for _, name := range capabilityNames() {
		if slices.Contains(wanted, name) && slices.Contains(available, name) {
			out = append(out, name)
		}
	}
	return out
}

// AddedCapabilities are those of names, full ones, that a container does not have by itself.
func AddedCapabilities(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(defaultCapabilities, name) })
}
