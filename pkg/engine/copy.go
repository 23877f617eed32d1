package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/pkg/events"
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

// CopyImage copies an image, byte by byte, and returns the digest of what was copied. On its way between two other places it lies
// in the store, without a name and under a lease: what others do there at the same time is not touched, and if the copy is cut off,
// what it has brought is garbage.
func (e *Engine) CopyImage(ctx context.Context, r CopyRequest) (digest.Digest, error) {
	d, drop, err := e.copyImage(ctx, r)
	if err = errors.Join(err, drop(context.WithoutCancel(ctx))); err != nil {
		return "", fmt.Errorf("copy: %w", err)
	}
	return d, nil
}

// copyImage copies an image and leaves it to the caller to drop what is in the store only because of that, also after an error.
func (e *Engine) copyImage(ctx context.Context, r CopyRequest) (digest.Digest, func(context.Context) error, error) {
	nothing := func(context.Context) error { return nil }
	platform, err := r.platform()
	if err != nil {
		return "", nothing, err
	}
	if r.To.Kind == InStore && r.From.Kind == InRegistry {
		d, err := e.pullInStore(ctx, r)
		return d, nothing, err
	}
	images, err := e.images()
	if err != nil {
		return "", nothing, err
	}
	lease, err := images.Lease(ctx)
	if err != nil {
		return "", nothing, err
	}
	drop := func(ctx context.Context) error {
		err := lease.Close()
		_, gcErr := images.GC(ctx)
		return errors.Join(err, gcErr)
	}
	target, name, err := e.bring(ctx, images, lease, r, platform)
	if err != nil {
		if registry.MayResume(ctx, err) { // what has come is there for another attempt
			drop = func(context.Context) error { return lease.Close() }
		}
		return "", drop, err
	}
	if r.From.Kind == InStore {
		drop = func(context.Context) error { return lease.Close() }
	}
	return target.Digest, drop, e.deliver(ctx, images, r, platform, target, name)
}

// platform is the one that is copied; zero if it is not said.
func (r CopyRequest) platform() (image.Platform, error) {
	if r.Platform == "" {
		return image.Platform{}, nil
	}
	return image.ParsePlatform(r.Platform)
}

// pull is how the image is asked for where it comes from a registry.
func (r CopyRequest) pull() PullRequest {
	access := r.RegistryAccess
	if r.Source != nil {
		access = *r.Source
	}
	return PullRequest{RegistryAccess: access, Name: r.From.Name, Platform: r.Platform, AllPlatforms: r.AllPlatforms, Progress: r.Progress}
}

// pullInStore copies from a registry to the store, where the image is to stay: it is unpacked, too.
func (e *Engine) pullInStore(ctx context.Context, r CopyRequest) (digest.Digest, error) {
	as, err := image.ParseReference(cmp.Or(r.To.Name, r.From.Name))
	if err != nil {
		return "", err
	}
	pull := r.pull()
	pull.as = &as
	img, err := e.Pull(ctx, pull)
	if err == nil {
		return img.Target.Digest, nil
	}
	images, imagesErr := e.images()
	if !errors.Is(err, image.ErrArtifact) || imagesErr != nil {
		return "", err
	}
	pull.AllPlatforms = true
	target, err := e.fetchArtifact(ctx, images, pull)
	return target.Digest, err
}

// bring gets the image into the store, where the lease keeps it, and returns what it is called where it comes from.
func (e *Engine) bring(ctx context.Context, images *image.Store, lease *image.Lease, r CopyRequest, p image.Platform) (v1.Descriptor, string, error) {
	switch r.From.Kind {
	case InStore:
		img, err := e.InspectImage(ctx, InspectRequest{Name: r.From.Name})
		if err != nil {
			return v1.Descriptor{}, "", err
		}
		return img.Target, img.Name, nil
	case InRegistry:
		ref, err := image.ParseReference(r.From.Name)
		if err != nil {
			return v1.Descriptor{}, "", err
		}
		pull := r.pull()
		pull.lease = lease
		img, err := e.fetch(ctx, pull)
		if errors.Is(err, image.ErrArtifact) {
			pull.AllPlatforms = r.To.Kind != InDirectory // which holds one manifest
			target, artifactErr := e.fetchArtifact(ctx, images, pull)
			if !errors.Is(artifactErr, image.ErrNotArtifact) {
				return target, ref.String(), artifactErr
			}
		}
		if err != nil {
			return v1.Descriptor{}, "", err
		}
		return img.Target, ref.String(), nil
	}
	listed, err := fetchFrom(ctx, images, r.From, image.LoadOptions{Lease: lease, Only: r.From.Name, Platform: p})
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	return listed[0].Target, r.From.Name, nil
}

// deliver writes an image of the store to where it is to go.
func (e *Engine) deliver(ctx context.Context, images *image.Store, r CopyRequest, p image.Platform, target v1.Descriptor, name string) error {
	target = v1.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size}
	o := image.SaveOptions{Platform: p, Name: cmp.Or(r.To.Name, name), Target: &target}
	switch r.To.Kind {
	case InStore:
		if err := images.Tag(ctx, o.Name, target); err != nil {
			return err
		}
		e.tellImage(events.Tag, nameOr(o.Name, target.Digest), "of", target.Digest.String())
		return nil
	case InRegistry:
		_, err := e.Push(ctx, PushRequest{RegistryAccess: r.RegistryAccess, Source: target.Digest.String(), source: &target, Target: r.To.Name,
			Platform: r.Platform, AllPlatforms: r.AllPlatforms, Progress: r.Progress})
		return err
	case InLayout:
		return images.SaveDir(ctx, r.To.Path, o)
	case InDirectory:
		return images.SaveFlat(ctx, r.To.Path, target, p)
	case InDockerDaemon, InContainersStorage:
		return sendTo(ctx, images, r.To, o)
	case InOCIArchive:
		o.Format = image.OCIArchive
	}
	const mode = 0o600 // an image may hold secrets
	return WriteFile(r.To.Path, mode, func(w io.Writer) error { return images.Save(ctx, w, o) })
}
