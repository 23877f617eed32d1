//go:build linux

package sys

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReadNow is read(2) of a descriptor that never waits. Go's scheduler is not told of the call: to tell it wakes sysmon, the
// thread that looks after the others, out of the sleep that it is in while nothing runs, and in a program that waits for
// packets, that is each time.
func ReadNow(fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// WriteNow is writev(2), as ReadNow is read(2).
func WriteNow(fd int, parts ...[]byte) (int, error) {
	var few [8]unix.Iovec // of more it is not on the stack
	list := few[:0]
	for _, p := range parts {
		if len(p) > 0 {
			v := unix.Iovec{Base: &p[0]}
			v.SetLen(len(p))
			list = append(list, v)
		}
	}
	if len(list) == 0 {
		return 0, nil
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&list[0])), uintptr(len(list)))
	runtime.KeepAlive(parts)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
