package sys

import (
	"errors"

	"golang.org/x/sys/unix"
)

// closeRange is close_range(2); a test has it answer as older kernels do.
var closeRange = unix.CloseRange

// CloseOnExec has what a careless parent has left open to this process, but for the standard three descriptors, not be
// passed on to the programs that it executes: somebody may wait for the other end. Before CLOSE_RANGE_CLOEXEC, Linux 5.11,
// each descriptor is marked by itself, up to number 65,535: some ten milliseconds. An error is that of close_range(2).
func CloseOnExec() error {
	const first, most = 3, 1 << 16
	err := closeRange(first, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	for fd := first; fd < most; fd++ {
		unix.CloseOnExec(fd) // one that is not open stays so
	}
	return nil
}
