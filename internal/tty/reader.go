package tty

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// stoppable reads from a file whose Read may block for ever, and can be stopped.
// The descriptor is polled together with a pipe that stop closes, and is only
// read when there is something to read.
type stoppable struct {
	fd int
	// drain makes a stopped reader return what is there already; otherwise
	// that is left for who reads the file next.
	drain bool

	wakeRead, wakeWrite *os.File
	once                sync.Once
}

func newStoppable(f *os.File, drain bool) (*stoppable, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &stoppable{fd: int(f.Fd()), drain: drain, wakeRead: r, wakeWrite: w}, nil
}

// stop makes Read return io.EOF, now or when it is called next.
func (s *stoppable) stop() { s.once.Do(func() { s.wakeWrite.Close() }) }

// close frees the pipe once nobody reads any more.
func (s *stoppable) close() {
	s.stop()
	s.wakeRead.Close()
}

// Read is io.Reader's. The end of the other side of a pseudo terminal, which the
// kernel reports as EIO, is io.EOF.
func (s *stoppable) Read(p []byte) (int, error) {
	ready, err := s.wait(s.fd, unix.POLLIN)
	if err != nil {
		return 0, err
	}
	if !ready {
		return 0, io.EOF
	}
	n, err := unix.Read(s.fd, p)
	switch {
	case err == unix.EINTR || err == unix.EAGAIN:
		return 0, nil
	case err == unix.EIO || n == 0 && err == nil:
		return 0, io.EOF
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	}
	return n, nil
}

// writeTo writes all of p to a non-blocking descriptor. Stopping the reader stops
// this too; what is not written by then is lost with an error.
func (s *stoppable) writeTo(fd int, p []byte) error {
	for len(p) > 0 {
		ready, err := s.wait(fd, unix.POLLOUT)
		if err != nil {
			return err
		}
		if !ready {
			return os.ErrClosed
		}
		n, err := unix.Write(fd, p)
		if err != nil && err != unix.EINTR && err != unix.EAGAIN {
			return os.NewSyscallError("write", err)
		}
		p = p[max(n, 0):]
	}
	return nil
}

// wait blocks until something can be done with fd, or its other end is gone, and
// returns true; or until stop was called, and returns false.
func (s *stoppable) wait(fd int, events int16) (bool, error) {
	fds := []unix.PollFd{
		{Fd: int32(fd), Events: events},
		{Fd: int32(s.wakeRead.Fd()), Events: unix.POLLIN},
	}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return false, os.NewSyscallError("poll", err)
		}
		stopped := fds[1].Revents != 0
		return fds[0].Revents != 0 && (!stopped || s.drain), nil
	}
}
