package safepath

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Remove removes base, which is no directory or an empty one.
func (d *Dir) Remove(base string) error {
	if err := check(base); err != nil {
		return d.fail("remove", base, err)
	}
	d.root.cache.clear(d)
	return d.fail("remove", base, unlink(d.fd, base))
}

// unlink removes a name whatever kind it is, but no directory that has content
// (ENOTEMPTY).
func unlink(dirfd int, base string) error {
	err := unix.Unlinkat(dirfd, base, 0)
	if err == unix.EISDIR {
		err = unix.Unlinkat(dirfd, base, unix.AT_REMOVEDIR)
	}
	return err
}

// RemoveAll removes base with everything below it. It is no error when base
// does not exist. Symbolic links are removed, never followed; directories
// without permissions are given some first, which their owner may do.
func (d *Dir) RemoveAll(base string) error {
	if err := check(base); err != nil {
		return d.fail("remove", base, err)
	}
	d.root.cache.clear(d)
	err := removeTree(d.fd, base)
	if err == unix.ENOENT {
		return nil
	}
	return d.fail("remove", base, err)
}

// RemoveAll removes the tree at dir, whose parent is trusted, as
// [Dir.RemoveAll] does.
func RemoveAll(dir string) error {
	r, err := OpenRoot(filepath.Dir(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	err = r.top.RemoveAll(filepath.Base(dir))
	if Denied != nil && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)) {
		if removed, helpErr := Denied(dir); removed || helpErr != nil {
			return helpErr
		}
	}
	return err
}

// Denied, if it is set, is asked by RemoveAll to remove a tree with files of which this process has not the right to; it reports
// whether it is somebody who has. It is set before there is a second goroutine.
var Denied func(dir string) (bool, error)

// removeTree removes base of dirfd. Every name is tried as a file first: most
// are.
func removeTree(dirfd int, base string) error {
	err := unlinkWritable(dirfd, base)
	if err != unix.ENOTEMPTY && err != unix.EEXIST {
		return err
	}
	r := remover{dirfd: dirfd, base: base}
	if err := r.empty(dirfd, base, 0); err != nil {
		return err
	}
	return rmdir(dirfd, base)
}

// rmdir is unlink for what was a directory a moment ago.
func rmdir(dirfd int, base string) error {
	err := unix.Unlinkat(dirfd, base, unix.AT_REMOVEDIR)
	if err == unix.ENOTDIR {
		err = unlink(dirfd, base)
	}
	return err
}

// unlinkWritable is unlink, which makes the directory writable and tries again
// when an unprivileged owner has taken that right from himself.
func unlinkWritable(dirfd int, base string) error {
	err := unlink(dirfd, base)
	if err == unix.EACCES && unix.Chmod(procPath(dirfd), 0o700) == nil {
		err = unlink(dirfd, base)
	}
	return err
}

// maxOpen is how deep removal descends with one descriptor per level. A tree
// may be deeper than there are descriptors (or bytes in PATH_MAX): what lies
// below is first moved up.
const maxOpen = 200

// remover removes the content of one tree.
type remover struct {
	dirfd int // holds the tree
	base  string
	moved int
}

// empty removes all that is in base of dirfd, depth levels below the top.
func (r *remover) empty(dirfd int, base string, depth int) error {
	fd, err := openList(dirfd, base)
	if err != nil {
		return err
	}
	list, err := namesIn(fd)
	for _, name := range list {
		if err = r.remove(fd, name, depth); err != nil && err != unix.ENOENT {
			break
		}
		err = nil
	}
	unix.Close(fd)
	return err
}

func (r *remover) remove(fd int, name string, depth int) error {
	err := unlinkWritable(fd, name)
	if err != unix.ENOTEMPTY && err != unix.EEXIST {
		return err
	}
	if depth >= maxOpen {
		return r.raise(fd, name)
	}
	if err := r.empty(fd, name, depth+1); err != nil {
		return err
	}
	return rmdir(fd, name)
}

// raise moves the directory name of fd up beside the top of the tree and
// removes it from there.
func (r *remover) raise(fd int, name string) error {
	r.moved++
	up := r.base + ".removed-" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(r.moved)
	if err := unix.Renameat(fd, name, r.dirfd, up); err != nil {
		return err
	}
	return removeTree(r.dirfd, up)
}

// openList opens a directory for listing, without following a link.
// O_DIRECTORY keeps a fifo or device that was swapped in from being opened.
func openList(dirfd int, base string) (int, error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(dirfd, base, flags, 0)
	if err != unix.EACCES {
		return fd, err
	}
	held, err := unix.Openat(dirfd, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(held)
	if err := unix.Chmod(procPath(held), 0o700); err != nil {
		return -1, err
	}
	return unix.Open(procPath(held), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// namesIn lists a directory that nobody has read from before. Nothing is in one that somebody else has removed meanwhile.
func namesIn(fd int) (list []string, err error) {
	for buf := make([]byte, 4096); ; {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ENOENT || err == nil && n <= 0 {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		_, _, list = unix.ParseDirent(buf[:n], -1, list)
	}
}

// names lists a directory and closes its descriptor.
func names(fd int) ([]string, error) {
	defer unix.Close(fd)
	return namesIn(fd)
}
