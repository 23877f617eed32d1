package snapshot

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/erofs"
)

// imageDir is a directory of an imageLayer's tree, and its name, free of symbolic links.
type imageDir struct {
	node *erofs.Node
	path string
}

// imageObstacle is what safepath.Obstacle is for directories: it makes a directory at base of d, where n is, or nothing if
// that is nil.
type imageObstacle func(d imageDir, base string, n *erofs.Node) error

func splitName(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], name[i+1:]
}

// walk finds a directory of the layer as safepath.Root does: symbolic links of the layer are followed inside it, and what
// is no directory is given to remedy, if there is one.
func (l *imageLayer) walk(name string, remedy imageObstacle) (imageDir, error) {
	at := []imageDir{{l.root, ""}} // and what it is in
	links := 0
	todo := strings.Split(name, "/")
	for len(todo) > 0 {
		c := todo[0]
		todo = todo[1:]
		here := at[len(at)-1]
		switch c {
		case "", ".":
			continue
		case "..":
			at = at[:max(len(at)-1, 1)]
			continue
		}
		n := here.node.Children[c]
		if n != nil && n.Type() == unix.S_IFLNK {
			if links++; links > maxLinks {
				return imageDir{}, &fs.PathError{Op: "follow link", Path: join(here.path, c), Err: unix.ELOOP}
			}
			if path.IsAbs(n.Target) {
				at = at[:1]
			}
			todo = append(strings.Split(n.Target, "/"), todo...)
			continue
		}
		if n == nil || n.Type() != unix.S_IFDIR {
			if err := l.obstacle(here, c, n, remedy); err != nil {
				return imageDir{}, err
			}
			n = here.node.Children[c]
		}
		at = append(at, imageDir{n, join(here.path, c)})
	}
	return at[len(at)-1], nil
}

// obstacle has remedy make a directory.
func (l *imageLayer) obstacle(d imageDir, base string, n *erofs.Node, remedy imageObstacle) error {
	switch {
	case remedy != nil && len(base) <= 255:
		return remedy(d, base, n)
	case n != nil:
		return &fs.PathError{Op: "open", Path: join(d.path, base), Err: unix.ENOTDIR}
	case len(base) > 255:
		return &fs.PathError{Op: "open", Path: join(d.path, base), Err: unix.ENAMETOOLONG}
	}
	return &fs.PathError{Op: "open", Path: join(d.path, base), Err: unix.ENOENT}
}

// missing is the remedy for a parent directory that this layer does not have.
func (l *imageLayer) missing(d imageDir, base string, n *erofs.Node) error {
	name := join(d.path, base)
	switch {
	case n == nil:
		l.noted += int64(len(name)) + 2*noteOverhead
		l.assumed[name] = true
		l.usage.Inodes++
		d.node.Children[base] = l.implied(name)
		return l.checkNotes()
	case isWhiteoutNode(n): // of the lower directory; this is a new one
		l.usage.Inodes++
		c := l.implied(name)
		delete(l.implicit, c)
		l.opaque[c] = true
		d.node.Children[base] = c
		return nil
	}
	return fmt.Errorf("%w: %s is used as a directory", ErrMalformed, name)
}

// implyForCopy makes a directory that the lower view is known to have.
func (l *imageLayer) implyForCopy(d imageDir, base string, n *erofs.Node) error {
	if n != nil {
		return &fs.PathError{Op: "open", Path: join(d.path, base), Err: unix.ENOTDIR}
	}
	l.usage.Inodes++
	d.node.Children[base] = l.implied(join(d.path, base))
	return nil
}

// find finds a name that leads through no symbolic links, nil if it is not there.
func (l *imageLayer) find(name string) *erofs.Node {
	n := l.root
	for rest := name; rest != "" && n != nil; {
		var c string
		c, rest, _ = strings.Cut(rest, "/")
		n = n.Children[c]
	}
	return n
}

// lstat looks at a name, as view.lstat does in a directory.
func (l *imageLayer) lstat(name string) (st unix.Stat_t, what mark, err error) {
	n := l.find(name)
	switch {
	case n == nil:
		return st, markNone, unix.ENOENT
	case l.opaque[n]:
		what = markOpaque
	case isWhiteoutNode(n):
		what = markWhiteout
	}
	return unix.Stat_t{Mode: n.Mode, Uid: n.UID, Gid: n.GID, Size: n.Size()}, what, nil
}
