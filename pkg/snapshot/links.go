package snapshot

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/safepath"
	"golang.org/x/sys/unix"
)

// hardLink makes base another name of target.
func (a *applier) hardLink(d *safepath.Dir, base, linkname string) error {
	target, err := safepath.Clean(linkname)
	if err != nil || target == "" || a.limits.name(target) != nil {
		return fmt.Errorf("%w: hard link to %.200q", ErrMalformed, linkname)
	}
	// What is there goes first: removing it forgets directories, and one of
	// them would be the target's.
	if _, err := d.Lstat(base); err == nil {
		if err := d.RemoveAll(base); err != nil {
			return err
		}
	}
	old, oldBase, st, err := a.linkTarget(target)
	switch {
	case err != nil:
		return err
	case old == nil && a.lower != nil:
		return a.linkLower(d, base, target)
	case old == nil:
		return a.deferLink(d, base, target)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return fmt.Errorf("%w: hard link to directory %q", ErrMalformed, target)
	}
	if err := d.Link(old, oldBase, base); err != nil {
		return err
	}
	if first, ok := a.targets[st.Ino]; ok {
		a.links = append(a.links, linkNote{join(d.Path(), base), first, st.Ino})
	}
	return nil
}

// linkTarget looks for the target of a hard link in this layer; old is nil if
// it is not there.
func (a *applier) linkTarget(target string) (old *safepath.Dir, base string, st unix.Stat_t, err error) {
	old, base, err = a.root.Parent(target)
	if err == nil {
		st, err = old.Lstat(base)
	}
	if err != nil {
		return nil, "", st, unlessGone(err)
	}
	if gone, err := a.marks.isWhiteout(old, base, st); err != nil || gone {
		return nil, "", st, err
	}
	return old, base, st, nil
}

// unlessGone returns err, but nil if it says that there is no such name.
func unlessGone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	return err
}

// linkLower links to a file of the lower view, which is known.
func (a *applier) linkLower(d *safepath.Dir, base, target string) error {
	name, n, err := a.lower.resolve(target, false)
	if self := join(d.Path(), base); name == self || strings.HasPrefix(name, self+"/") {
		n = node{} // the link takes the place of its target
	}
	if err == nil {
		err = checkTarget(n, target)
	}
	if err == nil && n.layer != 0 {
		err = a.copyUp(a.lower, name, n, a.missing)
	}
	if err != nil {
		return err
	}
	old, oldBase, err := a.root.Parent(name)
	if err != nil {
		return err
	}
	return d.Link(old, oldBase, base)
}

func checkTarget(n node, target string) error {
	switch {
	case !n.exists():
		return fmt.Errorf("%w: hard link to %q, which does not exist", ErrMalformed, target)
	case n.isDir():
		return fmt.Errorf("%w: hard link to directory %q", ErrMalformed, target)
	}
	return nil
}

// copyUp copies the file n, found in v at name, to the same name in this
// layer.
func (l *layer) copyUp(v *view, name string, n node, remedy safepath.Obstacle) error {
	d, base, err := l.root.MakeParent(name, remedy)
	if err != nil {
		return err
	}
	from, fromBase, err := v.at(n, name)
	if err != nil {
		return err
	}
	m, err := v.meta(n, name)
	if err != nil {
		return err
	}
	l.usage.Bytes += n.st.Size
	l.usage.Inodes++
	return copyFile(l.maker, from, fromBase, n.st, m, d, base)
}

// deferLink keeps the place of a hard link whose target must be in the lower
// view.
func (a *applier) deferLink(d *safepath.Dir, base, target string) error {
	held, err := a.held.Dir("", nil)
	if err != nil {
		return err
	}
	name, ok := a.holders[target]
	if !ok {
		name = strconv.Itoa(len(a.holders))
		fd, err := held.Create(name, 0o600)
		if err != nil {
			return err
		}
		unix.Close(fd)
		a.holders[target] = name
	}
	st, err := held.Lstat(name)
	if err != nil {
		return err
	}
	a.targets[st.Ino] = target
	a.links = append(a.links, linkNote{join(d.Path(), base), target, st.Ino})
	return d.Link(held, name, base)
}

// settleLinks replaces the placeholders of hard links by links to copies of
// the files that they stand for, as overlayfs copies up a file that is linked
// to.
func (l *layer) settleLinks(v *view) error {
	lower := v.under()
	copied := map[string]bool{}
	for _, link := range l.links {
		if err := l.settleLink(v, lower, link, copied); err != nil {
			return fmt.Errorf("hard link %q to %q: %w", link.name, link.target, err)
		}
	}
	return nil
}

// holdsPlace reports whether the placeholder of a link is still there, as no
// later entry took its place.
func (l *layer) holdsPlace(link linkNote) (bool, error) {
	d, base, err := l.root.Parent(link.name)
	if err != nil {
		return false, unlessGone(err)
	}
	st, err := d.Lstat(base)
	return err == nil && st.Ino == link.inode, unlessGone(err)
}

// settleLink settles one link. The target must be the same for the lower view
// and for all layers together: if this layer did anything on the way to it,
// the order of its entries matters.
func (l *layer) settleLink(all, lower *view, link linkNote, copied map[string]bool) error {
	name, n, err := lower.resolve(link.target, false)
	if err != nil {
		return err
	}
	seenName, seen, err := all.resolve(link.target, false)
	if err != nil {
		return err
	}
	same := n.exists() && seenName == name && (seen.layer != 0 || copied[name])
	if !same && len(lower.layers) > 0 {
		return ErrDependsOnParent
	}
	if err := checkTarget(n, link.target); err != nil {
		return err
	}
	if there, err := l.holdsPlace(link); err != nil || !there {
		return err
	}
	if !copied[name] {
		if err := l.copyUp(lower, name, n, l.implyForCopy); err != nil {
			return err
		}
		copied[name] = true
	}
	return l.replaceByLink(name, link.name)
}

// implyForCopy makes a directory that the lower view is known to have.
func (l *layer) implyForCopy(d *safepath.Dir, base string) (string, error) {
	l.dirs[join(d.Path(), base)] = &dirNote{meta: l.maker.implied(), implicit: true}
	l.usage.Inodes++
	return "", d.Mkdir(base, 0o700)
}

// replaceByLink makes name, a placeholder, another name of the file old.
func (l *layer) replaceByLink(old, name string) error {
	from, fromBase, err := l.root.Parent(old)
	if err != nil {
		return err
	}
	d, base, err := l.root.Parent(name)
	if err != nil {
		return err
	}
	const temporary = ".wh..wh.link" // no entry can have this name
	if err := d.Link(from, fromBase, temporary); err != nil {
		return err
	}
	return d.Rename(temporary, d, base)
}
