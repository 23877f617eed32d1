package image

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// ImportRequest describes an image of one layer to be made of a root file system.
type ImportRequest struct {
	Name     string         // of the image; it may be empty
	Tar      io.Reader      // the root file system as a tar stream, compressed or not
	Dir      string         // or as a directory, if Tar is nil
	Platform Platform       // what its programs run on
	Config   v1.ImageConfig // how to run it: Cmd, Env, Entrypoint, WorkingDir, User ...
	Comment  string         // for the history
	Created  time.Time      // now, if zero
	Latest   time.Time      // takes the place of later times of files in Dir, unless zero
	Limits   Limits         // for the decompression of Tar
}

// Import makes and names an image of one layer. A tar stream is stored as it is, but for one compressed by xz or bzip2,
// which gzip compresses anew, after a look at every header in it; a directory is packed by [Pack]. If it
// fails, no name has changed and what was stored is collected. Errors wrap
// ErrInvalid if the stream is not a whole tar archive with at least one file.
func (s *Store) Import(ctx context.Context, r ImportRequest) (*Image, error) {
	listed, err := s.load(ctx, "import", LoadOptions{Name: r.Name}, func(lease *Lease) ([]named, error) {
		target, err := lease.importImage(ctx, r)
		return []named{{target: target}}, err
	})
	if err != nil {
		return nil, err
	}
	image := listed[0].Images[0]
	image.Name = listed[0].Name
	return image, nil
}

// importImage stores layer, configuration and manifest.
func (l *Lease) importImage(ctx context.Context, r ImportRequest) (v1.Descriptor, error) {
	var none v1.Descriptor
	layer, err := l.importLayer(ctx, r)
	if err != nil {
		return none, err
	}
	created := r.Created
	if created.IsZero() {
		created = time.Now().UTC().Truncate(time.Second)
	}
	config := v1.Image{
		Created:  &created,
		Platform: r.Platform.orDefault().spec(),
		Config:   r.Config,
		RootFS:   v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.DiffID}},
		History:  []v1.History{{Created: &created, CreatedBy: "containr import", Comment: r.Comment}},
	}
	configDescriptor, err := l.putJSON(ctx, v1.MediaTypeImageConfig, config)
	if err != nil {
		return none, err
	}
	return l.putManifest(ctx, configDescriptor, []v1.Descriptor{layer.Descriptor})
}

// importLayer stores the layer, and computes its diff id on the way.
func (l *Lease) importLayer(ctx context.Context, r ImportRequest) (Layer, error) {
	w, err := l.IngestNew(ctx)
	if err != nil {
		return Layer{}, err
	}
	defer w.Close()
	layer := Layer{}
	if r.Tar != nil {
		layer, err = copyRootfs(w, contextReader{ctx, r.Tar}, r.Limits)
	} else {
		layer.Descriptor.MediaType = v1.MediaTypeImageLayer
		err = Pack(ctx, w, r.Dir, r.Latest)
	}
	if err != nil {
		return Layer{}, err
	}
	if err := w.Commit(ctx); err != nil {
		return Layer{}, err
	}
	layer.Descriptor.Digest, layer.Descriptor.Size = w.Descriptor().Digest, w.Descriptor().Size
	layer.DiffID = cmp.Or(layer.DiffID, layer.Descriptor.Digest)
	return layer, nil
}

// copyRootfs copies src to w, and returns media type and diff id of the layer.
func copyRootfs(w io.Writer, src io.Reader, limits Limits) (Layer, error) {
	buffered := bufio.NewReader(src)
	magic, err := peekMagic(buffered)
	if err != nil {
		return Layer{}, err
	}
	if isForeign(magic) {
		return recompressRootfs(w, buffered, limits)
	}
	d, err := newDecompressor(io.TeeReader(buffered, w), limits)
	if err != nil {
		return Layer{}, err
	}
	defer d.Close()
	digester := digest.SHA256.Digester()
	if err := drainTar(io.TeeReader(d, digester.Hash())); err != nil {
		return Layer{}, err
	}
	return Layer{Descriptor: v1.Descriptor{MediaType: d.mediaType}, DiffID: digester.Digest()}, nil
}

// recompressRootfs is copyRootfs for what is compressed as no layer may be: it is stored as gzip has it.
func recompressRootfs(w io.Writer, src io.Reader, limits Limits) (Layer, error) {
	d, err := newArchiveReader(src, limits)
	if err != nil {
		return Layer{}, err
	}
	defer d.Close()
	z := gzip.NewWriter(w)
	digester := digest.SHA256.Digester()
	if err := drainTar(io.TeeReader(d, io.MultiWriter(digester.Hash(), z))); err != nil {
		return Layer{}, err
	}
	return Layer{Descriptor: v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip}, DiffID: digester.Digest()}, z.Close()
}

// drainTar reads a tar stream to its end, to find out that it is one.
func drainTar(stream io.Reader) error {
	if err := checkTar(stream); err != nil {
		return err
	}
	// The tar ends before its stream does: padding, end of compression.
	_, err := io.Copy(io.Discard, stream)
	return err
}

// checkTar reads a tar stream to find out that it is one.
func checkTar(r io.Reader) error {
	tr := tar.NewReader(r)
	for count := 0; ; count++ {
		_, err := tr.Next()
		switch {
		case err == io.EOF && count == 0:
			return fmt.Errorf("root file system archive holds no files: %w", ErrInvalid)
		case err == io.EOF:
			return nil
		case errors.Is(err, tar.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("root file system is not a whole tar archive: %w: %w", ErrInvalid, err)
		case err != nil:
			return fmt.Errorf("read root file system archive: %w", err)
		}
	}
}
