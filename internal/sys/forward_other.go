//go:build linux && !amd64 && !arm64

package sys

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Forwarding is the forwarding of this process's signals.
type Forwarding struct {
	signals chan os.Signal
	done    chan struct{}
}

// Start catches the signals of Forwarded. They are held until there is a process to
// forward them to.
func (f *Forwarding) Start() {
	f.signals, f.done = make(chan os.Signal, 2*len(Forwarded)), make(chan struct{})
	for _, n := range Forwarded {
		signal.Notify(f.signals, n)
	}
}

// To forwards what was held, and from now on every signal, to the process that a pidfd
// is open on. The descriptor is copied.
func (f *Forwarding) To(pidfd int) error {
	fd, err := unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return err
	}
	signals, done := f.signals, f.done
	go func() {
		defer unix.Close(fd)
		for {
			select {
			case s := <-signals:
				_ = unix.PidfdSendSignal(fd, s.(unix.Signal), nil, 0) // it may have ended
			case <-done:
				return
			}
		}
	}()
	return nil
}

// Stop gives the signals back to who had them before Start. Without a Start before it
// does nothing.
func (f *Forwarding) Stop() {
	if f.signals == nil {
		return
	}
	signal.Stop(f.signals)
	close(f.done)
	f.signals = nil
}
