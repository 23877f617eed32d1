package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/containr/containr/internal/durable"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Untag takes away names of an image; the image stays, also without any. Given no names,
// all that it has go. image is a name or an id as in Resolve; a name in names must be one
// of its (ErrNotFound). It returns the names that are no more.
func (s *Store) Untag(ctx context.Context, image string, names ...string) ([]string, error) {
	var gone []string
	err := s.changeNames(ctx, func(entries []v1.Descriptor) ([]v1.Descriptor, error) {
		target, err := s.targetIn(entries, image)
		if err != nil {
			return nil, err
		}
		if gone, err = namesToDrop(entries, target, names); err != nil {
			return nil, err
		}
		for i, e := range entries {
			if e.Digest == target.Digest && slices.Contains(gone, nameOf(e)) {
				entries[i] = withName(e, "")
			}
		}
		return dropNamelessTwins(entries), nil
	})
	if err != nil {
		return nil, fmt.Errorf("untag: %w", err)
	}
	return gone, nil
}

// targetIn finds the target that a name or id means.
func (s *Store) targetIn(entries []v1.Descriptor, name string) (v1.Descriptor, error) {
	found, err := s.findIn(&v1.Index{Manifests: entries}, name)
	if err != nil {
		return v1.Descriptor{}, err
	}
	if found.byID {
		if _, err := s.choose(found, name, AnyPlatform); err != nil {
			return v1.Descriptor{}, err
		}
	}
	return found.found[0], nil
}

// namesToDrop completes the names that a target is to lose; all of its if none are given.
func namesToDrop(entries []v1.Descriptor, target v1.Descriptor, names []string) ([]string, error) {
	var has []string
	for _, e := range entries {
		if e.Digest == target.Digest && nameOf(e) != "" {
			has = append(has, nameOf(e))
		}
	}
	if len(names) == 0 {
		return has, nil
	}
	var drop []string
	for _, n := range names {
		ref, err := ParseReference(n)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(has, ref.String()) {
			return nil, fmt.Errorf("%q is not a name of image %s: %w", cut(n), target.Digest, ErrNotFound)
		}
		drop = append(drop, ref.String())
	}
	return drop, nil
}

// PruneOptions says which images are to go.
type PruneOptions struct {
	// Doomed is asked about each name, and each image without one. It is called with the
	// store locked and must not change the store.
	Doomed func(Listed) bool
	// InUse is as in RemoveOptions, but keeps the image in silence.
	InUse func(*Image) error
}

// Prune removes all images that Doomed wants to go, in one sweep, and all that nothing
// needs.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (*Removed, error) {
	lock, err := s.lock(ctx, durable.Exclusive)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	listed := s.list(index)
	var kept []v1.Descriptor
	removed := &Removed{}
	for _, l := range listed {
		if !o.Doomed(l) || inUse(l, o.InUse) {
			kept = append(kept, l.Target)
			continue
		}
		if l.Name != "" {
			removed.Untagged = append(removed.Untagged, l.Name)
		}
	}
	if len(kept) < len(index.Manifests) {
		index.Manifests = kept
		if err := s.writeIndex(index); err != nil {
			return nil, err
		}
	}
	return removed, s.collect(index, removed)
}

func inUse(l Listed, ask func(*Image) error) bool {
	return ask != nil && slices.ContainsFunc(l.Images, func(i *Image) bool { return ask(i) != nil })
}

// ErrOnlyPlatform says that the last platform of an image was to be removed from it.
var ErrOnlyPlatform = errors.New("it is the only platform that is here")

// RemovePlatform removes what an image for several platforms has for one of them. Its
// names, and what they mean, stay as they are: the platform can be pulled again. That
// some image keeps no platform is refused (ErrOnlyPlatform), and so is what a command works with, or, unless used
// is nil, what another image has too (ErrInUse).
func (s *Store) RemovePlatform(ctx context.Context, name string, p Platform, used func(*Image) error) (*Removed, error) {
	lock, err := s.lock(ctx, durable.Exclusive)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	removed := &Removed{}
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	doomed, err := s.doomedPlatform(index, name, p, used)
	if err != nil {
		return nil, fmt.Errorf("remove platform %s: %w", p, err)
	}
	held, err := s.protectedDigests(nil)
	if err == nil && slices.Contains(held, doomed.ManifestDigest) {
		err = fmt.Errorf("image %s: %w: a command that runs now works with it", cut(name), ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("remove platform %s: %w", p, err)
	}
	// Without the manifest nothing leads to its configuration and layers.
	info, err := os.Stat(s.blobPath(doomed.ManifestDigest))
	if err == nil {
		err = os.Remove(s.blobPath(doomed.ManifestDigest))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove platform %s: %w", p, err)
	}
	removed.Deleted = append(removed.Deleted, doomed.ManifestDigest)
	if info != nil {
		removed.Freed += onDisk(info)
	}
	return removed, s.collect(index, removed)
}

func (s *Store) doomedPlatform(index *v1.Index, name string, p Platform, used func(*Image) error) (*Image, error) {
	target, err := s.targetIn(index.Manifests, name)
	if err != nil {
		return nil, err
	}
	present, err := s.present(nameOf(target), target)
	if err != nil {
		return nil, err
	}
	image, err := s.ReadImage(nameOf(target), target, p)
	if err != nil {
		return nil, err
	}
	if used != nil {
		if err := used(image); err != nil {
			return nil, fmt.Errorf("image %s: %w: %w", cut(name), ErrInUse, err)
		}
	}
	listed := s.list(index)
	for _, l := range listed { // an image for it alone would lose everything
		if len(l.Images) == 1 && l.Images[0].ManifestDigest == image.ManifestDigest {
			return nil, fmt.Errorf("image %s: %w", cut(cmp.Or(l.Name, l.Target.Digest.String())), ErrOnlyPlatform)
		}
	}
	if len(present) < 2 {
		return nil, fmt.Errorf("image %s: %w", cut(name), ErrOnlyPlatform)
	}
	for _, l := range listed {
		if used != nil && l.Target.Digest != target.Digest && slices.ContainsFunc(l.Images, func(i *Image) bool { return i.ManifestDigest == image.ManifestDigest }) {
			return nil, fmt.Errorf("image %s: %w: %s has the same for this platform", cut(name), ErrInUse, cut(cmp.Or(l.Name, l.Target.Digest.String())))
		}
	}
	return image, nil
}
