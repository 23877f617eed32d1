package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/snapshot"
	"github.com/containr/containr/pkg/volume"
)

// Problem is something on disk that is not as it should be.
type Problem struct {
	// Where is what it is about: a path, or the name of an image.
	Where string
	// Text says what is wrong, in words.
	Text string
	// Remedy says what repairing does; empty if nothing can be done here.
	Remedy string
	// Repaired says that it was done.
	Repaired bool
}

// CheckRequest asks for all that is on disk to be looked at.
type CheckRequest struct {
	// Repair does what each Remedy says.
	Repair bool
}

// Check compares all blobs with their digests, follows names to images, images to layers and containers to theirs, and
// looks for what crashes have left. What a command that runs at this moment is at work on is no problem.
func (e *Engine) Check(ctx context.Context, r CheckRequest) ([]Problem, error) {
	if err := e.recover(ctx); err != nil {
		return nil, err
	}
	var all []Problem
	for _, look := range []func(context.Context, bool) ([]Problem, error){e.checkImages, e.checkSnapshots, e.checkContainers, e.checkMounts, e.checkVolumes, e.checkConnections} {
		found, err := look(ctx, r.Repair)
		all = append(all, found...)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func (e *Engine) checkImages(ctx context.Context, repair bool) ([]Problem, error) {
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	found, err := images.Check(ctx, repair)
	var all []Problem
	for _, p := range found {
		where := "content/" + p.Path
		if p.Image != "" {
			where = "image " + nameOr(p.Image, digest.Digest(p.Image))
		}
		all = append(all, Problem{Where: where, Text: p.Text, Remedy: p.Remedy, Repaired: repair && p.Remedy != "" && err == nil})
	}
	return all, err
}

func (e *Engine) checkSnapshots(ctx context.Context, repair bool) ([]Problem, error) {
	stores, err := e.allSnapshots()
	if err != nil {
		return nil, err
	}
	var all []Problem
	for _, s := range stores {
		n := needed{engine: e}
		found, err := s.Check(ctx, n.keep, repair)
		for _, p := range found {
			all = append(all, Problem{Where: "snapshots/" + p.Path, Text: p.Text, Remedy: "remove it; it is made again from its image", Repaired: repair && err == nil})
		}
		if err = errors.Join(err, n.err); err != nil {
			return all, err
		}
	}
	return all, nil
}

// checkContainers looks for containers whose layers are gone, and for layers whose container is.
func (e *Engine) checkContainers(ctx context.Context, repair bool) ([]Problem, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	stores, err := e.allSnapshots()
	if err != nil {
		return nil, err
	}
	records, err := containers.List()
	if err != nil {
		return nil, err
	}
	var all []Problem
	for _, r := range records {
		if chain := snapshot.ChainID(r.Chain); chain != "" && !anyHas(stores, chain) {
			p, err := e.lostLayers(ctx, r, repair)
			if err != nil {
				return all, err
			}
			all = append(all, p)
		}
		for _, m := range r.Config.Mounts {
			if m.Chain == "" || anyHas(stores, snapshot.ChainID(m.Chain)) {
				continue
			}
			p, err := e.lostImage(ctx, r, m, repair)
			if err != nil {
				return all, err
			}
			all = append(all, p)
		}
	}
	orphans, err := e.orphanLayers()
	for _, dir := range orphans {
		p := Problem{Where: dir, Text: "it is the layer of a container that does not exist", Remedy: "remove it"}
		if name, err := filepath.Rel(e.root, dir); err == nil {
			p.Where = name
		}
		if repair {
			if err := safepath.RemoveAll(dir); err != nil {
				return all, err
			}
			p.Repaired = true
		}
		all = append(all, p)
	}
	return all, err
}

// lostLayers is about a container whose layers are gone, and unpacks them if its image is there. It comes after snapshots were
// looked at: those that were removed are made again.
func (e *Engine) lostLayers(ctx context.Context, r container.Record, repair bool) (Problem, error) {
	p := Problem{Where: "container " + r.Name, Text: "the layers that it was made of are gone"}
	images, err := e.images()
	if err != nil {
		return p, err
	}
	_, err = images.Resolve(r.ConfigDigest, image.AnyPlatform)
	switch {
	case errors.Is(err, image.ErrNotFound):
		p.Text += ", and so is its image; remove it, and make it again"
		return p, nil
	case err != nil:
		return p, err
	}
	return e.unpackLost(ctx, r, p, repair), nil
}

// lostImage is lostLayers for an image that a container sees on a mount.
func (e *Engine) lostImage(ctx context.Context, r container.Record, m container.Mount, repair bool) (Problem, error) {
	p := Problem{Where: "container " + r.Name, Text: "the layers of the image that it sees on " + m.Target + " are gone"}
	img, err := e.imageOfChain(m.Chain)
	if err != nil {
		return p, err
	}
	if img == nil {
		p.Text += ", and so is the image; pull or load " + m.Source + " as it was, or remove the container"
		return p, nil
	}
	return e.unpackLost(ctx, r, p, repair), nil
}

// unpackLost repairs what lostLayers and lostImage find.
func (e *Engine) unpackLost(ctx context.Context, r container.Record, p Problem, repair bool) Problem {
	if p.Remedy = "unpack them from its image"; repair {
		if err := e.ensureLayers(ctx, r); err != nil {
			p.Text += ": " + err.Error()
		} else {
			p.Repaired = true
		}
	}
	return p
}

func anyHas(stores []*snapshot.Store, chain snapshot.ChainID) bool {
	for _, s := range stores {
		if s.Has(chain) {
			return true
		}
	}
	return false
}

// orphanLayers lists the layers of containers that are not there. A container's directory is made before its layer.
func (e *Engine) orphanLayers() ([]string, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	mapped, err := filepath.Glob(filepath.Join(e.mappedDir(), "*", "layers", "*"))
	if err != nil {
		return nil, err
	}
	var orphans []string
	entries, err := os.ReadDir(filepath.Join(e.root, "layers"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, entry := range entries {
		mapped = append(mapped, filepath.Join(e.root, "layers", entry.Name()))
	}
	for _, dir := range mapped {
		if _, err := containers.Dir(filepath.Base(dir)); err != nil {
			orphans = append(orphans, dir)
		}
	}
	return orphans, nil
}

// checkVolumes looks for volumes that were never finished making or removing, for those whose container was to take them
// along and is gone, and for containers whose volume is.
func (e *Engine) checkVolumes(ctx context.Context, repair bool) ([]Problem, error) {
	store, err := e.volumes()
	if err != nil {
		return nil, err
	}
	list, err := store.List() // what cannot be read is told, and does not hold the rest up
	var all []Problem
	if err != nil {
		all = append(all, Problem{Where: "volumes", Text: err.Error()})
	}
	left, err := store.Leftovers(ctx)
	if err != nil {
		return all, err
	}
	for _, name := range left {
		all = append(all, Problem{Where: "volumes/" + name, Text: "it is the rest of a volume that was being made, filled or removed", Remedy: "remove it", Repaired: repair})
	}
	orphans, err := e.orphanVolumes(store)
	if err != nil {
		return all, err
	}
	for _, v := range orphans {
		all = append(all, Problem{Where: "volume " + v.Name, Text: "its container, which was to take it along, is gone", Remedy: "remove it", Repaired: repair})
	}
	owed, err := e.owedUnmounts(ctx)
	if err != nil {
		return all, err
	}
	for _, problem := range owed {
		all = append(all, Problem{Where: "volume-mounts", Text: "a plugin cannot be told that nobody needs its mount: " + problem.Error()})
	}
	users, err := e.allUsers()
	if err != nil {
		return all, err
	}
	for name, records := range users {
		if !slices.ContainsFunc(list, func(v volume.Volume) bool { return v.Name == name }) {
			all = append(all, Problem{Where: "volume " + name, Text: "it is gone, and has to be there for " + strings.Join(namesOfRecords(records), ", ")})
		}
	}
	if repair {
		return all, errors.Join(store.Sweep(ctx), e.removeOrphanVolumes())
	}
	return all, nil
}

// checkMounts looks for mounts of images that are gone.
func (e *Engine) checkMounts(ctx context.Context, repair bool) ([]Problem, error) {
	mounted, err := e.MountedImages()
	if err != nil {
		return nil, err
	}
	var all []Problem
	for _, m := range mounted {
		if m.Mounted {
			continue
		}
		p := Problem{Where: "mounts/" + m.ID.Encoded(), Text: "the image was mounted, and is no more", Remedy: "forget it"}
		if repair {
			if _, err := e.UnmountImage(ctx, m.ID.String()); err != nil {
				return append(all, p), err
			}
			p.Repaired = true
		}
		all = append(all, p)
	}
	return all, nil
}
