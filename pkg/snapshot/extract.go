package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containr/containr/internal/safepath"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// ExtractOptions says how one layer is extracted.
type ExtractOptions struct {
	// Parent is the chain that the layer will be committed to. It is needed
	// only after ErrDependsOnParent, and must be unpacked.
	Parent ChainID
	// Progress is called now and then with the number of bytes of the archive
	// that were read.
	Progress func(bytes int64)
}

// Staged is an extracted layer that belongs to no chain yet. It ends with
// Commit or Discard.
type Staged struct {
	// DiffID is the digest of the archive.
	DiffID digest.Digest
	// Skipped is how many device nodes a rootless store left out.
	Skipped int

	store *Store
	work  *workspace
	layer *layer
	image *imageLayer // instead of layer
}

// Discard removes the layer.
func (st *Staged) Discard() error {
	if st.image != nil {
		return errors.Join(st.image.close(), st.work.close())
	}
	st.layer.root.Close()
	st.layer.held.Close()
	return st.work.close()
}

// In a workspace, layer becomes the snapshot; held is described at [layer].
const (
	layerDir = "layer"
	heldDir  = "held"
)

// Extract writes the uncompressed tar archive r into a new directory, with the
// digest diffID, or any if diffID is "". It fails with an error that wraps
// ErrDigest, ErrMalformed, a *LimitError or that of a file, and then leaves
// nothing behind. Reading from r must end with an error when ctx ends.
func (s *Store) Extract(ctx context.Context, diffID digest.Digest, r io.Reader, o ExtractOptions) (*Staged, error) {
	st, err := s.extract(ctx, diffID, r, o)
	if err != nil {
		return nil, fmt.Errorf("extract layer %s: %w", diffID, err)
	}
	return st, nil
}

func (s *Store) extract(ctx context.Context, diffID digest.Digest, r io.Reader, o ExtractOptions) (*Staged, error) {
	if diffID != "" {
		if err := diffID.Validate(); err != nil {
			return nil, err
		}
	}
	stage := s.stage
	if s.opts.Driver == Erofs && o.Parent == "" {
		stage = s.stageImage
	}
	st, err := stage(ctx)
	if err != nil {
		return nil, err
	}
	if err := st.fill(ctx, diffID, r, o); err != nil {
		st.Discard()
		return nil, err
	}
	return st, nil
}

// stage makes an empty layer.
func (s *Store) stage(ctx context.Context) (*Staged, error) {
	mk, err := newMaker(s.opts)
	if err != nil {
		return nil, err
	}
	work, err := s.newWorkspace(ctx, nil)
	if err != nil {
		return nil, err
	}
	root, err := makeRoot(filepath.Join(work.dir, layerDir, fsDir), mk)
	if err != nil {
		return nil, errors.Join(err, work.close())
	}
	held, err := makeRoot(filepath.Join(work.dir, heldDir), mk)
	if err != nil {
		root.Close()
		return nil, errors.Join(err, work.close())
	}
	return &Staged{
		store: s,
		work:  work,
		layer: &layer{
			root:    root,
			held:    held,
			maker:   mk,
			marks:   s.marks,
			dirs:    map[string]*dirNote{"": {meta: mk.implied(), implicit: true}},
			assumed: map[string]bool{},
			holders: map[string]string{},
			targets: map[uint64]string{},
		},
	}, nil
}

// stageImage makes an empty layer that becomes an image.
func (s *Store) stageImage(ctx context.Context) (*Staged, error) {
	if s.opts.NoImages != nil {
		return nil, s.opts.NoImages
	}
	if s.marks.plain() {
		return nil, errors.New("a store on an overlay keeps no EROFS images: an overlay cannot be made of them")
	}
	mk, err := newMaker(s.opts)
	if err != nil {
		return nil, err
	}
	work, err := s.newWorkspace(ctx, nil)
	if err != nil {
		return nil, err
	}
	image, err := newImageLayer(work.dir, mk, s.marks, s.opts.Limits.defaults())
	if err != nil {
		return nil, errors.Join(err, work.close())
	}
	return &Staged{store: s, work: work, image: image}, nil
}

// makeRoot makes the directory that a layer goes into, and opens it.
func makeRoot(dir string, mk maker) (*safepath.Root, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := disinherit(dir, mk); err != nil {
		return nil, err
	}
	return safepath.OpenRoot(dir)
}

// disinherit takes from a new directory what it has from the one that it was
// made in, and would pass on: a group and access control lists (acl(5)).
func disinherit(dir string, mk maker) error {
	for _, acl := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		err := unix.Removexattr(dir, acl)
		if err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
			return &os.PathError{Op: "remove " + acl + " of", Path: dir, Err: err}
		}
	}
	if err := os.Chown(dir, mk.uid, mk.gid); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700)
}

// fill extracts the archive.
func (st *Staged) fill(ctx context.Context, diffID digest.Digest, r io.Reader, o ExtractOptions) error {
	limits := st.store.opts.Limits.defaults()
	algorithm := digest.Canonical
	if diffID != "" {
		algorithm = diffID.Algorithm()
	}
	in := newStream(ctx, r, algorithm, limits.Bytes, o.Progress)
	defer in.close()
	if err := st.applyArchive(in, limits, o.Parent); err != nil {
		return err
	}
	got, err := in.finish()
	if err != nil {
		return err
	}
	if diffID != "" && got != diffID {
		return fmt.Errorf("%w: it has %s", ErrDigest, got)
	}
	st.DiffID = got
	return nil
}

// applyArchive runs an applier to its end.
func (st *Staged) applyArchive(in *stream, limits Limits, parent ChainID) error {
	if st.image != nil {
		return applyAll(st.image, &entries{in: in})
	}
	a := &applier{
		layer:  st.layer,
		limits: limits,
	}
	if parent != "" {
		chain, err := st.store.chain(parent)
		if err != nil {
			return err
		}
		if a.lower, err = st.store.openView(&layerTree{root: st.layer.root}, chain); err != nil {
			return err
		}
		defer a.lower.close()
	}
	err := applyAll(a, &entries{in: in})
	st.Skipped = a.skipped
	return err
}
