package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containr/containr/internal/safepath"
	"golang.org/x/sys/unix"
)

// flatDir, in the directory of a snapshot, is the tree of its whole chain,
// made when a driver that copies is first asked for it.
const flatDir = "flat"

// flat returns the directory with the tree of the chain all, top first.
func (s *Store) flat(ctx context.Context, all []Info) (string, error) {
	dir := filepath.Join(filepath.Dir(s.fs(all[0])), flatDir)
	return dir, s.copyOnce(ctx, all, dir)
}

// copyOnce makes dir a copy of the tree of the chain all, unless dir exists.
// It is made elsewhere in the store and renamed if that is the same file
// system, so that nobody sees half a tree.
func (s *Store) copyOnce(ctx context.Context, all []Info, dir string) error {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	work, err := s.newWorkspace(ctx, chainsOf(all))
	if err != nil {
		return err
	}
	tree := filepath.Join(work.dir, flatDir)
	err = s.copyTree(ctx, all, tree)
	if err == nil {
		err = os.Rename(tree, dir)
	}
	switch {
	case errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTEMPTY):
		err = nil // another process was faster
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EACCES):
		// Another file system; or moving a directory, which writes to it, is
		// not allowed by its own mode to an unprivileged owner.
		if err = s.copyTree(ctx, all, dir); err != nil {
			err = errors.Join(err, safepath.RemoveAll(dir))
		}
	}
	return errors.Join(err, work.close())
}

func chainsOf(all []Info) []ChainID {
	var chains []ChainID
	for _, info := range all {
		chains = append(chains, info.Chain)
	}
	return chains
}

// copyTree copies the tree of the chain all to the new directory dir.
func (s *Store) copyTree(ctx context.Context, all []Info, dir string) error {
	mk, err := newMaker(s.opts)
	if err != nil {
		return err
	}
	root, err := s.makeTree(dir, mk)
	if err != nil {
		return err
	}
	defer root.Close()
	v, err := s.openView(nil, all)
	if err != nil {
		return err
	}
	defer v.close()
	top, err := v.top()
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return os.Chmod(dir, 0o755)
	}
	c := copier{ctx: ctx, view: v, root: root, maker: mk, links: map[inodeID]string{}}
	return c.dir("", top)
}

// CopyPart makes dir, which must not exist, a copy of the directory name in the tree of chain; symbolic links on the way
// are followed inside the tree. Owners are those that the container sees, also where the store has others for them. If
// there is no directory of that name, dir is not made.
func (s *Store) CopyPart(ctx context.Context, chain ChainID, name, dir string) error {
	err := s.withChain(chain, func(v *view) error {
		at, n, err := v.resolve(name, true)
		if err != nil || !n.isDir() {
			return err
		}
		return s.copyPart(ctx, v, at, n, dir)
	})
	if err != nil {
		return fmt.Errorf("copy %s of %s: %w", name, chain, err)
	}
	return nil
}

func (s *Store) copyPart(ctx context.Context, v *view, at string, n node, dir string) error {
	mk, err := newMaker(Options{Rootless: s.opts.Rootless}) // the maps are undone
	if err != nil {
		return err
	}
	back, err := newUnshift(s.opts)
	if err != nil {
		return err
	}
	if back.self { // nobody else's ids can be had
		back = unshift{}
	}
	root, err := makeRoot(dir, mk)
	if err != nil {
		return err
	}
	defer root.Close()
	c := copier{ctx: ctx, view: v, root: root, maker: mk, links: map[inodeID]string{}, from: at, back: back}
	return c.dir(at, n)
}

// inodeID names a file of one layer, to find its other names.
type inodeID struct {
	layer int
	inode uint64
}

// copier copies a view into a directory.
type copier struct {
	ctx   context.Context
	view  *view
	root  *safepath.Root
	maker maker
	links map[inodeID]string // where a file with several names was copied to
	from  string             // what is copied, if not all of the view: the copy's top
	back  unshift            // owners are changed by it
}

// target is where name of the view is in the copy.
func (c *copier) target(name string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, c.from), "/")
}

// meta is what a copy gets besides its content.
func (c *copier) meta(n node, name string) (meta, error) {
	m, err := c.view.meta(n, name)
	if err == nil {
		err = c.back.apply(&m)
	}
	return m, err
}

// dir copies what is in the directory n, which exists in the copy, and then
// gives it its metadata.
func (c *copier) dir(name string, n node) error {
	names, err := c.view.names(n, name)
	if err != nil {
		return err
	}
	for _, base := range names {
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		if err := c.entry(path.Join(name, base), n.dirs); err != nil {
			return err
		}
	}
	m, err := c.meta(n, name)
	if err != nil {
		return err
	}
	fd, err := openDir(c.root, c.target(name))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return c.maker.apply(openInode(fd), m, false, false)
}

// names lists the directory n in order. Some may be whiteouts.
func (v *view) names(n node, name string) ([]string, error) {
	all := map[string]bool{}
	for _, layer := range n.dirs {
		top, err := v.layers[layer].root.Dir("", nil)
		if err != nil {
			return nil, err
		}
		names, err := top.Names(name)
		if err != nil {
			return nil, err
		}
		for _, base := range names {
			if v.marks.fuse && strings.HasPrefix(base, whiteoutPrefix) {
				continue // a mark: archives cannot have a file of such a name either
			}
			all[base] = true
		}
	}
	return slices.Sorted(maps.Keys(all)), nil
}

// entry copies what the layers dirs have at name.
func (c *copier) entry(name string, dirs []int) error {
	n, err := c.view.child(dirs, name)
	if err != nil || !n.exists() {
		return err
	}
	d, base, err := c.root.Parent(c.target(name))
	if err != nil {
		return err
	}
	if n.isDir() {
		if err := d.Mkdir(base, 0o700); err != nil {
			return err
		}
		return c.dir(name, n)
	}
	id := inodeID{n.layer, n.st.Ino}
	if first, ok := c.links[id]; ok {
		old, oldBase, err := c.root.Parent(c.target(first))
		if err != nil {
			return err
		}
		return d.Link(old, oldBase, base)
	}
	if n.st.Nlink > 1 {
		c.links[id] = name
	}
	return c.file(name, n, d, base)
}

func (c *copier) file(name string, n node, d *safepath.Dir, base string) error {
	from, fromBase, err := c.view.at(n, name)
	if err != nil {
		return err
	}
	m, err := c.meta(n, name)
	if err != nil {
		return err
	}
	return copyFile(c.maker, from, fromBase, n.st, m, d, base)
}
