package serve

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/pkg/image"
)

// view is what a registry has, as the names of the store have it at one moment. It does not change,
// but that what is in a repository is found out when somebody asks.
type view struct {
	store *image.Store
	file  fs.FileInfo // of the names that it was made of; nil if there was none
	repos map[string]*repository
	facts *facts
}

// repository is what one repository has.
type repository struct {
	tags map[string]v1.Descriptor // what each tag means
	tops []v1.Descriptor          // what names mean

	once      sync.Once
	manifests map[digest.Digest]v1.Descriptor   // what names mean, and what indexes list
	blobs     map[digest.Digest]bool            // what manifests list
	referrers map[digest.Digest][]v1.Descriptor // by subject, in the order of their digests
}

// views keeps the newest view.
type views struct {
	store  *image.Store
	domain string

	mu  sync.Mutex
	now *view
}

// current returns the view of now.
func (v *views) current() (*view, error) {
	info, err := os.Stat(v.store.NamesFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.now != nil && sameFile(v.now.file, info) {
		return v.now, nil
	}
	// The names may be newer than info says. Then they are read once more the next time.
	names, err := v.store.Names()
	if err != nil {
		return nil, err
	}
	next := &view{store: v.store, file: info, repos: map[string]*repository{}, facts: &facts{}}
	if v.now != nil {
		next.facts = v.now.facts.shrunk(len(names))
	}
	for _, n := range names {
		if name, ok := strings.CutPrefix(n.Name, v.domain+"/"); ok {
			next.add(name, n.Target)
		}
	}
	v.now = next
	return next, nil
}

// sameFile reports whether the file with the names was not replaced: it is never changed in place.
func sameFile(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// add adds NAME:TAG or NAME@DIGEST.
func (v *view) add(name string, target v1.Descriptor) {
	path, tag := name, ""
	if before, _, ok := strings.Cut(name, "@"); ok {
		path = before
	} else if before, after, ok := strings.Cut(name, ":"); ok {
		path, tag = before, after
	}
	r := v.repos[path]
	if r == nil {
		r = &repository{tags: map[string]v1.Descriptor{}}
		v.repos[path] = r
	}
	if tag != "" {
		r.tags[tag] = target
	}
	r.tops = append(r.tops, target)
}

// repository returns what a repository has; nil if nothing has a name in it.
func (v *view) repository(path string) *repository {
	r := v.repos[path]
	if r != nil {
		r.once.Do(func() { r.read(v) })
	}
	return r
}

// read follows the names to all manifests of the repository.
func (r *repository) read(v *view) {
	r.manifests, r.blobs = map[digest.Digest]v1.Descriptor{}, map[digest.Digest]bool{}
	r.referrers = map[digest.Digest][]v1.Descriptor{}
	for todo := slices.Clone(r.tops); len(todo) > 0; {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, seen := r.manifests[d.Digest]; seen {
			continue
		}
		f, err := v.facts.of(v.store, d)
		if err != nil {
			continue // an index may list what is not here: it cannot be had
		}
		r.manifests[d.Digest] = v1.Descriptor{MediaType: f.mediaType, Digest: d.Digest, Size: d.Size}
		for _, b := range f.blobs {
			r.blobs[b.Digest] = true
		}
		if f.subject != "" {
			r.referrers[f.subject] = append(r.referrers[f.subject], f.referrer)
		}
		todo = append(todo, f.children...)
	}
	for _, all := range r.referrers {
		sort.Slice(all, func(i, j int) bool { return all[i].Digest < all[j].Digest })
	}
}

// lists reports whether an index of the repository lists d.
func (r *repository) lists(v *view, d digest.Digest) bool {
	for _, m := range r.manifests {
		f, err := v.facts.of(v.store, m)
		if err == nil && slices.ContainsFunc(f.children, func(c v1.Descriptor) bool { return c.Digest == d }) {
			return true
		}
	}
	return false
}

// fact is what must be known of a manifest or index. It never changes.
type fact struct {
	mediaType string
	children  []v1.Descriptor // manifests that an index lists
	blobs     []v1.Descriptor // what a manifest lists
	subject   digest.Digest   // what it refers to
	referrer  v1.Descriptor   // as a list of referrers has it
}

// readFact takes the facts out of a document. contentType is what it is announced as, and may be empty.
func readFact(data []byte, contentType string, d digest.Digest) (*fact, error) {
	mediaType, err := image.Identify(data, contentType)
	if err != nil {
		return nil, err
	}
	var m struct {
		ArtifactType string            `json:"artifactType"`
		Config       v1.Descriptor     `json:"config"`
		Layers       []v1.Descriptor   `json:"layers"`
		Manifests    []v1.Descriptor   `json:"manifests"`
		Subject      *v1.Descriptor    `json:"subject"`
		Annotations  map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, refuse(400, manifestInvalid, "it is not the document that it says: %v", err)
	}
	f := &fact{mediaType: mediaType}
	if image.IsIndex(mediaType) {
		f.children = m.Manifests
	} else {
		f.blobs = append(m.Layers, m.Config)
		m.ArtifactType = cmp.Or(m.ArtifactType, m.Config.MediaType)
	}
	all := append(slices.Clone(f.blobs), f.children...)
	if m.Subject != nil {
		all = append(all, *m.Subject)
		f.subject = m.Subject.Digest
	}
	for _, b := range all {
		if _, err := image.ParseDigest(b.Digest.String()); err != nil {
			return nil, err
		}
	}
	f.referrer = v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data)), ArtifactType: m.ArtifactType, Annotations: m.Annotations}
	return f, nil
}

// facts remembers what manifests say.
type facts struct {
	mu    sync.Mutex
	known map[digest.Digest]*fact
}

// maxFacts is how many more facts than names are remembered before they are forgotten: manifests come and go.
const maxFacts = 10_000

// shrunk returns the facts for the next view of so many names.
func (f *facts) shrunk(names int) *facts {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.known) > 4*names+maxFacts {
		return &facts{}
	}
	return f
}

// of reads what a manifest says.
func (f *facts) of(store *image.Store, d v1.Descriptor) (*fact, error) {
	f.mu.Lock()
	known := f.known[d.Digest]
	f.mu.Unlock()
	if known != nil {
		return known, nil
	}
	data, err := store.ReadBlob(d, image.MaxManifestSize)
	if err != nil {
		return nil, err
	}
	known, err = readFact(data, d.MediaType, d.Digest)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known == nil {
		f.known = map[digest.Digest]*fact{}
	}
	f.known[d.Digest] = known
	return known, nil
}
