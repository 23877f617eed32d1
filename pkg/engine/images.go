package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry"
)

// parsePlatform reads a platform; empty is this machine's.
func parsePlatform(s string) (image.Platform, error) {
	if s == "" {
		return image.Default(), nil
	}
	return image.ParsePlatform(s)
}

// Images lists the images in the store.
func (e *Engine) Images() ([]image.Listed, error) {
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	return images.List()
}

// InspectRequest asks for what is known about an image.
type InspectRequest struct {
	// Name is a reference, an id or the beginning of an id.
	Name string
	// Platform is os/arch[/variant]; empty takes this machine's if there is
	// one, else any.
	Platform string
}

// InspectImage returns an image of the store.
func (e *Engine) InspectImage(ctx context.Context, r InspectRequest) (*image.Image, error) {
	images, err := e.imagesNaming(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	platform := image.AnyPlatform
	if r.Platform != "" {
		if platform, err = image.ParsePlatform(r.Platform); err != nil {
			return nil, err
		}
	}
	return images.Resolve(r.Name, platform)
}

// RemoveImageRequest asks for an image's name, and with the last name the image,
// to be removed.
type RemoveImageRequest struct {
	Name string
	// Force removes an image that was given by id though it has several
	// names, and one that containers were made of.
	Force bool
	// KeepContent leaves what nothing needs any more for later, as for a pull of the
	// same image.
	KeepContent bool
	// Platform, if set, is all of the image that is removed: os/arch[/variant].
	Platform string
}

// RemoveImage removes an image, and the snapshots that no other image needs. An
// image that a container was made of is kept unless forced.
func (e *Engine) RemoveImage(ctx context.Context, r RemoveImageRequest) (*image.Removed, error) {
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	if err := e.recover(ctx); err != nil {
		return nil, err
	}
	o := image.RemoveOptions{Force: r.Force, KeepContent: r.KeepContent}
	if !r.Force {
		if o.InUse, err = e.imageInUse(); err != nil {
			return nil, err
		}
	}
	if r.Platform != "" {
		platform, err := image.ParsePlatform(r.Platform)
		if err != nil {
			return nil, err
		}
		removed, err := images.RemovePlatform(ctx, r.Name, platform, o.InUse)
		if err != nil {
			return nil, err
		}
		return removed, e.collectSnapshots(ctx)
	}
	removed, err := images.Remove(ctx, r.Name, o)
	if err != nil {
		return nil, err
	}
	for _, name := range removed.Untagged {
		e.tellImage(events.Untag, nameOr(name, ""))
	}
	if len(removed.Deleted) > 0 {
		e.tellImage(events.Delete, r.Name)
	}
	if r.KeepContent {
		return removed, nil
	}
	return removed, e.collectSnapshots(ctx)
}

// usedImages maps the ids of images to the name of a container made of it.
func (e *Engine) usedImages() (map[string]string, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	records, err := containers.List()
	used := map[string]string{}
	for _, r := range records {
		used[r.ConfigDigest] = r.Name
	}
	return used, err
}

// LoadRequest asks for images to be taken in from an archive or a layout.
type LoadRequest struct {
	// Path is an archive or the directory of an OCI layout; empty reads In.
	Path string
	In   io.Reader
	// Name is given to an image that comes without one.
	Name string
	// Platform is os/arch[/variant], the only one to be taken in; empty is all.
	Platform string
}

// Load takes in images.
func (e *Engine) Load(ctx context.Context, r LoadRequest) ([]image.Listed, error) {
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	o := image.LoadOptions{Name: r.Name}
	var loaded []image.Listed
	if r.Platform != "" {
		if o.Platform, err = image.ParsePlatform(r.Platform); err != nil {
			return nil, err
		}
	}
	if r.Path == "" {
		loaded, err = images.Load(ctx, r.In, o)
	} else {
		loaded, err = images.LoadPath(ctx, r.Path, o)
	}
	for _, l := range loaded {
		e.tellImage(events.Load, nameOr(l.Name, l.Target.Digest))
	}
	warnOfSpace(images)
	return loaded, err
}

// nameOr is how an event calls an image: by its name, in the short form, or by its digest.
func nameOr(name string, d digest.Digest) string {
	if ref, err := image.ParseReference(name); name != "" && err == nil {
		return ref.Familiar()
	}
	return d.String()
}

// ImportRequest asks for an image to be made of a root file system.
type ImportRequest struct {
	// Path is a tar archive, its URL (http or https), or a directory; empty reads In.
	Path string
	In   io.Reader
	// Name is the new image's; it may be empty.
	Name string
	// Platform is what the programs in it run on; empty is this machine's.
	Platform string
	// Comment goes to the image's history.
	Comment string
	// Config is how to run it.
	Config v1.ImageConfig
}

// Import makes an image of one layer.
func (e *Engine) Import(ctx context.Context, r ImportRequest) (*image.Image, error) {
	platform, err := parsePlatform(r.Platform)
	if err != nil {
		return nil, err
	}
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	date, err := sourceDate()
	if err != nil {
		return nil, err
	}
	req := image.ImportRequest{Name: r.Name, Tar: r.In, Platform: platform, Config: r.Config, Comment: r.Comment, Created: date, Latest: date}
	if isURL(r.Path) {
		body, err := e.download(ctx, r.Path)
		if err != nil {
			return nil, err
		}
		defer body.Close()
		req.Tar = body
	} else if r.Path != "" {
		file, err := os.Open(r.Path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return nil, err
		}
		req.Tar = file
		if info.IsDir() {
			req.Tar, req.Dir = nil, r.Path
		}
	}
	img, err := images.Import(ctx, req)
	if err == nil {
		warnOfSpace(images)
		e.tellImage(events.Import, nameOr(img.Name, img.ConfigDigest))
	}
	return img, err
}

func isURL(s string) bool { return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") }

// downloadPatience is how long the beginning of an answer is waited for.
const downloadPatience = 30 * time.Second

// download begins to fetch a file from elsewhere.
func (e *Engine) download(ctx context.Context, address string) (io.ReadCloser, error) {
	if e.offline {
		return nil, fmt.Errorf("download: %w", registry.ErrOffline)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("download: %w", err)
	}
	address = req.URL.Redacted() // it may have a password
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = downloadPatience
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("download: %w", err) // which has no password either
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("download %s: the server answers %s", address, resp.Status)
	}
	return resp.Body, nil
}

// TagRequest asks for a further name of an image.
type TagRequest struct {
	// Source is a reference or an id; Target the new name.
	Source, Target string
}

// Tag gives an image a further name. An image that had it loses it.
func (e *Engine) Tag(ctx context.Context, r TagRequest) error {
	images, err := e.imagesNaming(ctx, r.Source)
	if err != nil {
		return err
	}
	img, err := images.Resolve(r.Source, image.AnyPlatform)
	if err != nil {
		return err
	}
	if err := images.Tag(ctx, r.Target, img.Target); err != nil {
		return err
	}
	e.tellImage(events.Tag, nameOr(r.Target, ""), "of", nameOr(img.Name, img.ConfigDigest))
	return nil
}

// errPullNever says why an image that is not there was not fetched.
var errPullNever = errors.New("and --pull never forbids to fetch it")

// findImage returns the image of a Config: from the store, from this binary, or
// from a registry, as the pull policy says.
func (e *Engine) findImage(ctx context.Context, c container.Config, progress func(registry.Progress)) (*image.Image, error) {
	platform, err := parsePlatform(c.Platform)
	if err != nil {
		return nil, err
	}
	images, err := e.images()
	if err != nil {
		return nil, err
	}
	if isBuiltin(c.Image) {
		return findBuiltin(ctx, images, platform)
	}
	if c.Pull != container.PullAlways {
		img, err := images.Resolve(c.Image, platform)
		if !errors.Is(err, image.ErrNotFound) && !errors.Is(err, image.ErrPlatform) {
			return img, err
		}
		if c.Pull == container.PullNever {
			return nil, fmt.Errorf("%w, %w", err, errPullNever)
		}
	}
	return e.Pull(ctx, PullRequest{Name: c.Image, Platform: c.Platform, Progress: progress})
}

// Flush flushes the file system of the unpacked layers, so that they are trusted after the next boot too and need not be unpacked
// again, and returns how many had not been flushed. It takes as long as the disk needs for all that waits to be written.
func (e *Engine) Flush(ctx context.Context) (int, error) {
	snapshots, err := e.snapshots()
	if err != nil {
		return 0, err
	}
	return snapshots.Sync(ctx)
}

// knownDiffIDs lists the layers that are unpacked in some chain.
func (e *Engine) knownDiffIDs() ([]digest.Digest, error) {
	snapshots, err := e.snapshots()
	if err != nil {
		return nil, err
	}
	infos, err := snapshots.List()
	var ids []digest.Digest
	for _, i := range infos {
		ids = append(ids, i.DiffID)
	}
	slices.Sort(ids)
	return ids, err
}
