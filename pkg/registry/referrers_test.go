package registry

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/internal/testkit/realregistry"
	"github.com/containr/containr/internal/testkit/testimage"
	"github.com/containr/containr/pkg/image"
)

// What refers to an image is found by it: in a registry that knows referrers, ours, and in one that does not, where the list
// is kept under a tag. It is pulled again as it was made.
func TestReferrers(t *testing.T) { registries(t, attachAndList) }

func attachAndList(t *testing.T, r *realregistry.Registry) {
	img := testimage.Build(testimage.Options{})
	r.Push(t, "team/app", "1", img)
	ref, err := image.ParseReference(r.Host() + "/team/app:1")
	if err != nil {
		t.Fatal(err)
	}
	subject, err := Head(t.Context(), Access{}, ref)
	if err != nil || subject.Digest != img.Manifest.Digest || subject.MediaType != img.Manifest.MediaType {
		t.Fatalf("%+v, %v", subject, err)
	}
	expect := func(kind string, want ...string) []v1.Descriptor {
		t.Helper()
		found, err := Referrers(t.Context(), Access{}, ref, subject.Digest, kind)
		var types []string
		for _, d := range found {
			types = append(types, d.ArtifactType)
		}
		if err != nil || len(found) != len(want) {
			t.Fatalf("of type %q: %q, want %q, %v", kind, types, want, err)
		}
		return found
	}
	expect("")
	store, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "notes")
	if err := os.WriteFile(file, []byte("notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"application/x-a", "application/x-b", "application/x-b"} { // the last a second time
		a, err := store.AddArtifact(t.Context(), image.ArtifactRequest{Repository: ref, Type: kind, Files: []image.ArtifactFile{{Path: file}}, Subject: &subject})
		if err != nil {
			t.Fatal(err)
		}
		to, err := image.ParseReference(a.Name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Push(t.Context(), PushRequest{Store: store, Source: a.Name, Ref: to}); err != nil {
			t.Fatal(err)
		}
	}
	expect("", "application/x-a", "application/x-b")
	expect("application/x-c")
	one := expect("application/x-b", "application/x-b")[0]

	elsewhere, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := image.Reference{Domain: ref.Domain, Path: ref.Path, Digest: one.Digest}
	if _, err := PullArtifact(t.Context(), PullRequest{Ref: at, Store: elsewhere}); err != nil {
		t.Fatal(err)
	}
	a, err := elsewhere.Artifact(at.String())
	if err != nil || a.Type() != "application/x-b" || a.Manifest.Subject.Digest != subject.Digest || !elsewhere.Has(a.Manifest.Layers[0]) {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := Head(t.Context(), Access{}, image.Reference{Domain: ref.Domain, Path: ref.Path, Tag: "none"}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// An index is no artifact, and nothing of it stays.
func TestPullArtifactRefusesAnIndex(t *testing.T) {
	r := realregistry.At(serveStore(t))
	r.PushIndex(t, "app", "1", testimage.Build(testimage.Options{}))
	store, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = PullArtifact(t.Context(), PullRequest{Ref: image.Reference{Domain: r.Host(), Path: "app", Tag: "1"}, Store: store})
	if !errors.Is(err, image.ErrNotArtifact) {
		t.Error(err)
	}
	if blobs, err := store.Blobs(); err != nil || len(blobs) > 0 {
		t.Errorf("left %v, %v", blobs, err)
	}
}
