package safepath

import (
	"errors"
	"io/fs"
	"math"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fail wraps the error of a call on the component base of d.
func (d *Dir) fail(op, base string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: join(d.path, base), Err: err}
}

// Create makes the regular file base, which must not exist, and returns its
// descriptor, open for reading and writing. The umask applies to perm.
func (d *Dir) Create(base string, perm uint32) (fd int, err error) {
	if err := check(base); err != nil {
		return -1, d.fail("create", base, err)
	}
	for {
		fd, err = unix.Openat(d.fd, base, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
		if err != unix.EINTR {
			return fd, d.fail("create", base, err)
		}
	}
}

// Open opens base without following a symbolic link (ELOOP). The empty name
// opens the directory itself.
func (d *Dir) Open(base string, flags int) (fd int, err error) {
	fd, err = openat2(d.fd, base, flags|unix.O_NOFOLLOW, 0,
		unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	return fd, d.fail("open", base, err)
}

// check refuses what is not one component of a name. The calls that take it
// would accept "..", and mkdirat(2) a whole path.
func check(base string) error {
	if base == "" || base == "." || base == ".." || strings.ContainsAny(base, "/\x00") {
		return unix.EINVAL
	}
	return nil
}

// Mkdir makes the directory base; the umask applies to perm.
func (d *Dir) Mkdir(base string, perm uint32) error {
	err := check(base)
	if err == nil {
		err = unix.Mkdirat(d.fd, base, perm)
	}
	return d.fail("mkdir", base, err)
}

// Symlink makes base a symbolic link to target, which is never looked at.
func (d *Dir) Symlink(target, base string) error {
	err := check(base)
	if err == nil {
		err = unix.Symlinkat(target, d.fd, base)
	}
	return d.fail("symlink", base, err)
}

// Link makes base another name of oldBase in old, which may be a symbolic link
// and is then linked itself.
func (d *Dir) Link(old *Dir, oldBase, base string) error {
	err := errors.Join(check(oldBase), check(base))
	if err == nil {
		err = unix.Linkat(old.fd, oldBase, d.fd, base, 0)
	}
	return d.fail("link", base, err)
}

// Mknod makes a device, fifo or socket; mode and dev are those of mknod(2),
// the umask applies. Making is harmless to the host: nothing is opened.
func (d *Dir) Mknod(base string, mode uint32, dev uint64) error {
	err := check(base)
	if err == nil {
		err = unix.Mknodat(d.fd, base, mode, int(dev))
	}
	return d.fail("mknod", base, err)
}

// Lstat describes base itself, a symbolic link included; the empty name is the
// directory.
func (d *Dir) Lstat(base string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
	return st, d.fail("stat", base, err)
}

// Readlink returns the target of the symbolic link base; EINVAL if it is none.
func (d *Dir) Readlink(base string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(d.fd, base, buf)
	if err != nil {
		return "", d.fail("readlink", base, err)
	}
	return string(buf[:n]), nil
}

// Chown changes the owner of base itself.
func (d *Dir) Chown(base string, uid, gid int) error {
	return d.fail("chown", base, unix.Fchownat(d.fd, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH))
}

// Chtimes sets the times of base itself, in nanoseconds as far as the file
// system keeps them. Times that it cannot represent become its first or last.
func (d *Dir) Chtimes(base string, atime, mtime time.Time) error {
	ts := []unix.Timespec{Timespec(atime), Timespec(mtime)}
	return d.fail("set times", base,
		unix.UtimesNanoAt(d.fd, base, ts, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH))
}

// Timespec converts a time for utimensat(2) without the overflow of
// time.Time.UnixNano, which knows only the years 1678 to 2262.
func Timespec(t time.Time) unix.Timespec {
	ts, err := unix.TimeToTimespec(t)
	switch {
	case err == nil:
		return ts
	case t.Unix() < 0: // 32-bit machines count no seconds before 1901 and after 2038
		ts, _ = unix.TimeToTimespec(time.Unix(math.MinInt32, 0))
	default:
		ts, _ = unix.TimeToTimespec(time.Unix(math.MaxInt32, 0))
	}
	return ts
}

// Chmod changes the permission bits, set-id bits and sticky bit of base. It
// refuses a symbolic link with ENOTSUP: they have no mode. chmod(2) by path
// would follow it, and fchmodat2(2) came only with Linux 6.6.
func (d *Dir) Chmod(base string, mode uint32) error {
	if base == "" {
		return d.fail("chmod", base, unix.Chmod(procPath(d.fd), mode))
	}
	fd, err := d.Open(base, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return d.fail("chmod", base, unix.Chmod(procPath(fd), mode))
}

// Setxattr sets an extended attribute of base itself.
func (d *Dir) Setxattr(base, attr string, value []byte) error {
	p, err := d.xattrPath(base)
	if err == nil {
		err = unix.Lsetxattr(p, attr, value, 0)
	}
	return d.fail("set "+attr+" of", base, err)
}

// Getxattr returns an extended attribute of base itself; ENODATA if it has
// none of that name.
func (d *Dir) Getxattr(base, attr string) ([]byte, error) {
	p, err := d.xattrPath(base)
	if err != nil {
		return nil, d.fail("get "+attr+" of", base, err)
	}
	value, err := grow(func(buf []byte) (int, error) { return unix.Lgetxattr(p, attr, buf) })
	return value, d.fail("get "+attr+" of", base, err)
}

// Listxattr returns the names of all extended attributes of base itself.
func (d *Dir) Listxattr(base string) ([]string, error) {
	p, err := d.xattrPath(base)
	if err != nil {
		return nil, d.fail("list attributes of", base, err)
	}
	list, err := grow(func(buf []byte) (int, error) { return unix.Llistxattr(p, buf) })
	if err != nil || len(list) == 0 {
		return nil, d.fail("list attributes of", base, err)
	}
	return strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00"), nil
}

// xattrPath names base for the calls on extended attributes, which have no *at
// form before Linux 6.13: through the descriptor of its directory, with the
// last component not followed by the l... calls.
func (d *Dir) xattrPath(base string) (string, error) {
	if base == "" {
		return procPath(d.fd) + "/.", nil
	}
	return procPath(d.fd) + "/" + base, check(base)
}

// grow calls get with larger buffers until its result fits. 64 KiB is the
// limit of Linux for a value and for the list of names (xattr(7)).
func grow(get func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 16 {
		buf := make([]byte, size)
		n, err := get(buf)
		if err == unix.ERANGE && size < 1<<16 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}

// Rename moves base of d to newBase of to, replacing what is there.
func (d *Dir) Rename(base string, to *Dir, newBase string) error {
	err := errors.Join(check(base), check(newBase))
	if err == nil {
		err = unix.Renameat(d.fd, base, to.fd, newBase)
	}
	d.root.cache.clear(d)
	return d.fail("rename", base, err)
}

// Names lists the directory base in no particular order; the empty name is d.
func (d *Dir) Names(base string) ([]string, error) {
	fd, err := d.Open(base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	names, err := names(fd)
	return names, d.fail("list", path.Clean(base), err)
}
