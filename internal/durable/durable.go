// Package durable keeps files that survive crashes.
//
// # Theory of operation
//
// Everything that containr remembers is a plain file, and any process may be
// killed, or the power may fail, between any two system calls. Three shapes
// of file cover every need:
//
//   - a small file that is replaced as a whole ([WriteFile]): the new content
//     is written to a temporary file beside the old one, flushed, and renamed
//     over it. rename(2) is atomic, so that a reader sees the old content or
//     the new and never a mixture, without taking any lock;
//   - a lock ([Acquire]): flock(2) on a file that holds no data. The kernel drops
//     it when its holder dies, so that there is no stale lock to break;
//   - a journal ([Journal]): records are only ever appended, each as a line with
//     its checksum. A crash can only damage the end, which reading ignores.
//
// A daemon's socket is not remembered, but is left behind like a file: [Listen] takes
// the place of one whose owner was killed.
//
// A full disk must not keep anybody from making room: whoever removes a container
// writes first that it is to end. [Reserve] keeps room for one more content of a
// small file, and WriteFile takes it when there is no other.
//
// Flushing to the disk is the default, as forgetting it is found out too late.
// [Options].Volatile turns it off for what need not outlive a boot.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Options says how a file is written. The zero value is the safe choice.
type Options struct {
	// Mode holds the permission bits of a file that is made, 0600 if zero. The
	// umask applies.
	Mode fs.FileMode
	// Volatile leaves out the flushes to the disk. After a crash of a process
	// the file is still right; after a power failure it may be lost or empty.
	Volatile bool
}

// mode returns the permission bits to create a file with.
func (o Options) mode() fs.FileMode {
	if o.Mode == 0 {
		return 0o600
	}
	return o.Mode.Perm()
}

// WriteFile makes data the content of the file at path. Whoever opens path
// finds either the previous content or all of data, whatever crashes when. If
// it fails, the previous content stays and no temporary file is left behind,
// unless the process is killed meanwhile: then a file named after path, with
// ".tmp-" and digits appended, may stay ([IsTemporary] tells).
//
// Errors are those of the file system, as *fs.PathError.
func WriteFile(path string, data []byte, o Options) error {
	err := replace(path, data, o)
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	spare := useSpare(path, data, o)
	if errors.Is(spare, fs.ErrNotExist) {
		return err
	}
	return spare
}

// replace writes data to a new file, and renames that to path.
func replace(path string, data []byte, o Options) error {
	f, err := createTemporary(path, o.mode())
	if err != nil {
		return err
	}
	if err := fill(f, data, o); err != nil {
		os.Remove(f.Name())
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		os.Remove(f.Name())
		return err
	}
	return syncDirOf(path, o)
}

func syncDirOf(path string, o Options) error {
	if o.Volatile {
		return nil
	}
	return SyncDir(filepath.Dir(path))
}

// fill writes and closes f, flushing it before: a rename may reach the disk
// before the data that it publishes.
func fill(f *os.File, data []byte, o Options) error {
	_, err := f.Write(data)
	if err == nil && !o.Volatile {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// overwrite is fill for a file that has content. The rest of that is cut off once the data is
// there: the other way around, its room would be anybody's for a moment.
func overwrite(f *os.File, data []byte, o Options) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	if err == nil && !o.Volatile {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// createTemporary makes a new file beside path, so that both are on the same
// file system and rename works.
func createTemporary(path string, mode fs.FileMode) (*os.File, error) {
	for n := 0; ; n++ {
		name := fmt.Sprintf("%s%s%d-%d", path, temporaryInfix, os.Getpid(), n)
		f, err := OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return f, err
	}
}

// OpenFile is os.OpenFile for regular files. It makes two calls and not six, as it does not
// find out that the poller cannot wait for such a file. Errors are those of os.OpenFile.
func OpenFile(path string, flags int, mode fs.FileMode) (*os.File, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, uint32(mode.Perm()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		default:
			return os.NewFile(uintptr(fd), path), nil
		}
	}
}

// spareSize is the room that Reserve keeps, in bytes: a block of common file systems.
const spareSize = 4096

// spareOf names the file that keeps room for the one at path.
func spareOf(path string) string { return path + ".spare" }

// Reserve keeps room on the disk for one content of the file at path, of up to 4096 bytes,
// in a file beside it whose name ends in ".spare". WriteFile uses it when the disk is full,
// time and again. Those who write a file with a reserve do so one after another, under a lock
// of theirs. A file system that never writes where it wrote before (btrfs) keeps no promise.
func Reserve(path string, o Options) error {
	f, err := os.OpenFile(spareOf(path), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, o.mode())
	if err != nil {
		return err
	}
	// Zeros that are written, as a hole would have no room behind it. They need no flush:
	// a reserve that a power failure takes is missed only on a disk that is full.
	return fill(f, make([]byte, spareSize), Options{Volatile: true})
}

// useSpare writes data over the reserve of path, where there is room already, and swaps the
// two. The previous content becomes the reserve. The error wraps fs.ErrNotExist if there is
// none.
func useSpare(path string, data []byte, o Options) error {
	spare := spareOf(path)
	f, err := os.OpenFile(spare, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := overwrite(f, data, o); err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, spare, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) { // a file system that swaps nothing: the reserve is used up
		err = unix.Rename(spare, path)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: spare, New: path, Err: err}
	}
	return syncDirOf(path, o)
}

const temporaryInfix = ".tmp-"

// IsTemporary reports whether name is that of a file that WriteFile leaves
// behind when its process is killed. Whoever lists a directory of durable files
// skips those, and may remove them when no writer can be at work.
func IsTemporary(name string) bool {
	ext := filepath.Ext(name)
	return len(ext) > len(temporaryInfix) && ext[:len(temporaryInfix)] == temporaryInfix
}

// SyncDir flushes the directory itself, so that files made, renamed or removed
// in it are so after a power failure too. A file system that cannot flush
// directories (EINVAL, fsync(2)) is taken to need none.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}
