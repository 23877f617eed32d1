package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/processors"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/rootfs"
	"github.com/containr/containr/pkg/snapshot"
)

// unpacker extracts the layers of one image while a pull brings them, in any
// order, and joins them to their chain when all are there.
type unpacker struct {
	engine    *Engine
	snapshots *snapshot.Store
	// later says that nothing is extracted before all layers are there: it is done among the user's ids.
	later bool
	known []digest.Digest // sorted: what need not be extracted again

	mu     sync.Mutex
	staged map[digest.Digest]*snapshot.Staged
}

func (e *Engine) newUnpacker() (*unpacker, error) {
	snapshots, err := e.snapshots()
	if err != nil {
		return nil, err
	}
	later, err := e.HasIDs()
	if err != nil {
		return nil, err
	}
	known, err := e.knownDiffIDs()
	return &unpacker{engine: e, snapshots: snapshots, later: later, known: known, staged: map[digest.Digest]*snapshot.Staged{}}, err
}

// layer extracts one layer, which has its digest if it is extracted. A layer that can only be extracted on top of its
// parents is left for unpack.
func (u *unpacker) layer(ctx context.Context, l image.Layer, r io.Reader) error {
	if _, ok := slices.BinarySearch(u.known, l.DiffID); ok || u.later {
		return nil
	}
	st, err := u.snapshots.Extract(ctx, l.DiffID, r, snapshot.ExtractOptions{})
	if errors.Is(err, snapshot.ErrDependsOnParent) {
		return nil
	}
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.staged[l.DiffID] != nil { // an image may hold a layer twice
		return st.Discard()
	}
	u.staged[l.DiffID] = st
	return nil
}

// unpack makes the image's chain of what was extracted, and extracts the rest from
// the store.
func (u *unpacker) unpack(ctx context.Context, images *image.Store, img *image.Image) (snapshot.ChainID, error) {
	var chain snapshot.ChainID
	for _, l := range img.Layers {
		next := snapshot.Chain(chain, l.DiffID)
		st := u.staged[l.DiffID]
		if !u.snapshots.Has(next) {
			if st == nil {
				break
			}
			delete(u.staged, l.DiffID)
			if _, err := u.snapshots.Commit(ctx, st, chain); errors.Is(err, snapshot.ErrDependsOnParent) {
				break
			} else if err != nil {
				return "", err
			}
		}
		chain = next
	}
	return u.engine.unpackStored(ctx, u.snapshots, images, img)
}

// discard drops what no chain took.
func (u *unpacker) discard() {
	for _, st := range u.staged {
		st.Discard()
	}
}

// unpackStored makes sure that the layers of an image in the store are unpacked.
func (e *Engine) unpackStored(ctx context.Context, snapshots *snapshot.Store, images *image.Store, img *image.Image) (snapshot.ChainID, error) {
	if chain := chainOf(img); chain == "" || snapshots.Has(chain) {
		return chain, nil
	}
	among, err := e.keptAmong(snapshots)
	if err != nil {
		return "", err
	}
	if among {
		answer, err := e.among(ctx, helping{Unpack: img.Layers})
		return answer.Chain, err
	}
	return unpackHere(ctx, snapshots, images, img.Layers)
}

// keptAmong reports whether a store is one whose files have all ids of an ordinary user's, of whom this process has not the rights.
func (e *Engine) keptAmong(snapshots *snapshot.Store) (bool, error) {
	own, err := e.snapshots()
	if err != nil || snapshots.Dir() != own.Dir() {
		return false, err
	}
	return e.HasIDs()
}

// unpackHere does it in this process.
func unpackHere(ctx context.Context, snapshots *snapshot.Store, images *image.Store, list []image.Layer) (snapshot.ChainID, error) {
	processors.All()
	var layers []snapshot.Layer
	for _, l := range list {
		layers = append(layers, snapshot.Layer{
			DiffID: l.DiffID,
			Open:   func(context.Context) (io.ReadCloser, error) { return l.OpenUnchecked(images, image.Limits{}) },
		})
	}
	return snapshots.Unpack(ctx, layers, nil)
}

// ensureLayers unpacks the layers of a container that was made before once more if the machine was restarted before they were
// on the disk for sure, or they were damaged and therefore removed; and so those of the images that it sees. It is done before the container runs: later another command would do it, and take them away from
// under the program. Without its image a container has to do with what is there. The specification is told what kinds of
// layers there are now.
func (e *Engine) ensureLayers(ctx context.Context, record container.Record) error {
	if err := e.unpackAgain(ctx, record); err != nil {
		return err
	}
	if err := e.ensureImages(ctx, record); err != nil {
		return err
	}
	if record.Spec != nil {
		renewImages(record.Spec.Mounts)
	}
	return nil
}

// renewImages has overlays mount those of their layers that are images, and no others: since the container was made a layer may
// have been removed, and unpacked again in the other way.
func renewImages(mounts []specs.Mount) {
	for i := range mounts {
		m := &mounts[i]
		if m.Type != "overlay" {
			continue
		}
		var images []string
		for _, o := range m.Options {
			lower, _ := strings.CutPrefix(o, "lowerdir=")
			if lower == o {
				continue
			}
			for _, dir := range strings.Split(lower, ":") {
				if image, ok := snapshot.ImageAt(dir); ok {
					images = append(images, rootfs.ImageOption+image.File+":"+image.Dir)
				}
			}
		}
		m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return strings.HasPrefix(o, rootfs.ImageOption) })
		m.Options = append(m.Options, images...)
		if len(images) > 0 && !slices.Contains(m.Options, snapshot.OneDevice) {
			m.Options = append(m.Options, snapshot.OneDevice)
		}
	}
}

func (e *Engine) unpackAgain(ctx context.Context, record container.Record) error {
	chain := snapshot.ChainID(record.Chain)
	if chain == "" {
		return nil
	}
	home, err := e.homeOf(record.Config)
	if err != nil {
		return err
	}
	snapshots, err := home.snapshots(e)
	if err != nil || snapshots.Has(chain) {
		return err
	}
	images, err := e.images()
	if err != nil {
		return err
	}
	img, err := images.Resolve(record.ConfigDigest, image.AnyPlatform)
	if errors.Is(err, image.ErrNotFound) {
		return nil
	}
	if err == nil {
		_, err = e.unpackStored(ctx, snapshots, images, img)
	}
	if err != nil {
		return fmt.Errorf("container %s: its layers: %w", record.Name, err)
	}
	return nil
}

// collectSnapshots removes the snapshots that no image in the store needs and no
// container was made of.
func (e *Engine) collectSnapshots(ctx context.Context) error {
	stores, err := e.allSnapshots()
	if err != nil {
		return err
	}
	for _, s := range stores {
		n := needed{engine: e}
		if _, err := s.GC(ctx, n.keep); err != nil || n.err != nil {
			return errors.Join(err, n.err)
		}
	}
	return nil
}

// allSnapshots opens all stores of snapshots.
func (e *Engine) allSnapshots() ([]*snapshot.Store, error) {
	snapshots, err := e.snapshots()
	if err != nil {
		return nil, err
	}
	mapped, err := e.mappedSnapshots()
	return append(mapped, snapshots), err
}

// needed says which chains are needed. It finds out when it is first asked, by a store
// that is locked and has counted its snapshots by then: an image that is pulled meanwhile
// had its name before its snapshots. If it cannot find out, everything is.
type needed struct {
	engine *Engine
	chains map[snapshot.ChainID]bool
	err    error
}

func (n *needed) keep(c snapshot.ChainID) bool {
	if n.chains == nil && n.err == nil {
		n.chains, n.err = n.engine.neededChains()
	}
	return n.err != nil || n.chains[c]
}

// neededChains lists the chains of all images, and those that are occupied.
func (e *Engine) neededChains() (map[snapshot.ChainID]bool, error) {
	// In this order: an image that goes in between is that of a container by then.
	listed, err := e.Images()
	if err != nil {
		return nil, err
	}
	keep, err := e.occupiedChains()
	for _, l := range listed {
		for _, img := range l.Images {
			keep[chainOf(img)] = true
		}
	}
	return keep, err
}

// occupiedChains lists the chains of mounted images and of all containers, whose images
// may be gone.
func (e *Engine) occupiedChains() (map[snapshot.ChainID]bool, error) {
	keep := map[snapshot.ChainID]bool{}
	mounted, err := e.MountedImages()
	if err != nil {
		return nil, err
	}
	for _, m := range mounted {
		keep[m.Chain] = true
	}
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	records, err := containers.List()
	for _, r := range records {
		keep[snapshot.ChainID(r.Chain)] = true
		for _, m := range r.Config.Mounts {
			if m.Chain != "" {
				keep[snapshot.ChainID(m.Chain)] = true
			}
		}
	}
	return keep, err
}

// chainOf names the whole chain of an image's layers.
func chainOf(img *image.Image) snapshot.ChainID {
	var chain snapshot.ChainID
	for _, l := range img.Layers {
		chain = snapshot.Chain(chain, l.DiffID)
	}
	return chain
}
