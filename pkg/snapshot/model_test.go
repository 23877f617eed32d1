package snapshot

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// model is a root file system in memory to which layers are applied one after
// another, entry by entry: what unpacking must be equal to. It shares no code
// and no idea (independent layers, placeholders) with the package.
type model struct {
	root  *modelNode
	layer int // number of the layer being applied
}

type modelNode struct {
	kind     byte // a tar type
	meta     string
	body     string // of a file its data, of a link its target
	children map[string]*modelNode
	layer    int // that put it here or, a directory, something into it
	explicit int // layer whose entry described it last
	parent   *modelNode
}

var errModel = errors.New("refused by the model")

func newModel() *model {
	m := &model{}
	m.root = newModelDir(nil, 0)
	m.root.parent = m.root
	return m
}

// defaultDirMeta is that of a directory that nobody describes: root's, or
// noted to be so where we cannot make it root's.
var defaultDirMeta = func() string {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Sprintf(`0755 %d:%d 0.000000000 user.containers.override_stat="0:0:0755"`, uid, os.Getegid())
	}
	return "0755 0:0 0.000000000"
}()

func newModelDir(parent *modelNode, layer int) *modelNode {
	return &modelNode{kind: tar.TypeDir, meta: defaultDirMeta, children: map[string]*modelNode{}, layer: layer, parent: parent}
}

func modelMeta(h tar.Header) string {
	mtime := h.ModTime
	if mtime.IsZero() {
		mtime = stamp
	}
	s := fmt.Sprintf("%04o %d:%d %s", h.Mode&0o7777, h.Uid, h.Gid, modelTime(mtime))
	return s
}

func modelTime(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }

func modelAttrs(h tar.Header) string {
	if v, ok := h.PAXRecords["SCHILY.xattr.user.note"]; ok {
		return fmt.Sprintf(" user.note=%q", v)
	}
	return ""
}

// apply applies one layer.
func (m *model) apply(entries []entry) error {
	m.layer++
	for _, e := range entries {
		if err := m.entry(e); err != nil {
			return fmt.Errorf("%q: %w", e.Name, err)
		}
	}
	return nil
}

func (m *model) entry(e entry) error {
	name := strings.TrimPrefix(path.Clean("/"+e.Name), "/")
	if name == "" {
		if e.Typeflag != tar.TypeDir {
			return errModel
		}
		m.root.meta, m.root.explicit = modelMeta(e.Header)+modelAttrs(e.Header), m.layer
		return nil
	}
	d, err := m.walk(path.Dir(name), m.root, true, new(int))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if base == ".wh..wh..opq" {
		m.hideLower(d)
		return nil
	}
	if gone, ok := strings.CutPrefix(base, ".wh."); ok {
		m.whiteout(d, gone)
		return nil
	}
	return m.place(d, base, e)
}

// walk follows a path from at, making what is missing when it may.
func (m *model) walk(name string, at *modelNode, make bool, links *int) (*modelNode, error) {
	if strings.HasPrefix(name, "/") {
		at = m.root
	}
	for _, c := range strings.Split(name, "/") {
		switch c {
		case "", ".":
			continue
		case "..":
			at = at.parent
			continue
		}
		next := at.children[c]
		switch {
		case next == nil && !make:
			return nil, errModel
		case next == nil, next.kind != tar.TypeDir && next.kind != tar.TypeSymlink && next.layer != m.layer && make:
			next = newModelDir(at, m.layer)
			at.children[c] = next
		case next.kind == tar.TypeSymlink:
			if *links++; *links > 40 {
				return nil, errModel
			}
			var err error
			if next, err = m.walk(next.body, at, make, links); err != nil {
				return nil, err
			}
		case next.kind != tar.TypeDir:
			return nil, errModel
		}
		at = next
		if make {
			at.layer = m.layer
		}
	}
	return at, nil
}

// hideLower removes from d what this layer has not put there.
func (m *model) hideLower(d *modelNode) {
	for name, child := range d.children {
		if child.layer != m.layer {
			delete(d.children, name)
			continue
		}
		if child.kind == tar.TypeDir {
			m.hideLower(child)
			if child.explicit != m.layer {
				child.meta = defaultDirMeta
			}
		}
	}
}

func (m *model) whiteout(d *modelNode, name string) {
	child := d.children[name]
	switch {
	case child == nil:
	case child.layer != m.layer:
		delete(d.children, name)
	case child.kind == tar.TypeDir:
		m.hideLower(child)
		if child.explicit != m.layer {
			child.meta = defaultDirMeta
		}
	}
}

func (m *model) place(d *modelNode, base string, e entry) error {
	old := d.children[base]
	if e.Typeflag == tar.TypeDir {
		if old == nil || old.kind != tar.TypeDir {
			old = newModelDir(d, m.layer)
			d.children[base] = old
		}
		old.meta, old.layer, old.explicit = modelMeta(e.Header)+modelAttrs(e.Header), m.layer, m.layer
		return nil
	}
	if e.Typeflag == tar.TypeLink {
		return m.link(d, base, e.Linkname)
	}
	n := &modelNode{kind: e.Typeflag, meta: modelMeta(e.Header), layer: m.layer, body: e.Linkname}
	if e.Typeflag == tar.TypeReg {
		n.body = e.data
		n.meta += fmt.Sprintf(" %d %x", len(e.data), sha256.Sum256([]byte(e.data))) + modelAttrs(e.Header)
	}
	d.children[base] = n
	return nil
}

func (m *model) link(d *modelNode, base, target string) error {
	target = strings.TrimPrefix(path.Clean("/"+target), "/")
	if target == "" {
		return errModel
	}
	delete(d.children, base)
	from, err := m.walk(path.Dir(target), m.root, false, new(int))
	if err != nil {
		return err
	}
	n := from.children[path.Base(target)]
	if n == nil || n.kind == tar.TypeDir {
		return errModel
	}
	if n.layer != m.layer {
		// Copied up: other names of it in lower layers are other files now.
		up := *n
		up.layer = m.layer
		n = &up
		from.children[path.Base(target)] = n
		m.touch(from)
	}
	d.children[base] = n
	return nil
}

// touch notes that this layer has the directory d and those above it.
func (m *model) touch(d *modelNode) {
	for ; d != m.root; d = d.parent {
		d.layer = m.layer
	}
}

// fingerprint describes the tree as fingerprint of a directory does.
func (m *model) fingerprint() map[string]string {
	all := map[string]string{}
	m.describe(".", m.root, all, map[*modelNode]string{})
	return all
}

var modelKinds = map[byte]string{tar.TypeDir: "04", tar.TypeReg: "10", tar.TypeSymlink: "12", tar.TypeFifo: "01"}

func (m *model) describe(name string, n *modelNode, all map[string]string, first map[*modelNode]string) {
	s := modelKinds[n.kind] + n.meta
	if n.kind == tar.TypeSymlink {
		s += " -> " + n.body
	}
	if n.kind != tar.TypeDir {
		if f, ok := first[n]; ok {
			s = insertLink(s, " = "+f)
		} else {
			first[n] = name
		}
	}
	all[name] = s
	for _, c := range slices.Sorted(maps.Keys(n.children)) {
		m.describe(path.Join(name, c), n.children[c], all, first)
	}
}

// insertLink puts the note about a hard link before the attributes.
func insertLink(s, link string) string {
	if i := strings.Index(s, " user.note="); i >= 0 {
		return s[:i] + link + s[i:]
	}
	return s + link
}
