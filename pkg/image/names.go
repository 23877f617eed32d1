package image

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/containr/containr/internal/durable"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// nameAnnotation holds the full name in containerd's way. The annotation that the
// image specification defines for names holds it too: tools like skopeo and
// umoci look there, and a full name is within its grammar.
const nameAnnotation = "io.containerd.image.name"

// nameOf returns the name of an entry of index.json. A layout that another tool
// made may have names that are no full references.
func nameOf(d v1.Descriptor) string {
	return cmp.Or(d.Annotations[nameAnnotation], d.Annotations[v1.AnnotationRefName])
}

// withName returns a copy of d that has the name, and no other. With an empty
// name the image stays in the store without one, until it is removed by its id.
func withName(d v1.Descriptor, name string) v1.Descriptor {
	d.Annotations = maps.Clone(d.Annotations)
	delete(d.Annotations, nameAnnotation)
	delete(d.Annotations, v1.AnnotationRefName)
	if name == "" {
		return d
	}
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[nameAnnotation] = name
	d.Annotations[v1.AnnotationRefName] = name
	return d
}

// Tag gives the image with that target the name, which is completed as
// [ParseReference] does; an empty one keeps the image without a name. An image
// that had the name stays in the store, nameless if it was its only one.
//
// The target must be in the store (ErrNotFound). What it leads to must be protected by a
// name or by a lease that the caller holds; else it may be removed before it has the name.
func (s *Store) Tag(ctx context.Context, name string, target v1.Descriptor) error {
	return s.tag(ctx, name, target, nil)
}

// tag is Tag if the name means nothing, or what it is to mean no more. Nil is whatever it means.
func (s *Store) tag(ctx context.Context, name string, target v1.Descriptor, instead *digest.Digest) error {
	if name != "" {
		ref, err := ParseReference(name)
		if err != nil {
			return err
		}
		name = ref.String()
	}
	target = v1.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size}
	return s.changeNames(ctx, func(entries []v1.Descriptor) ([]v1.Descriptor, error) {
		// Asked with the store locked: before, somebody could still remove it.
		if _, err := s.readTarget(target); err != nil {
			return nil, fmt.Errorf("name image %s: %w", cmp.Or(name, target.Digest.String()), err)
		}
		for _, e := range entries {
			if instead != nil && name != "" && nameOf(e) == name && e.Digest != *instead {
				return nil, fmt.Errorf("name image %s: %w", name, errOvertaken)
			}
		}
		return setName(entries, name, target), nil
	})
}

// changeNames replaces the entries of index.json under the exclusive lock.
func (s *Store) changeNames(ctx context.Context, change func([]v1.Descriptor) ([]v1.Descriptor, error)) error {
	lock, err := s.lock(ctx, durable.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Release()
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	if index.Manifests, err = change(index.Manifests); err != nil {
		return err
	}
	return s.writeIndex(index)
}

// setName returns entries in which name means target and nothing else. Every
// target has its names, or else exactly one nameless entry.
func setName(entries []v1.Descriptor, name string, target v1.Descriptor) []v1.Descriptor {
	var result []v1.Descriptor
	for _, e := range entries {
		switch {
		case name != "" && nameOf(e) == name && e.Digest != target.Digest:
			result = append(result, withName(e, "")) // the image that had the name
		case e.Digest == target.Digest && (nameOf(e) == name || nameOf(e) == ""):
			// replaced by the new entry
		default:
			result = append(result, e)
		}
	}
	if name != "" || !slices.ContainsFunc(result, sameDigest(target)) {
		result = append(result, withName(target, name))
	}
	return dropNamelessTwins(result)
}

// dropNamelessTwins removes nameless entries of targets that have a name.
func dropNamelessTwins(entries []v1.Descriptor) []v1.Descriptor {
	names := map[digest.Digest]int{}
	for _, e := range entries {
		if nameOf(e) != "" {
			names[e.Digest]++
		}
	}
	entries = slices.DeleteFunc(entries, func(e v1.Descriptor) bool {
		return nameOf(e) == "" && names[e.Digest] > 0
	})
	slices.SortStableFunc(entries, func(a, b v1.Descriptor) int {
		return cmp.Or(cmp.Compare(nameOf(a), nameOf(b)), cmp.Compare(a.Digest, b.Digest))
	})
	return slices.CompactFunc(entries, func(a, b v1.Descriptor) bool {
		return a.Digest == b.Digest && nameOf(a) == nameOf(b)
	})
}

func sameDigest(d v1.Descriptor) func(v1.Descriptor) bool {
	return func(e v1.Descriptor) bool { return e.Digest == d.Digest }
}

// Listed is one line of a listing of the store.
type Listed struct {
	Name   string        // full; empty if the image has none
	Target v1.Descriptor // what the name means
	Images []*Image      // those of its platforms that are present, this machine's first
	Err    error         // why there are no images: damaged, or removed meanwhile
}

// List returns all names of the store, sorted, and the nameless images. An image
// that is damaged is listed with its error.
func (s *Store) List() ([]Listed, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return s.list(index), nil
}

// list reads the images that an index names. Their documents are many small files: they are
// read by as many goroutines as there are processors.
func (s *Store) list(index *v1.Index) []Listed {
	list := make([]Listed, len(index.Manifests))
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(list)) {
		readers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(list); i = int(next.Add(1)) - 1 {
				e := index.Manifests[i]
				images, err := s.present(nameOf(e), e)
				list[i] = Listed{Name: nameOf(e), Target: e, Images: images, Err: err}
			}
		})
	}
	readers.Wait()
	slices.SortStableFunc(list, func(a, b Listed) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
