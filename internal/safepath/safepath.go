// Package safepath opens and changes things inside a directory tree that
// somebody else controls.
//
// # Theory of operation
//
// The root file system of an image, and even more so that of a running
// container, is written by people we do not trust. A program that runs on the
// host and works with paths in there can be led astray in five ways:
//
//   - absolute and climbing names: "/etc/passwd" and "../../etc/passwd" name
//     files of the host when they are joined to the root carelessly;
//   - symbolic links in the middle: where "a" is a link to "/etc", writing
//     "a/passwd" changes the host, although the name has nothing strange;
//   - symbolic links at the end: chmod(2), chown(2), truncating and opening
//     follow them;
//   - races: whoever checks a path and then uses it can be overtaken by a process
//     that swaps a component for a link between the two;
//   - surprising kinds: opening a fifo waits for ever, opening a device acts on
//     hardware, a "small text file" has 10 GB, a link under /proc leads to any
//     open file of any process (a "magic link").
//
// The answer to the first four is never to let the kernel look up a path from
// the process's own root. A [Root] holds a descriptor of the top of the tree.
// Names are resolved with openat2(2) under RESOLVE_IN_ROOT, which makes the tree
// look as if it were chroot(2)ed into: absolute links and ".." end at its top,
// and the kernel, not we, deals with renames that happen meanwhile.
// RESOLVE_NO_MAGICLINKS closes the way through /proc. openat2(2) came with Linux
// 5.6; all kernels that containr supports have it.
//
// Things are created, removed and changed by a descriptor of their parent
// directory ([Dir]) and one last component that has no slash, with calls that
// do not follow a link there (mkdirat, symlinkat, fchownat with
// AT_SYMLINK_NOFOLLOW, openat with O_CREAT|O_EXCL and so on). A descriptor
// names a directory, not a path: swapping components after the lookup changes
// nothing any more. Where Linux has no such call (extended attributes and the
// mode of something that must not be opened), the object is held by an O_PATH
// descriptor and named as /proc/thread-self/fd/N, of which only we decide what
// it is.
//
// The answer to the fifth is [Root.ReadFile]: it looks before it opens,
// through the same O_PATH descriptor, and stops reading at a limit.
//
// What this package does not promise: a racing process that may rename
// directories of the tree can move one, which we hold, to elsewhere, and what
// is then made in it is made elsewhere. That gives the process nothing: it
// needs the right to write at both places.
//
// Resolving costs one openat2 call and one close per directory, not per file:
// a Root remembers the directories that it used last.
package safepath

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

var (
	// ErrTooLarge is wrapped by ReadFile's error for a file over the limit.
	ErrTooLarge = errors.New("file is larger than the limit")
	// ErrNotRegular is wrapped by ReadFile's error for what is no regular
	// file.
	ErrNotRegular = errors.New("not a regular file")
)

// inRoot makes openat2(2) treat a directory as the root of everything.
const inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// Root is the top of a tree that is not trusted. It must not be used by
// several goroutines at once: the directories that it remembers are not
// locked.
type Root struct {
	top   *Dir
	cache cache
}

// OpenRoot opens the directory at dir, a path on the host that is trusted.
func OpenRoot(dir string) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	r := &Root{top: &Dir{fd: fd}}
	r.top.root = r
	return r, nil
}

// Close forgets the tree. Descriptors that were handed out stay open.
func (r *Root) Close() error {
	r.cache.clear(nil)
	return unix.Close(r.top.fd)
}

// Forget makes the next lookups start afresh. It is needed only by callers
// whose [Obstacle] does not always give the same answer; no Dir is valid
// afterwards.
func (r *Root) Forget() { r.cache.clear(nil) }

// Clean returns name as the tree sees it: without leading slash, "." and ".."
// components; "" is the root itself. A name with a NUL byte is refused: the
// kernel would see only its beginning.
func Clean(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", &fs.PathError{Op: "clean", Path: strconv.Quote(name), Err: unix.EINVAL}
	}
	if isClean(name) {
		return name, nil
	}
	return path.Clean("/" + name)[1:], nil
}

// isClean spares the usual name, "usr/bin/env", being copied twice.
func isClean(name string) bool {
	for rest, more := name, true; more; {
		var c string
		c, rest, more = strings.Cut(rest, "/")
		if c == "" || c == "." || c == ".." {
			return false
		}
	}
	return true
}

// OpenFile opens name inside the tree, following symbolic links inside it,
// with the flags and mode of open(2); O_CLOEXEC and O_NOCTTY are added.
// Opening what may be a fifo or device is the caller's decision: see
// [Root.ReadFile].
func (r *Root) OpenFile(name string, flags int, perm uint32) (*os.File, error) {
	c, err := Clean(name)
	if err != nil {
		return nil, err
	}
	if flags&unix.O_CREAT == 0 {
		perm = 0
	}
	fd, err := openat2(r.top.fd, c, flags, perm, inRoot)
	if err != nil {
		return nil, &fs.PathError{Op: "openat2", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// ReadFile returns the content of the regular file name, following symbolic
// links inside the tree. A file over limit bytes is an error that wraps
// ErrTooLarge; a fifo, device, socket or directory is one that wraps
// ErrNotRegular and has not been opened.
func (r *Root) ReadFile(name string, limit int64) ([]byte, error) {
	p, err := r.OpenFile(name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	info, err := p.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "read", Path: name, Err: ErrNotRegular}
	case info.Size() > limit:
		return nil, &fs.PathError{Op: "read", Path: name, Err: ErrTooLarge}
	}
	f, err := os.Open(procPath(int(p.Fd())))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = &fs.PathError{Op: "read", Path: name, Err: ErrTooLarge}
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// procPath names the object that fd holds, whatever kind it is. Our own /proc
// is trusted; the tree's is never used.
func procPath(fd int) string {
	return "/proc/thread-self/fd/" + strconv.Itoa(fd)
}

// busyTries bounds how often a lookup is repeated that the kernel gave up
// because of a rename elsewhere in the tree (EAGAIN of openat2(2)).
const busyTries = 256

// openat2 opens name under dirfd; an empty name is dirfd itself.
func openat2(dirfd int, name string, flags int, perm uint32, resolve uint64) (int, error) {
	if name == "" {
		name = "."
	}
	if flags&unix.O_PATH == 0 { // which openat2(2) refuses to combine with it
		flags |= unix.O_NOCTTY
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Mode: uint64(perm), Resolve: resolve}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dirfd, name, &how)
		if err == unix.EINTR || err == unix.EAGAIN && try < busyTries {
			continue
		}
		return fd, err
	}
}
