package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containr/containr/pkg/image"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// PullRequest says what to pull and how. Ref and Store are needed; the zero value
// of everything else is the default.
type PullRequest struct {
	Ref      image.Reference
	Store    *image.Store
	Platform image.Platform // this machine's, if zero
	// AllPlatforms fetches all of an index, attestations included. Layer is called for
	// the image for Platform only, if there is one.
	AllPlatforms bool

	// As, if set, is what the image is called in the store, in the place of Ref.
	As *image.Reference
	// Lease, if set, keeps what is fetched: it gets no name, and after an error its holder collects what there is.
	Lease *image.Lease

	// Rehearse makes the requests for documents only: those for layers are told to Trace
	// and not sent. Nothing is kept.
	Rehearse bool

	// Layer, if set, is called once for each layer of the image, whether it is
	// downloaded or was in the store; for several layers at once, in any order.
	// r is the uncompressed tar stream, read while it arrives. It ends with io.EOF
	// only if it has the layer's diff id; whoever makes something of the stream
	// must read on to that end. Layer may return early to skip a layer. Its error
	// ends the pull.
	Layer func(ctx context.Context, l image.Layer, r io.Reader) error
	// LayerChecks says that Layer holds the stream against l.DiffID itself: then r ends with io.EOF whatever it is.
	LayerChecks bool

	// Progress, if set, is called as the pull goes on, for one event at a time.
	Progress func(Progress)

	Access

	Concurrency int          // layers at a time, 4 by default
	Limits      image.Limits // for the decompression of layers, if Layer is set
}

const defaultConcurrency = 4

// concurrency fills in the default.
func concurrency(asked int) int {
	if asked > 0 {
		return asked
	}
	return defaultConcurrency
}

// Pull fetches an image, names it in the store by its reference, and returns it.
// It returns when all calls of Layer have. If it fails, the store has no new name;
// what was fetched and verified is kept for another attempt if the fault may be
// temporary or ctx ended, else collected.
//
// What the policy of Access does not allow is refused with an error that wraps trust.ErrPolicy: a name of which it allows
// nothing before anything is asked, else when its signatures are here, and then nothing of it stays.
//
// The error is an *[Error] if the registry is at fault, a *[image.PlatformError]
// if the image is for others, and wraps image.ErrInvalid or image.ErrLimit if its
// documents are unfit.
func Pull(ctx context.Context, r PullRequest) (*image.Image, error) {
	if err := r.mayAsk(r.Ref); err != nil {
		return nil, fmt.Errorf("pull %s: %w", r.Ref.Familiar(), err)
	}
	lease, err := r.lease(ctx)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", r.Ref.Familiar(), err)
	}
	defer r.release(lease)
	clients, err := r.pullClients(r.Ref, concurrency(r.Concurrency))
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", r.Ref.Familiar(), err)
	}
	p := &puller{request: &r, source: &source{clients: clients}, lease: lease}
	defer p.source.close()
	img, err := p.pull(ctx)
	if err == nil && !r.Rehearse {
		return img, nil
	}
	r.release(lease)
	if r.Lease == nil && (!MayResume(ctx, err) || r.Rehearse) {
		_, gcErr := r.Store.GC(context.WithoutCancel(ctx))
		err = errors.Join(err, gcErr)
	}
	if err == nil {
		return img, nil
	}
	return nil, fmt.Errorf("pull %s: %w", r.Ref.Familiar(), err)
}

// lease is that of the request, or a new one.
func (r *PullRequest) lease(ctx context.Context) (*image.Lease, error) {
	if r.Lease != nil {
		return r.Lease, nil
	}
	return r.Store.Lease(ctx)
}

// release ends a lease that is not the caller's.
func (r *PullRequest) release(lease *image.Lease) {
	if r.Lease == nil {
		lease.Close()
	}
}

// name gives what was fetched its name in the store, unless a lease keeps it, and returns the name.
func (r *PullRequest) name(ctx context.Context, target v1.Descriptor) (string, error) {
	if r.Lease != nil {
		return "", nil
	}
	ref := r.Ref
	if r.As != nil {
		ref = *r.As
	}
	return ref.String(), r.Store.Tag(ctx, ref.String(), target)
}

// MayResume reports whether another attempt could go on where a pull that failed has ended: the user ended it, or the
// fault may be gone then. What ended because of another failure is judged by that.
func MayResume(ctx context.Context, err error) bool {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	var e *Error
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &e) && e.Fault.isTransient()
}

// puller is one pull.
type puller struct {
	request *PullRequest
	source  *source
	lease   *image.Lease
	mu      sync.Mutex // one progress event at a time
}

// pull is the table of contents of pulling.
func (p *puller) pull(ctx context.Context) (*image.Image, error) {
	target, err := p.fetchTarget(ctx)
	if err != nil {
		return nil, err
	}
	platform := p.request.Platform
	if p.request.AllPlatforms && image.IsIndex(target.MediaType) {
		if err := p.admit(ctx, target.Digest); err != nil {
			return nil, err
		}
		if err := p.fetchAll(ctx, target); err != nil {
			return nil, err
		}
		if !p.serves(ctx, target) { // none of it is unpacked
			platform = image.AnyPlatform
			p.request.Platform, p.request.Layer = platform, nil
		}
	}
	manifest, err := p.chooseManifest(ctx, target)
	if err != nil {
		return nil, err
	}
	if err := p.admit(ctx, target.Digest, manifest.Digest); err != nil {
		return nil, err
	}
	layers, err := p.fetchConfig(ctx, target, manifest)
	if err != nil {
		return nil, err
	}
	if p.request.Rehearse {
		if err := p.rehearse(ctx, layers); err != nil {
			return nil, err
		}
		return p.request.Store.ReadImage(p.request.Ref.String(), target.Descriptor, platform)
	}
	if err := p.fetchLayers(ctx, layers); err != nil {
		return nil, err
	}
	name, err := p.request.name(ctx, target.Descriptor)
	if err != nil {
		return nil, err
	}
	return p.request.Store.ReadImage(name, target.Descriptor, platform)
}

// fetchTarget fetches what the reference means: a manifest or an index.
func (p *puller) fetchTarget(ctx context.Context) (document, error) {
	ref := p.request.Ref
	selector := ref.Tag
	if ref.Digest != "" {
		selector = ref.Digest.String()
	}
	if known, err := p.unchanged(ctx, selector); err != nil || known != nil {
		if err != nil {
			return document{}, err
		}
		return p.keep(ctx, *known)
	}
	ctx = because(ctx, fmt.Sprintf("What %s means: an index of images for several platforms, or the manifest of one.", ref.Familiar()))
	target, err := p.source.manifest(ctx, selector, v1.Descriptor{Digest: ref.Digest})
	if err != nil {
		return document{}, err
	}
	return p.keep(ctx, target)
}

// unchanged returns what the reference meant when it was pulled before, if it is here and means the same still; else nil. To ask that
// is free: registries that let through so much in a time count what is fetched, not HEAD.
func (p *puller) unchanged(ctx context.Context, selector string) (*document, error) {
	was, ok := p.request.Store.Meant(p.request.Ref)
	if !ok || p.request.Rehearse {
		return nil, nil
	}
	data, err := p.request.Store.ReadBlob(was, image.MaxManifestSize)
	if err != nil {
		return nil, nil // it is fetched anew
	}
	now, err := p.source.digest(because(ctx, fmt.Sprintf("Whether %s still means what is here.", p.request.Ref.Familiar())), selector)
	var fault *Error
	switch {
	case errors.As(err, &fault) && fault.retry:
		return nil, err
	case err != nil && !errors.As(err, &fault):
		return nil, err
	case err != nil || now != was.Digest: // one that does not know HEAD, or refuses it, says more to GET
		return nil, nil
	}
	return &document{Descriptor: was, data: data}, nil
}

// keep stores a document, after finding out what it is.
func (p *puller) keep(ctx context.Context, d document) (document, error) {
	mediaType, err := image.Identify(d.data, d.MediaType)
	if err != nil {
		return document{}, fmt.Errorf("registry %s: %w", p.source.name(), err)
	}
	d.MediaType = mediaType
	return d, p.lease.Put(ctx, d.Descriptor, d.data)
}

// chooseManifest returns the manifest for the platform: the target itself, or the
// best one of an index.
func (p *puller) chooseManifest(ctx context.Context, target document) (document, error) {
	if !image.IsIndex(target.MediaType) {
		return target, nil
	}
	index, err := image.DecodeIndex(target.data, target.MediaType)
	if err != nil {
		return document{}, fmt.Errorf("registry %s: %w", p.source.name(), err)
	}
	d, err := image.Select(target.Descriptor, index, p.request.Ref.Familiar(), p.request.Platform, p.openIndex(ctx))
	if err != nil {
		return document{}, err
	}
	return p.fetchEntry(ctx, d)
}

// openIndex is how indexes in an index are read: fetched, unless the store has them.
func (p *puller) openIndex(ctx context.Context) image.OpenIndex {
	return image.OpenedBy(func(d v1.Descriptor) ([]byte, error) {
		inner, err := p.fetchEntry(ctx, d)
		return inner.data, err
	})
}

// fetchEntry fetches a manifest or index that an index lists, unless the store has it.
func (p *puller) fetchEntry(ctx context.Context, d v1.Descriptor) (document, error) {
	if d.Size > image.MaxManifestSize {
		return document{}, fmt.Errorf("registry %s: manifest of %d bytes, more than %d: %w", p.source.name(), d.Size, image.MaxManifestSize, image.ErrLimit)
	}
	if data, err := p.request.Store.ReadBlob(d, image.MaxManifestSize); err == nil {
		return p.keep(ctx, document{Descriptor: d, data: data})
	}
	why := "A manifest that the index lists: the configuration and the layers of one image."
	switch {
	case image.IsIndex(d.MediaType):
		why = "An index that the index lists: it may have the image for this platform, or a better one."
	case d.Platform != nil:
		why = fmt.Sprintf("The manifest of the image for %s, as the index lists it.", platformOf(d))
	}
	manifest, err := p.source.manifest(because(ctx, why), d.Digest.String(), d)
	if err != nil {
		return document{}, err
	}
	if _, err := image.Identify(manifest.data, d.MediaType); err != nil {
		return document{}, fmt.Errorf("registry %s: %w", p.source.name(), err)
	}
	manifest.MediaType = d.MediaType
	return p.keep(ctx, manifest)
}

// fetchConfig fetches the configuration, checks that it is for the platform, and
// returns the layers with their diff ids.
func (p *puller) fetchConfig(ctx context.Context, target, m document) ([]image.Layer, error) {
	manifest, err := image.DecodeManifest(m.data, m.MediaType)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", p.source.name(), err)
	}
	data, err := p.request.Store.ReadBlob(manifest.Config, image.MaxConfigSize)
	if err != nil {
		config, err := p.source.document(because(ctx, "Its configuration: how to run it, and what each layer is uncompressed."), manifest.Config)
		if err != nil {
			return nil, err
		}
		data = config.data
	}
	if err := p.lease.Put(ctx, manifest.Config, data); err != nil {
		return nil, err
	}
	img, err := p.request.Store.ReadImage(p.request.Ref.String(), target.Descriptor, p.request.Platform)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", p.source.name(), err)
	}
	return img.Layers, nil
}

// fetchLayers fetches all layers, and has them unpacked. The error is that of the
// layer that failed first.
func (p *puller) fetchLayers(ctx context.Context, layers []image.Layer) error {
	var blobs []v1.Descriptor
	for _, l := range layers {
		blobs = append(blobs, l.Descriptor)
	}
	if err := p.request.Store.Fits("image "+p.request.Ref.Familiar(), blobs...); err != nil {
		return err
	}
	for _, l := range layers {
		p.report(Progress{Layer: l.Descriptor.Digest, Phase: Waiting, Total: l.Descriptor.Size})
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrency(p.request.Concurrency))
	for _, l := range layers {
		group.Go(func() error {
			if err := p.fetchLayer(because(ctx, "A layer."), l); err != nil {
				return err
			}
			p.report(Progress{Layer: l.Descriptor.Digest, Phase: Done, Done: l.Descriptor.Size, Total: l.Descriptor.Size})
			return nil
		})
	}
	return group.Wait()
}

// fetchLayer brings one layer to the store and to the caller's function.
func (p *puller) fetchLayer(ctx context.Context, l image.Layer) error {
	return p.bring(ctx, l, p.request.Layer != nil)
}

// bring brings a blob to the store, and, as a layer, to the caller's function. If bytes
// from several hands together have the wrong digest, nobody knows whose are to blame: all
// of them are asked anew, of the registry itself.
func (p *puller) bring(ctx context.Context, l image.Layer, unpack bool) error {
	err := p.bringOnce(ctx, l, unpack, p.source)
	var mixed *mixedError
	if errors.As(err, &mixed) {
		return p.bringOnce(ctx, l, unpack, p.source.registryAlone())
	}
	return err
}

func (p *puller) bringOnce(ctx context.Context, l image.Layer, unpack bool, from *source) error {
	d := l.Descriptor
	w, err := p.lease.Resume(ctx, d)
	if errors.Is(err, image.ErrExists) {
		p.report(Progress{Layer: d.Digest, Phase: Exists, Done: d.Size, Total: d.Size})
		if !unpack {
			return nil
		}
		return p.unpackStored(ctx, l)
	}
	if err != nil {
		return err
	}
	defer w.Close()
	if unpack {
		return p.downloadAndUnpack(ctx, l, w, from)
	}
	err = p.download(ctx, d, w, from)
	abandon(ctx, w, err)
	return err
}

// abandon ends a blob that did not come to its end. What there is of it is kept if
// another attempt may complete it.
func abandon(ctx context.Context, w *image.Writer, err error) {
	switch {
	case err == nil:
	case MayResume(ctx, err):
		w.Suspend(err)
	default:
		w.Fail(err)
	}
}

// unpackStored hands a layer that is in the store to the caller's function.
func (p *puller) unpackStored(ctx context.Context, l image.Layer) error {
	f, err := p.request.Store.OpenBlob(l.Descriptor)
	if err != nil {
		return err
	}
	return p.unpack(ctx, l, f)
}

// downloadAndUnpack does both at once. The download goes at its own pace into the
// file that the unpacking follows, so that neither waits for the other for long.
func (p *puller) downloadAndUnpack(ctx context.Context, l image.Layer, w *image.Writer, from *source) error {
	blob, err := w.Follow()
	if err != nil {
		return err
	}
	// If either fails the other must not go on: unpacking sees the failure at the
	// end of the blob, the download at the end of its context.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	unpacked := make(chan error, 1)
	go func() {
		err := p.unpack(ctx, l, blob)
		if err != nil {
			cancel(err)
		}
		unpacked <- err
	}()
	err = p.download(ctx, l.Descriptor, w, from)
	abandon(ctx, w, err)
	unpackErr := <-unpacked
	if err != nil && !(unpackErr != nil && errors.Is(err, context.Canceled)) {
		return err
	}
	return unpackErr
}

// unpack hands the tar stream in blob to the caller's function, and closes blob.
func (p *puller) unpack(ctx context.Context, l image.Layer, blob io.ReadCloser) error {
	open := func() (io.ReadCloser, error) { return image.NewLayerReader(blob, l.DiffID, p.request.Limits) }
	if p.request.LayerChecks {
		open = func() (io.ReadCloser, error) { return image.NewUncheckedLayerReader(blob, p.request.Limits) }
	}
	r, err := open()
	if err != nil {
		blob.Close()
		return err
	}
	defer r.Close()
	if err := p.request.Layer(ctx, l, r); err != nil {
		return fmt.Errorf("layer %s: %w", l.Descriptor.Digest, err)
	}
	return nil
}

// download fetches a layer and reports on it.
func (p *puller) download(ctx context.Context, d v1.Descriptor, w *image.Writer, from *source) error {
	event := Progress{Layer: d.Digest, Phase: Downloading, Total: d.Size}
	p.report(event)
	due := limitEvents()
	err := from.blob(ctx, d, w, func(done int64) {
		if due() {
			event.Done = done
			p.report(event)
		}
	})
	if err == nil {
		p.report(Progress{Layer: d.Digest, Phase: Downloaded, Done: d.Size, Total: d.Size})
	}
	return err
}

func (p *puller) report(e Progress) {
	if p.request.Progress == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.request.Progress(e)
}
