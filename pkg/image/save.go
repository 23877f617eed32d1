package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Save writes images to w as one archive: an OCI image layout in a tar file, with
// docker's table of contents in addition, so that "docker load" and [Store.Load]
// read it. Of an index the platforms that are present are saved. The same images
// make the same bytes.
//
// names are names or ids as in Resolve; an image given by id is saved without a
// name. What is being saved may be removed meanwhile: a lease keeps its blobs.
func (s *Store) Save(ctx context.Context, w io.Writer, names ...string) error {
	lease, err := s.Lease(ctx)
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	defer lease.Close()
	p := saver{ctx: ctx, store: s, tar: tar.NewWriter(w), blobs: map[digest.Digest]bool{}}
	for _, name := range names {
		if err := p.add(lease, name); err != nil {
			return fmt.Errorf("save: %w", err)
		}
	}
	if err := p.write(); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

// saver collects what is to be saved, and then writes it.
type saver struct {
	ctx    context.Context
	store  *Store
	tar    *tar.Writer
	index  []v1.Descriptor
	docker []dockerImage
	blobs  map[digest.Digest]bool
}

// add collects an image, and protects it from removal until it is written.
func (p *saver) add(lease *Lease, name string) error {
	entries, err := p.store.find(name)
	if err != nil {
		return err
	}
	if entries.byID {
		if _, err := p.store.choose(entries, name, AnyPlatform); err != nil {
			return err
		}
	}
	target := entries.found[0]
	saved := nameOf(target)
	if entries.byID {
		saved = ""
	}
	images, err := p.store.complete(target)
	if err != nil {
		return err
	}
	blobs := []digest.Digest{target.Digest}
	for _, i := range images {
		blobs = append(blobs, i.ManifestDigest, i.ConfigDigest)
		for _, l := range i.Layers {
			blobs = append(blobs, l.Descriptor.Digest)
		}
	}
	if err := lease.protect(p.ctx, blobs...); err != nil {
		return err
	}
	for _, d := range blobs {
		p.blobs[d] = true
	}
	p.index = append(p.index, withName(target, saved))
	p.docker = append(p.docker, dockerEntry(saved, images[0]))
	return nil
}

// dockerEntry describes an image in docker's table of contents, which knows no
// platforms: it gets the first one.
func dockerEntry(name string, i *Image) dockerImage {
	entry := dockerImage{Config: blobName(i.ConfigDigest), RepoTags: []string{}}
	if ref, err := ParseReference(name); err == nil && ref.Tag != "" {
		entry.RepoTags = append(entry.RepoTags, ref.Familiar())
	}
	for _, l := range i.Layers {
		entry.Layers = append(entry.Layers, blobName(l.Descriptor.Digest))
	}
	return entry
}

// blobName returns the name of a blob in a layout.
func blobName(d digest.Digest) string {
	return path.Join(blobsDir, d.Algorithm().String(), d.Encoded())
}

// write writes the tables of contents and the blobs.
func (p *saver) write() error {
	index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: p.index}
	index.SchemaVersion = 2
	for _, file := range []struct {
		name     string
		document any
	}{{layoutFile, v1.ImageLayout{Version: v1.ImageLayoutVersion}}, {indexFile, index}, {dockerManifestFile, p.docker}} {
		data, err := json.Marshal(file.document)
		if err != nil {
			return err
		}
		if err := p.header(file.name, int64(len(data))); err != nil {
			return err
		}
		if _, err := p.tar.Write(data); err != nil {
			return err
		}
	}
	for _, d := range slices.Sorted(maps.Keys(p.blobs)) {
		if err := p.writeBlob(d); err != nil {
			return err
		}
	}
	return p.tar.Close()
}

// header begins a file. It has no time, owner or other trace of this machine.
func (p *saver) header(name string, size int64) error {
	return p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644})
}

// writeBlob writes a blob. It is verified while it is read, so that damage is not
// carried on.
func (p *saver) writeBlob(d digest.Digest) error {
	f, err := os.Open(p.store.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %s: %w", d, ErrNotFound)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := p.header(blobName(d), info.Size()); err != nil {
		return err
	}
	hash := d.Algorithm().Hash()
	if _, err := io.Copy(io.MultiWriter(p.tar, hash), contextReader{p.ctx, f}); err != nil {
		return fmt.Errorf("blob %s: %w", d, err)
	}
	if got := digest.NewDigest(d.Algorithm(), hash); got != d {
		return &VerifyError{Blob: d, Digest: got, WantSize: info.Size(), Size: info.Size()}
	}
	return nil
}
