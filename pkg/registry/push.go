package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/containr/containr/pkg/image"
)

// PushRequest says what to push and where. Source, Ref and Store are needed; the zero
// value of everything else is the default.
type PushRequest struct {
	Access
	Store  *image.Store
	Source string          // a name in the store, or an id
	Target *v1.Descriptor  // if set, what is pushed: Source says then only what it is called in errors
	Ref    image.Reference // what the image will be called in its registry

	// Platform chooses one image of an index, which is then pushed alone.
	Platform image.Platform
	// AllPlatforms insists on the whole index. Without either, an index is pushed
	// whole if all of it is in the store, and else one image of it: that for this
	// machine, or the first there is.
	AllPlatforms bool
	// Compression, if set, compresses layers anew. They and the image then have other
	// digests in the registry than in the store; the id stays.
	Compression Compression
	// ChunkSize, in bytes, sends blobs in pieces of at most that size; zero sends
	// each as a whole unless the registry objects.
	ChunkSize int64

	Progress    func(Progress) // one event at a time
	Concurrency int            // blobs at a time, 4 by default
}

// Pushed is what a push did.
type Pushed struct {
	Target v1.Descriptor // what the reference means now
	// Omitted are the platforms of the index that were left out, as they are not in
	// the store and nobody insisted on them.
	Omitted []image.Platform
}

// ErrIncomplete: the store has a part of the image only.
var ErrIncomplete = errors.New("is not complete in the store")

// Push sends an image to a registry: what the registry has not got already, blobs first,
// manifests after what they list, the name last. If it fails the name means what it meant
// before.
//
// The error is an *[Error] if the registry is at fault; it wraps image.ErrNotFound if
// there is no such image, ErrIncomplete if some of it is missing.
func Push(ctx context.Context, r PushRequest) (*Pushed, error) {
	pushed, err := push(ctx, &r)
	if err != nil {
		return nil, fmt.Errorf("push %s: %w", r.Ref.Familiar(), err)
	}
	return pushed, nil
}

// push is the table of contents of pushing.
func push(ctx context.Context, r *PushRequest) (*Pushed, error) {
	lease, err := r.Store.Lease(ctx) // what is sent must not be collected meanwhile
	if err != nil {
		return nil, err
	}
	defer lease.Close()
	tree, omitted, err := chooseTree(r)
	if err != nil {
		return nil, err
	}
	if r.Compression.Format != "" {
		if tree, err = r.Compression.convert(ctx, r.Store, lease, tree); err != nil {
			return nil, err
		}
	}
	c, err := r.pushClient(r.Ref, concurrency(r.Concurrency))
	if err != nil {
		return nil, err
	}
	defer c.close()
	p := &pusher{request: r, client: c, sent: map[*node]bool{}}
	if err := p.pushBlobs(ctx, tree.allBlobs()); err != nil {
		return nil, err
	}
	target, err := p.pushManifests(ctx, tree)
	return &Pushed{Target: target, Omitted: omitted}, err
}

// node is a manifest or an index, and what it leads to.
type node struct {
	v1.Descriptor
	data     []byte
	children []*node         // of an index
	blobs    []v1.Descriptor // of a manifest: configuration and layers
	subject  digest.Digest   // of a manifest: what it refers to; empty if it refers to nothing
}

// readNode reads what a descriptor leads to. missing lists what the store has not got, of
// which an index may lack some and still be of use.
//
// Each document is read once, however many list it, and is the same node then. Indexes may
// lie in each other image.MaxNesting deep.
func readNode(s *image.Store, d v1.Descriptor) (n *node, missing []v1.Descriptor, err error) {
	return (&nodeReader{s, map[digest.Digest]readResult{}}).read(d, 0)
}

// nodeReader remembers what it has read.
type nodeReader struct {
	store *image.Store
	known map[digest.Digest]readResult
}

type readResult struct {
	node    *node
	missing []v1.Descriptor
}

func (r *nodeReader) read(d v1.Descriptor, depth int) (*node, []v1.Descriptor, error) {
	if depth > image.MaxNesting {
		return nil, nil, fmt.Errorf("index %s: more than %d lie in each other: %w", d.Digest, image.MaxNesting, image.ErrLimit)
	}
	if known, ok := r.known[d.Digest]; ok && (known.node == nil || known.node.MediaType == d.MediaType && known.node.Size == d.Size) {
		return known.node, known.missing, nil
	}
	n, missing, err := r.readOnce(d, depth)
	if err == nil {
		r.known[d.Digest] = readResult{n, missing}
	}
	return n, missing, err
}

func (r *nodeReader) readOnce(d v1.Descriptor, depth int) (n *node, missing []v1.Descriptor, err error) {
	s := r.store
	data, err := s.ReadBlob(d, image.MaxManifestSize)
	if errors.Is(err, image.ErrNotFound) {
		return nil, []v1.Descriptor{d}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	n = &node{Descriptor: d, data: data}
	if image.IsIndex(d.MediaType) {
		index, err := image.DecodeIndex(data, d.MediaType)
		if err != nil {
			return nil, nil, err
		}
		for _, entry := range index.Manifests {
			child, lacks, err := r.read(entry, depth+1)
			if err != nil {
				return nil, nil, err
			}
			switch {
			case child != nil && image.IsIndex(entry.MediaType):
				missing = append(missing, lacks...)
			case len(lacks) > 0:
				missing = append(missing, entry)
			}
			n.children = append(n.children, child)
		}
		return n, missing, nil
	}
	var m struct { // also of what is no container image, such as a signature
		Config  v1.Descriptor   `json:"config"`
		Layers  []v1.Descriptor `json:"layers"`
		Subject *v1.Descriptor  `json:"subject"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, nil, fmt.Errorf("manifest %s: %w: %w", d.Digest, image.ErrInvalid, err)
	}
	if m.Subject != nil {
		if n.subject, err = image.ParseDigest(m.Subject.Digest.String()); err != nil {
			return nil, nil, fmt.Errorf("manifest %s: subject: %w", d.Digest, err)
		}
	}
	for _, b := range append(m.Layers, m.Config) {
		switch {
		case s.Has(b):
			n.blobs = append(n.blobs, b)
		case len(b.URLs) == 0: // else it stays where it is (foreign layers of Windows)
			missing = append(missing, b)
		}
	}
	return n, missing, nil
}

// find looks for the manifest with a digest in a tree; nil if it has none.
func (n *node) find(d digest.Digest, visited map[*node]bool) *node {
	if n == nil || visited[n] {
		return nil
	}
	visited[n] = true
	if n.Digest == d {
		return n
	}
	for _, c := range n.children {
		if found := c.find(d, visited); found != nil {
			return found
		}
	}
	return nil
}

// allBlobs lists the blobs of a tree, each once.
func (n *node) allBlobs() []v1.Descriptor {
	var all []v1.Descriptor
	seen, visited := map[digest.Digest]bool{}, map[*node]bool{nil: true}
	var visit func(*node)
	visit = func(n *node) {
		if visited[n] {
			return
		}
		visited[n] = true
		for _, c := range n.children {
			visit(c)
		}
		for _, b := range n.blobs {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				all = append(all, b)
			}
		}
	}
	visit(n)
	return all
}

// chooseTree finds what is pushed.
func chooseTree(r *PushRequest) (tree *node, omitted []image.Platform, err error) {
	platform := r.Platform
	if platform == (image.Platform{}) {
		platform = image.AnyPlatform
	}
	img, err := r.resolve(platform)
	if errors.Is(err, image.ErrArtifact) {
		tree, err = chooseArtifact(r)
		return tree, nil, err
	}
	if err != nil {
		return nil, nil, err
	}
	whole, missing, err := readNode(r.Store, img.Target)
	if err != nil {
		return nil, nil, err
	}
	if r.Platform == (image.Platform{}) && whole != nil && len(missing) == 0 {
		return whole, nil, nil
	}
	if r.AllPlatforms {
		return nil, nil, fmt.Errorf("image %s %w: there is no %s", r.Source, ErrIncomplete, describe(missing))
	}
	d := v1.Descriptor{MediaType: img.Manifest.MediaType, Digest: img.ManifestDigest}
	if c := whole.find(img.ManifestDigest, map[*node]bool{}); c != nil {
		d = c.Descriptor
	}
	if img.Target.Digest == img.ManifestDigest {
		d = img.Target
	}
	one, lacks, err := readNode(r.Store, d)
	if err != nil {
		return nil, nil, err
	}
	if len(lacks) > 0 {
		return nil, nil, fmt.Errorf("image %s %w: there is no %s", r.Source, ErrIncomplete, describe(lacks))
	}
	if r.Platform == (image.Platform{}) {
		omitted = platformsOf(missing)
	}
	return one, omitted, nil
}

// resolve finds the image that is pushed.
func (r *PushRequest) resolve(p image.Platform) (*image.Image, error) {
	if r.Target != nil {
		return r.Store.ReadImage("", *r.Target, p)
	}
	return r.Store.Resolve(r.Source, p)
}

// chooseArtifact reads what is pushed if it is no container image.
func chooseArtifact(r *PushRequest) (*node, error) {
	target := r.Target
	if target == nil {
		a, err := r.Store.Artifact(r.Source)
		if err != nil {
			return nil, err
		}
		target = &a.Target
	}
	n, missing, err := readNode(r.Store, *target)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("artifact %s %w: there is no %s", r.Source, ErrIncomplete, describe(missing))
	}
	return n, err
}

// describe names what is missing, for people.
func describe(missing []v1.Descriptor) string {
	var words []string
	for _, d := range missing {
		switch {
		case d.Platform != nil && d.Platform.OS == "unknown":
			words = append(words, "attestation "+d.Digest.String())
		case d.Platform != nil:
			words = append(words, platformOf(d).String())
		default:
			words = append(words, "blob "+d.Digest.String())
		}
	}
	slices.Sort(words)
	return strings.Join(slices.Compact(words), ", ")
}

// platformOf returns the platform of an entry in its usual spelling.
func platformOf(d v1.Descriptor) image.Platform {
	p := image.Platform{OS: d.Platform.OS, Architecture: d.Platform.Architecture, Variant: d.Platform.Variant}
	if usual, err := image.ParsePlatform(p.String()); err == nil {
		return usual
	}
	return p
}

func platformsOf(entries []v1.Descriptor) []image.Platform {
	var all []image.Platform
	for _, d := range entries {
		if d.Platform != nil && d.Platform.OS != "unknown" {
			all = append(all, platformOf(d))
		}
	}
	return all
}

// pusher is one push.
type pusher struct {
	request *PushRequest
	client  *client
	mounts  map[digest.Digest][]string // repositories of this registry that had a blob
	once    sync.Once
	mu      sync.Mutex // one progress event at a time
	sent    map[*node]bool
}

func (p *pusher) report(e Progress) {
	if p.request.Progress == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.request.Progress(e)
}

// pushBlobs sends the blobs that the registry lacks, several at a time.
func (p *pusher) pushBlobs(ctx context.Context, blobs []v1.Descriptor) error {
	for _, d := range blobs {
		p.report(Progress{Layer: d.Digest, Phase: Waiting, Total: d.Size})
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrency(p.request.Concurrency))
	for _, d := range blobs {
		group.Go(func() error {
			phase, err := p.pushBlob(ctx, d)
			if err == nil {
				p.report(Progress{Layer: d.Digest, Phase: phase, Done: d.Size, Total: d.Size})
			}
			return err
		})
	}
	return group.Wait()
}

// pushBlob brings one blob to the registry in the cheapest way: it is there; it is in
// another repository of it; it is sent.
func (p *pusher) pushBlob(ctx context.Context, d v1.Descriptor) (Phase, error) {
	exists, err := p.client.exists(ctx, "blob "+d.Digest.String(), "blobs/"+d.Digest.String(), nil)
	if err != nil || exists {
		return Exists, err
	}
	u := &upload{client: p.client, store: p.request.Store, blob: d, chunk: p.request.ChunkSize}
	u.report = p.limit(d)
	for _, from := range p.mountsOf(d.Digest) {
		mounted, err := u.mount(ctx, from)
		if mounted {
			return Mounted, nil
		}
		var e *Error
		if err != nil && !errors.As(err, &e) { // what a registry has against it is no matter: the blob is sent
			return 0, err
		}
		if u.location != nil {
			break // it has begun an upload instead
		}
	}
	p.report(Progress{Layer: d.Digest, Phase: Uploading, Total: d.Size})
	return Done, u.run(ctx)
}

// limit returns a function that reports on an upload, though not too often.
func (p *pusher) limit(d v1.Descriptor) func(int64) {
	limited := limitEvents()
	return func(done int64) {
		if limited() {
			p.report(Progress{Layer: d.Digest, Phase: Uploading, Done: done, Total: d.Size})
		}
	}
}

// mountsOf lists the repositories of the registry that have a blob as far as the store's
// names tell. They are looked up only when a blob is missing.
func (p *pusher) mountsOf(d digest.Digest) []string {
	p.once.Do(func() {
		p.mounts = map[digest.Digest][]string{}
		listed, err := p.request.Store.List()
		if err != nil {
			return // what cannot be listed is sent
		}
		for _, l := range listed {
			ref, err := image.ParseReference(l.Name)
			if err != nil || ref.Domain != p.request.Ref.Domain || ref.Path == p.request.Ref.Path {
				continue
			}
			endpoints, err := p.request.Hosts.Endpoints(ref.Domain, ref.Path)
			if err != nil || endpoints[len(endpoints)-1].Host != p.client.registry {
				continue
			}
			p.addMounts(endpoints[len(endpoints)-1].Repository, l.Images)
		}
	})
	return p.mounts[d]
}

// maxMounts bounds how many repositories are asked for one blob.
const maxMounts = 2

func (p *pusher) addMounts(repository string, images []*image.Image) {
	for _, img := range images {
		for _, d := range append([]v1.Descriptor{img.Manifest.Config}, img.Manifest.Layers...) {
			if all := p.mounts[d.Digest]; len(all) < maxMounts && !slices.Contains(all, repository) {
				p.mounts[d.Digest] = append(all, repository)
			}
		}
	}
}

// pushManifests sends the manifests of an index, and then the tree's top under its name.
func (p *pusher) pushManifests(ctx context.Context, tree *node) (v1.Descriptor, error) {
	for _, child := range tree.children {
		if err := p.pushChild(ctx, child); err != nil {
			return v1.Descriptor{}, err
		}
	}
	selector := p.request.Ref.Tag
	if d := p.request.Ref.Digest; d != "" {
		if selector = d.String(); d != tree.Digest {
			return v1.Descriptor{}, fmt.Errorf("the image has digest %s, not the one of its new name: %w", tree.Digest, image.ErrReference)
		}
	}
	target := v1.Descriptor{MediaType: tree.MediaType, Digest: tree.Digest, Size: tree.Size}
	return target, p.client.putManifest(ctx, selector, tree)
}

// pushChild sends a manifest, or a nested index, by its digest, once.
func (p *pusher) pushChild(ctx context.Context, n *node) error {
	if p.sent[n] {
		return nil
	}
	p.sent[n] = true
	for _, child := range n.children {
		if err := p.pushChild(ctx, child); err != nil {
			return err
		}
	}
	selector := n.Digest.String()
	accept := map[string][]string{"Accept": {n.MediaType}}
	exists, err := p.client.exists(ctx, "manifest "+p.client.repository+"@"+selector, "manifests/"+selector, accept)
	if err != nil || exists {
		return err
	}
	return p.client.putManifest(ctx, selector, n)
}
