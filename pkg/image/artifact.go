package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Artifact is a manifest that is of no container image: files of some type, such as a signature or a bill
// of materials. It may refer to an image or to another artifact, its subject.
type Artifact struct {
	Name     string // full; empty if it has none
	Target   v1.Descriptor
	Manifest v1.Manifest
}

// Type is what the artifact is, as a media type. Where the manifest does not say, the configuration does, or, if that is an image's
// as in cosign's signatures, the first file.
func (a *Artifact) Type() string {
	if m := a.Manifest; m.ArtifactType == "" && isConfig(m.Config.MediaType) && len(m.Layers) > 0 {
		return m.Layers[0].MediaType
	}
	return cmp.Or(a.Manifest.ArtifactType, a.Manifest.Config.MediaType)
}

// Size returns the bytes that the artifact's files take.
func (a *Artifact) Size() (sum int64) {
	for _, l := range a.Manifest.Layers {
		sum += l.Size
	}
	return sum
}

// UnknownArtifact is the type of an artifact of which nobody has said it.
const UnknownArtifact = "application/vnd.unknown.artifact.v1"

// MaxArtifactFiles bounds the files of an artifact.
const MaxArtifactFiles = MaxLayers

// ErrNotArtifact says that a name is of a container image, or an index.
var ErrNotArtifact = errors.New("not an artifact")

// ArtifactFile is one file of an artifact to be.
type ArtifactFile struct {
	Path      string
	MediaType string // application/octet-stream if empty
}

// ArtifactRequest says what an artifact is made of.
type ArtifactRequest struct {
	Name        string // may be empty: then it is known by the digest, in the repository of Repository
	Repository  Reference
	Type        string // UnknownArtifact if empty
	Files       []ArtifactFile
	Annotations map[string]string
	Subject     *v1.Descriptor // what it is about; may be nil, and need not be here
	Created     time.Time      // no time if zero
	// Lease, if set, is what keeps the artifact: then it gets no name.
	Lease *Lease
}

// AddArtifact makes an artifact of files. An artifact or image that had its name stays in the store.
func (s *Store) AddArtifact(ctx context.Context, r ArtifactRequest) (*Artifact, error) {
	a, err := s.addArtifact(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("add artifact: %w", err)
	}
	return a, nil
}

func (s *Store) addArtifact(ctx context.Context, r ArtifactRequest) (*Artifact, error) {
	if len(r.Files) > MaxArtifactFiles {
		return nil, fmt.Errorf("%d files, more than %d: %w", len(r.Files), MaxArtifactFiles, ErrLimit)
	}
	lease := r.Lease
	if lease == nil {
		var err error
		if lease, err = s.Lease(ctx); err != nil {
			return nil, err
		}
		defer lease.Close()
	}
	m := v1.Manifest{MediaType: v1.MediaTypeImageManifest, ArtifactType: cmp.Or(r.Type, UnknownArtifact), Subject: r.Subject}
	m.SchemaVersion = 2
	for _, f := range r.Files {
		d, err := lease.addFile(ctx, f)
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, d)
	}
	if len(m.Layers) == 0 { // the specification wants one
		m.Layers = []v1.Descriptor{v1.DescriptorEmptyJSON}
	}
	m.Config = v1.DescriptorEmptyJSON
	if err := lease.Put(ctx, m.Config, m.Config.Data); err != nil {
		return nil, err
	}
	m.Annotations = r.Annotations
	if !r.Created.IsZero() {
		m.Annotations = withAnnotation(m.Annotations, v1.AnnotationCreated, r.Created.UTC().Format(time.RFC3339))
	}
	data, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	target, err := lease.PutNew(ctx, v1.MediaTypeImageManifest, data)
	if err != nil {
		return nil, err
	}
	if r.Lease != nil {
		return &Artifact{Target: target, Manifest: m}, nil
	}
	if r.Name == "" {
		r.Name = r.Repository.at(target.Digest)
	}
	return &Artifact{Name: r.Name, Target: target, Manifest: m}, s.Tag(ctx, r.Name, target)
}

// addFile takes a file in, under its own name without directories.
func (l *Lease) addFile(ctx context.Context, from ArtifactFile) (v1.Descriptor, error) {
	f, err := os.Open(from.Path)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return v1.Descriptor{}, errors.Join(fmt.Errorf("%s is no regular file", from.Path), err)
	}
	w, err := l.IngestNew(ctx)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer w.Close()
	if _, err := io.Copy(w, contextReader{ctx, f}); err != nil {
		return v1.Descriptor{}, err
	}
	if err := w.Commit(ctx); err != nil {
		return v1.Descriptor{}, err
	}
	d := w.Descriptor()
	d.MediaType = cmp.Or(from.MediaType, "application/octet-stream")
	d.Annotations = map[string]string{v1.AnnotationTitle: filepath.Base(from.Path)}
	return d, nil
}

// readArtifact reads the manifest that a name means. ErrNotArtifact says that it is something else.
func (s *Store) readArtifact(name string, target v1.Descriptor) (*Artifact, error) {
	t, err := s.readTarget(target)
	if err != nil {
		return nil, err
	}
	a := &Artifact{Name: name, Target: target}
	if t.index != nil {
		return nil, ErrNotArtifact
	}
	if err := json.Unmarshal(t.data, &a.Manifest); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", ErrInvalid, err)
	}
	if isConfig(a.Manifest.Config.MediaType) && a.Manifest.ArtifactType == "" && a.Manifest.Subject == nil && !errors.Is(checkManifest(&a.Manifest), ErrArtifact) {
		return nil, ErrNotArtifact
	}
	return a, nil
}

// reachAll lists the blobs of what is no container image, all of which must be here.
func (s *Store) reachAll(target v1.Descriptor) ([]digest.Digest, error) {
	reached, err := s.Reach(target)
	if err != nil {
		return nil, err
	}
	delete(reached, "") // an index has no config
	all := slices.Sorted(maps.Keys(reached))
	for _, d := range all {
		if _, err := s.size(d); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ReadArtifact reads the artifact that a target leads to, which needs no name. Errors are those of Artifact.
func (s *Store) ReadArtifact(target v1.Descriptor) (*Artifact, error) {
	a, err := s.readArtifact("", target)
	if err != nil {
		return nil, fmt.Errorf("artifact %s: %w", target.Digest, err)
	}
	return a, nil
}

// Artifact finds an artifact by its name. Errors wrap ErrNotFound, ErrNotArtifact, ErrReference, ErrCorrupt or ErrInvalid.
func (s *Store) Artifact(name string) (*Artifact, error) {
	ref, err := ParseReference(name)
	if err != nil {
		return nil, err
	}
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	entry, ok := lookup(index, ref)
	if !ok {
		return nil, fmt.Errorf("artifact %q: %w", cut(name), ErrNotFound)
	}
	a, err := s.readArtifact(nameOf(entry), v1.Descriptor{MediaType: entry.MediaType, Digest: entry.Digest, Size: entry.Size})
	if err != nil {
		return nil, fmt.Errorf("artifact %s: %w", cut(name), err)
	}
	return a, nil
}

// Artifacts lists the artifacts of the store. What is damaged is left out: [Store.Check] finds it.
func (s *Store) Artifacts() ([]Artifact, error) {
	names, err := s.Names()
	if err != nil {
		return nil, err
	}
	var all []Artifact
	for _, n := range names {
		if a, err := s.readArtifact(n.Name, n.Target); err == nil {
			all = append(all, *a)
		} else if !errors.Is(err, ErrNotArtifact) && !isContentError(err) {
			return nil, err
		}
	}
	return all, nil
}

// Referrers lists what refers to a manifest or index, each once, by its digest.
func (s *Store) Referrers(subject digest.Digest) ([]Artifact, error) {
	all, err := s.Artifacts()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(a Artifact) bool { return a.Manifest.Subject == nil || a.Manifest.Subject.Digest != subject })
	slices.SortStableFunc(all, func(a, b Artifact) int { return cmp.Compare(a.Target.Digest, b.Target.Digest) })
	return slices.CompactFunc(all, func(a, b Artifact) bool { return a.Target.Digest == b.Target.Digest }), nil
}

// Extract writes the files of an artifact into a directory, which must exist, under the names that they have in
// it; a file without one is called by the digits of its digest. A name with a directory in it, or of a
// file that is there already, is refused before anything is written. It returns the names.
func (s *Store) Extract(ctx context.Context, a *Artifact, dir string) ([]string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("extract: %w", err)
	}
	defer root.Close()
	var names []string
	var files []v1.Descriptor
	for _, l := range a.Manifest.Layers {
		if l.MediaType == v1.MediaTypeEmptyJSON {
			continue
		}
		name := cmp.Or(l.Annotations[v1.AnnotationTitle], l.Digest.Encoded())
		if name != filepath.Base(name) || !filepath.IsLocal(name) || name == "." {
			return nil, fmt.Errorf("extract: file name %q leads elsewhere: %w", cut(name), ErrInvalid)
		}
		if _, err := root.Lstat(name); err == nil || slices.Contains(names, name) {
			return nil, fmt.Errorf("extract: file %s %w in %s", name, ErrExists, dir)
		}
		names, files = append(names, name), append(files, l)
	}
	for i, name := range names {
		if err := s.extractFile(ctx, root, name, files[i].Digest); err != nil {
			return names[:i], fmt.Errorf("extract %s: %w", name, err)
		}
	}
	return names, nil
}

// extractFile writes one file, or nothing.
func (s *Store) extractFile(ctx context.Context, root *os.Root, name string, d digest.Digest) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = s.copyBlob(ctx, d, func(int64) (io.Writer, error) { return f, nil })
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, root.Remove(name))
	}
	return nil
}

// withAnnotation returns annotations with one more, unless it is there.
func withAnnotation(old map[string]string, key, value string) map[string]string {
	all := map[string]string{key: value}
	for k, v := range old {
		all[k] = v
	}
	return all
}

// WriteBlob writes a blob to w. It is verified while it is read: an error may come after bytes that are wrong.
func (s *Store) WriteBlob(ctx context.Context, w io.Writer, d digest.Digest) error {
	return s.copyBlob(ctx, d, func(int64) (io.Writer, error) { return w, nil })
}
