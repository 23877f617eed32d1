package container

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/rootfs"
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
	// joinPrefix stands before the container whose namespace it is to share.
	joinPrefix = "container:"
)

// Joined returns the container whose namespace a word asks for: container:NAME.
func Joined(word string) (name string, ok bool) { return strings.CutPrefix(word, joinPrefix) }

// Join is the word for the namespace of a container.
func Join(name string) string { return joinPrefix + name }

// Joinable are the namespaces that can be another container's: the flag that says so, the kind, and the word in n.
func (n *Namespaces) Joinable() []JoinableNamespace {
	return []JoinableNamespace{
		{"--userns", specs.UserNamespace, &n.User},
		{"--pid", specs.PIDNamespace, &n.PID},
		{"--network", specs.NetworkNamespace, &n.Network},
		{"--ipc", specs.IPCNamespace, &n.IPC},
		{"--uts", specs.UTSNamespace, &n.UTS},
		{"--cgroupns", specs.CgroupNamespace, &n.Cgroup},
	}
}

// TreeOf is a mount that shows the directory dir of a container as that sees it, once the
// engine has put the container's process into its source, as into the paths of namespaces.
func TreeOf(id, dir, target string, options ...string) specs.Mount {
	return specs.Mount{Destination: target, Type: rootfs.TreeType, Source: Join(id) + ":" + dir, Options: options}
}

// JoinableNamespace is one of them.
type JoinableNamespace struct {
	Flag string
	Kind specs.LinuxNamespaceType
	Word *string
}

// namespaceWords lists for each flag the words it takes. The order of a list is
// the order in which an error names them.
var namespaceWords = []struct {
	flag  string
	value func(*Namespaces) string
	words []string
}{
	{"--pid", func(n *Namespaces) string { return n.PID }, []string{Private, HostNamespace}},
	{"--ipc", func(n *Namespaces) string { return n.IPC }, []string{Private, HostNamespace, IPCShareable, IPCNone}},
	{"--uts", func(n *Namespaces) string { return n.UTS }, []string{Private, HostNamespace}},
	{"--cgroupns", func(n *Namespaces) string { return n.Cgroup }, []string{Private, HostNamespace}},
	{"--userns", usersWord, []string{UsersAuto, UsersKeepID, UsersNoMap, Private, HostNamespace}},
}

// usersWord is the word of --userns without its options.
func usersWord(n *Namespaces) string {
	if _, joined := Joined(n.User); joined {
		return n.User
	}
	word, _, _ := strings.Cut(n.User, ":")
	return word
}

// validateNamespaces refuses a word that its flag does not know.
func validateNamespaces(n Namespaces) error {
	for _, ns := range namespaceWords {
		if name, ok := Joined(ns.value(&n)); ok {
			if name == "" {
				return fmt.Errorf("%s container: name the container whose it is to be", ns.flag)
			}
			continue
		}
		if err := oneOf(ns.flag, ns.value(&n), append(slices.Clone(ns.words), joinPrefix+"NAME")); err != nil {
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
	return fmt.Errorf("%s %s: unknown value: use %s", flag, value, strings.Join(words, " or "))
}

// specNamespaces lists the namespaces that the container gets for itself. A kind
// that is not listed stays the host's.
func specNamespaces(c Config, m Machine) []specs.LinuxNamespace {
	var out []specs.LinuxNamespace
	add := func(word string, kind specs.LinuxNamespaceType) {
		if word == HostNamespace {
			return
		}
		ns := specs.LinuxNamespace{Type: kind}
		if _, joined := Joined(word); joined {
			ns.Path = word // the engine puts the path here when the container is started
		}
		if path, ok := strings.CutPrefix(word, networkAt); ok && kind == specs.NetworkNamespace {
			ns.Path = path
		}
		out = append(out, ns)
	}
	n := c.Namespaces
	add(n.User, specs.UserNamespace)
	add(Private, specs.MountNamespace)
	add(n.Network, specs.NetworkNamespace)
	add(n.UTS, specs.UTSNamespace)
	add(n.PID, specs.PIDNamespace)
	add(n.IPC, specs.IPCNamespace)
	add(n.Cgroup, specs.CgroupNamespace)
	// docker 29 gives every container its own clock offsets. They start at
	// zero, so nothing is to be seen of it; privileged containers keep the
	// host's clocks, which they may set.
	if m.TimeNamespace && !c.Privileged {
		add(Private, specs.TimeNamespace)
	}
	return out
}
