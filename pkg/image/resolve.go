package image

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is an image for one platform, read from a store and verified (but for
// its layers, whose content is verified as it is read).
type Image struct {
	Name           string        // full name that it was found by; empty if it has none
	Target         v1.Descriptor // what the name means: an index, or the manifest itself
	Manifest       v1.Manifest
	ManifestDigest digest.Digest
	Config         v1.Image
	ConfigDigest   digest.Digest // the id of the image
	Layers         []Layer       // from the bottom up
}

// Layer is one layer of an image: where its bytes are, and what they must be.
type Layer struct {
	Descriptor v1.Descriptor // of the blob, usually compressed
	DiffID     digest.Digest // of the tar stream in it
}

// Platform returns what the image runs on.
func (i *Image) Platform() Platform { return fromSpec(i.Config.Platform) }

// Size returns the bytes that the image's blobs take in a store.
func (i *Image) Size() int64 {
	size := i.Manifest.Config.Size
	for _, l := range i.Layers {
		size += l.Descriptor.Size
	}
	return size
}

// Resolve finds an image by name, or by id: "sha256:" and 64 digits, the digits
// alone, or any unambiguous beginning of them. Names win over ids. Of an image
// for several platforms the one that serves want best is returned, also if it is
// listed by an index in its index: [Select] says which that is. Errors wrap
// ErrNotFound, ErrAmbiguous, ErrPlatform, ErrCorrupt, ErrInvalid or ErrReference.
func (s *Store) Resolve(name string, want Platform) (*Image, error) {
	entries, err := s.find(name)
	if err != nil {
		return nil, err
	}
	if entries.byID {
		return s.choose(entries, name, want)
	}
	return s.ReadImage(nameOf(entries.found[0]), entries.found[0], want)
}

// found is what a name or id of the user means.
type found struct {
	found []v1.Descriptor // entries of index.json, at least one
	byID  bool            // they were found by id: their images must match prefix
	id    string          // digits, maybe abbreviated
}

// find looks for the entries of index.json that a string of the user means.
func (s *Store) find(name string) (found, error) {
	index, err := s.readIndex()
	if err != nil {
		return found{}, fmt.Errorf("resolve image %q: %w", cut(name), err)
	}
	return s.findIn(index, name)
}

func (s *Store) findIn(index *v1.Index, name string) (found, error) {
	digits, isID := strings.CutPrefix(name, "sha256:")
	isID = (isID || len(name) == anonymousLength) && isHex(digits) && digits != ""
	if !isID {
		ref, err := ParseReference(name)
		if err != nil {
			return found{}, err
		}
		if entry, ok := lookup(index, ref); ok {
			return found{found: []v1.Descriptor{entry}}, nil
		}
	}
	if isHex(digits) && len(digits) <= anonymousLength {
		if entries := s.findID(index, digits); len(entries) > 0 {
			return found{found: entries, byID: true, id: digits}, nil
		}
	}
	return found{}, fmt.Errorf("image %q: %w", cut(name), ErrNotFound)
}

// lookup finds a reference by its full name. One by digest also means an image
// of that repository which is known by a tag.
func lookup(index *v1.Index, ref Reference) (v1.Descriptor, bool) {
	full := ref.String()
	for _, e := range index.Manifests {
		if nameOf(e) == full {
			return e, true
		}
	}
	if ref.Digest == "" {
		return v1.Descriptor{}, false
	}
	for _, e := range index.Manifests {
		if e.Digest == ref.Digest && strings.HasPrefix(nameOf(e), ref.Name()+":") {
			return e, true
		}
	}
	return v1.Descriptor{}, false
}

// findID returns the entries with an image that an abbreviated id means.
func (s *Store) findID(index *v1.Index, digits string) []v1.Descriptor {
	var entries []v1.Descriptor
	for _, e := range index.Manifests {
		images, _ := s.present("", e) // a damaged image has no id
		if slices.ContainsFunc(images, func(i *Image) bool { return i.hasID(digits) }) {
			entries = append(entries, e)
		}
	}
	return entries
}

// hasID reports whether digits begin one of the digests by which an image is
// known: of its configuration, its manifest, or its target.
func (i *Image) hasID(digits string) bool {
	for _, d := range []digest.Digest{i.ConfigDigest, i.ManifestDigest, i.Target.Digest} {
		if strings.HasPrefix(d.Encoded(), digits) {
			return true
		}
	}
	return false
}

// choose picks the one image that an id means.
func (s *Store) choose(entries found, name string, want Platform) (*Image, error) {
	want = want.orDefault()
	var best *Image
	var others []Platform
	for _, e := range entries.found {
		images, _ := s.present(nameOf(e), e)
		for _, i := range images {
			switch {
			case !i.hasID(entries.id):
			case want.rank(i.Platform()) == 0:
				others = append(others, i.Platform())
			case best == nil:
				best = i
			case best.ConfigDigest != i.ConfigDigest && best.Target.Digest != i.Target.Digest:
				return nil, fmt.Errorf("image id %q: both %s and %s begin so: %w", cut(name), best.ConfigDigest, i.ConfigDigest, ErrAmbiguous)
			case want.rank(i.Platform()) > want.rank(best.Platform()):
				best = i
			}
		}
	}
	if best == nil && len(others) > 0 {
		return nil, &PlatformError{Name: name, Want: want, Have: others}
	}
	if best == nil {
		return nil, fmt.Errorf("image %q: %w", cut(name), ErrNotFound)
	}
	return best, nil
}

// ReadImage reads the image for a platform that a target leads to. The target
// needs no name in the store yet; name is what the image will be called. Errors
// are those of Resolve.
func (s *Store) ReadImage(name string, target v1.Descriptor, want Platform) (*Image, error) {
	image, err := s.readImage(name, target, want)
	if err == nil || errors.Is(err, ErrPlatform) {
		return image, err
	}
	return nil, fmt.Errorf("image %s: %w", cmp.Or(name, target.Digest.String()), err)
}

func (s *Store) readImage(name string, target v1.Descriptor, want Platform) (*Image, error) {
	want = want.orDefault()
	t, err := s.readTarget(target)
	if err != nil {
		return nil, err
	}
	if t.index == nil {
		return s.decodeImage(name, target, target, t.data, t.mediaType, want)
	}
	found, err := rank(target, t.index, want, s.openIndex(want))
	if err != nil {
		return nil, err
	}
	if len(found.serving) == 0 {
		return nil, found.none(name, want)
	}
	// A store may hold some platforms of an image only. The second best is good
	// where any will do, but not instead of one that is better and absent.
	for _, d := range found.serving {
		if want != AnyPlatform || s.Has(d) {
			return s.readManifest(name, target, d, want)
		}
	}
	return nil, fmt.Errorf("none of its platforms: %w", ErrNotFound)
}

// targetDocument is what a target leads to: an index, or a manifest that is still to be
// decoded.
type targetDocument struct {
	index     *v1.Index // nil for a manifest
	data      []byte
	mediaType string
}

// readTarget reads and checks a target.
func (s *Store) readTarget(target v1.Descriptor) (targetDocument, error) {
	data, err := s.ReadBlob(target, MaxManifestSize)
	if err != nil {
		return targetDocument{}, err
	}
	t := targetDocument{data: data}
	if t.mediaType, err = Identify(data, target.MediaType); err != nil || !IsIndex(t.mediaType) {
		return t, err
	}
	t.index, err = DecodeIndex(data, t.mediaType)
	return t, err
}

// readManifest reads a manifest and its configuration. d describes the manifest.
func (s *Store) readManifest(name string, target, d v1.Descriptor, want Platform) (*Image, error) {
	data, err := s.ReadBlob(d, MaxManifestSize)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	mediaType, err := Identify(data, d.MediaType)
	if err != nil {
		return nil, err
	}
	return s.decodeImage(name, target, d, data, mediaType, want)
}

// decodeImage decodes a manifest that was read and identified, and reads its configuration.
func (s *Store) decodeImage(name string, target, d v1.Descriptor, data []byte, mediaType string, want Platform) (*Image, error) {
	manifest, err := decodeManifest(data, mediaType)
	if err != nil {
		return nil, err
	}
	data, err = s.ReadBlob(manifest.Config, MaxConfigSize)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	config, err := DecodeConfig(data, len(manifest.Layers))
	if err != nil {
		return nil, err
	}
	image := &Image{
		Name: name, Target: target,
		Manifest: *manifest, ManifestDigest: d.Digest,
		Config: *config, ConfigDigest: manifest.Config.Digest,
		Layers: pairLayers(manifest, config),
	}
	// What the entry of an index, or of an index around that, says about its platform was believed when the entry was
	// chosen. Where neither says anything, the configuration decides.
	if d.Platform == nil && want.rank(image.Platform()) == 0 {
		return nil, &PlatformError{Name: cmp.Or(name, target.Digest.String()), Want: want, Have: []Platform{image.Platform()}}
	}
	return image, nil
}

// pairLayers joins what manifest and configuration say about each layer.
func pairLayers(m *v1.Manifest, c *v1.Image) []Layer {
	layers := make([]Layer, len(m.Layers))
	for i := range layers {
		layers[i] = Layer{Descriptor: m.Layers[i], DiffID: c.RootFS.DiffIDs[i]}
	}
	return layers
}

// present returns the images of a target whose manifest and configuration are in
// the store, that for this machine first.
func (s *Store) present(name string, target v1.Descriptor) ([]*Image, error) {
	t, err := s.readTarget(target)
	if err != nil {
		return nil, err
	}
	if t.index == nil {
		image, err := s.decodeImage(name, target, target, t.data, t.mediaType, AnyPlatform)
		if err != nil {
			return nil, err
		}
		return []*Image{image}, nil
	}
	found, err := rank(target, t.index, AnyPlatform, s.openIndex(AnyPlatform))
	if err != nil {
		return nil, err
	}
	var images []*Image
	var artifact error
	for _, d := range found.serving {
		image, err := s.readManifest(name, target, d, AnyPlatform)
		if errors.Is(err, ErrArtifact) {
			artifact = err
			continue
		}
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		images = append(images, image)
	}
	switch {
	case len(images) > 0:
		return images, nil
	case artifact != nil:
		return nil, artifact
	case len(found.serving) == 0 && len(found.platforms) == 0:
		return nil, found.none(name, AnyPlatform)
	}
	return nil, fmt.Errorf("none of its platforms: %w", ErrNotFound)
}

// ReadDocument returns a manifest, index or configuration as it is stored, verified.
func (s *Store) ReadDocument(d digest.Digest) ([]byte, error) {
	if _, err := ParseDigest(d.String()); err != nil {
		return nil, err
	}
	f, size, err := s.open(d)
	if err != nil {
		return nil, err
	}
	f.Close()
	return s.ReadBlob(v1.Descriptor{Digest: d, Size: size}, MaxConfigSize)
}
