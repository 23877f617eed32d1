package ocicli

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
)

// foreground waits for a program and passes our signals on to it meanwhile.
type foreground struct{ forwarding sys.Forwarding }

// catch returns what is to be called just before there is a process that would be left
// alone if a signal ended us: nothing for a program in the background. Signals are
// never given back: what comes when the program has ended comes too late for anything.
func (f *foreground) catch(background bool) func() {
	if background {
		return nil
	}
	return f.forwarding.Start
}

// wait waits for a child, passes signals on to it, and returns the exit code: the
// program's, or 128 and the signal that ended it.
func (f *foreground) wait(pid int) (int, error) {
	fd, err := unix.PidfdOpen(pid, 0) // it is there until it has been waited for
	if err != nil {
		return 0, fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	if err := f.forwarding.To(fd); err != nil {
		return 0, err
	}
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(pid, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR), err == nil && ws.Stopped():
			continue // stopped: it has made us trace it, which we do not; a signal that kills ends it all the same
		case err != nil:
			return 0, fmt.Errorf("wait for process %d: %w", pid, err)
		case ws.Signaled():
			return 128 + int(ws.Signal()), nil
		}
		return ws.ExitStatus(), nil
	}
}
