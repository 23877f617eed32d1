//go:build linux

// Package sys wraps the system calls of the host side that golang.org/x/sys lacks.
//
// # Theory of operation
//
// Each function is one call, with Go values in the place of pointers, and an errno
// (unix.Errno) as the error. Memory that the kernel reads is kept alive across the
// call. Nothing else is decided here.
package sys

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bpf(2) commands and types.
const (
	bpfProgLoad         = 5
	bpfProgAttach       = 8
	bpfTypeCgroupDevice = 15
	bpfAttachDevice     = 6
	bpfAllowMulti       = 2
	bpfInstructionSize  = 8
)

// AttachDeviceFilter loads an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE and
// attaches it to the cgroup v2 directory that dirfd is open on, in addition to those
// that are there. program holds struct bpf_insn instructions. It needs CAP_BPF or
// CAP_SYS_ADMIN, and CAP_NET_ADMIN before Linux 5.8; see bpf(2).
func AttachDeviceFilter(dirfd int, program string) error {
	code := []byte(program)
	license := []byte("MIT\x00")
	load := struct {
		kind, count       uint32
		code, license     uint64
		level, size       uint32
		log               uint64
		version, flags    uint32
		name              [16]byte
		ifindex, expected uint32
	}{
		kind: bpfTypeCgroupDevice, count: uint32(len(code) / bpfInstructionSize),
		code: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(code)))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, bpfProgLoad, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	runtime.KeepAlive(code)
	runtime.KeepAlive(license)
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(fd))
	attach := struct{ target, prog, kind, flags, replace uint32 }{
		target: uint32(dirfd), prog: uint32(fd), kind: bpfAttachDevice, flags: bpfAllowMulti,
	}
	_, _, errno = unix.Syscall(unix.SYS_BPF, bpfProgAttach, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach))
	if errno != 0 {
		return errno
	}
	return nil
}
