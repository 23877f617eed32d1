package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/internal/sys"
	"golang.org/x/sys/unix"
)

// Driver is a way to present a chain as one tree. All of them work on the same layers, so that a store can be used with
// one today and another tomorrow; but what a container has changed (its upper directory) must be looked at with the
// driver that it was prepared with.
type Driver string

const (
	// Overlay has the kernel's overlayfs stack the layers. It costs nothing for each container, and is what the empty
	// Driver means.
	Overlay Driver = "overlay"
	// Erofs is Overlay, and has new layers kept as EROFS images, one file each, which are mounted for each container.
	// It takes root and Linux 6.12.
	Erofs Driver = "erofs"
	// Fuse has a program stack the layers, fuse-overlayfs(1), for each container, where the kernel lets nobody but root do
	// so. It takes a little longer for everything that is done with files.
	Fuse Driver = "fuse-overlayfs"
	// Native copies the layers, for each container. It takes nothing but a file system.
	Native Driver = "native"
	// Btrfs copies the layers of a chain once, sharing their blocks, into a subvolume of which each container gets a
	// snapshot. The store and the upper directory must be on one btrfs.
	Btrfs Driver = "btrfs"
)

// whole reports whether a container's upper directory has all of its tree, not only what it has changed.
func (d Driver) whole() bool { return d == Native || d == Btrfs }

// With returns the same store with another driver.
func (s *Store) With(d Driver) *Store {
	other := *s
	other.opts.Driver = d
	other.marks.fuse = d == Fuse
	return &other
}

// Driver is the way in which the store presents chains.
func (s *Store) Driver() Driver {
	if s.opts.Driver == "" {
		return Overlay
	}
	return s.opts.Driver
}

// makeTree makes the directory that a whole tree is to be copied into, and opens it: for btrfs one that there can be
// snapshots of.
func (s *Store) makeTree(dir string, mk maker) (*safepath.Root, error) {
	if s.opts.Driver == Btrfs {
		err := inDir(filepath.Dir(dir), func(parent int) error { return sys.BtrfsSubvolume(parent, filepath.Base(dir)) })
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return makeRoot(dir, mk)
}

// snapshotOnce makes dir a btrfs snapshot of the tree of the chain all, unless dir exists.
func (s *Store) snapshotOnce(ctx context.Context, all []Info, dir string) error {
	if len(all) == 0 {
		return s.copyOnce(ctx, all, dir)
	}
	flat, err := s.flat(ctx, all)
	if err != nil {
		return err
	}
	err = inDir(flat, func(source int) error {
		return inDir(filepath.Dir(dir), func(parent int) error { return sys.BtrfsSnapshot(parent, filepath.Base(dir), source) })
	})
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOTTY):
		// The flat tree was made by the native driver, or dir is elsewhere.
		return s.copyOnce(ctx, all, dir)
	}
	return err
}

// inDir opens a directory for f.
func inDir(dir string, f func(fd int) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(int(d.Fd()))
}
