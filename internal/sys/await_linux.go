package sys

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// AwaitReadable waits until a file that does not block can be read, and reads nothing: a
// pidfd whose process has ended, a pipe that holds something or whose last writer is gone.
// Go's poller waits, for all files together, so it costs no thread. A read deadline of the
// file ends it with os.ErrDeadlineExceeded.
func AwaitReadable(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll(poll, 0)
		}
		failed = os.NewSyscallError("poll", err)
		return failed != nil || n > 0
	})
	return errors.Join(err, failed)
}
