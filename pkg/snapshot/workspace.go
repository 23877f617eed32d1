package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/safepath"
	"golang.org/x/sys/unix"
)

// lock takes the lock of the store: shared by whoever adds to it, exclusive
// for whoever removes. It is held for moments only, never while a layer is
// extracted.
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

// newWorkspaceLocked is newWorkspace for a caller who holds the lock of the
// store, so that nobody takes the new directory for abandoned.
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

// abandoned reports whether the owner of the workspace at dir is dead. The
// caller holds the lock of the store exclusively.
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

// lockChain takes the lock of whoever unpacks chain, and waits for it until
// ctx ends. Closing the file releases it.
//
// It is a lock on one byte of a file without content (F_OFD_SETLK, fcntl(2)),
// at an offset taken from the chain id: as many locks as there are chains,
// that die with their holder and leave no files behind.
func (s *Store) lockChain(ctx context.Context, chain ChainID) (*os.File, error) {
	path := filepath.Join(s.dir, "chains.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: chainOffset(chain), Len: 1}
	ticker := time.NewTicker(lockInterval)
	defer ticker.Stop()
	for {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINTR):
			return nil, errors.Join(&os.PathError{Op: "lock", Path: path, Err: err}, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		case <-ticker.C:
		}
	}
}

// lockInterval is how often a held lock is tried again. Who waits for it waits
// for a layer to be extracted; a blocking call could not be called off.
const lockInterval = 10 * time.Millisecond

// chainOffset maps chains to file offsets, which are positive and 63 bits
// long.
func chainOffset(chain ChainID) int64 {
	sum := sha256.Sum256([]byte(chain))
	return int64(binary.BigEndian.Uint64(sum[:8]) >> 2)
}
