//go:build linux

package sys

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of this file are for sockets that never wait, and as ReadNow Go's scheduler is not told of them.

// Peer is one end of a connection: an address of version 4 in the first four bytes if it is not Six, and the host's zone of one of version 6.
type Peer struct {
	Address [16]byte
	Six     bool
	Zone    uint32
	Port    uint16
}

// raw writes the address as the kernel reads it, and returns how many bytes it has.
func (p *Peer) raw(to *unix.RawSockaddrInet6) uintptr {
	if p.Six {
		*to = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: p.Address, Scope_id: p.Zone}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&to.Port))[:], p.Port)
		return unix.SizeofSockaddrInet6
	}
	four := (*unix.RawSockaddrInet4)(unsafe.Pointer(to))
	*four = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: [4]byte(p.Address[:4])}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&four.Port))[:], p.Port)
	return unix.SizeofSockaddrInet4
}

func (p *Peer) read(from *unix.RawSockaddrInet6) {
	*p = Peer{Port: binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&from.Port))[:])}
	if from.Family == unix.AF_INET6 {
		p.Six, p.Address, p.Zone = true, from.Addr, from.Scope_id
		return
	}
	four := (*unix.RawSockaddrInet4)(unsafe.Pointer(from))
	copy(p.Address[:], four.Addr[:])
}

// result is what a call has returned.
func result(n, _ uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// DialNow begins to connect a new socket of TCP: connect(2), with EINPROGRESS beside the socket if it is not done yet.
func DialNow(to *Peer) (fd int, err error) {
	var address unix.RawSockaddrInet6
	size := to.raw(&address)
	fd, err = result(unix.RawSyscall(unix.SYS_SOCKET, uintptr(address.Family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0))
	if err != nil {
		return fd, err
	}
	_, err = result(unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&address)), size))
	if err != nil && err != unix.EINPROGRESS {
		CloseNow(fd)
		return -1, err
	}
	return fd, err
}

// AcceptNow is accept4(2) of a listener that never waits; the socket does not wait either.
func AcceptNow(listener int) (fd int, from Peer, err error) {
	var address unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(address))
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&address)), uintptr(unsafe.Pointer(&size)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	fd, err = result(n, 0, errno)
	from.read(&address)
	return fd, from, err
}

// SetNow is setsockopt(2) with a number.
func SetNow(fd, level, option, value int) error {
	v := int32(value)
	return setNow(fd, level, option, unsafe.Pointer(&v), 4)
}

func setNow(fd, level, option int, value unsafe.Pointer, size uintptr) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(value), size, 0)
	_, err := result(0, 0, errno)
	return err
}

// ResetNow closes a connection so that the other end sees that it was cut off.
func ResetNow(fd int) {
	l := unix.Linger{Onoff: 1}
	_ = setNow(fd, unix.SOL_SOCKET, unix.SO_LINGER, unsafe.Pointer(&l), unsafe.Sizeof(l)) // it may have ended
	CloseNow(fd)
}

// ErrorNow is what has become of a connection that was begun, SO_ERROR.
func ErrorNow(fd int) error {
	var v int32
	size := uint32(4)
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR, uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&size)), 0)
	if errno == 0 {
		errno = unix.Errno(v)
	}
	_, err := result(0, 0, errno)
	return err
}

// EndNow is shutdown(2) of what is sent.
func EndNow(fd int) error {
	_, err := result(unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0))
	return err
}

// CloseNow is close(2), which closes whatever it says.
func CloseNow(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// WatchNow has an epoll(7) tell of all that happens to a descriptor, once each time, by a number.
func WatchNow(poll, fd int, number int32) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: number}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(poll), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&e)), 0, 0)
	_, err := result(0, 0, errno)
	return err
}

// HappenedNow says what has happened, as epoll_wait(2) that does not wait.
func HappenedNow(poll int, list []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(poll), uintptr(unsafe.Pointer(&list[0])), uintptr(len(list)), 0, 0, 0)
	return result(n, 0, errno)
}
