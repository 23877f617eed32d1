package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/docker/go-units"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/internal/processors"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry"
	"github.com/containr/containr/pkg/registry/hosts"
	"github.com/containr/containr/pkg/registry/trust"
)

// RegistryAccess says how a verb may speak with registries. The zero value does as the
// files of configuration say.
type RegistryAccess struct {
	// PlainHTTP speaks without TLS.
	PlainHTTP bool
	// Insecure allows plain HTTP, and certificates that nobody vouches for.
	Insecure bool
	// Credential is who to be, in the place of what a login left.
	Credential *registry.Credential
	// CertDir is a directory of certificates as those in certs.d are, for the registry itself.
	CertDir string
}

// access completes how registries are reached: with the files of configuration, and
// with what the engine was told.
func (e *Engine) access(r RegistryAccess) (registry.Access, error) {
	a := registry.Access{PlainHTTP: r.PlainHTTP, Insecure: r.Insecure, Credential: r.Credential, CertDir: r.CertDir, Offline: e.offline, Waits: e.options.Waits}
	if slog.Default().Enabled(context.Background(), slog.LevelDebug) {
		a.Trace = func(x registry.Exchange) {
			slog.Debug("registry", "method", x.Method, "url", x.URL, "status", x.Status, "took", x.Took, "limits", x.Limits, "error", x.Err)
		}
	}
	var err error
	if a.Hosts, err = hosts.Load(hosts.Usual()); err != nil {
		return a, err
	}
	a.Policy, err = trust.Load(trust.Usual())
	return a, err
}

// PullRequest asks for an image to be fetched from its registry.
type PullRequest struct {
	RegistryAccess
	// Name is the image's reference, completed as docker does.
	Name string
	// Platform is os/arch[/variant]; empty is this machine's.
	Platform string
	// AllPlatforms fetches the images for all platforms. Only one is unpacked.
	AllPlatforms bool
	// Progress, if set, is told how far each layer is, one event at a time.
	Progress func(registry.Progress)

	as    *image.Reference // what it is called here; Name if nil
	lease *image.Lease     // what keeps it in the place of a name
}

// Pull fetches an image and unpacks its layers while they arrive. The built-in image comes out of this binary.
func (e *Engine) Pull(ctx context.Context, r PullRequest) (*image.Image, error) {
	processors.All()
	ref, err := image.ParseReference(r.Name)
	if err != nil {
		return nil, err
	}
	platform, err := parsePlatform(r.Platform)
	if err != nil {
		return nil, err
	}
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	if r.as == nil && isBuiltin(r.Name) {
		return findBuiltin(ctx, images, platform)
	}
	unpacker, err := e.newUnpacker()
	if err != nil {
		return nil, err
	}
	defer unpacker.discard()
	img, err := e.pullInto(ctx, images, ref, platform, r, unpacker.layer)
	if err != nil {
		return nil, err
	}
	e.tellImage(events.Pull, ref.Familiar())
	_, err = unpacker.unpack(ctx, images, img)
	warnOfSpace(images)
	return img, err
}

// fetch brings an image to the store as Pull does, under a lease of the caller's. It is neither named nor unpacked.
func (e *Engine) fetch(ctx context.Context, r PullRequest) (*image.Image, error) {
	ref, err := image.ParseReference(r.Name)
	if err != nil {
		return nil, err
	}
	platform, err := parsePlatform(r.Platform)
	if err != nil {
		return nil, err
	}
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	return e.pullInto(ctx, images, ref, platform, r, nil)
}

// pullInto asks the registry, and hands the layers to layer.
func (e *Engine) pullInto(ctx context.Context, images *image.Store, ref image.Reference, platform image.Platform, r PullRequest,
	layer func(context.Context, image.Layer, io.Reader) error) (*image.Image, error) {
	access, err := e.access(r.RegistryAccess)
	if err != nil {
		return nil, err
	}
	return registry.Pull(ctx, registry.PullRequest{
		Access: access, Ref: ref, Store: images, Platform: platform, AllPlatforms: r.AllPlatforms, Layer: layer, LayerChecks: true, Progress: r.Progress,
		As: r.as, Lease: r.lease,
	})
}

// littleSpace is the part of a disk, in percent, below which there is a warning whenever content came.
const littleSpace = 5

// warnOfSpace says that the disk of the store is nearly full, while there is still room to do something about it.
func warnOfSpace(images *image.Store) {
	free, size, err := images.Space()
	if err == nil && free < size/100*littleSpace {
		slog.Warn("the disk is nearly full", "store", images.Dir(), "free", units.HumanSize(float64(free)), "of", units.HumanSize(float64(size)),
			"hint", "`containr system df` says what is there, `containr system prune` removes what nobody needs")
	}
}

// ExplainPull does of a pull what it takes to know its requests, and writes those as a
// script of curl to w. Those for layers are not made, and nothing is kept.
func (e *Engine) ExplainPull(ctx context.Context, w io.Writer, r PullRequest) error {
	ref, err := image.ParseReference(r.Name)
	if err != nil {
		return err
	}
	platform, err := parsePlatform(r.Platform)
	if err != nil {
		return err
	}
	access, err := e.access(r.RegistryAccess)
	if err != nil {
		return err
	}
	images, err := e.images()
	if err != nil {
		return err
	}
	script := registry.NewCurl(w)
	access.Trace = script.Tell
	_, err = registry.Pull(ctx, registry.PullRequest{Access: access, Ref: ref, Store: images, Platform: platform, Rehearse: true})
	return errors.Join(err, script.Err())
}

// PullTags fetches every tag of a repository, one after another, and calls done after
// each. Those of signatures and other artifacts are left out: skipped is called. Name is without a tag.
func (e *Engine) PullTags(ctx context.Context, r PullRequest, done func(*image.Image) error, skipped func(name string) error) error {
	tags, err := e.ListTags(ctx, TagsRequest{RegistryAccess: r.RegistryAccess, Repository: r.Name})
	if err != nil {
		return err
	}
	if len(tags) == 0 {
		return fmt.Errorf("pull %s: the repository has no tags", r.Name)
	}
	var failures []error
	repository := r.Name
	for _, tag := range tags {
		r.Name = repository + ":" + tag
		img, err := e.Pull(ctx, r)
		if ctx.Err() != nil {
			return err
		}
		switch {
		case err == nil:
			err = done(img)
		case errors.Is(err, image.ErrArtifact):
			err = skipped(r.Name)
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// TagsRequest asks for the tags of a repository.
type TagsRequest struct {
	RegistryAccess
	Repository string // without a tag
	Limit      int    // no more than so many; zero is no bound
}

// errTagged says that a tag is too much.
var errTagged = errors.New("a repository is wanted, without tag or digest")

// parseRepository parses a name without tag and digest.
func parseRepository(name string) (image.Reference, error) {
	ref, err := image.ParseReference(name)
	if err != nil {
		return ref, err
	}
	if bare, err := image.ParseReference(name + ":x"); err != nil || bare.Tag != "x" || ref.Digest != "" {
		return ref, fmt.Errorf("%s: %w: %w", name, errTagged, image.ErrReference)
	}
	return ref, nil
}

// TagsHere lists the names that images of a repository have in the store: at least one.
func (e *Engine) TagsHere(repository string) ([]string, error) {
	ref, err := parseRepository(repository)
	if err != nil {
		return nil, err
	}
	listed, err := e.Images()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range listed {
		if strings.HasPrefix(l.Name, ref.Name()+":") {
			names = append(names, l.Name)
		}
	}
	if names == nil {
		return nil, fmt.Errorf("repository %s: %w", repository, image.ErrNotFound)
	}
	return names, nil
}

// ListTags asks a registry for the tags of a repository.
func (e *Engine) ListTags(ctx context.Context, r TagsRequest) ([]string, error) {
	ref, err := parseRepository(r.Repository)
	if err != nil {
		return nil, err
	}
	access, err := e.access(r.RegistryAccess)
	if err != nil {
		return nil, err
	}
	return registry.Tags(ctx, access, ref, r.Limit)
}

// PushRequest asks for an image to be sent to a registry.
type PushRequest struct {
	RegistryAccess
	// Source is a name or an id in the store; Target the name to push to, the
	// source's if empty.
	Source, Target string
	// Platform is os/arch[/variant], to push one image of several.
	Platform string
	// AllPlatforms insists that all images of an index are pushed.
	AllPlatforms bool
	// Compression compresses the layers anew: gzip, zstd or none, with a Level.
	Compression string
	Level       int
	// ChunkSize is the most that is sent with one request, in bytes; zero is no bound.
	ChunkSize int64
	// Progress, if set, is told how far each blob is, one event at a time.
	Progress func(registry.Progress)

	source *v1.Descriptor // what is pushed, if it may have no name
}

// Pushed is the answer: what the name means now, and what was left out.
type Pushed struct {
	Name    string
	Target  v1.Descriptor
	Omitted []image.Platform
}

// Push sends an image to a registry.
func (e *Engine) Push(ctx context.Context, r PushRequest) (*Pushed, error) {
	if r.Target == "" {
		r.Target = r.Source
	}
	ref, err := image.ParseReference(r.Target)
	if err != nil {
		return nil, err
	}
	compression, err := registry.ParseCompression(r.Compression, r.Level)
	if err != nil {
		return nil, err
	}
	var platform image.Platform
	if r.Platform != "" {
		if platform, err = image.ParsePlatform(r.Platform); err != nil {
			return nil, err
		}
	}
	access, err := e.access(r.RegistryAccess)
	if err != nil {
		return nil, err
	}
	images, err := e.imagesNaming(ctx, r.Source)
	if err != nil {
		return nil, err
	}
	pushed, err := registry.Push(ctx, registry.PushRequest{
		Access: access, Store: images, Source: r.Source, Target: r.source, Ref: ref, Platform: platform, AllPlatforms: r.AllPlatforms,
		Compression: compression, ChunkSize: r.ChunkSize, Progress: r.Progress,
	})
	if compression.Format != "" { // what was compressed anew has no name here
		_, gcErr := images.GC(context.WithoutCancel(ctx))
		err = errors.Join(err, gcErr)
	}
	if err != nil {
		return nil, err
	}
	e.tellImage(events.Push, ref.Familiar())
	return &Pushed{Name: ref.String(), Target: pushed.Target, Omitted: pushed.Omitted}, nil
}
