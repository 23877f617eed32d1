// Package testimage makes small container images in memory, for tests.
//
// # Theory of operation
//
// An image is built from the bottom up: files become a tar stream, the stream a
// layer, the layers a config and a manifest, and manifests an index. Each is a
// Blob, content with its digest, so that a test may change a byte of any of them.
//
// It knows the formats on its own account and imports nothing of what it helps
// to test: what both got wrong would otherwise look right.
package testimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Blob is content with its descriptor.
type Blob struct {
	v1.Descriptor
	Data []byte
}

// NewBlob describes data.
func NewBlob(mediaType string, data []byte) Blob {
	return Blob{v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}, data}
}

// Options says what is in an image. The zero value is an image for linux/amd64
// with one gzip layer that holds the file "hello".
type Options struct {
	Platform v1.Platform
	Layers   [][]byte // tar streams
	Compress string   // "gzip" (default), "zstd" or "none"
	Docker   bool     // docker's media types instead of those of OCI
	Config   v1.ImageConfig
}

// Image is an image for one platform.
type Image struct {
	Manifest Blob
	Config   Blob
	Layers   []Blob
	DiffIDs  []digest.Digest
}

// Blobs returns all blobs of the image but the manifest.
func (i *Image) Blobs() []Blob { return append([]Blob{i.Config}, i.Layers...) }

// Build makes an image. The same options make the same image.
func Build(o Options) *Image {
	if o.Platform.OS == "" {
		o.Platform.OS = "linux"
	}
	if o.Platform.Architecture == "" {
		o.Platform.Architecture = "amd64"
	}
	if o.Layers == nil {
		o.Layers = [][]byte{Tar(File{Name: "hello", Body: "hello, world\n"})}
	}
	types := mediaTypes(o)
	image := &Image{}
	manifest := v1.Manifest{MediaType: types.manifest}
	manifest.SchemaVersion = 2
	for _, layer := range o.Layers {
		blob := NewBlob(types.layer, compress(layer, o.Compress))
		image.Layers = append(image.Layers, blob)
		image.DiffIDs = append(image.DiffIDs, digest.FromBytes(layer))
		manifest.Layers = append(manifest.Layers, blob.Descriptor)
	}
	created := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	image.Config = NewBlob(types.config, encode(v1.Image{
		Created: &created, Platform: o.Platform, Config: o.Config,
		RootFS: v1.RootFS{Type: "layers", DiffIDs: image.DiffIDs},
	}))
	manifest.Config = image.Config.Descriptor
	image.Manifest = NewBlob(types.manifest, encode(manifest))
	image.Manifest.Platform = &o.Platform
	return image
}

type types struct{ manifest, config, layer string }

func mediaTypes(o Options) types {
	if o.Docker {
		const docker = "application/vnd.docker."
		return types{docker + "distribution.manifest.v2+json", docker + "container.image.v1+json", docker + "image.rootfs.diff.tar.gzip"}
	}
	layer := v1.MediaTypeImageLayerGzip
	switch o.Compress {
	case "zstd":
		layer = v1.MediaTypeImageLayerZstd
	case "none":
		layer = v1.MediaTypeImageLayer
	}
	return types{v1.MediaTypeImageManifest, v1.MediaTypeImageConfig, layer}
}

// Index makes an index of images.
func Index(images ...*Image) Blob {
	index := v1.Index{MediaType: v1.MediaTypeImageIndex}
	index.SchemaVersion = 2
	for _, i := range images {
		index.Manifests = append(index.Manifests, i.Manifest.Descriptor)
	}
	return NewBlob(v1.MediaTypeImageIndex, encode(index))
}

// File is an entry of a tar stream: a regular file of mode 0644 unless Header
// says otherwise. Name and Body win over Header.
type File struct {
	Name   string
	Body   string
	Header tar.Header
}

// Tar makes a tar stream.
func Tar(files ...File) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := f.Header
		h.Name, h.Size = f.Name, int64(len(f.Body))
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		must(w.WriteHeader(&h))
		_, err := w.Write([]byte(f.Body))
		must(err)
	}
	must(w.Close())
	return buf.Bytes()
}

// Layout returns the files of an OCI image layout, by name, in which name means
// target.
func Layout(name string, target Blob, images ...*Image) map[string][]byte {
	d := target.Descriptor
	d.Annotations = map[string]string{v1.AnnotationRefName: name}
	index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{d}}
	index.SchemaVersion = 2
	files := map[string][]byte{
		"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"index.json": encode(index),
	}
	blobs := []Blob{target}
	for _, i := range images {
		blobs = append(append(blobs, i.Manifest), i.Blobs()...)
	}
	for _, b := range blobs {
		files[fmt.Sprintf("blobs/%s/%s", b.Digest.Algorithm(), b.Digest.Encoded())] = b.Data
	}
	return files
}

func compress(data []byte, how string) []byte {
	var buf bytes.Buffer
	switch how {
	case "none":
		return data
	case "zstd":
		w, err := zstd.NewWriter(&buf)
		must(err)
		_, err = w.Write(data)
		must(err)
		must(w.Close())
	default:
		w := gzip.NewWriter(&buf)
		_, err := w.Write(data)
		must(err)
		must(w.Close())
	}
	return buf.Bytes()
}

func encode(document any) []byte {
	data, err := json.Marshal(document)
	must(err)
	return data
}

// must stops a test whose input cannot be made.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
