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

// createTemporary makes a new file beside path, so that both are on the same
// file system and rename works.
func createTemporary(path string, mode fs.FileMode) (*os.File, error) {
	for n := 0; ; n++ {
		name := fmt.Sprintf("%s%s%d-%d", path, temporaryInfix, os.Getpid(), n)
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return f, err
	}
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
