package doctor

import (
	"fmt"
	"slices"

	"github.com/docker/go-units"

	"github.com/containr/containr/pkg/host"
)

var storageChecks = []check{
	{group: "Storage", name: "state-root", needed: true, ask: stateRoot},
	{group: "Storage", name: "file-system", needed: true, ask: stateFileSystem},
	{group: "Storage", name: "snapshotter", needed: true, ask: snapshotter},
	{group: "Storage", name: "space", ask: space},
	{group: "Storage", name: "inodes", ask: inodes},
	{group: "Storage", name: "open-files", ask: openFiles},
}

func stateRoot(m *Machine) (State, string, string) {
	s := m.Storage
	switch {
	case s.Root == "":
		return Missing, "no directory to keep images in: neither HOME nor XDG_DATA_HOME is an absolute path", "export HOME=/home/" + m.User + "; or name a directory with --root"
	case s.Error != "":
		return Missing, s.Root + ": " + s.Error, "name another directory with --root"
	case s.ReadOnly:
		return Missing, s.Root + " is on a file system that is mounted read-only", "name another directory with --root"
	case !s.Writable:
		return Missing, s.Root + ": you may not write there", "name a directory of your own with --root"
	}
	return OK, s.Root, ""
}

// stateFileSystem looks for file systems on which an overlay cannot have its upper directory.
func stateFileSystem(m *Machine) (State, string, string) {
	const another = "name a directory on ext4, xfs, btrfs or tmpfs with --root"
	switch m.Storage.FileSystem {
	case "":
		return Limited, "its type is not known", ""
	case "overlay", "overlayfs":
		return Limited, "overlay: one overlay cannot have its writable layer on another; see snapshotter", another
	case "proc", "sysfs", "nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "fuseblk", "vfat", "exfat", "ecryptfs":
		return Missing, m.Storage.FileSystem + ": an overlay cannot have its writable layer there", another
	}
	return OK, m.Storage.FileSystem, ""
}

// snapshotter says in which way containers get their root file systems.
func snapshotter(m *Machine) (State, string, string) {
	on := m.Fuse
	on.FileSystem, on.Overlay = m.Storage.FileSystem, slices.Contains(m.FileSystems, "overlay")
	on.Erofs = slices.Contains(m.FileSystems, "erofs")
	ways := m.Facts.Snapshotters(on, !m.Facts.Root())
	s, why, err := host.ChooseSnapshotter(ways, m.Snapshotter)
	switch {
	case err != nil:
		return Missing, err.Error(), "leave --snapshotter out; " + s.Mend
	case s.Cost == "":
		return OK, s.Name + ": layers are stacked, and cost nothing for each container", ""
	case ways[0].Problem == "":
		return OK, fmt.Sprintf("%s, as %s: %s", s.Name, why, s.Cost), ""
	}
	mend := ways[0].Mend
	// What no kernel before 5.11 lets an ordinary user do, that program can.
	if s.Name == host.NativeSnapshotter && m.Fuse.FuseOverlay == "" && !m.Facts.Root() && !m.Facts.Kernel.AtLeast(5, 11) {
		mend += "; or " + m.Distribution.install("fuse-overlayfs", "fuse-overlayfs", "fuse-overlayfs")
	}
	return Limited, fmt.Sprintf("%s, as %s: %s", s.Name, why, s.Cost), mend
}

// Below these a pull or a container soon fails.
const (
	littleSpace  = 1 << 30
	littleInodes = 50_000
)

const makeRoom = "containr images lists what takes the room; containr rmi IMAGE, containr rm CONTAINER"

func space(m *Machine) (State, string, string) {
	s := m.Storage
	what := fmt.Sprintf("%s of %s are free", units.HumanSize(float64(s.Free)), units.HumanSize(float64(s.Size)))
	if s.Free < littleSpace {
		return Limited, what, makeRoom
	}
	return OK, what, ""
}

func inodes(m *Machine) (State, string, string) {
	s := m.Storage
	switch {
	case s.Inodes == 0:
		return OK, "as many files as there is room for", ""
	case s.FreeInodes < littleInodes:
		return Limited, fmt.Sprintf("%d more files can be made, of %d; a large image has as many", s.FreeInodes, s.Inodes), makeRoom
	}
	return OK, fmt.Sprintf("%d more files can be made", s.FreeInodes), ""
}

func openFiles(m *Machine) (State, string, string) {
	const little = 1024
	if m.OpenFiles < little {
		return Limited, fmt.Sprintf("programs begin with at most %d open files", m.OpenFiles), "ulimit -n 1024; or containr run --ulimit nofile=1024"
	}
	return OK, fmt.Sprintf("programs begin with at most %d open files", m.OpenFiles), ""
}
