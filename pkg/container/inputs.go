package container

import (
	"github.com/containr/containr/pkg/host"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Inputs is everything Spec needs besides the wish and the image: what the
// machine can do, what the image's files say, and where the engine put things.
type Inputs struct {
	// ID is the container's id, 64 hexadecimal digits.
	ID string
	// Machine is what this kernel and this user can do.
	Machine Machine
	// Root is the container's root file system.
	Root Root
	// Contents tells for the target of every volume and image in Config.Mounts where
	// it is.
	Contents map[string]Content
	// Files are host paths of generated files; an empty path is not mounted.
	Files Files
	// Passwd and Group are the image's /etc/passwd and /etc/group, empty if
	// it has none.
	Passwd, Group []byte
	// Devices holds, for each host path in Config.Devices, the device nodes
	// found there: one for a device, all of them for a directory.
	// HostDevices fills it.
	Devices map[string][]specs.LinuxDevice
	// BlockDevices holds the device at each path of Config.BlockIO.
	BlockDevices map[string]specs.LinuxDevice
	// AllDevices are the nodes below the host's /dev, for a privileged
	// container.
	AllDevices []specs.LinuxDevice
	// Seccomp returns the filter for a container that has these
	// capabilities: the default profile, or the one asked for. It is not called
	// for an unconfined container, nor for a privileged one that names none; nil
	// means no filter.
	Seccomp func(capabilities []string) (*specs.LinuxSeccomp, error)
	// InitPath is the host path of the small init program of --init.
	InitPath string
	// ConsoleSize is the size of the terminal that a container with one
	// starts with; nil leaves it to the kernel.
	ConsoleSize *specs.Box
}

// Machine is the part of the host's facts that decides what a wish means.
type Machine struct {
	// Hostname is the host's own, for --uts host.
	Hostname string
	// CgroupV2 is true where cgroup v2 alone is mounted.
	CgroupV2 bool
	// NoCgroups is true if no cgroup may be made: there are none, or we are
	// not root.
	NoCgroups bool
	// TimeNamespace is true if the kernel has time namespaces (5.6).
	TimeNamespace bool
	// RecursiveReadOnly is true if the kernel has mount_setattr (5.12), so
	// that a read-only bind can be read-only all the way down.
	RecursiveReadOnly bool
	// Capabilities are those that a container can be given: the names in
	// our own bounding set, or all that the kernel has in a user namespace.
	Capabilities []string
	// Network is the network of those that name none; empty is NetworkNone.
	Network string
	// NoNetwork says why those have none, where Network would be another one if it could be made.
	NoNetwork string
	// CPUs is the number of processors, for --cpus. 0 is unknown.
	CPUs int
	// CPUSet and MemoryNodes are what can be asked for, such as 0-3. Empty
	// is unknown.
	CPUSet, MemoryNodes string
	// MaskedPaths are to be hidden besides the usual ones.
	MaskedPaths []string
	// AppArmor is true if the kernel enforces AppArmor profiles;
	// AppArmorDefault is the loaded profile for containers, if any.
	AppArmor        bool
	AppArmorDefault string
	// SELinux is true if the kernel enforces an SELinux policy.
	SELinux bool
	// NoLandlock says why the kernel confines nobody with Landlock; empty if it does.
	NoLandlock string
	// Rootless is true if we are not root, so that a container needs a user
	// namespace. UIDMap and GIDMap are the maps it gets unless told.
	Rootless       bool
	UIDMap, GIDMap []specs.LinuxIDMapping
	// DenySetgroups is true if the group map can only be written after
	// setgroups(2) was given up: user_namespaces(7).
	DenySetgroups bool
}

// Root is where the root file system comes from.
type Root struct {
	// Path is an absolute path of a directory on the host: the root file
	// system itself, or, if Mounts is not empty, an empty directory that
	// Mounts cover.
	Path string
	// Mounts are mounted on / inside the container's own mount namespace,
	// so that the host never sees them: usually one overlay.
	Mounts []specs.Mount
}

// Content is where what a volume or an image holds is, as a mount: its type, source
// and options, but for those that the user decides.
type Content struct {
	Type, Source string
	Options      []string
}

// Files are the host paths of what a container's network configuration is told
// through.
type Files struct {
	Hosts, Hostname, ResolvConf string
	// Configs are the files of Config.Configs, in their order.
	Configs []string
}

// MachineFrom is what Facts mean for a container. hostname and cpus (the number
// of processors) are added to them; the lists and the AppArmor profile that Facts
// do not hold stay unknown.
//
// An ordinary user's containers get the ids that the machine's administrator
// granted, if a program to map them is there; else the user's own id alone,
// which becomes the container's root.
func MachineFrom(f *host.Facts, hostname string, cpus int) Machine {
	m := Machine{
		Hostname:          hostname,
		CgroupV2:          f.CgroupMode == host.CgroupV2,
		NoCgroups:         f.CgroupMode == host.NoCgroup || !f.Root() && !f.DelegatedGroups(),
		TimeNamespace:     !f.NoTimeNamespace,
		RecursiveReadOnly: f.HasMountSetattr(),
		Capabilities:      CapabilitySet(f.Capabilities),
		CPUs:              cpus,
		AppArmor:          f.AppArmor,
		SELinux:           f.SELinux,
		Rootless:          !f.Root(),
	}
	if !m.Rootless {
		return m
	}
	// In a user namespace of its own a process holds every capability.
	m.Capabilities = CapabilitySet(1<<(f.LastCapability+1) - 1)
	m.UIDMap, m.GIDMap = ownID(f.UID), ownID(f.GID)
	m.DenySetgroups = true
	if f.Newuidmap != "" && f.Newgidmap != "" && len(f.SubUIDs) > 0 && len(f.SubGIDs) > 0 {
		m.UIDMap, m.GIDMap = addRanges(m.UIDMap, f.SubUIDs), addRanges(m.GIDMap, f.SubGIDs)
		m.DenySetgroups = false
	}
	return m
}

func ownID(id uint32) []specs.LinuxIDMapping {
	return []specs.LinuxIDMapping{{ContainerID: 0, HostID: id, Size: 1}}
}

// addRanges gives the granted ids the numbers after those that are mapped.
func addRanges(maps []specs.LinuxIDMapping, ranges []host.IDRange) []specs.LinuxIDMapping {
	next := maps[len(maps)-1].ContainerID + maps[len(maps)-1].Size
	for _, r := range ranges {
		maps = append(maps, specs.LinuxIDMapping{ContainerID: next, HostID: r.First, Size: r.Count})
		next += r.Count
	}
	return maps
}
