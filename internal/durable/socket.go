package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// Listen makes the socket name in dir, for its owner alone (mode 0600). One that is there is of a process that was killed:
// the caller holds the lock that says that there is no other. The socket stays when the listener is closed, since by then
// it may be somebody else's.
func Listen(dir, name string) (net.Listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	path := filepath.Join(dir, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", SocketAddress(d, name))
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	return l, os.Chmod(path, 0o600)
}

// SocketAddress is the address of the socket name in dir by way of a descriptor, while that is open: the length of a
// socket's path is limited, see unix(7).
func SocketAddress(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}
