package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/testimage"
)

// problems checks a store and returns what is wrong, a line each.
func problems(t *testing.T, s *Store, repair bool) string {
	t.Helper()
	found, err := s.Check(t.Context(), repair)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, p := range found {
		b.WriteString(p.Path + p.Image + ": " + p.Text + "\n")
	}
	return b.String()
}

func TestAWholeStoreHasNoProblems(t *testing.T) {
	s := newStore(t)
	add(t, s, "a", simple("a"))
	add(t, s, "multi", simple("x", "amd64"), simple("x", "arm64"))
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	put(t, lease, testimage.NewBlob("", []byte("at work")))
	if got := problems(t, s, false); got != "" {
		t.Errorf("problems:\n%s", got)
	}
}

// What a pull has brought of a further platform when it is cut off is garbage, though the index has a name; while it goes
// on, its lease protects it; and if it is all that there is of the image, it stays.
func TestUnfinishedPlatformIsGarbage(t *testing.T) {
	s := newStore(t)
	whole, partial := simple("x", "amd64"), simple("y", "arm64")
	add(t, s, "multi", whole, partial)
	missing := partial.Layers[1]
	if err := os.Remove(s.blobPath(missing.Digest)); err != nil {
		t.Fatal(err)
	}
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := lease.Put(t.Context(), partial.Manifest.Descriptor, partial.Manifest.Data); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !s.Has(partial.Manifest.Descriptor) {
		t.Error("the manifest went while a lease protected it")
	}
	lease.Close()
	if got := problems(t, s, false); !strings.Contains(got, blobName(partial.Manifest.Digest)+": no name leads to it") || strings.Contains(got, "damaged") {
		t.Errorf("problems:\n%s", got)
	}
	if _, err := s.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Has(partial.Manifest.Descriptor) || !s.Has(whole.Manifest.Descriptor) {
		t.Error("of two platforms the wrong one is left")
	}
	if got := problems(t, s, false); got != "" {
		t.Errorf("problems:\n%s", got)
	}
	if err := os.Remove(s.blobPath(whole.Layers[1].Digest)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := problems(t, s, false); !s.Has(whole.Manifest.Descriptor) || !strings.Contains(got, "is missing or damaged") {
		t.Errorf("the only platform: problems:\n%s", got)
	}
}

func TestCheckFindsAndRepairsDamage(t *testing.T) {
	s := newStore(t)
	layer, manifest, whole := simple("layer"), simple("manifest"), simple("whole")
	add(t, s, "layer", layer)
	add(t, s, "manifest", manifest)
	add(t, s, "whole", whole)
	damageBlob(t, s, layer.Layers[1])
	damageBlob(t, s, manifest.Manifest)
	for _, name := range []string{"ingest/new-1", "leases/2"} {
		if err := os.WriteFile(filepath.Join(s.dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		blobName(layer.Layers[1].Digest) + ": its content is not that of its digest\n",
		blobName(manifest.Manifest.Digest) + ": its content is not that of its digest\n",
		"docker.io/library/layer:latest: layer 2 for linux/amd64, blob " + layer.Layers[1].Digest.String() + ", is missing or damaged; pull or load the image again\n",
		"docker.io/library/manifest:latest: it leads to no image: ",
		"ingest/new-1: a process that was killed left it\n",
	}
	for _, repair := range []bool{false, true} {
		got := problems(t, s, repair)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("repair %v: %q is not in\n%s", repair, w, got)
			}
		}
	}
	if s.Has(layer.Layers[1].Descriptor) {
		t.Error("a damaged blob stays: no pull would bring it back")
	}
	if got := problems(t, s, false); got != want[2] {
		t.Errorf("after the repair:\n%s", got)
	}
	add(t, s, "layer", layer) // it is pulled again
	if got := problems(t, s, false); got != "" {
		t.Errorf("in the end:\n%s", got)
	}
	expectList(t, s, "docker.io/library/layer:latest "+layer.Manifest.Digest.String(), "docker.io/library/whole:latest "+whole.Manifest.Digest.String())
}

func TestCheckFindsGarbage(t *testing.T) {
	s := newStore(t)
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	blob := testimage.NewBlob("", []byte("left"))
	put(t, lease, blob)
	lease.Close()
	if got := problems(t, s, true); got != blobName(blob.Digest)+": no name leads to it\n" {
		t.Errorf("problems:\n%s", got)
	}
	expectBlobs(t, s)
}

func TestWhatDoesNotFitIsRefusedBeforeTheFirstByte(t *testing.T) {
	s := newStore(t)
	a := simple("a")
	add(t, s, "a", a)
	huge := testimage.NewBlob("", []byte("x")).Descriptor
	huge.Size = 1 << 60
	err := s.Fits("image huge", a.Layers[0].Descriptor, huge)
	var space *SpaceError
	if !errors.As(err, &space) || !errors.Is(err, unix.ENOSPC) || space.Need != 1<<60 || space.Free <= 0 || !strings.HasPrefix(err.Error(), "image huge needs 1152921504606846976 bytes") {
		t.Errorf("got %v", err)
	}
	if err := s.Fits("image a", a.Layers[0].Descriptor); err != nil {
		t.Errorf("what is there needs nothing: %v", err)
	}
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	if _, err := lease.Ingest(t.Context(), huge); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("ingest: %v", err)
	}
	expectBlobs(t, s, append(a.Blobs(), a.Manifest)...)
}
