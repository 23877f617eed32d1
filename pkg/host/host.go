// Package host finds out once what this kernel, this user and this machine can
// do, and holds the answer as a value.
//
// # Theory of operation
//
// Planners are pure: they never ask the machine anything. What they must know
// about it is in Facts, which Probe (on Linux) reads from a handful of cheap
// places: uname(2), /proc/self/status, /proc/self/cgroup, statfs(2) of the
// cgroup mount, and a few files of /sys. Nothing is tried out; a feature that
// came with a kernel version is judged by the version. Probe makes about a dozen
// system calls, because it runs before every container.
//
// Facts is plain data without pointers to the machine, so a test writes down the
// machine that it wants to plan for.
package host

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/containr/containr/pkg/plan/linux"
)

// Kernel is a Linux version; only the two leading numbers count.
type Kernel struct{ Major, Minor int }

// AtLeast reports whether the kernel is of that version or newer.
func (k Kernel) AtLeast(major, minor int) bool {
	return k.Major > major || k.Major == major && k.Minor >= minor
}

func (k Kernel) String() string { return strconv.Itoa(k.Major) + "." + strconv.Itoa(k.Minor) }

// Oldest is the oldest kernel that containr runs on. It has clone3 with
// CLONE_INTO_CGROUP, openat2, close_range and the mount calls of 5.2.
var Oldest = Kernel{5, 10}

// ParseKernel reads a release as uname(2) gives it: "6.1.0-56-cloud-amd64".
func ParseKernel(release string) (Kernel, error) {
	major, rest, ok := strings.Cut(release, ".")
	if !ok {
		return Kernel{}, fmt.Errorf("kernel release %q: no version number", release)
	}
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(rest[:end])
	if err1 != nil || err2 != nil {
		return Kernel{}, fmt.Errorf("kernel release %q: no version number", release)
	}
	return Kernel{a, b}, nil
}

// CgroupMode is how control groups are mounted.
type CgroupMode uint8

const (
	// NoCgroup: no cgroup file system is mounted where containr looks.
	NoCgroup CgroupMode = iota
	// CgroupV1: a tmpfs with one directory for each hierarchy of version 1,
	// with or without an empty version 2 beside them.
	CgroupV1
	// CgroupV2: the unified hierarchy alone.
	CgroupV2
)

var cgroupModeNames = [...]string{"none", "v1", "v2"}

func (m CgroupMode) String() string { return cgroupModeNames[m] }

// ErrNoCRIU means that the program criu is not there, or is none that can be used.
var ErrNoCRIU = errors.New("CRIU cannot be used")

// Hierarchy is one mounted cgroup tree.
type Hierarchy struct {
	// Controllers are those of a version 1 hierarchy ("cpu", "cpuacct"); a
	// named one has "name=systemd". For version 2 they are what
	// cgroup.controllers offers: that of the root to the administrator, that of
	// Own's parent to an ordinary user.
	Controllers []string
	// Path is where it is mounted.
	Path string
	// Own is the path, below Path, of the cgroup that the probing process is in.
	Own string
	// Delegated, on version 2: an ordinary user may make cgroups beside Own and
	// move own processes there, because the administrator (or systemd) has given
	// Own's parent away.
	Delegated bool
}

// IDRange is a line of /etc/subuid or /etc/subgid.
type IDRange struct{ First, Count uint32 }

// Facts is what planners may know about the machine.
type Facts struct {
	// Arch is Go's name of the architecture.
	Arch   string
	Kernel Kernel
	// UID and GID are the effective ids of the user who runs containr.
	UID, GID uint32
	// Inner is set in a user namespace that is not the machine's: what looks like root there is somebody else's user outside.
	Inner bool
	// NoSetgroups is set where that one's maker has given up setgroups(2) for it, user_namespaces(7).
	NoSetgroups bool
	// Capabilities is the effective set, a bit for each capability number.
	Capabilities uint64
	// LastCapability is the highest capability number that the kernel knows.
	LastCapability uint
	CgroupMode     CgroupMode
	// Hierarchies has one entry on version 2.
	Hierarchies []Hierarchy
	// Delegatable are the files of a control group of version 2 that may be given away
	// with it. Empty unless ProbeDelegatable has been called.
	Delegatable []string
	// Manager is the path of the control group of the systemd that is to be asked for
	// control groups: "/" for the administrator's. Empty unless ProbeManager has been
	// called.
	Manager string
	// NoTimeNamespace is set where the kernel has none. The other kinds are
	// taken for granted.
	NoTimeNamespace bool
	// AppArmor and SELinux say which of the two is active.
	AppArmor, SELinux bool
	// SubUIDs and SubGIDs are the ranges granted to an ordinary user, and
	// Newuidmap, Newgidmap the programs that map them; all empty for root.
	SubUIDs, SubGIDs     []IDRange
	Newuidmap, Newgidmap string
	// UserNamespacesOff tells why an ordinary user cannot make a user
	// namespace here; empty when nothing forbids it.
	UserNamespacesOff string
}

// Root reports whether the user is the machine's administrator, with
// CAP_SYS_ADMIN.
func (f *Facts) Root() bool { return f.UID == 0 && f.Capabilities&(1<<21) != 0 }

// Administrator reports whether the user is root of the machine, not of a user namespace alone: whom control groups belong to, and the systemd that
// makes them.
func (f *Facts) Administrator() bool { return f.Root() && !f.Inner }

// capMacAdmin is CAP_MAC_ADMIN, see linux/capability.h.
const capMacAdmin = 33

// MayLoadProfiles reports whether the kernel takes AppArmor profiles from the user.
func (f *Facts) MayLoadProfiles() bool { return f.Root() && f.Capabilities&(1<<capMacAdmin) != 0 }

// HasMountSetattr reports mount_setattr(2), Linux 5.12.
func (f *Facts) HasMountSetattr() bool { return f.Kernel.AtLeast(5, 12) }

// HasMappedLayers reports that an overlay takes layers whose owners are mapped, Linux
// 5.19. Whether a file system can be mapped is MapsOwners of its Storage.
func (f *Facts) HasMappedLayers() bool { return f.Kernel.AtLeast(5, 19) }

// HasOverlayLowerAppend reports the overlay parameter "lowerdir+", Linux 6.7.
func (f *Facts) HasOverlayLowerAppend() bool { return f.Kernel.AtLeast(6, 7) }

// Hierarchy finds the version 1 hierarchy of a controller, or the unified one.
func (f *Facts) Hierarchy(controller string) (Hierarchy, bool) {
	for _, h := range f.Hierarchies {
		for _, c := range h.Controllers {
			if c == controller {
				return h, true
			}
		}
	}
	return Hierarchy{}, false
}

// DelegatedGroups reports whether an ordinary user may make control groups beside his own: see Hierarchy.Delegated.
func (f *Facts) DelegatedGroups() bool {
	return f.CgroupMode == CgroupV2 && len(f.Hierarchies) > 0 && f.Hierarchies[0].Delegated
}

// FileKind is what a path on the host is, as far as a bind of it cares.
type FileKind uint8

const (
	// Missing: there is nothing, or nothing that the user may see.
	Missing FileKind = iota
	// Directory: it must be bound over a directory.
	Directory
	// File: anything else; it must be bound over a file.
	File
)

// Device is a device node's identity. Kind is the file type of mknod(2), 0 for what is
// no device.
type Device struct{ Kind, Major, Minor uint32 }

func (d Device) String() string {
	number := strconv.FormatUint(uint64(d.Major), 10) + ":" + strconv.FormatUint(uint64(d.Minor), 10)
	switch d.Kind {
	case 0o020000:
		return "character device " + number
	case 0o060000:
		return "block device " + number
	}
	return "no device"
}

// Link is a network device.
type Link struct {
	Index int
	// Addresses are those that it has for good.
	Addresses []Address
}

// Address is an address of a network device. Local, Peer and Broadcast are 4 or 16
// bytes in network order; the latter two may be empty. Flags are IFA_F_ bits.
type Address struct {
	Prefix                 int
	Local, Peer, Broadcast string
	Flags                  uint32
}

// Resctrl is the file system resctrl, and in it the class of service that a
// configuration asks for.
type Resctrl struct {
	// Path is where it is mounted, empty if it is not.
	Path string
	// Exists says that there is such a class, and Schemata what it gets.
	Exists   bool
	Schemata string
}

// Source is what a bind needs to know of its source.
type Source struct {
	Kind FileKind
	// Device is what a device node stands for.
	Device Device
	// Mount are the attributes of the mount that it lies on.
	Mount linux.MountFlags
}
