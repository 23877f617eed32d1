package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/guest/wire"
)

// newRoot is where the new root is made.
const newRoot = "/newroot"

// switchRoot moves the machine from the initramfs to a tmpfs. The first mount of a machine, of type rootfs, has no
// parent: pivot_root(2) refuses to leave it, so runtimes take another path there, which no real host sees.
func switchRoot() error {
	if err := os.Mkdir(newRoot, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("root", newRoot, "tmpfs", 0, "mode=755,size=75%"); err != nil {
		return fmt.Errorf("mount the new root: %w", err)
	}
	if err := filepath.WalkDir("/", moveEntry); err != nil {
		return fmt.Errorf("copy the root: %w", err)
	}
	// The modules are many, and only read: they stay where they are.
	if err := unix.Mount(wire.ModuleDir, newRoot+wire.ModuleDir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind the modules: %w", err)
	}
	return enterNewRoot()
}

// enterNewRoot moves the new root over the old one, as switch_root(8) does.
func enterNewRoot() error {
	if err := unix.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// moveEntry copies one entry of the initramfs to the new root and frees the memory of the old one.
func moveEntry(path string, d fs.DirEntry, err error) error {
	if err != nil || path == "/" {
		return err
	}
	if path == newRoot {
		return fs.SkipDir
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	dst := newRoot + path
	if err := copyEntry(path, dst, st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := unix.Lchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if d.Type()&fs.ModeSymlink == 0 {
		if err := unix.Chmod(dst, st.Mode&0o7777); err != nil { // after chown, which takes set-user-ID away
			return err
		}
	}
	switch {
	case path == wire.ModuleDir:
		return fs.SkipDir
	case d.IsDir():
		return nil
	}
	return os.Remove(path)
}

func copyEntry(path, dst string, st unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return os.Mkdir(dst, 0o755)
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return os.Symlink(target, dst)
	case unix.S_IFREG:
		return copyFile(path, dst)
	}
	return unix.Mknod(dst, st.Mode, int(st.Rdev))
}

func copyFile(path, dst string) error {
	r, err := os.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}
