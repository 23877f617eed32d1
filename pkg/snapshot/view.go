package snapshot

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/containr/containr/internal/erofs"
	"github.com/containr/containr/internal/safepath"
	"golang.org/x/sys/unix"
)

// view shows a stack of layers as one tree, by the rules of overlayfs
// (Documentation/filesystems/overlayfs.rst), without mounting it. Layer 0 is
// on top. Names given to its methods lead through no symbolic links, unless
// they say otherwise.
type view struct {
	layers []layerTree
	lent   int // how many layers belong to somebody else
	marks  marks
}

type layerTree struct {
	root       *safepath.Root
	image      *imageLayer // instead of root: one on its way into the store
	opaqueRoot bool
	place      string // the directory that it is in, where that matters
}

// node is what a view has at one name. The zero value is nothing.
type node struct {
	st    unix.Stat_t // of the topmost layer that has it
	layer int
	dirs  []int // of a directory: the layers that are merged, from the top
}

func (n node) exists() bool { return n.st.Mode != 0 }
func (n node) isDir() bool  { return n.st.Mode&unix.S_IFMT == unix.S_IFDIR }
func (n node) isLink() bool { return n.st.Mode&unix.S_IFMT == unix.S_IFLNK }

// openView opens the snapshots in chain, top first, below the tree over, if
// that is not nil. It must be closed, which leaves over open.
func (s *Store) openView(over *layerTree, chain []Info) (*view, error) {
	v := &view{marks: s.marks}
	if over != nil {
		v.layers = append(v.layers, *over)
		v.lent = 1
	}
	for _, info := range chain {
		root, err := s.openLayer(info)
		if err != nil {
			v.close()
			return nil, err
		}
		v.layers = append(v.layers, layerTree{root: root, opaqueRoot: info.OpaqueRoot, place: s.fs(info)})
	}
	return v, nil
}

// openLayer opens the tree of a layer. That of an image is a mount, attached nowhere, which goes when it is closed.
func (s *Store) openLayer(info Info) (*safepath.Root, error) {
	if !info.Image {
		return safepath.OpenRoot(s.fs(info))
	}
	mount, err := erofs.Mount(s.image(info))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoErofs, err)
	}
	defer mount.Close()
	return safepath.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", mount.Fd()))
}

// close closes the layers that the view has opened.
func (v *view) close() {
	for _, l := range v.layers[v.lent:] {
		l.root.Close()
	}
}

// under is the view without its top layer; it needs no closing.
func (v *view) under() *view {
	return &view{layers: v.layers[1:], marks: v.marks}
}

// top is the root of the view.
func (v *view) top() (node, error) {
	n := node{}
	for i, l := range v.layers {
		n.dirs = append(n.dirs, i)
		if l.opaqueRoot {
			break
		}
	}
	if len(n.dirs) == 0 {
		return n, nil
	}
	if image := v.layers[0].image; image != nil {
		var err error
		n.st, _, err = image.lstat("")
		return n, err
	}
	d, err := v.layers[0].root.Dir("", nil)
	if err == nil {
		n.st, err = d.Lstat("")
	}
	return n, err
}

// child looks for name in the directory that the layers dirs make.
func (v *view) child(dirs []int, name string) (node, error) {
	var n node
	for _, i := range dirs {
		st, what, err := v.lstat(i, name)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return node{}, err
		}
		if what == markWhiteout {
			break
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if n.exists() && !isDir {
			break // a directory hides a file
		}
		if !n.exists() {
			n.st, n.layer = st, i
		}
		if isDir {
			n.dirs = append(n.dirs, i)
		}
		if !isDir || what == markOpaque {
			break
		}
	}
	return n, nil
}

// lstat looks at name in one layer, and whether it is marked.
func (v *view) lstat(layer int, name string) (st unix.Stat_t, what mark, err error) {
	if image := v.layers[layer].image; image != nil {
		return image.lstat(name)
	}
	d, base, err := v.layers[layer].root.Parent(name)
	if err != nil {
		return st, markNone, err
	}
	if st, err = d.Lstat(base); err != nil {
		if errors.Is(err, unix.ENOENT) && v.marks.hidden(d, base) {
			return st, markWhiteout, nil
		}
		return st, markNone, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		opaque, err := v.marks.isOpaque(d, base)
		if opaque {
			what = markOpaque
		}
		return st, what, err
	}
	gone, err := v.marks.isWhiteout(d, base, st)
	if gone {
		what = markWhiteout
	}
	return st, what, err
}

// lookup finds name.
func (v *view) lookup(name string) (node, error) {
	n, err := v.top()
	for done, rest := "", name; rest != "" && err == nil && n.isDir(); {
		var c string
		c, rest, _ = strings.Cut(rest, "/")
		done = path.Join(done, c)
		n, err = v.child(n.dirs, done)
		if rest != "" && !n.isDir() {
			return node{}, err
		}
	}
	return n, err
}

// below finds what the layers under the top one have at name, as far as the
// top one lets them be seen there: nothing below an opaque or removed
// directory.
func (v *view) below(name string) (node, error) {
	if name == "" {
		return v.belowRoot()
	}
	n, err := v.lookup(parent(name))
	if err != nil || !n.isDir() {
		return node{}, err
	}
	if n.dirs[0] == 0 {
		n.dirs = n.dirs[1:]
	}
	return v.child(n.dirs, name)
}

// belowRoot is the root of the layers under the top one. It exists also when
// the top one hides all that is in it.
func (v *view) belowRoot() (node, error) {
	if len(v.layers) < 2 {
		return node{}, nil
	}
	n, err := v.under().top()
	n.layer++
	for i := range n.dirs {
		n.dirs[i]++
	}
	return n, err
}

// readlink returns the target of the symbolic link n at name.
func (v *view) readlink(n node, name string) (string, error) {
	if image := v.layers[n.layer].image; image != nil {
		return image.find(name).Target, nil
	}
	d, base, err := v.at(n, name)
	if err != nil {
		return "", err
	}
	return d.Readlink(base)
}

// at returns where n, found at name, is.
func (v *view) at(n node, name string) (*safepath.Dir, string, error) {
	if name == "" {
		d, err := v.layers[n.layer].root.Dir("", nil)
		return d, "", err
	}
	return v.layers[n.layer].root.Parent(name)
}

// maxLinks is how many symbolic links a name may lead through.
const maxLinks = 40

// resolve finds name as the kernel would inside the tree: links on the way are
// followed, and one at the end if follow says so. It returns the name without
// links, also of something that does not exist in its directory.
func (v *view) resolve(name string, follow bool) (string, node, error) {
	at, todo, links := "", strings.Split(name, "/"), 0
	n, err := v.top()
	for len(todo) > 0 && err == nil {
		c := todo[0]
		todo = todo[1:]
		switch {
		case c == "" || c == ".":
			continue
		case !n.isDir():
			return "", node{}, nil
		case c == "..":
			at = parent(at)
			n, err = v.lookup(at)
			continue
		}
		at = join(at, c)
		n, err = v.child(n.dirs, at)
		if err != nil || !n.isLink() || len(todo) == 0 && !follow {
			continue
		}
		if links++; links > maxLinks {
			return "", node{}, fmt.Errorf("%s: %w", name, unix.ELOOP)
		}
		var target string
		target, err = v.readlink(n, at)
		todo = append(strings.Split(target, "/"), todo...)
		at = parent(at)
		if path.IsAbs(target) {
			at = ""
		}
		if err == nil {
			n, err = v.lookup(at)
		}
	}
	return at, n, err
}

// parent is the directory of a name; that of the root is the root.
func parent(name string) string {
	return name[:max(strings.LastIndexByte(name, '/'), 0)]
}
