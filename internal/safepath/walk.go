package safepath

import (
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links one name may lead through, as in the
// kernel (path_resolution(7)).
const maxLinks = 40

// Dir is a directory inside a Root, by descriptor. It stays valid until the
// Root is closed or has resolved [cacheSize]-1 other directories; it is meant
// to be asked for again for every use, which costs next to nothing.
type Dir struct {
	root *Root
	fd   int
	path string
	used uint64
}

// Path is the name of the directory inside the tree at the time of its lookup,
// free of symbolic links; "" is the root.
func (d *Dir) Path() string { return d.path }

// Obstacle is called when the component base of d is no directory and no
// symbolic link, so that a walk cannot go on: mostly because it does not
// exist. It either makes a directory there and returns "", or returns the
// target of a symbolic link that shall be followed as if base were one.
type Obstacle func(d *Dir, base string) (link string, err error)

// Parent resolves all of name but its last component, which is returned as
// base and not looked at. The root itself has no parent: EISDIR.
func (r *Root) Parent(name string) (d *Dir, base string, err error) {
	return r.MakeParent(name, nil)
}

// MakeParent is Parent with a remedy for directories that are missing.
func (r *Root) MakeParent(name string, remedy Obstacle) (d *Dir, base string, err error) {
	c, err := Clean(name)
	if err != nil {
		return nil, "", err
	}
	if c == "" {
		return nil, "", &fs.PathError{Op: "parent of", Path: name, Err: unix.EISDIR}
	}
	dir, base := split(c)
	d, err = r.Dir(dir, remedy)
	return d, base, err
}

// Dir resolves name, following symbolic links inside the tree. What is not
// there is given to remedy; without one it is an error (ENOENT or ENOTDIR).
func (r *Root) Dir(name string, remedy Obstacle) (*Dir, error) {
	c, err := Clean(name)
	if err != nil {
		return nil, err
	}
	if c == "" {
		return r.top, nil
	}
	if d := r.cache.get(c); d != nil {
		return d, nil
	}
	d, err := r.openNear(c)
	if err != nil {
		d, err = r.walk(c, remedy)
	}
	if err != nil {
		return nil, err
	}
	r.cache.put(c, d)
	return d, nil
}

// openNear opens the directory c from the nearest remembered one above it, if
// no symbolic link is on the way.
func (r *Root) openNear(c string) (*Dir, error) {
	from, rest := r.top, c
	for above, _ := split(c); above != ""; above, _ = split(above) {
		if d := r.cache.get(above); d != nil {
			from, rest = d, c[len(above)+1:]
			break
		}
	}
	return from.descend(rest)
}

// descend opens the directory rest below d, where no component is a link.
func (d *Dir) descend(rest string) (*Dir, error) {
	fd, err := openat2(d.fd, rest, unix.O_PATH|unix.O_DIRECTORY, 0,
		unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return nil, &fs.PathError{Op: "open directory", Path: join(d.path, rest), Err: err}
	}
	return &Dir{root: d.root, fd: fd, path: join(d.path, rest)}, nil
}

// walker is one lookup under way, component by component. It does in user
// space what RESOLVE_IN_ROOT does in the kernel, where we must know the real
// path that a link leads to or mend what is missing.
type walker struct {
	at     *Dir
	todo   []string // components still to go, the next one last
	links  int
	remedy Obstacle
}

func (r *Root) walk(name string, remedy Obstacle) (*Dir, error) {
	w := walker{at: r.top, remedy: remedy}
	w.push(name)
	for len(w.todo) > 0 {
		if err := w.step(); err != nil {
			w.leave(nil)
			return nil, err
		}
	}
	if w.at == r.top {
		// The cache owns what it holds, so that it needs a descriptor of its
		// own.
		return r.top.descend("")
	}
	return w.at, nil
}

// push lays the components of a name or link target on the stack.
func (w *walker) push(name string) {
	parts := strings.Split(name, "/")
	for i := len(parts) - 1; i >= 0; i-- {
		if p := parts[i]; p != "" && p != "." {
			w.todo = append(w.todo, p)
		}
	}
}

// leave goes on at next and closes the directory that was reached before.
func (w *walker) leave(next *Dir) {
	if w.at.path != "" {
		w.at.close()
	}
	w.at = next
}

// step takes one component.
func (w *walker) step() error {
	c := w.todo[len(w.todo)-1]
	w.todo = w.todo[:len(w.todo)-1]
	if c == ".." {
		return w.up()
	}
	next, err := w.at.descend(c)
	if err == nil {
		w.leave(next)
		return nil
	}
	link, lerr := w.at.Readlink(c)
	if lerr != nil {
		if w.remedy == nil {
			return err
		}
		if link, err = w.remedy(w.at, c); err != nil {
			return err
		}
	}
	if link == "" {
		return w.enter(c)
	}
	return w.follow(c, link)
}

// enter descends into what the remedy has made.
func (w *walker) enter(c string) error {
	next, err := w.at.descend(c)
	if err == nil {
		w.leave(next)
	}
	return err
}

// follow continues at the target of the link c. An absolute one starts at the
// root of the tree.
func (w *walker) follow(c, link string) error {
	if w.links++; w.links > maxLinks {
		return &fs.PathError{Op: "follow link", Path: join(w.at.path, c), Err: unix.ELOOP}
	}
	if path.IsAbs(link) {
		w.leave(w.at.root.top)
	}
	w.push(link)
	return nil
}

// up goes to the parent by its real path rather than by ".." of a directory
// that somebody may have moved meanwhile. The parent of the root is the root.
func (w *walker) up() error {
	top := w.at.root.top
	above, _ := split(w.at.path)
	if above == "" {
		w.leave(top)
		return nil
	}
	next, err := top.descend(above)
	if err != nil {
		return err
	}
	w.leave(next)
	return nil
}

// split cuts a clean name into its directory and last component.
func split(c string) (dir, base string) {
	if i := strings.LastIndexByte(c, '/'); i >= 0 {
		return c[:i], c[i+1:]
	}
	return "", c
}

// join is the inverse of split.
func join(dir, base string) string {
	switch {
	case dir == "":
		return base
	case base == "":
		return dir
	}
	return dir + "/" + base
}
