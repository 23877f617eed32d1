package image

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/containr/containr/internal/durable"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Writer takes in one blob. Its methods are for one goroutine, those of the
// readers that Follow returns for others.
type Writer struct {
	lease *Lease
	want  v1.Descriptor // zero if digest and size are not known before
	file  *os.File      // under ingest/, locked
	hash  hash.Hash

	resumed int64 // bytes that were there before us

	mu      sync.Mutex
	arrived *sync.Cond // something below has changed
	written int64
	closed  bool
	err     error // of a closed writer, nil if committed
}

// newPrefix begins the names of files under ingest/ whose digest is not known yet. The
// others are named after it.
const newPrefix = "new-"

// ErrAbandoned is what followers of a blob see if it is never committed.
var ErrAbandoned = errors.New("blob was not completed")

// Ingest begins to take in the blob that d describes. If it is in the store the
// error wraps ErrExists, and the lease protects it from now on. While another
// process (or goroutine) takes in the same blob, Ingest waits for the outcome:
// either the blob then exists, or it is our turn to write it.
func (l *Lease) Ingest(ctx context.Context, d v1.Descriptor) (*Writer, error) {
	return l.ingest(ctx, d, false)
}

// Resume is Ingest for who can go on in the middle: the Writer has what a [Writer.Suspend]
// or a killed process left of the blob, see [Writer.Written]. Those bytes are hashed
// anew, but whether they are right Commit says, as of all others.
func (l *Lease) Resume(ctx context.Context, d v1.Descriptor) (*Writer, error) {
	return l.ingest(ctx, d, true)
}

func (l *Lease) ingest(ctx context.Context, d v1.Descriptor, resume bool) (*Writer, error) {
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	if err := l.protect(ctx, d.Digest); err != nil {
		return nil, err
	}
	path := l.store.ingestPath(d.Digest)
	for {
		if l.store.Has(d) {
			return nil, fmt.Errorf("blob %s: %w", d.Digest, ErrExists)
		}
		if err := l.store.Fits("blob "+d.Digest.String(), d); err != nil {
			return nil, err
		}
		f, err := stage(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("ingest blob %s: %w", d.Digest, err)
		}
		if f == nil {
			continue // the previous holder has finished, one way or the other
		}
		if l.store.Has(d) { // it was committed between our look and our file
			return nil, errors.Join(fmt.Errorf("blob %s: %w", d.Digest, ErrExists), os.Remove(path), f.Close())
		}
		w := newWriter(l, d, f, d.Digest.Algorithm())
		if err := w.takeUp(resume); err != nil {
			f.Close()
			return nil, fmt.Errorf("ingest blob %s: %w", d.Digest, err)
		}
		return w, nil
	}
}

// IngestNew begins to take in a blob of which nothing is known before. The
// descriptor that Commit completes has its sha256 digest and size.
func (l *Lease) IngestNew(ctx context.Context) (*Writer, error) {
	dir := filepath.Join(l.store.dir, ingestDir)
	for {
		f, err := os.CreateTemp(dir, newPrefix)
		if err != nil {
			return nil, fmt.Errorf("ingest: %w", err)
		}
		f.Close()
		// Between these two steps a collection may take the file for garbage.
		if f, err = stage(ctx, f.Name()); err != nil {
			return nil, fmt.Errorf("ingest: %w", err)
		}
		if f != nil {
			w := newWriter(l, v1.Descriptor{}, f, digest.SHA256)
			return w, w.takeUp(false)
		}
	}
}

// takeUp decides what becomes of the bytes that another process left in the file: they
// are gone, or the first ones of the blob. After it the next byte goes behind them.
func (w *Writer) takeUp(resume bool) error {
	if resume {
		n, err := io.Copy(w.hash, w.file)
		if err != nil {
			return err
		}
		if n <= w.want.Size {
			w.written, w.resumed = n, n
			return nil
		}
		w.hash.Reset()
	}
	if err := w.file.Truncate(0); err != nil {
		return err
	}
	_, err := w.file.Seek(0, io.SeekStart)
	return err
}

// stage opens and locks a file under ingest/. It returns nil if the file
// lost its name while we waited for the lock: it was committed or removed.
func stage(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := durable.LockFile(ctx, f, durable.Exclusive); err != nil {
		f.Close()
		return nil, err
	}
	ours, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	current, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.Close()
		return nil, err
	}
	if err != nil || !os.SameFile(ours, current) {
		f.Close()
		return nil, nil
	}
	return f, nil
}

func newWriter(l *Lease, d v1.Descriptor, f *os.File, a digest.Algorithm) *Writer {
	w := &Writer{lease: l, want: d, file: f, hash: a.Hash()}
	w.arrived = sync.NewCond(&w.mu)
	return w
}

// Write appends to the blob. Bytes beyond the promised size are refused with a
// *[VerifyError] before they reach the disk.
func (w *Writer) Write(p []byte) (int, error) {
	if w.want.Digest != "" && int64(len(p)) > w.want.Size-w.written {
		return 0, &VerifyError{Blob: w.want.Digest, WantSize: w.want.Size, Size: w.want.Size + 1}
	}
	n, err := w.file.Write(p)
	w.hash.Write(p[:n])
	w.mu.Lock()
	w.written += int64(n)
	w.mu.Unlock()
	w.arrived.Broadcast()
	if err != nil {
		return n, fmt.Errorf("write blob: %w", err)
	}
	return n, nil
}

// Written returns how many bytes have arrived.
func (w *Writer) Written() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written
}

// Resumed returns how many of them another process brought.
func (w *Writer) Resumed() int64 { return w.resumed }

// Commit verifies size and digest and makes the blob visible. It fails with a
// *[VerifyError] if they are wrong, and then nothing has become visible. Close
// must be called in any case.
func (w *Writer) Commit(ctx context.Context) error {
	got := digest.NewDigest(w.algorithm(), w.hash)
	if w.want.Digest == "" {
		w.want = v1.Descriptor{Digest: got, Size: w.written}
		if err := w.lease.protect(ctx, got); err != nil {
			return err
		}
	}
	if w.written != w.want.Size || got != w.want.Digest {
		return &VerifyError{Blob: w.want.Digest, Digest: got, WantSize: w.want.Size, Size: w.written}
	}
	if err := w.publish(); err != nil {
		return fmt.Errorf("commit blob %s: %w", got, err)
	}
	w.finish(nil)
	return nil
}

// CommitAs is Commit of a blob from [Lease.IngestNew] of which the digest is known by now. It may be
// of another algorithm than sha256: then the content is read once more.
func (w *Writer) CommitAs(ctx context.Context, d digest.Digest) error {
	if _, err := ParseDigest(d.String()); err != nil {
		return err
	}
	if d.Algorithm() != digest.SHA256 {
		h := d.Algorithm().Hash()
		if _, err := io.Copy(h, io.NewSectionReader(w.file, 0, w.written)); err != nil {
			return fmt.Errorf("commit blob %s: %w", d, err)
		}
		w.hash = h
	}
	w.want = v1.Descriptor{Digest: d, Size: w.written}
	if err := w.lease.protect(ctx, d); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// Descriptor returns digest and size of a committed blob.
func (w *Writer) Descriptor() v1.Descriptor { return w.want }

func (w *Writer) algorithm() digest.Algorithm {
	if w.want.Digest == "" {
		return digest.SHA256
	}
	return w.want.Digest.Algorithm()
}

// publish moves the file to its place, on the disk before in the directory.
func (w *Writer) publish() error {
	if !w.lease.store.Volatile {
		if err := w.file.Sync(); err != nil {
			return err
		}
	}
	path := w.lease.store.blobPath(w.want.Digest)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.Rename(w.file.Name(), path)
}

// Close abandons a blob that is not committed, and removes what was written.
// Closing a committed or closed Writer does nothing.
func (w *Writer) Close() error {
	w.Fail(ErrAbandoned)
	return nil
}

// Suspend is Fail for who wants to go on later: what was written is kept for a [Lease.Resume]
// within [PartialAge].
func (w *Writer) Suspend(reason error) {
	if w.finish(reason) {
		if w.written == 0 {
			os.Remove(w.file.Name())
		}
		w.file.Close()
	}
}

// Fail is Close with a reason, which followers get to see.
func (w *Writer) Fail(reason error) {
	if w.finish(reason) {
		// Still locked: nobody else uses the file.
		os.Remove(w.file.Name())
		w.file.Close()
	}
}

// finish records the outcome, and reports whether it was still open.
func (w *Writer) finish(outcome error) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.closed, w.err = true, outcome
	w.arrived.Broadcast()
	if outcome == nil {
		w.file.Close()
	}
	return true
}

// Follow returns a reader of the blob from its first byte on, which waits for
// bytes that have not arrived yet. It ends with io.EOF only if the blob was
// committed, that is verified; otherwise with the reason of failure. It must be
// closed, and may be before its end. The Writer must still be open.
func (w *Writer) Follow() (io.ReadCloser, error) {
	f, err := os.Open(w.file.Name())
	if err != nil {
		return nil, fmt.Errorf("follow blob: %w", err)
	}
	return &follower{writer: w, file: f}, nil
}

// follower reads what a Writer has written, through a descriptor of its own that
// outlives the Writer's.
type follower struct {
	writer *Writer
	file   *os.File
	offset int64
}

func (f *follower) Read(p []byte) (int, error) {
	available, err := f.writer.await(f.offset)
	if available == 0 {
		return 0, err
	}
	n, err := f.file.ReadAt(p[:min(int64(len(p)), available)], f.offset)
	f.offset += int64(n)
	return n, err
}

func (f *follower) Close() error { return f.file.Close() }

// await returns how many bytes there are beyond offset; none only at the end,
// with the error that says which end.
func (w *Writer) await(offset int64) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.written == offset && !w.closed {
		w.arrived.Wait()
	}
	switch {
	case w.written > offset:
		return w.written - offset, nil
	case w.err != nil:
		return 0, w.err
	}
	return 0, io.EOF
}
