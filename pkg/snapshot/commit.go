package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/internal/sys"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Commit makes st the last layer of the chain parent, which must be unpacked,
// and returns the name of the longer chain. Whether it succeeds or not, st is
// used up. That the chain exists already is no error. ErrDependsOnParent is
// explained at the top of the package.
func (s *Store) Commit(ctx context.Context, st *Staged, parent ChainID) (ChainID, error) {
	chain := Chain(parent, st.DiffID)
	err := s.commit(ctx, st, parent, chain)
	err = errors.Join(err, st.Discard())
	if err != nil {
		return "", fmt.Errorf("commit layer %s: %w", st.DiffID, err)
	}
	return chain, nil
}

// commit holds the lock against removal until the new snapshot is in its
// place, so that its parent stays.
func (s *Store) commit(ctx context.Context, st *Staged, parent, chain ChainID) error {
	lock, err := s.lock(ctx, durable.Shared)
	if err != nil {
		return err
	}
	defer lock.Release()
	below, err := s.chain(parent)
	if err != nil {
		return err
	}
	if s.Has(chain) {
		return nil
	}
	if err := st.settle(below); err != nil {
		return err
	}
	return s.publish(st, parent, chain)
}

// settler is a layer that waits for the chain below: a directory (layer) or an image (imageLayer).
type settler interface {
	settleLinks(v *view) error
	settleDirs(v *view) error
	settleWhiteouts(v *view) error
}

// settle does what extraction could not know, and finishes the layer.
func (st *Staged) settle(below []Info) error {
	if l := st.image; l != nil {
		if err := st.settleOn(below, &layerTree{image: l, opaqueRoot: l.opaqueRoot}, l, l.assumed); err != nil {
			return err
		}
		return l.finish(st.DiffID)
	}
	l := st.layer
	if err := st.settleOn(below, &layerTree{root: l.root, opaqueRoot: l.opaqueRoot}, l, l.assumed); err != nil {
		return err
	}
	return l.finishDirs()
}

// settleOn settles the layer l, whose files are tree, on the chain below.
func (st *Staged) settleOn(below []Info, tree *layerTree, l settler, assumed map[string]bool) error {
	v, err := st.store.openView(tree, below)
	if err != nil {
		return err
	}
	defer v.close()
	if err := checkAssumed(assumed, v); err != nil {
		return err
	}
	for _, part := range []func(*view) error{l.settleLinks, l.settleDirs, l.settleWhiteouts} {
		if err := part(v); err != nil {
			return err
		}
	}
	return nil
}

// checkAssumed reports whether a directory that was assumed is a symbolic link
// in the lower view, even one that the layer hides later.
func checkAssumed(assumed map[string]bool, v *view) error {
	lower := v.under()
	for name := range assumed {
		n, err := lower.lookup(name)
		if err != nil {
			return err
		}
		if n.isLink() {
			return fmt.Errorf("%s: %w", name, ErrDependsOnParent)
		}
	}
	return nil
}

// settleDirs gives directories that no entry describes the metadata of the
// lower view.
func (l *layer) settleDirs(v *view) error {
	for _, name := range slices.Sorted(maps.Keys(l.dirs)) {
		note := l.dirs[name]
		if !note.implicit {
			continue
		}
		n, err := v.below(name)
		if err == nil && n.isDir() {
			note.meta, err = v.meta(n, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// meta reads the metadata of n, found at name.
func (v *view) meta(n node, name string) (meta, error) {
	d, base, err := v.at(n, name)
	if err != nil {
		return meta{}, err
	}
	m := meta{
		mode:  n.st.Mode & permBits,
		uid:   int(n.st.Uid),
		gid:   int(n.st.Gid),
		atime: time.Unix(n.st.Atim.Unix()),
		mtime: time.Unix(n.st.Mtim.Unix()),
	}
	attrs, err := d.Listxattr(base)
	if errors.Is(err, unix.ENOTSUP) {
		return m, nil
	}
	for _, attr := range attrs {
		if foreign(attr) {
			continue
		}
		value, err := d.Getxattr(base, attr)
		if err != nil {
			return meta{}, err
		}
		if m.xattrs == nil {
			m.xattrs = make(map[string]string)
		}
		m.xattrs[attr] = string(value)
	}
	return m, err
}

// settleWhiteouts removes those that hide nothing.
func (l *layer) settleWhiteouts(v *view) error {
	for _, name := range l.whiteouts {
		d, base, err := l.root.Parent(name)
		if err == nil {
			err = l.settleWhiteout(v, d, base, name)
		}
		// Where it is gone, a later entry took its place or removed its
		// directory.
		if unlessGone(err) != nil {
			return err
		}
	}
	return nil
}

func (l *layer) settleWhiteout(v *view, d *safepath.Dir, base, name string) error {
	here, err := d.Lstat(base)
	if err != nil {
		return err
	}
	if gone, err := l.marks.isWhiteout(d, base, here); err != nil || !gone {
		return err
	}
	n, err := v.below(name)
	if err != nil || n.exists() {
		return err
	}
	l.usage.Inodes--
	return d.Remove(base)
}

// finishDirs applies the metadata of directories, each after those in it.
// Names that are gone, because a later entry replaced them, are passed over.
func (l *layer) finishDirs() error {
	names := slices.Sorted(maps.Keys(l.dirs))
	slices.Reverse(names)
	for _, name := range names {
		if err := l.finishDir(name, l.dirs[name].meta); err != nil {
			return fmt.Errorf("directory %q: %w", name, err)
		}
	}
	return nil
}

func (l *layer) finishDir(name string, m meta) error {
	fd, err := openDir(l.root, name)
	if err != nil {
		return unlessGone(err)
	}
	defer unix.Close(fd)
	owned := m.uid == l.maker.uid && m.gid == l.maker.gid
	return l.maker.apply(openInode(fd), m, owned, m.mode == 0o700)
}

// openDir opens a directory that can be changed by its descriptor. No
// component of name may be a symbolic link.
func openDir(root *safepath.Root, name string) (int, error) {
	top, err := root.Dir("", nil)
	if err != nil {
		return -1, err
	}
	return top.Open(name, unix.O_RDONLY|unix.O_DIRECTORY)
}

// publish moves the finished layer to its place.
func (s *Store) publish(st *Staged, parent, chain ChainID) error {
	dir, err := s.path(chain)
	if err != nil {
		return err
	}
	short, err := s.shorten(chain)
	if err != nil {
		return err
	}
	info := Info{
		DiffID:       st.DiffID,
		Parent:       parent,
		Created:      time.Now().UTC(),
		Short:        short,
		UnsyncedBoot: sys.BootID(),
	}
	if st.image != nil {
		info.Image, info.Usage, info.OpaqueRoot = true, st.image.usage, st.image.opaqueRoot
		info.ImageSum = st.image.writer.Sum()
	} else {
		info.Usage, info.OpaqueRoot = st.layer.usage, st.layer.opaqueRoot
	}
	layer := filepath.Join(st.work.dir, layerDir)
	if err := writeInfo(layer, info, durable.Options{Volatile: true}); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	return replaceDoubtful(layer, dir, filepath.Join(st.work.dir, "doubtful"))
}

// replaceDoubtful renames layer to dir. What a power failure made doubtful
// there goes to aside; what another process has just put there is as good as
// ours.
func replaceDoubtful(layer, dir, aside string) error {
	if info, err := readInfo(dir); err != nil || info.doubtful() {
		if err := os.Rename(dir, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err := os.Rename(layer, dir)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	return err
}

func writeInfo(dir string, info Info, o durable.Options) error {
	data, err := json.MarshalIndent(info, "", "\t")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, metaFile), append(data, '\n'), o)
}

// shorten makes a symbolic link in l/ to the layer of chain and returns its
// name: the first digits of the chain id, as many as make it unique in this
// store.
func (s *Store) shorten(chain ChainID) (string, error) {
	d := digest.Digest(chain)
	target := filepath.Join("..", d.Algorithm().String(), d.Encoded(), fsDir)
	for n := 8; n <= len(d.Encoded()); n += 4 {
		short := d.Encoded()[:n]
		link := filepath.Join(s.dir, shortDir, short)
		err := os.Symlink(target, link)
		if err == nil {
			return short, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		if old, err := os.Readlink(link); err == nil && old == target {
			return short, nil
		}
	}
	return "", fmt.Errorf("no short name for %s", chain)
}
