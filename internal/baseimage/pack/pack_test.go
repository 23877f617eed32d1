package pack

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

var platforms = []Platform{{"amd64", []byte("program one")}, {"arm64", []byte("program two")}}

func archive(t *testing.T) ([]byte, digest.Digest) {
	t.Helper()
	var out bytes.Buffer
	d, err := Archive(&out, "base:latest", platforms)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), d
}

// entries reads a tar file into its names and contents.
func entries(t *testing.T, r io.Reader) (names []string, headers map[string]*tar.Header, contents map[string][]byte) {
	t.Helper()
	headers, contents = map[string]*tar.Header{}, map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return names, headers, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		headers[h.Name] = h
		if contents[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

func parse[T any](t *testing.T, content []byte) (value T) {
	t.Helper()
	if err := json.Unmarshal(content, &value); err != nil {
		t.Fatalf("%v in %s", err, content)
	}
	return value
}

func TestTwoBuildsAreTheSame(t *testing.T) {
	a, first := archive(t)
	b, second := archive(t)
	if !bytes.Equal(a, b) || first != second {
		t.Errorf("two builds differ: %s and %s", first, second)
	}
}

func TestTheArchiveIsALayoutOfEveryPlatform(t *testing.T) {
	data, want := archive(t)
	names, _, files := entries(t, bytes.NewReader(data))
	if names[0] != v1.ImageLayoutFile || names[1] != v1.ImageIndexFile {
		t.Errorf("the archive begins with %q", names[:2])
	}
	blob := func(d v1.Descriptor) []byte {
		content, ok := files[path.Join("blobs", d.Digest.Algorithm().String(), d.Digest.Encoded())]
		if !ok || int64(len(content)) != d.Size || digest.FromBytes(content) != d.Digest {
			t.Fatalf("no blob as described: %+v", d)
		}
		return content
	}
	top := parse[v1.Index](t, files[v1.ImageIndexFile])
	if len(top.Manifests) != 1 || top.Manifests[0].Digest != want || top.Manifests[0].Annotations[v1.AnnotationRefName] != "base:latest" {
		t.Fatalf("index.json lists %+v", top.Manifests)
	}
	index := parse[v1.Index](t, blob(top.Manifests[0]))
	for i, p := range platforms {
		d := index.Manifests[i]
		if d.Platform.Architecture != p.Arch || d.Platform.OS != "linux" {
			t.Errorf("platform %d is %+v", i, d.Platform)
		}
		manifest := parse[v1.Manifest](t, blob(d))
		config := parse[v1.Image](t, blob(manifest.Config))
		layer := unpack(t, blob(manifest.Layers[0]))
		if config.RootFS.DiffIDs[0] != digest.FromBytes(layer) || config.Architecture != p.Arch || config.Config.Cmd[0] != "sh" {
			t.Errorf("the config of %s is %+v", p.Arch, config)
		}
		_, headers, contents := entries(t, bytes.NewReader(layer))
		if !bytes.Equal(contents["bin/base"], p.Binary) || headers["bin/base"].Mode != 0o755 {
			t.Errorf("%s has another program: %q", p.Arch, contents["bin/base"])
		}
	}
}

func unpack(t *testing.T, compressed []byte) []byte {
	t.Helper()
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	data, err := d.DecodeAll(compressed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestTheRootHasWhatContainersExpect(t *testing.T) {
	files := map[string]File{}
	var order []string
	for _, f := range Root([]byte("program")) {
		files[f.Name] = f
		order = append(order, f.Name)
	}
	for i, name := range order {
		if parent := path.Dir(strings.TrimSuffix(name, "/")); parent != "." && !slices.Contains(order[:i], parent+"/") {
			t.Errorf("%s comes before its directory", name)
		}
	}
	if files["tmp/"].Mode != 0o1777 || files["root/"].Mode != 0o700 || files["home/guest/"].Owner != guest {
		t.Error("a directory has other permissions than it should")
	}
	for _, name := range []string{"dev/", "proc/", "sys/", "run/", "etc/passwd", "etc/group", "etc/os-release", "bin/sh", "bin/["} {
		if _, ok := files[name]; !ok {
			t.Errorf("no %s", name)
		}
	}
	if passwd := string(files["etc/passwd"].Contents); !strings.HasPrefix(passwd, "root:x:0:0:") || !strings.Contains(passwd, "\nguest:x:1000:1000:") {
		t.Errorf("passwd is %q", passwd)
	}
}
