package image

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrNotIndex says that a name does not mean an index but a single image.
var ErrNotIndex = errors.New("not a list of images")

// Index returns the index that a name means. The error wraps ErrNotIndex if it means a
// single image.
func (s *Store) Index(name string) (*v1.Index, v1.Descriptor, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, v1.Descriptor{}, err
	}
	target, err := s.targetIn(index.Manifests, name)
	if err != nil {
		return nil, target, err
	}
	t, err := s.readTarget(target)
	if err == nil && t.index == nil {
		err = fmt.Errorf("image %q: %w", cut(name), ErrNotIndex)
	}
	return t.index, target, err
}

// errOvertaken says that a name does not mean any more what it did.
var errOvertaken = errors.New("somebody else has changed it meanwhile")

// ChangeIndex gives a name to what change makes of the index that has it, of which nothing stays; nil says that nothing has the
// name. What the new index lists must be here. Where somebody else is faster, change is called anew, for what that has made.
func (s *Store) ChangeIndex(ctx context.Context, name string, change func(*v1.Index) (v1.Index, error)) (digest.Digest, error) {
	for {
		index, old, err := s.Index(name)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return "", err
		}
		changed, err := change(index)
		if err != nil {
			return "", err
		}
		made, err := s.putIndex(ctx, name, changed, old.Digest)
		if errors.Is(err, errOvertaken) {
			continue
		}
		if err != nil || old.Digest == "" || old.Digest == made {
			return made, err
		}
		return made, s.Forget(ctx, old.Digest)
	}
}

// putIndex stores an index, and gives it the name if that means what it did, or nothing.
func (s *Store) putIndex(ctx context.Context, name string, index v1.Index, old digest.Digest) (digest.Digest, error) {
	index.SchemaVersion, index.MediaType = 2, v1.MediaTypeImageIndex
	listed, err := s.load(ctx, "make list", LoadOptions{Name: name, instead: &old}, func(lease *Lease) ([]named, error) {
		for _, d := range index.Manifests {
			if err := lease.protect(ctx, d.Digest); err != nil {
				return nil, err
			}
			if !s.Has(d) {
				return nil, fmt.Errorf("manifest %s: %w", d.Digest, ErrNotFound)
			}
		}
		target, err := lease.putJSON(ctx, v1.MediaTypeImageIndex, index)
		return []named{{target: target}}, err
	})
	if err != nil {
		return "", err
	}
	return listed[0].Target.Digest, nil
}

// Entries returns the descriptors with which an index lists an image: one for each of its
// platforms that are here.
func (s *Store) Entries(name string, want Platform) ([]v1.Descriptor, error) {
	images, err := s.imagesOf(name, want)
	if err != nil {
		return nil, err
	}
	var all []v1.Descriptor
	for _, i := range images {
		size, err := s.size(i.ManifestDigest)
		if err != nil {
			return nil, err
		}
		platform := i.Config.Platform
		mediaType := i.Manifest.MediaType
		if mediaType == "" {
			mediaType = v1.MediaTypeImageManifest
		}
		all = append(all, v1.Descriptor{MediaType: mediaType, Digest: i.ManifestDigest, Size: size, Platform: &platform})
	}
	return all, nil
}

// imagesOf returns the images of a name for one platform, or all that are here.
func (s *Store) imagesOf(name string, want Platform) ([]*Image, error) {
	image, err := s.Resolve(name, want)
	if err != nil {
		return nil, err
	}
	if want != AnyPlatform {
		return []*Image{image}, nil
	}
	return s.present(image.Name, image.Target)
}

// size returns the size of a blob.
func (s *Store) size(d digest.Digest) (int64, error) {
	f, size, err := s.open(d)
	if err != nil {
		return 0, err
	}
	return size, f.Close()
}

// SetEntries returns an index with entries added, in the place of those with the same
// digest or for the same platform.
func SetEntries(index v1.Index, entries ...v1.Descriptor) v1.Index {
	index.Manifests = slices.Clone(index.Manifests)
	for _, e := range entries {
		index.Manifests = slices.DeleteFunc(index.Manifests, func(old v1.Descriptor) bool {
			return old.Digest == e.Digest || old.Platform != nil && e.Platform != nil && fromSpec(*old.Platform) == fromSpec(*e.Platform)
		})
		index.Manifests = append(index.Manifests, e)
	}
	return index
}

// Annotated returns a descriptor with a platform and annotations changed: what is empty
// stays.
func Annotated(d v1.Descriptor, p v1.Platform, annotations map[string]string) v1.Descriptor {
	platform := v1.Platform{}
	if d.Platform != nil {
		platform = *d.Platform
	}
	for _, field := range []struct {
		to   *string
		from string
	}{{&platform.OS, p.OS}, {&platform.Architecture, p.Architecture}, {&platform.Variant, p.Variant}, {&platform.OSVersion, p.OSVersion}} {
		if field.from != "" {
			*field.to = field.from
		}
	}
	if len(p.OSFeatures) > 0 {
		platform.OSFeatures = p.OSFeatures
	}
	d.Platform = &platform
	if len(annotations) > 0 {
		d.Annotations = maps.Clone(d.Annotations)
		if d.Annotations == nil {
			d.Annotations = map[string]string{}
		}
		maps.Copy(d.Annotations, annotations)
	}
	return d
}
