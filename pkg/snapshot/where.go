package snapshot

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Where says where a name of a tree comes from: the tree of a chain, and what became of it in the directory upper.
type Where struct {
	// Mode is as stat(2) has it, 0 if there is nothing.
	Mode uint32
	// Link is what a symbolic link says.
	Link string
	// Upper says that it is in the directory upper, as new or changed, or is removed there.
	Upper bool
	// Chain is the snapshot that has it, or that has what was changed or removed. It is empty if none does.
	Chain ChainID
	// Path is the name on the host, empty if there is nothing or if it is in Image.
	Path string
	// Image is the EROFS image that has it, if its layer is kept as one.
	Image string
}

// Where finds a name, clean and without a slash in front, that leads through no symbolic links: "" is the root. A link at its end is
// found itself. The tree may be in use, and may be somebody's who wants harm.
func (s *Store) Where(ctx context.Context, chain ChainID, upper, name string) (Where, error) {
	var w Where
	all, err := s.chain(chain)
	if err == nil {
		err = s.withUpper(chain, upper, func(before, after *view) error {
			w, err = s.where(ctx, all, before, after, name)
			return err
		})
	}
	if err != nil {
		return w, fmt.Errorf("look for /%s: %w", name, err)
	}
	return w, nil
}

func (s *Store) where(ctx context.Context, all []Info, before, after *view, name string) (Where, error) {
	is, err := after.lookup(name)
	if err != nil {
		return Where{}, err
	}
	was, err := before.lookup(name)
	if err != nil {
		return Where{}, err
	}
	w := Where{Mode: is.st.Mode, Upper: is.exists() && is.layer == 0 || was.exists() && !is.exists()}
	if was.exists() {
		w.Chain = all[was.layer].Chain
	}
	if !is.exists() {
		return w, nil
	}
	if is.layer > 0 && all[is.layer-1].Image {
		w.Image = s.image(all[is.layer-1])
	} else {
		w.Path = filepath.Join(after.layers[is.layer].place, name)
	}
	if is.isLink() {
		if w.Link, err = after.readlink(is, name); err != nil {
			return w, err
		}
	}
	if is.layer > 0 { // an opaque directory hides nothing that is seen
		w.Chain = all[is.layer-1].Chain
		return w, nil
	}
	if was.exists() && after.layers[0].opaqueRoot { // all of the tree is there, changed or not
		c := comparison{ctx: ctx, before: before, after: after}
		if is.isDir() && was.isDir() {
			w.Upper, err = c.metaChanged(name, was, is)
		} else {
			w.Upper, err = c.fileChanged(name, was, is)
		}
	}
	return w, err
}

// Follow looks a path of a tree up as the kernel does, from the root, by asking look for each name on the way: its mode, 0
// if there is nothing, and what it says if it is a symbolic link. It returns the path without links, of something that may
// not be there. A link at its end is followed.
func Follow(name string, look func(name string) (mode uint32, link string, err error)) (real string, links []string, err error) {
	real = "/"
	for todo := strings.Split(name, "/"); len(todo) > 0; {
		c := todo[0]
		todo = todo[1:]
		if c == "" || c == "." || c == ".." { // there are no links in real
			real = path.Join(real, c)
			continue
		}
		at := path.Join(real, c)
		mode, link, err := look(at)
		if err != nil {
			return "", links, err
		}
		if mode&unix.S_IFMT != unix.S_IFLNK {
			real = at
			continue
		}
		if links = append(links, at+" -> "+link); len(links) > maxLinks {
			return "", links, &fs.PathError{Op: "look up", Path: name, Err: unix.ELOOP}
		}
		if path.IsAbs(link) {
			real = "/"
		}
		todo = append(strings.Split(link, "/"), todo...)
	}
	return real, links, nil
}
