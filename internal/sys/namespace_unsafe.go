//go:build linux

package sys

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nsGetMntnsID is NS_GET_MNTNS_ID of ioctl_nsfs(2), Linux 6.11.
const nsGetMntnsID = 0x8008b705

// MountNamespaceID returns the number of the mount namespace that the descriptor, of a
// file /proc/PID/ns/mnt, stands for. No other namespace has it until the next boot,
// unlike the inode numbers, which are used again at once. The kernel says ENOTTY before
// Linux 6.11.
func MountNamespaceID(fd int) (uint64, error) {
	var id uint64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), nsGetMntnsID, uintptr(unsafe.Pointer(&id))); errno != 0 {
		return 0, fmt.Errorf("ioctl NS_GET_MNTNS_ID: %w", errno)
	}
	return id, nil
}
