package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containr/containr/internal/durable"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// A flat directory is how skopeo keeps the image for one platform in plain sight: its
// manifest.json, a file for each blob that is called by the digits of its digest, and
// version. An index is not kept so.
const (
	flatVersionFile = "version"
	flatVersion     = flatPrefix + "1\n"
	flatPrefix      = "Directory Transport Version: 1."
	flatManifest    = "manifest.json"
)

// flatName is what a blob is called in a flat directory.
func flatName(d digest.Digest) string {
	if d.Algorithm() == digest.SHA256 {
		return d.Encoded()
	}
	return d.Algorithm().String() + "-" + d.Encoded()
}

// isFlat reports whether a directory is a flat one.
func (l *layout) isFlat() bool {
	data, err := l.readFile(flatVersionFile, MaxManifestSize)
	return err == nil && strings.HasPrefix(string(data), flatPrefix)
}

// copyFlat copies the image of a flat directory.
func (l *layout) copyFlat(ctx context.Context) ([]named, error) {
	data, err := l.readFile(flatManifest, MaxManifestSize)
	if err != nil {
		return nil, err
	}
	mediaType, err := Identify(data, "")
	if err != nil {
		return nil, err
	}
	if !IsManifest(mediaType) {
		return nil, fmt.Errorf("%s is an index: %w", flatManifest, ErrInvalid)
	}
	for _, d := range children(data) {
		if err := checkDescriptor(d); err != nil {
			return nil, fmt.Errorf("%s: %w", flatManifest, err)
		}
		f, err := l.open(flatName(d.Digest))
		if err != nil {
			return nil, err
		}
		err = l.lease.Copy(ctx, d, contextReader{ctx, f})
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	target, err := l.lease.PutNew(ctx, mediaType, data)
	return []named{{target: target}}, err
}

// SaveFlat writes the image for one platform, or the manifest of an artifact, to a flat directory, which must not exist or
// be empty or one already. target is as SaveOptions.Target; the zero platform is this machine's.
func (s *Store) SaveFlat(ctx context.Context, dir string, target v1.Descriptor, p Platform) error {
	blobs, err := s.flatBlobs(target, p)
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	lease, err := s.Lease(ctx)
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	defer lease.Close()
	if err := lease.protect(ctx, blobs...); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	if err := s.writeFlat(ctx, dir, blobs); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

// flatBlobs lists what goes to a flat directory, the manifest first.
func (s *Store) flatBlobs(target v1.Descriptor, p Platform) ([]digest.Digest, error) {
	image, err := s.ReadImage("", target, p)
	if err == nil {
		return blobsOf(image), nil
	}
	if !errors.Is(err, ErrArtifact) || !IsManifest(target.MediaType) {
		return nil, err
	}
	data, err := s.ReadBlob(target, MaxManifestSize)
	if err != nil {
		return nil, err
	}
	blobs := []digest.Digest{target.Digest}
	for _, d := range children(data) {
		blobs = append(blobs, d.Digest)
	}
	return blobs, nil
}

// blobsOf lists the blobs of an image.
func blobsOf(i *Image) []digest.Digest {
	all := []digest.Digest{i.ManifestDigest, i.ConfigDigest}
	for _, l := range i.Layers {
		all = append(all, l.Descriptor.Digest)
	}
	return all
}

func (s *Store) writeFlat(ctx context.Context, dir string, blobs []digest.Digest) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, flatVersionFile)); len(entries) > 0 && err != nil {
		return fmt.Errorf("directory %s has something else in it than an image: %w", dir, ErrExists)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	o := durable.Options{Mode: 0o644}
	// First, so that after a copy that was cut off the directory is no stranger's.
	if err := durable.WriteFile(filepath.Join(dir, flatVersionFile), []byte(flatVersion), o); err != nil {
		return err
	}
	p := saver{ctx: ctx, store: s}
	for _, d := range blobs[1:] {
		if err := p.writeBlobFile(filepath.Join(dir, flatName(d)), d); err != nil {
			return err
		}
	}
	data, err := s.ReadDocument(blobs[0])
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, flatManifest), data, o)
}

// pick leaves the one image that is wanted: by its name in the source, or the only one.
func pick(images []named, want string) ([]named, error) {
	var names []string
	for _, i := range images {
		if want != "" && (i.name == want || sameReference(i.name, want)) {
			return []named{i}, nil
		}
		if i.name != "" && !slices.Contains(names, i.name) {
			names = append(names, i.name)
		}
	}
	switch {
	case want != "":
		return nil, &NotInSourceError{Want: want, Have: names}
	case len(images) > 1:
		return nil, fmt.Errorf("there are several images in it, of which one must be named (%s): %w", strings.Join(names, ", "), ErrAmbiguous)
	}
	return images, nil
}

func sameReference(a, b string) bool {
	x, errX := ParseReference(a)
	y, errY := ParseReference(b)
	return errX == nil && errY == nil && x == y
}

// Targets lists all that names mean, and the images without one.
func (s *Store) Targets() (map[digest.Digest]bool, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	all := map[digest.Digest]bool{}
	for _, e := range index.Manifests {
		all[e.Digest] = true
	}
	return all, nil
}

// Meant returns what a reference means in the store, by its full name or by its digest.
func (s *Store) Meant(ref Reference) (v1.Descriptor, bool) {
	index, err := s.readIndex()
	if err != nil {
		return v1.Descriptor{}, false
	}
	e, ok := lookup(index, ref)
	return v1.Descriptor{MediaType: e.MediaType, Digest: e.Digest, Size: e.Size}, ok
}

// NamesOf lists the names that mean a target.
func (s *Store) NamesOf(d digest.Digest) ([]string, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range index.Manifests {
		if e.Digest == d && nameOf(e) != "" {
			names = append(names, nameOf(e))
		}
	}
	return names, nil
}

// Forget removes an image that has no name, with all that nothing else needs. One that
// has a name, or is not there, stays as it is.
func (s *Store) Forget(ctx context.Context, d digest.Digest) error {
	lock, err := s.lock(ctx, durable.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Release()
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	before := len(index.Manifests)
	index.Manifests = slices.DeleteFunc(index.Manifests, func(e v1.Descriptor) bool { return e.Digest == d && nameOf(e) == "" })
	if len(index.Manifests) == before {
		return nil
	}
	if err := s.writeIndex(index); err != nil {
		return err
	}
	return s.collect(index, &Removed{})
}

// withLabel is withName for the names in layouts of others, which may be a tag alone.
func withLabel(d v1.Descriptor, name string) v1.Descriptor {
	d = withName(d, name)
	if _, err := ParseReference(name); err != nil || path.Base(name) == name && !strings.Contains(name, ":") {
		delete(d.Annotations, nameAnnotation)
	}
	return d
}

// IsFlat reports whether a directory is a flat one: the image for one platform, as skopeo keeps it.
func IsFlat(dir string) bool {
	f, err := os.Open(filepath.Join(dir, flatVersionFile))
	if err != nil {
		return false
	}
	defer f.Close()
	text := make([]byte, len(flatPrefix))
	_, err = io.ReadFull(f, text)
	return err == nil && string(text) == flatPrefix
}
