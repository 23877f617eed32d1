package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/containr/containr/internal/testkit/testimage"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// tarOf makes an archive of files in the order of their names.
func tarOf(files map[string][]byte) []byte {
	var list []testimage.File
	for _, name := range slices.Sorted(maps.Keys(files)) {
		list = append(list, testimage.File{Name: name, Body: string(files[name])})
	}
	return testimage.Tar(list...)
}

// writeTree writes files to a new directory.
func writeTree(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// mustLoad loads an archive from a reader that hands out little at a time.
func mustLoad(t *testing.T, s *Store, archive []byte, o LoadOptions) []Listed {
	t.Helper()
	loaded, err := s.Load(t.Context(), iotest.HalfReader(bytes.NewReader(archive)), o)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

func TestLoadOCI(t *testing.T) {
	img := simple("oci")
	layout := testimage.Layout("registry.example/app:1", img.Manifest, img)
	layout["./README"] = []byte("not a blob")
	archive := tarOf(layout)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write(archive)
	w.Close()
	loaders := map[string]func(*Store) ([]Listed, error){
		"archive": func(s *Store) ([]Listed, error) { return mustLoad(t, s, archive, LoadOptions{}), nil },
		"gzipped": func(s *Store) ([]Listed, error) { return mustLoad(t, s, zipped.Bytes(), LoadOptions{}), nil },
		"directory": func(s *Store) ([]Listed, error) {
			return s.LoadPath(t.Context(), writeTree(t, layout), LoadOptions{})
		},
		"file": func(s *Store) ([]Listed, error) {
			dir := writeTree(t, map[string][]byte{"image.tar": archive})
			return s.LoadPath(t.Context(), filepath.Join(dir, "image.tar"), LoadOptions{})
		},
	}
	for name, load := range loaders {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			loaded, err := load(s)
			if err != nil {
				t.Fatal(err)
			}
			if len(loaded) != 1 || loaded[0].Name != "registry.example/app:1" || loaded[0].Images[0].ConfigDigest != img.Config.Digest {
				t.Errorf("loaded %+v", loaded)
			}
			if _, err := s.Resolve("registry.example/app:1", amd64); err != nil {
				t.Error(err)
			}
			gc(t, s)
			expectBlobs(t, s, append(img.Blobs(), img.Manifest)...)
		})
	}
}

func TestLoadTakesPartsOfAnIndex(t *testing.T) {
	intel, arm := simple("x", "amd64"), simple("x", "arm64")
	index := testimage.Index(intel, arm)
	s := newStore(t)
	loaded := mustLoad(t, s, tarOf(testimage.Layout("app", index, arm)), LoadOptions{Name: "example.com/app"})
	if loaded[0].Name != "example.com/app:app" { // a bare name in a layout is a tag
		t.Errorf("name %q", loaded[0].Name)
	}
	if _, err := s.Resolve("example.com/app:app", Platform{OS: "linux", Architecture: "arm64"}); err != nil {
		t.Error(err)
	}
	if _, err := s.Resolve("example.com/app:app", amd64); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent platform: %v", err)
	}
}

func TestNamesOfLoadedImages(t *testing.T) {
	for _, c := range []struct {
		given, fallback string
		images          int
		want            string
	}{
		{"example.com/a:1", "b", 1, "example.com/a:1"}, {"a:1", "", 1, "docker.io/library/a:1"}, {"latest", "b", 2, "docker.io/library/b:latest"},
		{"latest", "", 1, ""}, {"", "b:2", 1, "docker.io/library/b:2"}, {"", "b:2", 2, ""}, {"", "", 1, ""},
	} {
		if got, err := chooseName(c.given, c.fallback, c.images); err != nil || got != c.want {
			t.Errorf("%+v: got %q, %v", c, got, err)
		}
	}
	if _, err := chooseName("A/B:c", "", 1); !errors.Is(err, ErrReference) {
		t.Errorf("bad name: %v", err)
	}
}

// dockerArchive makes what docker save wrote before version 25: layers are not
// compressed, those that occur twice are links, the table of contents is last.
func dockerArchive(img *testimage.Image, tags ...string) []testimage.File {
	config := img.Config.Digest.Encoded() + ".json"
	files := []testimage.File{
		{Name: "aaa/VERSION", Body: "1.0"},
		{Name: "aaa/json", Body: "{}"},
		{Name: "aaa/layer.tar", Body: string(img.Layers[0].Data)},
		{Name: "bbb/layer.tar", Header: tar.Header{Typeflag: tar.TypeSymlink, Linkname: "../aaa/layer.tar"}},
		{Name: "ccc/layer.tar", Header: tar.Header{Typeflag: tar.TypeLink, Linkname: "bbb/layer.tar"}},
		{Name: "ddd/", Header: tar.Header{Typeflag: tar.TypeDir}},
		{Name: config, Body: string(img.Config.Data)},
		{Name: "repositories", Body: "{}"},
	}
	layers := []string{"aaa/layer.tar", "bbb/layer.tar", "ccc/layer.tar"}
	manifest, err := json.Marshal([]dockerImage{{Config: config, RepoTags: tags, Layers: layers[:len(img.Layers)]}})
	if err != nil {
		panic(err)
	}
	return append(files, testimage.File{Name: "manifest.json", Body: string(manifest)})
}

func TestLoadDockerArchive(t *testing.T) {
	layer := testimage.Tar(testimage.File{Name: "f", Body: "content"})
	for _, compress := range []string{"none", "gzip"} {
		img := testimage.Build(testimage.Options{Layers: [][]byte{layer, layer, layer}, Compress: compress})
		s := newStore(t)
		loaded := mustLoad(t, s, testimage.Tar(dockerArchive(img, "app:1", "example.com/app:2")...), LoadOptions{Name: "ignored"})
		if len(loaded) != 2 || loaded[0].Name != "docker.io/library/app:1" || loaded[1].Name != "example.com/app:2" {
			t.Fatalf("loaded %+v", loaded)
		}
		got, err := s.Resolve("app:1", amd64)
		if err != nil || got.ConfigDigest != img.Config.Digest || len(got.Layers) != 3 {
			t.Fatalf("resolved %+v, %v", got, err)
		}
		for _, l := range got.Layers {
			r, err := l.Open(s, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if data, err := io.ReadAll(r); err != nil || !bytes.Equal(data, layer) {
				t.Errorf("layer: %d bytes, %v", len(data), err)
			}
			r.Close()
		}
	}
	s := newStore(t)
	img := testimage.Build(testimage.Options{Compress: "none"})
	if loaded := mustLoad(t, s, testimage.Tar(dockerArchive(img)...), LoadOptions{}); loaded[0].Name != "" {
		t.Errorf("loaded %+v", loaded)
	}
	if _, err := s.Resolve(img.Config.Digest.Encoded()[:12], amd64); err != nil {
		t.Errorf("nameless image by id: %v", err)
	}
}

// Bad archives are refused with their own message, and leave nothing behind.
func TestLoadRefusesBadArchives(t *testing.T) {
	img := testimage.Build(testimage.Options{Compress: "none"})
	good := testimage.Layout("app:1", img.Manifest, img)
	layout := func(change func(files map[string][]byte)) []byte {
		files := maps.Clone(good)
		change(files)
		return tarOf(files)
	}
	docker := func(change func(files []testimage.File) []testimage.File) []byte {
		return testimage.Tar(change(dockerArchive(img, "app:1"))...)
	}
	layerPath := "blobs/sha256/" + img.Layers[0].Digest.Encoded()
	other := testimage.Tar(testimage.File{Name: "other"})
	whole := tarOf(good)
	cases := []struct {
		name    string
		archive []byte
		want    error
		text    string
	}{
		{"empty", nil, ErrInvalid, "load: neither an OCI archive (no oci-layout) nor a docker archive (no manifest.json): invalid image"},
		{"not a tar", bytes.Repeat([]byte("garbage "), 200), ErrInvalid, "load: not a whole tar archive: invalid image: archive/tar: invalid tar header"},
		{"cut off", whole[:len(whole)/2], ErrInvalid, ""},
		{"broken gzip", []byte("\x1f\x8b\x08garbage garbage garbage"), ErrCorrupt, ""},
		{"wrong blob", layout(func(f map[string][]byte) { f[layerPath] = other }), ErrCorrupt, ""},
		{"missing layer", layout(func(f map[string][]byte) { delete(f, layerPath) }), ErrNotFound,
			fmt.Sprintf("load: image %s: layer 1: blob %s: not found", img.Manifest.Digest, img.Layers[0].Digest)},
		{"missing manifest", layout(func(f map[string][]byte) { delete(f, "blobs/sha256/"+img.Manifest.Digest.Encoded()) }), ErrNotFound, ""},
		{"blob of no digest", layout(func(f map[string][]byte) { f["blobs/sha256/../../../x"] = nil; f["blobs/sha256/short"] = nil }), ErrInvalid, ""},
		{"future layout", layout(func(f map[string][]byte) { f["oci-layout"] = []byte(`{"imageLayoutVersion":"9"}`) }), ErrInvalid, `load: oci-layout: version "9" is not 1.0.0: invalid image`},
		{"no image", layout(func(f map[string][]byte) { f["index.json"] = []byte(`{"manifests":[]}`) }), ErrInvalid, "load: there is no image in it: invalid image"},
		{"bad index", layout(func(f map[string][]byte) { f["index.json"] = []byte(`{"manifests":[{"digest":"../x"}]}`) }), ErrInvalid, ""},
		{"device", testimage.Tar(testimage.File{Name: "dev/sda", Header: tar.Header{Typeflag: tar.TypeBlock}}), ErrInvalid, `load: archive entry "dev/sda": neither file, directory nor link: invalid image`},
		{"file missing", docker(func(f []testimage.File) []testimage.File { return f[len(f)-1:] }), ErrNotFound,
			fmt.Sprintf(`load: manifest.json: file "%s.json" is not in the archive: not found`, img.Config.Digest.Encoded())},
		{"wrong layer", docker(func(f []testimage.File) []testimage.File { f[2].Body = string(other); return f }), ErrCorrupt, ""},
		{"circle of links", docker(func(f []testimage.File) []testimage.File {
			f[2] = testimage.File{Name: "aaa/layer.tar", Header: tar.Header{Typeflag: tar.TypeSymlink, Linkname: "../bbb/layer.tar"}}
			return f
		}), ErrInvalid, `load: manifest.json: file "aaa/layer.tar": more than 8 links to follow: invalid image`},
		{"link out", docker(func(f []testimage.File) []testimage.File {
			f[2] = testimage.File{Name: "aaa/layer.tar", Header: tar.Header{Typeflag: tar.TypeSymlink, Linkname: "../../../../etc/passwd"}}
			return f
		}), ErrNotFound, `load: manifest.json: file "aaa/layer.tar" is not in the archive: not found`},
		{"bad name", docker(func(f []testimage.File) []testimage.File {
			f[len(f)-1].Body = strings.Replace(f[len(f)-1].Body, "app:1", "APP:1", 1)
			return f
		}), ErrReference, ""},
		{"bad table", testimage.Tar(testimage.File{Name: "manifest.json", Body: "{}"}), ErrInvalid, ""},
		{"huge table", testimage.Tar(testimage.File{Name: "manifest.json", Body: strings.Repeat(" ", MaxConfigSize+1)}), ErrLimit, `load: archive entry "manifest.json": manifest.json is larger than 8388608 bytes: limit exceeded`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			_, err := s.Load(t.Context(), bytes.NewReader(c.archive), LoadOptions{})
			expectError(t, err, c.want, c.text)
			expectBlobs(t, s)
			expectList(t, s)
		})
	}
}

func TestLoadLayoutStaysInItsDirectory(t *testing.T) {
	img := simple("a")
	files := testimage.Layout("app:1", img.Manifest, img)
	outside := filepath.Join(writeTree(t, map[string][]byte{"blob": img.Layers[0].Data}), "blob")
	for name, replace := range map[string]func(path string) error{
		"link":      func(path string) error { return os.Symlink(outside, path) },
		"directory": func(path string) error { return os.Mkdir(path, 0o755) },
		"fifo":      mkfifo,
	} {
		dir := writeTree(t, files)
		path := filepath.Join(dir, "blobs/sha256", img.Layers[0].Digest.Encoded())
		if err := errors.Join(os.Remove(path), replace(path)); err != nil {
			t.Fatal(err)
		}
		s := newStore(t)
		if _, err := s.LoadPath(t.Context(), dir, LoadOptions{}); err == nil {
			t.Errorf("%s: loaded", name)
		}
		expectBlobs(t, s)
	}
	s := newStore(t)
	dir := t.TempDir()
	_, err := s.LoadPath(t.Context(), dir, LoadOptions{})
	expectError(t, err, os.ErrNotExist, "load "+dir+": not an OCI image layout: openat oci-layout: no such file or directory")
}

func TestImportTarball(t *testing.T) {
	tree := testimage.Tar(testimage.File{Name: "bin/sh", Body: "#!", Header: tar.Header{Mode: 0o755}})
	for _, compress := range []string{"none", "gzip", "zstd"} {
		blob := testimage.Build(testimage.Options{Layers: [][]byte{tree}, Compress: compress}).Layers[0]
		s := newStore(t)
		img, err := s.Import(t.Context(), ImportRequest{
			Name: "root:1", Tar: iotest.OneByteReader(bytes.NewReader(blob.Data)), Platform: Platform{OS: "linux", Architecture: "aarch64"},
			Config: v1.ImageConfig{Cmd: []string{"/bin/sh"}, Env: []string{"A=b"}}, Comment: "made by a test",
		})
		if err != nil {
			t.Fatal(err)
		}
		if img.Name != "docker.io/library/root:1" || img.Platform().String() != "linux/arm64" || img.Config.Config.Cmd[0] != "/bin/sh" || img.Config.History[0].Comment != "made by a test" {
			t.Errorf("image %+v", img)
		}
		if img.Layers[0].Descriptor.Digest != blob.Digest || img.Layers[0].Descriptor.MediaType != blob.MediaType {
			t.Errorf("%s: layer %+v", compress, img.Layers[0])
		}
		r, err := img.Layers[0].Open(s, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(r); err != nil || !bytes.Equal(data, tree) {
			t.Errorf("%s: %d bytes, %v", compress, len(data), err)
		}
		r.Close()
	}
}

func TestImportRefusesWhatIsNoRootFileSystem(t *testing.T) {
	good := testimage.Tar(testimage.File{Name: "f", Body: "content"})
	for name, c := range map[string]struct {
		data []byte
		want error
		text string
	}{
		"empty":   {nil, ErrInvalid, "import: root file system archive holds no files: invalid image"},
		"no tar":  {bytes.Repeat([]byte("garbage "), 200), ErrInvalid, "import: root file system is not a whole tar archive: invalid image: archive/tar: invalid tar header"},
		"cut off": {good[:515], ErrInvalid, ""},
	} {
		s := newStore(t)
		_, err := s.Import(t.Context(), ImportRequest{Name: "x", Tar: bytes.NewReader(c.data)})
		expectError(t, err, c.want, c.text)
		if t.Failed() {
			t.Log(name)
		}
		expectBlobs(t, s)
		expectList(t, s)
	}
	s := newStore(t)
	_, err := s.Import(t.Context(), ImportRequest{Dir: "/nonexistent"})
	expectError(t, err, os.ErrNotExist, "import: pack /nonexistent: no such file or directory")
	_, err = s.Import(t.Context(), ImportRequest{Name: "BAD", Tar: bytes.NewReader(good)})
	expectError(t, err, ErrReference, "")
	expectBlobs(t, s)
}

// The store can be fed by the tools that people have.
func TestUmociLayoutLoads(t *testing.T) {
	umoci := lookPath(t, "umoci")
	dir := filepath.Join(t.TempDir(), "layout")
	run(t, umoci, "init", "--layout", dir)
	run(t, umoci, "new", "--image", dir+":first")
	run(t, umoci, "config", "--image", dir+":first", "--config.cmd", "sh")
	s := newStore(t)
	loaded, err := s.LoadPath(t.Context(), dir, LoadOptions{Name: "made-by-umoci"})
	if err != nil || len(loaded) != 1 || loaded[0].Name != "docker.io/library/made-by-umoci:first" {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
}

func mkfifo(path string) error { return exec.Command("mkfifo", path).Run() }

// nest makes an image, and so many indexes around it, each of which lists the one below it twice.
func nest(depth int) (*testimage.Image, []testimage.Blob) {
	img := simple("nested")
	below := img.Manifest.Descriptor
	below.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	own := below
	var all []testimage.Blob
	for range depth {
		index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{own, below, below}}
		index.SchemaVersion = 2
		data, err := json.Marshal(index)
		if err != nil {
			panic(err)
		}
		b := testimage.NewBlob(v1.MediaTypeImageIndex, data)
		all, below = append(all, b), b.Descriptor
	}
	return img, all
}

// Indexes that list each other twice have a number of ways through them that doubles with each: they are read once. This
// would otherwise last for ever, and so would all that looks for garbage afterwards. Those that lie too deep are refused.
func TestIndexesInIndexesAreReadOnce(t *testing.T) {
	const deep = 60
	img, indexes := nest(deep)
	layoutOf := func(depth int) map[string][]byte {
		files := testimage.Layout("nested:1", indexes[depth-1], img)
		for _, b := range indexes[:depth] {
			files["blobs/sha256/"+b.Digest.Encoded()] = b.Data
		}
		return files
	}
	for name, load := range map[string]func(*Store, map[string][]byte) ([]Listed, error){
		"directory": func(s *Store, files map[string][]byte) ([]Listed, error) {
			return s.LoadPath(t.Context(), writeTree(t, files), LoadOptions{})
		},
		"archive": func(s *Store, files map[string][]byte) ([]Listed, error) {
			return s.Load(t.Context(), bytes.NewReader(tarOf(files)), LoadOptions{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			if _, err := load(s, layoutOf(deep)); !errors.Is(err, ErrLimit) {
				t.Errorf("%d levels: %v", deep, err)
			}
			expectBlobs(t, s)
			if _, err := load(s, layoutOf(MaxNesting)); err != nil {
				t.Fatal(err)
			}
			if removed := gc(t, s); len(removed.Deleted) != 0 {
				t.Errorf("what the indexes lead to is garbage: %v", removed.Deleted)
			}
		})
	}
	s := newStore(t)
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put(t, lease, append(append(img.Blobs(), img.Manifest), indexes...)...)
	top := indexes[deep-1].Descriptor
	if err := s.Tag(t.Context(), "nested:1", top); err != nil {
		t.Fatal(err)
	}
	lease.Close()
	if removed := gc(t, s); len(removed.Deleted) != 0 {
		t.Errorf("what the indexes lead to is garbage: %v", removed.Deleted)
	}
	if live, err := s.Reach(top); err != nil || len(live) < deep+1 {
		t.Errorf("%d blobs are reached, error %v", len(live), err)
	}
}
