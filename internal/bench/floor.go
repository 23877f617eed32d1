package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// The floor of a pull is the work that is left if nothing is ours: each layer is read, hashed and written as a blob by one
// goroutine, inflated and hashed by a second, and its files are made by a third. Where they begin in an archive is known:
// each has a header of one block, and is filled up to the next.

// layersAtOnce is how many layers a pull has in hand.
const layersAtOnce = 4

// floor does what nobody can do without of a pull, and says what that took.
func (b *bench) floor(l *layout, layers []v1.Descriptor, files [][]file) (s sample, err error) {
	dir := filepath.Join(b.dir, "floor")
	if err := errors.Join(os.Mkdir(dir, 0o700), makeDirs(dir, files)); err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	parts := make([]int, len(layers))
	for i := range parts {
		parts[i] = i
	}
	return onSome(parts, layersAtOnce, func(i int) error {
		return floorOfLayer(l.blob(layers[i].Digest.String()), filepath.Join(dir, fmt.Sprint("blob", i)), dir, files[i])
	})
}

// floorOfLayer copies a blob and makes the files in it.
func floorOfLayer(from, blob, dir string, files []file) error {
	var group errgroup.Group
	compressed, arriving := io.Pipe()
	group.Go(func() error {
		err := copyHashed(from, blob, arriving)
		arriving.CloseWithError(err)
		return err
	})
	plain := make(chan []byte, 4)
	empty := make(chan []byte, cap(plain)+2)
	for range cap(empty) {
		empty <- make([]byte, 256<<10)
	}
	gone := make(chan struct{}) // the third has ended
	group.Go(func() error {
		defer close(plain)
		err := inflateHashed(compressed, plain, empty, gone)
		compressed.CloseWithError(err)
		return err
	})
	group.Go(func() error {
		defer close(gone)
		return makeFilesOf(dir, files, &pieces{from: plain, back: empty})
	})
	return group.Wait()
}

// copyHashed copies a file, hashed, to another one and to out.
func copyHashed(from, to string, out io.Writer) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	blob, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(io.MultiWriter(sha256.New(), blob, out), struct{ io.Reader }{in}, make([]byte, 128<<10))
	return errors.Join(err, blob.Close())
}

// inflateHashed inflates and hashes, and sends what comes in buffers that are returned, until gone.
func inflateHashed(in io.Reader, out chan<- []byte, empty <-chan []byte, gone <-chan struct{}) error {
	z, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	var sum hash.Hash = sha256.New()
	for {
		buffer := <-empty
		n, err := io.ReadFull(z, buffer[:cap(buffer)])
		sum.Write(buffer[:n])
		select {
		case out <- buffer[:n]:
		case <-gone:
			return nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// pieces is a stream that comes in buffers.
type pieces struct {
	from <-chan []byte
	back chan<- []byte
	all  []byte // the buffer at hand
	rest []byte // what is left of it
}

// take calls use with the next n bytes, in one piece or several; what is used must not be kept.
func (p *pieces) take(n int64, use func([]byte) error) error {
	for n > 0 {
		if len(p.rest) == 0 {
			if p.all != nil {
				p.back <- p.all
				p.all, p.rest = nil, nil
			}
			next, ok := <-p.from
			if !ok {
				return io.ErrUnexpectedEOF
			}
			p.all, p.rest = next, next
			continue
		}
		piece := p.rest[:min(n, int64(len(p.rest)))]
		p.rest = p.rest[len(piece):]
		n -= int64(len(piece))
		if err := use(piece); err != nil {
			return err
		}
	}
	return nil
}

// drain takes what is left.
func (p *pieces) drain() {
	for next := range p.from {
		p.back <- next
	}
}

// tarBlock is what entries of an archive are filled up to.
const tarBlock = 512

// makeFilesOf makes the files of one layer from its archive.
func makeFilesOf(dir string, files []file, in *pieces) error {
	skip := func([]byte) error { return nil }
	err := makeFilesWith(dir, files, func(size int64, write func([]byte) error) error {
		return errors.Join(in.take(tarBlock, skip), in.take(size, write), in.take(-size&(tarBlock-1), skip))
	})
	if err == nil {
		in.drain()
	}
	return err
}
