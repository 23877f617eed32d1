package erofs

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"os"
)

// Writer writes one image. It belongs to one goroutine.
type Writer struct {
	image *os.File
	spool *os.File
	out   buffer // of the image
	tails buffer // of the spool
	holes bool   // a file has some
	ended bool
	sum   Sum
}

// Sum is to be noted of a finished image.
func (w *Writer) Sum() Sum { return w.sum }

// NewWriter begins an image in the empty file image; spool is another, for what will be moved. Both stay the caller's.
func NewWriter(image, spool *os.File) *Writer {
	w := &Writer{image: image, spool: spool}
	w.out, w.tails = buffer{file: image, at: Block}, buffer{file: spool}
	return w
}

// buffer collects what is written to a file, one after another.
type buffer struct {
	file *os.File
	at   int64 // where what is collected belongs
	data []byte
	sum  *uint32 // if there is one: the CRC-32C of what was written
}

// bufferSize is what is written by one system call.
const bufferSize = 256 << 10

// end is where the next byte goes.
func (b *buffer) end() int64 { return b.at + int64(len(b.data)) }

func (b *buffer) write(p []byte) error {
	if b.sum != nil {
		*b.sum = crc32.Update(*b.sum, castagnoli, p)
	}
	if b.data == nil {
		b.data = make([]byte, 0, bufferSize)
	}
	if len(b.data)+len(p) > bufferSize {
		if err := b.flush(); err != nil {
			return err
		}
	}
	if len(p) >= bufferSize {
		_, err := b.file.WriteAt(p, b.at)
		b.at += int64(len(p))
		return err
	}
	b.data = append(b.data, p...)
	return nil
}

func (b *buffer) flush() error {
	_, err := b.file.WriteAt(b.data, b.at)
	b.at += int64(len(b.data))
	b.data = b.data[:0]
	return err
}

// seek goes on at a later place, and leaves a hole, which reads as zeros.
func (b *buffer) seek(to int64) error {
	if to == b.end() {
		return nil
	}
	err := b.flush()
	b.at = to
	return err
}

var zeros [Block]byte

// pad goes on at the next block.
func (b *buffer) pad() error {
	if rest := -b.end() & (Block - 1); rest > 0 {
		return b.write(zeros[:rest])
	}
	return nil
}

// blockAt is the number of the block at an offset of the image.
func blockAt(offset int64) (uint32, error) {
	if block := offset >> blockBits; block < noBlock {
		return uint32(block), nil
	}
	return 0, fmt.Errorf("an EROFS image has at most %d blocks of %d bytes", uint32(noBlock), Block)
}

// Put writes the data of the regular file n: size bytes, which next returns piece by piece, at least one byte and at most
// as many as it is told each time. The attributes of n must be there, and may not get more afterwards. With sparse, blocks of
// zeros become holes. An error of next is returned as it is; the file is then of no use.
func (w *Writer) Put(n *Node, size int64, sparse bool, next func(most int64) ([]byte, error)) error {
	n.data = data{size: size}
	if sparse && size > Block {
		return w.putSparse(n, next)
	}
	whole, tail := size&^(Block-1), int(size&(Block-1))
	if nodeSize+xattrSize(n.Xattrs)+tail > Block {
		whole, tail = size, 0 // the node has no room for it
	}
	var err error
	if n.data.block, err = blockAt(w.out.end()); err != nil {
		return err
	}
	if whole > 0 {
		if err := stream(whole, next, w.out.write); err != nil {
			return err
		}
		if err := w.out.pad(); err != nil {
			return err
		}
	}
	n.data.tail, n.data.inline = w.tails.end(), tail
	return stream(int64(tail), next, w.tails.write)
}

// stream hands size bytes on.
func stream(size int64, next func(int64) ([]byte, error), write func([]byte) error) error {
	for size > 0 {
		p, err := next(size)
		if err != nil {
			return err
		}
		if len(p) == 0 || int64(len(p)) > size {
			return io.ErrUnexpectedEOF
		}
		if err := write(p); err != nil {
			return err
		}
		size -= int64(len(p))
	}
	return nil
}

// maxChunks bounds the table of a file with holes, four bytes for each chunk. A chunk of a longer file has more blocks.
const maxChunks = 16 << 10

// putSparse writes those chunks of a file that are not all zeros.
func (w *Writer) putSparse(n *Node, next func(most int64) ([]byte, error)) error {
	d := &n.data
	if blocks := (d.size + Block - 1) >> blockBits; blocks > maxChunks {
		d.chunkBits = uint8(bits.Len64(uint64((blocks - 1) / maxChunks)))
	}
	if d.chunkBits > 31 {
		return fmt.Errorf("a file of %d bytes is too large for an EROFS image", d.size)
	}
	w.holes = true
	chunk := int64(Block) << d.chunkBits
	for offset := int64(0); offset < d.size; offset += chunk {
		block, err := w.putChunk(min(chunk, d.size-offset), next)
		if err != nil {
			return err
		}
		d.chunks = append(d.chunks, block)
	}
	return nil
}

// putChunk writes one chunk of size bytes, unless it is all zeros, and returns its first block.
func (w *Writer) putChunk(size int64, next func(most int64) ([]byte, error)) (block uint32, err error) {
	block = noBlock
	start, done := w.out.end(), int64(0)
	err = stream(size, next, func(p []byte) error {
		for len(p) > 0 {
			part := p[:min(Block-int(done%Block), len(p))]
			if !bytes.Equal(part, zeros[:len(part)]) {
				if block == noBlock {
					if block, err = blockAt(start); err != nil {
						return err
					}
				}
				if err := w.out.seek(start + done); err != nil {
					return err
				}
				if err := w.out.write(part); err != nil {
					return err
				}
			}
			done += int64(len(part))
			p = p[len(part):]
		}
		return nil
	})
	if err != nil || block == noBlock {
		return block, err
	}
	return block, w.out.seek(align(start+size, Block))
}
