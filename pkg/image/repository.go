package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// A registry keeps more than a store does: what a tag meant before can still be had by its
// digest. Publish and Withdraw change names in that way. What is known by its digest alone
// has the name REPOSITORY@DIGEST.

// Named is one name of the store, with what it means.
type Named struct {
	Name   string // full; empty if the image has none
	Target v1.Descriptor
}

// Names lists all names, without reading what they mean.
func (s *Store) Names() ([]Named, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, fmt.Errorf("list names: %w", err)
	}
	all := make([]Named, len(index.Manifests))
	for i, e := range index.Manifests {
		all[i] = Named{nameOf(e), v1.Descriptor{MediaType: e.MediaType, Digest: e.Digest, Size: e.Size}}
	}
	return all, nil
}

// NamesFile is the file whose replacement tells that names have changed. It need not exist.
func (s *Store) NamesFile() string { return filepath.Join(s.dir, indexFile) }

// Publish gives a manifest or index the name ref. What had the name stays, known by its
// digest. What covers lists is known through target from now on, and needs no name by digest of
// its own.
//
// The precondition is that of [Store.Tag]: target is in the store, and protected with all that
// it leads to.
func (s *Store) Publish(ctx context.Context, ref Reference, target v1.Descriptor, covers ...digest.Digest) error {
	target = v1.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size}
	return s.changeNames(ctx, func(entries []v1.Descriptor) ([]v1.Descriptor, error) {
		if _, err := s.readTarget(target); err != nil {
			return nil, fmt.Errorf("name %s: %w", ref, err)
		}
		if slices.ContainsFunc(entries, func(e v1.Descriptor) bool { return nameOf(e) == ref.String() && e.Digest == target.Digest }) {
			return entries, nil
		}
		entries = slices.DeleteFunc(entries, func(e v1.Descriptor) bool {
			for _, d := range covers {
				if nameOf(e) == ref.at(d) {
					return true
				}
			}
			return ref.Tag != "" && nameOf(e) == ref.at(target.Digest)
		})
		if ref.Digest != "" && ref.holds(entries, target.Digest) {
			return entries, nil
		}
		entries, _ = withdrawTag(entries, ref)
		return setName(entries, ref.String(), target), nil
	})
}

// Withdraw takes back what Publish did: of a tag, the tag, so that what it meant is known by its
// digest; of a digest, all names in the repository that mean it. ErrNotFound says that there are
// none.
func (s *Store) Withdraw(ctx context.Context, ref Reference) error {
	return s.changeNames(ctx, func(entries []v1.Descriptor) ([]v1.Descriptor, error) {
		before := len(entries)
		found := false
		if ref.Digest == "" {
			entries, found = withdrawTag(entries, ref)
		} else {
			entries = slices.DeleteFunc(entries, func(e v1.Descriptor) bool { return ref.names(e) && e.Digest == ref.Digest })
			found = len(entries) < before
		}
		if !found {
			return nil, fmt.Errorf("%s: %w", ref, ErrNotFound)
		}
		return dropNamelessTwins(entries), nil
	})
}

// withdrawTag takes a tag away. What it meant gets a name by its digest unless the repository has
// another for it.
func withdrawTag(entries []v1.Descriptor, ref Reference) ([]v1.Descriptor, bool) {
	i := slices.IndexFunc(entries, func(e v1.Descriptor) bool { return nameOf(e) == ref.String() })
	if i < 0 {
		return entries, false
	}
	old := entries[i]
	entries = slices.Delete(entries, i, i+1)
	if !ref.holds(entries, old.Digest) {
		entries = append(entries, withName(old, ref.at(old.Digest)))
	}
	return entries, true
}

// at is the name of something in the repository by its digest.
func (r Reference) at(d digest.Digest) string { return r.Name() + "@" + d.String() }

// names reports whether an entry has a name in the repository.
func (r Reference) names(e v1.Descriptor) bool {
	rest, ok := strings.CutPrefix(nameOf(e), r.Name())
	return ok && rest != "" && (rest[0] == ':' || rest[0] == '@')
}

// holds reports whether some entry of the repository means d.
func (r Reference) holds(entries []v1.Descriptor, d digest.Digest) bool {
	return slices.ContainsFunc(entries, func(e v1.Descriptor) bool { return e.Digest == d && r.names(e) })
}

// OpenDigest opens a blob of which the digest alone is known, and returns its size in bytes. Its
// content is not verified: whoever reads it has the digest. Errors are those of OpenBlob.
func (s *Store) OpenDigest(d digest.Digest) (*os.File, int64, error) {
	if _, err := ParseDigest(d.String()); err != nil {
		return nil, 0, err
	}
	return s.open(d)
}

// Hold protects a blob that is in the store. ErrNotFound says that it is not.
func (l *Lease) Hold(ctx context.Context, d digest.Digest) error {
	if _, err := ParseDigest(d.String()); err != nil {
		return err
	}
	if err := l.protect(ctx, d); err != nil {
		return err
	}
	f, _, err := l.store.open(d)
	if err != nil {
		return err
	}
	return f.Close()
}
