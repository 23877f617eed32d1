package registry

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/internal/testkit/fakeregistry"
	"github.com/containr/containr/internal/testkit/realregistry"
	"github.com/containr/containr/internal/testkit/testimage"
	"github.com/containr/containr/pkg/image"
)

// estargz compresses a tar stream as an eStargz blob: each entry is a gzip member of its own,
// the last one a table of contents, and behind it is a footer, an empty member whose
// extra field tells where the table begins. It returns the tar stream in the blob as well.
func estargz(t *testing.T, files ...testimage.File) (blob, plain []byte) {
	t.Helper()
	var out bytes.Buffer
	member := func(data []byte, extra []byte) {
		w := gzip.NewWriter(&out)
		w.Extra = extra
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		plain = append(plain, data...)
	}
	const end = 1024 // two blocks of zeros end a tar stream
	for _, f := range files {
		entry := testimage.Tar(f)
		member(entry[:len(entry)-end], nil)
	}
	table := out.Len()
	member(testimage.Tar(testimage.File{Name: "stargz.index.json", Body: `{"version":1,"entries":[]}`}), nil)
	field := fmt.Sprintf("%016xSTARGZ", table)
	member(nil, append([]byte{'S', 'G', byte(len(field)), 0}, field...))
	return out.Bytes(), plain
}

// An eStargz layer is an ordinary one to who does not look for its table of contents.
func TestEstargzIsAnOrdinaryLayer(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	blob, plain := estargz(t, testimage.File{Name: "a", Body: noise(100_000)}, testimage.File{Name: "b", Body: "b"})
	layer := testimage.NewBlob(v1.MediaTypeImageLayerGzip, blob)
	layer.Annotations = map[string]string{"containerd.io/snapshot/stargz/toc.digest": digest.FromString("toc").String()}
	config := encoded(t, v1.MediaTypeImageConfig, v1.Image{
		Platform: v1.Platform{OS: "linux", Architecture: "amd64"}, RootFS: v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain)}},
	})
	m := v1.Manifest{MediaType: v1.MediaTypeImageManifest, Config: config.Descriptor, Layers: []v1.Descriptor{layer.Descriptor}}
	m.SchemaVersion = 2
	s.image = &testimage.Image{Manifest: encoded(t, v1.MediaTypeImageManifest, m), Config: config, Layers: []testimage.Blob{layer}}
	s.Push("library/app", "1", s.image)
	r := s.request(t)
	r.Layer = readLayer
	s.mustPull(t, r)
}

func encoded(t *testing.T, mediaType string, document any) testimage.Blob {
	t.Helper()
	data, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return testimage.NewBlob(mediaType, data)
}

// The layers that podman compresses as zstd:chunked, with a table in frames that
// decompressors skip, are ordinary ones too.
func TestZstdChunkedIsAnOrdinaryLayer(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skipf("skipped: %v", err)
	}
	real := realregistry.Start(t)
	plain := testimage.Build(testimage.Options{Layers: [][]byte{testimage.Tar(testimage.File{Name: "noise", Body: noise(1 << 20)}, testimage.File{Name: "b", Body: "b"})}})
	real.Push(t, "team/app", "plain", plain)
	dir := filepath.Join(t.TempDir(), "dir")
	cmd := exec.Command("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--format", "oci",
		"--dest-compress", "--dest-compress-format", "zstd:chunked", "docker://"+real.Host()+"/team/app:plain", "dir:"+dir)
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("skopeo: %v\n%s", err, said)
	}
	data, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m v1.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), "zstd-chunked") || m.Layers[0].MediaType != v1.MediaTypeImageLayerZstd {
		t.Fatalf("skopeo did not make zstd:chunked: %s", data)
	}
	s := newScene(t, fakeregistry.Options{})
	s.PushManifest("library/app", "1", testimage.NewBlob(m.MediaType, data))
	for _, d := range append(m.Layers, m.Config) {
		blob, err := os.ReadFile(filepath.Join(dir, d.Digest.Encoded()))
		if err != nil {
			t.Fatal(err)
		}
		s.PushBlobs(testimage.NewBlob(d.MediaType, blob))
	}
	r := s.request(t)
	r.Layer = readLayer
	if _, err := Pull(t.Context(), r); err != nil {
		t.Error(err)
	}
}

// What is no image that can run is refused in words.
func TestArtefactIsRefused(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	config := testimage.NewBlob("application/vnd.oci.empty.v1+json", []byte("{}"))
	file := testimage.NewBlob("text/plain", []byte("a file"))
	m := v1.Manifest{MediaType: v1.MediaTypeImageManifest, ArtifactType: "application/vnd.example", Config: config.Descriptor, Layers: []v1.Descriptor{file.Descriptor}}
	m.SchemaVersion = 2
	s.PushBlobs(config, file)
	s.PushManifest("library/app", "1", encoded(t, v1.MediaTypeImageManifest, m))
	_, err := Pull(t.Context(), s.request(t))
	if err == nil || !strings.Contains(err.Error(), "not a container image but another kind of artifact") {
		t.Errorf("got %v", err)
	}
	s.expectEmpty(t)
}

// All of an index, attestations included, comes with AllPlatforms, and goes to another
// registry again as it was.
func TestAttestationsTravelWithTheirIndex(t *testing.T) {
	d := newDelivery(t, fakeregistry.Options{})
	config := testimage.NewBlob(v1.MediaTypeImageConfig, []byte(`{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":["`+digest.FromString("x").String()+`"]}}`))
	statement := testimage.NewBlob("application/vnd.in-toto+json", []byte(`{"_type":"https://in-toto.io/Statement/v0.1"}`))
	m := v1.Manifest{MediaType: v1.MediaTypeImageManifest, Config: config.Descriptor, Layers: []v1.Descriptor{statement.Descriptor}}
	m.SchemaVersion = 2
	attestation := encoded(t, v1.MediaTypeImageManifest, m)
	attestation.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
	attestation.Annotations = map[string]string{"vnd.docker.reference.digest": d.image.Manifest.Digest.String()}
	index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{d.image.Manifest.Descriptor, attestation.Descriptor}}
	index.SchemaVersion = 2
	top := encoded(t, v1.MediaTypeImageIndex, index)
	d.PushBlobs(config, statement)
	d.PushManifest("library/app", "x", attestation)
	d.PushManifest("library/app", "1", top)
	r := d.request(t)
	r.AllPlatforms, r.Layer = true, readLayer
	d.mustPull(t, r)
	pushed := d.mustPush(t, d.push(t))
	if pushed.Target.Digest != top.Digest {
		t.Errorf("pushed %s, want %s", pushed.Target.Digest, top.Digest)
	}
	if got, ok := d.to.Manifest("team/app", attestation.Digest.String()); !ok || !bytes.Equal(got.Data, attestation.Data) {
		t.Error("the attestation did not arrive")
	}
	p := d.push(t)
	p.Ref.Tag = "packed"
	p.Compression = Compression{Format: "zstd"}
	d.mustPush(t, p)
	got, _ := d.to.Manifest("team/app", "packed")
	changed, err := image.DecodeIndex(got.Data, got.MediaType)
	if err != nil {
		t.Fatal(err)
	}
	if changed.Manifests[1].Annotations["vnd.docker.reference.digest"] != changed.Manifests[0].Digest.String() {
		t.Errorf("the attestation is about %v", changed.Manifests[1].Annotations)
	}
}

// Whatever a registry sends for a manifest or an index, pulling it ends, with an error or
// an image, and leaves the store as it was if with an error.
func FuzzPull(f *testing.F) {
	img := testimage.Build(testimage.Options{})
	f.Add(img.Manifest.Data, img.Config.Data)
	f.Add(testimage.Index(img).Data, []byte("{}"))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:0","size":-1}]}`), []byte("null"))
	r := fakeregistry.New(f, fakeregistry.Options{})
	r.PushBlobs(img.Layers...)
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		manifest = bytes.ReplaceAll(manifest, []byte(img.Config.Digest), []byte(digest.FromBytes(config)))
		r.PushManifest("x", "1", testimage.NewBlob("", manifest))
		r.PushBlobs(testimage.NewBlob("", config))
		dir := t.TempDir()
		store, err := image.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		store.Volatile = true
		_, err = Pull(t.Context(), PullRequest{
			Ref: image.Reference{Domain: r.Host(), Path: "x", Tag: "1"}, Store: store, Platform: amd64, AllPlatforms: len(config)%2 == 0,
			Access: Access{Retry: Retry{Attempts: 1}}, Layer: readLayer,
		})
		if err == nil {
			return
		}
		if listed, listErr := store.List(); listErr != nil || len(listed) > 0 {
			t.Errorf("%v, but named %v, %v", err, listed, listErr)
		}
		if blobs, _ := filepath.Glob(filepath.Join(dir, "blobs/sha256/*")); len(blobs) > 0 {
			t.Errorf("%v, but kept %v", err, blobs)
		}
	})
}
