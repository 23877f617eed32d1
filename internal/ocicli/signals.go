package ocicli

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// The signals that are passed on to a program in the foreground. Go's runtime switches
// to another thread and back for each that it begins to catch, which for all 64 would
// take longer than the start of a container. So only those that people and supervisors
// end programs with are caught before there is a container, the others somewhat later,
// when a program that ends at once has ended.
var (
	endingSignals = []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT}
	otherSignals  = []os.Signal{unix.SIGUSR1, unix.SIGUSR2, unix.SIGCONT, unix.SIGWINCH, unix.SIGALRM, unix.SIGTSTP}
)

// somewhatLater is when the other signals are caught.
const somewhatLater = 5 * time.Millisecond

// catch begins to catch signals, beside the making of the container, so that none is
// lost before there is somebody to pass it to. It never stops: what comes when the
// container has ended comes too late for anything. If off is set nothing is caught.
func catch(off bool) <-chan os.Signal {
	if off {
		return nil
	}
	signals := make(chan os.Signal, 64)
	go signal.Notify(signals, endingSignals...)
	return signals
}

// wait waits for a child's end and returns its exit code, 128+n after a signal.
// Meanwhile it passes the signals on.
func wait(pid int, signals <-chan os.Signal) (int, error) {
	done := make(chan struct{})
	defer close(done)
	go pass(pid, signals, done)
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(pid, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 1, fmt.Errorf("wait for process %d: %w", pid, err)
		case ws.Signaled():
			return 128 + int(ws.Signal()), nil
		}
		return ws.ExitStatus(), nil
	}
}

// pass passes signals on to a process until done is closed.
func pass(pid int, signals <-chan os.Signal, done <-chan struct{}) {
	later := time.NewTimer(somewhatLater)
	defer later.Stop()
	others := make(chan os.Signal, cap(signals))
	for {
		var s os.Signal
		select {
		case <-later.C:
			signal.Notify(others, otherSignals...)
			continue
		case s = <-signals:
		case s = <-others:
		case <-done:
			return
		}
		_ = unix.Kill(pid, s.(unix.Signal)) // it may have ended
	}
}
