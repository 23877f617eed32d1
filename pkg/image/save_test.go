package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func save(t *testing.T, s *Store, names ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := s.Save(t.Context(), &buf, SaveOptions{}, names...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestSaveAndLoadAreInverse(t *testing.T) {
	s := newStore(t)
	a, intel, arm := simple("a"), simple("b", "amd64"), simple("b", "arm64")
	add(t, s, "a:1", a)
	target := add(t, s, "example.com/b:2", intel, arm)
	archive := save(t, s, "a:1", "example.com/b:2")
	if !bytes.Equal(archive, save(t, s, "a:1", "example.com/b:2")) {
		t.Error("the same images give different bytes")
	}
	other := newStore(t)
	mustLoad(t, other, archive, LoadOptions{})
	expectList(t, other, "docker.io/library/a:1 "+a.Manifest.Digest.String(), "example.com/b:2 "+target.Digest.String())
	for _, p := range []string{"linux/amd64", "linux/arm64"} {
		want, err := ParsePlatform(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Resolve("example.com/b:2", want); err != nil {
			t.Error(err)
		}
	}
}

// What only understands docker's table of contents finds the image too.
func TestSavedArchiveIsADockerArchive(t *testing.T) {
	s := newStore(t)
	img := simple("a")
	add(t, s, "a:1", img)
	var docker bytes.Buffer // without the layout
	w, r := tar.NewWriter(&docker), tar.NewReader(bytes.NewReader(save(t, s, "a:1")))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "oci-layout" || h.Name == "index.json" {
			continue
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, r); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	other := newStore(t)
	mustLoad(t, other, docker.Bytes(), LoadOptions{})
	got, err := other.Resolve("a:1", amd64)
	if err != nil || got.ConfigDigest != img.Config.Digest {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestSaveRefusesDamage(t *testing.T) {
	s := newStore(t)
	img := simple("a")
	add(t, s, "a", img)
	damageBlob(t, s, img.Layers[0])
	expectError(t, s.Save(t.Context(), io.Discard, SaveOptions{}, "a"), ErrCorrupt, "")
	expectError(t, s.Save(t.Context(), io.Discard, SaveOptions{}, "nope"), ErrNotFound, `save: image "nope": not found`)
	if err := os.Remove(s.blobPath(img.Layers[1].Digest)); err != nil {
		t.Fatal(err)
	}
	expectError(t, s.Save(t.Context(), io.Discard, SaveOptions{}, "a"), ErrNotFound, "")
}

func TestSaveByIDHasNoName(t *testing.T) {
	s := newStore(t)
	img := simple("a")
	add(t, s, "a", img)
	other := newStore(t)
	loaded := mustLoad(t, other, save(t, s, img.Config.Digest.Encoded()[:12]), LoadOptions{})
	if loaded[0].Name != "" {
		t.Errorf("loaded %+v", loaded)
	}
	// The index of the archive is valid JSON with an array, as other tools want it.
	data, err := os.ReadFile(filepath.Join(other.dir, "index.json"))
	if err != nil || !json.Valid(data) {
		t.Errorf("%s, %v", data, err)
	}
}
