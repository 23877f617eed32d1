package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Changes tells when the files of a container change.
type Changes struct{ notices *os.File }

// Watch begins to notice changes of a container's state, and its end. The error wraps ErrNotFound if
// there is no such container. The caller closes it.
func (s *Store) Watch(id string) (*Changes, error) {
	dir, err := s.Dir(id)
	if err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("container %s: watch its state: %w", id, os.NewSyscallError("inotify_init1", err))
	}
	c := &Changes{os.NewFile(uintptr(fd), "inotify")}
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO|unix.IN_CREATE|unix.IN_MODIFY|unix.IN_DELETE|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF)
	if err == nil {
		return c, nil
	}
	c.Close()
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotFound
	}
	return nil, fmt.Errorf("container %s: watch its state: %w", id, err)
}

// Next waits until something has changed since Watch, or since Next returned last. It ends with
// fs.ErrClosed when the watch is closed.
func (c *Changes) Next() error {
	var b [4096]byte
	_, err := c.notices.Read(b[:])
	return err
}

// Close ends the watch.
func (c *Changes) Close() error { return c.notices.Close() }
