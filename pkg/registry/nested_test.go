package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/internal/testkit/fakeregistry"
	"github.com/containr/containr/internal/testkit/testimage"
	"github.com/containr/containr/pkg/image"
)

// indexOf makes an index of anything.
func indexOf(t *testing.T, entries ...v1.Descriptor) testimage.Blob {
	t.Helper()
	index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: entries}
	index.SchemaVersion = 2
	data, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	return testimage.NewBlob(v1.MediaTypeImageIndex, data)
}

// pushNested makes library/app:1 an index of the scene's image, and of an index with one for arm64.
func pushNested(t *testing.T, r *fakeregistry.Registry, own *testimage.Image) (top, inner testimage.Blob, arm *testimage.Image) {
	t.Helper()
	arm = testimage.Build(testimage.Options{Platform: v1.Platform{OS: "linux", Architecture: "arm64"}})
	r.Push("library/app", "own", own)
	r.Push("library/app", "arm", arm)
	inner = indexOf(t, arm.Manifest.Descriptor)
	top = indexOf(t, own.Manifest.Descriptor, inner.Descriptor)
	r.PushManifest("library/app", "inner", inner)
	r.PushManifest("library/app", "1", top)
	return top, inner, arm
}

func TestPullLooksIntoIndexesOfAnIndex(t *testing.T) {
	s := newScene(t, fakeregistry.Options{})
	top, inner, arm := pushNested(t, s.Registry, s.image)
	s.mustPull(t, s.request(t))
	if n := len(s.Requests(inner.Digest.String())); n != 0 {
		t.Errorf("the inner index was asked for %d times, though the outer one has the image", n)
	}
	r := s.request(t)
	r.Platform = image.Platform{OS: "linux", Architecture: "arm64"}
	img, err := Pull(t.Context(), r)
	if err != nil || img.ManifestDigest != arm.Manifest.Digest || img.Target.Digest != top.Digest {
		t.Errorf("arm64: %+v, %v", img, err)
	}
	r.Platform = image.Platform{OS: "linux", Architecture: "riscv64"}
	_, err = Pull(t.Context(), r)
	want := fmt.Sprintf("pull %s/library/app:1: image %[1]s/library/app:1 is not for linux/riscv64; it is for linux/amd64, linux/arm64", s.Host())
	if !errors.Is(err, image.ErrPlatform) || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// All platforms come, the inner index as well, and go to another registry as they were. Of an image that is here in part,
// what is here goes.
func TestIndexesOfAnIndexTravel(t *testing.T) {
	d := newDelivery(t, fakeregistry.Options{})
	own := testimage.Build(testimage.Options{Layers: [][]byte{testimage.Tar(testimage.File{Name: "own", Body: "own"})}})
	top, inner, arm := pushNested(t, d.Registry, own)
	r := d.request(t)
	r.Platform = image.Platform{OS: "linux", Architecture: "arm64"}
	if _, err := Pull(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	pushed := d.mustPush(t, d.push(t))
	if pushed.Target.Digest != arm.Manifest.Digest || fmt.Sprint(pushed.Omitted) != "[linux/amd64]" {
		t.Errorf("of one platform: %+v", pushed)
	}
	r = d.request(t)
	r.AllPlatforms, r.Layer = true, readLayer
	if _, err := Pull(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"amd64", "arm64"} {
		if _, err := r.Store.Resolve(r.Ref.String(), image.Platform{OS: "linux", Architecture: p}); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	if pushed := d.mustPush(t, d.push(t)); pushed.Target.Digest != top.Digest {
		t.Errorf("pushed %s, want %s", pushed.Target.Digest, top.Digest)
	}
	if _, ok := d.to.Manifest("team/app", inner.Digest.String()); !ok {
		t.Error("the inner index did not arrive")
	}
	if problems, err := r.Store.Check(t.Context(), false); err != nil || len(problems) != 0 {
		t.Errorf("problems %+v, error %v", problems, err)
	}
}

func TestPullRefusesHostileIndexesOfAnIndex(t *testing.T) {
	for name, c := range map[string]struct {
		push func(*testing.T, *scene)
		err  error
		text string
	}{
		"1,000 levels": {func(t *testing.T, s *scene) {
			d := s.image.Manifest.Descriptor
			for range 1000 {
				b := indexOf(t, d)
				s.PushManifest("library/app", "1", b)
				d = b.Descriptor
			}
		}, image.ErrLimit, "more than 16 lie in each other"},
		"names itself": {func(t *testing.T, s *scene) {
			// Its digest cannot be in it, so one is promised that it has not.
			promised := indexOf(t).Descriptor
			lie := indexOf(t, promised)
			for promised.Size != lie.Size {
				promised.Size = lie.Size
				lie = indexOf(t, promised)
			}
			lie.Descriptor = promised
			s.PushManifest("library/app", "lie", lie)
			s.PushManifest("library/app", "1", indexOf(t, promised))
		}, nil, "content has the wrong digest"},
	} {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, all platforms %t", name, all), func(t *testing.T) {
				s := newScene(t, fakeregistry.Options{})
				c.push(t, s)
				r := s.request(t)
				r.AllPlatforms = all
				before := len(s.Requests(""))
				_, err := Pull(t.Context(), r)
				if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(fmt.Sprint(err), c.text) {
					t.Errorf("got %v, want ... %s", err, c.text)
				}
				if n := len(s.Requests("")) - before; n > 2*image.MaxNesting {
					t.Errorf("%d requests", n)
				}
				s.expectEmpty(t)
			})
		}
	}
}
