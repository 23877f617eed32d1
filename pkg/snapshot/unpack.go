package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Layer is one layer of an image to be unpacked.
type Layer struct {
	// DiffID is the digest of the uncompressed archive.
	DiffID digest.Digest
	// Open returns the uncompressed archive. It may wait until the layer has
	// been fetched, but not for another layer to be unpacked. It is called
	// once, and rarely a second time (ErrDependsOnParent); not at all if the
	// layer is unpacked already. Closing must stop a read that is under way.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Stage is how far a layer is.
type Stage int

const (
	StageExists     Stage = iota // it was unpacked before
	StageExtracting              // bytes of its archive have been read
	StageDone                    // it is part of its chain
)

// Progress is told how far the layer with the given index is. It is called by
// several goroutines at once.
type Progress func(layer int, stage Stage, bytes int64)

// Unpack makes sure that the chain of layers, the base first, is unpacked, and
// returns its id. What exists is not unpacked again, also if another process
// is doing it at this moment. Layers are extracted at the same time,
// GOMAXPROCS of them at once. progress may be nil.
func (s *Store) Unpack(ctx context.Context, layers []Layer, progress Progress) (ChainID, error) {
	if len(layers) == 0 {
		return "", nil
	}
	if progress == nil {
		progress = func(int, Stage, int64) {}
	}
	u := unpacking{store: s, layers: layers, progress: progress}
	diffIDs := make([]digest.Digest, len(layers))
	for i, l := range layers {
		if err := l.DiffID.Validate(); err != nil {
			return "", fmt.Errorf("unpack: diff id %q: %w", string(l.DiffID), err)
		}
		diffIDs[i] = l.DiffID
	}
	u.chains = ChainIDs(diffIDs)
	lease, err := s.newWorkspace(ctx, u.chains)
	if err != nil {
		return "", fmt.Errorf("unpack: %w", err)
	}
	err = errors.Join(u.run(ctx), lease.close())
	if err != nil {
		return "", fmt.Errorf("unpack: %w", err)
	}
	return u.chains[len(u.chains)-1], nil
}

// unpacking is one call of Unpack.
type unpacking struct {
	store    *Store
	layers   []Layer
	chains   []ChainID
	progress Progress
	slots    chan struct{} // one per extraction under way
}

// run unpacks what is missing: each layer in a goroutine, which waits for the
// one before it to be committed.
func (u *unpacking) run(ctx context.Context) error {
	first := 0
	for first < len(u.chains) && u.store.Has(u.chains[first]) {
		u.progress(first, StageExists, 0)
		first++
	}
	u.slots = make(chan struct{}, runtime.GOMAXPROCS(0))
	group, ctx := errgroup.WithContext(ctx)
	parent := make(chan struct{})
	close(parent)
	for i := first; i < len(u.layers); i++ {
		ready, done := parent, make(chan struct{})
		group.Go(func() error {
			err := u.layer(ctx, i, ready)
			if err == nil {
				close(done)
			}
			return err
		})
		parent = done
	}
	return group.Wait()
}

// layer extracts one layer and commits it when its parent is ready.
//
// The lock of the chain is taken before the slot, and both before anything is
// waited for but the parent, whose holder waits only for its own parent and so
// on: neither goroutines nor processes can wait for each other in a circle.
func (u *unpacking) layer(ctx context.Context, i int, ready <-chan struct{}) error {
	lock, err := u.store.lockChain(ctx, u.chains[i])
	if err != nil {
		return err
	}
	defer lock.Close()
	if u.store.Has(u.chains[i]) {
		u.progress(i, StageExists, 0)
		return nil
	}
	staged, err := u.extract(ctx, i, "")
	if err != nil && !u.again(err, i) {
		return err
	}
	select {
	case <-ready:
	case <-ctx.Done():
		return u.giveUp(ctx, staged)
	}
	if err == nil {
		_, err = u.store.Commit(ctx, staged, u.parent(i))
	}
	if err != nil && u.again(err, i) {
		err = u.onParent(ctx, i)
	}
	if err != nil {
		return err
	}
	u.progress(i, StageDone, 0)
	return nil
}

// again reports whether layer i, refused with err, may be accepted when its
// parent is known.
func (u *unpacking) again(err error, i int) bool {
	return i > 0 && errors.Is(err, ErrDependsOnParent)
}

func (u *unpacking) parent(i int) ChainID {
	if i == 0 {
		return ""
	}
	return u.chains[i-1]
}

// onParent extracts layer i once more, with its parent at hand, and commits
// it.
func (u *unpacking) onParent(ctx context.Context, i int) error {
	staged, err := u.extract(ctx, i, u.parent(i))
	if err == nil {
		_, err = u.store.Commit(ctx, staged, u.parent(i))
	}
	return err
}

// giveUp ends a layer whose parent will not come.
func (u *unpacking) giveUp(ctx context.Context, staged *Staged) error {
	if staged == nil {
		return context.Cause(ctx)
	}
	return errors.Join(context.Cause(ctx), staged.Discard())
}

// extract extracts the layer in one of the slots.
func (u *unpacking) extract(ctx context.Context, i int, parent ChainID) (*Staged, error) {
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	r, err := u.layers[i].Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open layer %s: %w", u.layers[i].DiffID, err)
	}
	staged, err := u.store.Extract(ctx, u.layers[i].DiffID, r, ExtractOptions{
		Parent:   parent,
		Progress: func(n int64) { u.progress(i, StageExtracting, n) },
	})
	if cerr := r.Close(); err == nil && cerr != nil {
		return nil, errors.Join(cerr, staged.Discard())
	}
	return staged, err
}
