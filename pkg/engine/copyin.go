package engine

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/safepath"
)

// unpacking writes an archive into a directory. The archive may be anybody's: whatever its names and
// links say, nothing outside of the directory is touched. Devices are refused.
type unpacking struct {
	root *safepath.Root
	// archive keeps owners, set-user-ID bits and extended attributes; else all belongs to uid and gid.
	archive  bool
	host     bool
	uid, gid int

	dirs []*tar.Header // that were made, whose metadata changes with what comes into them
}

// unpack reads the archive to its end.
func (u *unpacking) unpack(ctx context.Context, r io.Reader) error {
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = u.entry(h, archive)
		}
		if err != nil {
			return fmt.Errorf("copy: %w", err)
		}
	}
	for i := len(u.dirs) - 1; i >= 0; i-- {
		d, base, err := u.root.Parent(u.dirs[i].Name)
		if err == nil {
			err = u.dress(d, base, u.dirs[i])
		}
		if err != nil {
			return fmt.Errorf("copy: %w", err)
		}
	}
	_, err := io.Copy(io.Discard, r) // the padding
	return err
}

// entry makes one entry of the archive.
func (u *unpacking) entry(h *tar.Header, content io.Reader) error {
	name, err := safepath.Clean(h.Name)
	if err != nil || name == "" {
		return err // the directory that is copied to stays as it is
	}
	h.Name = name
	d, base, err := u.root.MakeParent(name, makeMissing)
	if err != nil {
		return err
	}
	isDir := h.Typeflag == tar.TypeDir
	there, mounted, err := clear(d, base, isDir)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if there {
			return nil // as it is
		}
		u.dirs = append(u.dirs, h)
		return d.Mkdir(base, 0o700)
	case tar.TypeReg:
		if err := fill(d, base, content, mounted); err != nil || mounted {
			return err
		}
	case tar.TypeSymlink:
		err = d.Symlink(h.Linkname, base)
	case tar.TypeLink:
		return u.link(h, d, base)
	case tar.TypeFifo:
		err = d.Mknod(base, unix.S_IFIFO|0o600, 0)
	default:
		return &fs.PathError{Op: "make", Path: name, Err: errors.New("it is a device, or of an unknown kind; files, directories, links and fifos are copied")}
	}
	if err != nil {
		return err
	}
	return u.dress(d, base, h)
}

// makeMissing makes a directory that the archive has no entry for.
func makeMissing(d *safepath.Dir, base string) (string, error) { return "", d.Mkdir(base, 0o755) }

// clear makes room for an entry. there says that it is a directory and may stay, mounted that it
// is a mount of a file: that can be filled, and not replaced.
func clear(d *safepath.Dir, base string, isDir bool) (there, mounted bool, err error) {
	st, err := d.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	switch wasDir := st.Mode&unix.S_IFMT == unix.S_IFDIR; {
	case wasDir && isDir:
		return true, false, nil
	case wasDir:
		return false, false, &fs.PathError{Op: "replace", Path: base, Err: ErrIsDirectory}
	case isDir:
		return false, false, &fs.PathError{Op: "replace", Path: base, Err: ErrNotDirectory}
	}
	err = d.Remove(base)
	if errors.Is(err, unix.EBUSY) && st.Mode&unix.S_IFMT == unix.S_IFREG {
		return false, true, nil
	}
	return false, false, err
}

// fill makes a regular file, or fills one that is there, with the content.
func fill(d *safepath.Dir, base string, content io.Reader, there bool) error {
	var fd int
	var err error
	if there {
		fd, err = d.Open(base, unix.O_WRONLY|unix.O_TRUNC|unix.O_NONBLOCK)
	} else {
		fd, err = d.Create(base, 0o600)
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// link makes a further name of a file that came before.
func (u *unpacking) link(h *tar.Header, d *safepath.Dir, base string) error {
	old, oldBase, err := u.root.Parent(h.Linkname)
	if err != nil {
		return err
	}
	st, err := old.Lstat(oldBase)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return &fs.PathError{Op: "link", Path: h.Linkname, Err: safepath.ErrNotRegular}
	}
	return d.Link(old, oldBase, base)
}

// dress gives an entry its owner, mode and times.
func (u *unpacking) dress(d *safepath.Dir, base string, h *tar.Header) error {
	uid, gid, mode := u.uid, u.gid, uint32(h.Mode)&0o7777
	if u.archive {
		uid, gid = h.Uid, h.Gid
	} else if u.host { // a program of a container's must not get the rights of who copies it
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	if err := d.Chown(base, uid, gid); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeSymlink {
		return d.Chtimes(base, h.ModTime, h.ModTime)
	}
	if u.archive {
		for key, value := range h.PAXRecords {
			attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
			if !ok {
				continue
			}
			if err := d.Setxattr(base, attr, []byte(value)); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
				return err
			}
		}
	}
	if err := d.Chmod(base, mode); err != nil {
		return err
	}
	return d.Chtimes(base, h.ModTime, h.ModTime)
}
