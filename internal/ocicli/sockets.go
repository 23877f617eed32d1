package ocicli

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// dial connects to a Unix socket. The package net would take longer to begin than the
// runtime has.
func dial(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// The words that runc sends beside the descriptor of a process.
const (
	firstProcess   = "standard"
	furtherProcess = "setns"
)

// sendPidfd sends a descriptor of a process, pidfd_open(2), to a Unix socket.
func sendPidfd(path string, pid int, which string) error {
	if path == "" {
		return nil
	}
	s, err := dial(path)
	if err != nil {
		return fmt.Errorf("--pidfd-socket: %w", err)
	}
	defer s.Close()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.Sendmsg(int(s.Fd()), []byte(which), unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("--pidfd-socket %s: sendmsg: %w", path, err)
	}
	return nil
}

// receiveFile receives a descriptor from a Unix socket.
func receiveFile(socket *os.File) (*os.File, error) {
	b, control := make([]byte, 256), make([]byte, unix.CmsgSpace(4))
	var n int
	err := error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		_, n, _, _, err = unix.Recvmsg(int(socket.Fd()), b, control, unix.MSG_CMSG_CLOEXEC)
	}
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.New("no descriptor came over the socket")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("no descriptor came over the socket")
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}
