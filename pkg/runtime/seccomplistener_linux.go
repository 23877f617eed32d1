package runtime

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/pkg/plan/linux"
)

// sendListener copies the listener out of the process and sends it with the state, all
// in one message on a connection of its own.
func sendListener(c linux.SendListener, pid, number int) error {
	st := new(specs.ContainerProcessState)
	if err := quickjson.Decode(c.State, st); err != nil {
		return err
	}
	st.Pid = pid
	if st.State.Pid == 0 {
		st.State.Pid = pid
	}
	text, err := quickjson.Append(nil, st)
	if err != nil {
		return err
	}
	fd, err := copyFD(pid, number)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	sock, err := connect(c.Path)
	if err != nil {
		return fmt.Errorf("seccomp agent at %s: %w", c.Path, err)
	}
	defer unix.Close(sock)
	n, err := unix.SendmsgN(sock, text, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
	for err == nil && n < len(text) {
		text = text[n:]
		n, err = unix.SendmsgN(sock, text, nil, nil, unix.MSG_NOSIGNAL)
	}
	if err != nil {
		return fmt.Errorf("seccomp agent at %s: send: %w", c.Path, err)
	}
	return nil
}

// copyFD copies a descriptor of another process.
func copyFD(pid, number int) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, number, 0)
	if err != nil {
		return -1, fmt.Errorf("pidfd_getfd of process %d: %w", pid, err)
	}
	return fd, nil
}

// maxSocketPath is how long the path of a socket may be, unix(7).
const maxSocketPath = 107

// connect connects to a stream socket. A path too long for an address is reached by
// way of its directory.
func connect(path string) (int, error) {
	if len(path) > maxSocketPath {
		dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		defer unix.Close(dir)
		path = "/proc/self/fd/" + strconv.Itoa(dir) + "/" + filepath.Base(path)
	}
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for {
		err := unix.Connect(sock, &unix.SockaddrUnix{Name: path})
		if err == nil {
			return sock, nil
		}
		if !errors.Is(err, unix.EINTR) {
			unix.Close(sock)
			return -1, err
		}
	}
}
