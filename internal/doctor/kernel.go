package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containr/containr/pkg/host"
)

var kernelChecks = []check{
	{group: "Kernel", name: "kernel", needed: true, ask: kernelVersion},
	{group: "Kernel", name: "architecture", needed: true, ask: architecture},
	{group: "Kernel", name: "proc", needed: true, ask: procMounted},
	{group: "Kernel", name: "namespaces", needed: true, ask: namespaces},
	{group: "Kernel", name: "file-systems", needed: true, ask: fileSystems},
	{group: "Kernel", name: "overlay", ask: overlay},
	{group: "Kernel", name: "overlay-in-user-namespaces", concerns: ordinary, ask: overlayForUsers},
	{group: "Kernel", name: "time-namespaces", ask: timeNamespaces},
	{group: "Kernel", name: "network-namespaces", ask: networkNamespaces},
	{group: "Kernel", name: "recursive-read-only", ask: since(5, 12, "mount_setattr(2): read-only binds are read-only all the way down", "what is mounted below a read-only bind stays writable")},
	{group: "Kernel", name: "id-mapped-mounts", ask: since(5, 19, "mounts can show files as another user's, those of overlays too", "mounts cannot show the files of an overlay as another user's")},
	{group: "Kernel", name: "pressure", ask: pressure},
}

const newerKernel = "boot a newer kernel: Debian 12, Ubuntu 24.04 and RHEL 10 have 6.1 and newer ones"

func kernelVersion(m *Machine) (State, string, string) {
	k, err := host.ParseKernel(m.Release)
	switch {
	case err != nil:
		return Missing, err.Error(), "run containr on Linux"
	case !k.AtLeast(host.Oldest.Major, host.Oldest.Minor):
		return Missing, fmt.Sprintf("Linux %s is too old: containr needs %s or newer", m.Release, host.Oldest), newerKernel
	}
	return OK, "Linux " + m.Release, ""
}

func architecture(m *Machine) (State, string, string) {
	switch m.Facts.Arch {
	case "amd64", "arm64":
		return OK, m.Facts.Arch, ""
	}
	return Missing, fmt.Sprintf("%s: containers can be planned and explained, but not started", m.Facts.Arch), "use a machine with amd64 or arm64"
}

func procMounted(m *Machine) (State, string, string) {
	if m.FactsError != "" {
		return Missing, m.FactsError, "sudo mount -t proc proc /proc"
	}
	return OK, "/proc tells what is needed", ""
}

// neededNamespaces are those that every container has, unless it shares the host's.
var neededNamespaces = []string{"mnt", "pid", "ipc", "uts"}

func namespaces(m *Machine) (State, string, string) {
	if missing := without(neededNamespaces, m.Namespaces); len(missing) > 0 {
		return Missing, "the kernel has no namespaces of the kind " + strings.Join(missing, ", "), "boot a kernel with CONFIG_NAMESPACES and CONFIG_" + strings.ToUpper(missing[0]) + "_NS"
	}
	return OK, strings.Join(neededNamespaces, ", "), ""
}

// without are the words of want that have does not hold.
func without(want, have []string) []string {
	return slices.DeleteFunc(slices.Clone(want), func(w string) bool { return slices.Contains(have, w) })
}

func fileSystems(m *Machine) (State, string, string) {
	want := []string{"proc", "sysfs", "tmpfs", "devpts", "mqueue"}
	if missing := without(want, m.FileSystems); len(missing) > 0 {
		return Missing, "the kernel cannot mount " + strings.Join(missing, ", "), "boot a kernel that has them: mqueue is CONFIG_POSIX_MQUEUE, devpts CONFIG_UNIX98_PTYS"
	}
	return OK, strings.Join(want, ", "), ""
}

func overlay(m *Machine) (State, string, string) {
	if !slices.Contains(m.FileSystems, "overlay") {
		return Limited, "the kernel has no overlay file system: see snapshotter", "sudo modprobe overlay"
	}
	if m.Facts.HasOverlayLowerAppend() {
		return OK, "overlay, with as many layers as images have", ""
	}
	return OK, "overlay; names of all layers must fit into a page, as containr makes them", ""
}

func overlayForUsers(m *Machine) (State, string, string) {
	if m.Facts.Kernel.AtLeast(5, 11) {
		return OK, "overlay can be mounted in a user namespace", ""
	}
	return Limited, fmt.Sprintf("Linux %s lets only root mount an overlay (5.11 lets everybody): see snapshotter", m.Facts.Kernel), newerKernel
}

func timeNamespaces(m *Machine) (State, string, string) {
	if m.Facts.NoTimeNamespace {
		return Limited, "the kernel has no time namespaces: a container's clocks are the host's", "boot a kernel with CONFIG_TIME_NS"
	}
	return OK, "a container can have clocks of its own", ""
}

func networkNamespaces(m *Machine) (State, string, string) {
	if !slices.Contains(m.Namespaces, "net") {
		return Limited, "the kernel has no network namespaces: only --network host can be used", "boot a kernel with CONFIG_NET_NS"
	}
	return OK, "a container can have a network of its own", ""
}

// since is a check of something that came with a version of the kernel.
func since(major, minor int, have, lack string) func(*Machine) (State, string, string) {
	return func(m *Machine) (State, string, string) {
		if m.Facts.Kernel.AtLeast(major, minor) {
			return OK, have, ""
		}
		return Limited, fmt.Sprintf("%s (Linux %d.%d has what it takes)", lack, major, minor), newerKernel
	}
}

func pressure(m *Machine) (State, string, string) {
	if !m.Pressure {
		return Limited, "the kernel does not say how long programs waited for CPU, memory and disks", "add psi=1 to the kernel's command line, and boot"
	}
	return OK, "/proc/pressure says how long programs waited", ""
}
