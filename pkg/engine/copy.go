package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry"
)

// Place is where an image is or goes to: one kind of places, and which one.
type Place struct {
	// Kind is one of the constants below.
	Kind string
	// Path is a file or directory, of the kinds that are one.
	Path string
	// Name is the image's: in the store, in the registry, or in the archive or layout, where it may be a tag alone or empty.
	Name string
}

// Kinds of Place, as skopeo calls them, and the store.
const (
	InStore         = "containr"
	InRegistry      = "docker"
	InLayout        = "oci"
	InOCIArchive    = "oci-archive"
	InDockerArchive = "docker-archive"
	InDirectory     = "dir"

	InDockerDaemon      = "docker-daemon"
	InContainersStorage = "containers-storage"
)

// ErrPlace says that a place of images is none that can be reached.
var ErrPlace = errors.New("no place to copy images from or to")

// ParsePlace reads KIND:REST; without a kind it is a name in the store.
func ParsePlace(s string) (Place, error) {
	kind, rest, ok := strings.Cut(s, ":")
	switch {
	case kind == InRegistry && strings.HasPrefix(rest, "//"):
		return Place{Kind: InRegistry, Name: strings.TrimPrefix(rest, "//")}, nil
	case ok && kind == InStore:
		return Place{Kind: InStore, Name: rest}, nil
	case ok && kind == InDirectory:
		return Place{Kind: InDirectory, Path: rest}, checkPath(s, rest)
	case ok && (kind == InLayout || kind == InOCIArchive || kind == InDockerArchive):
		path, name, _ := strings.Cut(rest, ":")
		return Place{Kind: kind, Path: path, Name: name}, checkPath(s, path)
	case ok && (kind == InContainersStorage || kind == InDockerDaemon):
		if rest == "" {
			return Place{}, fmt.Errorf("%s: %w: no name follows the colon", s, ErrPlace)
		}
		return Place{Kind: kind, Name: rest}, nil
	}
	return Place{Kind: InStore, Name: s}, nil
}

func checkPath(s, path string) error {
	if path == "" {
		return fmt.Errorf("%s: %w: no path follows the colon", s, ErrPlace)
	}
	return nil
}

// CopyRequest asks for an image to be copied from one place to another.
type CopyRequest struct {
	RegistryAccess
	From, To Place
	// Source, if set, says how the registry of From is reached, in the place of RegistryAccess.
	Source *RegistryAccess
	// Platform is os/arch[/variant], the only one to be copied; empty is all that are there, of a registry this machine's.
	Platform string
	// AllPlatforms fetches all platforms of a registry.
	AllPlatforms bool
	// Progress, if set, is told how far each blob is.
	Progress func(registry.Progress)
}

// CopyImage copies an image, byte by byte, and returns the digest of what was copied. It goes through the store, from
// which it is gone afterwards unless it was there before; if that is cut off, an image without a name stays until the next
// prune.
func (e *Engine) CopyImage(ctx context.Context, r CopyRequest) (digest.Digest, error) {
	d, cleanUp, err := e.copyImage(ctx, r)
	if err = errors.Join(err, cleanUp(context.WithoutCancel(ctx))); err != nil {
		return "", fmt.Errorf("copy: %w", err)
	}
	return d, nil
}

// copyImage copies an image and leaves it to the caller to remove what is in the store only because of that, also after an error.
func (e *Engine) copyImage(ctx context.Context, r CopyRequest) (digest.Digest, func(context.Context) error, error) {
	nothing := func(context.Context) error { return nil }
	images, err := e.images()
	if err != nil {
		return "", nothing, err
	}
	target, name, cleanUp, err := e.bring(ctx, images, r)
	if err != nil {
		return "", nothing, err
	}
	return target.Digest, cleanUp, e.deliver(ctx, images, r, target, name)
}

// bring gets the image into the store. What it returns to clean up removes what was not there before.
func (e *Engine) bring(ctx context.Context, images *image.Store, r CopyRequest) (v1.Descriptor, string, func(context.Context) error, error) {
	nothing := func(context.Context) error { return nil }
	switch r.From.Kind {
	case InStore:
		img, err := e.InspectImage(ctx, InspectRequest{Name: r.From.Name})
		if err != nil {
			return v1.Descriptor{}, "", nothing, err
		}
		return img.Target, img.Name, nothing, nil
	case InRegistry:
		return e.bringFromRegistry(ctx, images, r)
	}
	o := image.LoadOptions{Anonymous: true, Only: r.From.Name}
	if r.Platform != "" {
		var err error
		if o.Platform, err = image.ParsePlatform(r.Platform); err != nil {
			return v1.Descriptor{}, "", nothing, err
		}
	}
	before, err := images.Targets()
	if err != nil {
		return v1.Descriptor{}, "", nothing, err
	}
	listed, err := fetchFrom(ctx, images, r.From, o)
	if err != nil {
		return v1.Descriptor{}, "", nothing, err
	}
	target := listed[0].Target
	if before[target.Digest] {
		return target, r.From.Name, nothing, nil
	}
	return target, r.From.Name, func(ctx context.Context) error { return images.Forget(ctx, target.Digest) }, nil
}

// bringFromRegistry pulls an image, which gives it its name; the name is given back to whom it was before. It is unpacked only if
// it is to stay.
func (e *Engine) bringFromRegistry(ctx context.Context, images *image.Store, r CopyRequest) (v1.Descriptor, string, func(context.Context) error, error) {
	before, beforeErr := images.Resolve(r.From.Name, image.AnyPlatform)
	access := r.RegistryAccess
	if r.Source != nil {
		access = *r.Source
	}
	pull := e.Pull
	if r.To.Kind != InStore {
		pull = e.fetch
	}
	img, err := pull(ctx, PullRequest{RegistryAccess: access, Name: r.From.Name, Platform: r.Platform, AllPlatforms: r.AllPlatforms, Progress: r.Progress})
	if err != nil {
		return v1.Descriptor{}, "", nil, err
	}
	cleanUp := func(ctx context.Context) error {
		switch {
		case beforeErr != nil:
			_, err := e.RemoveImage(ctx, RemoveImageRequest{Name: img.Name, Force: true})
			return err
		case before.Target.Digest != img.Target.Digest:
			return errors.Join(images.Tag(ctx, before.Name, before.Target), images.Forget(ctx, img.Target.Digest), e.collectSnapshots(ctx))
		}
		return nil
	}
	return img.Target, img.Name, cleanUp, nil
}

// deliver writes an image of the store to where it is to go.
func (e *Engine) deliver(ctx context.Context, images *image.Store, r CopyRequest, target v1.Descriptor, name string) error {
	id := target.Digest.String()
	var platform image.Platform
	if r.Platform != "" {
		var err error
		if platform, err = image.ParsePlatform(r.Platform); err != nil {
			return err
		}
	}
	o := image.SaveOptions{Platform: platform, Name: cmp.Or(r.To.Name, name)}
	switch r.To.Kind {
	case InStore:
		return e.Tag(ctx, TagRequest{Source: id, Target: cmp.Or(r.To.Name, name)})
	case InRegistry:
		_, err := e.Push(ctx, PushRequest{RegistryAccess: r.RegistryAccess, Source: id, Target: r.To.Name, Platform: r.Platform, AllPlatforms: r.AllPlatforms, Progress: r.Progress})
		return err
	case InLayout:
		return images.SaveDir(ctx, r.To.Path, o, id)
	case InDirectory:
		return images.SaveFlat(ctx, r.To.Path, id, platform)
	case InDockerDaemon, InContainersStorage:
		return sendTo(ctx, images, r.To, o, id)
	case InOCIArchive:
		o.Format = image.OCIArchive
	}
	return writeFile(r.To.Path, func(f *os.File) error { return images.Save(ctx, f, o, id) })
}

// writeFile lets write fill a file, which appears complete or not at all.
func writeFile(path string, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".containr-copy-")
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
