package safepath

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// ChownAll gives name, in the tree at dir, and all that is below it to a user and group. Symbolic links below it are
// given away themselves. What has that owner already is left alone, with its times and set-user-ID bits. The tree may
// change meanwhile: what is gone is left out.
func ChownAll(dir, name string, uid, gid int) error {
	root, err := OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	fd, err := openat2(root.top.fd, name, unix.O_PATH|unix.O_NOFOLLOW, 0, inRoot)
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	d := &Dir{fd: fd, path: name}
	d.root = &Root{top: d}
	defer d.close()
	return d.chownBelow("", uid, gid, 0)
}

// chownBelow gives base of d away, and what is in it.
func (d *Dir) chownBelow(base string, uid, gid, depth int) error {
	st, err := d.Lstat(base)
	if err == nil && (int(st.Uid) != uid || int(st.Gid) != gid) {
		err = d.Chown(base, uid, gid)
	}
	if errors.Is(err, unix.ENOENT) && base != "" {
		return nil
	}
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	if depth > maxCopyDepth {
		return d.fail("chown", base, errors.New("too many directories in one another"))
	}
	below := d
	if base != "" {
		if below, err = d.descend(base); err != nil {
			return err
		}
		defer below.close()
	}
	names, err := below.Names("")
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := below.chownBelow(name, uid, gid, depth+1); err != nil {
			return err
		}
	}
	return nil
}
