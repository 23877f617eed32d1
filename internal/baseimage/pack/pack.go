// Package pack makes the built-in image: an OCI image layout with one manifest for each architecture.
//
// # Theory of operation
//
// Everything that goes in is stated here or handed in as bytes, nothing is taken from the machine that builds: no
// times, no users, no file modes. Root lists the root file system as data; Archive turns it, for each platform, into a
// layer (tar, zstd), a config and a manifest, makes an index of the manifests, and writes all of it as a tar file whose
// first entries tell what the image is. Two runs give the same bytes.
package pack

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/internal/userland"
)

// Platform is the program of the user land, built for one architecture.
type Platform struct {
	Arch   string // as Go and the image spec name it: amd64, arm64
	Binary []byte
}

// epoch is the time of every file and of the image. A real time would make every build another image.
var epoch = time.Unix(0, 0).UTC()

// Archive writes the image to w, under the given name, and returns the digest of its index.
func Archive(w io.Writer, name string, platforms []Platform) (digest.Digest, error) {
	var blobs []blob
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	for _, p := range platforms {
		manifest, parts, err := image(p)
		if err != nil {
			return "", fmt.Errorf("pack %s: %w", p.Arch, err)
		}
		blobs = append(blobs, parts...)
		index.Manifests = append(index.Manifests, manifest)
	}
	whole, err := document(v1.MediaTypeImageIndex, index)
	if err != nil {
		return "", err
	}
	descriptor := whole.descriptor
	descriptor.Annotations = map[string]string{v1.AnnotationRefName: name}
	top, err := json.Marshal(v1.Index{Versioned: index.Versioned, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{descriptor}})
	if err != nil {
		return "", err
	}
	return whole.descriptor.Digest, writeLayout(w, top, append([]blob{whole}, blobs...))
}

// blob is content with its descriptor.
type blob struct {
	descriptor v1.Descriptor
	content    []byte
}

func newBlob(mediaType string, content []byte) blob {
	return blob{v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}, content}
}

func document(mediaType string, value any) (blob, error) {
	content, err := json.Marshal(value)
	return newBlob(mediaType, content), err
}

// image makes the blobs of one platform, and the descriptor of its manifest for the index.
func image(p Platform) (v1.Descriptor, []blob, error) {
	var layer bytes.Buffer
	if err := writeRoot(&layer, Root(p.Binary)); err != nil {
		return v1.Descriptor{}, nil, err
	}
	compressed, err := compress(layer.Bytes())
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	config, err := document(v1.MediaTypeImageConfig, configOf(p.Arch, digest.FromBytes(layer.Bytes())))
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	layerBlob := newBlob(v1.MediaTypeImageLayerZstd, compressed)
	manifest, err := document(v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: config.descriptor, Layers: []v1.Descriptor{layerBlob.descriptor},
	})
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	descriptor := manifest.descriptor
	descriptor.Platform = platformOf(p.Arch)
	return descriptor, []blob{manifest, config, layerBlob}, nil
}

// platformOf adds the variant that runtimes write for an architecture that has variants.
func platformOf(arch string) *v1.Platform {
	platform := &v1.Platform{Architecture: arch, OS: "linux"}
	if arch == "arm64" {
		platform.Variant = "v8"
	}
	return platform
}

func configOf(arch string, diffID digest.Digest) v1.Image {
	return v1.Image{
		Created:  &epoch,
		Platform: *platformOf(arch),
		Config: v1.ImageConfig{
			Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cmd:        []string{"sh"},
			WorkingDir: "/",
		},
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
		History: []v1.History{{Created: &epoch, CreatedBy: "containr's built-in image"}},
	}
}

// compress uses one goroutine, so that the frames do not depend on the machine.
func compress(data []byte) ([]byte, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return encoder.EncodeAll(data, nil), nil
}

// writeLayout writes the layout with the entries first that say what it is. A blob that two platforms share is written
// once.
func writeLayout(w io.Writer, index []byte, blobs []blob) error {
	tw := tar.NewWriter(w)
	add := func(name string, content []byte) error {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: epoch, Format: tar.FormatUSTAR}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, err := tw.Write(content)
		return err
	}
	layout, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return err
	}
	if err := add(v1.ImageLayoutFile, layout); err != nil {
		return err
	}
	if err := add(v1.ImageIndexFile, index); err != nil {
		return err
	}
	written := map[digest.Digest]bool{}
	for _, b := range blobs {
		d := b.descriptor.Digest
		if written[d] {
			continue
		}
		written[d] = true
		if err := add(path.Join(v1.ImageBlobsDir, d.Algorithm().String(), d.Encoded()), b.content); err != nil {
			return err
		}
	}
	return tw.Close()
}

// File is one entry of the root file system: a directory if the name ends with a slash, a symbolic link if it has a
// target, otherwise a regular file.
type File struct {
	Name     string
	Mode     int64
	Owner    int // user and group
	Target   string
	Contents []byte
}

// guest is the user and group id of an ordinary user.
const guest = 1000

// Root lists the root file system, in the order of the layer, with binary as the user land.
func Root(binary []byte) []File {
	files := []File{
		{Name: "bin/", Mode: 0o755},
		{Name: "bin/base", Mode: 0o755, Contents: binary},
	}
	for _, name := range userland.Names() {
		files = append(files, File{Name: "bin/" + name, Target: "base"})
	}
	return append(files,
		File{Name: "dev/", Mode: 0o755},
		File{Name: "etc/", Mode: 0o755},
		File{Name: "etc/group", Mode: 0o644, Contents: lines("root:x:0:", "tty:x:5:", "nogroup:x:65534:", "guest:x:1000:")},
		File{Name: "etc/os-release", Mode: 0o644, Contents: lines(`NAME="containr base"`, "ID=containr-base", `PRETTY_NAME="containr's built-in image"`)},
		File{Name: "etc/passwd", Mode: 0o644, Contents: lines(
			"root:x:0:0:root:/root:/bin/sh",
			"guest:x:1000:1000:guest:/home/guest:/bin/sh",
			"nobody:x:65534:65534:nobody:/:/bin/false",
		)},
		File{Name: "etc/shells", Mode: 0o644, Contents: lines("/bin/sh")},
		File{Name: "home/", Mode: 0o755},
		File{Name: "home/guest/", Mode: 0o755, Owner: guest},
		File{Name: "mnt/", Mode: 0o755},
		File{Name: "proc/", Mode: 0o555},
		File{Name: "root/", Mode: 0o700},
		File{Name: "run/", Mode: 0o755},
		File{Name: "sbin", Target: "bin"},
		File{Name: "sys/", Mode: 0o555},
		File{Name: "tmp/", Mode: 0o1777},
		File{Name: "usr/", Mode: 0o755},
		File{Name: "usr/bin", Target: "../bin"},
		File{Name: "usr/sbin", Target: "../bin"},
		File{Name: "var/", Mode: 0o755},
		File{Name: "var/log/", Mode: 0o755},
		File{Name: "var/run", Target: "../run"},
		File{Name: "var/tmp/", Mode: 0o1777},
	)
}

func lines(all ...string) []byte { return []byte(strings.Join(all, "\n") + "\n") }

// writeRoot writes the files as a layer.
func writeRoot(w io.Writer, files []File) error {
	tw := tar.NewWriter(w)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Mode: f.Mode, Uid: f.Owner, Gid: f.Owner, Size: int64(len(f.Contents)), ModTime: epoch, Format: tar.FormatUSTAR}
		switch {
		case strings.HasSuffix(f.Name, "/"):
			h.Typeflag = tar.TypeDir
		case f.Target != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Target, 0o777
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		if _, err := tw.Write(f.Contents); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return tw.Close()
}
