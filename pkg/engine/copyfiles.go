package engine

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/image"
)

// Copying is a tar stream from one tree to another: what is read on one side is written on the other as
// it comes, and a user's own stream can take the place of either side. Both sides are resolved by
// safepath. For a container that is its root, for a volume the top of it; for the host, where the user's path is trusted, the
// directory that is copied to: nothing in the stream can lead out of it.

// FilePlace is one side of a copy.
type FilePlace struct {
	// Container is its name or id; if it is empty, and Volume too, the place is on the host.
	Container string
	// Volume is the name of a volume or snapshot.
	Volume string
	// Path is absolute, or, in a container or volume, counts from the root. A slash at its end says that it is a
	// directory; "/." that what is in it is meant.
	Path string
	// Stream, if not nil, is a tar archive in the place of a path of the host.
	In  io.Reader
	Out io.Writer
}

// isStream says whether the place is the user's own archive.
func (p FilePlace) isStream() bool { return p.In != nil || p.Out != nil }

// isHost says whether the place is the host.
func (p FilePlace) isHost() bool { return p.Container == "" && p.Volume == "" }

// failed names the place as the user knows it in an error that has the path below an open directory.
func (p FilePlace) failed(op string, err error) error {
	var at *fs.PathError
	if !errors.As(err, &at) {
		return err
	}
	name := p.Path
	if !p.isHost() {
		name = p.Container + p.Volume + ":" + name
	}
	return &fs.PathError{Op: op, Path: name, Err: at.Err}
}

// CopyFilesRequest asks for files to be copied from one place to the other.
type CopyFilesRequest struct {
	From, To FilePlace
	// Archive keeps owners, set-user-ID and set-group-ID bits and extended attributes. Without it the copy belongs to who
	// makes it, root in a container, the user on the host, and has no such bits.
	Archive bool
	// Follow copies what a symbolic link leads to, if From is one.
	Follow bool
}

// Errors of copies that callers tell apart.
var (
	ErrNotDirectory = errors.New("not a directory")
	ErrIsDirectory  = errors.New("is a directory")
	// ErrSameContainer means that both sides are in one container.
	ErrSameContainer = errors.New("both sides are in this container")
)

// CopyFiles copies, and returns how many bytes the archive had that the copy is made of.
func (e *Engine) CopyFiles(ctx context.Context, r CopyFilesRequest) (int64, error) {
	var source, target *side
	var err error
	if !r.From.isStream() {
		if source, err = e.openSide(ctx, r.From, false); err != nil {
			return 0, err
		}
		defer source.close()
	}
	if !r.To.isStream() {
		if err := e.differ(ctx, r); err != nil {
			return 0, err
		}
		if target, err = e.openSide(ctx, r.To, true); err != nil {
			return 0, err
		}
		defer target.close()
		if err := target.mayWrite(); err != nil {
			return 0, err
		}
	}
	n, err := copyBetween(ctx, r, source, target)
	if err == nil && target != nil {
		err = target.settle()
	}
	for _, s := range []*side{source, target} {
		switch {
		case err != nil || s == nil || s.done == nil:
		case s.volume != "":
			e.tellVolume(events.Copy, s.volume)
		default:
			e.tell(events.Copy, s.record)
		}
	}
	return n, err
}

// differ refuses to copy from a container or volume to itself: a directory could be copied into itself, without
// end.
func (e *Engine) differ(ctx context.Context, r CopyFilesRequest) error {
	if r.From.Volume != "" && r.From.Volume == r.To.Volume {
		return fmt.Errorf("volume %s: both sides are in this volume", r.To.Volume)
	}
	if r.From.Container == "" || r.To.Container == "" {
		return nil
	}
	from, err := e.Get(ctx, r.From.Container)
	if err != nil {
		return err
	}
	to, err := e.Get(ctx, r.To.Container)
	if err == nil && from.ID == to.ID {
		err = fmt.Errorf("container %s: %w", to.Name, ErrSameContainer)
	}
	return err
}

// copyBetween copies from one side to the other; a side that is nil is a stream.
func copyBetween(ctx context.Context, r CopyFilesRequest, source, target *side) (int64, error) {
	count := &counter{}
	in := r.From.In
	var what *copied
	if source != nil {
		var err error
		if what, err = source.find(r.From.Path, r.Follow); err != nil {
			return 0, r.From.failed("copy", err)
		}
		what.users = source.users
		defer what.parent.Close()
	}
	if target == nil {
		err := what.pack(ctx, io.MultiWriter(r.To.Out, count), what.name)
		return count.n, err
	}
	root, name, err := target.destination(r.To.Path, what)
	if err != nil {
		return 0, r.To.failed("copy to", err)
	}
	defer root.Close()
	if what != nil {
		if err := what.mustBeApart(root); err != nil {
			return 0, r.To.failed("copy to", err)
		}
		reader, writer := io.Pipe()
		go func() { writer.CloseWithError(what.pack(ctx, writer, name)) }()
		defer reader.Close()
		in = reader
	}
	u := &unpacking{root: root, archive: r.Archive, uid: target.uid, gid: target.gid, staging: target.staging, users: target.users}
	if err = u.unpack(ctx, io.TeeReader(in, count)); err != nil {
		err = fmt.Errorf("copy: %w", err)
	}
	return count.n, err
}

// counter counts what is written to it.
type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) { c.n += int64(len(b)); return len(b), nil }

// side is a tree with who owns what is made in it.
type side struct {
	*tree
	uid, gid int
	// users are those of a container whose files have, seen from here, other owners than inside.
	users *home

	// volume is its name, if it is one. What is copied to it appears whole: it is made in staging, beside what containers see.
	volume  string
	staging *safepath.Root
	settles func() error
}

// settle makes what was copied last through a power failure, in a volume.
func (s *side) settle() error {
	if s.settles == nil {
		return nil
	}
	return s.settles()
}

// openSide opens one side; writes says that it is copied to.
func (e *Engine) openSide(ctx context.Context, p FilePlace, writes bool) (*side, error) {
	if p.Volume != "" {
		return e.openVolumeSide(ctx, p, writes)
	}
	if p.Container == "" {
		root, err := safepath.OpenRoot("/")
		return &side{tree: &tree{Root: root}, uid: os.Geteuid(), gid: os.Getegid()}, err
	}
	record, err := e.Get(ctx, p.Container)
	if err != nil {
		return nil, err
	}
	home, err := e.homeOf(record.Config)
	if err != nil {
		return nil, err
	}
	t, err := e.openTree(ctx, record)
	if err != nil {
		return nil, err
	}
	s := &side{tree: t}
	if home.mapped || home.idmapped && !t.stopped { // in layers that are mapped they have their own
		s.users = home
	}
	if os.Geteuid() != 0 {
		s.uid, s.gid = os.Geteuid(), os.Getegid()
	}
	if err := s.reaches(p.Path); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// reaches refuses what is below a mount of a container that does not run: the mount is not there.
func (s *side) reaches(name string) error {
	if !s.stopped {
		return nil
	}
	clean := path.Clean("/" + name)
	for _, m := range s.record.Spec.Mounts {
		if m.Destination != "/" && (clean == m.Destination || strings.HasPrefix(clean, m.Destination+"/")) {
			return fmt.Errorf("container %s: %s is on a mount, which is there only while it runs: %w", s.record.Name, clean, ErrNotRunning)
		}
	}
	return nil
}

// mayWrite refuses what cannot be done on this side.
func (s *side) mayWrite() error {
	if s.stopped && s.record.Config.ReadOnly {
		return fmt.Errorf("container %s: its root file system is read only: %w", s.record.Name, unix.EROFS)
	}
	return nil
}

// copied is what is copied: an entry of an open directory, the directory itself if base is ".".
type copied struct {
	parent   *os.File
	base     string
	name     string // its last component as the user wrote it
	isDir    bool
	contents bool // what is in the directory, not itself
	users    *home
}

// maxCopyLinks is how many symbolic links are followed.
const maxCopyLinks = 40

// find finds what is to be copied.
func (s *side) find(name string, follow bool) (*copied, error) {
	clean := path.Clean("/" + name)
	asDir := strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.")
	c := &copied{base: ".", name: path.Base(clean), contents: strings.HasSuffix(name, "/.") || clean == "/"}
	real := clean
	for range maxCopyLinks {
		if real == "/" {
			break
		}
		d, base, err := s.Parent(real)
		if err != nil {
			return nil, err
		}
		st, err := d.Lstat(base)
		if err != nil {
			return nil, err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK || !follow && !asDir {
			break
		}
		link, err := d.Readlink(base)
		if err != nil {
			return nil, err
		}
		if real = path.Clean("/" + link); !path.IsAbs(link) {
			real = path.Join("/", d.Path(), link)
		}
	}
	dir, err := s.OpenFile(real, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err == nil {
		c.parent, c.isDir = dir, true
		return c, nil
	}
	if asDir {
		return nil, &fs.PathError{Op: "copy", Path: name, Err: ErrNotDirectory}
	}
	c.base = path.Base(real)
	c.parent, err = s.OpenFile(path.Dir(real), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return c, err
}

// mustBeApart refuses to copy a directory into itself, which had no end. It climbs from the directory that is copied to, as
// far as there is one above.
func (c *copied) mustBeApart(to *safepath.Root) error {
	var from, at, last unix.Stat_t
	if !c.isDir {
		return nil
	}
	if err := unix.Fstat(int(c.parent.Fd()), &from); err != nil {
		return &fs.PathError{Op: "stat", Path: c.name, Err: err}
	}
	for dir, err := to.OpenFile("", unix.O_PATH|unix.O_DIRECTORY, 0); err == nil; {
		err = unix.Fstat(int(dir.Fd()), &at)
		above, upErr := unix.Openat(int(dir.Fd()), "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		dir.Close()
		if upErr == nil {
			dir = os.NewFile(uintptr(above), "..")
		}
		switch {
		case err == nil && at.Dev == from.Dev && at.Ino == from.Ino:
			err = &fs.PathError{Op: "copy to", Path: c.name, Err: errIntoItself}
		case err != nil, upErr != nil, at.Dev == last.Dev && at.Ino == last.Ino: // the top is above itself
		default:
			last = at
			continue
		}
		dir.Close()
		return err
	}
	return nil
}

var errIntoItself = errors.New("it is in the directory that is copied: that had no end")

// pack writes it to an archive, under the name.
func (c *copied) pack(ctx context.Context, w io.Writer, name string) error {
	tw := tar.NewWriter(w)
	if c.contents && name == c.name {
		name = "." // to a user's archive
	}
	if err := image.PackEntry(ctx, tw, c.parent, c.base, name, c.users.inside); err != nil {
		return err
	}
	return tw.Close()
}

// destination opens the directory that is copied to, and says what the copy is called there. what
// is nil for a user's archive, which needs a directory.
func (s *side) destination(name string, what *copied) (*safepath.Root, string, error) {
	info, err := s.stat(name)
	asDir := strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.")
	clean := path.Clean("/" + name)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, "", err
	case err == nil && info.IsDir():
		root, err := s.sub(clean)
		if what == nil || what.contents {
			return root, ".", err
		}
		return root, what.name, err
	case what == nil, err == nil && (what.isDir || asDir), err != nil && asDir && !what.isDir:
		if err == nil {
			err = ErrNotDirectory
		}
		return nil, "", &fs.PathError{Op: "copy to", Path: name, Err: errors.Unwrap(fmt.Errorf("%w", err))}
	}
	root, err := s.sub(path.Dir(clean))
	return root, path.Base(clean), err
}

// stat follows links within the tree.
func (s *side) stat(name string) (fs.FileInfo, error) {
	f, err := s.OpenFile(name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

// sub opens a directory of the tree as a tree of its own.
func (s *side) sub(name string) (*safepath.Root, error) {
	f, err := s.OpenFile(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return safepath.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}
