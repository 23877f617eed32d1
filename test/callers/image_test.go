package callers

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/internal/baseimage"
)

// imagePath is the environment that the image has for its programs.
const imagePath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// archive writes the built-in image to a file, as an OCI archive, and returns its path.
func archive(t *testing.T) string {
	t.Helper()
	data, err := baseimage.Archive()
	if err != nil {
		t.Skipf("no image to run: %v", err)
	}
	path := filepath.Join(t.TempDir(), "base.tar")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// rootfs writes the file system of the built-in image to a file, as a tar file that is not compressed, for callers
// that do not read OCI archives, and returns its path.
func rootfs(t *testing.T) string {
	t.Helper()
	data, err := baseimage.Archive()
	if err != nil {
		t.Skipf("no image to run: %v", err)
	}
	files := untar(t, data)
	blob := func(d v1.Descriptor) []byte { return files["blobs/sha256/"+d.Digest.Encoded()] }
	var outer, index v1.Index
	decode(t, files["index.json"], &outer)
	decode(t, blob(outer.Manifests[0]), &index)
	for _, d := range index.Manifests {
		if d.Platform.Architecture != runtime.GOARCH {
			continue
		}
		var manifest v1.Manifest
		decode(t, blob(d), &manifest)
		if len(manifest.Layers) != 1 {
			t.Fatalf("the built-in image has %d layers", len(manifest.Layers))
		}
		return unpackLayer(t, blob(manifest.Layers[0]))
	}
	t.Skipf("the built-in image is not for %s", runtime.GOARCH)
	return ""
}

func unpackLayer(t *testing.T, layer []byte) string {
	t.Helper()
	r, err := zstd.NewReader(bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	path := filepath.Join(t.TempDir(), "rootfs.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		t.Fatal(err)
	}
	return path
}

func untar(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err == nil {
			files[strings.TrimPrefix(h.Name, "./")], err = io.ReadAll(r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func decode(t *testing.T, text []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatal(err)
	}
}
