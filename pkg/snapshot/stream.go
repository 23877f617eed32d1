package snapshot

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
)

const (
	blockSize = 256 << 10
	readAhead = 8 // blocks
)

// stream reads an archive ahead of its consumer, in a goroutine that hashes it
// as well, so that inflating, hashing and extracting overlap. It needs
// readAhead·blockSize of memory, however long the archive is.
type stream struct {
	ctx      context.Context
	cancel   context.CancelFunc
	free     chan []byte
	full     chan []byte // read and hashed
	block    []byte      // being consumed, whole
	rest     []byte      // what is left of it
	hash     digest.Digester
	limit    int64
	progress func(int64)
	err      error // why reading ended, valid once full is closed
}

// newStream starts reading r. The caller must end with close.
func newStream(ctx context.Context, r io.Reader, algorithm digest.Algorithm, limit int64, progress func(int64)) *stream {
	s := &stream{
		free:     make(chan []byte, readAhead),
		full:     make(chan []byte, readAhead),
		hash:     algorithm.Digester(),
		limit:    limit,
		progress: progress,
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	for range readAhead {
		s.free <- make([]byte, blockSize)
	}
	go s.fill(r)
	return s
}

// fill reads until the end of r, an error, the limit or the end of the
// context.
func (s *stream) fill(r io.Reader) {
	defer close(s.full)
	for total := int64(0); s.err == nil; {
		var block []byte
		select {
		case block = <-s.free:
		case <-s.ctx.Done():
			s.err = context.Cause(s.ctx)
			return
		}
		block, s.err = readBlock(r, block[:blockSize])
		if total += int64(len(block)); total > s.limit {
			s.err = &LimitError{"Bytes", s.limit}
			return
		}
		s.hash.Hash().Write(block)
		s.full <- block
		if s.progress != nil {
			s.progress(total)
		}
	}
}

// readBlock fills block as far as r goes. Unlike io.ReadFull it leaves the
// error as it is, so that a source that ends too early (io.ErrUnexpectedEOF)
// is not confused with one whose end is not at the end of a block.
func readBlock(r io.Reader, block []byte) ([]byte, error) {
	n := 0
	for n < len(block) {
		m, err := r.Read(block[n:])
		n += m
		if err != nil {
			return block[:n], err
		}
	}
	return block, nil
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// peek returns the next n bytes, or nil if they are not all in one block, which at a multiple of n they are unless the
// archive ends. They are valid until s is used again.
func (s *stream) peek(n int) []byte {
	if len(s.rest) == 0 && s.next() != nil || len(s.rest) < n {
		return nil
	}
	return s.rest[:n]
}

// take returns at most n of the next bytes, and at least one if n is not zero. They are valid until s is used again.
func (s *stream) take(n int64) ([]byte, error) {
	for n > 0 && len(s.rest) == 0 {
		if err := s.next(); err != nil {
			return nil, err
		}
	}
	taken := s.rest[:min(n, int64(len(s.rest)))]
	s.rest = s.rest[len(taken):]
	return taken, nil
}

// skip passes over n bytes.
func (s *stream) skip(n int64) error {
	for n > 0 {
		taken, err := s.take(n)
		if err != nil {
			return err
		}
		n -= int64(len(taken))
	}
	return nil
}

// next gives the block back and takes the next one.
func (s *stream) next() error {
	if s.block != nil {
		s.free <- s.block
		s.block = nil
	}
	block, ok := <-s.full
	if !ok {
		return s.err
	}
	s.block, s.rest = block, block
	return nil
}

// finish reads what follows the archive, which belongs to its digest, and
// returns that.
func (s *stream) finish() (digest.Digest, error) {
	for {
		switch err := s.next(); err {
		case nil:
		case io.EOF:
			return s.hash.Digest(), nil
		default:
			return "", err
		}
	}
}

// close ends reading and waits until r is no longer used.
func (s *stream) close() {
	s.cancel()
	for range s.full {
	}
}
