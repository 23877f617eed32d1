package snapshot

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containr/containr/internal/safepath"
	"golang.org/x/sys/unix"
)

// layer is a layer on its way into the store: its tree, and what is known
// about it beyond that. Names in it lead through no symbolic links.
type layer struct {
	root *safepath.Root
	// held is a directory outside the tree that has a name for each
	// placeholder of hard links, lest its inode number be used again.
	held  *safepath.Root
	maker maker
	marks marks
	// dirs has the metadata of all directories, which is applied last.
	dirs map[string]*dirNote
	// assumed has the directories that were made because files were put into
	// them, while the lower view was not known. Where that has a symbolic link
	// instead, the assumption was wrong.
	assumed    map[string]bool
	whiteouts  []string
	links      []linkNote
	holders    map[string]string // target: name of its placeholder in held
	targets    map[uint64]string // inode of a placeholder: target
	opaqueRoot bool
	usage      Usage
	skipped    int
}

// dirNote is the metadata of a directory. It is implicit as long as no entry
// describes the directory: then it takes after the lower view.
type dirNote struct {
	meta     meta
	implicit bool
}

// linkNote is a hard link to a file that the layer does not have. Its place is
// kept by an empty file, the placeholder of the target.
type linkNote struct {
	name   string
	target string
	inode  uint64 // of the placeholder
}

// applier writes the entries of one archive into a layer. It belongs to one
// goroutine.
type applier struct {
	*layer
	limits  Limits
	lower   *view // with the layer itself as its top; nil: not known yet
	buf     []byte
	bytes   int64
	noted   int64
	entries int64
}

// taker is what entries of an archive become parts of: a layer that is a directory (applier) or an image (imageLayer).
type taker interface {
	entry(h *tar.Header, data *entries) error
	doubt(err error) error
}

// applyAll has l take all entries of the archive.
func applyAll(l taker, r *entries) error {
	for {
		h, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !(errors.Is(err, tar.ErrInsecurePath) && h != nil) {
			return archiveError(err)
		}
		if err := l.entry(h, r); err != nil {
			return l.doubt(fmt.Errorf("entry %.200q: %w", h.Name, err))
		}
	}
}

// doubt adds ErrDependsOnParent to an error that may be due to an assumption
// about the lower view rather than to the archive.
func (a *applier) doubt(err error) error {
	assuming := a.lower == nil && len(a.assumed)+len(a.links) > 0
	if assuming && (errors.Is(err, ErrMalformed) || errors.Is(err, unix.ELOOP)) {
		return fmt.Errorf("%w (%w)", err, ErrDependsOnParent)
	}
	return err
}

// archiveError marks what the tar reader found wrong with the format.
func archiveError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return err
}

// admit looks at the n-th entry of an archive before anything is done for it: at its name, and what that marks. It is markIgnored
// if there is nothing to be done.
func (l Limits) admit(h *tar.Header, n int64) (name string, m mark, err error) {
	if n > l.Entries {
		return "", 0, &LimitError{"Entries", l.Entries}
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return "", markIgnored, nil // comments for all entries: none that matter here
	}
	name, err = safepath.Clean(h.Name)
	if err != nil {
		return "", 0, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := l.name(name); err != nil {
		return "", 0, err
	}
	m, err = markOf(name)
	return name, m, err
}

// entry writes one entry.
func (a *applier) entry(h *tar.Header, data *entries) error {
	a.entries++
	name, mark, err := a.limits.admit(h, a.entries)
	if err != nil || mark == markIgnored {
		return err
	}
	if err := a.note(h, name, mark); err != nil {
		return err
	}
	if name == "" {
		return a.rootEntry(h)
	}
	if a.lower != nil {
		// What missing says about a name changes with each entry.
		a.root.Forget()
	}
	d, base, err := a.root.MakeParent(name, a.missing)
	if err != nil {
		return err
	}
	switch mark {
	case markOpaque:
		return a.makeOpaque(d)
	case markWhiteout:
		return a.whiteout(d, strings.TrimPrefix(base, whiteoutPrefix))
	}
	return a.inode(d, base, h, data)
}

// noteOverhead is the size of a map entry and what it points to, roughly.
const noteOverhead = 256

// note counts what will be remembered of an entry.
func (a *applier) note(h *tar.Header, name string, mark mark) error {
	switch {
	case h.Typeflag == tar.TypeDir, h.Typeflag == tar.TypeLink, mark == markWhiteout:
		a.noted += noteOverhead + int64(len(name)+len(h.Linkname))
		for key, value := range h.PAXRecords {
			a.noted += int64(len(key) + len(value))
		}
	}
	if a.noted > a.limits.Notes {
		return &LimitError{"Notes", a.limits.Notes}
	}
	return nil
}

// rootEntry describes the root of the layer, which exists.
func (a *applier) rootEntry(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return fmt.Errorf("%w: the root is not a directory", ErrMalformed)
	}
	m, err := a.maker.newMeta(h)
	if err == nil {
		a.dirs[""] = &dirNote{meta: m}
	}
	return err
}

// inode makes what the entry describes at base of d.
func (a *applier) inode(d *safepath.Dir, base string, h *tar.Header, data *entries) error {
	if h.Typeflag == tar.TypeLink {
		return a.hardLink(d, base, h.Linkname)
	}
	m, err := a.maker.newMeta(h)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return a.directory(d, base, m)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return a.regular(d, base, m, h, data)
	case tar.TypeSymlink:
		return a.named(d, base, m, true, func() error { return d.Symlink(h.Linkname, base) })
	case tar.TypeChar, tar.TypeBlock:
		return a.device(d, base, m, h)
	case tar.TypeFifo:
		return a.named(d, base, m, false, func() error { return d.Mknod(base, unix.S_IFIFO|m.mode, 0) })
	}
	return fmt.Errorf("%w: entry of unknown type %q", ErrMalformed, h.Typeflag)
}

// missing is the remedy for a parent directory that this layer does not have
// (see safepath.Obstacle).
func (a *applier) missing(d *safepath.Dir, base string) (string, error) {
	name := join(d.Path(), base)
	st, err := d.Lstat(base)
	switch {
	case errors.Is(err, unix.ENOENT):
		return a.imply(d, base, name)
	case err != nil:
		return "", err
	}
	gone, err := a.marks.isWhiteout(d, base, st)
	switch {
	case err != nil:
		return "", err
	case gone: // the lower directory; this is a new one
		if err := a.replaceByOpaque(d, base); err != nil {
			return "", err
		}
		a.dirs[name] = &dirNote{meta: a.maker.implied()}
		return "", nil
	}
	return "", fmt.Errorf("%w: %s is used as a directory", ErrMalformed, name)
}

// imply makes a directory that only files in it speak of, unless the lower
// view is known to have a symbolic link there.
func (a *applier) imply(d *safepath.Dir, base, name string) (string, error) {
	if a.lower != nil {
		n, err := a.lower.below(name)
		if err != nil {
			return "", err
		}
		if n.isLink() {
			return a.lower.readlink(n, name)
		}
	}
	if a.noted += int64(len(name)) + noteOverhead; a.noted > a.limits.Notes {
		return "", &LimitError{"Notes", a.limits.Notes}
	}
	a.dirs[name] = &dirNote{meta: a.maker.implied(), implicit: true}
	if a.lower == nil {
		a.assumed[name] = true
	}
	a.usage.Inodes++
	return "", d.Mkdir(base, 0o700)
}

// place calls make to put something at base, and removes what an earlier entry
// put there, if need be.
func (a *applier) place(d *safepath.Dir, base string, make func() error) error {
	a.usage.Inodes++
	err := make()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := d.RemoveAll(base); err != nil {
		return err
	}
	return make()
}

// directory makes a directory, or describes one that exists. It is kept
// accessible for us until all is in it.
func (a *applier) directory(d *safepath.Dir, base string, m meta) error {
	note := &dirNote{meta: m}
	name := join(d.Path(), base)
	err := d.Mkdir(base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if st, err = d.Lstat(base); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			a.dirs[name] = note
			return nil
		}
		err = a.replaceByOpaque(d, base)
	} else {
		a.usage.Inodes++
	}
	a.dirs[name] = note
	return err
}

// replaceByOpaque puts a directory in the place of something that hides what
// the lower view has there. The directory goes on hiding it.
func (a *applier) replaceByOpaque(d *safepath.Dir, base string) error {
	if err := d.Remove(base); err != nil {
		return err
	}
	a.usage.Inodes++
	if err := d.Mkdir(base, 0o700); err != nil {
		return err
	}
	return d.Setxattr(base, a.marks.opaque, []byte("y"))
}

// device makes a device node, which is data to us and means something only to
// whoever may open it in a mounted container. Numbers that mknod(2) would cut
// off are refused: they would make another device.
func (a *applier) device(d *safepath.Dir, base string, m meta, h *tar.Header) error {
	const majors, minors = 1 << 12, 1 << 20
	if h.Devmajor < 0 || h.Devminor < 0 || h.Devmajor >= majors || h.Devminor >= minors {
		return fmt.Errorf("%w: device number %d:%d is out of range", ErrMalformed, h.Devmajor, h.Devminor)
	}
	kind := uint32(unix.S_IFCHR)
	if h.Typeflag == tar.TypeBlock {
		kind = unix.S_IFBLK
	}
	dev := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	if kind == unix.S_IFCHR && dev == 0 {
		// overlayfs cannot show this one: it is a whiteout.
		return a.hide(d, base)
	}
	err := a.named(d, base, m, false, func() error { return d.Mknod(base, kind|m.mode, dev) })
	if a.maker.rootless && errors.Is(err, unix.EPERM) {
		a.skipped++
		return a.hide(d, base)
	}
	return err
}

// named makes something that is not to be opened.
func (a *applier) named(d *safepath.Dir, base string, m meta, isLink bool, make func() error) error {
	if err := a.place(d, base, make); err != nil {
		return err
	}
	owned := m.uid == a.maker.uid && m.gid == a.maker.gid
	moded := isLink || m.mode&^a.maker.umask == m.mode && (owned || m.mode&0o7000 == 0)
	return a.maker.apply(namedInode{d, base}, m, owned, moded)
}

func join(dir, base string) string {
	if dir == "" {
		return base
	}
	return dir + "/" + base
}
