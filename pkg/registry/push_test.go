package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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

// delivery is an image in a store, and an empty registry to push it to.
type delivery struct {
	*scene
	to *fakeregistry.Registry
}

func newDelivery(t *testing.T, o fakeregistry.Options) *delivery {
	t.Helper()
	s := newScene(t, fakeregistry.Options{})
	s.image = testimage.Build(testimage.Options{Layers: [][]byte{
		testimage.Tar(testimage.File{Name: "base", Body: "base"}),
		testimage.Tar(testimage.File{Name: "noise", Body: noise(5 << 20)}),
	}})
	s.Push("library/app", "1", s.image)
	s.mustPull(t, s.request(t))
	return &delivery{s, fakeregistry.New(t, o)}
}

func (d *delivery) push(t *testing.T) PushRequest {
	t.Helper()
	ref, err := image.ParseReference(d.to.Host() + "/team/app:2")
	if err != nil {
		t.Fatal(err)
	}
	return PushRequest{Store: d.store, Source: d.Host() + "/library/app:1", Ref: ref, Access: Access{Retry: quick}}
}

func (d *delivery) mustPush(t *testing.T, r PushRequest) *Pushed {
	t.Helper()
	pushed, err := Push(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return pushed
}

// expectArrived checks that the registry has the image as it was in the store.
func (d *delivery) expectArrived(t *testing.T) {
	t.Helper()
	m, ok := d.to.Manifest("team/app", "2")
	if !ok || !bytes.Equal(m.Data, d.image.Manifest.Data) || m.MediaType != d.image.Manifest.MediaType {
		t.Errorf("manifest %v %s", ok, m.Digest)
	}
	store, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ref, err := image.ParseReference(d.to.Host() + "/team/app:2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(t.Context(), PullRequest{Ref: ref, Store: store, Platform: amd64, Access: Access{Retry: quick}}); err != nil {
		t.Error(err)
	}
}

func count(requests []fakeregistry.Request, method string) (n int) {
	for _, r := range requests {
		if r.Method == method {
			n++
		}
	}
	return n
}

func TestPushBringsImageAndSendsNothingTwice(t *testing.T) {
	d := newDelivery(t, fakeregistry.Options{})
	pushed := d.mustPush(t, d.push(t))
	if pushed.Target.Digest != d.image.Manifest.Digest || pushed.Omitted != nil {
		t.Errorf("pushed %+v", pushed)
	}
	d.expectArrived(t)
	before := count(d.to.Requests("/uploads/"), http.MethodPost)
	r := d.push(t)
	r.Ref.Tag = "3"
	phases := map[Phase]int{}
	r.Progress = func(p Progress) { phases[p.Phase]++ }
	d.mustPush(t, r)
	if again := count(d.to.Requests("/uploads/"), http.MethodPost); before != 3 || again != before {
		t.Errorf("%d uploads, then %d more", before, again-before)
	}
	if phases[Exists] != 3 || phases[Uploading] != 0 {
		t.Errorf("phases %v", phases)
	}
	if _, ok := d.to.Manifest("team/app", "3"); !ok {
		t.Error("the second tag is not there")
	}
}

func TestPushWithTokenAndBasic(t *testing.T) {
	for name, o := range map[string]fakeregistry.Options{
		"token": {Token: true, Username: "u", Password: "p"}, "basic": {Basic: true, Username: "u", Password: "p"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDelivery(t, o)
			r := d.push(t)
			r.Credential = &Credential{Username: "u", Password: "p"}
			d.mustPush(t, r)
			if _, ok := d.to.Manifest("team/app", "2"); !ok {
				t.Error("it did not arrive")
			}
			r.Credential = &Credential{Username: "u", Password: "wrong-secret"}
			r.Ref.Tag = "3"
			_, err := Push(t.Context(), r)
			if !errors.Is(err, ErrUnauthorized) || strings.Contains(err.Error(), "secret") {
				t.Errorf("wrong password: %v", err)
			}
		})
	}
}

// A registry that has a blob in another repository is asked to take it from there.
func TestPushMountsBlobs(t *testing.T) {
	d := newDelivery(t, fakeregistry.Options{Mounts: true})
	r := d.push(t)
	d.mustPush(t, r)
	if err := d.store.Tag(t.Context(), r.Ref.String(), d.image.Manifest.Descriptor); err != nil {
		t.Fatal(err)
	}
	// The fake keeps blobs for all repositories; a HEAD in another one must not find them.
	d.to.Fail(fakeregistry.Fault{Path: "/v2/other/app/blobs/sha256", Method: http.MethodHead, Status: http.StatusNotFound})
	before := count(d.to.Requests("/uploads/"), http.MethodPut)
	r.Ref.Path = "other/app"
	mounted := 0
	r.Progress = func(p Progress) {
		if p.Phase == Mounted {
			mounted++
		}
	}
	d.mustPush(t, r)
	if sent := count(d.to.Requests("/uploads/"), http.MethodPut) - before; mounted != 3 || sent != 0 {
		t.Errorf("%d blobs mounted, %d sent", mounted, sent)
	}
}

func TestPushInChunks(t *testing.T) {
	d := newDelivery(t, fakeregistry.Options{})
	r := d.push(t)
	r.ChunkSize = 1 << 20
	d.mustPush(t, r)
	d.expectArrived(t)
	if n := count(d.to.Requests("/uploads/"), http.MethodPatch); n < 6 { // five and a bit, and the small ones
		t.Errorf("%d pieces", n)
	}
}

// A registry, or a proxy before it, that finds a blob too large gets it in pieces.
func TestPushShrinksWhatIsTooLarge(t *testing.T) {
	d := newDelivery(t, fakeregistry.Options{MaxBody: 2 << 20})
	d.mustPush(t, d.push(t))
	d.expectArrived(t)
	d = newDelivery(t, fakeregistry.Options{MaxBody: 1000})
	_, err := Push(t.Context(), d.push(t))
	if !errors.Is(err, ErrUpload) || !strings.Contains(err.Error(), "413 Request Entity Too Large: SIZE_INVALID too large") {
		t.Errorf("got %v", err)
	}
}

// An upload goes on where its connection broke.
func TestPushResumes(t *testing.T) {
	d := newDelivery(t, fakeregistry.Options{})
	d.to.Fail(fakeregistry.Fault{Path: "/uploads/", Method: http.MethodPatch, Times: 2, BreakAfter: 2 << 20})
	d.mustPush(t, d.push(t))
	d.expectArrived(t)
	if n := count(d.to.Requests("/uploads/"), http.MethodGet); n != 2 {
		t.Errorf("asked %d times how much is there, want 2", n)
	}
	if n := count(d.to.Requests("/uploads/"), http.MethodPost); n != 3 {
		t.Errorf("%d uploads were begun for 3 blobs", n)
	}
}

func TestPushIsRefused(t *testing.T) {
	layer := "/uploads/"
	for name, c := range map[string]struct {
		fault fakeregistry.Fault
		want  error
		text  string
	}{
		"upload denied":  {fakeregistry.Fault{Path: layer, Status: 403}, ErrUnauthorized, "access denied: 403 Forbidden"},
		"upload invalid": {fakeregistry.Fault{Path: layer, Status: 400}, ErrUpload, "upload refused: 400 Bad Request"},
		"busy":           {fakeregistry.Fault{Path: layer, Status: 429, Header: map[string]string{"Ratelimit-Limit": "100;w=21600"}}, ErrBusy, "ratelimit-limit: 100;w=21600"},
		"broken":         {fakeregistry.Fault{Path: layer, Status: 500}, ErrFailed, "registry failed: 500"},
		"manifest refused": {fakeregistry.Fault{Path: "/manifests/", Method: http.MethodPut, Status: 400}, ErrUpload,
			"manifest team/app:2: upload refused: 400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDelivery(t, fakeregistry.Options{})
			d.to.Fail(c.fault)
			_, err := Push(t.Context(), d.push(t))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v", err)
			}
			if _, ok := d.to.Manifest("team/app", "2"); ok {
				t.Error("a failed push moved the name")
			}
		})
	}
}

// Of an index, all is pushed or one image, never an index that leads nowhere.
func TestPushOfIndex(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	arm := testimage.Build(testimage.Options{Platform: v1.Platform{OS: "linux", Architecture: "arm64"}})
	index := s.PushIndex("library/app", "1", arm, s.image)
	d := &delivery{s, fakeregistry.New(t, fakeregistry.Options{})}
	s.mustPull(t, s.request(t))

	pushed := d.mustPush(t, d.push(t))
	if pushed.Target.Digest != s.image.Manifest.Digest || len(pushed.Omitted) != 1 || pushed.Omitted[0].Architecture != "arm64" {
		t.Errorf("of a part of an index: %+v", pushed)
	}
	r := d.push(t)
	r.AllPlatforms = true
	_, err := Push(t.Context(), r)
	want := fmt.Sprintf("push %s/team/app:2: image %s/library/app:1 is not complete in the store: there is no linux/arm64", d.to.Host(), s.Host())
	if !errors.Is(err, ErrIncomplete) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}

	all := s.request(t)
	all.AllPlatforms = true
	s.mustPull(t, all)
	pushed = d.mustPush(t, d.push(t))
	if pushed.Target.Digest != index.Digest {
		t.Errorf("of a whole index: %+v", pushed)
	}
	for _, i := range []*testimage.Image{arm, s.image} {
		if _, ok := d.to.Manifest("team/app", i.Manifest.Digest.String()); !ok {
			t.Errorf("%s is not there", i.Manifest.Digest)
		}
	}
	r = d.push(t)
	r.Platform = image.Platform{OS: "linux", Architecture: "arm64"}
	if pushed = d.mustPush(t, r); pushed.Target.Digest != arm.Manifest.Digest {
		t.Errorf("of one platform: %+v", pushed)
	}
}

func TestPushCompressesAnew(t *testing.T) {
	for format, mediaType := range map[string]string{"zstd": v1.MediaTypeImageLayerZstd, "gzip": v1.MediaTypeImageLayerGzip, "none": v1.MediaTypeImageLayer} {
		t.Run(format, func(t *testing.T) {
			d := newDelivery(t, fakeregistry.Options{})
			r := d.push(t)
			var err error
			level := 1
			if format == "none" {
				level = 0
			}
			if r.Compression, err = ParseCompression(format, level); err != nil {
				t.Fatal(err)
			}
			pushed := d.mustPush(t, r)
			if pushed.Target.Digest == d.image.Manifest.Digest {
				t.Error("the manifest did not change")
			}
			m, _ := d.to.Manifest("team/app", "2")
			var manifest v1.Manifest
			if err := json.Unmarshal(m.Data, &manifest); err != nil {
				t.Fatal(err)
			}
			for _, l := range manifest.Layers {
				if l.MediaType != mediaType {
					t.Errorf("layer of type %s", l.MediaType)
				}
			}
			if manifest.Config.Digest != d.image.Config.Digest {
				t.Error("the image has another id")
			}
			d.expectUnpacks(t)
			second := d.mustPush(t, r)
			if second.Target.Digest != pushed.Target.Digest {
				t.Error("compressed twice it is not the same")
			}
		})
	}
}

// expectUnpacks pulls what was pushed; each layer must have its diff id.
func (d *delivery) expectUnpacks(t *testing.T) {
	t.Helper()
	store, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ref, err := image.ParseReference(d.to.Host() + "/team/app:2")
	if err != nil {
		t.Fatal(err)
	}
	r := PullRequest{Ref: ref, Store: store, Platform: amd64, Access: Access{Retry: quick}, Layer: readLayer}
	if _, err := Pull(t.Context(), r); err != nil {
		t.Error(err)
	}
}

func TestParseCompression(t *testing.T) {
	for _, c := range []struct {
		format string
		level  int
		want   string
	}{
		{"", 0, ""}, {"gzip", 9, ""}, {"zstd", 22, ""}, {"none", 0, ""},
		{"", 3, "a level needs a format: gzip or zstd"}, {"gzip", 10, "level 10: gzip has levels 1 to 9"},
		{"none", 1, "level 1: none has no levels"}, {"xz", 0, `"xz" is none of gzip, zstd, none`},
	} {
		_, err := ParseCompression(c.format, c.level)
		if got := fmt.Sprint(err); err != nil && got != c.want || err == nil && c.want != "" {
			t.Errorf("%q %d: %v", c.format, c.level, err)
		}
	}
}

// What we push real registries serve, to skopeo too; what skopeo pushes we pull. The
// digests are the same both ways.
func TestRoundTripWithRealRegistriesAndSkopeo(t *testing.T) { registries(t, roundTrip) }

func roundTrip(t *testing.T, real *realregistry.Registry) {
	for name, o := range map[string]testimage.Options{
		"oci": {}, "docker": {Docker: true}, "zstd": {Compress: "zstd"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, fakeregistry.Options{})
			o.Layers = [][]byte{testimage.Tar(testimage.File{Name: "noise", Body: noise(3 << 20)}), testimage.Tar(testimage.File{Name: "top", Body: name})}
			s.image = testimage.Build(o)
			s.Push("library/app", "1", s.image)
			s.mustPull(t, s.request(t))
			ref, err := image.ParseReference(real.Host() + "/team/" + name + ":1")
			if err != nil {
				t.Fatal(err)
			}
			pushed, err := Push(t.Context(), PushRequest{Store: s.store, Source: s.Host() + "/library/app:1", Ref: ref, ChunkSize: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			if pushed.Target.Digest != s.image.Manifest.Digest {
				t.Errorf("pushed %s, want %s", pushed.Target.Digest, s.image.Manifest.Digest)
			}
			s.expectPulled(t, ref)
			s.throughSkopeo(t, ref)
		})
	}
}

// expectPulled pulls to an empty store and compares.
func (s *scene) expectPulled(t *testing.T, ref image.Reference) {
	t.Helper()
	store, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	img, err := Pull(t.Context(), PullRequest{Ref: ref, Store: store, Platform: amd64, Layer: readLayer})
	if err != nil {
		t.Fatal(err)
	}
	if img.ManifestDigest != s.image.Manifest.Digest {
		t.Errorf("pulled %s, want %s", img.ManifestDigest, s.image.Manifest.Digest)
	}
}

// throughSkopeo copies what we pushed with skopeo, and pulls the copy.
func (s *scene) throughSkopeo(t *testing.T, ref image.Reference) {
	t.Helper()
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skipf("skipped the half with skopeo: %v", err)
	}
	copied := ref
	copied.Path += "-copy"
	layout := filepath.Join(t.TempDir(), "dir")
	for _, args := range [][]string{
		{"copy", "--preserve-digests", "--src-tls-verify=false", "docker://" + ref.String(), "dir:" + layout},
		{"copy", "--preserve-digests", "--dest-tls-verify=false", "dir:" + layout, "docker://" + copied.String()},
	} {
		cmd := exec.Command("skopeo", append([]string{"--insecure-policy"}, args...)...)
		cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("skopeo %s: %v\n%s", strings.Join(args, " "), err, said)
		}
	}
	data, err := os.ReadFile(filepath.Join(layout, "manifest.json"))
	if err != nil || digest.FromBytes(data) != s.image.Manifest.Digest {
		t.Errorf("skopeo got %s, %v", digest.FromBytes(data), err)
	}
	s.expectPulled(t, copied)
}

// TestIndexesInIndexesArePushedOnce, though the ways that lead to them double with each; and those that lie too deep are
// refused.
func TestIndexesInIndexesArePushedOnce(t *testing.T) {
	d := newDelivery(t, fakeregistry.Options{})
	below := d.image.Manifest.Descriptor
	below.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	own := below
	lease, err := d.store.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	r := d.push(t)
	for depth := 1; depth <= image.MaxNesting+1; depth++ {
		index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{own, below, below}}
		index.SchemaVersion = 2
		data, err := json.Marshal(index)
		if err != nil {
			t.Fatal(err)
		}
		b := testimage.NewBlob(v1.MediaTypeImageIndex, data)
		if err := lease.Put(t.Context(), b.Descriptor, b.Data); err != nil {
			t.Fatal(err)
		}
		below = b.Descriptor
		if depth < image.MaxNesting {
			continue
		}
		if err := d.store.Tag(t.Context(), r.Source, below); err != nil {
			t.Fatal(err)
		}
		if depth > image.MaxNesting {
			if _, err := Push(t.Context(), r); !errors.Is(err, image.ErrLimit) {
				t.Errorf("%d deep: %v", depth, err)
			}
			return
		}
		if pushed := d.mustPush(t, r); pushed.Target.Digest != below.Digest {
			t.Errorf("%d deep: %+v", depth, pushed)
		}
		anew := r
		anew.Compression = Compression{Format: "zstd"}
		d.mustPush(t, anew)
	}
}
