package host

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Storage is what a directory can hold of root file systems.
type Storage struct {
	// FileSystem is the type of its file system, "" if it is none of those that matter here.
	FileSystem string
	// Overlay says that the kernel has overlayfs, or can load it.
	Overlay bool
	// FuseOverlay is the path of the program fuse-overlayfs(1), "" if there is none; FuseDevice says that the user may open
	// /dev/fuse, through which the kernel would ask it, FuseForAll that everybody may.
	FuseOverlay string
	FuseDevice  bool
	FuseForAll  bool
	// Erofs says that the kernel has EROFS, or can load it.
	Erofs bool
}

// Snapshotter is one way to give containers their root file systems.
type Snapshotter struct {
	// Name is that of the driver, as pkg/snapshot calls it.
	Name string
	// Problem says why it cannot be used here, empty if it can; Mend what would help.
	Problem, Mend string
	// Cost is what it takes that better ones do not; empty for the best.
	Cost string
}

// mapsOwners are the file systems that id-mapped mounts can be made of, with the kernels
// that can, as these call them.
var mapsOwners = map[string]Kernel{"ext4": {5, 12}, "xfs": {5, 12}, "vfat": {5, 12}, "btrfs": {5, 15}, "f2fs": {5, 18}, "erofs": {5, 19}, "tmpfs": {6, 3}}

// NoMappedLayers says why an overlay cannot be made, for a container whose users are others
// on the host, of layers that lie there once with the owners that images name; empty if it
// can. Else the layers have to be copied for each map of users.
func (f *Facts) NoMappedLayers(on Storage) string {
	since, ok := mapsOwners[on.FileSystem]
	switch {
	case !f.Root():
		return "only root maps the owners of files"
	case !f.HasMappedLayers():
		return fmt.Sprintf("Linux %s has no overlay of id-mapped layers (5.19 has)", f.Kernel)
	case !ok && on.FileSystem == "":
		return "the file system of the state root has no id-mapped mounts"
	case !ok || !f.Kernel.AtLeast(since.Major, since.Minor):
		return fmt.Sprintf("%s has no id-mapped mounts in Linux %s", on.FileSystem, f.Kernel)
	}
	return ""
}

// ErrSnapshotter means that a snapshotter that was asked for cannot be used.
var ErrSnapshotter = errors.New("snapshotter cannot be used here")

// Names of snapshotters, and what asks for the best that can be used.
const (
	AutoSnapshotter    = "auto"
	OverlaySnapshotter = "overlay"
	BtrfsSnapshotter   = "btrfs"
	ErofsSnapshotter   = "erofs"
	FuseSnapshotter    = "fuse-overlayfs"
	NativeSnapshotter  = "native"
)

// SnapshotterNames are what can be asked for.
func SnapshotterNames() []string {
	return []string{AutoSnapshotter, OverlaySnapshotter, BtrfsSnapshotter, ErofsSnapshotter, FuseSnapshotter, NativeSnapshotter}
}

// Snapshotters lists all ways, the best first. inUserNamespace says that the container, not the host, would mount.
func (f *Facts) Snapshotters(on Storage, inUserNamespace bool) []Snapshotter {
	overlay := Snapshotter{Name: OverlaySnapshotter}
	overlay.Problem, overlay.Mend = f.noOverlay(on, inUserNamespace)
	btrfs := Snapshotter{Name: BtrfsSnapshotter, Cost: "each image's tree is made once more, sharing its blocks; a container's is a snapshot of it"}
	if on.FileSystem != "btrfs" {
		btrfs.Problem, btrfs.Mend = "the state root is not on a btrfs", "name a directory on one with --root"
	}
	fuse := Snapshotter{Name: FuseSnapshotter, Cost: "a program stacks the layers, one for each container, and all that is done with files takes longer"}
	fuse.Problem, fuse.Mend = noFuse(on, inUserNamespace && f.Root())
	erofs := Snapshotter{Name: ErofsSnapshotter, Cost: "each container mounts its layers, and has a cache of its own of what it reads of them"}
	erofs.Problem, erofs.Mend = f.noErofs(on, inUserNamespace)
	return []Snapshotter{overlay, btrfs, fuse, {Name: NativeSnapshotter, Cost: "each container has a copy of its image's files, which takes time and room"}, erofs}
}

// noUpper are file systems on which an overlay cannot have its writable layer, as the kernel calls them.
var noUpper = []string{"overlay", "overlayfs", "proc", "sysfs", "nfs", "nfs4", "cifs", "smb3", "9p", "fuse", "fuseblk", "virtiofs", "vfat", "exfat", "ecryptfs"}

func (f *Facts) noOverlay(on Storage, inUserNamespace bool) (problem, mend string) {
	switch {
	case !on.Overlay:
		return "the kernel has no overlay file system", "sudo modprobe overlay"
	case inUserNamespace && !f.Kernel.AtLeast(5, 11):
		return fmt.Sprintf("Linux %s lets only root mount an overlay (5.11 lets everybody)", f.Kernel), "boot a newer kernel"
	case slices.Contains(noUpper, on.FileSystem):
		return "the state root is on " + on.FileSystem + ", where an overlay cannot have its writable layer", "name a directory on ext4, xfs, btrfs or tmpfs with --root"
	}
	return "", ""
}

// noErofs says why layers cannot be kept as EROFS images, and overlays be made of them. The kernel reads such an image from a
// file, without a loop device, from Linux 6.12 on, if the file system has that by pages (address_space_operations.read_folio),
// which tmpfs has not.
func (f *Facts) noErofs(on Storage, inUserNamespace bool) (problem, mend string) {
	switch {
	case !on.Erofs:
		return "the kernel has no EROFS", "sudo modprobe erofs"
	case !f.Root():
		return "only root mounts EROFS images", "run as root"
	case inUserNamespace:
		return "only the host's root mounts EROFS images, and this container's root is another user whose layers cannot be mapped", "use --snapshotter overlay for it"
	case !f.Kernel.AtLeast(6, 12):
		return fmt.Sprintf("Linux %s mounts EROFS images from block devices only (6.12 does so from files)", f.Kernel), "boot a newer kernel"
	case on.FileSystem == "tmpfs":
		return "the state root is on tmpfs, from which the kernel mounts no EROFS images", "name a directory on ext4, xfs or btrfs with --root"
	}
	return f.noOverlay(on, inUserNamespace)
}

// noFuse says why the program fuse-overlayfs cannot stack layers. asAnother says that the container's root is another user
// of the host than the one who is asked about.
func noFuse(on Storage, asAnother bool) (problem, mend string) {
	switch {
	case on.FuseOverlay == "":
		return "the program fuse-overlayfs is not installed", "sudo apt-get install fuse-overlayfs"
	case !on.FuseDevice || asAnother && !on.FuseForAll:
		return "/dev/fuse is not there, or the container's root may not open it", "sudo modprobe fuse; sudo chmod 666 /dev/fuse"
	case on.FileSystem == "overlay", on.FileSystem == "overlayfs":
		return "the state root is on " + on.FileSystem + ", and what stands for a removed file there means nothing to fuse-overlayfs", "name a directory on ext4, xfs, btrfs or tmpfs with --root"
	}
	return "", ""
}

// idMapSince says from which kernel on a file system can be mounted with a map of ids; of those that are not named the
// first kernel that knows such mounts can do so, or it is not known here.
var idMapSince = map[string]Kernel{"btrfs": {5, 15}, "tmpfs": {6, 3}}

// NoIDMap says why a directory on this file system cannot be mounted so that its files appear with other owners
// (id-mapped), and what would help; empty if it can. Of a file system that containr does not know, the kernel has the
// last word.
func (f *Facts) NoIDMap(fileSystem string) (problem, mend string) {
	never := []string{"overlay", "overlayfs", "proc", "sysfs", "nfs", "nfs4", "cifs", "smb3", "9p", "ecryptfs"}
	switch since := idMapSince[fileSystem]; {
	case !f.HasMountSetattr():
		return fmt.Sprintf("id-mapped mounts need Linux 5.12, this is %s", f.Kernel), "boot a newer kernel"
	case slices.Contains(never, fileSystem):
		return "the kernel makes no id-mapped mounts of " + fileSystem, "name a directory on ext4, xfs or btrfs with --root"
	case !f.Kernel.AtLeast(since.Major, since.Minor):
		return fmt.Sprintf("id-mapped mounts of %s need Linux %s, this is %s", fileSystem, since, f.Kernel), "boot a newer kernel, or name a directory on ext4 with --root"
	}
	return "", ""
}

// ChooseSnapshotter finds the way that was asked for, by its name, or for "" and auto the first that can be used. why says
// what is wrong with a better one, empty if there is none. If what was asked for cannot be used, the error wraps
// ErrSnapshotter.
func ChooseSnapshotter(ways []Snapshotter, asked string) (s Snapshotter, why string, err error) {
	if asked == "" || asked == AutoSnapshotter {
		for _, w := range ways {
			if w.Problem == "" {
				return w, why, nil
			}
			if why == "" {
				why = w.Name + ": " + w.Problem
			}
		}
		return s, why, fmt.Errorf("%w: %s", ErrSnapshotter, why)
	}
	for _, w := range ways {
		switch {
		case w.Name != asked:
		case w.Problem != "":
			return w, "", &SnapshotterError{w}
		default:
			return w, "it was asked for", nil
		}
	}
	return s, "", fmt.Errorf("snapshotter %q: %w: use %s", asked, ErrSnapshotter, strings.Join(SnapshotterNames(), ", "))
}

// SnapshotterError says why a snapshotter that was asked for cannot be used.
type SnapshotterError struct{ Snapshotter }

func (e *SnapshotterError) Error() string {
	return fmt.Sprintf("snapshotter %s: %v: %s", e.Name, ErrSnapshotter, e.Problem)
}

func (e *SnapshotterError) Unwrap() error { return ErrSnapshotter }
