package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// archive is a tar file of images that is being read. What its parts are good
// for is known only at the end, where docker writes the table of contents;
// therefore every file becomes a blob at once, and the rest is garbage.
type archive struct {
	lease     *Lease
	documents map[string][]byte        // tables of contents, by name
	files     map[string]v1.Descriptor // all other files, by clean name
	links     map[string]string        // symbolic and hard links, by clean name
}

const (
	dockerManifestFile = "manifest.json"
	maxArchiveEntries  = 1 << 16 // files in an archive; a layer is up to four
	maxLinks           = 8       // links to follow for one file
)

// read stores the files of an archive.
func (a *archive) read(ctx context.Context, tr *tar.Reader) error {
	for count := 0; ; count++ {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("not a whole tar archive: %w: %w", ErrInvalid, err)
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if count >= maxArchiveEntries {
			return fmt.Errorf("archive has more than %d entries: %w", maxArchiveEntries, ErrLimit)
		}
		err = a.readEntry(ctx, h, tr)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("the archive is cut off: %w: %w", ErrInvalid, err)
		}
		if err != nil {
			return fmt.Errorf("archive entry %q: %w", cut(h.Name), err)
		}
	}
}

func (a *archive) readEntry(ctx context.Context, h *tar.Header, r io.Reader) error {
	// Names are only keys of our maps; no file is made by them.
	name := path.Clean("/" + h.Name)[1:]
	switch h.Typeflag {
	case tar.TypeDir:
		return nil
	case tar.TypeSymlink:
		a.links[name] = path.Clean("/" + path.Join(path.Dir(name), h.Linkname))[1:]
		return nil
	case tar.TypeLink:
		a.links[name] = path.Clean("/" + h.Linkname)[1:]
		return nil
	case tar.TypeReg:
		return a.readFile(ctx, name, h.Size, r)
	}
	return fmt.Errorf("neither file, directory nor link: %w", ErrInvalid)
}

func (a *archive) readFile(ctx context.Context, name string, size int64, r io.Reader) error {
	switch base := path.Base(name); {
	case name == dockerManifestFile, name == layoutFile, name == indexFile:
		data, err := readLimited(r, name, MaxConfigSize)
		a.documents[name] = data
		return err
	case name == "repositories", base == "VERSION", base == "json":
		return nil // what docker wrote before version 1.10, beside what it means today
	}
	d, err := a.storeFile(ctx, name, size, r)
	a.files[name] = d
	return err
}

// storeFile makes a blob of a file. One under blobs/ says what it must be.
func (a *archive) storeFile(ctx context.Context, name string, size int64, r io.Reader) (v1.Descriptor, error) {
	if rest, ok := strings.CutPrefix(name, blobsDir+"/"); ok {
		dgst, err := ParseDigest(strings.Replace(rest, "/", ":", 1))
		if err != nil {
			return v1.Descriptor{}, err
		}
		d := v1.Descriptor{Digest: dgst, Size: size}
		return d, a.lease.Copy(ctx, d, r)
	}
	w, err := a.lease.IngestNew(ctx)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer w.Close()
	if _, err := io.Copy(w, r); err != nil {
		return v1.Descriptor{}, err
	}
	err = w.Commit(ctx)
	return w.Descriptor(), err
}

// images finds the images in what was read. What docker writes today is both
// kinds in one; the OCI layout says more.
func (a *archive) images(ctx context.Context) ([]named, error) {
	if data, ok := a.documents[layoutFile]; ok && a.documents[indexFile] != nil {
		if err := checkLayout(data); err != nil {
			return nil, err
		}
		return layoutImages(a.documents[indexFile])
	}
	if data, ok := a.documents[dockerManifestFile]; ok {
		return a.dockerImages(ctx, data)
	}
	return nil, fmt.Errorf("neither an OCI archive (no %s) nor a docker archive (no %s): %w", layoutFile, dockerManifestFile, ErrInvalid)
}

// dockerImage is an element of the manifest.json of a docker archive.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerImages gives every image of a docker archive the manifest it lacks.
func (a *archive) dockerImages(ctx context.Context, data []byte) ([]named, error) {
	var list []dockerImage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", dockerManifestFile, ErrInvalid, err)
	}
	var images []named
	for _, i := range list {
		target, err := a.dockerTarget(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dockerManifestFile, err)
		}
		if len(i.RepoTags) == 0 {
			images = append(images, named{target: target})
		}
		for _, name := range i.RepoTags {
			images = append(images, named{name: name, target: target})
		}
	}
	return images, nil
}

func (a *archive) dockerTarget(ctx context.Context, i dockerImage) (v1.Descriptor, error) {
	var none v1.Descriptor
	if len(i.Layers) > MaxLayers {
		return none, fmt.Errorf("image has %d layers, more than %d: %w", len(i.Layers), MaxLayers, ErrLimit)
	}
	configDescriptor, err := a.file(i.Config)
	if err != nil {
		return none, err
	}
	data, err := a.lease.store.ReadBlob(configDescriptor, MaxConfigSize)
	if err != nil {
		return none, err
	}
	config, err := DecodeConfig(data, len(i.Layers))
	if err != nil {
		return none, err
	}
	layers := make([]v1.Descriptor, len(i.Layers))
	for n, name := range i.Layers {
		if layers[n], err = a.file(name); err != nil {
			return none, err
		}
		l := Layer{Descriptor: layers[n], DiffID: config.RootFS.DiffIDs[n]}
		if layers[n].MediaType, err = a.lease.store.layerType(l); err != nil {
			return none, fmt.Errorf("layer %q: %w", cut(name), err)
		}
	}
	configDescriptor.MediaType = v1.MediaTypeImageConfig
	return a.lease.putManifest(ctx, configDescriptor, layers)
}

// file returns the blob that became of a file, by name, following links.
func (a *archive) file(name string) (v1.Descriptor, error) {
	at := path.Clean("/" + name)[1:]
	for range maxLinks {
		if d, ok := a.files[at]; ok {
			return v1.Descriptor{Digest: d.Digest, Size: d.Size}, nil
		}
		target, ok := a.links[at]
		if !ok {
			return v1.Descriptor{}, fmt.Errorf("file %q is not in the archive: %w", cut(name), ErrNotFound)
		}
		at = target
	}
	return v1.Descriptor{}, fmt.Errorf("file %q: more than %d links to follow: %w", cut(name), maxLinks, ErrInvalid)
}

// layerType returns the media type of a layer by its first bytes. The content of
// one that is not compressed is checked by that already; of others it is when
// they are unpacked.
func (s *Store) layerType(l Layer) (string, error) {
	f, err := s.OpenBlob(l.Descriptor)
	if err != nil {
		return "", err
	}
	defer f.Close()
	d, err := newDecompressor(f, Limits{})
	if err != nil {
		return "", err
	}
	defer d.Close()
	if d.mediaType == v1.MediaTypeImageLayer && l.Descriptor.Digest != l.DiffID {
		return "", fmt.Errorf("it has digest %s, configuration says %s: %w", l.Descriptor.Digest, l.DiffID, ErrCorrupt)
	}
	return d.mediaType, nil
}
