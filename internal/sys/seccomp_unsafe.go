//go:build linux

package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Notification is a system call that waits for the word of a seccomp filter's listener: struct seccomp_notif of
// seccomp_unotify(2), Linux 5.0. It has no padding, on any architecture.
type Notification struct {
	ID         uint64
	PID, Flags uint32
	// Number, Arch (AUDIT_ARCH_*), IP and Args are struct seccomp_data.
	Number int32
	Arch   uint32
	IP     uint64
	Args   [6]uint64
}

// seccompAnswer is struct seccomp_notif_resp.
type seccompAnswer struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// Requests of a listener, and the flag that has the kernel make the call after all (Linux 5.5): linux/seccomp.h.
const (
	seccompReceive  = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	seccompSend     = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND
	seccompContinue = 1          // SECCOMP_USER_NOTIF_FLAG_CONTINUE
)

// ReceiveNotification takes the next call from a listener, and waits for one. ENOENT says that who made it has been
// killed meanwhile, EINTR that a signal came.
func ReceiveNotification(listener int) (Notification, error) {
	var n Notification
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), seccompReceive, uintptr(unsafe.Pointer(&n)))
	if errno != 0 {
		return n, errno
	}
	return n, nil
}

// ContinueNotification has the kernel make the call of a notification. ENOENT says that who made it is gone.
func ContinueNotification(listener int, id uint64) error {
	a := seccompAnswer{id: id, flags: seccompContinue}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), seccompSend, uintptr(unsafe.Pointer(&a)))
	if errno != 0 {
		return errno
	}
	return nil
}
