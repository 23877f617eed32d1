//go:build linux

package sys

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The heads of union bpf_attr (include/uapi/linux/bpf.h) for the two commands below, as
// 64-bit machines lay them out. The kernel takes what is missing at the end as zeroes.
type bpfLoad struct {
	kind, count     uint32
	code, license   unsafe.Pointer
	level, logSize  uint32
	log             unsafe.Pointer
	version, flags  uint32
	name            [16]byte
	index, expected uint32
}

type bpfAttach struct {
	target, program, kind, flags, replaced uint32
}

type bpfQuery struct {
	target, kind, queryFlags, attachFlags uint32
	ids                                   unsafe.Pointer
	count                                 uint32
}

type bpfInfoOf struct {
	fd, size uint32
	info     unsafe.Pointer
}

// bpfInfo is the head of struct bpf_prog_info.
type bpfInfo struct {
	kind, id       uint32
	tag            [8]byte
	jited, xlated  uint32
	pointers       [2]uint64
	loaded         uint64
	uid, mapsCount uint32
	maps           uint64
	name           [16]byte
}

// AttachDeviceFilter loads an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE and
// attaches it to the cgroup v2 directory that dirFD is open on, beside filters that
// are there already (BPF_F_ALLOW_MULTI): all of them must agree to an access. The
// program holds struct bpf_insn instructions and belongs to the directory from then
// on; it goes when the directory goes. It takes CAP_BPF and CAP_NET_ADMIN, or
// CAP_SYS_ADMIN, in the initial user namespace.
//
// The error carries what the kernel's verifier said if the program was refused.
func AttachDeviceFilter(dirFD int, program []byte) error {
	fd, err := loadDeviceFilter(program)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	attr := bpfAttach{
		target: uint32(dirFD), program: uint32(fd), kind: unix.BPF_CGROUP_DEVICE, flags: unix.BPF_F_ALLOW_MULTI,
	}
	if _, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return fmt.Errorf("attach device filter: %w", err)
	}
	return nil
}

// ReplaceDeviceFilter is AttachDeviceFilter for a directory that may have a filter of
// an earlier call: the new one takes its place in one step. Filters of others stay.
// It takes CAP_SYS_ADMIN in the initial user namespace.
func ReplaceDeviceFilter(dirFD int, program []byte) error {
	old, err := attachedFilter(dirFD)
	if err != nil {
		return err
	}
	if old < 0 {
		return AttachDeviceFilter(dirFD, program)
	}
	defer unix.Close(old)
	fd, err := loadDeviceFilter(program)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	attr := bpfAttach{
		target: uint32(dirFD), program: uint32(fd), kind: unix.BPF_CGROUP_DEVICE,
		flags: unix.BPF_F_ALLOW_MULTI | unix.BPF_F_REPLACE, replaced: uint32(old),
	}
	if _, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return fmt.Errorf("replace device filter: %w", err)
	}
	return nil
}

// attachedFilter opens the program of our name that is attached to the directory
// itself, -1 if there is none. The kernel allows 64 of them in one place.
func attachedFilter(dirFD int) (int, error) {
	var ids [64]uint32
	query := bpfQuery{target: uint32(dirFD), kind: unix.BPF_CGROUP_DEVICE, ids: unsafe.Pointer(&ids[0]), count: uint32(len(ids))}
	if _, err := bpf(unix.BPF_PROG_QUERY, unsafe.Pointer(&query), unsafe.Sizeof(query)); err != nil {
		return -1, fmt.Errorf("list device filters: %w", err)
	}
	for _, id := range ids[:min(int(query.count), len(ids))] {
		attr := [3]uint32{id} // prog_id, next_id, open_flags
		fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
		if err == unix.ENOENT {
			continue // it was detached meanwhile
		}
		if err != nil {
			return -1, fmt.Errorf("open device filter %d: %w", id, err)
		}
		var info bpfInfo
		ask := bpfInfoOf{fd: uint32(fd), size: uint32(unsafe.Sizeof(info)), info: unsafe.Pointer(&info)}
		if _, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&ask), unsafe.Sizeof(ask)); err == nil && unix.ByteSliceToString(info.name[:]) == filterName {
			return fd, nil
		}
		unix.Close(fd)
	}
	return -1, nil
}

// filterName tells our programs from those of others, systemd's for example.
const filterName = "containr"

// loadDeviceFilter loads without the verifier's log first, because making the log
// costs time and a program that passes has none to read.
func loadDeviceFilter(program []byte) (int, error) {
	if len(program) == 0 || len(program)%8 != 0 {
		return -1, fmt.Errorf("load device filter: %w: %d bytes are no instructions", unix.EINVAL, len(program))
	}
	license := []byte("MIT\x00")
	attr := bpfLoad{
		kind:     unix.BPF_PROG_TYPE_CGROUP_DEVICE,
		count:    uint32(len(program) / 8),
		code:     unsafe.Pointer(&program[0]),
		license:  unsafe.Pointer(&license[0]),
		expected: unix.BPF_CGROUP_DEVICE,
	}
	copy(attr.name[:], filterName)
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err == unix.EPERM {
		// Before Linux 5.11 programs count as locked memory, of which a user
		// may have 64 kB, over all processes.
		lower := raiseMemlock()
		defer lower()
		fd, err = bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	}
	if err == nil {
		return fd, nil
	}
	log := make([]byte, 16<<10)
	attr.level, attr.logSize, attr.log = 1, uint32(len(log)), unsafe.Pointer(&log[0])
	fd, err = bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return -1, fmt.Errorf("load device filter: %w: %s", err, unix.ByteSliceToString(log))
	}
	return fd, nil
}

// raiseMemlock lifts the limit of locked memory if it can, and returns what sets it
// back. Programs that other threads start meanwhile inherit the lifted limit.
func raiseMemlock() (lower func()) {
	var old unix.Rlimit
	none := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &none, &old) != nil {
		return func() {}
	}
	return func() { _ = unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &old, nil) } // lowering is always allowed
}

// bpf is bpf(2), tried again when a signal interrupted the verifier (EAGAIN).
func bpf(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	for tries := 0; ; tries++ {
		r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
		if errno == 0 {
			return int(r), nil
		}
		if errno != unix.EAGAIN || tries == 5 {
			return -1, errno
		}
	}
}
