package engine

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// WriteFile lets write fill the file of a name that the user gave. It appears complete or not at all, with that mode, in the place of
// the regular file that is there, or of a link to one: in a directory of everybody's it may be anybody's. But what is none, a fifo or a
// device, is written to as it is, and /dev/stdout and the like are the stream that they mean: nothing takes their place.
func WriteFile(path string, mode os.FileMode, write func(io.Writer) error) error {
	end, special, err := followLinks(path)
	if err != nil {
		return err
	}
	if special {
		f, err := openInPlace(path, end)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".containr-*")
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Chmod(mode)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// followLinks returns where a name leads to, and whether that is something else than a regular file. There may be nothing yet.
func followLinks(path string) (string, bool, error) {
	const most = 40 // path_resolution(7)
	asked := path
	for range most {
		dir, err := filepath.EvalSymlinks(filepath.Dir(filepath.Clean(path)))
		if err != nil {
			return "", false, err
		}
		path = filepath.Join(dir, filepath.Base(path))
		if strings.HasPrefix(path, "/proc/") {
			return path, true, nil // its links lead to streams, not to names
		}
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return path, false, nil
		}
		if err != nil {
			return "", false, err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			return path, !info.Mode().IsRegular(), nil
		}
		link, err := os.Readlink(path)
		if err != nil {
			return "", false, err
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(dir, link)
		}
		path = link
	}
	return "", false, &os.PathError{Op: "open", Path: asked, Err: unix.ELOOP}
}

// openInPlace opens what is no regular file; end is where path leads to. A stream of our own goes on where it is: opened anew it would
// begin at its start. All else is opened by its own name, so that the kernel judges links that are somebody else's
// (proc(5), protected_symlinks).
func openInPlace(path, end string) (*os.File, error) {
	own, err := filepath.EvalSymlinks("/proc/self/fd")
	if err == nil && filepath.Dir(end) == own {
		if fd, err := strconv.Atoi(filepath.Base(end)); err == nil {
			dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return nil, &os.PathError{Op: "dup", Path: path, Err: err}
			}
			return os.NewFile(uintptr(dup), path), nil
		}
	}
	return os.OpenFile(path, os.O_WRONLY, 0)
}
