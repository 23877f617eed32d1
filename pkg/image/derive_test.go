package image

import (
	"io"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/internal/testkit/testimage"
)

func TestDerivePutsALayerOnTop(t *testing.T) {
	s := newStore(t)
	base := testimage.Build(testimage.Options{Docker: true, Config: v1.ImageConfig{User: "nobody"}})
	add(t, s, "base", base)
	img, err := s.Resolve("base", amd64)
	if err != nil {
		t.Fatal(err)
	}
	archive := testimage.Tar(testimage.File{Name: "new", Body: "new"})
	made := func(name string) *Image {
		t.Helper()
		got, err := s.Derive(t.Context(), DeriveRequest{
			Name: name, Base: img, CreatedBy: "test", Created: time.Unix(1e9, 0).UTC(),
			Layer:  func(w io.Writer) error { _, err := w.Write(archive); return err },
			Change: func(c *v1.Image) { c.Config.Cmd = []string{"sh"} },
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got, again := made("one"), made("two")
	if got.ManifestDigest != again.ManifestDigest {
		t.Error("the same request makes another image")
	}
	if got.Name != "docker.io/library/one:latest" || len(got.Layers) != 2 || got.Layers[0].DiffID != base.DiffIDs[0] || got.Config.Config.User != "nobody" || got.Config.Config.Cmd[0] != "sh" {
		t.Errorf("got %+v", got)
	}
	if img.Config.Config.Cmd != nil || len(img.Config.RootFS.DiffIDs) != 1 {
		t.Error("the base was changed")
	}
	r, err := got.Layers[1].Open(s, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if data, err := io.ReadAll(r); err != nil || string(data) != string(archive) {
		t.Errorf("layer of %d bytes, %v", len(data), err)
	}
	if got.Manifest.MediaType != v1.MediaTypeImageManifest || got.Manifest.Layers[0].MediaType != v1.MediaTypeImageLayerGzip {
		t.Errorf("docker's types in an OCI manifest: %+v", got.Manifest)
	}
}

func TestDeriveWithoutChangesAddsNoLayer(t *testing.T) {
	s := newStore(t)
	add(t, s, "base", simple("a"))
	img, err := s.Resolve("base", amd64)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Derive(t.Context(), DeriveRequest{Base: img, Layer: func(w io.Writer) error { _, err := w.Write(testimage.Tar()); return err }})
	if err != nil || len(got.Layers) != len(img.Layers) || !got.Config.History[0].EmptyLayer {
		t.Errorf("%+v, %v", got, err)
	}
	before := entries(t, s, "blobs/sha256")
	if _, err := s.Derive(t.Context(), DeriveRequest{Base: img, Layer: func(io.Writer) error { return io.ErrClosedPipe }}); err == nil {
		t.Error("a layer that fails makes an image")
	}
	if after := entries(t, s, "blobs/sha256"); len(after) != len(before) {
		t.Errorf("left behind: %d blobs, were %d", len(after), len(before))
	}
}
