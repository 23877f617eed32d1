package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/safepath"
	"github.com/opencontainers/go-digest"
)

// lock takes the lock of the store: shared by whoever adds to it, exclusive for
// whoever removes. It is held for moments only, never while a layer is extracted.
func (s *Store) lock(ctx context.Context, kind durable.Kind) (*durable.Lock, error) {
	return durable.Acquire(ctx, filepath.Join(s.dir, "lock"), kind)
}

// workspace is a directory in staging/ for work under way. Its lock is on the
// directory itself: free, it says that its owner is dead.
type workspace struct {
	dir  string
	file *os.File
}

// leaseFile lists the chains that the owner of a workspace needs.
const leaseFile = "lease.json"

// newWorkspace makes a workspace. Until it is closed, the chains in lease that
// exist or come into being are not removed.
func (s *Store) newWorkspace(ctx context.Context, lease []ChainID) (*workspace, error) {
	lock, err := s.lock(ctx, durable.Shared)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	return s.newWorkspaceLocked(lease)
}

// newWorkspaceLocked is newWorkspace for a caller who holds the lock of the store, so
// that nobody takes the new directory for abandoned.
func (s *Store) newWorkspaceLocked(lease []ChainID) (*workspace, error) {
	dir, err := os.MkdirTemp(filepath.Join(s.dir, stagingDir), "")
	if err != nil {
		return nil, err
	}
	w := &workspace{dir: dir}
	if w.file, err = os.Open(dir); err == nil {
		err = durable.TryLockFile(w.file, durable.Exclusive)
	}
	if err == nil && len(lease) > 0 {
		err = writeLease(dir, lease)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// close removes the workspace with all that is in it.
func (w *workspace) close() error {
	err := safepath.RemoveAll(w.dir)
	if w.file != nil {
		err = errors.Join(err, w.file.Close())
		w.file = nil
	}
	return err
}

func writeLease(dir string, lease []ChainID) error {
	data, err := json.Marshal(lease)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, leaseFile), data, 0o600)
}

// readLease returns the chains that the owner of the workspace at dir needs.
func readLease(dir string) ([]ChainID, error) {
	data, err := os.ReadFile(filepath.Join(dir, leaseFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var lease []ChainID
	return lease, json.Unmarshal(data, &lease)
}

// abandoned reports whether the owner of the workspace at dir is dead. The caller
// holds the lock of the store exclusively.
func abandoned(dir string) (bool, error) {
	f, err := os.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // just closed
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = durable.TryLockFile(f, durable.Exclusive)
	if errors.Is(err, durable.ErrLocked) {
		return false, nil
	}
	return err == nil, err
}

// chainLock returns the path of the lock that is held by who unpacks chain. The
// file may be removed when no lease names the chain.
func (s *Store) chainLock(chain ChainID) string {
	d := digest.Digest(chain)
	return filepath.Join(s.dir, locksDir, d.Algorithm().String()+"-"+d.Encoded())
}
