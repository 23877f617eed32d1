package container

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Words that say where a namespace comes from.
const (
	// Private gives the container its own.
	Private = "private"
	// HostNamespace leaves it in the host's.
	HostNamespace = "host"
	// NetworkNone is a network namespace with nothing but a loopback link.
	NetworkNone = "none"
	// IPCShareable is Private, and other containers may join.
	IPCShareable = "shareable"
	// IPCNone is Private without /dev/shm.
	IPCNone = "none"
)

// namespaceWords lists for each flag the words it takes. The order of a list is
// the order in which an error names them.
var namespaceWords = []struct {
	flag  string
	value func(*Namespaces) string
	words []string
}{
	{"--network", func(n *Namespaces) string { return n.Network }, []string{NetworkNone, HostNamespace}},
	{"--pid", func(n *Namespaces) string { return n.PID }, []string{Private, HostNamespace}},
	{"--ipc", func(n *Namespaces) string { return n.IPC }, []string{Private, HostNamespace, IPCShareable, IPCNone}},
	{"--uts", func(n *Namespaces) string { return n.UTS }, []string{Private, HostNamespace}},
	{"--cgroupns", func(n *Namespaces) string { return n.Cgroup }, []string{Private, HostNamespace}},
	{"--userns", func(n *Namespaces) string { return n.User }, []string{Private, HostNamespace}},
}

// validateNamespaces refuses a word that its flag does not know.
func validateNamespaces(n Namespaces) error {
	for _, ns := range namespaceWords {
		if err := oneOf(ns.flag, ns.value(&n), ns.words); err != nil {
			return err
		}
	}
	return nil
}

func oneOf(flag, value string, words []string) error {
	for _, w := range words {
		if value == w {
			return nil
		}
	}
	if owner, ok := strings.CutPrefix(value, "container:"); ok {
		return fmt.Errorf("%s %s: joining the namespace of container %q is not available: use %s",
			flag, value, owner, strings.Join(words, " or "))
	}
	return fmt.Errorf("%s %s: unknown value: use %s", flag, value, strings.Join(words, " or "))
}

// specNamespaces lists the namespaces that the container gets for itself. A kind
// that is not listed stays the host's.
func specNamespaces(c Config, m Machine) []specs.LinuxNamespace {
	var out []specs.LinuxNamespace
	add := func(own bool, kind specs.LinuxNamespaceType) {
		if own {
			out = append(out, specs.LinuxNamespace{Type: kind})
		}
	}
	n := c.Namespaces
	add(n.User != HostNamespace, specs.UserNamespace)
	add(true, specs.MountNamespace)
	add(n.Network != HostNamespace, specs.NetworkNamespace)
	add(n.UTS != HostNamespace, specs.UTSNamespace)
	add(n.PID != HostNamespace, specs.PIDNamespace)
	add(n.IPC != HostNamespace, specs.IPCNamespace)
	add(n.Cgroup != HostNamespace, specs.CgroupNamespace)
	// docker 29 gives every container its own clock offsets. They start at
	// zero, so nothing is to be seen of it; privileged containers keep the
	// host's clocks, which they may set.
	add(m.TimeNamespace && !c.Privileged, specs.TimeNamespace)
	return out
}
