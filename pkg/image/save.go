package image

import (
	"cmp"
	"context"
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

// Format is how images are written to files.
type Format string

const (
	// DockerArchive is a tar file that both docker and the readers of OCI layouts
	// understand: an OCI image layout, and docker's table of contents in addition.
	// It is the default.
	DockerArchive Format = "docker-archive"
	// OCIArchive is an OCI image layout in a tar file.
	OCIArchive Format = "oci-archive"
	// OCIDirectory is an OCI image layout in a directory.
	OCIDirectory Format = "oci-dir"
)

// SaveOptions says how images are written. The zero value writes all platforms that
// are present as a DockerArchive.
type SaveOptions struct {
	Format Format
	// Platform, if not zero, is the only one of which content is written. What a name
	// means stays the same, so that digests do.
	Platform Platform
	// Name, if set, is what the image is called in the archive, in place of its own name;
	// for a single image. It may be a tag alone.
	Name string
	// Target, if set, is saved in the place of names: an index or manifest of the store that may have no name there, but
	// a lease of the caller's. It may be an artifact.
	Target *v1.Descriptor
}

// Save writes images to w as one archive. Of an index the platforms that are present
// are saved, with all their layers. The same images make the same bytes.
//
// names are names or ids as in Resolve; an image given by id is saved without a
// name. What is being saved may be removed meanwhile: a lease keeps its blobs.
func (s *Store) Save(ctx context.Context, w io.Writer, o SaveOptions, names ...string) error {
	if o.Format == OCIDirectory {
		return fmt.Errorf("save: %s is no archive: %w", o.Format, ErrInvalid)
	}
	return s.save(ctx, o, names, func(p *saver) error { return p.writeArchive(w, o.Format != OCIArchive) })
}

// SaveDir writes images to a directory as an OCI image layout. It is made if it does
// not exist; to a layout that is there the images are added, and names that it has
// mean the new ones. A directory with anything else in it is refused (ErrExists).
func (s *Store) SaveDir(ctx context.Context, dir string, o SaveOptions, names ...string) error {
	return s.save(ctx, o, names, func(p *saver) error { return p.writeDir(dir) })
}

func (s *Store) save(ctx context.Context, o SaveOptions, names []string, write func(*saver) error) error {
	lease, err := s.Lease(ctx)
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	defer lease.Close()
	p := saver{ctx: ctx, store: s, options: o, docker: []dockerImage{}, blobs: map[digest.Digest]bool{}}
	if o.Target != nil {
		if err := p.add(lease, o.Name, *o.Target); err != nil {
			return fmt.Errorf("save: %w", err)
		}
	}
	for _, name := range names {
		if err := p.find(lease, name); err != nil {
			return fmt.Errorf("save: %w", err)
		}
	}
	if err := write(&p); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

// saver collects what is to be saved, and then writes it.
type saver struct {
	ctx     context.Context
	store   *Store
	options SaveOptions
	index   []v1.Descriptor
	docker  []dockerImage
	blobs   map[digest.Digest]bool
}

// find collects an image by its name or id.
func (p *saver) find(lease *Lease, name string) error {
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
	return p.add(lease, cmp.Or(p.options.Name, saved), target)
}

// add collects an image, and protects it from removal until it is written.
func (p *saver) add(lease *Lease, name string, target v1.Descriptor) error {
	images, err := p.choose(target)
	if p.options.Target != nil && errors.Is(err, ErrArtifact) {
		return p.addArtifact(lease, name, target)
	}
	if err != nil {
		return err
	}
	inner, err := p.store.indexesIn(target, cmp.Or(p.options.Platform, AnyPlatform))
	if err != nil {
		return err
	}
	blobs := append(inner, target.Digest)
	for _, i := range images {
		blobs = append(blobs, i.ManifestDigest, i.ConfigDigest)
		for _, l := range i.Layers {
			blobs = append(blobs, l.Descriptor.Digest)
		}
	}
	if err := lease.protect(p.ctx, blobs...); err != nil {
		return err
	}
	if _, err := p.choose(target); err != nil {
		return err // removed between the two
	}
	for _, d := range blobs {
		p.blobs[d] = true
	}
	p.index = append(p.index, withLabel(target, name))
	p.docker = append(p.docker, dockerEntry(name, images[0]))
	return nil
}

// addArtifact is add for what is no container image. Docker's table of contents has nothing of it.
func (p *saver) addArtifact(lease *Lease, name string, target v1.Descriptor) error {
	blobs, err := p.store.reachAll(target)
	if err != nil {
		return err
	}
	if err := lease.protect(p.ctx, blobs...); err != nil {
		return err
	}
	if blobs, err = p.store.reachAll(target); err != nil {
		return err // removed between the two
	}
	for _, d := range blobs {
		p.blobs[d] = true
	}
	p.index = append(p.index, withLabel(target, name))
	return nil
}

// choose returns the images of a target that are to be saved, all of their blobs
// being present.
func (p *saver) choose(target v1.Descriptor) ([]*Image, error) {
	if p.options.Platform == (Platform{}) {
		return p.store.complete(target)
	}
	image, err := p.store.ReadImage(nameOf(target), target, p.options.Platform)
	if err != nil {
		return nil, err
	}
	return []*Image{image}, p.store.layersPresent(image)
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

// sorted returns the digests of all blobs to be written.
func (p *saver) sorted() []digest.Digest { return slices.Sorted(maps.Keys(p.blobs)) }

// open opens a blob that is in the store, and returns its size.
func (s *Store) open(d digest.Digest) (*os.File, int64, error) {
	if _, err := ParseDigest(d.String()); err != nil {
		return nil, 0, err
	}
	f, err := os.Open(s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("blob %s: %w", d, ErrNotFound)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// copyBlob copies a blob to a writer that begin returns for its size. It is verified
// while it is read, so that damage is not carried on.
func (s *Store) copyBlob(ctx context.Context, d digest.Digest, begin func(size int64) (io.Writer, error)) error {
	f, size, err := s.open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := begin(size)
	if err != nil {
		return err
	}
	hash := d.Algorithm().Hash()
	if _, err := io.Copy(io.MultiWriter(w, hash), contextReader{ctx, f}); err != nil {
		return fmt.Errorf("blob %s: %w", d, err)
	}
	if got := digest.NewDigest(d.Algorithm(), hash); got != d {
		return &VerifyError{Blob: d, Digest: got, WantSize: size, Size: size}
	}
	return nil
}
