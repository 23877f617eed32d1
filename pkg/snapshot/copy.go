package snapshot

import (
	"errors"
	"fmt"
	"io"

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
	if err := copyData(dst, src, st.Size); err != nil {
		return fmt.Errorf("copy %q: %w", base, err)
	}
	return mk.apply(openInode(dst), m, false, false)
}

// copyData copies a file, sharing its blocks where the file system can
// (FICLONE), else in the kernel and keeping its holes.
func copyData(dst, src int, size int64) error {
	if unix.IoctlFileClone(dst, src) == nil {
		return nil
	}
	for offset := int64(0); offset < size; {
		begin, err := unix.Seek(src, offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // only a hole is left
		}
		if err != nil {
			return wrap("seek", err)
		}
		end, err := unix.Seek(src, begin, unix.SEEK_HOLE)
		if err != nil {
			return wrap("seek", err)
		}
		if err := copyRange(dst, src, begin, end); err != nil {
			return err
		}
		offset = end
	}
	return wrap("truncate", unix.Ftruncate(dst, size))
}

// copyRange copies the bytes from begin to end, in the kernel if it can.
func copyRange(dst, src int, begin, end int64) error {
	for begin < end {
		in, out := begin, begin
		n, err := unix.CopyFileRange(src, &in, dst, &out, int(min(end-begin, 1<<30)), 0)
		switch {
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			return copyPlain(dst, src, begin, end)
		case err != nil:
			return wrap("copy_file_range", err)
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		begin += int64(n)
	}
	return nil
}

func copyPlain(dst, src int, begin, end int64) error {
	buf := make([]byte, min(end-begin, 256<<10))
	for begin < end {
		n, err := unix.Pread(src, buf[:min(int64(len(buf)), end-begin)], begin)
		if err != nil {
			return wrap("read", err)
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		if err := pwrite(dst, buf[:n], begin); err != nil {
			return err
		}
		begin += int64(n)
	}
	return nil
}
