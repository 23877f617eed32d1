package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/containr/containr/internal/durable"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Lease keeps blobs from garbage collection while no name reaches them: those
// that were ingested or found present under it. It is a file of digests, one a
// line, that its holder keeps locked.
//
// A Lease may be used by several goroutines. It must be closed; if its process
// dies, the kernel drops the lock and with it the protection.
type Lease struct {
	store *Store
	file  *os.File
	added sync.Map // digests of blobs that Copy added to the store
}

// Lease begins to protect content. It waits while a garbage collection runs.
func (s *Store) Lease(ctx context.Context) (*Lease, error) {
	// A collection takes an unlocked lease for a dead one: none may look between
	// making the file and locking it.
	lock, err := s.lock(ctx, durable.Shared)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	dir := filepath.Join(s.dir, leasesDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "")
	if err != nil {
		return nil, fmt.Errorf("make a lease: %w", err)
	}
	if err := durable.TryLockFile(f, durable.Exclusive); err != nil {
		f.Close()
		return nil, fmt.Errorf("make a lease: %w", err)
	}
	return &Lease{store: s, file: f}, nil
}

// lock takes the lock of the whole store.
func (s *Store) lock(ctx context.Context, kind durable.Kind) (*durable.Lock, error) {
	lock, err := durable.Acquire(ctx, filepath.Join(s.dir, lockFile), kind)
	if err != nil {
		return nil, fmt.Errorf("lock image store: %w", err)
	}
	return lock, nil
}

// protect writes digests down. When it returns, no collection that has not
// removed these blobs yet will do so.
func (l *Lease) protect(ctx context.Context, digests ...digest.Digest) error {
	lock, err := l.store.lock(ctx, durable.Shared)
	if err != nil {
		return err
	}
	defer lock.Release()
	var lines []byte
	for _, d := range digests {
		lines = fmt.Appendln(lines, d)
	}
	// One write: goroutines that share the lease share its file offset.
	if _, err := l.file.Write(lines); err != nil {
		return fmt.Errorf("extend a lease: %w", err)
	}
	return nil
}

// Close ends the protection. Closing twice is harmless.
func (l *Lease) Close() error {
	// Removed while locked, so that nobody else removes it.
	os.Remove(l.file.Name())
	err := l.file.Close()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// Put stores a blob that is in memory, verified against its descriptor. A blob
// that is there already is not written again.
func (l *Lease) Put(ctx context.Context, d v1.Descriptor, data []byte) error {
	return l.Copy(ctx, d, bytes.NewReader(data))
}

// PutNew stores data as a blob and returns its descriptor.
func (l *Lease) PutNew(ctx context.Context, mediaType string, data []byte) (v1.Descriptor, error) {
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return d, l.Put(ctx, d, data)
}

// Copy stores the blob that r yields, verified against its descriptor. If the
// blob is there already, r is not read.
func (l *Lease) Copy(ctx context.Context, d v1.Descriptor, r io.Reader) error {
	w, err := l.Ingest(ctx, d)
	if errors.Is(err, ErrExists) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	if err := w.Commit(ctx); err != nil {
		return err
	}
	l.added.Store(d.Digest, true)
	return nil
}

// dropAdded removes blobs that have come under the lease, but for those that others work with.
func (l *Lease) dropAdded(ctx context.Context, digests []digest.Digest) error {
	lock, err := l.store.lock(ctx, durable.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Release()
	held, err := l.store.protectedDigests(l)
	if err != nil {
		return err
	}
	for _, d := range digests {
		if slices.Contains(held, d) {
			continue
		}
		if err := os.Remove(l.store.blobPath(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// protectedDigests returns what living leases protect, except one that may be nil, and removes dead leases. The
// caller holds the exclusive lock.
func (s *Store) protectedDigests(except *Lease) ([]digest.Digest, error) {
	dir := filepath.Join(s.dir, leasesDir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var all []digest.Digest
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if except != nil && path == except.file.Name() {
			continue
		}
		alive, err := isLocked(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !alive {
			os.Remove(path)
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		for line := range bytes.Lines(data) {
			if d, err := ParseDigest(string(bytes.TrimSpace(line))); err == nil {
				all = append(all, d)
			}
		}
	}
	return all, nil
}

// isLocked reports whether somebody holds a lock on the file at path.
func isLocked(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = durable.TryLockFile(f, durable.Exclusive)
	if errors.Is(err, durable.ErrLocked) {
		return true, nil
	}
	return false, err
}
