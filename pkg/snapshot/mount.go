package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is one mount, as data for mount(2) or for fsopen(2) and fsconfig(2).
// The snapshotter mounts nothing itself.
type Mount struct {
	Type    string   // "overlay", "bind", "tmpfs" or [FuseType]
	Source  string   // for a bind the directory
	Options []string // to be joined by commas for mount(2); "ro", "rw" and "bind" are flags there
	// Lower lists the lower directories of an overlay by their full names, the
	// topmost first: the same as the lowerdir option, for callers that give
	// them one by one (fsconfig(2) "lowerdir+", Linux 6.7) or by descriptor.
	Lower []string
	// Dir is the working directory that the names in the lowerdir option are
	// relative to, "" if they are absolute. It is set for long chains, as
	// mount(2) takes at most a page of options.
	Dir string
	// Images are those of the lower directories that are images: each is to be mounted on its directory, where nobody
	// else sees it, before the overlay is made, which then does without.
	Images []Image
	// UIDMap and GIDMap are given if the files of a bind are to appear with other owners than they have on disk
	// (mount_setattr(2), MOUNT_ATTR_IDMAP): see [Store.MappedView].
	UIDMap, GIDMap []IDMap
}

// Image is a layer that is kept as an EROFS image.
type Image struct {
	File string // the image
	Dir  string // an empty directory, to mount it on
}

// OneDevice is the option of an overlay that has images.
const OneDevice = "xino=on"

// ImageAt returns what belongs on dir, one of [Mount].Lower, if that layer is an image now.
func ImageAt(dir string) (Image, bool) {
	i := Image{File: filepath.Join(filepath.Dir(dir), imageFile), Dir: dir}
	st, err := os.Lstat(i.File)
	return i, err == nil && st.Mode().IsRegular() && filepath.Base(dir) == fsDir
}

// ErofsType is the type of the mount of one image: Source is a file.
const ErofsType = "erofs"

// maxMountData is how many bytes of options mount(2) takes, with the
// terminating zero, where pages are smallest.
const maxMountData = 4096

// Prepare returns what to mount so that the tree of chain appears and changes
// to it go to upper. The directories upper and work are made if need be; they
// must be on one file system, and for this mount only. The chain must not be
// removed while it is mounted.
func (s *Store) Prepare(ctx context.Context, chain ChainID, upper, work string) ([]Mount, error) {
	m, err := s.prepare(ctx, chain, upper, work)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", chain, err)
	}
	return []Mount{m}, nil
}

func (s *Store) prepare(ctx context.Context, chain ChainID, upper, work string) (Mount, error) {
	all, err := s.chain(chain)
	if err != nil {
		return Mount{}, err
	}
	switch {
	case s.opts.Driver == Native:
		return bind(upper, "rw"), s.copyOnce(ctx, all, upper)
	case s.opts.Driver == Btrfs:
		return bind(upper, "rw"), s.snapshotOnce(ctx, all, upper)
	case len(all) == 0:
		if err := os.MkdirAll(upper, 0o755); err != nil {
			return Mount{}, err
		}
		return bind(upper, "rw"), nil
	}
	if err := s.makeUpper(upper, all[0]); err != nil {
		return Mount{}, err
	}
	if err := os.MkdirAll(work, 0o700); err != nil {
		return Mount{}, err
	}
	if err := s.admit(all, work); err != nil {
		return Mount{}, err
	}
	if s.opts.Driver == Fuse {
		return s.served(ctx, all, upper, work)
	}
	return s.overlay(all, "upperdir="+upper, "workdir="+work)
}

// makeUpper makes the upper directory, whose metadata is what the root of the
// overlay shows: that of the topmost layer's root.
func (s *Store) makeUpper(upper string, top Info) error {
	err := os.Mkdir(upper, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		if err = s.dressUpper(upper, top); err != nil {
			err = errors.Join(err, os.Remove(upper))
		}
	}
	return err
}

// dressUpper gives upper the metadata of a layer's root.
func (s *Store) dressUpper(upper string, top Info) error {
	mk, err := newMaker(s.opts)
	if err != nil {
		return err
	}
	root, err := makeRoot(upper, mk)
	if err != nil {
		return err
	}
	defer root.Close()
	v, err := s.openView(nil, []Info{top})
	if err != nil {
		return err
	}
	defer v.close()
	n, err := v.top()
	if err != nil {
		return err
	}
	m, err := v.meta(n, "")
	if err != nil {
		return err
	}
	fd, err := openDir(root, "")
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return mk.apply(openInode(fd), m, false, false)
}

// View returns what to mount so that the tree of chain appears read-only.
func (s *Store) View(ctx context.Context, chain ChainID) ([]Mount, error) {
	m, err := s.view(ctx, chain)
	if err != nil {
		return nil, fmt.Errorf("view %s: %w", chain, err)
	}
	return []Mount{m}, nil
}

func (s *Store) view(ctx context.Context, chain ChainID) (Mount, error) {
	all, err := s.chain(chain)
	switch {
	case err != nil:
		return Mount{}, err
	case len(all) == 0:
		return Mount{Type: "tmpfs", Source: "tmpfs", Options: []string{"ro", "mode=755"}}, nil
	case len(lowers(all)) == 1 && all[0].Image && s.opts.Driver != Fuse:
		return Mount{Type: ErofsType, Source: s.image(all[0]), Options: []string{"ro"}}, nil
	case len(lowers(all)) == 1 && !s.marks.plain() && !all[0].Image:
		return bind(s.fs(all[0]), "ro"), nil
	case s.opts.Driver.whole(), s.opts.Driver == Fuse: // nobody is there to serve a view
		flat, err := s.flat(ctx, all)
		return bind(flat, "ro"), err
	}
	return s.overlay(all, "ro")
}

func bind(dir, mode string) Mount {
	return Mount{Type: "bind", Source: dir, Options: []string{"bind", mode}}
}

// lowers drops what a layer with an opaque root hides.
func lowers(all []Info) []Info {
	for i, info := range all {
		if info.OpaqueRoot {
			return all[:i+1]
		}
	}
	return all
}

// overlay stacks the layers of a chain.
//
// index=off: layers are shared by many overlays, which the index, meant to
// keep hard links together on copy up, cannot have. redirect_dir and metacopy
// would put references to other layers into the upper directory, which then is
// no layer any more; with userxattr they are off anyway.
func (s *Store) overlay(all []Info, more ...string) (Mount, error) {
	m := Mount{Type: "overlay", Source: "overlay"}
	var short []string
	for _, info := range lowers(all) {
		m.Lower = append(m.Lower, s.fs(info))
		short = append(short, filepath.Join(shortDir, info.Short))
		if info.Image {
			m.Images = append(m.Images, Image{s.image(info), s.fs(info)})
		}
	}
	rest := append(more, "index=off")
	if len(m.Images) > 0 {
		// Each image is a file system of its own. With this all files of the overlay are on one device, as programs
		// expect that stay on one; numbers of EROFS's nodes leave enough bits free.
		rest = append(rest, OneDevice)
	}
	if s.opts.Rootless {
		rest = append(rest, "userxattr")
	} else {
		rest = append(rest, "redirect_dir=off", "metacopy=off")
	}
	m.Options = append([]string{"lowerdir=" + strings.Join(m.Lower, ":")}, rest...)
	if len(strings.Join(m.Options, ",")) >= maxMountData {
		m.Options[0] = "lowerdir=" + strings.Join(short, ":")
		m.Dir = s.dir
	}
	if len(strings.Join(m.Options, ",")) >= maxMountData {
		m.Options, m.Dir = rest, "" // only Lower can express this one
	}
	for _, i := range m.Images {
		more = append(more, i.File)
	}
	return m, checkNames(append(m.Lower, more...))
}

// FuseType is the type of a mount that fuse-overlayfs(1) serves; Options are its own.
const FuseType = "fuse.fuse-overlayfs"

// served has fuse-overlayfs stack the layers of a chain.
func (s *Store) served(ctx context.Context, all []Info, upper, work string) (Mount, error) {
	if s.marks.plain() {
		return Mount{}, errors.New("fuse-overlayfs does not know the marks of removed files that a store on an overlay has")
	}
	m := Mount{Type: FuseType, Source: string(Fuse)}
	for _, info := range lowers(all) {
		m.Lower = append(m.Lower, s.fs(info))
	}
	if slices.ContainsFunc(lowers(all), func(i Info) bool { return i.Image }) { // the program reads directories
		flat, err := s.flat(ctx, all)
		if err != nil {
			return m, err
		}
		m.Lower = []string{flat}
	}
	m.Options = []string{"lowerdir=" + strings.Join(m.Lower, ":"), "upperdir=" + upper, "workdir=" + work}
	return m, checkNames(append(m.Lower, m.Options[1:]...))
}

// checkNames refuses names that would be taken apart as options. overlayfs has
// escapes, but not the same in all versions.
func checkNames(names []string) error {
	for _, name := range names {
		if strings.ContainsAny(name, `,:\`) {
			return fmt.Errorf("overlayfs cannot take a name with a comma, colon or backslash: %q", name)
		}
	}
	return nil
}
