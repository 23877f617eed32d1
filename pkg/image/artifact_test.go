package image

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/image-spec/schema"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/internal/testkit/testimage"
)

// writeFiles writes files, whose content is their name.
func writeFiles(t *testing.T, names ...string) (files []ArtifactFile) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, ArtifactFile{Path: path, MediaType: "text/plain"})
	}
	return files
}

// An artifact is made, listed, found by what it is about, kept from the collector, extracted and removed; its manifest keeps to
// the schema.
func TestArtifacts(t *testing.T) {
	s := newStore(t)
	img := simple("a")
	target := add(t, s, "app:1", img)
	made, err := s.AddArtifact(t.Context(), ArtifactRequest{
		Name: "example.com/notes:1", Type: "application/x-notes", Files: writeFiles(t, "one", "two"), Subject: &target,
		Annotations: map[string]string{"k": "v"}, Created: time.Unix(0, 0),
	})
	if err != nil {
		t.Fatal(err)
	}
	bare, err := s.AddArtifact(t.Context(), ArtifactRequest{Repository: Reference{Domain: "example.com", Path: "bare"}})
	if err != nil || bare.Name != "example.com/bare@"+bare.Target.Digest.String() || bare.Type() != UnknownArtifact {
		t.Fatalf("%+v, %v", bare, err)
	}
	if _, err := s.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, a := range []*Artifact{made, bare} {
		validate(t, s.blobPath(a.Target.Digest), schema.ValidatorMediaTypeManifest)
	}
	all, err := s.Artifacts()
	if err != nil || len(all) != 2 {
		t.Errorf("%d artifacts, %v", len(all), err)
	}
	found, err := s.Referrers(target.Digest)
	if err != nil || len(found) != 1 || found[0].Target.Digest != made.Target.Digest || found[0].Type() != "application/x-notes" {
		t.Errorf("referrers %+v, %v", found, err)
	}
	again, err := s.Artifact("example.com/notes:1")
	if err != nil || again.Size() != 6 || again.Manifest.Annotations["k"] != "v" || again.Manifest.Annotations[v1.AnnotationCreated] != "1970-01-01T00:00:00Z" {
		t.Fatalf("%+v, %v", again, err)
	}
	dir := t.TempDir()
	names, err := s.Extract(t.Context(), again, dir)
	if err != nil || len(names) != 2 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != name {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if _, err := s.Extract(t.Context(), again, dir); !errors.Is(err, ErrExists) {
		t.Errorf("over files that are there: %v", err)
	}
	if _, err := s.Remove(t.Context(), "example.com/notes:1", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if s.Has(made.Target) || s.Has(made.Manifest.Layers[0]) {
		t.Error("the artifact is still there")
	}
}

// What is no artifact is not taken for one, and an image not for an artifact.
func TestImagesAreNoArtifacts(t *testing.T) {
	s := newStore(t)
	add(t, s, "one:1", simple("a"))
	add(t, s, "both:1", simple("a"), simple("b", "arm64"))
	for _, name := range []string{"one:1", "both:1"} {
		if _, err := s.Artifact(name); !errors.Is(err, ErrNotArtifact) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Artifact("none"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if all, err := s.Artifacts(); err != nil || len(all) > 0 {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := s.AddArtifact(t.Context(), ArtifactRequest{Name: "x", Files: []ArtifactFile{{Path: t.TempDir()}}}); err == nil {
		t.Error("a directory became a file of an artifact")
	}
}

// The names of files come from whoever made the artifact. None leads out of the directory, or through a link in it.
func TestExtractStaysInItsDirectory(t *testing.T) {
	s := newStore(t)
	file := testimage.NewBlob("text/plain", []byte("x"))
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	if err := lease.Put(t.Context(), file.Descriptor, file.Data); err != nil {
		t.Fatal(err)
	}
	for _, title := range []string{"../x", "/etc/x", "a/b", "..", ".", "a/../../x", "link"} {
		dir := filepath.Join(t.TempDir(), "in")
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Symlink("../outside", filepath.Join(dir, "link"))); err != nil {
			t.Fatal(err)
		}
		d := file.Descriptor
		d.Annotations = map[string]string{v1.AnnotationTitle: title}
		if names, err := s.Extract(t.Context(), &Artifact{Manifest: v1.Manifest{Layers: []v1.Descriptor{d}}}, dir); err == nil {
			t.Errorf("%q was written as %v", title, names)
		}
		if entries, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(entries) != 1 {
			t.Errorf("%q: beside the directory: %v, %v", title, entries, err)
		}
	}
	twice := v1.Descriptor{MediaType: "text/plain", Digest: file.Digest, Size: file.Size, Annotations: map[string]string{v1.AnnotationTitle: "same"}}
	if _, err := s.Extract(t.Context(), &Artifact{Manifest: v1.Manifest{Layers: []v1.Descriptor{twice, twice}}}, t.TempDir()); !errors.Is(err, ErrExists) {
		t.Errorf("two files of one name: %v", err)
	}
}

// What cosign makes of a signature, with an image's configuration and a payload in the place of layers, is an artifact, and so is an
// index of such: listed as one, found whole by a check, kept by a repair, and copied as it is. What is encrypted is an image.
func TestSignaturesOfCosignAreArtifacts(t *testing.T) {
	s := newStore(t)
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	must := func(d v1.Descriptor, err error) v1.Descriptor {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	config := must(lease.putJSON(t.Context(), v1.MediaTypeImageConfig, v1.Image{RootFS: v1.RootFS{Type: "layers"}}))
	payload := must(lease.PutNew(t.Context(), "application/vnd.dev.cosign.simplesigning.v1+json", []byte("{}")))
	signature := must(lease.putManifest(t.Context(), config, []v1.Descriptor{payload}))
	other := must(lease.putManifest(t.Context(), config, []v1.Descriptor{payload, payload}))
	index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{signature, other}}
	index.SchemaVersion = 2
	list := must(lease.putJSON(t.Context(), v1.MediaTypeImageIndex, index))
	for name, target := range map[string]v1.Descriptor{"example.com/app:sha256-1.sig": signature, "example.com/app:sha256-2": list} {
		if err := s.Tag(t.Context(), name, target); err != nil {
			t.Fatal(err)
		}
	}
	lease.Close()

	listed, err := s.List()
	if err != nil || len(listed) != 2 {
		t.Fatalf("%v, %v", listed, err)
	}
	for _, l := range listed {
		expectError(t, l.Err, ErrArtifact, "")
		_, err := s.Resolve(l.Name, Default())
		expectError(t, err, ErrArtifact, "")
	}
	if all, err := s.Artifacts(); err != nil || len(all) != 1 || all[0].Target.Digest != signature.Digest {
		t.Errorf("artifacts %+v, %v", all, err)
	}
	if got := problems(t, s, true); got != "" {
		t.Errorf("problems:\n%s", got)
	}
	if names, err := s.Names(); err != nil || len(names) != 2 {
		t.Errorf("names %v, %v", names, err)
	}

	dir := t.TempDir()
	for i, target := range []v1.Descriptor{signature, list} {
		layout := filepath.Join(dir, target.Digest.Encoded())
		if err := s.SaveDir(t.Context(), layout, SaveOptions{Target: &target}); err != nil {
			t.Fatal(err)
		}
		second := newStore(t)
		held, err := second.Lease(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		if came, err := second.LoadPath(t.Context(), layout, LoadOptions{Lease: held}); err != nil || came[0].Target.Digest != target.Digest {
			t.Errorf("%v, %v", came, err)
		}
		if blobs, err := second.Blobs(); err != nil || len(blobs) != 3+2*i {
			t.Errorf("blobs %v, %v", blobs, err)
		}
	}
	flat := filepath.Join(dir, "flat")
	if err := s.SaveFlat(t.Context(), flat, signature, Platform{}); err != nil {
		t.Fatal(err)
	}
	second := newStore(t)
	held, err := second.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if came, err := second.LoadPath(t.Context(), flat, LoadOptions{Lease: held}); err != nil || came[0].Target.Digest != signature.Digest {
		t.Errorf("%v, %v", came, err)
	}
	expectError(t, s.SaveFlat(t.Context(), filepath.Join(dir, "list"), list, Platform{}), ErrArtifact, "")

	encrypted := payload
	encrypted.MediaType = v1.MediaTypeImageLayerGzip + "+encrypted"
	err = checkManifest(&v1.Manifest{Config: config, Layers: []v1.Descriptor{encrypted}})
	if expectError(t, err, ErrInvalid, ""); errors.Is(err, ErrArtifact) {
		t.Errorf("error %v", err)
	}
}
