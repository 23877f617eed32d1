package serve

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/containr/containr/pkg/image"
)

// held is what was uploaded, or mounted, into a repository and is not listed by a manifest of it yet:
// clients send the manifest last. A lease of the store protects it, for as long as [Limits].Idle.
//
// A lease only grows, so that it is replaced by a new one now and then. Uploads that were begun
// under the old one may still need it: it goes when they have ended.
type held struct {
	store *image.Store
	limit int64 // bytes

	mu    sync.Mutex
	lease *sharedLease
	blobs map[heldKey]heldBlob
	bytes int64 // of blobs, and of sessions as they grow
}

type heldKey struct {
	repository string
	digest     digest.Digest
}

type heldBlob struct {
	size  int64
	since time.Time
}

// sharedLease is a lease that is closed when nobody uses it any more.
type sharedLease struct {
	*image.Lease
	users int // the holder, and sessions
}

// begin makes the first lease.
func (h *held) begin(ctx context.Context) error {
	lease, err := h.store.Lease(ctx)
	if err != nil {
		return err
	}
	h.lease, h.blobs = &sharedLease{lease, 1}, map[heldKey]heldBlob{}
	return nil
}

// use returns the lease for a session, which must be released.
func (h *held) use() *sharedLease {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lease.users++
	return h.lease
}

// release says that a session has ended.
func (h *held) release(l *sharedLease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l.users--; l.users == 0 {
		l.Close()
	}
}

// reserve counts bytes that come in, and refuses them if there are too many.
func (h *held) reserve(n int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bytes+n > h.limit {
		return refuse(http.StatusTooManyRequests, tooManyRequests, "uploads without a manifest take %d bytes already", h.bytes)
	}
	h.bytes += n
	return nil
}

// give counts bytes back.
func (h *held) give(n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bytes -= n
}

// add notes a blob that a lease protects which the caller uses. Its bytes were reserved before.
func (h *held) add(ctx context.Context, under *sharedLease, repository string, d digest.Digest, size int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if under != h.lease { // which was replaced meanwhile, and goes with its last user
		if err := h.lease.Hold(ctx, d); err != nil {
			return err
		}
	}
	k := heldKey{repository, d}
	if old, ok := h.blobs[k]; ok {
		h.bytes -= old.size
	}
	h.blobs[k] = heldBlob{size, time.Now()}
	return nil
}

// has reports whether a blob is held for a repository.
func (h *held) has(repository string, d digest.Digest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.blobs[heldKey{repository, d}]
	return ok
}

// drop forgets blobs: a manifest lists them, or they were deleted. It reports whether one was held.
func (h *held) drop(repository string, digests ...digest.Digest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	any := false
	for _, d := range digests {
		k := heldKey{repository, d}
		if old, ok := h.blobs[k]; ok {
			h.bytes -= old.size
			delete(h.blobs, k)
			any = true
		}
	}
	return any
}

// expire forgets what is held for too long, and begins a new lease for the rest. It reports whether
// there may be garbage.
func (h *held) expire(ctx context.Context, idle time.Duration) bool {
	lease, err := h.store.Lease(ctx)
	if err != nil {
		return false // the old one still protects
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	before := len(h.blobs)
	for k, b := range h.blobs {
		err := image.ErrNotFound
		if time.Since(b.since) < idle {
			err = lease.Hold(ctx, k.digest)
		}
		if errors.Is(err, image.ErrNotFound) {
			h.bytes -= b.size
			delete(h.blobs, k)
		} else if err != nil {
			lease.Close()
			return false
		}
	}
	old := h.lease
	h.lease = &sharedLease{lease, 1}
	if old.users--; old.users == 0 {
		old.Close()
	}
	return len(h.blobs) < before
}

// close forgets everything.
func (h *held) close() error { return h.lease.Close() }
