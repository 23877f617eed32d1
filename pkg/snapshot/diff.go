package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/containr/containr/internal/safepath"
	"golang.org/x/sys/unix"
)

// ChangeKind says what happened to a name. The letters are docker's.
type ChangeKind byte

// The kinds of changes.
const (
	Added   ChangeKind = 'A'
	Changed ChangeKind = 'C'
	Removed ChangeKind = 'D'
)

// String is the letter.
func (k ChangeKind) String() string { return string(rune(k)) }

// Change is one difference between two trees.
type Change struct {
	Kind ChangeKind
	Path string // absolute in the tree; "/" is its root
}

// Changes lists in what the tree of chain differs since it was prepared with the directory upper: sorted, parents
// before what is in them. A directory in which something changed counts as changed. What was removed is one change,
// whatever was below it.
//
// What is new and a mount point, as the predicate says of an absolute path, is left out with what is in it: it was made for
// something to be mounted on. The time of a directory alone is no change then, as making it changes that.
//
// The tree may be in use, and may be somebody's who wants harm: nothing of it is followed or executed. A container that
// changes files meanwhile gets a list of which some is from before and some from after.
func (s *Store) Changes(ctx context.Context, chain ChainID, upper string, mountPoint func(path string) bool) ([]Change, error) {
	var all []Change
	err := s.withUpper(chain, upper, func(before, after *view) error {
		return compare(ctx, before, after, mountPoint, func(c change) error {
			all = append(all, c.public())
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("changes of %s: %w", chain, err)
	}
	return all, nil
}

// Compare lists in what the tree of the chain after differs from that of before, as Changes does.
func (s *Store) Compare(ctx context.Context, before, after ChainID) ([]Change, error) {
	var all []Change
	err := s.withChain(before, func(b *view) error {
		return s.withChain(after, func(a *view) error {
			return compare(ctx, b, a, nil, func(c change) error {
				all = append(all, c.public())
				return nil
			})
		})
	})
	if err != nil {
		return nil, fmt.Errorf("compare %s with %s: %w", before, after, err)
	}
	return all, nil
}

// withChain opens the view of a chain for f.
func (s *Store) withChain(chain ChainID, f func(*view) error) error {
	all, err := s.chain(chain)
	if err != nil {
		return err
	}
	v, err := s.openView(nil, all)
	if err != nil {
		return err
	}
	defer v.close()
	return f(v)
}

// withUpper opens the views of a chain, and of what became of it in the directory upper, for f. Some drivers have
// all of the tree in upper.
func (s *Store) withUpper(chain ChainID, upper string, f func(before, after *view) error) error {
	root, err := safepath.OpenRoot(upper)
	if err != nil {
		return err
	}
	defer root.Close()
	all, err := s.chain(chain)
	if err != nil {
		return err
	}
	v, err := s.openView(&layerTree{root: root, opaqueRoot: s.opts.Driver.whole(), place: upper}, all)
	if err != nil {
		return err
	}
	defer v.close()
	return f(v.under(), v)
}

// change is a Change with what it takes to write it down.
type change struct {
	kind   ChangeKind
	name   string // clean, "" is the root
	before node
	after  node
	opaque bool // of a directory: nothing of what was in it is left, but for what follows
	hidden bool // of what was removed: that its directory is opaque says it
}

func (c change) public() Change { return Change{Kind: c.kind, Path: "/" + c.name} }

// comparison is a walk through two trees at once.
//
// What both have from the same place is not looked at, which makes the costs those of the changes where trees share
// layers. A file of another layer counts as changed only if its metadata or its content is another, but for one in the
// upper directory of an overlay: that it was copied up says that somebody opened it to write.
type comparison struct {
	ctx           context.Context
	before, after *view
	mountPoint    func(path string) bool // nil for none: see Changes
	visit         func(change) error
	pending       []change // directories on the way here that have not changed themselves
}

// compare calls visit for each difference, in the order of names, parents first, but for mount points that are new.
func compare(ctx context.Context, before, after *view, mountPoint func(string) bool, visit func(change) error) error {
	c := comparison{ctx: ctx, before: before, after: after, mountPoint: mountPoint, visit: visit}
	b, err := before.top()
	if err != nil {
		return err
	}
	a, err := after.top()
	if err != nil {
		return err
	}
	return c.dirs("", b, a)
}

// report visits a change, and before it the directories on the way.
func (c *comparison) report(x change) error {
	for _, p := range c.pending {
		if err := c.visit(p); err != nil {
			return err
		}
	}
	c.pending = c.pending[:0]
	return c.visit(x)
}

// dirs compares two directories; that before may have none (an image without layers).
func (c *comparison) dirs(name string, b, a node) error {
	if err := context.Cause(c.ctx); err != nil {
		return err
	}
	if c.sameDirs(b, a) {
		return nil
	}
	x := change{kind: Changed, name: name, before: b, after: a, opaque: c.opaque(b, a)}
	changed, err := c.metaChanged(name, b, a)
	if err != nil {
		return unlessGone(err)
	}
	depth := len(c.pending)
	if changed || x.opaque {
		err = c.report(x)
	} else {
		c.pending = append(c.pending, x)
	}
	if err != nil {
		return err
	}
	err = c.children(x)
	c.pending = c.pending[:min(len(c.pending), depth)]
	return err
}

// children compares what is in two directories.
func (c *comparison) children(x change) error {
	names, err := c.names(x)
	if err != nil {
		return unlessGone(err)
	}
	for _, base := range names {
		name := join(x.name, base)
		b, err := c.before.child(x.before.dirs, name)
		if err != nil {
			return err
		}
		a, err := c.after.child(x.after.dirs, name)
		if unlessGone(err) != nil {
			return err
		}
		if err := c.entry(name, b, a, x.opaque); err != nil {
			return err
		}
	}
	return nil
}

// names lists what is in either of two directories.
func (c *comparison) names(x change) ([]string, error) {
	before, err := c.before.names(x.before, x.name)
	if err != nil {
		return nil, err
	}
	after, err := c.after.names(x.after, x.name)
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for _, n := range slices.Concat(before, after) {
		all[n] = true
	}
	return slices.Sorted(maps.Keys(all)), nil
}

// entry compares what two trees have at one name. inOpaque says that a layer brings it anyway.
func (c *comparison) entry(name string, b, a node, inOpaque bool) error {
	switch {
	case !a.exists() && !b.exists():
		return nil
	case !a.exists():
		return c.report(change{kind: Removed, name: name, before: b, hidden: inOpaque})
	case !b.exists():
		return c.added(change{kind: Added, name: name, after: a})
	case a.isDir() && b.isDir() && !inOpaque:
		return c.dirs(name, b, a)
	case a.isDir() || b.isDir() || inOpaque:
		return c.added(change{kind: Changed, name: name, before: b, after: a})
	}
	changed, err := c.fileChanged(name, b, a)
	if err != nil || !changed {
		return unlessGone(err)
	}
	return c.report(change{kind: Changed, name: name, before: b, after: a})
}

// added reports what is new, with all that is in it, but for mount points.
func (c *comparison) added(x change) error {
	if err := context.Cause(c.ctx); err != nil {
		return err
	}
	if x.kind == Added && c.mountPoint != nil && c.mountPoint("/"+x.name) {
		return nil
	}
	if err := c.report(x); err != nil || !x.after.isDir() {
		return err
	}
	names, err := c.after.names(x.after, x.name)
	if err != nil {
		return unlessGone(err)
	}
	for _, base := range names {
		name := join(x.name, base)
		n, err := c.after.child(x.after.dirs, name)
		if err != nil || !n.exists() {
			if unlessGone(err) != nil {
				return err
			}
			continue
		}
		if err := c.added(change{kind: Added, name: name, after: n}); err != nil {
			return err
		}
	}
	return nil
}

// place tells the layers of two views apart.
func (v *view) place(layer int) string { return v.layers[layer].place }

// sameDirs reports whether two directories of the same name consist of the same directories on disk.
func (c *comparison) sameDirs(b, a node) bool {
	return slices.EqualFunc(b.dirs, a.dirs, func(i, j int) bool { return c.before.place(i) == c.after.place(j) })
}

// opaque reports whether a directory that hides all that was in it says so by itself, as overlayfs has it.
func (c *comparison) opaque(b, a node) bool {
	if c.after.lent == 0 || c.after.layers[0].opaqueRoot || len(a.dirs) == 0 || a.dirs[0] != 0 || len(b.dirs) == 0 {
		return false
	}
	return len(a.dirs) == 1
}

// metaChanged compares the metadata of two files of the same name.
func (c *comparison) metaChanged(name string, b, a node) (bool, error) {
	if !b.exists() {
		return true, nil
	}
	mb, err := c.before.meta(b, name)
	if err != nil {
		return false, err
	}
	ma, err := c.after.meta(a, name)
	if err != nil {
		return false, err
	}
	timeless := a.isDir() && c.mountPoint != nil
	return mb.mode != ma.mode || mb.uid != ma.uid || mb.gid != ma.gid || !timeless && !mb.mtime.Equal(ma.mtime) || !maps.Equal(mb.xattrs, ma.xattrs), nil
}

// fileChanged compares two files that are no directories. That one has more names now is a change: the archive is to
// have them linked again.
func (c *comparison) fileChanged(name string, b, a node) (bool, error) {
	if c.before.place(b.layer) == c.after.place(a.layer) {
		return false, nil
	}
	inUpper := c.after.lent > 0 && a.layer == 0 && !c.after.layers[0].opaqueRoot
	if inUpper || b.st.Mode != a.st.Mode || b.st.Size != a.st.Size || b.st.Rdev != a.st.Rdev || b.st.Nlink != a.st.Nlink {
		return true, nil
	}
	changed, err := c.metaChanged(name, b, a)
	if err != nil || changed {
		return changed, err
	}
	return c.contentChanged(name, b, a)
}

func (c *comparison) contentChanged(name string, b, a node) (bool, error) {
	switch a.st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		was, err := c.before.readlink(b, name)
		if err != nil {
			return false, err
		}
		is, err := c.after.readlink(a, name)
		return was != is, err
	case unix.S_IFREG:
		was, err := c.before.open(b, name)
		if err != nil {
			return false, err
		}
		defer was.Close()
		is, err := c.after.open(a, name)
		if err != nil {
			return false, err
		}
		defer is.Close()
		same, err := equalContent(was, is)
		return !same, err
	}
	return false, nil
}

func equalContent(x, y io.Reader) (bool, error) {
	bufX, bufY := make([]byte, bufferSize), make([]byte, bufferSize)
	for {
		n, errX := io.ReadFull(x, bufX)
		m, errY := io.ReadFull(y, bufY)
		if !bytes.Equal(bufX[:n], bufY[:m]) {
			return false, nil
		}
		for _, err := range []error{errX, errY} {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return true, nil
			}
			if err != nil {
				return false, err
			}
		}
	}
}

// open opens the regular file n, found at name. What took its place meanwhile, a fifo for instance, is not waited for and
// refused.
func (v *view) open(n node, name string) (*os.File, error) {
	d, base, err := v.at(n, name)
	if err != nil {
		return nil, err
	}
	fd, err := d.Open(base, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.Join(err, ErrNotRegular, f.Close())
	}
	return f, nil
}
