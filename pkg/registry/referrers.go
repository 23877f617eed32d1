package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/pkg/image"
)

// Referrers lists what refers to a manifest or index of a repository: signatures, bills of materials and the like. kind, if
// not empty, is the artifact type that is wanted. A registry that does not know referrers is asked for the
// tag under which clients keep the list themselves (distribution-spec, "Referrers Tag Schema").
func Referrers(ctx context.Context, a Access, ref image.Reference, subject digest.Digest, kind string) ([]v1.Descriptor, error) {
	found, err := referrers(ctx, a, ref, subject, kind)
	if err != nil {
		return nil, fmt.Errorf("list referrers of %s@%s: %w", ref.Name(), subject, err)
	}
	return slices.DeleteFunc(found, func(d v1.Descriptor) bool { return kind != "" && d.ArtifactType != kind }), nil
}

func referrers(ctx context.Context, a Access, ref image.Reference, subject digest.Digest, kind string) ([]v1.Descriptor, error) {
	clients, err := a.pullClients(ref, 1)
	if err != nil {
		return nil, err
	}
	c := clients[len(clients)-1] // a mirror may have some only
	defer c.close()
	path := "referrers/" + subject.String()
	if kind != "" {
		path += "?" + url.Values{"artifactType": {kind}}.Encode()
	}
	var found []v1.Descriptor
	err = c.pages(ctx, "referrers of "+subject.String(), c.url(path), func(data []byte) (bool, error) {
		index, err := image.DecodeIndex(data, v1.MediaTypeImageIndex)
		if err != nil {
			return false, err
		}
		found = append(found, index.Manifests...)
		return false, nil
	})
	if errors.Is(err, ErrNotFound) {
		index, err := c.referrersTag(ctx, subject)
		if err != nil || index == nil {
			return nil, err
		}
		return index.Manifests, nil
	}
	return found, err
}

// referrersTag fetches the list that clients keep. It is nil if there is none; what is no index under that tag is an
// error.
func (c *client) referrersTag(ctx context.Context, subject digest.Digest) (*v1.Index, error) {
	got, err := c.fetchManifest(ctx, tagOf(subject), v1.Descriptor{})
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return image.DecodeIndex(got.data, got.MediaType)
}

// tagOf is the tag under which clients keep the list of what refers to a manifest.
func tagOf(subject digest.Digest) string {
	const digits = 64
	encoded := subject.Encoded()
	return subject.Algorithm().String() + "-" + encoded[:min(len(encoded), digits)]
}

// addReferrer adds a manifest to the list that clients keep, for a registry that does not do so itself. Two clients that do it
// at once may lose one of their entries: the specification knows no remedy.
func (c *client) addReferrer(ctx context.Context, subject digest.Digest, n *node) error {
	index, err := c.referrersTag(ctx, subject)
	if err != nil {
		return fmt.Errorf("list of what refers to %s: %w", subject, err)
	}
	if index == nil {
		index = &v1.Index{MediaType: v1.MediaTypeImageIndex}
		index.SchemaVersion = 2
	}
	if slices.ContainsFunc(index.Manifests, func(d v1.Descriptor) bool { return d.Digest == n.Digest }) {
		return nil
	}
	var m v1.Manifest
	if err := json.Unmarshal(n.data, &m); err != nil {
		return fmt.Errorf("manifest %s: %w: %w", n.Digest, image.ErrInvalid, err)
	}
	kind := m.ArtifactType
	if kind == "" {
		kind = m.Config.MediaType
	}
	index.Manifests = append(index.Manifests, v1.Descriptor{
		MediaType: n.MediaType, Digest: n.Digest, Size: n.Size, ArtifactType: kind, Annotations: m.Annotations,
	})
	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	list := &node{Descriptor: v1.Descriptor{MediaType: v1.MediaTypeImageIndex, Digest: digest.FromBytes(data), Size: int64(len(data))}, data: data}
	return c.putManifest(ctx, tagOf(subject), list)
}

// Head returns what a reference means in its registry.
func Head(ctx context.Context, a Access, ref image.Reference) (v1.Descriptor, error) {
	got, err := lookUp(ctx, a, ref)
	return got.Descriptor, err
}

// Document returns the manifest or index that a reference means in its registry, as it is there.
func Document(ctx context.Context, a Access, ref image.Reference) ([]byte, error) {
	got, err := lookUp(ctx, a, ref)
	return got.data, err
}

func lookUp(ctx context.Context, a Access, ref image.Reference) (document, error) {
	clients, err := a.pullClients(ref, 1)
	if err != nil {
		return document{}, fmt.Errorf("look up %s: %w", ref.Familiar(), err)
	}
	from := &source{clients: clients}
	defer from.close()
	selector := ref.Tag
	if ref.Digest != "" {
		selector = ref.Digest.String()
	}
	got, err := from.manifest(ctx, selector, v1.Descriptor{Digest: ref.Digest})
	if err == nil {
		got.MediaType, err = image.Identify(got.data, got.MediaType)
	}
	if err != nil {
		return document{}, fmt.Errorf("look up %s: %w", ref.Familiar(), err)
	}
	return got, nil
}

// PullArtifact fetches the manifest of an artifact with its files, and names it in the store. Of the request, Platform,
// Rehearse and Layer do not matter. An index is refused with image.ErrNotArtifact unless AllPlatforms wants all that it lists. Errors
// are those of Pull.
func PullArtifact(ctx context.Context, r PullRequest) (v1.Descriptor, error) {
	target, err := pullArtifact(ctx, &r)
	if err == nil {
		return target, nil
	}
	if r.Lease == nil && !MayResume(ctx, err) {
		_, gcErr := r.Store.GC(context.WithoutCancel(ctx))
		err = errors.Join(err, gcErr)
	}
	return v1.Descriptor{}, fmt.Errorf("pull %s: %w", r.Ref.Familiar(), err)
}

func pullArtifact(ctx context.Context, r *PullRequest) (v1.Descriptor, error) {
	if err := r.mayAsk(r.Ref); err != nil {
		return v1.Descriptor{}, err
	}
	lease, err := r.lease(ctx)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer r.release(lease)
	clients, err := r.pullClients(r.Ref, concurrency(r.Concurrency))
	if err != nil {
		return v1.Descriptor{}, err
	}
	p := &puller{request: r, source: &source{clients: clients}, lease: lease}
	defer p.source.close()
	target, err := p.fetchTarget(ctx)
	if err != nil {
		return v1.Descriptor{}, err
	}
	if !image.IsManifest(target.MediaType) && !r.AllPlatforms {
		return v1.Descriptor{}, image.ErrNotArtifact
	}
	if err := p.admit(ctx, target.Digest); err != nil {
		return v1.Descriptor{}, err
	}
	if err := p.fetchArtifact(ctx, target); err != nil {
		return v1.Descriptor{}, err
	}
	_, err = r.name(ctx, target.Descriptor)
	return target.Descriptor, err
}

// fetchArtifact fetches what a document leads to.
func (p *puller) fetchArtifact(ctx context.Context, target document) error {
	if image.IsIndex(target.MediaType) {
		return p.fetchAll(ctx, target)
	}
	blobs := blobsOf(target.data)
	if len(blobs) > image.MaxArtifactFiles+1 {
		return fmt.Errorf("registry %s: %d files, more than %d: %w", p.source.name(), len(blobs)-1, image.MaxArtifactFiles, image.ErrLimit)
	}
	if err := p.request.Store.Fits("artifact "+p.request.Ref.Familiar(), blobs...); err != nil {
		return err
	}
	return p.fetchBlobs(ctx, blobs)
}
