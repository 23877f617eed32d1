package tty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// Session connects a user's terminal with a container's.
type Session struct {
	// In is the user's terminal, nil for a container that is not to read
	// from it (-t without -i).
	In *os.File
	// Out is where the user sees what the container writes: a terminal or any
	// other file.
	Out *os.File
	// Master is our end of the container's terminal. The Session makes it
	// non-blocking and does not close it.
	Master *os.File
	// Screen is where what the container writes is read from, if somebody else reads
	// the master; nil for the master.
	Screen *os.File
	// Keys is the sequence that asks to detach; empty for none. With it Detach must be set.
	Keys []byte
	// Detach is called when the keys were typed. The container sees neither them nor what is
	// typed after them.
	Detach func()
	// Signal passes a signal on to the container. If it is nil, a signal
	// that would end us restores the terminal and ends us.
	Signal func(os.Signal)
	// Ready, if set, is called once when signals are handled here, before the
	// terminal is taken.
	Ready func()

	raw    rawMode
	master int
	input  *stoppable
	output *stoppable
}

// Run carries bytes until the container closes its end or ctx is done; in both
// cases what the container had written before is carried. Then the terminal is
// as it was.
func (s *Session) Run(ctx context.Context) (err error) {
	if err := s.open(); err != nil {
		return err
	}
	defer s.restoreOnPanic()
	defer func() { err = errors.Join(err, s.raw.restore()) }()

	var running sync.WaitGroup
	defer running.Wait()
	defer s.output.close()
	// Before the terminal is taken, so that no signal finds it raw and ends us.
	defer s.handleSignals()()
	if s.Ready != nil {
		s.Ready()
	}
	if err := s.takeTerminal(); err != nil {
		return err
	}
	if s.input != nil {
		defer s.input.stop()
		running.Go(s.copyInput)
	}
	defer context.AfterFunc(ctx, s.output.stop)()
	return s.copyOutput()
}

// open prepares both directions.
func (s *Session) open() (err error) {
	screen := s.Screen
	if screen == nil {
		screen = s.Master
	}
	if s.output, err = newStoppable(screen, true); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	s.master = int(s.Master.Fd())
	if err := errors.Join(unix.SetNonblock(s.master, true), unix.SetNonblock(s.output.fd, true)); err != nil {
		s.output.close()
		return fmt.Errorf("terminal: %w", err)
	}
	if s.In == nil {
		return nil
	}
	if s.input, err = newStoppable(s.In, false); err != nil {
		s.output.close()
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}

// takeTerminal makes the user's terminal an extension of the container's.
func (s *Session) takeTerminal() (err error) {
	if s.In != nil {
		if err := s.raw.take(s.In); err != nil {
			s.input.close()
			return err
		}
	}
	return s.resize()
}

// resize gives the container's terminal the size of the user's, if there is one.
func (s *Session) resize() error {
	for _, f := range []*os.File{s.Out, s.In} {
		if IsTerminal(f) {
			if err := copySize(f, s.master); err != nil {
				return fmt.Errorf("terminal: size: %w", err)
			}
			return nil
		}
	}
	return nil
}

// restoreOnPanic is deferred in each of our goroutines, because a panic in one of
// them ends the process without running the others' deferred calls.
func (s *Session) restoreOnPanic() {
	if p := recover(); p != nil {
		s.raw.restore()
		panic(p)
	}
}

// copyOutput carries what the container writes. If our side cannot be written any
// more, the rest is read and thrown away, so that the container does not block.
func (s *Session) copyOutput() error {
	_, err := io.Copy(s.Out, s.output)
	if err != nil {
		_, drainErr := io.Copy(io.Discard, s.output)
		err = errors.Join(err, drainErr)
	}
	return err
}

// copyInput carries what the user types until there is no more, or the container has been left.
func (s *Session) copyInput() {
	defer s.restoreOnPanic()
	defer s.input.close()
	scanner := keyScanner{keys: s.Keys}
	buf := make([]byte, 4096)
	for {
		n, err := s.input.Read(buf)
		out, detached := scanner.scan(buf[:n])
		if s.input.writeTo(s.master, out) != nil {
			return // the container closed its end
		}
		if detached {
			s.Detach()
			return
		}
		if err != nil {
			return // the terminal is gone; SIGHUP says so to all concerned
		}
	}
}

// handleSignals follows the window's size, gives the terminal back while we are
// stopped, and passes the other signals on.
func (s *Session) handleSignals() (stop func()) {
	signals := make(chan os.Signal, 32)
	signal.Notify(signals, unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP)
	signal.Notify(signals, endingSignals...)
	if s.Signal != nil {
		signal.Notify(signals, forwardedSignals...)
	}
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		defer s.restoreOnPanic()
		for {
			select {
			case sig := <-signals:
				s.handle(sig)
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(signals)
		close(done)
		running.Wait()
	}
}

func (s *Session) handle(sig os.Signal) {
	switch {
	case sig == unix.SIGWINCH:
		s.resize()
	case sig == unix.SIGTSTP:
		s.raw.suspend()
		// Not SIGTSTP again, which would have to be unhandled first, and
		// which the kernel drops in an orphaned process group.
		unix.Kill(unix.Getpid(), unix.SIGSTOP)
	case sig == unix.SIGCONT:
		s.raw.resume()
		s.resize()
	case s.Signal != nil:
		s.Signal(sig)
	default:
		s.raw.restore()
		dieOf(sig)
	}
}
