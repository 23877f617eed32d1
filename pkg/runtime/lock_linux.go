package runtime

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBusy means that another operation on the container has taken too long.
var ErrBusy = errors.New("container is busy")

// lockPatience is how long a verb waits for another one on the same container.
const lockPatience = 10 * time.Second

// Verbs that change a container hold a lock on its directory, flock(2): exclusive, or
// shared those that may be many at once. The kernel drops it when its holder dies, and
// the child does not inherit it, since it is closed on execve(2). What only looks takes
// no lock, nor do Kill and Resume, which must work when another verb hangs.

// dirLock is a descriptor open on a container's directory, which holds its lock.
type dirLock int

func (l dirLock) release() { unix.Close(int(l)) }

// lock takes the lock of the container's directory. Between waiting for it and getting
// it, the directory may have been removed, and another one made under the same name.
func (r *Runtime) lock(id string, how int) (dirLock, error) {
	if err := ValidateID(id); err != nil {
		return 0, err
	}
	dir := filepath.Join(r.Root, id)
	for {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			return 0, fmt.Errorf("container %q: %w", id, ErrNotFound)
		}
		if err != nil {
			return 0, fmt.Errorf("open %s: %w", dir, err)
		}
		if err := flock(fd, how); err != nil {
			unix.Close(fd)
			return 0, fmt.Errorf("container %q: %w", id, err)
		}
		if !unlinked(fd) {
			return dirLock(fd), nil
		}
		unix.Close(fd)
	}
}

// unlinked reports whether the directory has been removed.
func unlinked(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) != nil || st.Nlink == 0
}

// flock waits for a lock, lockPatience at most. One who gives up leaves a thread
// behind; it gets the lock in the end and drops it at once, as the file is closed.
func flock(fd, how int) error {
	err := unix.Flock(fd, how|unix.LOCK_NB)
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := error(unix.EINTR)
		for errors.Is(err, unix.EINTR) {
			err = unix.Flock(fd, how)
		}
		done <- err
	}()
	timer := time.NewTimer(lockPatience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("%w: another operation on it has not ended for %s", ErrBusy, lockPatience)
	}
}
