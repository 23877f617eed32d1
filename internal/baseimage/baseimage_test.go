package baseimage

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/containr/containr/internal/baseimage/pack"
)

func TestDigestIsThatOfThePackedIndex(t *testing.T) {
	var archive bytes.Buffer
	want, err := pack.Archive(&archive, Name, []pack.Platform{{Arch: "amd64", Binary: []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := indexDigest(&archive); err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}

func TestABrokenArchiveIsSaidToBe(t *testing.T) {
	for _, content := range []string{"", "no tar file", strings.Repeat("\x00", 1024)} {
		if d, err := indexDigest(strings.NewReader(content)); err == nil {
			t.Errorf("%q has digest %s", content, d)
		}
	}
}

func TestTheEmbeddedImageIsWholeOrMissing(t *testing.T) {
	archive, err := Archive()
	if errors.Is(err, ErrMissing) {
		if _, err := Digest(); !errors.Is(err, ErrMissing) {
			t.Errorf("no archive, but Digest says %v", err)
		}
		t.Skip("this test was built without the image: run make")
	}
	if err != nil {
		t.Fatal(err)
	}
	if d, err := Digest(); err != nil || d.Validate() != nil {
		t.Errorf("digest %q of %d bytes: %v", d, len(archive), err)
	}
}
