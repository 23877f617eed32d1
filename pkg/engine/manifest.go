package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/pkg/image"
)

// ListRequest is about a list of images for several platforms: an index with a name.
type ListRequest struct {
	// List is the name of the index.
	List string
	// Images are references or ids of what is to be in it, all of their platforms that are here; to change or remove an
	// entry also the digest that it has in the list.
	Images []string
	// Amend allows that the list exists.
	Amend bool
	// Platform and Annotations are what the list says of the images; what is empty stays as the image says.
	Platform    v1.Platform
	Annotations map[string]string
}

// CreateList makes a list of images.
func (e *Engine) CreateList(ctx context.Context, r ListRequest) (digest.Digest, error) {
	images, err := e.imagesNaming(ctx, r.Images...)
	if err != nil {
		return "", err
	}
	return images.ChangeIndex(ctx, r.List, func(list *v1.Index) (v1.Index, error) {
		if list == nil {
			list = &v1.Index{}
		} else if !r.Amend {
			return v1.Index{}, fmt.Errorf("list %s: %w", r.List, image.ErrExists)
		}
		return withImages(images, *list, r)
	})
}

// AddToList adds images to a list that exists.
func (e *Engine) AddToList(ctx context.Context, r ListRequest) (digest.Digest, error) {
	images, err := e.imagesNaming(ctx, r.Images...)
	if err != nil {
		return "", err
	}
	return images.ChangeIndex(ctx, r.List, func(list *v1.Index) (v1.Index, error) {
		if list == nil {
			return v1.Index{}, fmt.Errorf("image %q: %w", r.List, image.ErrNotFound)
		}
		return withImages(images, *list, r)
	})
}

// withImages is a list with further images.
func withImages(images *image.Store, list v1.Index, r ListRequest) (v1.Index, error) {
	for _, name := range r.Images {
		entries, err := images.Entries(name, image.AnyPlatform)
		if err != nil {
			return list, err
		}
		for i := range entries {
			entries[i] = image.Annotated(entries[i], r.Platform, r.Annotations)
		}
		list = image.SetEntries(list, entries...)
	}
	return list, nil
}

// AnnotateList changes what a list says of an image.
func (e *Engine) AnnotateList(ctx context.Context, r ListRequest) (digest.Digest, error) {
	return e.changeEntries(ctx, r, func(d v1.Descriptor) (v1.Descriptor, bool) {
		return image.Annotated(d, r.Platform, r.Annotations), true
	})
}

// RemoveFromList takes images out of a list; they stay in the store while something else needs them.
func (e *Engine) RemoveFromList(ctx context.Context, r ListRequest) (digest.Digest, error) {
	return e.changeEntries(ctx, r, func(d v1.Descriptor) (v1.Descriptor, bool) { return d, false })
}

// changeEntries changes the entries of a list that are meant, or drops them.
func (e *Engine) changeEntries(ctx context.Context, r ListRequest, change func(v1.Descriptor) (v1.Descriptor, bool)) (digest.Digest, error) {
	images, err := e.images()
	if err != nil {
		return "", err
	}
	return images.ChangeIndex(ctx, r.List, func(list *v1.Index) (v1.Index, error) {
		if list == nil {
			return v1.Index{}, fmt.Errorf("image %q: %w", r.List, image.ErrNotFound)
		}
		for _, name := range r.Images {
			meant, err := e.entriesMeant(images, list, name)
			if err != nil {
				return *list, err
			}
			var kept []v1.Descriptor
			for _, d := range list.Manifests {
				if slices.Contains(meant, d.Digest) {
					changed, keep := change(d)
					if !keep {
						continue
					}
					d = changed
				}
				kept = append(kept, d)
			}
			list.Manifests = kept
		}
		if len(list.Manifests) == 0 {
			return *list, fmt.Errorf("list %s would be empty: %w", r.List, image.ErrInvalid)
		}
		return *list, nil
	})
}

// entriesMeant lists the digests in a list that a digest, or the name of an image, means.
func (e *Engine) entriesMeant(images *image.Store, list *v1.Index, name string) ([]digest.Digest, error) {
	var all []digest.Digest
	listed := func(d digest.Digest) bool {
		return slices.ContainsFunc(list.Manifests, func(x v1.Descriptor) bool { return x.Digest == d })
	}
	if d, err := image.ParseDigest(name); err == nil && listed(d) {
		return []digest.Digest{d}, nil
	}
	// A list that another tool made may list an index.
	if _, target, err := images.Index(name); err == nil && listed(target.Digest) {
		return []digest.Digest{target.Digest}, nil
	}
	entries, err := images.Entries(name, image.AnyPlatform)
	if err != nil {
		return nil, err
	}
	for _, x := range entries {
		if listed(x.Digest) {
			all = append(all, x.Digest)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("image %s is not in the list: %w", name, image.ErrNotFound)
	}
	return all, nil
}
