package snapshot

import (
	"archive/tar"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/erofs"
	"github.com/containr/containr/internal/safepath"
)

// # Layers as images
//
// With the driver Erofs a new layer is not a directory but one file, an EROFS image, in which whiteouts and opaque directories
// are as overlayfs knows them. The data of files go there while the archive is read; the tree is in memory until the layer
// joins its chain, and is then written after them. So a layer of any number of files costs the file system one.
//
// What depends on the chain below is settled as for directories, in that tree. A layer that writes through a symbolic link
// of the chain below (ErrDependsOnParent) becomes a directory: chains may have both kinds.

const (
	imageFile = "layer.erofs"
	spoolFile = "spool" // in a workspace
)

// imageLayer is a layer on its way into an image, as layer is into a directory. It applies the entries of one archive, too.
type imageLayer struct {
	image, spool *os.File
	writer       *erofs.Writer
	root         *erofs.Node
	maker        maker
	marks        marks
	limits       Limits
	buf          []byte

	// implicit has the directories that no entry describes, with their names: they take after the lower view.
	implicit map[*erofs.Node]string
	opaque   map[*erofs.Node]bool
	// assumed has the names of directories that were made because files were put into them: see layer.
	assumed   map[string]bool
	whiteouts []string
	links     []imageLink
	holders   map[string]*erofs.Node // target of hard links to the lower view: its placeholder
	targets   map[*erofs.Node]string // the reverse

	opaqueRoot            bool
	usage                 Usage
	bytes, noted, entries int64
}

// imageLink is a hard link to a file that the layer does not have.
type imageLink struct {
	name, target string
	holder       *erofs.Node
}

// newImageLayer begins an image in the workspace dir.
func newImageLayer(dir string, mk maker, marks marks, limits Limits) (*imageLayer, error) {
	layerPath := filepath.Join(dir, layerDir)
	if err := os.MkdirAll(filepath.Join(layerPath, fsDir), 0o700); err != nil { // where the image will be mounted
		return nil, err
	}
	image, err := os.OpenFile(filepath.Join(layerPath, imageFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	spool, err := os.OpenFile(filepath.Join(dir, spoolFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, errors.Join(err, image.Close())
	}
	l := &imageLayer{
		image: image, spool: spool, writer: erofs.NewWriter(image, spool),
		maker: mk, marks: marks, limits: limits,
		implicit: map[*erofs.Node]string{}, opaque: map[*erofs.Node]bool{}, assumed: map[string]bool{},
		holders: map[string]*erofs.Node{}, targets: map[*erofs.Node]string{},
	}
	l.root = l.implied("")
	return l, nil
}

func (l *imageLayer) close() error { return errors.Join(l.image.Close(), l.spool.Close()) }

// dressNode gives a node its metadata, but for those attributes that the format, or the kernel for this kind of file, does
// not know.
func dressNode(n *erofs.Node, kind uint32, m meta) {
	n.Mode, n.UID, n.GID = kind|m.mode, uint32(m.uid), uint32(m.gid)
	t := safepath.Timespec(m.mtime)
	n.Seconds, n.Nanoseconds = int64(t.Sec), uint32(t.Nsec)
	n.Xattrs = nil
	for name, value := range m.xattrs {
		ofFile := kind == unix.S_IFREG || kind == unix.S_IFDIR
		if erofs.CheckXattr(name, value) != nil || strings.HasPrefix(name, "user.") && !ofFile {
			continue
		}
		if n.Xattrs == nil {
			n.Xattrs = make(map[string]string)
		}
		n.Xattrs[name] = value
	}
}

// implied makes a directory that nobody describes.
func (l *imageLayer) implied(name string) *erofs.Node {
	n := &erofs.Node{Children: map[string]*erofs.Node{}}
	dressNode(n, unix.S_IFDIR, l.maker.implied())
	l.implicit[n] = name
	return n
}

// doubt is that of applier.
func (l *imageLayer) doubt(err error) error {
	if len(l.assumed)+len(l.links) > 0 && (errors.Is(err, ErrMalformed) || errors.Is(err, unix.ELOOP)) {
		return fmt.Errorf("%w (%w)", err, ErrDependsOnParent)
	}
	return err
}

// imageNotes is how much more may be remembered than for a layer that becomes a directory: every name, not only those of
// directories.
const imageNotes = 4

// entry writes one entry.
func (l *imageLayer) entry(h *tar.Header, data *entries) error {
	l.entries++
	name, mark, err := l.limits.admit(h, l.entries)
	if err != nil || mark == markIgnored {
		return err
	}
	if err := l.note(h, name); err != nil {
		return err
	}
	if name == "" {
		return l.rootEntry(h)
	}
	dir, base := splitName(name)
	d, err := l.walk(dir, l.missing)
	if err != nil {
		return err
	}
	switch mark {
	case markOpaque:
		l.makeOpaque(d)
		return nil
	case markWhiteout:
		l.whiteout(d, strings.TrimPrefix(base, whiteoutPrefix))
		return nil
	}
	if len(base) > 255 {
		return &os.PathError{Op: "make", Path: name, Err: unix.ENAMETOOLONG}
	}
	return l.inode(d, base, h, data)
}

// note counts what will be remembered of an entry.
func (l *imageLayer) note(h *tar.Header, name string) error {
	l.noted += 2*noteOverhead + int64(len(name)+len(h.Linkname))
	for key, value := range h.PAXRecords {
		l.noted += int64(len(key) + len(value))
	}
	return l.checkNotes()
}

func (l *imageLayer) checkNotes() error {
	if l.noted > imageNotes*l.limits.Notes {
		return &LimitError{"Notes", imageNotes * l.limits.Notes}
	}
	return nil
}

// rootEntry describes the root of the layer.
func (l *imageLayer) rootEntry(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return fmt.Errorf("%w: the root is not a directory", ErrMalformed)
	}
	m, err := l.maker.newMeta(h)
	if err == nil {
		dressNode(l.root, unix.S_IFDIR, m)
		delete(l.implicit, l.root)
	}
	return err
}

// inode makes what the entry describes at base of d.
func (l *imageLayer) inode(d imageDir, base string, h *tar.Header, data *entries) error {
	if h.Typeflag == tar.TypeLink {
		return l.hardLink(d, base, h.Linkname)
	}
	m, err := l.maker.newMeta(h)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		l.directory(d, base, m)
		return nil
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return l.regular(d, base, m, h, data)
	case tar.TypeSymlink:
		if err := checkTargetText(h.Linkname); err != nil {
			return &os.PathError{Op: "symlink", Path: join(d.path, base), Err: err}
		}
		m.mode = 0o777
		n := l.place(d, base, unix.S_IFLNK, m)
		n.Target = h.Linkname
		return nil
	case tar.TypeChar, tar.TypeBlock:
		return l.device(d, base, m, h)
	case tar.TypeFifo:
		l.place(d, base, unix.S_IFIFO, m)
		return nil
	}
	return fmt.Errorf("%w: entry of unknown type %q", ErrMalformed, h.Typeflag)
}

// checkTargetText refuses what symlink(2) does.
func checkTargetText(target string) error {
	switch {
	case target == "":
		return unix.ENOENT
	case len(target) > maxName:
		return unix.ENAMETOOLONG
	case strings.IndexByte(target, 0) >= 0:
		return unix.EINVAL
	}
	return nil
}

// place puts something new at base of d, whatever was there.
func (l *imageLayer) place(d imageDir, base string, kind uint32, m meta) *erofs.Node {
	l.usage.Inodes++
	n := &erofs.Node{}
	dressNode(n, kind, m)
	d.node.Children[base] = n
	return n
}

// directory makes a directory, or describes one that exists.
func (l *imageLayer) directory(d imageDir, base string, m meta) {
	old := d.node.Children[base]
	if old != nil && old.Type() == unix.S_IFDIR {
		dressNode(old, unix.S_IFDIR, m)
		delete(l.implicit, old)
		return
	}
	n := l.place(d, base, unix.S_IFDIR, m)
	n.Children = map[string]*erofs.Node{}
	if old != nil { // it hides what the lower view has there, and goes on doing so
		l.opaque[n] = true
	}
}

// regular makes a file.
func (l *imageLayer) regular(d imageDir, base string, m meta, h *tar.Header, data *entries) error {
	if h.Size > l.limits.Bytes-l.bytes {
		return &LimitError{"Bytes", l.limits.Bytes}
	}
	l.bytes += h.Size
	l.usage.Bytes += h.Size
	n := l.place(d, base, unix.S_IFREG, m)
	if l.buf == nil {
		l.buf = make([]byte, bufferSize)
	}
	return l.writer.Put(n, h.Size, isSparse(h), func(most int64) ([]byte, error) {
		part, err := data.take(most, l.buf)
		if err != nil {
			return nil, archiveError(unexpected(err))
		}
		return part, nil
	})
}

// device makes a device node; see applier.device.
func (l *imageLayer) device(d imageDir, base string, m meta, h *tar.Header) error {
	const majors, minors = 1 << 12, 1 << 20
	if h.Devmajor < 0 || h.Devminor < 0 || h.Devmajor >= majors || h.Devminor >= minors {
		return fmt.Errorf("%w: device number %d:%d is out of range", ErrMalformed, h.Devmajor, h.Devminor)
	}
	kind := uint32(unix.S_IFCHR)
	if h.Typeflag == tar.TypeBlock {
		kind = unix.S_IFBLK
	}
	if kind == unix.S_IFCHR && h.Devmajor == 0 && h.Devminor == 0 {
		d.node.Children[base] = l.newWhiteout() // overlayfs cannot show this one
		l.whiteouts = append(l.whiteouts, join(d.path, base))
		return nil
	}
	n := l.place(d, base, kind, m)
	n.Major, n.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	return nil
}

// newWhiteout makes what stands for a removed file.
func (l *imageLayer) newWhiteout() *erofs.Node {
	l.usage.Inodes++
	return &erofs.Node{Mode: unix.S_IFCHR}
}

func isWhiteoutNode(n *erofs.Node) bool {
	return n.Type() == unix.S_IFCHR && n.Major == 0 && n.Minor == 0
}

// makeOpaque makes d hide the content of the lower directory.
func (l *imageLayer) makeOpaque(d imageDir) {
	if d.node == l.root {
		l.opaqueRoot = true
		return
	}
	l.opaque[d.node] = true
}

// whiteout hides name of the lower view.
func (l *imageLayer) whiteout(d imageDir, name string) {
	n := d.node.Children[name]
	switch {
	case n == nil:
		d.node.Children[name] = l.newWhiteout()
		l.whiteouts = append(l.whiteouts, join(d.path, name))
	case n.Type() == unix.S_IFDIR: // any other file hides what has its name
		l.opaque[n] = true
		if _, ok := l.implicit[n]; ok {
			dressNode(n, unix.S_IFDIR, l.maker.implied())
			delete(l.implicit, n)
		}
	}
}

// hardLink makes base another name of target.
func (l *imageLayer) hardLink(d imageDir, base, linkname string) error {
	target, err := safepath.Clean(linkname)
	if err != nil || target == "" || l.limits.name(target) != nil {
		return fmt.Errorf("%w: hard link to %.200q", ErrMalformed, linkname)
	}
	delete(d.node.Children, base)
	dir, last := splitName(target)
	var old *erofs.Node
	if at, err := l.walk(dir, nil); err == nil {
		old = at.node.Children[last]
	} else if unlessGone(err) != nil {
		return err
	}
	switch {
	case old == nil || isWhiteoutNode(old):
		old = l.holder(target)
	case old.Type() == unix.S_IFDIR:
		return fmt.Errorf("%w: hard link to directory %q", ErrMalformed, target)
	}
	d.node.Children[base] = old
	if first, ok := l.targets[old]; ok {
		l.links = append(l.links, imageLink{join(d.path, base), first, old})
	}
	return nil
}

// holder keeps the places of hard links to target, which must be in the lower view.
func (l *imageLayer) holder(target string) *erofs.Node {
	n := l.holders[target]
	if n == nil {
		n = &erofs.Node{Mode: unix.S_IFREG | 0o600}
		l.holders[target], l.targets[n] = n, target
	}
	return n
}

// finish finishes the image, which is named after what it was made of.
func (l *imageLayer) finish(diffID digest.Digest) error {
	for n := range l.opaque {
		xattrs := map[string]string{l.marks.opaque: "y"}
		maps.Copy(xattrs, n.Xattrs)
		n.Xattrs = xattrs
	}
	var id [16]byte
	if _, err := hex.Decode(id[:], []byte(diffID.Encoded()[:2*len(id)])); err != nil {
		return err
	}
	return l.writer.Finish(l.root, id)
}

// settleDirs gives directories that no entry describes the metadata of the lower view.
func (l *imageLayer) settleDirs(v *view) error {
	for n, name := range l.implicit {
		below, err := v.below(name)
		if err != nil {
			return err
		}
		if !below.isDir() {
			continue
		}
		m, err := v.meta(below, name)
		if err != nil {
			return err
		}
		dressNode(n, unix.S_IFDIR, m)
	}
	return nil
}

// settleWhiteouts removes those that hide nothing.
func (l *imageLayer) settleWhiteouts(v *view) error {
	for _, name := range l.whiteouts {
		dir, base := splitName(name)
		d, err := l.walk(dir, nil)
		if unlessGone(err) != nil {
			return err
		}
		if err != nil || d.node.Children[base] == nil || !isWhiteoutNode(d.node.Children[base]) {
			continue // a later entry took its place or removed its directory
		}
		n, err := v.below(name)
		if err != nil {
			return err
		}
		if !n.exists() {
			l.usage.Inodes--
			delete(d.node.Children, base)
		}
	}
	return nil
}

// settleLinks replaces placeholders by copies of the files that they stand for: see layer.settleLinks.
func (l *imageLayer) settleLinks(v *view) error {
	lower := v.under()
	copied := map[string]*erofs.Node{}
	for _, link := range l.links {
		if err := l.settleLink(v, lower, link, copied); err != nil {
			return fmt.Errorf("hard link %q to %q: %w", link.name, link.target, err)
		}
	}
	return nil
}

// settleLink settles one link, under the conditions of layer.settleLink.
func (l *imageLayer) settleLink(all, lower *view, link imageLink, copied map[string]*erofs.Node) error {
	name, n, err := lower.resolve(link.target, false)
	if err != nil {
		return err
	}
	seenName, seen, err := all.resolve(link.target, false)
	if err != nil {
		return err
	}
	same := n.exists() && seenName == name && (seen.layer != 0 || copied[name] != nil)
	if !same && len(lower.layers) > 0 {
		return ErrDependsOnParent
	}
	if err := checkTarget(n, link.target); err != nil {
		return err
	}
	dir, base := splitName(link.name)
	d, err := l.walk(dir, nil)
	if err != nil || d.node.Children[base] != link.holder {
		return unlessGone(err) // a later entry took its place
	}
	if copied[name] == nil {
		if copied[name], err = l.copyUp(lower, name, n); err != nil {
			return err
		}
	}
	d.node.Children[base] = copied[name]
	return nil
}

// copyUp copies the file n, found in v at name, to the same name in this layer.
func (l *imageLayer) copyUp(v *view, name string, n node) (*erofs.Node, error) {
	dir, base := splitName(name)
	d, err := l.walk(dir, l.implyForCopy)
	if err != nil {
		return nil, err
	}
	from, fromBase, err := v.at(n, name)
	if err != nil {
		return nil, err
	}
	m, err := v.meta(n, name)
	if err != nil {
		return nil, err
	}
	l.usage.Bytes += n.st.Size
	c := l.place(d, base, n.st.Mode&unix.S_IFMT, m)
	c.Major, c.Minor = unix.Major(n.st.Rdev), unix.Minor(n.st.Rdev)
	switch c.Type() {
	case unix.S_IFLNK:
		c.Target, err = from.Readlink(fromBase)
	case unix.S_IFREG:
		err = l.copyData(c, from, fromBase, n.st.Size)
	}
	return c, err
}

func (l *imageLayer) copyData(n *erofs.Node, from *safepath.Dir, base string, size int64) error {
	fd, err := from.Open(base, unix.O_RDONLY)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if l.buf == nil {
		l.buf = make([]byte, bufferSize)
	}
	return l.writer.Put(n, size, true, func(most int64) ([]byte, error) {
		got, err := f.Read(l.buf[:min(most, int64(len(l.buf)))])
		if err != nil {
			return nil, unexpected(err)
		}
		return l.buf[:got], nil
	})
}
