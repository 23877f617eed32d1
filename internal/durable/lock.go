package durable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Kind is the kind of a lock, as flock(2) has it.
type Kind int

// Any number of holders may share a lock; an exclusive one has a single holder.
const (
	Shared    Kind = unix.LOCK_SH
	Exclusive Kind = unix.LOCK_EX
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

// AcquireExisting is Acquire for a file that has to exist: without it, the error wraps
// fs.ErrNotExist. It is for locks that are removed with the directory they are in, which
// a new file could keep from being removed.
func AcquireExisting(ctx context.Context, path string, kind Kind) (*Lock, error) {
	return lockExisting(path, func(f *os.File) error { return LockFile(ctx, f, kind) })
}

// TryAcquireExisting is TryAcquire for a file that has to exist; see [AcquireExisting].
func TryAcquireExisting(path string, kind Kind) (*Lock, error) {
	return lockExisting(path, func(f *os.File) error { return TryLockFile(f, kind) })
}

func lockExisting(path string, lock func(*os.File) error) (*Lock, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
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
	f, err := OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
	}
	return f, err
}

// TryLockFile locks an open file, or returns an error wrapping [ErrLocked] when
// somebody else holds it. Closing f gives the lock up.
func TryLockFile(f *os.File, kind Kind) error {
	err := flock(f, kind|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("lock %s: %w", f.Name(), ErrLocked)
	}
	return err
}

// LockFile locks an open file and waits for other holders until ctx ends. If it
// fails, f must be closed: nothing calls off a waiting flock(2), it may yet get
// the lock, and closing gives that up too.
func LockFile(ctx context.Context, f *os.File, kind Kind) error {
	err := TryLockFile(f, kind)
	if !errors.Is(err, ErrLocked) {
		return err
	}
	result := make(chan error, 1)
	go func() { result <- flock(f, kind) }()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for lock %s: %w", f.Name(), ctx.Err())
	case err := <-result:
		return err
	}
}

// flock makes the call. The descriptor stays open meanwhile, even if f is closed,
// so that the number cannot come to mean another file.
func flock(f *os.File, how Kind) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		for {
			if failed = unix.Flock(int(fd), int(how)); !errors.Is(failed, unix.EINTR) {
				return
			}
		}
	})
	if err == nil && failed != nil {
		err = &fs.PathError{Op: "flock", Path: f.Name(), Err: failed}
	}
	return err
}

// IsOf reports whether the file that is locked is the one at path still: it may have been
// moved away or removed while its lock was waited for.
func (l *Lock) IsOf(path string) bool {
	mine, err := l.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(mine, there)
}
