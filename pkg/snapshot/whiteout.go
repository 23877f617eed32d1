package snapshot

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containr/containr/internal/safepath"
	"golang.org/x/sys/unix"
)

// In an archive, an empty file ".wh.NAME" says that NAME of the lower view is
// gone, and ".wh..wh..opq" that everything in its directory is (OCI image
// specification, "Whiteouts"). Both concern lower layers only: what the same
// layer has stays, whatever the order of the entries. Other names that begin
// with ".wh..wh." are left over from aufs and mean nothing.
const (
	whiteoutPrefix = ".wh."
	aufsPrefix     = ".wh..wh."
	opaqueMark     = ".wh..wh..opq"
)

// mark is what a name says beyond naming a file.
type mark int

const (
	markNone mark = iota
	markWhiteout
	markOpaque
	markIgnored
)

// markOf tells what the cleaned name means.
func markOf(name string) (mark, error) {
	if !strings.Contains(name, whiteoutPrefix) {
		return markNone, nil
	}
	parts := strings.Split(name, "/")
	last := len(parts) - 1
	for _, p := range parts[:last] {
		if strings.HasPrefix(p, aufsPrefix) {
			return markIgnored, nil
		}
		if strings.HasPrefix(p, whiteoutPrefix) {
			return markNone, fmt.Errorf("%w: a whiteout is used as a directory", ErrMalformed)
		}
	}
	return markOfBase(parts[last])
}

func markOfBase(base string) (mark, error) {
	switch {
	case base == opaqueMark:
		return markOpaque, nil
	case strings.HasPrefix(base, aufsPrefix):
		return markIgnored, nil
	case !strings.HasPrefix(base, whiteoutPrefix):
		return markNone, nil
	}
	switch base[len(whiteoutPrefix):] {
	case "", ".", "..":
		// ".wh..." would remove the directory above.
		return markNone, fmt.Errorf("%w: whiteout of no name", ErrMalformed)
	}
	return markWhiteout, nil
}

// marks is how a store marks removed files and opaque directories.
type marks struct {
	// opaque is the attribute, with the value "y", of a directory that hides what is below it.
	opaque string
	// whiteout is the attribute of an empty file of mode plainMode that stands for a removed one; empty where that is
	// a character device 0:0.
	whiteout string
	// fuse says that fuse-overlayfs writes to a container's directory, which has ways of its own to mark things if those
	// of overlayfs are closed to it: an attribute, and files with the names that archives have.
	fuse bool
}

// fusePrefix begins the names of attributes that fuse-overlayfs keeps for itself.
const fusePrefix = "user.fuseoverlayfs."

// plainMode lets its owner, who may be an ordinary user, read the attribute of a whiteout.
const plainMode = 0o400

// plainPrefix begins the names of attributes that are marks for us alone.
const plainPrefix = "user.containr."

// marksIn says how the store in dir marks things: by the attribute that overlayfs knows (mounted with "userxattr" it
// takes one that needs no privilege), unless dir is itself on an overlay.
func marksIn(dir string, rootless bool) (marks, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return marks{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	switch {
	case st.Type == unix.OVERLAYFS_SUPER_MAGIC:
		return marks{opaque: plainPrefix + "opaque", whiteout: plainPrefix + "whiteout"}, nil
	case rootless:
		return marks{opaque: "user.overlay.opaque"}, nil
	}
	return marks{opaque: "trusted.overlay.opaque"}, nil
}

// plain reports whether the marks mean nothing to the kernel.
func (m marks) plain() bool { return m.whiteout != "" }

// makeWhiteout marks name, which must not exist, as removed.
func (m marks) makeWhiteout(d *safepath.Dir, name string) error {
	if !m.plain() {
		return d.Mknod(name, unix.S_IFCHR, 0)
	}
	fd, err := d.Create(name, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return errors.Join(openInode(fd).setxattr(m.whiteout, "y"), openInode(fd).chmod(plainMode))
}

// isWhiteout tells the mark of a removed file.
func (m marks) isWhiteout(d *safepath.Dir, base string, st unix.Stat_t) (bool, error) {
	switch {
	case !m.plain():
		return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0, nil
	case st.Mode != unix.S_IFREG|plainMode || st.Size != 0:
		return false, nil
	}
	return hasMark(d, base, m.whiteout)
}

// isOpaque tells a directory that hides what is below it.
func (m marks) isOpaque(d *safepath.Dir, base string) (bool, error) {
	opaque, err := hasMark(d, base, m.opaque)
	if err != nil || opaque || !m.fuse {
		return opaque, err
	}
	return hasMark(d, base, fusePrefix+"opaque")
}

// hidden reports whether something that is not there is marked as removed by a file beside it.
func (m marks) hidden(d *safepath.Dir, base string) bool {
	if !m.fuse {
		return false
	}
	_, err := d.Lstat(whiteoutPrefix + base)
	return err == nil
}

// hasMark reports whether the attribute says yes.
func hasMark(d *safepath.Dir, base, xattr string) (bool, error) {
	value, err := d.Getxattr(base, xattr)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return false, nil
	}
	return string(value) == "y", err
}

// makeOpaque makes d hide the content of the lower directory, of which it
// keeps the metadata unless an entry gives another.
func (a *applier) makeOpaque(d *safepath.Dir) error {
	if d.Path() == "" {
		a.opaqueRoot = true
		if a.lower != nil {
			a.lower.layers[0].opaqueRoot = true
		}
		return nil
	}
	return d.Setxattr("", a.marks.opaque, []byte("y"))
}

// whiteout hides name of the lower view.
func (a *applier) whiteout(d *safepath.Dir, name string) error {
	err := a.marks.makeWhiteout(d, name)
	if err == nil {
		a.usage.Inodes++
		a.whiteouts = append(a.whiteouts, join(d.Path(), name))
		return nil
	}
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	st, err := d.Lstat(name)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err // any file hides what has its name
	}
	if err := d.Setxattr(name, a.marks.opaque, []byte("y")); err != nil {
		return err
	}
	if note := a.dirs[join(d.Path(), name)]; note.implicit {
		*note = dirNote{meta: a.maker.implied()}
	}
	return nil
}

// hide is a whiteout that takes the place of what the layer itself has there.
func (a *applier) hide(d *safepath.Dir, name string) error {
	err := a.place(d, name, func() error { return a.marks.makeWhiteout(d, name) })
	if err == nil {
		a.whiteouts = append(a.whiteouts, join(d.Path(), name))
	}
	return err
}
