package safepath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxCopyDepth is how deep a tree is that CopyTree copies: two descriptors for each directory on the way have room in 4096, the
// least that kernel and service managers let processes have as their hard limit.
const maxCopyDepth = 1000

// CopyTree copies what is in the directory from to the directory to, both open for
// reading, neither trusted: owners, modes, times, extended attributes, and links as
// links. Devices and fifos are made anew and not opened; sockets, which are nothing
// without their process, are left out. A file with several names has them in the copy too,
// but for more than maxCopyLinks such files whose names are not all met yet. Holes stay
// holes, and blocks are shared where the file system can. With top, to itself gets what
// from has besides its content.
//
// What is copied already stays when it fails. The space of the target is the limit on
// sizes, maxCopyDepth that on depth.
func CopyTree(from, to int, top bool) error {
	source, err := dirAt(from)
	if err != nil {
		return err
	}
	defer source.close()
	target, err := dirAt(to)
	if err != nil {
		return err
	}
	defer target.close()
	c := treeCopy{links: map[[2]uint64]*linked{}}
	defer c.close()
	if err := c.entries(source, target, 0); err != nil || !top {
		return err
	}
	st, err := source.Lstat("")
	if err != nil {
		return err
	}
	return dress(source, target, "", &st)
}

// dirAt makes a Dir with a descriptor of its own out of an open directory.
func dirAt(fd int) (*Dir, error) {
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("copy descriptor %d: %w", fd, err)
	}
	d := &Dir{fd: copied}
	d.root = &Root{top: d}
	return d, nil
}

// maxCopyLinks is how many files CopyTree keeps open because names of theirs are to come.
const maxCopyLinks = 256

// linked is a copy of a file with more names than have been met.
type linked struct {
	fd   int
	rest uint64
}

// treeCopy is a copy under way.
type treeCopy struct{ links map[[2]uint64]*linked }

func (c *treeCopy) close() {
	for _, l := range c.links {
		unix.Close(l.fd)
	}
}

// link makes name another name of a file that was copied before, if st is one, and reports whether.
func (c *treeCopy) link(target *Dir, name string, st *unix.Stat_t) (bool, error) {
	key := [2]uint64{uint64(st.Dev), st.Ino}
	l := c.links[key]
	if l == nil {
		return false, nil
	}
	err := unix.Linkat(unix.AT_FDCWD, procPath(l.fd), target.fd, name, unix.AT_SYMLINK_FOLLOW)
	if l.rest--; l.rest == 0 {
		unix.Close(l.fd)
		delete(c.links, key)
	}
	return true, target.fail("link", name, err)
}

// note remembers a copy whose other names are to come.
func (c *treeCopy) note(target *Dir, name string, st *unix.Stat_t) error {
	if st.Nlink < 2 || len(c.links) == maxCopyLinks {
		return nil
	}
	fd, err := target.Open(name, unix.O_PATH)
	if err == nil {
		c.links[[2]uint64{uint64(st.Dev), st.Ino}] = &linked{fd, uint64(st.Nlink) - 1}
	}
	return err
}

func (c *treeCopy) entries(source, target *Dir, depth int) error {
	if depth > maxCopyDepth {
		return &fs.PathError{Op: "copy", Path: source.path, Err: fmt.Errorf("deeper than %d directories", maxCopyDepth)}
	}
	names, err := source.Names("")
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.entry(source, target, name, depth); err != nil {
			return err
		}
	}
	return nil
}

// entry makes one entry, fills it, and then gives it its metadata: a directory may
// not be writable, and its times change with what is made in it.
func (c *treeCopy) entry(source, target *Dir, name string, depth int) error {
	st, err := source.Lstat(name)
	if err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = c.directory(source, target, name, depth)
	case unix.S_IFREG:
		if done, err := c.link(target, name, &st); done {
			return err
		}
		if err = copyRegular(source, target, name); err == nil {
			err = c.note(target, name, &st)
		}
	case unix.S_IFLNK:
		var link string
		if link, err = source.Readlink(name); err == nil {
			err = target.Symlink(link, name)
		}
	case unix.S_IFSOCK:
		return nil
	default:
		err = target.Mknod(name, st.Mode, uint64(st.Rdev))
	}
	if err != nil {
		return err
	}
	return dress(source, target, name, &st)
}

func (c *treeCopy) directory(source, target *Dir, name string, depth int) error {
	if err := target.Mkdir(name, 0o700); err != nil {
		return err
	}
	from, err := source.descend(name)
	if err != nil {
		return err
	}
	defer from.close()
	to, err := target.descend(name)
	if err != nil {
		return err
	}
	defer to.close()
	return c.entries(from, to, depth+1)
}

func copyRegular(source, target *Dir, name string) error {
	fd, err := source.Open(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	in := os.NewFile(uintptr(fd), name)
	defer in.Close()
	info, err := in.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, source.fail("copy", name, ErrNotRegular))
	}
	made, err := target.Create(name, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(made), name)
	if err := CopyData(made, fd, info.Size()); err != nil {
		return errors.Join(source.fail("copy", name, err), out.Close())
	}
	return out.Close()
}

// dress gives a copy the metadata of its original. Attributes that this file system or
// this user cannot have are left out, as cp(1) does.
func dress(source, target *Dir, name string, st *unix.Stat_t) error {
	if err := target.Chown(name, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	attrs, err := source.Listxattr(name)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	for _, attr := range attrs {
		value, err := source.Getxattr(name, attr)
		if err == nil {
			err = target.Setxattr(name, attr, value)
		}
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENODATA) {
			return err
		}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	if err := target.Chmod(name, st.Mode&0o7777); err != nil {
		return err
	}
	return target.Chtimes(name, time.Unix(st.Atim.Unix()), time.Unix(st.Mtim.Unix()))
}
