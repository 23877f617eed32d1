package snapshot

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	batchSize  = 512 << 10
	batchFiles = 48 // bounds the number of open files
	batches    = 4
)

// file is a regular file that is being filled. It is finished (metadata applied,
// closed) by whoever lets go of it last.
type file struct {
	name   string
	fd     int
	meta   meta
	size   int64
	owned  bool // created with the right owner
	moded  bool // created with the right mode
	sparse bool // leave zeros out
	users  atomic.Int32
}

// piece is a part of a file's data.
type piece struct {
	file   *file
	offset int64
	data   []byte
}

// batch is a buffer full of pieces, of many small files or one large one: handing work
// over costs more than writing a small file.
type batch struct {
	buf    []byte
	used   int
	pieces []piece
}

// writers fills files and applies their metadata, in a few goroutines. add and
// wait belong to the goroutine that reads the archive.
type writers struct {
	maker maker
	work  chan *batch
	free  chan *batch
	batch *batch // being filled
	group sync.WaitGroup
	fault atomic.Pointer[error] // the first
}

func newWriters(mk maker) *writers {
	w := &writers{maker: mk, work: make(chan *batch, batches), free: make(chan *batch, batches)}
	for range batches {
		w.free <- &batch{buf: make([]byte, batchSize)}
	}
	for range runtime.GOMAXPROCS(0) {
		w.group.Go(w.run)
	}
	return w
}

// add takes f over, with the data that r holds for it. An error of r is returned;
// that of an earlier file may be.
func (w *writers) add(f *file, r io.Reader) error {
	f.users.Store(1)
	defer w.drop(f)
	for offset := int64(0); ; {
		b := w.current()
		n := min(f.size-offset, int64(len(b.buf)-b.used))
		data := b.buf[b.used : b.used+int(n)]
		if _, err := io.ReadFull(r, data); err != nil {
			return fmt.Errorf("read data: %w", unexpected(err))
		}
		f.users.Add(1)
		b.pieces = append(b.pieces, piece{f, offset, data})
		b.used += int(n)
		if offset += n; offset == f.size {
			return w.err()
		}
	}
}

// unexpected turns an end of file, which is too early where data is missing,
// into an error that says so.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// current returns a batch with room.
func (w *writers) current() *batch {
	if b := w.batch; b != nil && (b.used == len(b.buf) || len(b.pieces) == batchFiles) {
		w.work <- b
		w.batch = nil
	}
	if w.batch == nil {
		w.batch = <-w.free
	}
	return w.batch
}

// wait ends the writers, when all they were given is done, and returns the first
// error.
func (w *writers) wait() error {
	if w.batch != nil {
		w.work <- w.batch
		w.batch = nil
	}
	close(w.work)
	w.group.Wait()
	return w.err()
}

func (w *writers) err() error {
	if err := w.fault.Load(); err != nil {
		return *err
	}
	return nil
}

func (w *writers) run() {
	for b := range w.work {
		for _, p := range b.pieces {
			if w.err() == nil {
				w.fail(p.file, p.write())
			}
			w.drop(p.file)
		}
		clear(b.pieces)
		b.pieces, b.used = b.pieces[:0], 0
		w.free <- b
	}
}

func (w *writers) fail(f *file, err error) {
	if err != nil {
		err = fmt.Errorf("file %q: %w", f.name, err)
		w.fault.CompareAndSwap(nil, &err)
	}
}

// drop lets go of f. After an error files are only closed: the whole tree will
// be removed.
func (w *writers) drop(f *file) {
	if f.users.Add(-1) > 0 {
		return
	}
	if w.err() == nil {
		w.fail(f, f.finish(w.maker))
	}
	w.fail(f, wrap("close", unix.Close(f.fd)))
}

// finish applies what is left to do when all data is written.
func (f *file) finish(mk maker) error {
	if f.sparse {
		if err := unix.Ftruncate(f.fd, f.size); err != nil {
			return wrap("truncate", err)
		}
	}
	return mk.apply(openInode(f.fd), f.meta, f.owned, f.moded)
}

// write puts the piece into its file.
func (p piece) write() error {
	if !p.file.sparse {
		return pwrite(p.file.fd, p.data, p.offset)
	}
	return p.writeSparse()
}

// holeSize is the unit in which zeros are left out: a block of most file systems.
const holeSize = 4096

var zeros [holeSize]byte

// writeSparse leaves out blocks of zeros. The end of the file is set later.
func (p piece) writeSparse() error {
	data, offset := p.data, p.offset
	for len(data) > 0 {
		n := min(holeSize-int(offset%holeSize), len(data))
		if string(data[:n]) != string(zeros[:n]) {
			if err := pwrite(p.file.fd, data[:n], offset); err != nil {
				return err
			}
		}
		data, offset = data[n:], offset+int64(n)
	}
	return nil
}

// pwrite writes all of data at offset.
func pwrite(fd int, data []byte, offset int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(fd, data, offset)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return wrap("write", err)
		}
		data, offset = data[n:], offset+int64(n)
	}
	return nil
}
