package image

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// LoadOptions says how images are taken in from files.
type LoadOptions struct {
	// Name is for an image that has none where it comes from. What comes with a
	// tag alone, as umoci and skopeo write it, becomes a tag of this name.
	Name string
	// Platform, if not zero, is the only one that is taken in; an image that lacks it is
	// refused (ErrPlatform). What the store has of other platforms stays.
	Platform Platform
	// Lease, if set, is what keeps the image or artifact, a single one: it gets no name, and after an error its holder collects
	// what was stored.
	Lease *Lease
	// Only, if set, is what the one image that is wanted is called where it comes from.
	Only string
	// Limits bounds the decompression of the archive as a whole.
	Limits Limits

	instead *digest.Digest // what a name must have meant, if anything: else errOvertaken
}

// LoadPath loads images from an OCI image layout, if path is a directory, or from
// an archive, see [Store.Load].
func (s *Store) LoadPath(ctx context.Context, path string, o LoadOptions) ([]Listed, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return s.loadLayout(ctx, path, o)
	}
	return s.loadArchive(ctx, "load "+path, f, o)
}

// Load reads an archive to its end and stores the images in it: an OCI image
// layout in a tar file, or what "docker save" writes, either of them compressed
// by gzip, zstd, xz or bzip2 or not. It returns the names that were given, and the images
// loaded without a name. If it fails, no name has changed, and what was stored is
// collected.
//
// The archive is read once from front to back, so it may come from a pipe.
// Errors wrap ErrInvalid, ErrCorrupt, ErrLimit, ErrNotFound for a part that is
// missing, or those of r.
func (s *Store) Load(ctx context.Context, r io.Reader, o LoadOptions) ([]Listed, error) {
	return s.loadArchive(ctx, "load", r, o)
}

// loadArchive is Load; what is what errors begin with.
func (s *Store) loadArchive(ctx context.Context, what string, r io.Reader, o LoadOptions) ([]Listed, error) {
	return s.load(ctx, what, o, func(lease *Lease) ([]named, error) {
		uncompressed, err := newArchiveReader(contextReader{ctx, r}, o.Limits)
		if err != nil {
			return nil, err
		}
		defer uncompressed.Close()
		a := archive{lease: lease, documents: map[string][]byte{}, files: map[string]v1.Descriptor{}, links: map[string]string{}}
		if err := a.read(ctx, tar.NewReader(uncompressed)); err != nil {
			return nil, err
		}
		return a.images(ctx)
	})
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// named is an image to be named: target, and what its source calls it.
type named struct {
	name   string // as written in the source; may be empty or a tag alone
	target v1.Descriptor
}

// load lets fetch bring blobs into the store, and then names the images. Errors
// begin with what.
func (s *Store) load(ctx context.Context, what string, o LoadOptions, fetch func(*Lease) ([]named, error)) ([]Listed, error) {
	if o.Lease != nil {
		loaded, err := s.loadUnder(ctx, o.Lease, o, fetch)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		return loaded, nil
	}
	lease, err := s.Lease(ctx)
	if err != nil {
		return nil, err
	}
	defer lease.Close()
	loaded, err := s.loadUnder(ctx, lease, o, fetch)
	if err == nil && o.Platform != (Platform{}) {
		lease.Close()
		if _, err := s.GC(ctx); err != nil {
			return nil, err
		}
	}
	if err != nil {
		lease.Close()
		_, gcErr := s.GC(context.WithoutCancel(ctx))
		return nil, errors.Join(fmt.Errorf("%s: %w", what, err), gcErr)
	}
	return loaded, nil
}

func (s *Store) loadUnder(ctx context.Context, lease *Lease, o LoadOptions, fetch func(*Lease) ([]named, error)) ([]Listed, error) {
	images, err := fetch(lease)
	if err != nil {
		return nil, err
	}
	if o.Lease != nil || o.Only != "" {
		if images, err = pick(images, o.Only); err != nil {
			return nil, err
		}
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("there is no image in it: %w", ErrInvalid)
	}
	var loaded []Listed
	for _, i := range images {
		present, err := s.loadedImages(ctx, lease, i, o)
		if err != nil {
			return nil, err
		}
		name := ""
		if o.Lease == nil {
			if name, err = chooseName(i.name, o.Name, len(images)); err != nil {
				return nil, err
			}
		}
		loaded = append(loaded, Listed{Name: name, Target: i.target, Images: present})
	}
	if o.Lease != nil {
		return loaded, nil
	}
	for _, l := range loaded { // all are checked: now none fails halfway
		if err := s.tag(ctx, l.Name, l.Target, o.instead); err != nil {
			return nil, err
		}
	}
	return loaded, nil
}

// loadedImages returns the images of a target that was taken in. Of platforms that are not
// wanted the manifests are removed, if they have just come and nobody else works with them: what they lead to is garbage then.
func (s *Store) loadedImages(ctx context.Context, lease *Lease, i named, o LoadOptions) ([]*Image, error) {
	if o.Platform == (Platform{}) {
		images, err := s.complete(i.target)
		if o.Lease != nil && errors.Is(err, ErrArtifact) {
			_, err = s.reachAll(i.target)
		}
		return images, err
	}
	wanted, err := s.ReadImage(i.name, i.target, o.Platform)
	if err != nil {
		return nil, err
	}
	if err := s.layersPresent(wanted); err != nil {
		return nil, err
	}
	present, err := s.present(i.name, i.target)
	if err != nil {
		return nil, err
	}
	var unwanted []digest.Digest
	for _, other := range present {
		if _, added := lease.added.Load(other.ManifestDigest); added && other.ManifestDigest != wanted.ManifestDigest {
			unwanted = append(unwanted, other.ManifestDigest)
		}
	}
	return []*Image{wanted}, lease.dropAdded(ctx, unwanted)
}

// complete returns the images of a target that are present, which must be one at
// least, with all their layers.
func (s *Store) complete(target v1.Descriptor) ([]*Image, error) {
	images, err := s.present("", target)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", target.Digest, err)
	}
	for _, i := range images {
		if err := s.layersPresent(i); err != nil {
			return nil, err
		}
	}
	return images, nil
}

// layersPresent checks that the layers of an image are there, by their sizes.
func (s *Store) layersPresent(i *Image) error {
	for n, l := range i.Layers {
		f, err := s.OpenBlob(l.Descriptor)
		if err != nil {
			return fmt.Errorf("image %s: layer %d: %w", i.Target.Digest, n+1, err)
		}
		f.Close()
	}
	return nil
}

// chooseName completes the name that a source gives an image, by the name that
// the user gave where it is needed. The result may be empty.
func chooseName(given, fallback string, images int) (string, error) {
	switch {
	case strings.ContainsAny(given, "/:@"):
	case given != "" && fallback != "":
		ref, err := ParseReference(fallback)
		if err != nil {
			return "", err
		}
		given = ref.Name() + ":" + given
	case images == 1:
		given = fallback
	default:
		return "", nil
	}
	if given == "" {
		return "", nil
	}
	ref, err := ParseReference(given)
	return ref.String(), err
}

// loadLayout copies the images of an OCI image layout. It stays within the
// directory, whatever links there are.
func (s *Store) loadLayout(ctx context.Context, dir string, o LoadOptions) ([]Listed, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return s.load(ctx, "load "+dir, o, func(lease *Lease) ([]named, error) {
		l := layout{lease: lease, root: root, copied: map[content]bool{}}
		return l.copy(ctx)
	})
}

// layout is an OCI image layout in somebody else's directory.
type layout struct {
	lease  *Lease
	root   *os.Root
	copied map[content]bool
}

// content is what tells blobs apart: their digest, and what is said of them.
type content struct {
	digest    digest.Digest
	size      int64
	mediaType string
}

func (l *layout) copy(ctx context.Context) ([]named, error) {
	if l.isFlat() {
		return l.copyFlat(ctx)
	}
	data, err := l.readFile(layoutFile, MaxManifestSize)
	if err != nil {
		return nil, fmt.Errorf("not an OCI image layout: %w", err)
	}
	if err := checkLayout(data); err != nil {
		return nil, err
	}
	if data, err = l.readFile(indexFile, MaxStoreIndex); err != nil {
		return nil, err
	}
	images, err := layoutImages(data)
	if err != nil {
		return nil, err
	}
	var todo []v1.Descriptor
	for _, i := range images {
		todo = append(todo, i.target)
	}
	if err := l.copyBlobs(ctx, todo); err != nil {
		return nil, err
	}
	return images, nil
}

// layoutImages lists the images in the index.json of a layout. Entries of other
// kinds, such as signatures, are passed over.
func layoutImages(data []byte) ([]named, error) {
	var index v1.Index
	if err := decodeStoreIndex(data, &index); err != nil {
		return nil, err
	}
	var images []named
	for _, d := range index.Manifests {
		if IsIndex(d.MediaType) || IsManifest(d.MediaType) {
			target := v1.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
			images = append(images, named{name: nameOf(d), target: target})
		}
	}
	return images, nil
}

// copyBlobs copies blobs and what they lead to, each once however many list it. Of
// an index some manifests may be missing; whether enough is there is checked later.
func (l *layout) copyBlobs(ctx context.Context, todo []v1.Descriptor) error {
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		is := content{d.Digest, d.Size, d.MediaType}
		if l.copied[is] {
			continue
		}
		l.copied[is] = true
		found, err := l.copyBlob(ctx, d)
		if err != nil {
			return err
		}
		todo = append(todo, found...)
	}
	return nil
}

// copyBlob copies a blob, and returns what it leads to.
func (l *layout) copyBlob(ctx context.Context, d v1.Descriptor) ([]v1.Descriptor, error) {
	f, err := l.open(path.Join(blobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded()))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := l.lease.Copy(ctx, d, contextReader{ctx, f}); err != nil {
		return nil, err
	}
	if !IsIndex(d.MediaType) && !IsManifest(d.MediaType) {
		return nil, nil
	}
	data, err := l.lease.store.ReadBlob(d, MaxManifestSize)
	if err != nil {
		return nil, err
	}
	var found []v1.Descriptor
	for _, child := range children(data) {
		if child.Digest == "" {
			continue // an index has no config
		}
		if err := checkDescriptor(child); err != nil {
			return nil, err
		}
		found = append(found, child)
	}
	return found, nil
}

func (l *layout) readFile(name string, limit int64) ([]byte, error) {
	f, err := l.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, name, limit)
}

// open opens a regular file, without waiting for the writer of a fifo.
func (l *layout) open(name string) (*os.File, error) {
	f, err := l.root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file: %w", name, ErrInvalid)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// readLimited reads all of r if that is at most limit bytes.
func readLimited(r io.Reader, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes: %w", name, limit, ErrLimit)
	}
	return data, nil
}

// putJSON stores a document as a blob.
func (l *Lease) putJSON(ctx context.Context, mediaType string, document any) (v1.Descriptor, error) {
	data, err := json.Marshal(document)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return l.PutNew(ctx, mediaType, data)
}

// putManifest stores a manifest of blobs that are in the store.
func (l *Lease) putManifest(ctx context.Context, config v1.Descriptor, layers []v1.Descriptor) (v1.Descriptor, error) {
	m := v1.Manifest{MediaType: v1.MediaTypeImageManifest, Config: config, Layers: layers}
	m.SchemaVersion = 2
	if m.Layers == nil {
		m.Layers = []v1.Descriptor{}
	}
	m.Config.MediaType = cmp.Or(config.MediaType, v1.MediaTypeImageConfig)
	return l.putJSON(ctx, v1.MediaTypeImageManifest, m)
}
