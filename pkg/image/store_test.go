package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containr/containr/internal/testkit/testimage"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// newStore returns an empty store.
func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "content"))
	if err != nil {
		t.Fatal(err)
	}
	s.Volatile = true
	return s
}

// add stores images under a name, as an index if there are several.
func add(t testing.TB, s *Store, name string, images ...*testimage.Image) v1.Descriptor {
	t.Helper()
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	target := images[0].Manifest
	if len(images) > 1 {
		target = testimage.Index(images...)
		put(t, lease, target)
	}
	for _, i := range images {
		put(t, lease, append(i.Blobs(), i.Manifest)...)
	}
	if err := s.Tag(t.Context(), name, target.Descriptor); err != nil {
		t.Fatal(err)
	}
	return target.Descriptor
}

func put(t testing.TB, lease *Lease, blobs ...testimage.Blob) {
	t.Helper()
	for _, b := range blobs {
		if err := lease.Put(t.Context(), b.Descriptor, b.Data); err != nil {
			t.Fatal(err)
		}
	}
}

// simple returns a distinct image for linux/amd64 or the architecture given.
func simple(content string, architecture ...string) *testimage.Image {
	o := testimage.Options{Layers: [][]byte{
		testimage.Tar(testimage.File{Name: "common", Body: "the same in all"}),
		testimage.Tar(testimage.File{Name: "own", Body: content}),
	}}
	if len(architecture) > 0 {
		o.Platform.Architecture = architecture[0]
	}
	return testimage.Build(o)
}

var amd64 = Platform{OS: "linux", Architecture: "amd64"}

func TestResolveReadsWhatWasStored(t *testing.T) {
	s := newStore(t)
	img := testimage.Build(testimage.Options{Config: v1.ImageConfig{Cmd: []string{"sh"}, User: "nobody"}})
	add(t, s, "debian", img)
	got, err := s.Resolve("docker.io/library/debian:latest", amd64)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "docker.io/library/debian:latest" || got.ConfigDigest != img.Config.Digest || got.ManifestDigest != img.Manifest.Digest {
		t.Errorf("got %+v", got)
	}
	if got.Config.Config.User != "nobody" || got.Platform() != amd64 {
		t.Errorf("config %+v", got.Config)
	}
	if len(got.Layers) != 1 || got.Layers[0].DiffID != img.DiffIDs[0] || got.Layers[0].Descriptor.Digest != img.Layers[0].Digest {
		t.Errorf("layers %+v", got.Layers)
	}
	if want := img.Config.Size + img.Layers[0].Size; got.Size() != want {
		t.Errorf("size %d, want %d", got.Size(), want)
	}
	r, err := got.Layers[0].Open(s, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil || !bytes.Contains(content, []byte("hello, world")) {
		t.Errorf("layer: %d bytes, %v", len(content), err)
	}
}

func TestResolveChoosesPlatform(t *testing.T) {
	s := newStore(t)
	intel, arm := simple("x", "amd64"), simple("x", "arm64")
	add(t, s, "multi", intel, arm)
	add(t, s, "single", simple("y", "riscv64"))
	for want, config := range map[string]testimage.Blob{"linux/x86_64": intel.Config, "linux/arm64/v8": arm.Config} {
		p, err := ParsePlatform(want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Resolve("multi", p); err != nil || got.ConfigDigest != config.Digest {
			t.Errorf("%s: got %v, %v", want, got, err)
		}
	}
	_, err := s.Resolve("multi", Platform{OS: "linux", Architecture: "s390x"})
	expectError(t, err, ErrPlatform, "image docker.io/library/multi:latest is not for linux/s390x; it is for linux/amd64, linux/arm64")
	_, err = s.Resolve("single", amd64)
	expectError(t, err, ErrPlatform, "image docker.io/library/single:latest is not for linux/amd64; it is for linux/riscv64")
	if got, err := s.Resolve("single", AnyPlatform); err != nil || got.Platform().Architecture != "riscv64" {
		t.Errorf("any platform: %v, %v", got, err)
	}
}

func TestResolveByID(t *testing.T) {
	s := newStore(t)
	a, b := simple("a"), simple("b")
	add(t, s, "a", a)
	add(t, s, "also-a", a)
	target := add(t, s, "b", b)
	id := a.Config.Digest.Encoded()
	for _, name := range []string{id, "sha256:" + id, id[:12], "sha256:" + id[:3]} {
		got, err := s.Resolve(name, amd64)
		if err != nil || got.ConfigDigest != a.Config.Digest {
			t.Errorf("%q: %v, %v", name, got, err)
		}
	}
	// By digest, in the repository that it belongs to only.
	if got, err := s.Resolve("b@"+target.Digest.String(), amd64); err != nil || got.ConfigDigest != b.Config.Digest {
		t.Errorf("by digest: %v, %v", got, err)
	}
	_, err := s.Resolve("a@"+target.Digest.String(), amd64)
	expectError(t, err, ErrNotFound, "")
	_, err = s.Resolve("sha256:"+strings.Repeat("0", 64), amd64)
	expectError(t, err, ErrNotFound, `image "sha256:`+strings.Repeat("0", 64)+`": not found`)
	_, err = s.Resolve("nope", amd64)
	expectError(t, err, ErrNotFound, `image "nope": not found`)
	_, err = s.Resolve(id[:12], Platform{OS: "linux", Architecture: "arm64"})
	expectError(t, err, ErrPlatform, "")
	_, err = s.Resolve("Not/A/Name", amd64)
	expectError(t, err, ErrReference, "")
}

func TestAbbreviatedIDMayBeAmbiguous(t *testing.T) {
	s := newStore(t)
	for i := range 17 { // two of them share their first digit
		add(t, s, "img"+string(rune('a'+i)), simple(string(rune('a'+i))))
	}
	ambiguous := 0
	for _, digit := range "0123456789abcdef" {
		if _, err := s.Resolve("sha256:"+string(digit), amd64); errors.Is(err, ErrAmbiguous) {
			ambiguous++
		}
	}
	if ambiguous == 0 {
		t.Error("17 ids, and no first digit is ambiguous")
	}
}

func TestNamesMoveAndLeaveNamelessImages(t *testing.T) {
	s := newStore(t)
	a, b := simple("a"), simple("b")
	add(t, s, "app", a)
	add(t, s, "app", b)
	expectList(t, s, " "+a.Manifest.Digest.String(), "docker.io/library/app:latest "+b.Manifest.Digest.String())
	if err := s.Tag(t.Context(), "old", a.Manifest.Descriptor); err != nil {
		t.Fatal(err)
	}
	expectList(t, s, "docker.io/library/app:latest "+b.Manifest.Digest.String(), "docker.io/library/old:latest "+a.Manifest.Digest.String())
	err := s.Tag(t.Context(), "x", simple("absent").Manifest.Descriptor)
	expectError(t, err, ErrNotFound, "")
}

func TestIndexIsReadableByOtherTools(t *testing.T) {
	s := newStore(t)
	add(t, s, "debian:12", simple("a"))
	data, err := os.ReadFile(filepath.Join(s.dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index v1.Index
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	a := index.Manifests[0].Annotations
	if a[v1.AnnotationRefName] != "docker.io/library/debian:12" || a["io.containerd.image.name"] != "docker.io/library/debian:12" {
		t.Errorf("annotations %v", a)
	}
	again, err := Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Resolve("debian:12", amd64); err != nil {
		t.Error(err)
	}
}

func TestOpenRefusesOtherLayouts(t *testing.T) {
	dir := t.TempDir()
	for content, text := range map[string]string{
		`{"imageLayoutVersion":"2.0.0"}`: `oci-layout: version "2.0.0" is not 1.0.0: invalid image`,
		`nonsense`:                       "",
	} {
		if err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir)
		if text != "" {
			text = "open image store " + dir + ": " + text
		}
		expectError(t, err, ErrInvalid, text)
	}
}

func TestDamageIsFound(t *testing.T) {
	s := newStore(t)
	img := simple("a")
	add(t, s, "a", img)
	damage := func(b testimage.Blob) { damageBlob(t, s, b) }
	damage(img.Layers[1])
	got, err := s.Resolve("a", amd64)
	if err != nil {
		t.Fatal(err)
	}
	r, err := got.Layers[1].Open(s, Limits{})
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		r.Close()
	}
	expectError(t, err, ErrCorrupt, "")
	damage(img.Config)
	_, err = s.Resolve("a", amd64)
	expectError(t, err, ErrCorrupt, "")
	if !strings.Contains(err.Error(), img.Config.Digest.String()) {
		t.Errorf("the error does not name the blob: %v", err)
	}
	list, err := s.List()
	if err != nil || len(list) != 1 || !errors.Is(list[0].Err, ErrCorrupt) {
		t.Errorf("listed %+v, %v", list, err)
	}
	// Whatever is damaged can be removed.
	if _, err := s.Remove(t.Context(), "a", RemoveOptions{}); err != nil {
		t.Error(err)
	}
	expectBlobs(t, s)
}

func damageBlob(t *testing.T, s *Store, b testimage.Blob) {
	t.Helper()
	data := bytes.Clone(b.Data)
	data[len(data)/2] ^= 1
	if err := os.WriteFile(s.blobPath(b.Digest), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRemoveCollectsWhatNothingNeeds(t *testing.T) {
	s := newStore(t)
	a, b := simple("a"), simple("b")
	add(t, s, "a", a)
	add(t, s, "a2", a)
	add(t, s, "b", b)
	removed, err := s.Remove(t.Context(), "a", RemoveOptions{InUse: func(*Image) error { return errors.New("asked too early") }})
	if err != nil || len(removed.Deleted) != 0 || !slices.Equal(removed.Untagged, []string{"docker.io/library/a:latest"}) {
		t.Fatalf("first name: %+v, %v", removed, err)
	}
	_, err = s.Remove(t.Context(), "a2", RemoveOptions{InUse: func(i *Image) error { return errors.New("container c1 runs") }})
	expectError(t, err, ErrInUse, "remove: image docker.io/library/a2:latest: image is in use: container c1 runs")
	if _, err := s.Resolve("a2", amd64); err != nil {
		t.Errorf("refused, but gone: %v", err)
	}
	removed, err = s.Remove(t.Context(), "a2", RemoveOptions{})
	if err != nil || len(removed.Deleted) != 3 || removed.Freed == 0 { // manifest, config, own layer
		t.Errorf("last name: %+v, %v", removed, err)
	}
	expectBlobs(t, s, append(b.Blobs(), b.Manifest)...)
	_, err = s.Remove(t.Context(), "a2", RemoveOptions{})
	expectError(t, err, ErrNotFound, `remove: image "a2": not found`)
}

func TestRemoveByID(t *testing.T) {
	s := newStore(t)
	a := simple("a")
	add(t, s, "a", a)
	add(t, s, "b", a)
	id := a.Config.Digest.Encoded()[:12]
	_, err := s.Remove(t.Context(), id, RemoveOptions{})
	expectError(t, err, ErrAmbiguous, `remove: image "`+id+`" has several names (docker.io/library/a:latest, docker.io/library/b:latest): ambiguous`)
	removed, err := s.Remove(t.Context(), id, RemoveOptions{Force: true})
	if err != nil || len(removed.Untagged) != 2 {
		t.Errorf("forced: %+v, %v", removed, err)
	}
	expectBlobs(t, s)
}

func TestGCKeepsLeasedContentAndWhatOtherToolsAdded(t *testing.T) {
	s := newStore(t)
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	blob := testimage.NewBlob("", []byte("leased"))
	put(t, lease, blob)
	gc(t, s)
	expectBlobs(t, s, blob)
	// An artifact that is no image, as a signing tool would add it.
	config, layer := testimage.NewBlob("application/vnd.oci.empty.v1+json", []byte("{}")), testimage.NewBlob("text/plain", []byte("signature"))
	manifest, err := json.Marshal(v1.Manifest{MediaType: v1.MediaTypeImageManifest, Config: config.Descriptor, Layers: []v1.Descriptor{layer.Descriptor}})
	if err != nil {
		t.Fatal(err)
	}
	artifact := testimage.NewBlob(v1.MediaTypeImageManifest, manifest)
	put(t, lease, config, layer, artifact)
	index := v1.Index{Manifests: []v1.Descriptor{artifact.Descriptor}}
	if err := s.writeIndex(&index); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(lease.Close(), lease.Close()); err != nil {
		t.Fatal(err)
	}
	gc(t, s)
	expectBlobs(t, s, config, layer, artifact)
}

func gc(t *testing.T, s *Store) *Removed {
	t.Helper()
	removed, err := s.GC(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return removed
}

// Images come and go in several goroutines while garbage is collected: every
// image that has a name must be whole.
func TestConcurrentUse(t *testing.T) {
	s := newStore(t)
	stop := make(chan struct{})
	var collector, workers sync.WaitGroup
	collector.Go(func() {
		for {
			if _, err := s.GC(context.Background()); err != nil {
				t.Error(err)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for worker := range 4 {
		workers.Go(func() {
			name := "img" + string(rune('a'+worker))
			for round := range 6 {
				if err := comeAndGo(s, name, simple(name+string(rune('0'+round))), round%2 == 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	close(stop)
	collector.Wait()
}

// comeAndGo stores an image, reads all of it, and may remove it.
func comeAndGo(s *Store, name string, img *testimage.Image, remove bool) error {
	ctx := context.Background()
	lease, err := s.Lease(ctx)
	if err != nil {
		return err
	}
	defer lease.Close()
	for _, b := range append(img.Blobs(), img.Manifest) {
		if err := lease.Put(ctx, b.Descriptor, b.Data); err != nil {
			return err
		}
	}
	if err := s.Tag(ctx, name, img.Manifest.Descriptor); err != nil {
		return err
	}
	lease.Close()
	got, err := s.Resolve(name, amd64)
	if err != nil {
		return err
	}
	for _, l := range got.Layers {
		r, err := l.Open(s, Limits{})
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	if remove {
		_, err = s.Remove(ctx, name, RemoveOptions{})
	}
	return err
}

func expectError(t *testing.T, err, want error, text string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
		return
	}
	if text != "" && err.Error() != text {
		t.Errorf("error text\n got %q\nwant %q", err, text)
	}
}

func expectList(t *testing.T, s *Store, want ...string) {
	t.Helper()
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range list {
		if l.Err != nil || len(l.Images) == 0 {
			t.Errorf("%s: %v", l.Name, l.Err)
		}
		got = append(got, l.Name+" "+l.Target.Digest.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed\n got %q\nwant %q", got, want)
	}
}

// expectBlobs checks that the store holds exactly these blobs, and nothing under
// ingest/ and leases/.
func expectBlobs(t *testing.T, s *Store, want ...testimage.Blob) {
	t.Helper()
	var names []string
	for _, b := range want {
		names = append(names, b.Digest.Encoded())
	}
	slices.Sort(names)
	if got := entries(t, s, "blobs/sha256"); !slices.Equal(got, slices.Compact(names)) {
		t.Errorf("blobs\n got %q\nwant %q", got, names)
	}
	if got := entries(t, s, "ingest"); len(got) > 0 {
		t.Errorf("left under ingest/: %q", got)
	}
}

func entries(t *testing.T, s *Store, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(s.dir, dir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestUmociReadsTheStore(t *testing.T) {
	umoci := lookPath(t, "umoci")
	s := newStore(t)
	add(t, s, "debian:12", testimage.Build(testimage.Options{Layers: [][]byte{
		testimage.Tar(testimage.File{Name: "etc/", Header: tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}}, testimage.File{Name: "etc/motd", Body: "hi"}),
	}}))
	bundle := filepath.Join(t.TempDir(), "bundle")
	run(t, umoci, "unpack", "--rootless", "--image", s.dir+":docker.io/library/debian:12", bundle)
	if data, err := os.ReadFile(filepath.Join(bundle, "rootfs/etc/motd")); err != nil || string(data) != "hi" {
		t.Errorf("unpacked %q, %v", data, err)
	}
}
