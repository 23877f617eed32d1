package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry"
)

// AddArtifactRequest asks for an artifact to be made of files.
type AddArtifactRequest struct {
	Name        string
	Files       []image.ArtifactFile
	Type        string // a media type; image.UnknownArtifact if empty
	Annotations map[string]string
	// Subject, if set, is the image or artifact that it is about: by its name or id in the store.
	Subject string
}

// AddArtifact makes an artifact in the store.
func (e *Engine) AddArtifact(ctx context.Context, r AddArtifactRequest) (*image.Artifact, error) {
	ref, err := image.ParseReference(r.Name)
	if err != nil {
		return nil, err
	}
	images, err := e.imagesNaming(ctx, r.Subject)
	if err != nil {
		return nil, err
	}
	date, err := sourceDate()
	if err != nil {
		return nil, err
	}
	req := image.ArtifactRequest{Name: ref.String(), Files: r.Files, Type: r.Type, Annotations: r.Annotations, Created: date}
	if r.Subject != "" {
		if req.Subject, err = subjectHere(images, r.Subject); err != nil {
			return nil, fmt.Errorf("subject: %w", err)
		}
	}
	a, err := images.AddArtifact(ctx, req)
	if err == nil {
		warnOfSpace(images)
	}
	return a, err
}

// subjectHere is what a name or id of the store means: an index or manifest.
func subjectHere(images *image.Store, name string) (*v1.Descriptor, error) {
	img, err := images.Resolve(name, image.AnyPlatform)
	if errors.Is(err, image.ErrArtifact) {
		a, err := images.Artifact(name)
		if err != nil {
			return nil, err
		}
		return &a.Target, nil
	}
	if err != nil {
		return nil, err
	}
	return &v1.Descriptor{MediaType: img.Target.MediaType, Digest: img.Target.Digest, Size: img.Target.Size}, nil
}

// PullArtifact fetches an artifact from its registry.
func (e *Engine) PullArtifact(ctx context.Context, r PullRequest) (*image.Artifact, error) {
	ref, err := image.ParseReference(r.Name)
	if err != nil {
		return nil, err
	}
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	if _, err := e.fetchArtifact(ctx, images, r); err != nil {
		return nil, err
	}
	warnOfSpace(images)
	e.tellImage(events.Pull, ref.Familiar())
	return images.Artifact(ref.String())
}

// fetchArtifact brings an artifact to the store: with AllPlatforms an index, too.
func (e *Engine) fetchArtifact(ctx context.Context, images *image.Store, r PullRequest) (v1.Descriptor, error) {
	ref, err := image.ParseReference(r.Name)
	if err != nil {
		return v1.Descriptor{}, err
	}
	access, err := e.access(r.RegistryAccess)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return registry.PullArtifact(ctx, registry.PullRequest{
		Access: access, Ref: ref, Store: images, AllPlatforms: r.AllPlatforms, Progress: r.Progress, As: r.as, Lease: r.lease,
	})
}

// Artifacts lists the artifacts of the store.
func (e *Engine) Artifacts() ([]image.Artifact, error) {
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	return images.Artifacts()
}

// Artifact returns an artifact of the store.
func (e *Engine) Artifact(name string) (*image.Artifact, error) {
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	return images.Artifact(name)
}

// ExtractArtifact writes the files of an artifact of the store into a directory, and returns their names.
func (e *Engine) ExtractArtifact(ctx context.Context, name, dir string) ([]string, error) {
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	a, err := images.Artifact(name)
	if err != nil {
		return nil, err
	}
	return images.Extract(ctx, a, dir)
}

// RemoveArtifact takes away the name of an artifact, and with its last one the artifact. What is an image is refused.
func (e *Engine) RemoveArtifact(ctx context.Context, name string) (*image.Removed, error) {
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	a, err := images.Artifact(name)
	if err != nil {
		return nil, err
	}
	return images.Remove(ctx, a.Name, image.RemoveOptions{})
}

// ReferrersRequest asks what refers to an image.
type ReferrersRequest struct {
	RegistryAccess
	Name string
	// Type, if set, is the artifact type that is wanted.
	Type string
	// Here asks the store and no registry.
	Here bool
}

// Referrers lists what refers to an image: as its registry says, or in the store.
func (e *Engine) Referrers(ctx context.Context, r ReferrersRequest) ([]v1.Descriptor, error) {
	if r.Here {
		return e.referrersHere(ctx, r)
	}
	ref, err := image.ParseReference(r.Name)
	if err != nil {
		return nil, err
	}
	access, err := e.access(r.RegistryAccess)
	if err != nil {
		return nil, err
	}
	target, err := registry.Head(ctx, access, ref)
	if err != nil {
		return nil, err
	}
	return registry.Referrers(ctx, access, ref, target.Digest, r.Type)
}

func (e *Engine) referrersHere(ctx context.Context, r ReferrersRequest) ([]v1.Descriptor, error) {
	images, err := e.imagesNaming(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	subject, err := subjectHere(images, r.Name)
	if err != nil {
		return nil, err
	}
	all, err := images.Referrers(subject.Digest)
	if err != nil {
		return nil, err
	}
	var found []v1.Descriptor
	for _, a := range all {
		if r.Type == "" || a.Type() == r.Type {
			d := a.Target
			d.ArtifactType, d.Annotations = a.Type(), a.Manifest.Annotations
			found = append(found, d)
		}
	}
	return found, nil
}

// AttachFileRequest asks for a file to be attached to an image in its registry.
type AttachFileRequest struct {
	RegistryAccess
	Image string
	File  string
	Type  string // the media type of the file and the artifact
}

// AttachFile makes an artifact of one file that refers to an image in its registry, and sends it there. It returns its digest.
func (e *Engine) AttachFile(ctx context.Context, r AttachFileRequest) (_ digest.Digest, err error) {
	ref, err := image.ParseReference(r.Image)
	if err != nil {
		return "", err
	}
	images, err := e.images()
	if err != nil {
		return "", err
	}
	access, err := e.access(r.RegistryAccess)
	if err != nil {
		return "", err
	}
	subject, err := registry.Head(ctx, access, ref)
	if err != nil {
		return "", err
	}
	date, err := sourceDate()
	if err != nil {
		return "", err
	}
	lease, drop, err := passing(ctx, images)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, drop()) }()
	a, err := images.AddArtifact(ctx, image.ArtifactRequest{
		Type: r.Type, Files: []image.ArtifactFile{{Path: r.File, MediaType: r.Type}}, Subject: &subject, Created: date, Lease: lease,
	})
	if err != nil {
		return "", err
	}
	ref.Tag, ref.Digest = "", a.Target.Digest
	_, err = registry.Push(ctx, registry.PushRequest{Access: access, Store: images, Source: r.File, Target: &a.Target, Ref: ref})
	return a.Target.Digest, err
}

// passing returns a lease for what only passes through the store, and what collects that again unless something else needs it.
func passing(ctx context.Context, images *image.Store) (*image.Lease, func() error, error) {
	lease, err := images.Lease(ctx)
	return lease, func() error {
		err := lease.Close()
		_, gcErr := images.GC(context.WithoutCancel(ctx))
		return errors.Join(err, gcErr)
	}, err
}

// ReadAttachedRequest asks for a file that is attached to an image in its registry.
type ReadAttachedRequest struct {
	RegistryAccess
	Image string
	Types []string // those that will do
	Out   io.Writer
}

// AmbiguousError says that several artifacts would do.
type AmbiguousError struct {
	Image string
	Found []v1.Descriptor
}

// Error names how many there are.
func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("image %s has %d of them: %v", e.Image, len(e.Found), image.ErrAmbiguous)
}

// Unwrap makes errors.Is(err, image.ErrAmbiguous) true.
func (e *AmbiguousError) Unwrap() error { return image.ErrAmbiguous }

// ReadAttached writes the one file of the one artifact of these types that refers to an image.
func (e *Engine) ReadAttached(ctx context.Context, r ReadAttachedRequest) (err error) {
	all, err := e.Referrers(ctx, ReferrersRequest{RegistryAccess: r.RegistryAccess, Name: r.Image})
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(d v1.Descriptor) bool { return !slices.Contains(r.Types, d.ArtifactType) })
	switch {
	case len(all) == 0:
		return fmt.Errorf("nothing of the type %v refers to image %s: %w", r.Types, r.Image, image.ErrNotFound)
	case len(all) > 1:
		return &AmbiguousError{r.Image, all}
	}
	ref, err := image.ParseReference(r.Image)
	if err != nil {
		return err
	}
	ref.Tag, ref.Digest = "", all[0].Digest
	images, err := e.images()
	if err != nil {
		return err
	}
	lease, drop, err := passing(ctx, images)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	target, err := e.fetchArtifact(ctx, images, PullRequest{RegistryAccess: r.RegistryAccess, Name: ref.String(), lease: lease})
	if err != nil {
		return err
	}
	a, err := images.ReadArtifact(target)
	if err != nil {
		return err
	}
	if len(a.Manifest.Layers) != 1 {
		return fmt.Errorf("artifact %s has %d files, not one: %w", ref, len(a.Manifest.Layers), image.ErrInvalid)
	}
	return images.WriteBlob(ctx, r.Out, a.Manifest.Layers[0].Digest)
}
