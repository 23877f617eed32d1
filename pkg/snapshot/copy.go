package snapshot

import (
	"fmt"

	"github.com/containr/containr/internal/safepath"
	"golang.org/x/sys/unix"
)

// copyFile copies the file fromBase, which st and m describe and which is no
// directory, to base of d, which must not exist.
func copyFile(mk maker, from *safepath.Dir, fromBase string, st unix.Stat_t, m meta, d *safepath.Dir, base string) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return copyRegular(mk, from, fromBase, st, m, d, base)
	case unix.S_IFLNK:
		target, err := from.Readlink(fromBase)
		if err == nil {
			err = d.Symlink(target, base)
		}
		if err != nil {
			return err
		}
		owned := m.uid == mk.uid && m.gid == mk.gid
		return mk.apply(namedInode{d, base}, m, owned, true)
	}
	if err := d.Mknod(base, st.Mode, st.Rdev); err != nil {
		return err
	}
	return mk.apply(namedInode{d, base}, m, false, false)
}

func copyRegular(mk maker, from *safepath.Dir, fromBase string, st unix.Stat_t, m meta, d *safepath.Dir, base string) error {
	src, err := from.Open(fromBase, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := d.Create(base, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	if err := safepath.CopyData(dst, src, st.Size); err != nil {
		return fmt.Errorf("copy %q: %w", base, err)
	}
	return mk.apply(openInode(dst), m, false, false)
}
