package registry

import (
	"archive/tar"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/internal/testkit/testimage"
	"github.com/containr/containr/pkg/image"
)

// endless is a layer of any size that nobody keeps: a tar stream with a file of noise.
type endless int64

func (size endless) write(w io.Writer) error {
	out := tar.NewWriter(w)
	if err := out.WriteHeader(&tar.Header{Name: "noise", Mode: 0o644, Size: int64(size)}); err != nil {
		return err
	}
	if _, err := io.CopyN(out, rand.NewChaCha8([32]byte{2}), int64(size)); err != nil {
		return err
	}
	return out.Close()
}

// descriptor describes the layer.
func (size endless) descriptor(t *testing.T) v1.Descriptor {
	t.Helper()
	hash := digest.SHA256.Digester()
	counted := &counting{Writer: hash.Hash()}
	if err := size.write(counted); err != nil {
		t.Fatal(err)
	}
	return v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: hash.Digest(), Size: counted.n}
}

type counting struct {
	io.Writer
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n += int64(n)
	return n, err
}

// A pull and a push take as much memory for a large layer as for a small one.
func TestMemoryDoesNotGrowWithTheImage(t *testing.T) {
	const small, large = endless(8 << 20), endless(192 << 20)
	if testing.Short() {
		t.Skip("skipped: it writes 200 MB")
	}
	little, much := small.peak(t), large.peak(t)
	t.Logf("%d kB for %d MB, %d kB for %d MB", little>>10, small>>20, much>>10, large>>20)
	if much > little+8<<20 {
		t.Errorf("%d kB more memory for %d MB more", (much-little)>>10, (large-small)>>20)
	}
}

// peak returns the most memory of Go's heap that was in use while a layer was pulled, and
// pushed elsewhere, in bytes.
func (size endless) peak(t *testing.T) (most uint64) {
	d := size.descriptor(t)
	config := encoded(t, v1.MediaTypeImageConfig, v1.Image{
		Platform: v1.Platform{OS: "linux", Architecture: "amd64"}, RootFS: v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{d.Digest}},
	})
	m := v1.Manifest{MediaType: v1.MediaTypeImageManifest, Config: config.Descriptor, Layers: []v1.Descriptor{d}}
	m.SchemaVersion = 2
	manifest := encoded(t, v1.MediaTypeImageManifest, m)
	server := httptest.NewServer(size.registry(config, manifest))
	defer server.Close()
	store, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	store.Volatile = true
	look := func(Progress) {
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		most = max(most, now.HeapInuse)
	}
	runtime.GC()
	host := server.Listener.Addr().String()
	ref := image.Reference{Domain: host, Path: "x", Tag: "1"}
	if _, err := Pull(t.Context(), PullRequest{Ref: ref, Store: store, Platform: amd64, Layer: readLayer, Progress: look}); err != nil {
		t.Fatal(err)
	}
	ref.Path = "y"
	if _, err := Push(t.Context(), PushRequest{Store: store, Source: host + "/x:1", Ref: ref, Progress: look}); err != nil {
		t.Fatal(err)
	}
	return most
}

// registry serves the layer and takes it back, without keeping it.
func (size endless) registry(config, manifest testimage.Blob) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.Method == http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case req.Method != http.MethodGet:
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Location", "/v2/y/blobs/uploads/1")
			status := http.StatusAccepted
			if req.Method == http.MethodPut {
				status = http.StatusCreated
			}
			w.WriteHeader(status)
		case strings.Contains(req.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", manifest.MediaType)
			w.Write(manifest.Data)
		case strings.HasSuffix(req.URL.Path, config.Digest.String()):
			w.Write(config.Data)
		default:
			if err := size.write(w); err != nil {
				panic(http.ErrAbortHandler)
			}
		}
	})
}
