package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/container"
)

// unpacking writes an archive into a directory. The archive may be anybody's: whatever its names and
// links say, nothing outside of the directory is touched. Devices are refused.
type unpacking struct {
	root *safepath.Root
	// archive keeps owners, set-user-ID and set-group-ID bits and extended attributes; else all belongs to uid and gid, and
	// nothing gives their rights to whoever runs it.
	archive  bool
	uid, gid int
	// users are those that the owners in the archive are, if these are others than here.
	users *home
	// top gives the directory itself what the archive says of it; else it stays as it is.
	top bool
	// staging, if there is one, is a directory of the same file system that nobody else uses. What is no directory is made
	// there, and moved to its place when it is whole: whoever looks, and whatever is killed, sees what was there before or
	// all that is to be. What is at its place stays until then.
	staging *safepath.Root

	dirs []madeDir // whose metadata changes with what comes into them
	kept int       // bytes of their names and attributes
}

// madeDir is what is kept of a directory until all is in it. A header has more, up to a MiB of comments for a kB on the disk.
type madeDir struct {
	name     string
	uid, gid int
	mode     int64
	time     time.Time
	xattrs   map[string]string // as in a header, see xattrPrefix
}

// xattrPrefix begins the keys of a header's records that are extended attributes.
const xattrPrefix = "SCHILY.xattr."

// maxKept bounds the names and attributes of the directories of one archive, in bytes: a million directories, about.
const maxKept = 128 << 20

// errArchive says that an archive is none that can be unpacked.
var errArchive = errors.New("malformed archive")

// unpack reads the archive to its end.
func (u *unpacking) unpack(ctx context.Context, r io.Reader) error {
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("not a whole tar archive: %w", err)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = u.entry(h, patient{ctx, archive})
		}
		if err != nil {
			return err
		}
	}
	for i := len(u.dirs) - 1; i >= 0; i-- {
		err := u.dressDir(u.dirs[i])
		if err != nil {
			return err
		}
	}
	_, err := io.Copy(io.Discard, r) // the padding
	return err
}

// entry makes one entry of the archive.
func (u *unpacking) entry(h *tar.Header, content io.Reader) error {
	name, err := safepath.Clean(h.Name)
	if err != nil {
		return err
	}
	if u.archive && (!isOwner(h.Uid) || !isOwner(h.Gid)) {
		return &fs.PathError{Op: "make", Path: h.Name, Err: fmt.Errorf("%w: owner %d:%d is out of range", errArchive, h.Uid, h.Gid)}
	}
	if u.archive {
		uid, gid, ok := u.users.outside(h.Uid, h.Gid)
		if !ok {
			return &fs.PathError{Op: "make", Path: h.Name, Err: fmt.Errorf("owner %d:%d is nobody in the container: leave out --archive", h.Uid, h.Gid)}
		}
		h.Uid, h.Gid = uid, gid
	}
	if name == "" {
		if u.top && h.Typeflag == tar.TypeDir {
			return u.keep(".", h)
		}
		return nil
	}
	h.Name = name
	d, base, err := u.root.MakeParent(name, u.makeMissing)
	if err != nil {
		return err
	}
	isDir := h.Typeflag == tar.TypeDir
	staged, err := u.isStaged(d)
	if err != nil {
		return err
	}
	there, mounted, err := clear(d, base, isDir, staged)
	if err != nil {
		return err
	}
	switch {
	case isDir && there:
		return nil // as it is
	case isDir:
		if err := u.keep(name, h); err != nil {
			return err
		}
		return d.Mkdir(base, 0o700)
	case !staged || mounted:
		return u.file(d, base, h, content, mounted)
	}
	return u.stage(d, base, h, content)
}

// keep remembers a directory that is made. The strings are copied: those of a header are parts of all that was read for it.
func (u *unpacking) keep(name string, h *tar.Header) error {
	dir := madeDir{name: strings.Clone(name), uid: h.Uid, gid: h.Gid, mode: h.Mode, time: h.ModTime}
	u.kept += len(name)
	for key, value := range h.PAXRecords {
		if !u.archive || !strings.HasPrefix(key, xattrPrefix) {
			continue
		}
		if dir.xattrs == nil {
			dir.xattrs = map[string]string{}
		}
		dir.xattrs[strings.Clone(key)] = strings.Clone(value)
		u.kept += len(key) + len(value)
	}
	if u.kept > maxKept {
		return &fs.PathError{Op: "make", Path: name, Err: fmt.Errorf("%w: the names and attributes of its directories take more than %d MiB", errArchive, maxKept>>20)}
	}
	u.dirs = append(u.dirs, dir)
	return nil
}

// isStaged says whether what is made in a directory can be moved there: not if somebody has mounted another file system on it.
func (u *unpacking) isStaged(d *safepath.Dir) (bool, error) {
	if u.staging == nil {
		return false, nil
	}
	at, err := u.staging.Dir("", nil)
	if err != nil {
		return false, err
	}
	here, err := at.Lstat("")
	if err != nil {
		return false, err
	}
	there, err := d.Lstat("")
	return here.Dev == there.Dev, err
}

// stage makes what is no directory in the staging directory, and moves it to its place.
func (u *unpacking) stage(d *safepath.Dir, base string, h *tar.Header, content io.Reader) error {
	at, err := u.staging.Dir("", nil)
	if err == nil {
		err = u.file(at, stagedFile, h, content, false)
	}
	if err == nil {
		err = at.Rename(stagedFile, d, base)
	}
	// It stays if it could not be moved, or is a further name of what was at its place already.
	if at != nil {
		err = errors.Join(err, ignore(at.Remove(stagedFile), fs.ErrNotExist))
	}
	return err
}

// stagedFile is what an entry is called while it is made.
const stagedFile = "entry"

// file makes what is no directory. there says that it is a file to be filled.
func (u *unpacking) file(d *safepath.Dir, base string, h *tar.Header, content io.Reader, there bool) (err error) {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.fill(d, base, content, h, there)
	case tar.TypeSymlink:
		err = d.Symlink(h.Linkname, base)
	case tar.TypeLink:
		return u.link(h, d, base)
	case tar.TypeFifo:
		err = d.Mknod(base, unix.S_IFIFO|0o600, 0)
	default:
		return &fs.PathError{Op: "make", Path: h.Name, Err: errors.New("it is a device, or of an unknown kind; files, directories, links and fifos are copied")}
	}
	if err != nil {
		return err
	}
	return u.dress(d, base, h)
}

// isOwner reports whether a number is one of a user or group. The kernel takes the lower 32 bits of any other for one, 0 say,
// and -1 for none: then the file stays that of who unpacks.
func isOwner(id int) bool { return id >= 0 && int64(id) < math.MaxUint32 }

// makeMissing makes a directory that the archive has no entry for.
func (u *unpacking) makeMissing(d *safepath.Dir, base string) (string, error) {
	err := d.Mkdir(base, 0o755)
	if err == nil && u.users != nil {
		uid, gid, _ := u.users.outside(0, 0)
		err = d.Chown(base, uid, gid)
	}
	return "", err
}

// clear makes room for an entry. there says that it is a directory and may stay, mounted that it
// is a mount of a file: that can be filled, and not replaced. What is to be replaced by a rename is left there.
func clear(d *safepath.Dir, base string, isDir, replaced bool) (there, mounted bool, err error) {
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
	// Asked before: the mount of another namespace does not keep the file beneath from being removed, and goes with it.
	if mounted, err = isMounted(d, base); err != nil {
		return false, false, err
	}
	if !mounted && replaced {
		return false, false, nil
	}
	if !mounted {
		return false, false, d.Remove(base)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, false, &fs.PathError{Op: "replace", Path: base, Err: unix.EBUSY}
	}
	return false, true, nil
}

// isMounted reports whether something is mounted on an entry that is no directory.
func isMounted(d *safepath.Dir, base string) (bool, error) {
	fd, err := d.Open(base, unix.O_PATH)
	if errors.Is(err, unix.ELOOP) {
		return false, nil // a symbolic link
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_INO, &st); err != nil {
		return false, &fs.PathError{Op: "statx", Path: base, Err: err}
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// fill makes a regular file with the content, or fills one that is there, and stays as it is otherwise.
func (u *unpacking) fill(d *safepath.Dir, base string, content io.Reader, h *tar.Header, there bool) error {
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
	f := os.NewFile(uintptr(fd), h.Name)
	if isSparse(h) {
		err = copyHoles(f, content, h.Size)
	} else {
		_, err = io.Copy(f, content)
	}
	if err == nil && !there {
		err = u.dressOpen(f, h)
	}
	return errors.Join(err, f.Close())
}

// isSparse reports whether an archive says that a file has holes. Where they are, the tar reader keeps for itself.
func isSparse(h *tar.Header) bool {
	return h.Typeflag == tar.TypeGNUSparse || h.PAXRecords["GNU.sparse.map"] != "" ||
		h.PAXRecords["GNU.sparse.major"] != "" || h.PAXRecords["GNU.sparse.size"] != ""
}

// copyHoles fills an empty file and leaves blocks of zeros out: an archive of 1 kB can have one of a TiB in it, which must not fill the disk.
func copyHoles(f *os.File, content io.Reader, size int64) error {
	if err := f.Truncate(size); err != nil { // now, if the file system has none as long as that
		return err
	}
	const block = 4096
	var buf, zeros [64 << 10]byte
	for at := int64(0); at < size; {
		n, err := io.ReadFull(content, buf[:min(size-at, int64(len(buf)))])
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		for b := range slices.Chunk(buf[:n], block) {
			if !bytes.Equal(b, zeros[:len(b)]) {
				if _, err := f.WriteAt(b, at); err != nil {
					return err
				}
			}
			at += int64(len(b))
		}
	}
	return nil
}

// patient reads until the context ends.
type patient struct {
	ctx context.Context
	r   io.Reader
}

func (p patient) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.r.Read(b)
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

// owner is whose an entry becomes, and mode its mode.
func (u *unpacking) owner(h *tar.Header) (uid, gid int, mode uint32) {
	mode = uint32(h.Mode) & 0o7777
	if u.archive {
		return h.Uid, h.Gid, mode
	}
	// It was anybody's, and has another owner now, root in most cases: who runs it must not get his rights.
	uid, gid, _ = u.users.outside(u.uid, u.gid)
	return uid, gid, mode &^ (unix.S_ISUID | unix.S_ISGID)
}

// dress gives a symbolic link or a fifo its owner, mode and times. By now something else can have its name, if others may
// write to the directory: so no set-user-ID bit is given by name.
func (u *unpacking) dress(d *safepath.Dir, base string, h *tar.Header) error {
	uid, gid, mode := u.owner(h)
	if err := d.Chown(base, uid, gid); err != nil {
		return notGranted(uid, gid, err)
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := d.Chmod(base, mode&0o777); err != nil {
			return err
		}
	}
	return d.Chtimes(base, h.ModTime, h.ModTime)
}

// notGranted says why an owner cannot be, where it is none of the user's ids.
func notGranted(uid, gid int, err error) error {
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	return fmt.Errorf("%w: owner %d:%d: %w", err, uid, gid, container.ErrNotGranted)
}

// dressDir is dressOpen for a directory that was made.
func (u *unpacking) dressDir(d madeDir) error {
	h := &tar.Header{Typeflag: tar.TypeDir, Name: d.name, Uid: d.uid, Gid: d.gid, Mode: d.mode, ModTime: d.time, PAXRecords: d.xattrs}
	f, err := u.root.OpenFile(h.Name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return errors.Join(u.dressOpen(f, h), f.Close())
}

// dressOpen gives a file or directory its owner, attributes, mode and times: the one that was made, and not what has its
// name by now. A program in a container may put a file of its own there, which would become root's.
func (u *unpacking) dressOpen(f *os.File, h *tar.Header) error {
	fd := int(f.Fd())
	uid, gid, mode := u.owner(h)
	if err := unix.Fchown(fd, uid, gid); err != nil {
		return notGranted(uid, gid, &fs.PathError{Op: "chown", Path: h.Name, Err: err})
	}
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok || !u.archive {
			continue
		}
		if err := unix.Fsetxattr(fd, attr, []byte(value), 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return &fs.PathError{Op: "set " + attr + " of", Path: h.Name, Err: err}
		}
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return &fs.PathError{Op: "chmod", Path: h.Name, Err: err}
	}
	times := []unix.Timespec{safepath.Timespec(h.ModTime), safepath.Timespec(h.ModTime)}
	if err := unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH); err != nil {
		return &fs.PathError{Op: "set times", Path: h.Name, Err: err}
	}
	return nil
}
