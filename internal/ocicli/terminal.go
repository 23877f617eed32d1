package ocicli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/tty"
)

// terminal connects the terminal of a program in the foreground, if it has one, with the
// caller's.
type terminal struct {
	in  *os.File
	out io.Writer
	// socket is where the master end comes from, and peer its other end.
	socket, peer *os.File
	end          context.CancelFunc
	ended        chan error
}

// socketPair makes the socket that the master end will come over, and returns the end
// for the container.
func (t *terminal) socketPair() (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	t.socket, t.peer = os.NewFile(uintptr(pair[0]), "terminal"), os.NewFile(uintptr(pair[1]), "terminal")
	return t.peer, nil
}

// open connects the two terminals, once the program has been started. From then on the
// session has the signals that it knows, and passes them on.
func (t *terminal) open(pid int) error {
	if t.socket == nil {
		return nil
	}
	out, ok := t.out.(*os.File)
	if !ok {
		return errors.New("terminal: the output is no file")
	}
	master, err := receiveFile(t.socket)
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return errors.Join(fmt.Errorf("pidfd_open %d: %w", pid, err), master.Close())
	}
	s := &tty.Session{Out: out, Master: master, Signal: func(sig os.Signal) {
		_ = unix.PidfdSendSignal(pidfd, sig.(unix.Signal), nil, 0) // it may have ended
	}}
	if tty.IsTerminal(t.in) {
		s.In = t.in
	}
	var ctx context.Context
	ctx, t.end = context.WithCancel(context.Background())
	t.ended = make(chan error, 1)
	go func() { t.ended <- errors.Join(s.Run(ctx), master.Close(), unix.Close(pidfd)) }()
	return nil
}

// done gives the caller's terminal back when the program has ended and what it wrote
// has been written.
func (t *terminal) done() error {
	if t.end == nil {
		return nil
	}
	t.end()
	return <-t.ended
}

func (t *terminal) close() {
	if t.socket != nil {
		t.socket.Close()
		t.peer.Close()
	}
}
