package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry"
	"github.com/containr/containr/pkg/snapshot"
)

// SaveRequest asks for images to be written to an archive or a directory.
type SaveRequest struct {
	// Names are references or ids.
	Names []string
	// Out takes the archive; with the format image.OCIDirectory it is not used.
	Out io.Writer
	// Dir is the directory for image.OCIDirectory.
	Dir string
	// Format is image.DockerArchive if empty.
	Format image.Format
	// Platform is os/arch[/variant]; empty is all that are here.
	Platform string
}

// Save writes images.
func (e *Engine) Save(ctx context.Context, r SaveRequest) error {
	images, err := e.imagesNaming(ctx, r.Names...)
	if err != nil {
		return err
	}
	o := image.SaveOptions{Format: r.Format}
	if r.Platform != "" {
		if o.Platform, err = image.ParsePlatform(r.Platform); err != nil {
			return err
		}
	}
	if r.Format == image.OCIDirectory {
		err = images.SaveDir(ctx, r.Dir, o, r.Names...)
	} else {
		err = images.Save(ctx, r.Out, o, r.Names...)
	}
	if err != nil {
		return err
	}
	for _, name := range r.Names {
		e.tellImage(events.Save, name)
	}
	return nil
}

// UntagRequest asks for names of an image to be taken away; the image stays.
type UntagRequest struct {
	// Image is a reference or an id.
	Image string
	// Names are those to go; none are all that it has.
	Names []string
}

// Untag takes away names, and returns them.
func (e *Engine) Untag(ctx context.Context, r UntagRequest) ([]string, error) {
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	gone, err := images.Untag(ctx, r.Image, r.Names...)
	for _, name := range gone {
		e.tellImage(events.Untag, nameOr(name, ""))
	}
	return gone, err
}

// PruneImagesRequest asks for images that nobody needs to be removed.
type PruneImagesRequest struct {
	// Doomed says which images may go, of those that no container was made of.
	Doomed func(image.Listed) bool
}

// PruneImages removes images, and what no image or container needs.
func (e *Engine) PruneImages(ctx context.Context, r PruneImagesRequest) (*image.Removed, error) {
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	if err := e.recover(ctx); err != nil {
		return nil, err
	}
	inUse, err := e.imageInUse()
	if err != nil {
		return nil, err
	}
	removed, err := images.Prune(ctx, image.PruneOptions{Doomed: r.Doomed, InUse: inUse})
	if err != nil {
		return nil, err
	}
	e.write(events.Event{Type: events.Image, Action: events.Prune, Attributes: events.Attributes("reclaimed", strconv.FormatInt(removed.Freed, 10))})
	return removed, e.collectSnapshots(ctx)
}

// imageInUse returns a predicate that objects to the removal of an image that a container was made of, or that is
// mounted.
func (e *Engine) imageInUse() (func(*image.Image) error, error) {
	used, err := e.usedImages()
	if err != nil {
		return nil, err
	}
	mounted, err := e.MountedImages()
	if err != nil {
		return nil, err
	}
	return func(img *image.Image) error {
		if name, ok := used[img.ConfigDigest.String()]; ok {
			return fmt.Errorf("container %s was made of it", name)
		}
		for _, m := range mounted {
			if m.ID == img.ConfigDigest {
				return fmt.Errorf("it is mounted at %s", m.Dir)
			}
		}
		return nil
	}, nil
}

// NamesOfImage lists the names by which an image is known.
func (e *Engine) NamesOfImage(img *image.Image) ([]string, error) {
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	return images.NamesOf(img.Target.Digest)
}

// DocumentRequest asks for a document of an image, byte by byte as it is stored.
type DocumentRequest struct {
	InspectRequest
	Kind DocumentKind
}

// DocumentKind is one of the documents of an image.
type DocumentKind int

const (
	TargetDocument   DocumentKind = iota // what the name means: an index, or a manifest
	ManifestDocument                     // the manifest for the platform
	ConfigDocument                       // the configuration for the platform
)

// ImageDocument returns a document of an image.
func (e *Engine) ImageDocument(ctx context.Context, r DocumentRequest) ([]byte, error) {
	img, err := e.InspectImage(ctx, r.InspectRequest)
	if err != nil {
		return nil, err
	}
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	d := img.Target
	switch r.Kind {
	case ManifestDocument:
		d.Digest = img.ManifestDigest
	case ConfigDocument:
		d = img.Manifest.Config
	}
	return images.ReadDocument(d.Digest)
}

// RemoteDocumentRequest asks for the manifest or index that a name means in its registry.
type RemoteDocumentRequest struct {
	RegistryAccess
	Name string
}

// RemoteDocument returns it byte by byte as it is there. Nothing of it is kept.
func (e *Engine) RemoteDocument(ctx context.Context, r RemoteDocumentRequest) ([]byte, error) {
	ref, err := image.ParseReference(r.Name)
	if err != nil {
		return nil, err
	}
	access, err := e.access(r.RegistryAccess)
	if err != nil {
		return nil, err
	}
	return registry.Document(ctx, access, ref)
}

// DiffImagesRequest asks in what files two images differ.
type DiffImagesRequest struct{ Before, After InspectRequest }

// DiffImages compares the trees of two images, which are unpacked if they are not yet.
func (e *Engine) DiffImages(ctx context.Context, r DiffImagesRequest) ([]snapshot.Change, error) {
	snapshots, before, err := e.unpackNamed(ctx, r.Before)
	if err != nil {
		return nil, err
	}
	_, after, err := e.unpackNamed(ctx, r.After)
	if err != nil {
		return nil, err
	}
	return snapshots.Compare(ctx, before, after)
}

// unpackNamed unpacks an image of the store.
func (e *Engine) unpackNamed(ctx context.Context, r InspectRequest) (*snapshot.Store, snapshot.ChainID, error) {
	img, err := e.InspectImage(ctx, r)
	if err != nil {
		return nil, "", err
	}
	images, err := e.images()
	if err != nil {
		return nil, "", err
	}
	snapshots, err := e.snapshots()
	if err != nil {
		return nil, "", err
	}
	chain, err := e.unpackStored(ctx, snapshots, images, img)
	return snapshots, chain, err
}

// ExportImageRequest asks for the root file system of an image as a tar archive.
type ExportImageRequest struct {
	InspectRequest
	Out io.Writer
}

// ExportImage writes the tree of an image.
func (e *Engine) ExportImage(ctx context.Context, r ExportImageRequest) error {
	snapshots, chain, err := e.unpackNamed(ctx, r.InspectRequest)
	if err != nil {
		return err
	}
	return snapshots.Export(ctx, r.Out, chain, "", snapshot.ArchiveOptions{})
}

// ImageExists reports whether an image is in the store.
func (e *Engine) ImageExists(ctx context.Context, r InspectRequest) (bool, error) {
	_, err := e.InspectImage(ctx, r)
	if errors.Is(err, image.ErrNotFound) || errors.Is(err, image.ErrPlatform) {
		return false, nil
	}
	return err == nil, err
}
