package durable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is the kind of a lock.
type Kind int

// Any number of holders may share a lock; an exclusive one has a single holder.
const (
	Shared Kind = iota
	Exclusive
)

// ErrLocked says that somebody else holds a lock that excludes the one that was
// asked for without waiting.
var ErrLocked = errors.New("locked by another process")

// Lock is a held flock(2) lock. It belongs to one open file, therefore two
// locks in one process exclude each other exactly as those of two processes do.
type Lock struct {
	file *os.File
}

// Acquire locks the file at path, which is created if need be (empty, mode
// 0600, its directory must exist), and waits for other holders until ctx ends,
// when it returns an error that wraps ctx.Err(). The lock file is never removed:
// that would let two processes hold locks on two files of the same name.
func Acquire(ctx context.Context, path string, kind Kind) (*Lock, error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	if err := LockFile(ctx, f, kind); err != nil {
		f.Close()
		return nil, err
	}
	return &Lock{file: f}, nil
}

// TryAcquire is Acquire that returns an error wrapping [ErrLocked] instead of
// waiting.
func TryAcquire(path string, kind Kind) (*Lock, error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	if err := TryLockFile(f, kind); err != nil {
		f.Close()
		return nil, err
	}
	return &Lock{file: f}, nil
}

// Release gives up the lock. Releasing twice is harmless.
func (l *Lock) Release() error {
	err := l.file.Close()
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}

// openLock opens for reading only, as that is all that flock needs: a reader of
// a store owned by somebody else can still share its lock.
func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
	}
	return f, err
}

// TryLockFile locks an open file, or returns an error wrapping [ErrLocked] when
// somebody else holds it. Closing f gives the lock up.
func TryLockFile(f *os.File, kind Kind) error {
	how := unix.LOCK_SH
	if kind == Exclusive {
		how = unix.LOCK_EX
	}
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("lock %s: %w", f.Name(), ErrLocked)
		default:
			return &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// The first wait for a lock is short, as most are held for less than that; later
// ones double up to a limit that costs a waiting process nothing to speak of.
const (
	firstLockWait   = 200 * time.Microsecond
	longestLockWait = 20 * time.Millisecond
)

// LockFile locks an open file and waits for other holders until ctx ends. It
// asks again and again, because a blocking flock(2) cannot be called off without
// signals, of which a library has none to spare.
func LockFile(ctx context.Context, f *os.File, kind Kind) error {
	wait := firstLockWait
	for {
		err := TryLockFile(f, kind)
		if !errors.Is(err, ErrLocked) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("wait for lock %s: %w", f.Name(), ctx.Err())
		case <-timer.C:
		}
		wait = min(2*wait, longestLockWait)
	}
}
