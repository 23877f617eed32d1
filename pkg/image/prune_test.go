package image

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/containr/containr/internal/testkit/testimage"
)

func TestUntagKeepsTheImage(t *testing.T) {
	s := newStore(t)
	a := simple("a")
	add(t, s, "a:1", a)
	add(t, s, "a:2", a)
	gone, err := s.Untag(t.Context(), "a:1", "a:2")
	if err != nil || !slices.Equal(gone, []string{"docker.io/library/a:2"}) {
		t.Fatalf("%q, %v", gone, err)
	}
	_, err = s.Untag(t.Context(), "a:1", "b")
	expectError(t, err, ErrNotFound, `untag: "b" is not a name of image `+a.Manifest.Digest.String()+`: not found`)
	gone, err = s.Untag(t.Context(), a.Config.Digest.Encoded()[:12])
	if err != nil || !slices.Equal(gone, []string{"docker.io/library/a:1"}) {
		t.Fatalf("%q, %v", gone, err)
	}
	expectList(t, s, " "+a.Manifest.Digest.String())
	gc(t, s)
	expectBlobs(t, s, append(a.Blobs(), a.Manifest)...)
}

func TestPruneRemovesTheDoomedUnlessUsed(t *testing.T) {
	s := newStore(t)
	a, b, c := simple("a"), simple("b"), simple("c")
	add(t, s, "a", a)
	add(t, s, "b", b)
	add(t, s, "c", c)
	removed, err := s.Prune(t.Context(), PruneOptions{
		Doomed: func(l Listed) bool { return !strings.Contains(l.Name, "/c:") },
		InUse: func(i *Image) error {
			if i.ConfigDigest == b.Config.Digest {
				return errors.New("used")
			}
			return nil
		},
	})
	if err != nil || !slices.Equal(removed.Untagged, []string{"docker.io/library/a:latest"}) || len(removed.Deleted) != 3 {
		t.Errorf("%+v, %v", removed, err)
	}
	expectBlobs(t, s, append(append(b.Blobs(), b.Manifest, c.Manifest), c.Blobs()...)...)
}

func TestRemovePlatformKeepsTheOthersAndTheDigest(t *testing.T) {
	s := newStore(t)
	intel, arm := simple("b", "amd64"), simple("b2", "arm64")
	target := add(t, s, "multi", intel, arm)
	arm64 := Platform{OS: "linux", Architecture: "arm64"}
	removed, err := s.RemovePlatform(t.Context(), "multi", arm64, nil)
	if err != nil || len(removed.Deleted) != 3 {
		t.Fatalf("%+v, %v", removed, err)
	}
	expectBlobs(t, s, append(intel.Blobs(), intel.Manifest, testimage.Index(intel, arm))...)
	expectList(t, s, "docker.io/library/multi:latest "+target.Digest.String())
	_, err = s.RemovePlatform(t.Context(), "multi", amd64, nil)
	expectError(t, err, ErrOnlyPlatform, "")
	_, err = s.RemovePlatform(t.Context(), "multi", arm64, nil)
	expectError(t, err, ErrNotFound, "")
}

func TestRemoveCanKeepContent(t *testing.T) {
	s := newStore(t)
	a := simple("a")
	add(t, s, "a", a)
	if removed, err := s.Remove(t.Context(), "a", RemoveOptions{KeepContent: true}); err != nil || len(removed.Deleted) > 0 {
		t.Fatal(removed, err)
	}
	expectBlobs(t, s, append(a.Blobs(), a.Manifest)...)
	gc(t, s)
	expectBlobs(t, s)
}

func TestOnePlatformIsSavedAndLoaded(t *testing.T) {
	s := newStore(t)
	intel, arm := simple("b", "amd64"), simple("b2", "arm64")
	target := add(t, s, "multi", intel, arm)
	var one bytes.Buffer
	arm64 := Platform{OS: "linux", Architecture: "arm64"}
	if err := s.Save(t.Context(), &one, SaveOptions{Platform: arm64}, "multi"); err != nil {
		t.Fatal(err)
	}
	onlyARM := append(arm.Blobs(), arm.Manifest, testimage.Index(intel, arm))
	other := newStore(t)
	mustLoad(t, other, one.Bytes(), LoadOptions{})
	expectBlobs(t, other, onlyARM...)
	expectList(t, other, "docker.io/library/multi:latest "+target.Digest.String())

	third := newStore(t)
	mustLoad(t, third, save(t, s, "multi"), LoadOptions{Platform: arm64})
	expectBlobs(t, third, onlyARM...)
	_, err := third.Load(t.Context(), bytes.NewReader(save(t, s, "multi")), LoadOptions{Platform: Platform{OS: "linux", Architecture: "s390x"}})
	expectError(t, err, ErrPlatform, "")
	mustLoad(t, third, save(t, s, "multi"), LoadOptions{})
	mustLoad(t, third, save(t, s, "multi"), LoadOptions{Platform: arm64})
	expectBlobs(t, third, append(onlyARM, append(intel.Blobs(), intel.Manifest)...)...) // what was there stays
}

func TestSaveDirAddsToALayout(t *testing.T) {
	s := newStore(t)
	a, b := simple("a"), simple("b")
	add(t, s, "a:1", a)
	add(t, s, "b:2", b)
	dir := filepath.Join(t.TempDir(), "layout")
	for _, name := range []string{"a:1", "b:2", "a:1"} {
		if err := s.SaveDir(t.Context(), dir, SaveOptions{}, name); err != nil {
			t.Fatal(err)
		}
	}
	other := newStore(t)
	if _, err := other.LoadPath(t.Context(), dir, LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	expectList(t, other, "docker.io/library/a:1 "+a.Manifest.Digest.String(), "docker.io/library/b:2 "+b.Manifest.Digest.String())
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expectError(t, s.SaveDir(t.Context(), full, SaveOptions{}, "a:1"), ErrExists, "save: directory "+full+" has something in it that is no OCI image layout: already exists")
	damageBlob(t, s, a.Layers[1])
	expectError(t, s.SaveDir(t.Context(), filepath.Join(t.TempDir(), "new"), SaveOptions{}, "a:1"), ErrCorrupt, "")
}

func TestSavedByOneNameAsAnother(t *testing.T) {
	s := newStore(t)
	a := simple("a")
	add(t, s, "a:1", a)
	var out bytes.Buffer
	if err := s.Save(t.Context(), &out, SaveOptions{Format: OCIArchive, Name: "other:2"}, "a:1"); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out.Bytes(), []byte(dockerManifestFile)) {
		t.Error("an OCI archive has docker's table of contents")
	}
	other := newStore(t)
	mustLoad(t, other, out.Bytes(), LoadOptions{})
	expectList(t, other, "docker.io/library/other:2 "+a.Manifest.Digest.String())
}

// A thousand images are listed within the time that a person takes for none.
func BenchmarkListThousand(b *testing.B) {
	s := thousand(b)
	for b.Loop() {
		if _, err := s.List(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPruneThousand(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s := thousand(b)
		b.StartTimer()
		removed, err := s.Prune(b.Context(), PruneOptions{Doomed: func(Listed) bool { return true }})
		if err != nil || len(removed.Untagged) != 1000 {
			b.Fatal(len(removed.Untagged), err)
		}
	}
}

func thousand(b *testing.B) *Store {
	s := newStore(b)
	began := time.Now()
	for i := range 1000 {
		name := "image" + string([]byte{'a' + byte(i/100), 'a' + byte(i/10%10), 'a' + byte(i%10)})
		add(b, s, name, simple(name))
	}
	b.Logf("made 1000 images in %v", time.Since(began))
	return s
}

// Nobody takes away what another command works with, nor a platform that another image has too, unless it is forced.
func TestOnePlatformIsNotTakenFromOthers(t *testing.T) {
	amd64, arm64 := simple("x", "amd64"), simple("x", "arm64")
	other := simple("other", "s390x")
	s := newStore(t)
	add(t, s, "multi", amd64, arm64)
	add(t, s, "second", arm64, other)
	p := Platform{OS: "linux", Architecture: "arm64"}
	unused := func(*Image) error { return nil }
	_, err := s.RemovePlatform(t.Context(), "multi", p, unused)
	expectError(t, err, ErrInUse, "remove platform linux/arm64: image multi: image is in use: docker.io/library/second:latest has the same for this platform")

	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := lease.Hold(t.Context(), arm64.Manifest.Digest); err != nil {
		t.Fatal(err)
	}
	_, err = s.RemovePlatform(t.Context(), "multi", p, nil)
	expectError(t, err, ErrInUse, "remove platform linux/arm64: image multi: image is in use: a command that runs now works with it")
	lease.Close()
	if _, err = s.RemovePlatform(t.Context(), "multi", p, nil); err != nil {
		t.Error(err)
	}

	// A load for one platform brings the others, and drops them again: but for what somebody else counts on by then.
	from := newStore(t)
	add(t, from, "multi", amd64, arm64)
	to := newStore(t)
	if lease, err = to.Lease(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	if err := lease.protect(t.Context(), arm64.Manifest.Digest); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, to, save(t, from, "multi"), LoadOptions{Platform: Platform{OS: "linux", Architecture: "amd64"}})
	if !to.Has(arm64.Manifest.Descriptor) || !to.Has(amd64.Manifest.Descriptor) {
		t.Error("a manifest is gone that somebody works with")
	}
}

// Of several who change a list at once, none loses what another has done, and nothing of the lists between stays.
func TestListIsChangedByManyAtOnce(t *testing.T) {
	s := newStore(t)
	architectures := []string{"386", "amd64", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x"}
	var entries []v1.Descriptor
	for _, a := range architectures {
		add(t, s, "image:"+a, simple(a, a))
		more, err := s.Entries("image:"+a, AnyPlatform)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, more...)
	}
	var group errgroup.Group
	for _, e := range entries {
		group.Go(func() error {
			_, err := s.ChangeIndex(t.Context(), "list", func(index *v1.Index) (v1.Index, error) {
				if index == nil {
					index = &v1.Index{}
				}
				return SetEntries(*index, e), nil
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	index, _, err := s.Index("list")
	if err != nil || len(index.Manifests) != len(architectures) {
		t.Errorf("%d entries, %v", len(index.Manifests), err)
	}
	if names, err := s.Names(); err != nil || len(names) != len(architectures)+1 {
		t.Errorf("%d names, %v", len(names), err)
	}
}
