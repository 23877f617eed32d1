package snapshot

import (
	"errors"
	"fmt"
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

// opaqueXattr is the attribute by which overlayfs knows a directory that hides
// what is below it; mounted with "userxattr" it takes one that needs no
// privilege.
func (s *Store) opaqueXattr() string {
	if s.opts.Rootless {
		return "user.overlay.opaque"
	}
	return "trusted.overlay.opaque"
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
	return d.Setxattr("", a.opaque, []byte("y"))
}

// whiteout hides name of the lower view.
func (a *applier) whiteout(d *safepath.Dir, name string) error {
	err := d.Mknod(name, unix.S_IFCHR, 0)
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
	if err := d.Setxattr(name, a.opaque, []byte("y")); err != nil {
		return err
	}
	if note := a.dirs[join(d.Path(), name)]; note.implicit {
		*note = dirNote{meta: a.maker.implied()}
	}
	return nil
}

// hide is a whiteout that takes the place of what the layer itself has there.
func (a *applier) hide(d *safepath.Dir, name string) error {
	err := a.place(d, name, func() error { return d.Mknod(name, unix.S_IFCHR, 0) })
	if err == nil {
		a.whiteouts = append(a.whiteouts, join(d.Path(), name))
	}
	return err
}
