package image

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// CommitRequest describes an image that is another one with a layer more.
type CommitRequest struct {
	Base *Image
	// Name is the new image's; it may be empty.
	Name string
	// Layer writes the layer, as an uncompressed tar archive.
	Layer func(io.Writer) error
	// Config is how to run it.
	Config v1.ImageConfig
	// Author, CreatedBy and Comment are noted.
	Author, CreatedBy, Comment string
	Created                    time.Time // now, if zero
}

// Commit makes and names an image of the layers of another one and a new one. The base stays
// as it is; its blobs are kept by the new image too. If it fails, no name has changed.
func (s *Store) Commit(ctx context.Context, r CommitRequest) (*Image, error) {
	listed, err := s.load(ctx, "commit", LoadOptions{Name: r.Name}, func(lease *Lease) ([]named, error) {
		target, err := lease.commit(ctx, r)
		return []named{{target: target}}, err
	})
	if err != nil {
		return nil, err
	}
	img := listed[0].Images[0]
	img.Name = listed[0].Name
	return img, nil
}

func (l *Lease) commit(ctx context.Context, r CommitRequest) (v1.Descriptor, error) {
	var none v1.Descriptor
	// Somebody may remove the base meanwhile.
	var descriptors []v1.Descriptor
	var digests []digest.Digest
	for _, layer := range r.Base.Layers {
		descriptors = append(descriptors, layer.Descriptor)
		digests = append(digests, layer.Descriptor.Digest)
	}
	if err := l.protect(ctx, digests...); err != nil {
		return none, err
	}
	if err := l.store.layersPresent(r.Base); err != nil {
		return none, err
	}
	layer, err := l.writeLayer(ctx, r.Layer)
	if err != nil {
		return none, err
	}
	config, err := l.putJSON(ctx, v1.MediaTypeImageConfig, r.config(layer.Digest))
	if err != nil {
		return none, err
	}
	return l.putManifest(ctx, config, append(descriptors, layer))
}

// writeLayer stores a layer that is not compressed, so that its digest is its diff id.
func (l *Lease) writeLayer(ctx context.Context, write func(io.Writer) error) (v1.Descriptor, error) {
	w, err := l.IngestNew(ctx)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer w.Close()
	if err := write(w); err != nil {
		return v1.Descriptor{}, err
	}
	if err := w.Commit(ctx); err != nil {
		return v1.Descriptor{}, err
	}
	d := w.Descriptor()
	d.MediaType = v1.MediaTypeImageLayer
	return d, nil
}

// config is the new image's configuration.
func (r CommitRequest) config(diffID digest.Digest) v1.Image {
	created := r.Created
	if created.IsZero() {
		created = time.Now().UTC().Truncate(time.Second)
	}
	c := r.Base.Config
	c.Created, c.Author, c.Config = &created, r.Author, r.Config
	c.RootFS.DiffIDs = append(slices.Clone(c.RootFS.DiffIDs), diffID)
	c.History = append(slices.Clone(c.History), v1.History{Created: &created, Author: r.Author, CreatedBy: r.CreatedBy, Comment: r.Comment})
	return c
}
