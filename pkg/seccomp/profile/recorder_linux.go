package profile

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/sys"
)

// Recorder is an agent, as the OCI runtime specification calls who decides on calls for a seccomp
// filter: it notes each, and has it made.
//
// Each process that is put under such a filter brings a listener of its own: a container's first
// one, and those that exec adds. The calls of their children come through the same.
type Recorder struct {
	dir      string
	listener *net.UnixListener
	// stop is readable, for everybody, once the recorder is to end.
	stop, stopper *os.File
	threads       sync.WaitGroup

	mu   sync.Mutex
	seen map[Seen]bool
	err  error
}

// NewRecorder makes a recorder that listens at a socket of its own.
func NewRecorder() (*Recorder, error) {
	dir, err := os.MkdirTemp("", "containr-seccomp-")
	if err != nil {
		return nil, err
	}
	l, err := durable.Listen(dir, "agent")
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	r := &Recorder{dir: dir, listener: l.(*net.UnixListener), seen: map[Seen]bool{}}
	if r.stop, r.stopper, err = os.Pipe(); err != nil {
		return nil, errors.Join(err, l.Close(), os.RemoveAll(dir))
	}
	r.threads.Add(1)
	go r.accept()
	return r, nil
}

// Socket is the path for listenerPath of a policy.
func (r *Recorder) Socket() string { return filepath.Join(r.dir, "agent") }

// Close ends the recorder and returns what it saw, sorted. The processes that it served must have ended: without
// their listener every call of theirs fails with ENOSYS.
func (r *Recorder) Close() ([]Seen, error) {
	err := errors.Join(r.listener.Close(), r.stopper.Close()) // whoever polls the other end sees that it is closed
	r.threads.Wait()
	err = errors.Join(err, r.stop.Close(), os.RemoveAll(r.dir), r.err)
	return slices.SortedFunc(maps.Keys(r.seen), func(a, b Seen) int { return cmp.Or(cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.Number, b.Number)) }), err
}

func (r *Recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = cmp.Or(r.err, err)
}

// accept takes listeners until Close.
func (r *Recorder) accept() {
	defer r.threads.Done()
	for {
		conn, err := r.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		var fd int
		if err == nil {
			fd, err = receiveListener(conn)
			err = errors.Join(err, conn.Close())
		}
		if err != nil {
			r.fail(fmt.Errorf("seccomp listener: %w", err))
			continue
		}
		r.threads.Add(1)
		go r.listen(fd)
	}
}

// receiveListener takes the one descriptor that comes with a container's state.
func receiveListener(conn *net.UnixConn) (int, error) {
	state, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(state, control)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return -1, err
	}
	if len(messages) != 1 {
		return -1, errors.New("the state of a container came without a listener")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(fds[0]) // net asks for MSG_CMSG_CLOEXEC, too
	return fds[0], nil
}

// listen answers one listener until its processes are gone, or Close.
func (r *Recorder) listen(listener int) {
	defer r.threads.Done()
	defer unix.Close(listener)
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}, {Fd: int32(r.stop.Fd()), Events: unix.POLLIN}}
		_, err := unix.Poll(poll, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			r.fail(fmt.Errorf("seccomp listener: poll: %w", err))
			return
		case poll[0].Revents&unix.POLLIN == 0:
			return // they are gone, or Close was called
		}
		if err := r.answer(listener); err != nil {
			r.fail(err)
			return
		}
	}
}

// answer notes one call and has it made. One whose maker was killed meanwhile is nothing to answer.
func (r *Recorder) answer(listener int) error {
	n, err := sys.ReceiveNotification(listener)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("seccomp listener: receive: %w", err)
	}
	if seen, ok := seenOf(n.Arch, n.Number); ok {
		r.mu.Lock()
		r.seen[seen] = true
		r.mu.Unlock()
	}
	if err := sys.ContinueNotification(listener, n.ID); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("seccomp listener: have the call of process %d made: %w", n.PID, err)
	}
	return nil
}
