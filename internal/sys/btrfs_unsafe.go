//go:build linux

package sys

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of btrfs and what they take, btrfs-ioctl(2). Both take a page, with the name, closed by a zero, at its end.
const (
	btrfsSubvolumeCreate = 0x5000940e // BTRFS_IOC_SUBVOL_CREATE
	btrfsSnapshotCreate  = 0x50009417 // BTRFS_IOC_SNAP_CREATE_V2
)

type btrfsVolume struct { // struct btrfs_ioctl_vol_args
	fd   int64
	name [4088]byte
}

type btrfsVolume2 struct { // struct btrfs_ioctl_vol_args_v2
	fd      int64
	transid uint64
	flags   uint64
	unused  [4]uint64
	name    [4040]byte
}

// BtrfsSubvolume makes the subvolume name, a plain name, in the directory that parent stands for. It is owned by the
// caller, as a directory that mkdir(2) makes.
func BtrfsSubvolume(parent int, name string) error {
	var a btrfsVolume
	if copy(a.name[:len(a.name)-1], name) < len(name) {
		return unix.ENAMETOOLONG
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(parent), btrfsSubvolumeCreate, uintptr(unsafe.Pointer(&a))); errno != 0 {
		return fmt.Errorf("ioctl BTRFS_IOC_SUBVOL_CREATE %q: %w", name, errno)
	}
	return nil
}

// BtrfsSnapshot makes name, in the directory that parent stands for, a writable snapshot of the subvolume whose root
// directory source stands for. Both must be of the same file system. The kernel says EINVAL if source is no subvolume.
func BtrfsSnapshot(parent int, name string, source int) error {
	a := btrfsVolume2{fd: int64(source)}
	if copy(a.name[:len(a.name)-1], name) < len(name) {
		return unix.ENAMETOOLONG
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(parent), btrfsSnapshotCreate, uintptr(unsafe.Pointer(&a))); errno != 0 {
		return fmt.Errorf("ioctl BTRFS_IOC_SNAP_CREATE_V2 %q: %w", name, errno)
	}
	return nil
}
