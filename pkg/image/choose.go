package image

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// An index may list other indexes (image-spec, image-index.md: implementations should support them). Which manifest
// serves a platform is decided over all of them together:
//
//   - The manifest whose platform fits best is chosen, wherever it lies.
//   - Of those that fit equally well, the one that lies nearest to the top: who published the outer index had the last
//     word on what it is for. At one depth, the first in the order of the indexes (image-spec: "the first matching
//     entry SHOULD be used").
//   - What an index says of the platform of an index in it holds for all that this lists: if it does not serve, the
//     inner index is not read; if its only entry has no platform of its own, it has this one.
//   - Below a manifest that fits exactly nothing is read: nothing could be better. So an image without indexes in its
//     index costs what it did before, and what lies deeper cannot keep anyone from it.
//
// Others decide level by level: containerd and docker take the first entry that serves, manifest or index, and look
// for no other if nothing is found below it; podman and skopeo refuse an index there.

// OpenIndex reads an index that another one lists. Nil without an error says that it is absent, and may be.
type OpenIndex func(v1.Descriptor) (*v1.Index, error)

// OpenedBy makes an OpenIndex of a function that reads a document.
func OpenedBy(read func(v1.Descriptor) ([]byte, error)) OpenIndex {
	return func(d v1.Descriptor) (*v1.Index, error) {
		data, err := read(d)
		if err != nil {
			return nil, err
		}
		return DecodeIndex(data, d.MediaType)
	}
}

// Select returns the manifest that serves the platform want best of those that an index, which target describes, and
// the indexes in it list. name is for the error, a *[PlatformError] if there is none. An entry without a platform
// serves if it is the only one of its index; its configuration will tell. An index in which nothing has a platform is none of images
// (ErrArtifact). Other errors are those of open, and wrap ErrLimit if there are more indexes than [MaxIndexes] or lie deeper than [MaxNesting], ErrInvalid if one lies in itself.
func Select(target v1.Descriptor, index *v1.Index, name string, want Platform, open OpenIndex) (v1.Descriptor, error) {
	found, err := rank(target, index, want, open)
	if err != nil {
		return v1.Descriptor{}, err
	}
	if len(found.serving) == 0 {
		return v1.Descriptor{}, found.none(name, want.orDefault())
	}
	return found.serving[0], nil
}

// Members returns everything that is listed by an index or by indexes in it, except the indexes themselves, each entry once. Errors are
// those of Select.
func Members(target v1.Descriptor, index *v1.Index, open OpenIndex) ([]v1.Descriptor, error) {
	var all []v1.Descriptor
	seen := map[digest.Digest]bool{}
	w := indexWalk{open: open}
	err := w.walk(target, index, func(_ *listing, d v1.Descriptor) {
		if !IsIndex(d.MediaType) && !seen[d.Digest] {
			seen[d.Digest] = true
			all = append(all, d)
		}
	})
	return all, err
}

// ranked is what an index offers for a platform.
type ranked struct {
	serving   []v1.Descriptor // manifests that serve it, the best first
	platforms []Platform      // of everything that was seen, without attestations
	indexes   []digest.Digest // that were read, without the outermost
}

// none says why nothing serves.
func (r *ranked) none(name string, want Platform) error {
	if len(r.platforms) == 0 {
		return fmt.Errorf("index: nothing in it is for a platform: %w: %w", ErrArtifact, ErrInvalid)
	}
	return &PlatformError{Name: name, Want: want, Have: r.platforms}
}

// rank finds the manifests that serve a platform. If one fits exactly it looks no deeper.
func rank(target v1.Descriptor, index *v1.Index, want Platform, open OpenIndex) (ranked, error) {
	want = want.orDefault()
	var found ranked
	best := 0
	ranks := map[digest.Digest]int{}
	exact := want.rank(want)
	w := indexWalk{open: open, skip: func(d v1.Descriptor) bool { return d.Platform != nil && want.rank(fromSpec(*d.Platform)) == 0 }}
	if want != AnyPlatform {
		w.enough = func() bool { return best >= exact }
	}
	err := w.walk(target, index, func(in *listing, d v1.Descriptor) {
		found.note(d, w)
		n := want.rankEntry(d, len(in.index.Manifests) == 1)
		if n == 0 || ranks[d.Digest] >= n {
			return
		}
		found.serving = slices.DeleteFunc(found.serving, sameDigest(d)) // listed before, as a worse one
		found.serving, ranks[d.Digest], best = append(found.serving, d), n, max(best, n)
	})
	sort.SliceStable(found.serving, func(i, j int) bool { return ranks[found.serving[i].Digest] > ranks[found.serving[j].Digest] })
	found.indexes = w.read
	return found, err
}

// note keeps the platform of an entry for who finds nothing that serves. An index that is read speaks for itself.
func (r *ranked) note(d v1.Descriptor, w indexWalk) {
	if d.Platform == nil || d.Platform.OS == "unknown" || IsIndex(d.MediaType) && !w.skip(d) {
		return
	}
	if p := fromSpec(*d.Platform); !slices.Contains(r.platforms, p) {
		r.platforms = append(r.platforms, p)
	}
}

// rankEntry is rank for an entry of an index, alone in it or not.
func (p Platform) rankEntry(d v1.Descriptor, alone bool) int {
	switch {
	case !IsManifest(d.MediaType):
		return 0
	case d.Platform != nil:
		return p.rank(fromSpec(*d.Platform))
	case alone:
		return 1
	}
	return 0
}

// listing is an index, and where it lies.
type listing struct {
	v1.Descriptor           // with the platform that those around it say, if it says none itself
	index         *v1.Index // nil before it is read
	in            *listing  // nil for the outermost
}

// liesIn reports whether an index with that digest is around the listing, or it.
func (l *listing) liesIn(d digest.Digest) bool {
	return l != nil && (l.Digest == d || l.in.liesIn(d))
}

// indexWalk goes through an index and those in it, level by level, and reads each once however many list it: of
// indexes that list the next one twice, forty make a million million ways.
type indexWalk struct {
	open   OpenIndex
	skip   func(v1.Descriptor) bool // which indexes are not read; nil for none
	enough func() bool              // asked between levels; nil for never
	read   []digest.Digest          // indexes that were read, without the outermost
}

// walk calls visit for each entry, at the depth at which it lies first.
func (w *indexWalk) walk(target v1.Descriptor, index *v1.Index, visit func(in *listing, d v1.Descriptor)) error {
	target.Platform = nil // what a name means has none
	level := []*listing{{Descriptor: target, index: index}}
	known := map[digest.Digest]bool{target.Digest: true}
	for depth := 1; len(level) > 0; depth++ {
		var next []*listing
		for _, in := range level {
			inner, err := w.entries(in, known, visit)
			if err != nil {
				return err
			}
			next = append(next, inner...)
		}
		if w.enough != nil && w.enough() {
			return nil
		}
		if len(next) > 0 && depth == MaxNesting {
			return fmt.Errorf("index %s: more than %d lie in each other: %w", next[0].Digest, MaxNesting, ErrLimit)
		}
		var err error
		if level, err = w.openAll(next); err != nil {
			return err
		}
	}
	return nil
}

// entries visits the entries of one index, and returns the indexes among them that are not known yet.
func (w *indexWalk) entries(in *listing, known map[digest.Digest]bool, visit func(*listing, v1.Descriptor)) ([]*listing, error) {
	var inner []*listing
	for _, d := range in.index.Manifests {
		if d.Platform == nil && (IsIndex(d.MediaType) || len(in.index.Manifests) == 1) {
			d.Platform = in.Platform
		}
		visit(in, d)
		if !IsIndex(d.MediaType) || w.skip != nil && w.skip(d) {
			continue
		}
		if in.liesIn(d.Digest) {
			return nil, fmt.Errorf("index %s lies in itself: %w", d.Digest, ErrInvalid)
		}
		if !known[d.Digest] {
			known[d.Digest] = true
			inner = append(inner, &listing{Descriptor: d, in: in})
		}
	}
	return inner, nil
}

// openAll reads indexes, and returns those that are there. Of these there may be so many; those that are absent cost a look each.
func (w *indexWalk) openAll(all []*listing) ([]*listing, error) {
	var present []*listing
	for _, l := range all {
		index, err := w.open(l.Descriptor)
		if err != nil {
			return nil, fmt.Errorf("index %s in it: %w", l.Digest, err)
		}
		if index != nil {
			if len(w.read) == MaxIndexes-1 { // the outermost is not among them
				return nil, fmt.Errorf("it has more than %d indexes in it: %w", MaxIndexes-1, ErrLimit)
			}
			l.index = index
			present, w.read = append(present, l), append(w.read, l.Digest)
		}
	}
	return present, nil
}

// openIndex is how the store opens indexes in an index. It may hold some platforms of an image only, and then lack what
// leads to others: who asks for any gets what is there.
func (s *Store) openIndex(want Platform) OpenIndex {
	open := OpenedBy(func(d v1.Descriptor) ([]byte, error) { return s.ReadBlob(d, MaxManifestSize) })
	if want != AnyPlatform {
		return open
	}
	return func(d v1.Descriptor) (*v1.Index, error) {
		index, err := open(d)
		if errors.Is(err, ErrNotFound) {
			return nil, nil
		}
		return index, err
	}
}

// indexesIn lists the indexes that lie in a target and are in the store, for who saves or removes it: for one platform
// those that are read to find it, for AnyPlatform all.
func (s *Store) indexesIn(target v1.Descriptor, want Platform) ([]digest.Digest, error) {
	t, err := s.readTarget(target)
	if err != nil || t.index == nil {
		return nil, err
	}
	found, err := rank(target, t.index, want, s.openIndex(want))
	return found.indexes, err
}
