package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/therootcompany/xz"
)

// Archives come in more forms than layers may have: docker takes those of xz and bzip2, too. What is made of them is stored
// otherwise, so that no digest of an image is of such a stream.

// First bytes of archives alone (the .xz file format, section 2.1.1.1; bzip2 has no specification).
var (
	xzMagic    = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	bzip2Magic = []byte("BZh")
)

// xzDictionary bounds the memory that an archive of xz can make us use, in bytes: twice what `xz -9` needs.
const xzDictionary = 128 << 20

// isForeign reports whether a stream that begins so is compressed as no layer may be.
func isForeign(magic []byte) bool {
	return bytes.HasPrefix(magic, xzMagic) || bytes.HasPrefix(magic, bzip2Magic)
}

// peekMagic returns what tells how a stream is compressed.
func peekMagic(r *bufio.Reader) ([]byte, error) {
	magic, err := r.Peek(len(xzMagic))
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return magic, err
}

// newArchiveReader is newDecompressor for archives.
func newArchiveReader(r io.Reader, limits Limits) (*decompressor, error) {
	in := &countingReader{Reader: r}
	buffered := bufio.NewReaderSize(in, 64<<10)
	magic, err := peekMagic(buffered)
	if err != nil {
		return nil, err
	}
	d := &decompressor{in: in, limits: limits.orDefault(), close: func() {}}
	switch {
	case bytes.HasPrefix(magic, xzMagic):
		if d.Reader, err = xz.NewReader(buffered, xzDictionary); err != nil {
			return nil, fmt.Errorf("xz: %w: %w", ErrCorrupt, err)
		}
	case bytes.HasPrefix(magic, bzip2Magic):
		d.Reader = bzip2.NewReader(buffered)
	default:
		return newDecompressor(buffered, limits)
	}
	return d, nil
}
