package image

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containr/containr/internal/untrusted"
)

// Limits bounds decompression. A few kilobytes can be made that expand to more
// than any disk holds. The zero value means the defaults below.
type Limits struct {
	// MaxBytes is how many bytes a layer may have uncompressed.
	MaxBytes int64
	// MaxRatio is how many times more a layer may have uncompressed than
	// compressed.
	MaxRatio int64
	// RatioFloor is how many uncompressed bytes pass before MaxRatio counts: a
	// file of zeros is no attack.
	RatioFloor int64
}

// Defaults of Limits. Real layers expand by a factor of 2 to 5; gzip can do no
// more than 1032.
const (
	DefaultMaxBytes   = untrusted.LayerBytes
	DefaultMaxRatio   = 400
	DefaultRatioFloor = 1 << 30
)

// orDefault fills in the defaults.
func (l Limits) orDefault() Limits {
	l.MaxBytes = cmp.Or(l.MaxBytes, DefaultMaxBytes)
	l.MaxRatio = cmp.Or(l.MaxRatio, DefaultMaxRatio)
	l.RatioFloor = cmp.Or(l.RatioFloor, DefaultRatioFloor)
	return l
}

// zstdWindow bounds the memory that a zstd frame can make us use. The zstd tool
// needs an option (--long) to write larger windows.
const zstdWindow = 128 << 20

// Open returns the verified tar stream of a layer in a store, see
// [NewLayerReader].
func (l Layer) Open(s *Store, limits Limits) (io.ReadCloser, error) {
	f, err := s.OpenBlob(l.Descriptor)
	if err != nil {
		return nil, err
	}
	r, err := NewLayerReader(f, l.DiffID, limits)
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

// OpenUnchecked is Open for a reader who holds the stream against the layer's diff id himself, see
// [NewUncheckedLayerReader].
func (l Layer) OpenUnchecked(s *Store, limits Limits) (io.ReadCloser, error) {
	f, err := s.OpenBlob(l.Descriptor)
	if err != nil {
		return nil, err
	}
	r, err := NewUncheckedLayerReader(f, limits)
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

// NewLayerReader returns the tar stream in a layer's blob, which may be compressed
// by gzip or zstd or not at all (the content tells, not the media type). Its end
// is io.EOF only if the stream has the digest diffID; otherwise it is an error
// that wraps ErrCorrupt. A reader of the tar must therefore go on to io.EOF after
// the last entry, before anything that it made of it becomes visible.
//
// Closing the reader closes blob.
func NewLayerReader(blob io.ReadCloser, diffID digest.Digest, limits Limits) (io.ReadCloser, error) {
	if _, err := ParseDigest(diffID.String()); err != nil {
		return nil, err
	}
	r, err := newDecompressor(blob, limits)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", diffID, err)
	}
	return &layerReader{decompressor: r, blob: blob, diffID: diffID, hash: diffID.Algorithm().Hash()}, nil
}

// NewUncheckedLayerReader is NewLayerReader for a reader who holds the stream against the layer's diff id himself, as
// pkg/snapshot does: to hash it twice would cost as much time again.
func NewUncheckedLayerReader(blob io.ReadCloser, limits Limits) (io.ReadCloser, error) {
	r, err := newDecompressor(blob, limits)
	if err != nil {
		return nil, fmt.Errorf("layer: %w", err)
	}
	return &uncheckedReader{decompressor: r, blob: blob}, nil
}

// uncheckedReader closes the blob with the decompressor.
type uncheckedReader struct {
	*decompressor
	blob io.Closer
}

func (r *uncheckedReader) Close() error {
	r.decompressor.Close()
	return r.blob.Close()
}

// layerReader verifies what a decompressor yields.
type layerReader struct {
	*decompressor
	blob   io.Closer
	diffID digest.Digest
	hash   hash.Hash
}

func (r *layerReader) Read(p []byte) (int, error) {
	n, err := r.decompressor.Read(p)
	r.hash.Write(p[:n])
	if err == nil {
		return n, nil
	}
	if err != io.EOF {
		return n, fmt.Errorf("layer %s: %w", r.diffID, err)
	}
	if got := digest.NewDigest(r.diffID.Algorithm(), r.hash); got != r.diffID {
		return n, fmt.Errorf("layer %s: uncompressed it has digest %s: %w", r.diffID, got, ErrCorrupt)
	}
	return n, io.EOF
}

func (r *layerReader) Close() error {
	r.decompressor.Close()
	return r.blob.Close()
}

// decompressor yields the uncompressed bytes of a stream, within bounds.
type decompressor struct {
	io.Reader
	in        *countingReader
	mediaType string // of a layer with this compression
	close     func()
	limits    Limits
	out       int64
}

// countingReader counts the bytes that came from somewhere, and remembers why it
// ended: decompressors report a broken source as broken compression.
type countingReader struct {
	io.Reader
	count int64
	err   error
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.count += int64(n)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// First bytes of compressed streams (RFC 1952 section 2.3.1, RFC 8878 section 3.1.1).
var (
	gzipMagic = []byte{0x1f, 0x8b, 8}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// newDecompressor finds out by its first bytes how a stream is compressed.
func newDecompressor(r io.Reader, limits Limits) (*decompressor, error) {
	limits = limits.orDefault()
	in := &countingReader{Reader: r}
	buffered := bufio.NewReaderSize(in, 64<<10)
	magic, err := buffered.Peek(len(zstdMagic))
	if err != nil && err != io.EOF {
		return nil, err
	}
	d := &decompressor{Reader: buffered, in: in, mediaType: v1.MediaTypeImageLayer, limits: limits, close: func() {}}
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w: %w", ErrCorrupt, err)
		}
		d.Reader, d.mediaType, d.close = z, v1.MediaTypeImageLayerGzip, func() { z.Close() }
	case bytes.HasPrefix(magic, zstdMagic):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w: %w", ErrCorrupt, err)
		}
		d.Reader, d.mediaType, d.close = z, v1.MediaTypeImageLayerZstd, z.Close
	}
	return d, nil
}

// Read decompresses, and stops at the bounds.
func (d *decompressor) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	d.out += int64(n)
	switch {
	case d.out > d.limits.MaxBytes:
		return 0, fmt.Errorf("uncompressed larger than %d bytes: %w", d.limits.MaxBytes, ErrLimit)
	case d.out > d.limits.RatioFloor && d.out/max(d.in.count, 1) > d.limits.MaxRatio:
		return 0, fmt.Errorf("expands more than %d times: %w", d.limits.MaxRatio, ErrLimit)
	case err == nil, err == io.EOF:
		return n, err
	case d.in.err != nil:
		return n, d.in.err
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return n, fmt.Errorf("zstd window larger than %d bytes: %w", zstdWindow, ErrLimit)
	}
	return n, fmt.Errorf("decompress: %w: %w", ErrCorrupt, err)
}

// Close frees the buffers. It does not close the source.
func (d *decompressor) Close() error {
	d.close()
	return nil
}
