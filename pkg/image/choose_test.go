package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/internal/testkit/testimage"
)

// indexOf makes an index of anything.
func indexOf(entries ...v1.Descriptor) testimage.Blob {
	index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: entries}
	index.SchemaVersion = 2
	data, err := json.Marshal(index)
	if err != nil {
		panic(err)
	}
	return testimage.NewBlob(v1.MediaTypeImageIndex, data)
}

// on returns a descriptor with a platform; with none if that is empty.
func on(d v1.Descriptor, platform string) v1.Descriptor {
	d.Platform = nil
	if platform != "" {
		p, err := ParsePlatform(platform)
		if err != nil {
			panic(err)
		}
		spec := p.spec()
		d.Platform = &spec
	}
	return d
}

// manifestFor is a descriptor of a manifest that nobody reads.
func manifestFor(name, platform string) v1.Descriptor {
	return on(v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString(name), Size: 1}, platform)
}

// shelf holds indexes to be opened, and counts how often they are.
type shelf struct {
	blobs  map[digest.Digest]testimage.Blob
	opened int
}

func (s *shelf) index(entries ...v1.Descriptor) v1.Descriptor {
	b := indexOf(entries...)
	if s.blobs == nil {
		s.blobs = map[digest.Digest]testimage.Blob{}
	}
	s.blobs[b.Digest] = b
	return b.Descriptor
}

func (s *shelf) choose(t *testing.T, top v1.Descriptor, want string) (v1.Descriptor, error) {
	t.Helper()
	index, err := DecodeIndex(s.blobs[top.Digest].Data, top.MediaType)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePlatform(want)
	if err != nil {
		t.Fatal(err)
	}
	return Select(top, index, "app", p, OpenedBy(func(d v1.Descriptor) ([]byte, error) {
		s.opened++
		b, ok := s.blobs[d.Digest]
		if !ok {
			return nil, fmt.Errorf("blob %s: %w", d.Digest, ErrNotFound)
		}
		return b.Data, nil
	}))
}

func TestWhichManifestOfIndexesInIndexesIsChosen(t *testing.T) {
	var s shelf
	amd, arm6, arm7 := manifestFor("amd", "linux/amd64"), manifestFor("arm6", "linux/arm/v6"), manifestFor("arm7", "linux/arm/v7")
	other := manifestFor("another amd", "linux/amd64")
	bare := manifestFor("bare", "")
	riscv := s.index(manifestFor("riscv", "linux/riscv64"))
	for name, c := range map[string]struct {
		top    v1.Descriptor
		want   string
		chosen v1.Descriptor
		opened int
	}{
		"in an index without a platform":           {s.index(s.index(amd), arm7), "linux/amd64", amd, 1},
		"two levels below":                         {s.index(s.index(s.index(amd))), "linux/amd64", amd, 2},
		"an index for another platform is closed":  {s.index(on(riscv, "linux/riscv64"), s.index(amd)), "linux/amd64", amd, 1},
		"of equals the one nearer to the top wins": {s.index(s.index(other), amd), "linux/amd64", amd, 0},
		"of equals at one depth the first wins":    {s.index(s.index(other), s.index(amd)), "linux/amd64", other, 2},
		"a better one wins wherever it lies":       {s.index(arm6, s.index(s.index(arm7))), "linux/arm/v7", arm7, 2},
		"the weaker one serves if nothing better":  {s.index(s.index(arm6), riscv), "linux/arm/v7", arm6, 2},
		"the index says what its only entry is":    {s.index(on(s.index(bare), "linux/amd64"), riscv), "linux/amd64", bare, 2},
		"what lies deeper is not asked for":        {s.index(amd, v1.Descriptor{MediaType: v1.MediaTypeImageIndex, Digest: digest.FromString("absent")}), "linux/amd64", amd, 0},
		"an index is read once":                    {s.index(riscv, riscv, s.index(riscv, amd)), "linux/amd64", amd, 2},
	} {
		s.opened = 0
		got, err := s.choose(t, c.top, c.want)
		if err != nil || got.Digest != c.chosen.Digest || s.opened != c.opened {
			t.Errorf("%s: got %s, error %v, %d indexes opened; want %s, %d", name, got.Digest, err, s.opened, c.chosen.Digest, c.opened)
		}
	}
	_, err := s.choose(t, s.index(amd, s.index(arm6, riscv)), "linux/s390x")
	expectError(t, err, ErrPlatform, "image app is not for linux/s390x; it is for linux/amd64, linux/arm/v6, linux/riscv64")
}

// What is to last for ever, or to fill the memory, is refused.
func TestHostileIndexesInIndexesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		top  func(s *shelf) v1.Descriptor
		err  error
		text string
	}{
		"1,000 levels": {func(s *shelf) v1.Descriptor {
			d := s.index(manifestFor("amd", "linux/amd64"))
			for range 1000 {
				d = s.index(d)
			}
			return d
		}, ErrLimit, "more than 16 lie in each other: limit exceeded"},
		"one level too many": {func(s *shelf) v1.Descriptor {
			d := s.index(manifestFor("amd", "linux/amd64"))
			for range MaxNesting {
				d = s.index(d)
			}
			return d
		}, ErrLimit, "more than 16 lie in each other: limit exceeded"},
		"itself": {func(s *shelf) v1.Descriptor { // no digest is its own: what opens it must be deceived
			d := v1.Descriptor{MediaType: v1.MediaTypeImageIndex, Digest: digest.FromString("loop"), Size: 1}
			b := indexOf(d)
			s.index()
			s.blobs[d.Digest] = b
			return d
		}, ErrInvalid, "lies in itself: invalid image"},
		"itself, by way of another": {func(s *shelf) v1.Descriptor {
			d := v1.Descriptor{MediaType: v1.MediaTypeImageIndex, Digest: digest.FromString("loop"), Size: 1}
			s.index()
			s.blobs[d.Digest] = indexOf(s.index(d))
			return d
		}, ErrInvalid, "lies in itself: invalid image"},
		"too many": {func(s *shelf) v1.Descriptor {
			var all []v1.Descriptor
			for i := range MaxIndexes {
				all = append(all, s.index(manifestFor(fmt.Sprint(i), "linux/arm64")))
			}
			return s.index(all...)
		}, ErrLimit, "it has more than 63 indexes in it: limit exceeded"},
		"absent": {func(s *shelf) v1.Descriptor {
			return s.index(v1.Descriptor{MediaType: v1.MediaTypeImageIndex, Digest: digest.FromString("absent")})
		}, ErrNotFound, "not found"},
		"no index": {func(s *shelf) v1.Descriptor {
			b := testimage.NewBlob(v1.MediaTypeImageIndex, []byte(`{"schemaVersion":2}`))
			s.index()
			s.blobs[b.Digest] = b
			return s.index(b.Descriptor)
		}, ErrInvalid, "lacks its fields: invalid image"},
	} {
		t.Run(name, func(t *testing.T) {
			var s shelf
			_, err := s.choose(t, c.top(&s), "linux/amd64")
			if !errors.Is(err, c.err) || !strings.HasSuffix(err.Error(), c.text) {
				t.Errorf("got %v, want ... %s", err, c.text)
			}
			if s.opened > MaxIndexes {
				t.Errorf("%d indexes were opened", s.opened)
			}
		})
	}
	// As many levels as there may be, each listing the next one twice.
	var s shelf
	amd := manifestFor("amd", "linux/amd64")
	d := s.index(amd)
	for range MaxNesting - 1 {
		d = s.index(d, d)
	}
	if got, err := s.choose(t, d, "linux/amd64"); err != nil || got.Digest != amd.Digest || s.opened != MaxNesting-1 {
		t.Errorf("got %s, error %v, %d opened", got.Digest, err, s.opened)
	}
}

// A store may lack most of what an index lists, and still save what it has.
func TestAbsentIndexesAreNotCounted(t *testing.T) {
	amd := manifestFor("amd", "linux/amd64")
	entries := []v1.Descriptor{amd}
	for i := range 2 * MaxIndexes {
		entries = append(entries, v1.Descriptor{MediaType: v1.MediaTypeImageIndex, Digest: digest.FromString(fmt.Sprint(i)), Size: 1})
	}
	b := indexOf(entries...)
	index, err := DecodeIndex(b.Data, b.MediaType)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Members(b.Descriptor, index, func(v1.Descriptor) (*v1.Index, error) { return nil, nil })
	if err != nil || len(got) != 1 || got[0].Digest != amd.Digest {
		t.Errorf("got %v, error %v", got, err)
	}
}

// nestedStore has an image whose index lists one image, and an index with the other.
func nestedStore(t *testing.T, s *Store) (target v1.Descriptor, inner testimage.Blob, amd, arm *testimage.Image) {
	t.Helper()
	amd, arm = simple("amd"), simple("arm", "arm64")
	inner = indexOf(arm.Manifest.Descriptor)
	top := indexOf(amd.Manifest.Descriptor, inner.Descriptor)
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	put(t, lease, append(append(amd.Blobs(), arm.Blobs()...), amd.Manifest, arm.Manifest, inner, top)...)
	if err := s.Tag(t.Context(), "app:1", top.Descriptor); err != nil {
		t.Fatal(err)
	}
	return top.Descriptor, inner, amd, arm
}

var arm64 = Platform{OS: "linux", Architecture: "arm64"}

func TestImagesInInnerIndexesAreFoundListedAndKept(t *testing.T) {
	s := newStore(t)
	target, inner, amd, arm := nestedStore(t, s)
	for want, img := range map[Platform]*testimage.Image{amd64: amd, arm64: arm} {
		if got, err := s.Resolve("app:1", want); err != nil || got.ManifestDigest != img.Manifest.Digest || got.Target.Digest != target.Digest {
			t.Errorf("%s: %+v, %v", want, got, err)
		}
	}
	if got, err := s.Resolve(arm.Config.Digest.Encoded()[:12], arm64); err != nil || got.ConfigDigest != arm.Config.Digest {
		t.Errorf("by id: %+v, %v", got, err)
	}
	list, err := s.List()
	if err != nil || len(list) != 1 || len(list[0].Images) != 2 {
		t.Errorf("listed %+v, %v", list, err)
	}
	entries, err := s.Entries("app:1", AnyPlatform)
	if err != nil || len(entries) != 2 {
		t.Errorf("entries for a list of images: %+v, %v", entries, err)
	}
	if removed := gc(t, s); len(removed.Deleted) != 0 {
		t.Errorf("garbage: %v", removed.Deleted)
	}
	expectSound(t, s)
	// One layer of the inner image goes: check says so, as another platform is whole it is garbage, and goes.
	if err := os.Remove(s.blobPath(arm.Layers[1].Digest)); err != nil {
		t.Fatal(err)
	}
	if removed := gc(t, s); !slices.Contains(removed.Deleted, arm.Manifest.Digest) || slices.Contains(removed.Deleted, inner.Digest) {
		t.Errorf("of an unfinished image in an inner index went %v", removed.Deleted)
	}
	expectSound(t, s)
	if _, err := s.Resolve("app:1", amd64); err != nil {
		t.Error(err)
	}
	// Without the inner index it may be an image for any platform: it must be pulled to know.
	if err := os.Remove(s.blobPath(inner.Digest)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve("app:1", arm64); !errors.Is(err, ErrNotFound) {
		t.Errorf("without the inner index: %v", err)
	}
	if _, err := s.Resolve("app:1", amd64); err != nil {
		t.Error(err)
	}
	expectSound(t, s)
}

// The same index may lie in two images, in one of which nothing else is whole: what is unfinished for the one is all that
// the other has.
func TestUnfinishedInOneImageIsKeptForAnother(t *testing.T) {
	s := newStore(t)
	_, inner, _, arm := nestedStore(t, s)
	alone := indexOf(inner.Descriptor)
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put(t, lease, alone)
	if err := errors.Join(s.Tag(t.Context(), "zzz:1", alone.Descriptor), os.Remove(s.blobPath(arm.Layers[1].Digest))); err != nil {
		t.Fatal(err)
	}
	lease.Close()
	if removed := gc(t, s); len(removed.Deleted) != 0 {
		t.Errorf("garbage: %v", removed.Deleted)
	}
}

func expectSound(t *testing.T, s *Store) {
	t.Helper()
	if problems, err := s.Check(t.Context(), false); err != nil || len(problems) > 0 {
		t.Errorf("problems %+v, error %v", problems, err)
	}
}

func TestInnerIndexesAreSavedAndLoaded(t *testing.T) {
	s := newStore(t)
	target, inner, amd, arm := nestedStore(t, s)
	save := func(o SaveOptions) *bytes.Reader {
		var archive bytes.Buffer
		if err := s.Save(t.Context(), &archive, o, "app:1"); err != nil {
			t.Fatal(err)
		}
		return bytes.NewReader(archive.Bytes())
	}
	for name, c := range map[string]struct {
		save SaveOptions
		load LoadOptions
		has  map[Platform]*testimage.Image
		not  Platform
	}{
		"all":         {SaveOptions{}, LoadOptions{}, map[Platform]*testimage.Image{amd64: amd, arm64: arm}, Platform{OS: "linux", Architecture: "s390x"}},
		"one saved":   {SaveOptions{Platform: arm64}, LoadOptions{}, map[Platform]*testimage.Image{arm64: arm}, amd64},
		"one loaded":  {SaveOptions{}, LoadOptions{Platform: arm64}, map[Platform]*testimage.Image{arm64: arm}, amd64},
		"the outer":   {SaveOptions{Platform: amd64}, LoadOptions{}, map[Platform]*testimage.Image{amd64: amd}, arm64},
		"outer alone": {SaveOptions{}, LoadOptions{Platform: amd64}, map[Platform]*testimage.Image{amd64: amd}, arm64},
	} {
		t.Run(name, func(t *testing.T) {
			other := newStore(t)
			if _, err := other.Load(t.Context(), save(c.save), c.load); err != nil {
				t.Fatal(err)
			}
			gc(t, other)
			expectSound(t, other)
			for p, img := range c.has {
				if got, err := other.Resolve("app:1", p); err != nil || got.ManifestDigest != img.Manifest.Digest || got.Target.Digest != target.Digest {
					t.Errorf("%s: %+v, %v", p, got, err)
				}
			}
			if _, err := other.Resolve("app:1", c.not); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrPlatform) {
				t.Errorf("%s: %v", c.not, err)
			}
		})
	}
	dir := t.TempDir()
	if err := s.SaveDir(t.Context(), dir, SaveOptions{}, "app:1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/blobs/sha256/" + inner.Digest.Encoded()); err != nil {
		t.Error(err)
	}
}
