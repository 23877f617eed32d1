package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// The floor leaves what a pull leaves: the blobs, and files with the content that the archives have.
func TestFloorMakesTheFiles(t *testing.T) {
	l, err := makeLayout(filepath.Join(t.TempDir(), "layout"), tag, madeLayers(2, 120, 6000))
	if err != nil {
		t.Fatal(err)
	}
	var manifest v1.Manifest
	if err := l.readJSON(l.manifest, &manifest); err != nil {
		t.Fatal(err)
	}
	files, err := l.entries(manifest.Layers)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := makeDirs(dir, files); err != nil {
		t.Fatal(err)
	}
	for i, d := range manifest.Layers {
		from, to := l.blob(d.Digest.String()), filepath.Join(dir, "blob")
		if err := floorOfLayer(from, to, dir, files[i]); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if copied, err := os.ReadFile(to); err != nil || !bytes.Equal(copied, data) {
			t.Errorf("the blob is another, error %v", err)
		}
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		in := tar.NewReader(z)
		for n := 0; ; n++ {
			h, err := in.Next()
			if err == io.EOF && n == len(files[i]) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			want, _ := io.ReadAll(in)
			if got, err := os.ReadFile(filepath.Join(dir, h.Name)); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %d bytes, error %v", h.Name, len(got), err)
			}
		}
		// One that ends too soon, or wants what is not there, is an error, and nobody waits for ever.
		if err := os.WriteFile(to+"-half", data[:len(data)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		again := t.TempDir()
		if err := makeDirs(again, files); err != nil {
			t.Fatal(err)
		}
		if err := floorOfLayer(to+"-half", to, again, files[i]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("of half a blob: %v", err)
		}
		if err := floorOfLayer(from, to, again, files[i]); !errors.Is(err, os.ErrExist) {
			t.Errorf("with files in the way: %v", err)
		}
	}
}
