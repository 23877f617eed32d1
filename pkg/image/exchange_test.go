package image

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/schema"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/internal/testkit/testimage"
)

// skopeo runs skopeo, and returns what it prints.
func skopeo(t *testing.T, args ...string) []byte {
	t.Helper()
	path := lookPath(t, "skopeo")
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(path, append([]string{"--insecure-policy"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("skopeo %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return stdout.Bytes()
}

// skopeo reads our store in its place, and the manifest has the digest that we say.
func TestSkopeoReadsTheStore(t *testing.T) {
	s := newStore(t)
	img := simple("a")
	add(t, s, "debian:12", img)
	raw := skopeo(t, "inspect", "--raw", "oci:"+s.dir+":docker.io/library/debian:12")
	if !bytes.Equal(raw, img.Manifest.Data) {
		t.Errorf("manifest %q", raw)
	}
}

// What we save skopeo copies without changing a byte, and what it writes we load.
func TestExchangeWithSkopeoKeepsDigests(t *testing.T) {
	s := newStore(t)
	img := simple("a")
	target := add(t, s, "example.com/app:1", img)
	dir := t.TempDir()
	archive := filepath.Join(dir, "ours.tar")
	for name, o := range map[string]SaveOptions{"oci-archive:" + archive: {Format: OCIArchive}, "docker-archive:" + archive: {}} {
		f, err := os.Create(archive)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Save(t.Context(), f, o, "example.com/app:1"); err != nil {
			t.Fatal(err)
		}
		f.Close()
		theirs := filepath.Join(dir, strings.ReplaceAll(string(o.Format), "-", "")+"theirs.tar")
		skopeo(t, "copy", name, "oci-archive:"+theirs+":example.com/app:1")
		other := newStore(t)
		listed, err := other.LoadPath(t.Context(), theirs, LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if o.Format == OCIArchive && listed[0].Target.Digest != target.Digest {
			t.Errorf("%s came back as %s, was %s", name, listed[0].Target.Digest, target.Digest)
		}
		// docker's archives have no manifest, and skopeo compresses layers anew: what is in them must be the same.
		if got := listed[0].Images[0].ConfigDigest; got != img.Config.Digest {
			t.Errorf("%s: configuration %s, was %s", name, got, img.Config.Digest)
		}
	}
	// And in docker's form from skopeo.
	docker := filepath.Join(dir, "docker.tar")
	skopeo(t, "copy", "oci:"+s.dir+":example.com/app:1", "docker-archive:"+docker+":example.com/app:1")
	other := newStore(t)
	listed, err := other.LoadPath(t.Context(), docker, LoadOptions{})
	if err != nil || listed[0].Name != "example.com/app:1" || listed[0].Images[0].ConfigDigest != img.Config.Digest {
		t.Errorf("from skopeo's docker archive: %+v, %v", listed, err)
	}
}

// Everything that we write keeps to the schemas of the image specification.
func TestWhatIsWrittenKeepsToTheSchema(t *testing.T) {
	s := newStore(t)
	add(t, s, "multi:1", simple("a"), simple("b", "arm64"))
	if _, err := s.Import(t.Context(), ImportRequest{Name: "mine", Tar: bytes.NewReader(testimage.Tar(testimage.File{Name: "f"})), Comment: "x"}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	if err := s.SaveDir(t.Context(), dir, SaveOptions{}, "multi:1", "mine"); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{s.dir, dir} {
		validate(t, filepath.Join(root, "oci-layout"), schema.ValidatorMediaTypeLayoutHeader)
		validate(t, filepath.Join(root, "index.json"), schema.ValidatorMediaTypeImageIndex)
	}
	listed, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range listed {
		for _, i := range l.Images {
			validate(t, s.blobPath(i.ManifestDigest), schema.ValidatorMediaTypeManifest)
			validate(t, s.blobPath(i.ConfigDigest), schema.ValidatorMediaTypeImageConfig)
		}
	}
	bad := filepath.Join(t.TempDir(), "bad")
	data, err := json.Marshal(v1.Manifest{})
	if err == nil {
		err = os.WriteFile(bad, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if check(t, bad, schema.ValidatorMediaTypeManifest) == nil {
		t.Error("an empty manifest passes: nothing is checked")
	}
}

func validate(t *testing.T, path string, v schema.Validator) {
	t.Helper()
	if err := check(t, path, v); err != nil {
		t.Errorf("%s: %v", path, err)
	}
}

func check(t *testing.T, path string, v schema.Validator) error {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return v.Validate(f)
}
