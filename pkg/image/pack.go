package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Pack writes the tree under dir as a tar archive, the same bytes for the same
// tree: entries sorted by name, times in whole seconds, numeric owners only.
// Ownership, modes, extended attributes (but for SELinux labels), hard links and
// devices are kept; sockets are left out, as a tar has no place for them. A
// directory on another file system below dir is packed too. Times later than latest become
// that, unless it is zero.
//
// The tree may change meanwhile, or belong to somebody hostile: no symbolic link
// in it is followed, and no fifo is waited for.
func Pack(ctx context.Context, w io.Writer, dir string, latest time.Time) error {
	top, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	p := packer{ctx: ctx, tar: tar.NewWriter(w), latest: latest, links: map[inode]string{}}
	if err := p.directory(os.NewFile(uintptr(top), dir), "."); err != nil {
		return fmt.Errorf("pack %s: %w", dir, err)
	}
	return p.tar.Close()
}

// PackEntry is Pack for one entry of an open directory, and what is below it: in the archive it
// is called name. The archive is not ended. An entry that is not there is an error. owner, if it is
// not nil, says who owns in the archive what belongs to these on disk.
func PackEntry(ctx context.Context, w *tar.Writer, parent *os.File, base, name string, owner func(uid, gid int) (int, int)) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(parent.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	p := packer{ctx: ctx, tar: w, links: map[inode]string{}, owner: owner}
	return p.entry(parent, base, name)
}

// packer is a walk over a tree.
type packer struct {
	ctx    context.Context
	tar    *tar.Writer
	latest time.Time
	links  map[inode]string              // where a file with several names was first met
	owner  func(uid, gid int) (int, int) // nil leaves owners as they are
}

type inode struct{ dev, ino uint64 }

// directory packs an open directory, which it closes, and what is below.
func (p *packer) directory(d *os.File, name string) error {
	defer d.Close()
	if err := p.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := p.header(d, ".", name+"/", &st, ""); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	children, err := d.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	slices.Sort(children)
	for _, child := range children {
		if err := p.entry(d, child, path.Join(name, child)); err != nil {
			return err
		}
	}
	return nil
}

// entry packs one entry of an open directory. name is its path in the archive.
func (p *packer) entry(parent *os.File, base, name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(parent.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil // gone since the directory was read
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		d, err := openAt(parent, base, name, unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		return p.directory(d, name)
	case unix.S_IFSOCK:
		return nil
	case unix.S_IFREG:
		err = p.regular(parent, base, name, &st)
	case unix.S_IFLNK:
		var target string
		if target, err = readlinkAt(parent, base); err == nil {
			err = p.header(parent, base, name, &st, target)
		}
	default:
		err = p.header(parent, base, name, &st, "")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// openAt opens an entry that must not be a symbolic link by now.
func openAt(parent *os.File, base, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(parent.Fd()), base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: open: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func readlinkAt(parent *os.File, base string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(parent.Fd()), base, buf)
	if err != nil {
		return "", fmt.Errorf("readlink: %w", err)
	}
	return string(buf[:n]), nil
}

// regular packs a file, or a hard link if it was packed under another name.
func (p *packer) regular(parent *os.File, base, name string, st *unix.Stat_t) error {
	f, err := openAt(parent, base, name, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fstat(int(f.Fd()), st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("changed its type while it was packed")
	}
	if err := p.header(parent, base, name, st, ""); err != nil {
		return err
	}
	if _, linked := p.link(st, name); linked {
		return nil
	}
	if _, err := io.CopyN(p.tar, f, st.Size); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	return nil
}

// link returns the name under which a file with several names was packed before.
func (p *packer) link(st *unix.Stat_t, name string) (string, bool) {
	if st.Nlink < 2 || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return "", false
	}
	key := inode{uint64(st.Dev), st.Ino}
	first, met := p.links[key]
	if !met {
		p.links[key] = name
		first = name
	}
	return first, first != name
}

// header writes the header of an entry of parent.
func (p *packer) header(parent *os.File, base, name string, st *unix.Stat_t, target string) error {
	h := &tar.Header{
		Name:     strings.TrimPrefix(name, "./"),
		Linkname: target,
		Mode:     int64(st.Mode & 0o7777),
		Uid:      int(st.Uid),
		Gid:      int(st.Gid),
		ModTime:  time.Unix(int64(st.Mtim.Sec), 0),
		Format:   tar.FormatPAX,
	}
	if p.owner != nil {
		h.Uid, h.Gid = p.owner(h.Uid, h.Gid)
	}
	if h.Name == "" {
		h.Name = "./"
	}
	if !p.latest.IsZero() && h.ModTime.After(p.latest) {
		h.ModTime = p.latest
	}
	setType(h, st)
	if first, linked := p.link(st, name); linked {
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		return p.tar.WriteHeader(h)
	}
	attributes, err := readAttributes(parent, base)
	if err != nil {
		return err
	}
	h.PAXRecords = attributes
	return p.tar.WriteHeader(h)
}

// setType fills in the type of an entry and what only that type has.
func setType(h *tar.Header, st *unix.Stat_t) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		h.Devmajor, h.Devminor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	}
}

// selinuxAttribute belongs to the host's policy, not to the content.
const selinuxAttribute = "security.selinux"

// paxAttribute is the prefix of PAX records that hold extended attributes, as GNU
// tar, libarchive and all container tools have it.
const paxAttribute = "SCHILY.xattr."

// readAttributes returns the extended attributes of an entry of parent as PAX
// records. The path goes through the open directory, so that no parent can be
// exchanged for a link meanwhile.
func readAttributes(parent *os.File, base string) (map[string]string, error) {
	file := fmt.Sprintf("/proc/self/fd/%d/%s", parent.Fd(), base)
	list, err := readGrowing(func(buf []byte) (int, error) { return unix.Llistxattr(file, buf) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	var records map[string]string
	for name := range bytes.SplitSeq(bytes.TrimRight(list, "\x00"), []byte{0}) {
		if len(name) == 0 || string(name) == selinuxAttribute {
			continue
		}
		value, err := readGrowing(func(buf []byte) (int, error) { return unix.Lgetxattr(file, string(name), buf) })
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read extended attribute %s: %w", name, err)
		}
		if records == nil {
			records = map[string]string{}
		}
		records[paxAttribute+string(name)] = string(value)
	}
	return records, nil
}

// readGrowing calls read with larger and larger buffers until the answer fits.
// Names and values are limited to 64 KiB each (xattr(7)).
func readGrowing(read func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := read(buf)
		if err == nil {
			return buf[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || size > 1<<20 {
			return nil, err
		}
	}
}
