package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/containr/containr/pkg/image"
)

// maxAllBlobs bounds the blobs of all images of an index together.
const maxAllBlobs = 20_000

// serves reports whether an index, or one in it, has an image for the platform that is asked for. All of its indexes
// are in the store.
func (p *puller) serves(ctx context.Context, target document) bool {
	index, err := image.DecodeIndex(target.data, target.MediaType)
	if err != nil {
		return false
	}
	_, err = image.Select(target.Descriptor, index, "", p.request.Platform, p.openIndex(ctx))
	return err == nil
}

// fetchAll fetches every manifest of an index, and of the indexes in it, with its blobs, whatever they are, but the
// layers of the image for the platform that is asked for: those are unpacked on the way, later.
func (p *puller) fetchAll(ctx context.Context, target document) error {
	index, err := image.DecodeIndex(target.data, target.MediaType)
	if err != nil {
		return fmt.Errorf("registry %s: %w", p.source.name(), err)
	}
	entries, err := image.Members(target.Descriptor, index, p.openIndex(ctx))
	if err != nil {
		return err
	}
	chosen, err := image.Select(target.Descriptor, index, "", p.request.Platform, p.openIndex(ctx))
	if err != nil && !errors.Is(err, image.ErrPlatform) && !errors.Is(err, image.ErrArtifact) { // none is no fault
		return err
	}
	var blobs []v1.Descriptor
	seen := map[digest.Digest]bool{}
	for _, entry := range entries {
		if !image.IsManifest(entry.MediaType) {
			return fmt.Errorf("registry %s: index lists a %q: %w", p.source.name(), printable(entry.MediaType), image.ErrInvalid)
		}
		m, err := p.fetchEntry(ctx, entry)
		if err != nil {
			return err
		}
		if entry.Digest == chosen.Digest && p.request.Layer != nil {
			continue
		}
		for _, b := range blobsOf(m.data) {
			if !seen[b.Digest] && len(b.URLs) == 0 {
				seen[b.Digest] = true
				blobs = append(blobs, b)
			}
		}
	}
	if len(blobs) > maxAllBlobs {
		return fmt.Errorf("registry %s: the images of the index have %d blobs, more than %d: %w", p.source.name(), len(blobs), maxAllBlobs, image.ErrLimit)
	}
	return p.fetchBlobs(ctx, blobs)
}

// blobsOf lists what a manifest leads to: it was identified as one before.
func blobsOf(data []byte) []v1.Descriptor {
	var m struct {
		Config v1.Descriptor   `json:"config"`
		Layers []v1.Descriptor `json:"layers"`
	}
	if json.Unmarshal(data, &m) != nil {
		return nil
	}
	return append(m.Layers, m.Config)
}

// fetchBlobs brings blobs to the store, several at a time.
func (p *puller) fetchBlobs(ctx context.Context, blobs []v1.Descriptor) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrency(p.request.Concurrency))
	for _, d := range blobs {
		p.report(Progress{Layer: d.Digest, Phase: Waiting, Total: d.Size})
		group.Go(func() error {
			if err := p.bring(ctx, image.Layer{Descriptor: d}, false); err != nil {
				return err
			}
			p.report(Progress{Layer: d.Digest, Phase: Done, Done: d.Size, Total: d.Size})
			return nil
		})
	}
	return group.Wait()
}
