package registry

import (
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
)

// Phase is how far a blob has come.
type Phase int

// A layer that is pulled goes through Waiting, then either Exists or Downloading and
// Downloaded, and at last Done, when it is also unpacked. A blob that is pushed goes
// through Waiting, then Exists, Mounted, or Uploading and Done.
const (
	Waiting Phase = iota
	Downloading
	Downloaded
	Exists
	Done
	Uploading
	Mounted
)

// String returns the phase as a word.
func (p Phase) String() string {
	return [...]string{"waiting", "downloading", "downloaded", "exists", "done", "uploading", "mounted"}[p]
}

// IsLast reports whether nothing comes after a phase but, of Exists, Done.
func (p Phase) IsLast() bool { return p == Exists || p == Done || p == Mounted }

// Progress is an event in the life of one blob.
type Progress struct {
	Layer digest.Digest // of the blob
	Phase Phase
	Done  int64 // bytes that are where they should go
	Total int64 // bytes of the blob
}

// progressInterval is the least time between two events of a blob on its way.
const progressInterval = 50 * time.Millisecond

// limitEvents returns a function that says when the next event is due. Any goroutine may call it: a registry that answers
// before it has read a blob to its end leaves the one that sends it at work, while the next attempt begins.
func limitEvents() func() bool {
	began := time.Now()
	var last atomic.Int64 // since then
	return func() bool {
		now, before := int64(time.Since(began)), last.Load()
		return now-before >= int64(progressInterval) && last.CompareAndSwap(before, now)
	}
}
