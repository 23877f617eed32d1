package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// layout is an OCI image layout with one image, whose layers are the parts of a root
// file system.
type layout struct {
	dir      string
	manifest v1.Descriptor
	// compressed and plain are the bytes of all layers, as stored and as tar streams.
	compressed, plain int64
}

// blob returns the path of a blob. A digest that is none leads to no file.
func (l *layout) blob(d string) string {
	return filepath.Join(l.dir, "blobs", "sha256", filepath.Base(strings.TrimPrefix(d, "sha256:")))
}

// layerOf says which of three layers a path belongs to: what is shared, the rest of
// /usr, everything else.
func layerOf(name string) int {
	name = strings.TrimPrefix(name, "./")
	switch {
	case strings.HasPrefix(name, "usr/share/"):
		return 2
	case strings.HasPrefix(name, "usr/"):
		return 1
	}
	return 0
}

// content writes the tar stream of one layer, and returns the bytes of the files in it.
type content func(w io.Writer) (size int64, err error)

// debianLayers are the three layers that the root file system in a tar file is packed as, since pulls of real images are
// of several.
func debianLayers(rootfs string) (all []content) {
	for layer := range 3 {
		all = append(all, func(w io.Writer) (int64, error) {
			in, err := os.Open(rootfs)
			if err != nil {
				return 0, err
			}
			defer in.Close()
			return copyPart(w, in, layer)
		})
	}
	return all
}

// makeLayout packs layers as an image.
func makeLayout(dir, tag string, layers []content) (*layout, error) {
	l := &layout{dir: dir}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return nil, err
	}
	manifest := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	config := v1.Image{Platform: v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, RootFS: v1.RootFS{Type: "layers"}}
	for _, layer := range layers {
		d, diffID, err := l.writeLayer(layer)
		if err != nil {
			return nil, err
		}
		manifest.Layers = append(manifest.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
	}
	var err error
	if manifest.Config, err = l.writeJSON(v1.MediaTypeImageConfig, config); err != nil {
		return nil, err
	}
	if l.manifest, err = l.writeJSON(v1.MediaTypeImageManifest, manifest); err != nil {
		return nil, err
	}
	named := l.manifest
	named.Annotations = map[string]string{v1.AnnotationRefName: tag}
	index, err := json.Marshal(v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{named}})
	if err != nil {
		return nil, err
	}
	return l, errors.Join(os.WriteFile(filepath.Join(dir, v1.ImageIndexFile), index, 0o644),
		os.WriteFile(filepath.Join(dir, v1.ImageLayoutFile), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
}

// writeLayer writes a compressed layer.
func (l *layout) writeLayer(layer content) (d v1.Descriptor, diffID digest.Digest, err error) {
	out, err := os.Create(filepath.Join(l.dir, "layer"))
	if err != nil {
		return d, "", err
	}
	defer out.Close()
	stored, plain := digest.Canonical.Digester(), digest.Canonical.Digester()
	zip := gzip.NewWriter(io.MultiWriter(out, stored.Hash()))
	size, err := layer(io.MultiWriter(zip, plain.Hash()))
	if err := errors.Join(err, zip.Close()); err != nil {
		return d, "", err
	}
	info, err := out.Stat()
	if err != nil {
		return d, "", err
	}
	d = v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: stored.Digest(), Size: info.Size()}
	l.compressed, l.plain = l.compressed+d.Size, l.plain+size
	return d, plain.Digest(), os.Rename(out.Name(), l.blob(d.Digest.String()))
}

// withLayer adds an image to the layout: the first one with a further small layer.
func (l *layout) withLayer(tag string) (tagged, error) {
	var manifest v1.Manifest
	var config v1.Image
	if err := l.readJSON(l.manifest, &manifest); err != nil {
		return tagged{}, err
	}
	if err := l.readJSON(manifest.Config, &config); err != nil {
		return tagged{}, err
	}
	d, diffID, err := l.smallLayer()
	if err != nil {
		return tagged{}, err
	}
	manifest.Layers, config.RootFS.DiffIDs = append(manifest.Layers, d), append(config.RootFS.DiffIDs, diffID)
	if manifest.Config, err = l.writeJSON(v1.MediaTypeImageConfig, config); err != nil {
		return tagged{}, err
	}
	changed, err := l.writeJSON(v1.MediaTypeImageManifest, manifest)
	return tagged{tag: tag, manifest: changed}, err
}

// smallLayer writes a layer with one file.
func (l *layout) smallLayer() (d v1.Descriptor, diffID digest.Digest, err error) {
	var plain, stored bytes.Buffer
	out := tar.NewWriter(&plain)
	const text = "changed\n"
	header := &tar.Header{Name: "changed", Mode: 0o644, Size: int64(len(text))}
	zip := gzip.NewWriter(&stored)
	if err := out.WriteHeader(header); err != nil {
		return d, "", err
	}
	_, err = io.WriteString(out, text)
	if err := errors.Join(err, out.Close()); err != nil {
		return d, "", err
	}
	diffID = digest.FromBytes(plain.Bytes())
	_, err = zip.Write(plain.Bytes())
	if err := errors.Join(err, zip.Close()); err != nil {
		return d, "", err
	}
	d = v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: digest.FromBytes(stored.Bytes()), Size: int64(stored.Len())}
	return d, diffID, os.WriteFile(l.blob(d.Digest.String()), stored.Bytes(), 0o644)
}

// copyPart copies the entries of one layer and returns the bytes of the files in it.
func copyPart(w io.Writer, r io.Reader, layer int) (size int64, err error) {
	in, out := tar.NewReader(r), tar.NewWriter(w)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return size, out.Close()
		}
		if err != nil {
			return size, err
		}
		if layerOf(h.Name) != layer {
			continue
		}
		if h.Typeflag == tar.TypeLink && layerOf(h.Linkname) != layer {
			return size, fmt.Errorf("%s is a link to %s in another layer", h.Name, h.Linkname)
		}
		if err := out.WriteHeader(h); err != nil {
			return size, err
		}
		n, err := io.Copy(out, in)
		if err != nil {
			return size, err
		}
		size += n
	}
}

func (l *layout) readJSON(d v1.Descriptor, document any) error {
	text, err := os.ReadFile(l.blob(d.Digest.String()))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, document)
}

func (l *layout) writeJSON(mediaType string, document any) (v1.Descriptor, error) {
	text, err := json.Marshal(document)
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(text), Size: int64(len(text))}
	return d, os.WriteFile(l.blob(d.Digest.String()), text, 0o644)
}
