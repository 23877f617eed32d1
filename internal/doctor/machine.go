package doctor

import (
	"slices"
	"strings"
	"time"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/host/parts"
)

// Machine is what was found. Its zero value is a machine that has nothing.
type Machine struct {
	// Facts are what every command knows; FactsError says why they could not be had.
	Facts      host.Facts
	FactsError string
	// Release is the kernel's, as uname(2) gives it.
	Release      string
	Distribution Distribution
	// User is the caller's login name, or number if there is no name.
	User string

	// Namespaces are the names below /proc/self/ns.
	Namespaces []string
	// FileSystems are those that can be mounted, modules that can be loaded included.
	FileSystems []string
	// Parts says of parts of the kernel whether they are there.
	Parts map[Part]Presence
	// InputDrops are the chains of the packet filter, as "INPUT of table ip filter", that drop what is for the host and that
	// none of their rules accepts; each with the words nft(8) takes for it.
	InputDrops []InputDrop
	// SeccompActions and SecurityModules are the kernel's own lists.
	SeccompActions, SecurityModules []string
	// Landlock is the version of its interface, 0 if there is none, and NoLandlock why containers cannot be confined with it.
	Landlock   int
	NoLandlock string
	// NoDefaultProfile says why containers that name no AppArmor profile run without one; empty if they have one.
	NoDefaultProfile string
	// Pressure says that /proc/pressure is there.
	Pressure bool
	// MaxUserNamespaces is the sysctl of that name, -1 if there is none.
	MaxUserNamespaces int64
	// UserNamespacesTried says that this process has made a user namespace and had privileges in it, where that is not for all programs.
	UserNamespacesTried bool
	// NoNewPrivileges is set if this process, and what it starts, cannot gain privileges.
	NoNewPrivileges bool

	// SwapCounted says that the memory controller counts swap.
	SwapCounted bool
	// Systemd says that it runs as process 1. ManagerError says why it, or the user's own one, cannot be asked;
	// ManagerControllers are those that the one of an ordinary user has to give, on version 2.
	Systemd            bool
	ManagerError       string
	ManagerControllers []string

	Newuidmap, Newgidmap Helper
	RuntimeDir           RuntimeDir
	// Lingers says that the user's services outlive his last session.
	Lingers bool

	// Settings are values of kernel parameters by their names, without those that the kernel has not.
	Settings map[string]string
	// Tunnel says that /dev/net/tun can be opened.
	Tunnel bool

	Storage Storage
	// Snapshotter is the one that was asked for, empty for the best.
	Snapshotter string
	// Fuse has what host.Storage knows of fuse-overlayfs, and nothing else.
	Fuse host.Storage
	// OpenFiles is the soft limit of open files that programs here begin with.
	OpenFiles uint64

	// Now is the machine's time; Synchronized says that the kernel takes it for right.
	Now          time.Time
	Synchronized bool

	// Criu is the path of that program, Init and Monitor those of containr-init and -monitor; empty if there is none.
	Criu, Init, Monitor string
	// BaseImage says that the built-in image is there.
	BaseImage bool
	// Interpreters are the names of programs that run those of other machines: binfmt_misc.
	Interpreters []string

	// Registries are those that were asked.
	Registries []Registry
}

// InputDrop is a chain with the policy to drop. Words are those that nft(8) takes for it.
type InputDrop struct{ Name, Words string }

// Part is a part of the kernel that may be a module.
type Part string

// Parts that checks ask for.
const (
	Bridge   Part = "bridge"
	Veth     Part = "veth"
	NFTables Part = "nf_tables"
	Tun      Part = "tun"
)

// Presence is whether a part of the kernel is there.
type Presence = parts.Presence

// What can be known of a part.
const (
	Present = parts.Present
	Absent  = parts.Absent
	Unknown = parts.Unknown
)

// Distribution is what os-release(5) says.
type Distribution struct {
	// ID is a name such as debian; Like are those that it is made from.
	ID   string
	Like []string
	// Name is for people.
	Name string
}

// is reports whether it is one of these, or made from one.
func (d Distribution) is(ids ...string) bool {
	return slices.ContainsFunc(ids, func(id string) bool { return d.ID == id || slices.Contains(d.Like, id) })
}

// install is the line that installs a package, which has a name on Debian, one on Fedora and its like, and one on Arch.
// Alpine and SUSE mostly have Debian's or Fedora's.
func (d Distribution) install(debian, fedora, arch string) string {
	switch {
	case d.is("debian", "ubuntu"):
		return "sudo apt-get install " + debian
	case d.is("fedora", "rhel", "centos"):
		return "sudo dnf install " + fedora
	case d.is("arch"):
		return "sudo pacman -S " + arch
	case d.is("alpine"):
		return "sudo apk add " + fedora
	case d.is("suse", "opensuse"):
		return "sudo zypper install " + fedora
	}
	return "install the package " + debian + " (called " + fedora + " by some)"
}

// Helper is a program that changes what only root may.
type Helper struct {
	// Path is empty if there is none.
	Path string
	// Privileged says that it is setuid root, or has file capabilities.
	Privileged bool
}

// RuntimeDir is $XDG_RUNTIME_DIR.
type RuntimeDir struct {
	// Path is the variable's value.
	Path string
	// Own says that it is a directory of the user, closed to others.
	Own bool
}

// Storage is the file system of the state root.
type Storage struct {
	// Root is the state root; it need not exist yet. Error says why its file system could not be asked.
	Root, Error string
	// FileSystem is its type as mountinfo calls it.
	FileSystem string
	// Size and Free are in bytes, Inodes and FreeInodes numbers; 0 of 0 inodes are as many as one likes.
	Size, Free, Inodes, FreeInodes uint64
	// ReadOnly is an option of its mount. (noexec, nodev and nosuid do no harm: the overlay has options of its own.)
	ReadOnly bool
	// Writable says that the user may make files there.
	Writable bool
}

// Registry is one that was asked whether it is there.
type Registry struct {
	Name string
	// Error says why it could not be reached.
	Error string
}

func (m *Machine) setting(name string) string { return strings.TrimSpace(m.Settings[name]) }
