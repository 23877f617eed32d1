package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit/fakeregistry"
	"github.com/containr/containr/internal/testkit/testimage"
	"github.com/containr/containr/pkg/image"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

var amd64 = image.Platform{OS: "linux", Architecture: "amd64"}

// quick makes failing pulls fail at once.
var quick = Retry{Attempts: 3, Pause: time.Millisecond}

// scene is a registry with one image, and an empty store to pull it to.
type scene struct {
	*fakeregistry.Registry
	dir   string
	store *image.Store
	image *testimage.Image
}

func newScene(t *testing.T, o fakeregistry.Options) *scene {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	dir := t.TempDir()
	store, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	store.Volatile = true
	s := &scene{Registry: fakeregistry.New(t, o), dir: dir, store: store}
	s.image = testimage.Build(testimage.Options{Layers: [][]byte{
		testimage.Tar(testimage.File{Name: "base", Body: "base"}),
		testimage.Tar(testimage.File{Name: "noise", Body: noise(300 << 10)}),
		testimage.Tar(testimage.File{Name: "top", Body: "top"}),
	}})
	s.Push("library/app", "1", s.image)
	return s
}

// noise returns bytes that do not compress, the same ones every time.
func noise(n int) string {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(data)
	return string(data)
}

func (s *scene) request(t *testing.T) PullRequest {
	t.Helper()
	ref, err := image.ParseReference(s.Host() + "/library/app:1")
	if err != nil {
		t.Fatal(err)
	}
	return PullRequest{Ref: ref, Store: s.store, Platform: amd64, Access: Access{Retry: quick}}
}

// expectEmpty checks that a failed pull left nothing in the store.
func (s *scene) expectEmpty(t *testing.T) {
	t.Helper()
	for _, sub := range []string{"blobs/sha256", "ingest", "leases"} {
		entries, err := os.ReadDir(filepath.Join(s.dir, sub))
		if err != nil || len(entries) > 0 {
			t.Errorf("left in %s: %v, %v", sub, entries, err)
		}
	}
	s.expectNoName(t)
}

func (s *scene) expectNoName(t *testing.T) {
	t.Helper()
	if list, err := s.store.List(); err != nil || len(list) > 0 {
		t.Errorf("named %v, %v", list, err)
	}
}

// expectWhole checks that the image is in the store with all its layers.
func (s *scene) expectWhole(t *testing.T, img *image.Image) {
	t.Helper()
	if img.ConfigDigest != s.image.Config.Digest || len(img.Layers) != len(s.image.Layers) {
		t.Fatalf("got image %s with %d layers", img.ConfigDigest, len(img.Layers))
	}
	for i, l := range img.Layers {
		data, err := s.store.ReadBlob(l.Descriptor, 1<<30)
		if err != nil || !bytes.Equal(data, s.image.Layers[i].Data) {
			t.Errorf("layer %d: %d bytes, %v", i, len(data), err)
		}
	}
}

func (s *scene) mustPull(t *testing.T, r PullRequest) *image.Image {
	t.Helper()
	img, err := Pull(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	s.expectWhole(t, img)
	return img
}

func TestPullStoresAndNamesImage(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	img := s.mustPull(t, s.request(t))
	if want := s.Host() + "/library/app:1"; img.Name != want {
		t.Errorf("name %q, want %q", img.Name, want)
	}
	before := len(s.Requests("/blobs/"))
	s.mustPull(t, s.request(t))
	if after := len(s.Requests("/blobs/")); after != before || before != 4 {
		t.Errorf("%d requests for blobs, then %d more; want 4 and none", before, after-before)
	}
}

func TestPullChoosesPlatformOfIndex(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	arm := testimage.Build(testimage.Options{Platform: v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}})
	index := s.PushIndex("library/app", "1", arm, s.image)
	img := s.mustPull(t, s.request(t))
	if img.Target.Digest != index.Digest || img.ManifestDigest != s.image.Manifest.Digest {
		t.Errorf("target %s, manifest %s", img.Target.Digest, img.ManifestDigest)
	}
	r := s.request(t)
	r.Platform = image.Platform{OS: "linux", Architecture: "arm64"}
	if img, err := Pull(t.Context(), r); err != nil || img.ConfigDigest != arm.Config.Digest {
		t.Errorf("arm64: %v, %v", img, err)
	}
	r.Platform = image.Platform{OS: "linux", Architecture: "riscv64"}
	_, err := Pull(t.Context(), r)
	want := fmt.Sprintf("pull %s/library/app:1: image %[1]s/library/app:1 is not for linux/riscv64; it is for linux/arm64, linux/amd64", s.Host())
	if !errors.Is(err, image.ErrPlatform) || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestPullByDigest(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	r := s.request(t)
	r.Ref.Tag, r.Ref.Digest = "", s.image.Manifest.Digest
	img := s.mustPull(t, r)
	if want := s.Host() + "/library/app@" + s.image.Manifest.Digest.String(); img.Name != want {
		t.Errorf("name %q, want %q", img.Name, want)
	}
}

// Every layer goes through the function once, uncompressed, also when it is in
// the store already.
func TestLayersAreUnpackedOnTheWay(t *testing.T) {
	for _, compress := range []string{"gzip", "zstd", "none"} {
		t.Run(compress, func(t *testing.T) {
			s := newScene(t, fakeregistry.Options{})
			layers := [][]byte{testimage.Tar(testimage.File{Name: "a", Body: noise(200 << 10)}), testimage.Tar(testimage.File{Name: "b", Body: "b"})}
			layers = append(layers, layers[1]) // twice the same
			s.image = testimage.Build(testimage.Options{Layers: layers, Compress: compress})
			s.Push("library/app", "1", s.image)
			for range 2 {
				var mu sync.Mutex
				var seen []digest.Digest
				r := s.request(t)
				r.Layer = func(_ context.Context, l image.Layer, stream io.Reader) error {
					got, err := digest.FromReader(stream)
					if got != l.DiffID {
						return fmt.Errorf("stream has digest %s, %w", got, err)
					}
					mu.Lock()
					defer mu.Unlock()
					seen = append(seen, got)
					return err
				}
				s.mustPull(t, r)
				want := slices.Sorted(slices.Values(s.image.DiffIDs))
				if slices.Sort(seen); !slices.Equal(seen, want) {
					t.Errorf("saw %q, want %q", seen, want)
				}
			}
		})
	}
}

// The unpacking must not wait for the end of the download: the registry sends
// the second half only after the first was unpacked.
func TestUnpackingOverlapsDownload(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	s.image = testimage.Build(testimage.Options{Compress: "none", Layers: [][]byte{testimage.Tar(testimage.File{Name: "noise", Body: noise(300 << 10)})}})
	s.Push("library/app", "1", s.image)
	s.Fail(fakeregistry.Fault{Path: s.image.Layers[0].Digest.String(), Times: 1, Stall: true})
	unpacked := make(chan struct{})
	r := s.request(t)
	r.Retry.Stall = 2 * time.Second // the registry goes on after that
	r.Layer = func(_ context.Context, l image.Layer, stream io.Reader) error {
		if _, err := io.CopyN(io.Discard, stream, l.Descriptor.Size/2); err != nil {
			return err
		}
		if n := len(s.Requests(l.Descriptor.Digest.String())); n != 1 {
			return fmt.Errorf("half of the layer came only after %d requests", n)
		}
		close(unpacked)
		_, err := io.Copy(io.Discard, stream)
		return err
	}
	s.mustPull(t, r)
	<-unpacked
}

func TestLayerFunctionMaySkipAndMayFail(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	r := s.request(t)
	failure := errors.New("disk full")
	r.Layer = func(context.Context, image.Layer, io.Reader) error { return failure }
	_, err := Pull(t.Context(), r)
	if !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	s.expectEmpty(t)
	r.Layer = func(context.Context, image.Layer, io.Reader) error { return nil }
	s.mustPull(t, r)
}

func TestWrongDiffIDIsRefused(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	config := bytes.ReplaceAll(s.image.Config.Data, []byte(s.image.DiffIDs[2].Encoded()), []byte(strings.Repeat("0", 64)))
	wrong := testimage.NewBlob(s.image.Config.MediaType, config)
	manifest := bytes.ReplaceAll(s.image.Manifest.Data, []byte(s.image.Config.Digest), []byte(wrong.Digest))
	s.PushBlobs(wrong)
	s.PushManifest("library/app", "1", testimage.NewBlob(s.image.Manifest.MediaType, manifest))
	r := s.request(t)
	r.Layer = func(_ context.Context, _ image.Layer, stream io.Reader) error {
		_, err := io.Copy(io.Discard, stream)
		return err
	}
	if _, err := Pull(t.Context(), r); !errors.Is(err, image.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	s.expectEmpty(t)
}

func TestBrokenDownloadsAreResumed(t *testing.T) {
	for name, o := range map[string]fakeregistry.Options{"ranges": {}, "no ranges": {NoRanges: true}} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, o)
			path := s.image.Layers[1].Digest.String()
			s.Fail(fakeregistry.Fault{Path: path, Times: 1, BreakAfter: 100 << 10})
			s.Fail(fakeregistry.Fault{Path: path, Times: 1, Truncate: 150 << 10})
			s.mustPull(t, s.request(t))
			requests := s.Requests(path)
			if len(requests) != 3 || requests[0].Range != "" || requests[1].Range != "bytes=102400-" {
				t.Errorf("requests %+v", requests)
			}
		})
	}
}

func TestStalledDownloadIsResumed(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	s.Fail(fakeregistry.Fault{Path: s.image.Layers[1].Digest.String(), Times: 1, Stall: true})
	r := s.request(t)
	r.Retry.Stall = 50 * time.Millisecond
	s.mustPull(t, r)
}

func TestBusyRegistryIsAskedAgain(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	s.Fail(fakeregistry.Fault{Path: "/manifests/", Times: 1, Status: 429, Header: map[string]string{"Retry-After": "1"}})
	s.Fail(fakeregistry.Fault{Path: "/blobs/", Times: 2, Status: 503})
	start := time.Now()
	s.mustPull(t, s.request(t))
	if waited := time.Since(start); waited < time.Second {
		t.Errorf("Retry-After: 1 was obeyed for %v", waited)
	}
}

// Each lie has its own error, which names registry and object, and leaves nothing
// behind.
func TestLyingRegistry(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	layer := s.image.Layers[1]
	blob := "blob " + layer.Digest.String()
	path := layer.Digest.String()
	other := bytes.Clone(layer.Data)
	other[1000] ^= 1
	otherManifest := bytes.ReplaceAll(s.image.Manifest.Data, []byte("schemaVersion"), []byte("schemaVersi0n"))
	cases := []struct {
		name  string
		fault fakeregistry.Fault
		want  Fault
		text  string // after "pull NAME: registry HOST: "
	}{
		{"wrong digest", fakeregistry.Fault{Path: path, Body: other}, ErrDigest,
			fmt.Sprintf("%s: content has the wrong digest: want %s, got %s", blob, layer.Digest, digest.FromBytes(other))},
		{"wrong length", fakeregistry.Fault{Path: path, Body: layer.Data[:5000]}, ErrLength,
			fmt.Sprintf("%s: wrong length announced: want %d bytes, Content-Length is 5000", blob, layer.Size)},
		{"endless body", fakeregistry.Fault{Path: path, Endless: true}, ErrTooLong,
			fmt.Sprintf("%s: content is too long: want %d bytes, got more", blob, layer.Size)},
		{"truncated", fakeregistry.Fault{Path: path, Body: layer.Data[:5000], Chunked: true}, ErrTruncated,
			fmt.Sprintf("%s: content is truncated: want %d bytes, got 5000", blob, layer.Size)},
		{"endless manifest", fakeregistry.Fault{Path: "/manifests/", Endless: true}, ErrTooLong,
			"manifest library/app:1: content is too long: want at most 4194304 bytes, got more"},
		{"wrong manifest", fakeregistry.Fault{Path: "/manifests/", Body: otherManifest}, ErrDigest,
			fmt.Sprintf("manifest library/app:1: content has the wrong digest: want %s, got %s", s.image.Manifest.Digest, digest.FromBytes(otherManifest))},
		{"wrong config", fakeregistry.Fault{Path: s.image.Config.Digest.String(), Body: bytes.ToUpper(s.image.Config.Data)}, ErrDigest, ""},
		{"bad digest header", fakeregistry.Fault{Path: "/manifests/", Header: map[string]string{"Docker-Content-Digest": "../../etc"}}, ErrDigest, ""},
		{"always broken", fakeregistry.Fault{Path: path, BreakAfter: 1}, ErrUnreachable, ""},
		{"always failing", fakeregistry.Fault{Path: path, Status: 500}, ErrFailed,
			blob + ": registry failed: 500 Internal Server Error: UNKNOWN Internal Server Error"},
		{"always busy", fakeregistry.Fault{Path: path, Status: 429}, ErrBusy,
			blob + ": registry is busy: 429 Too Many Requests: UNKNOWN Too Many Requests"},
		{"much too busy", fakeregistry.Fault{Path: path, Status: 429, Header: map[string]string{"Retry-After": "86400"}}, ErrBusy, ""},
		{"missing layer", fakeregistry.Fault{Path: path, Status: 404}, ErrNotFound, blob + ": not found: 404 Not Found: UNKNOWN Not Found"},
		{"circle", fakeregistry.Fault{Path: path, Redirect: "%s"}, ErrRedirect, blob + ": bad redirect: more than 10 in a row"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, fakeregistry.Options{})
			s.Fail(c.fault)
			img, err := Pull(t.Context(), s.request(t))
			if c.want == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, %v; want %v", img, err, c.want)
			}
			prefix := fmt.Sprintf("pull %s/library/app:1: registry %[1]s: ", s.Host())
			if c.text != "" && err.Error() != prefix+c.text {
				t.Errorf("error text\n got %s\nwant %s", err, prefix+c.text)
			}
			if c.want.isTransient() {
				s.expectNoName(t)
			} else {
				s.expectEmpty(t)
			}
		})
	}
}

func TestBadDocumentsAreRefused(t *testing.T) {
	both := `{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}`
	cases := map[string]struct {
		manifest testimage.Blob
		want     error
	}{
		"manifests and layers": {testimage.NewBlob(v1.MediaTypeImageManifest, []byte(both)), image.ErrInvalid},
		"conflicting type":     {testimage.NewBlob(v1.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)), image.ErrInvalid},
		"schema 1":             {testimage.NewBlob("application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1}`)), image.ErrInvalid},
		"not JSON":             {testimage.NewBlob(v1.MediaTypeImageManifest, []byte("<html>")), image.ErrInvalid},
		"deep":                 {testimage.NewBlob(v1.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"annotations":`+strings.Repeat("[", 100000))), image.ErrLimit},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, fakeregistry.Options{})
			s.PushManifest("library/app", "1", c.manifest)
			if _, err := Pull(t.Context(), s.request(t)); !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
			s.expectEmpty(t)
		})
	}
}

func TestUnknownImage(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	r := s.request(t)
	r.Ref.Path = "library/nope"
	_, err := Pull(t.Context(), r)
	want := fmt.Sprintf("pull %s/library/nope:1: registry %[1]s: manifest library/nope:1: not found: 404 Not Found: MANIFEST_UNKNOWN manifest unknown", s.Host())
	if !errors.Is(err, ErrNotFound) || !errors.Is(err, image.ErrNotFound) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	s.expectEmpty(t)
}

func TestUnreachableRegistry(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	s := newScene(t, fakeregistry.Options{})
	r := s.request(t)
	r.Ref.Domain = host
	_, err = Pull(t.Context(), r)
	want := fmt.Sprintf("pull %s/library/app:1: registry %[1]s: manifest library/app:1: registry cannot be reached: dial tcp %[1]s: connect: connection refused", host)
	if !errors.Is(err, ErrUnreachable) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestPlainHTTPOnlyOnLoopbackOrWhenAsked(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1:80": true, "127.8.8.8": true, "[::1]:5000": true, "[::1]": true,
		"example.com": false, "localhost.example.com": false, "10.0.0.1:5000": false, "127.0.0.1.example.com:80": false,
	} {
		if isLoopback(host) != want {
			t.Errorf("isLoopback(%q) = %v", host, !want)
		}
	}
	// A name that is not loopback, but leads to a server without TLS.
	s := newScene(t, fakeregistry.Options{})
	clients, err := (&Access{}).pullClients(image.Reference{Domain: "registry.example", Path: "a", Tag: "latest"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	c := clients[0]
	c.transport.own.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, s.Host())
	}
	c.retry = quick
	_, err = c.fetchManifest(t.Context(), "latest", v1.Descriptor{})
	want := "registry registry.example: manifest a:latest: registry speaks plain HTTP: it must be allowed explicitly"
	if !errors.Is(err, ErrPlainHTTP) || err.Error() != want {
		t.Errorf("got %v", err)
	}
	c.plain.Store(true)
	if _, err := c.fetchManifest(t.Context(), "latest", v1.Descriptor{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("allowed: got %v", err)
	}
}

func TestTLS(t *testing.T) {
	s := newScene(t, fakeregistry.Options{TLS: true})
	r := s.request(t)
	if _, err := Pull(t.Context(), r); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown authority: %v", err)
	}
	r.TLS = &tls.Config{RootCAs: s.Certificates()}
	s.mustPull(t, r)
}

func TestCancelledPull(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	s.Fail(fakeregistry.Fault{Path: s.image.Layers[1].Digest.String(), Stall: true})
	ctx, cancel := context.WithCancel(t.Context())
	r := s.request(t)
	r.Layer = func(_ context.Context, l image.Layer, stream io.Reader) error {
		if l.Descriptor.Digest == s.image.Layers[1].Digest {
			cancel()
		}
		_, err := io.Copy(io.Discard, stream)
		return err
	}
	if _, err := Pull(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.expectNoName(t)
}

func TestProgress(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	phases := map[digest.Digest]string{}
	r := s.request(t)
	r.Progress = func(p Progress) {
		if !strings.HasSuffix(phases[p.Layer], p.Phase.String()+" ") {
			phases[p.Layer] += p.Phase.String() + " "
		}
		if p.Total == 0 || p.Done > p.Total {
			t.Errorf("event %+v", p)
		}
	}
	expect := func(want string) {
		t.Helper()
		for d, got := range phases {
			if got != want {
				t.Errorf("%s: %s", d, got)
			}
		}
		if len(phases) != 3 {
			t.Errorf("%d layers reported", len(phases))
		}
		clear(phases)
	}
	s.mustPull(t, r)
	expect("waiting downloading downloaded done ")
	s.mustPull(t, r)
	expect("waiting exists done ")
}

func TestConcurrentPullsFetchOnce(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := Pull(context.Background(), s.request(t)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, l := range s.image.Layers {
		if n := len(s.Requests(l.Digest.String())); n != 1 {
			t.Errorf("layer fetched %d times", n)
		}
	}
}

// readLayer reads a layer to its end, as unpacking does.
func readLayer(_ context.Context, l image.Layer, stream io.Reader) error {
	got, err := digest.FromReader(stream)
	if err == nil && got != l.DiffID {
		return fmt.Errorf("got %s, want %s", got, l.DiffID)
	}
	return err
}

// A registry that lets through so much in a time counts what is fetched: what is here, and what its name means still, is not fetched
// again. A name that means something else is, and so is all of a registry that does not know the question.
func TestPullOfWhatIsHereFetchesNothing(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	fetched := func() (n int) {
		for _, q := range s.Requests("/") {
			if q.Method == http.MethodGet && q.Path != "/v2/" {
				n++
			}
		}
		return n
	}
	s.mustPull(t, s.request(t))
	before := fetched()
	s.expectWhole(t, s.mustPull(t, s.request(t)))
	if got := fetched(); got != before {
		t.Errorf("fetched %d documents again", got-before)
	}
	s.Fail(fakeregistry.Fault{Path: "/manifests/", Method: http.MethodHead, Status: http.StatusMethodNotAllowed})
	s.expectWhole(t, s.mustPull(t, s.request(t)))
	if got := fetched(); got != before+1 {
		t.Errorf("fetched %d documents", got-before)
	}
	s.Heal()
	other := testimage.Build(testimage.Options{Layers: [][]byte{testimage.Tar(testimage.File{Name: "other"})}})
	s.Push("library/app", "1", other)
	if img, err := Pull(t.Context(), s.request(t)); err != nil || img.ConfigDigest != other.Config.Digest {
		t.Errorf("image %v, %v, want %s", img, err, other.Config.Digest)
	}
}
