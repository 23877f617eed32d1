// Package baseimage holds the built-in image, so that containr can run something with no registry and no network.
//
// # Theory of operation
//
// The image is made when containr is built, not when it runs: the Makefile builds the user land (package userland) for
// every architecture, cmd/mkbase packs the programs with the few files of a root file system (package
// baseimage/pack), and what comes out, an OCI image layout in a tar file, lies in the directory image when the Go
// compiler embeds it. It is never committed. The packing is reproducible: the same sources and the same Go make the
// same bytes, so that the digest says which built-in image a store has.
//
// A binary that was built by "go build" alone has no image. It says so, with ErrMissing, when somebody asks for it.
package baseimage

import (
	"archive/tar"
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Name is the name that the image has in a store.
const Name = "base:latest"

// FileName is the name that the Makefile gives to the archive in the directory image.
const FileName = "base.oci.tar"

// ErrMissing is returned by a binary that was built without the image.
var ErrMissing = errors.New("this binary was built without the built-in image: run make")

//go:embed image
var files embed.FS

// Archive returns the image: an OCI image layout (image-spec v1.1, "OCI Image Layout Specification") in a tar file that
// is not compressed, with zstd layers in it. The caller must not change the bytes. The error is ErrMissing.
func Archive() ([]byte, error) {
	data, err := files.ReadFile("image/" + FileName)
	if err != nil {
		return nil, ErrMissing
	}
	return data, nil
}

// Digest returns the digest of the image's index, which a store records for Name once it has loaded the archive. It
// reads only the first entries of the archive. Errors are ErrMissing, or say what is wrong with the archive.
func Digest() (digest.Digest, error) {
	f, err := files.Open("image/" + FileName)
	if err != nil {
		return "", ErrMissing
	}
	defer f.Close()
	return indexDigest(f)
}

// indexDigest finds index.json and returns the digest of the only image that it lists.
func indexDigest(r io.Reader) (digest.Digest, error) {
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err != nil {
			return "", fmt.Errorf("find index.json in the built-in image: %w", err)
		}
		if h.Name != v1.ImageIndexFile {
			continue
		}
		var text bytes.Buffer
		var index v1.Index
		if _, err := text.ReadFrom(tr); err != nil {
			return "", fmt.Errorf("read index.json of the built-in image: %w", err)
		}
		if err := json.Unmarshal(text.Bytes(), &index); err != nil {
			return "", fmt.Errorf("parse index.json of the built-in image: %w", err)
		}
		if len(index.Manifests) != 1 {
			return "", fmt.Errorf("the built-in image lists %d images, want 1", len(index.Manifests))
		}
		return index.Manifests[0].Digest, nil
	}
}
