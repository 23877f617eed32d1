package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/internal/testkit/fakeregistry"
	"github.com/containr/containr/internal/testkit/testimage"
	"github.com/containr/containr/pkg/image"
)

// storms is how many pulls go through bad weather.
const storms = 1000

// Whatever a registry does, and wherever connections break, a pull ends with the right
// image or an error that says what was wrong; the store holds nothing but whole blobs then;
// and when the weather is fine again, the pull goes on and ends well. Each tenth has a mirror, with weather of its own, and a layer that
// takes more than one read.
func TestThousandPullsThroughStorms(t *testing.T) {
	s := newScene(t, fakeregistry.Options{Token: true})
	s.image = testimage.Build(testimage.Options{Layers: [][]byte{
		testimage.Tar(testimage.File{Name: "a", Body: noise(3000)}),
		testimage.Tar(testimage.File{Name: "b", Body: noise(40_000)[3000:]}),
		testimage.Tar(testimage.File{Name: "c", Body: strings.Repeat("c", 9000)}),
	}})
	s.PushIndex("library/app", "1", s.image, testimage.Build(testimage.Options{Platform: v1.Platform{OS: "linux", Architecture: "arm64"}}))
	large, mirror := newScene(t, fakeregistry.Options{Token: true}), fakeregistry.New(t, fakeregistry.Options{})
	large.image = testimage.Build(testimage.Options{Layers: [][]byte{
		testimage.Tar(testimage.File{Name: "a", Body: noise(largeLayer)}), testimage.Tar(testimage.File{Name: "b", Body: "b"}),
	}})
	large.Push("library/app", "1", large.image)
	mirror.Push("hub/library/app", "1", large.image)
	count := storms
	if testing.Short() {
		count /= 10
	}
	right, wrong := 0, 0
	for seed := range count {
		in, before := s, (*fakeregistry.Registry)(nil)
		if seed%10 == 9 {
			in, before = large, mirror
		}
		if err := in.storm(t, uint64(seed), before); err == nil {
			right++
		} else {
			wrong++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d ended right, %d with an error", right, wrong)
	if right < count/10 || wrong < count/10 {
		t.Errorf("the weather is too good or too bad: %d ended right, %d with an error", right, wrong)
	}
}

// largeLayer is the size of the layer that is fetched through a mirror, in bytes.
const largeLayer = 3 << 20

// storm pulls once through the weather of a seed, looks at the store, and pulls again. mirror, if there is one, is asked first.
func (s *scene) storm(t *testing.T, seed uint64, mirror *fakeregistry.Registry) error {
	dir := filepath.Join(t.TempDir(), fmt.Sprint(seed))
	defer os.RemoveAll(dir)
	store, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	store.Volatile = true
	s.dir, s.store = dir, store
	s.Heal()
	weather := rand.New(rand.NewPCG(seed, 7))
	reach := 40_000
	if mirror != nil {
		reach = largeLayer
	}
	for range 1 + weather.IntN(3) {
		s.Fail(s.bolt(weather, reach))
	}
	r := s.request(t)
	if mirror != nil {
		r = s.mirrored(t, mirror)
		mirror.Heal()
		for range 1 + weather.IntN(3) {
			mirror.Fail(s.bolt(weather, reach))
		}
	}
	r.Retry = Retry{Attempts: 3, Pause: time.Microsecond, Stall: 100 * time.Millisecond}
	if seed%2 == 0 { // unpacking verifies too: the others must do without
		r.Layer = readLayer
	}
	img, failure := Pull(t.Context(), r)
	if failure == nil {
		s.expectWhole(t, img)
	} else {
		s.expectClear(t, failure)
		s.expectNoName(t)
	}
	s.expectConsistent(t)
	s.Heal()
	if mirror != nil {
		mirror.Heal()
	}
	if img, err = Pull(t.Context(), r); err != nil {
		t.Errorf("in fine weather: %v\nbefore: %v", err, failure)
	} else {
		s.expectWhole(t, img)
	}
	return failure
}

// bolt is something that goes wrong, within so many bytes.
func (s *scene) bolt(weather *rand.Rand, reach int) fakeregistry.Fault {
	places := []string{"/v2/", "/manifests/", "/blobs/", "/token", s.image.Config.Digest.String(), s.image.Manifest.Digest.String()}
	for _, l := range s.image.Layers {
		places = append(places, l.Digest.String(), l.Digest.String()) // most of it hits them
	}
	f := fakeregistry.Fault{Path: places[weather.IntN(len(places))], Times: weather.IntN(5), Skip: weather.IntN(3)}
	switch weather.IntN(14) {
	case 0, 1, 2, 3:
		f.BreakAfter = 1 + weather.IntN(reach)
	case 4:
		f.Truncate = 1 + weather.IntN(reach)
	case 5, 6:
		f.Status = []int{400, 401, 403, 404, 408, 410, 416, 429, 500, 502, 503, 504}[weather.IntN(12)]
	case 7:
		f.Body = []byte(noise(1 + weather.IntN(4000)))
	case 8:
		f.Body, f.Chunked = []byte(noise(1+weather.IntN(4000))), true
	case 9:
		f.Endless, f.Times = true, 1
	case 10:
		f.Redirect = []string{"%s", s.URL() + "/nowhere%s", "http://127.0.0.1:1%s", "ftp://a.example%s"}[weather.IntN(4)]
	case 11:
		f.Stall, f.Times = true, 1
	case 12, 13:
		f.Flip = 1 + weather.IntN(reach)
	}
	return f
}

// expectClear checks that an error says whose fault it is.
func (s *scene) expectClear(t *testing.T, err error) {
	t.Helper()
	var ours *Error
	known := errors.As(err, &ours) || errors.Is(err, image.ErrInvalid) || errors.Is(err, image.ErrCorrupt) || errors.Is(err, image.ErrPlatform)
	if !known || !strings.Contains(err.Error(), s.Host()) || strings.Contains(err.Error(), "fake-token") {
		t.Errorf("no clear error: %v", err)
	}
}

// expectConsistent checks that a store has whole blobs, no lease, and of parts only such as
// can be taken up again.
func (s *scene) expectConsistent(t *testing.T) {
	t.Helper()
	blobs, err := os.ReadDir(filepath.Join(s.dir, "blobs/sha256"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		data, err := os.ReadFile(filepath.Join(s.dir, "blobs/sha256", b.Name()))
		if sum := sha256.Sum256(data); err != nil || hex.EncodeToString(sum[:]) != b.Name() {
			t.Errorf("blob %s is damaged, %v", b.Name(), err)
		}
	}
	if leases, err := os.ReadDir(filepath.Join(s.dir, "leases")); err != nil || len(leases) > 0 {
		t.Errorf("leases %v, %v", leases, err)
	}
	parts, err := os.ReadDir(filepath.Join(s.dir, "ingest"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if !strings.HasPrefix(p.Name(), "sha256-") {
			t.Errorf("left under ingest/: %s", p.Name())
		}
	}
}
