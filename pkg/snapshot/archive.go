package snapshot

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ArchiveOptions says how trees and changes are written down.
type ArchiveOptions struct {
	// Latest, if set, takes the place of later times, for archives that are the same whenever they are made
	// (SOURCE_DATE_EPOCH).
	Latest time.Time
	// MountPoint, if set, says of an absolute path that what is new there was made for something to be mounted on. Diff
	// leaves it out, as Changes does.
	MountPoint func(path string) bool
}

// Diff writes, as the uncompressed tar archive of a layer, what became of the tree of chain since it was prepared with
// the directory upper: applied to chain, it makes the tree that the container sees.
//
// The same tree makes the same bytes: entries are sorted, times are whole seconds, owners are numbers (those of the
// container, also where the host has others for them). Each directory on the way to a change has an entry, since not
// everybody who unpacks layers takes it from the layers below. Hard links between changed files are kept; extended
// attributes too, but for those of overlayfs and SELinux. Sockets are left out: they are nothing without their process.
// Holes become zeros.
//
// For what holds if the tree is in use, see Changes. A file that shrinks while it is read is an error.
func (s *Store) Diff(ctx context.Context, w io.Writer, chain ChainID, upper string, o ArchiveOptions) error {
	err := s.withUpper(chain, upper, func(before, after *view) error {
		a, err := s.newArchiver(w, after, o)
		if err != nil {
			return err
		}
		if err := compare(ctx, before, after, o.MountPoint, a.change); err != nil {
			return err
		}
		return a.tar.Close()
	})
	if err != nil {
		return fmt.Errorf("layer of the changes to %s: %w", chain, err)
	}
	return nil
}

// Export writes the whole tree of chain, as changed by the directory upper if that is not empty, as an uncompressed tar
// archive; all else is as in Diff. The root itself has no entry.
func (s *Store) Export(ctx context.Context, w io.Writer, chain ChainID, upper string, o ArchiveOptions) error {
	write := func(v *view) error {
		a, err := s.newArchiver(w, v, o)
		if err != nil {
			return err
		}
		top, err := v.top()
		if err != nil {
			return err
		}
		if err := compareNothing(ctx, v, top, a.change); err != nil {
			return err
		}
		return a.tar.Close()
	}
	var err error
	if upper == "" {
		err = s.withChain(chain, write)
	} else {
		err = s.withUpper(chain, upper, func(_, after *view) error { return write(after) })
	}
	if err != nil {
		return fmt.Errorf("export %s: %w", chain, err)
	}
	return nil
}

// compareNothing visits all that is in a tree as added.
func compareNothing(ctx context.Context, v *view, top node, visit func(change) error) error {
	c := comparison{ctx: ctx, after: v, visit: func(x change) error {
		if x.name == "" {
			return nil
		}
		return visit(x)
	}}
	return c.added(change{kind: Added, after: top})
}

// Copy makes dir, which must not exist, a copy of the tree of chain.
func (s *Store) Copy(ctx context.Context, chain ChainID, dir string) error {
	all, err := s.chain(chain)
	if err == nil {
		err = s.copyTree(ctx, all, dir)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", chain, err)
	}
	return nil
}

// archiver writes changes to a tar archive.
type archiver struct {
	view    *view
	tar     *tar.Writer
	latest  time.Time
	unshift unshift
	links   map[inodeID]string // where a file with several names was first met
}

func (s *Store) newArchiver(w io.Writer, v *view, o ArchiveOptions) (*archiver, error) {
	u, err := newUnshift(s.opts)
	return &archiver{view: v, tar: tar.NewWriter(w), latest: o.Latest, unshift: u, links: map[inodeID]string{}}, err
}

// change writes one change.
func (a *archiver) change(c change) error {
	err := a.write(c)
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}

func (a *archiver) write(c change) error {
	isSocket := c.after.st.Mode&unix.S_IFMT == unix.S_IFSOCK
	switch {
	case c.hidden, isSocket && c.kind == Added:
		return nil
	case c.kind == Removed, isSocket:
		return a.mark(path.Join(parent(c.name), whiteoutPrefix+path.Base(c.name)))
	}
	m, err := a.view.meta(c.after, c.name)
	if err != nil {
		return unlessGone(err)
	}
	if err := a.entry(c, m); err != nil {
		return err
	}
	if c.opaque {
		return a.mark(join(c.name, opaqueMark))
	}
	return nil
}

// mark writes an empty file that says something by its name.
func (a *archiver) mark(name string) error {
	return a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Format: tar.FormatPAX})
}

// entry writes a file or directory.
func (a *archiver) entry(c change, m meta) error {
	if err := a.unshift.apply(&m); err != nil {
		return err
	}
	h := a.header(c, m)
	if first, linked := a.linked(c); linked {
		h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, first, 0, nil
		return a.tar.WriteHeader(h)
	}
	switch c.after.st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return a.regular(c, h)
	case unix.S_IFLNK:
		target, err := a.view.readlink(c.after, c.name)
		if err != nil {
			return unlessGone(err)
		}
		h.Linkname = target
	}
	a.met(c)
	return a.tar.WriteHeader(h)
}

// regular writes a file with its content.
func (a *archiver) regular(c change, h *tar.Header) error {
	f, err := a.view.open(c.after, c.name)
	if err != nil {
		return unlessGone(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	a.met(c)
	h.Size = info.Size() // it may have grown since it was found
	if err := a.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(a.tar, f, h.Size)
	if err == io.EOF {
		return errors.New("it became shorter while it was read")
	}
	return err
}

// linked returns the name under which a file with several names was written before.
func (a *archiver) linked(c change) (string, bool) {
	first, ok := a.links[inodeID{c.after.layer, c.after.st.Ino}]
	return first, ok && !c.after.isDir()
}

// met remembers a file with several names.
func (a *archiver) met(c change) {
	if c.after.st.Nlink > 1 && !c.after.isDir() {
		a.links[inodeID{c.after.layer, c.after.st.Ino}] = c.name
	}
}

// header is that of an entry, but for its content.
func (a *archiver) header(c change, m meta) *tar.Header {
	h := &tar.Header{
		Name:    c.name,
		Mode:    int64(m.mode),
		Uid:     m.uid,
		Gid:     m.gid,
		ModTime: m.mtime.Truncate(time.Second),
		Format:  tar.FormatPAX,
	}
	if !a.latest.IsZero() && h.ModTime.After(a.latest) {
		h.ModTime = a.latest
	}
	for name, value := range m.xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattrRecord+name] = value
	}
	switch c.after.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, strings.TrimPrefix(c.name+"/", "/")
		if c.name == "" {
			h.Name = "./"
		}
	case unix.S_IFREG:
		h.Typeflag = tar.TypeReg
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
		h.Devmajor, h.Devminor = int64(unix.Major(c.after.st.Rdev)), int64(unix.Minor(c.after.st.Rdev))
	}
	return h
}

// unshift turns the owners that files have on this host back into those that they have in the container.
type unshift struct {
	uids, gids []IDMap
	self       bool // the store of an ordinary user, to whom the container's root belongs
	recorded   bool // owners may have been written down
	uid, gid   int
}

func newUnshift(o Options) (unshift, error) {
	_, err := newShift(o.UIDMap, o.GIDMap) // for its checks
	u := unshift{uids: o.UIDMap, gids: o.GIDMap, uid: os.Geteuid(), gid: os.Getegid()}
	u.recorded = o.Rootless && u.uids == nil && u.gids == nil
	u.self = u.recorded && !o.Among
	return u, err
}

// apply changes the owner in m, and reads what a store without root had to write down in place of it.
func (u unshift) apply(m *meta) error {
	if recorded, ok := m.xattrs[OwnerXattr]; ok && u.recorded {
		m.xattrs = maps.Clone(m.xattrs)
		delete(m.xattrs, OwnerXattr)
		return m.readOwner(recorded)
	}
	if u.self {
		if m.uid == u.uid {
			m.uid = 0
		}
		if m.gid == u.gid {
			m.gid = 0
		}
		return nil
	}
	if u.uids == nil && u.gids == nil {
		return nil
	}
	uid, okUID := inside(u.uids, m.uid)
	gid, okGID := inside(u.gids, m.gid)
	if !okUID || !okGID {
		return fmt.Errorf("%w: owner %d:%d of this host is nobody in the container", ErrUnmapped, m.uid, m.gid)
	}
	m.uid, m.gid = uid, gid
	if caps, ok := m.xattrs[capabilityXattr]; ok {
		m.xattrs = maps.Clone(m.xattrs)
		m.xattrs[capabilityXattr] = plainCapability(caps)
	}
	return nil
}

// readOwner takes owner and mode from the value of OwnerXattr. Others than we may have written it.
func (m *meta) readOwner(value string) error {
	parts := strings.Split(value, ":")
	const fields = 3
	if len(parts) < fields {
		return fmt.Errorf("attribute %s is %q, not uid:gid:mode", OwnerXattr, value)
	}
	uid, err1 := strconv.ParseUint(parts[0], 10, 31)
	gid, err2 := strconv.ParseUint(parts[1], 10, 31)
	mode, err3 := strconv.ParseUint(parts[2], 8, 32)
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("attribute %s is %q, not uid:gid:mode: %w", OwnerXattr, value, err)
	}
	m.uid, m.gid, m.mode = int(uid), int(gid), uint32(mode)&permBits
	return nil
}

// inside is the inverse of outside.
func inside(maps []IDMap, id int) (int, bool) {
	for _, m := range maps {
		if id >= int(m.Host) && id-int(m.Host) < int(m.Size) {
			return int(m.Container) + id - int(m.Host), true
		}
	}
	return 0, false
}

// plainCapability makes revision 2 of revision 3, which names a root of this host.
func plainCapability(value string) string {
	data := []byte(value)
	if len(data) != capRevision2Size+4 {
		return value
	}
	magic := binary.LittleEndian.Uint32(data)
	if magic&capRevisionMask != capRevision3 {
		return value
	}
	binary.LittleEndian.PutUint32(data, magic&^uint32(capRevisionMask)|capRevision2)
	return string(data[:capRevision2Size])
}
