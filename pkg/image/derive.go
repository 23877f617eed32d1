package image

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// DeriveRequest describes an image to be made of another one.
type DeriveRequest struct {
	Name string // of the new image; it may be empty
	Base *Image // must be in the store
	// Layer, if set, writes the tar archive of a layer to be put on top, uncompressed. One
	// without any entry is left out.
	Layer func(io.Writer) error
	// Change, if set, changes how the image is run, and what is known about it.
	Change func(*v1.Image)
	// CreatedBy and Comment go to the history.
	CreatedBy, Comment string
	Created            time.Time // now, if zero
}

// emptyArchive is the digest of a tar archive without entries: two blocks of zeros.
var emptyArchive = digest.FromBytes(make([]byte, 1024))

// Derive makes and names an image of one that is in the store: with one more layer, or
// other configuration, or both. The layer is compressed by gzip; the same archive makes the
// same blob. If it fails, no name has changed and what was stored is collected.
func (s *Store) Derive(ctx context.Context, r DeriveRequest) (*Image, error) {
	listed, err := s.load(ctx, "make image", LoadOptions{Name: r.Name}, func(lease *Lease) ([]named, error) {
		if err := lease.protect(ctx, blobsOf(r.Base)...); err != nil {
			return nil, err
		}
		if err := s.layersPresent(r.Base); err != nil {
			return nil, err
		}
		target, err := lease.derive(ctx, r)
		return []named{{target: target}}, err
	})
	if err != nil {
		return nil, err
	}
	if r.Layer != nil { // one without entries was stored to find that out
		if _, err := s.GC(ctx); err != nil {
			return nil, err
		}
	}
	image := listed[0].Images[0]
	image.Name = listed[0].Name
	return image, nil
}

func (l *Lease) derive(ctx context.Context, r DeriveRequest) (v1.Descriptor, error) {
	none := v1.Descriptor{}
	config, layers := r.Base.Config, slices.Clone(r.Base.Manifest.Layers)
	config.RootFS.DiffIDs = slices.Clone(config.RootFS.DiffIDs)
	for i := range layers {
		layers[i].MediaType = ociLayerType(layers[i].MediaType)
	}
	created := r.Created
	if created.IsZero() {
		created = time.Now().UTC().Truncate(time.Second)
	}
	h := v1.History{Created: &created, CreatedBy: r.CreatedBy, Comment: r.Comment, EmptyLayer: true}
	if r.Layer != nil {
		layer, err := l.addLayer(ctx, r.Layer)
		if err != nil {
			return none, err
		}
		if layer.DiffID != emptyArchive {
			h.EmptyLayer = false
			layers = append(layers, layer.Descriptor)
			config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer.DiffID)
		}
	}
	config.Created = &created
	config.RootFS.Type = "layers"
	config.History = append(slices.Clone(config.History), h)
	if r.Change != nil {
		r.Change(&config)
	}
	configDescriptor, err := l.putJSON(ctx, v1.MediaTypeImageConfig, config)
	if err != nil {
		return none, err
	}
	return l.putManifest(ctx, configDescriptor, layers)
}

// addLayer stores an archive, compressed, and computes its diff id on the way.
func (l *Lease) addLayer(ctx context.Context, write func(io.Writer) error) (Layer, error) {
	w, err := l.IngestNew(ctx)
	if err != nil {
		return Layer{}, err
	}
	defer w.Close()
	z := gzip.NewWriter(w)
	digester := digest.SHA256.Digester()
	if err := write(io.MultiWriter(z, digester.Hash())); err != nil {
		return Layer{}, err
	}
	if err := z.Close(); err != nil {
		return Layer{}, fmt.Errorf("compress layer: %w", err)
	}
	if err := w.Commit(ctx); err != nil {
		return Layer{}, err
	}
	d := w.Descriptor()
	d.MediaType = v1.MediaTypeImageLayerGzip
	return Layer{Descriptor: d, DiffID: digester.Digest()}, nil
}

// ociLayerType is OCI's media type for one of docker's.
func ociLayerType(mediaType string) string {
	switch mediaType {
	case dockerLayerType:
		return v1.MediaTypeImageLayer
	case dockerLayerType + ".gzip":
		return v1.MediaTypeImageLayerGzip
	case dockerLayerType + ".zstd":
		return v1.MediaTypeImageLayerZstd
	}
	return mediaType
}
