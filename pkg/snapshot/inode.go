package snapshot

import (
	"archive/tar"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/internal/sys"
	"golang.org/x/sys/unix"
)

// OwnerXattr holds, in a rootless store, what could not be set: owner and mode as
// "uid:gid:mode" in decimal and octal, the form that fuse-overlayfs and
// containers/storage know.
const OwnerXattr = "user.containers.override_stat"

const permBits = 0o7777

// meta is what an inode has besides its kind and data.
type meta struct {
	mode         uint32 // permissions, set-id and sticky bits
	uid, gid     int
	atime, mtime time.Time
	xattrs       map[string]string
}

// newMeta takes an entry's metadata and refuses what Linux cannot hold: silently
// truncated, 4294967296 would be root, and -1 tells chown(2) to change nothing.
func (mk maker) newMeta(h *tar.Header) (meta, error) {
	const maxID = math.MaxUint32 - 1
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > maxID || int64(h.Gid) > maxID {
		return meta{}, fmt.Errorf("%w: owner %d:%d is out of range", ErrMalformed, h.Uid, h.Gid)
	}
	m := meta{
		mode:  uint32(h.Mode) & permBits,
		uid:   h.Uid,
		gid:   h.Gid,
		atime: h.AccessTime,
		mtime: h.ModTime,
	}
	if m.atime.IsZero() {
		m.atime = m.mtime
	}
	m.xattrs = xattrs(h.PAXRecords)
	return m, mk.shift.apply(&m)
}

// implied is the metadata of a directory that nobody describes. The time is fixed,
// so that the same layers make the same tree.
func (mk maker) implied() meta {
	epoch := time.Unix(0, 0)
	return meta{mode: 0o755, uid: mk.shift.root.uid, gid: mk.shift.root.gid, atime: epoch, mtime: epoch}
}

const xattrRecord = "SCHILY.xattr."

// xattrs returns the extended attributes among the PAX records.
func xattrs(records map[string]string) map[string]string {
	var all map[string]string
	for key, value := range records {
		name, ok := strings.CutPrefix(key, xattrRecord)
		if !ok || foreign(name) {
			continue
		}
		if all == nil {
			all = make(map[string]string)
		}
		all[name] = value
	}
	return all
}

// foreign tells the attributes that an archive has no say in: those by which
// overlayfs or we would take a directory for opaque or moved to a place outside the
// layer, and the SELinux label, which the host gives to the whole mount.
func foreign(xattr string) bool {
	return strings.HasPrefix(xattr, "trusted.overlay.") ||
		strings.HasPrefix(xattr, "user.overlay.") ||
		strings.HasPrefix(xattr, plainPrefix) ||
		strings.HasPrefix(xattr, fusePrefix) ||
		xattr == "security.selinux"
}

// maker is who makes inodes: what new files get without further calls, and which
// failures are expected of him.
type maker struct {
	uid, gid int
	umask    uint32
	rootless bool
	shift    shift
}

func newMaker(o Options) (maker, error) {
	sh, err := newShift(o.UIDMap, o.GIDMap)
	if err != nil {
		return maker{}, err
	}
	umask, err := readUmask()
	return maker{uid: os.Geteuid(), gid: os.Getegid(), umask: umask, rootless: o.Rootless, shift: sh}, err
}

// readUmask finds the umask. umask(2) could only tell by changing it, which other
// goroutines would notice. The thread is asked, not the process: the first thread may
// have left the others (unshare(2) with CLONE_FS).
func readUmask() (uint32, error) {
	status, err := sys.ReadFile("/proc/thread-self/status", 64<<10)
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "\nUmask:")
	line, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseUint(strings.TrimSpace(line), 8, 32)
	if err != nil {
		return 0, fmt.Errorf("umask in /proc/thread-self/status: %w", err)
	}
	return uint32(mask), nil
}

// inode is something that metadata can be applied to: an open file, or a
// name in a directory for what is not to be opened.
type inode interface {
	chown(uid, gid int) error
	chmod(mode uint32) error
	setxattr(name, value string) error
	chtimes(atime, mtime time.Time) error
}

// apply gives i its metadata. owned and moded say that owner and mode are right
// already. The order is explained at the top of the package.
func (mk maker) apply(i inode, m meta, owned, moded bool) error {
	if !owned {
		if err := mk.own(i, m); err != nil {
			return err
		}
	}
	for name, value := range m.xattrs {
		if err := i.setxattr(name, value); err != nil && !mk.tolerated(name, err) {
			return err
		}
	}
	if !moded {
		if err := i.chmod(m.mode); err != nil {
			return err
		}
	}
	return i.chtimes(m.atime, m.mtime)
}

// own sets the owner, or writes it down in a rootless store.
func (mk maker) own(i inode, m meta) error {
	err := i.chown(m.uid, m.gid)
	if err == nil || !mk.rootless || !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	value := fmt.Sprintf("%d:%d:%04o", m.uid, m.gid, m.mode)
	if err := i.setxattr(OwnerXattr, value); err != nil && !mk.tolerated(OwnerXattr, err) {
		return err
	}
	return nil
}

// tolerated reports whether an attribute that cannot be set is done without: the
// file system has none of that kind, or only root may set it, or
// (user attributes of anything but files and directories) nobody.
func (mk maker) tolerated(xattr string, err error) bool {
	if errors.Is(err, unix.ENOTSUP) {
		return true
	}
	return errors.Is(err, unix.EPERM) && (mk.rootless || strings.HasPrefix(xattr, "user."))
}

// openInode is a regular file or directory by descriptor.
type openInode int

func (fd openInode) chown(uid, gid int) error {
	return wrap("chown", unix.Fchown(int(fd), uid, gid))
}

func (fd openInode) chmod(mode uint32) error {
	return wrap("chmod", unix.Fchmod(int(fd), mode))
}

func (fd openInode) setxattr(name, value string) error {
	return wrap("set "+name, unix.Fsetxattr(int(fd), name, []byte(value), 0))
}

func (fd openInode) chtimes(atime, mtime time.Time) error {
	ts := []unix.Timespec{safepath.Timespec(atime), safepath.Timespec(mtime)}
	return wrap("set times", unix.UtimesNanoAt(int(fd), "", ts, unix.AT_EMPTY_PATH))
}

func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return os.NewSyscallError(op, err)
}

// namedInode is a symbolic link, device or fifo by its directory.
type namedInode struct {
	dir  *safepath.Dir
	base string
}

func (n namedInode) chown(uid, gid int) error { return n.dir.Chown(n.base, uid, gid) }
func (n namedInode) chmod(mode uint32) error  { return n.dir.Chmod(n.base, mode) }
func (n namedInode) setxattr(name, value string) error {
	return n.dir.Setxattr(n.base, name, []byte(value))
}
func (n namedInode) chtimes(atime, mtime time.Time) error {
	return n.dir.Chtimes(n.base, atime, mtime)
}
