//go:build linux

package sys

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// ReadFile reads a file of at most limit bytes, of /proc, /sys or the disk. Unlike
// os.ReadFile it makes five calls and not ten: nothing is registered with the poller. A longer file is an error.
func ReadFile(path string, limit int) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	size, room := room(fd, limit)
	b := make([]byte, 0, room)
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return b, nil
		}
		if b = b[:len(b)+n]; len(b) > limit {
			return nil, fmt.Errorf("read %s: more than %d bytes", path, limit)
		}
		if len(b) == size && len(b) < cap(b) { // the kernel had no more to give
			return b, nil
		}
	}
}

// ReadFileAt reads a regular file of at most limit bytes in a directory, in three calls if it is shorter than the capacity
// of buf. What it returns may lie in buf. The path is that of the directory, for errors.
func ReadFileAt(dir int, path, name string, buf []byte, limit int) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path + "/" + name, Err: err}
	}
	defer unix.Close(fd)
	for b := buf[:0]; ; {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path + "/" + name, Err: err}
		}
		if b = b[:len(b)+n]; len(b) > limit {
			return nil, fmt.Errorf("read %s/%s: more than %d bytes", path, name, limit)
		}
		if len(b) < cap(b) { // of a regular file less is read only at its end
			return b, nil
		}
	}
}

// room returns how much there is in a file, and how much memory to read it into: one byte more than
// it has, so that its end is seen. Files of /proc and /sys say that they have none, or a page; most
// are short.
func room(fd, limit int) (size, room int) {
	const short = 512
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > int64(limit) {
		return -1, short
	}
	return int(st.Size), max(int(st.Size)+1, short)
}

// WriteFile makes or replaces a file, mode 0600, in one write. It is not atomic and
// nothing is synced: see internal/durable for files that must survive.
func WriteFile(path string, data []byte) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil && !errors.Is(err, unix.EINTR) {
			unix.Close(fd)
			return &fs.PathError{Op: "write", Path: path, Err: err}
		}
		data = data[max(n, 0):]
	}
	if err := unix.Close(fd); err != nil {
		return &fs.PathError{Op: "close", Path: path, Err: err}
	}
	return nil
}
