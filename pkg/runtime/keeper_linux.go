package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The keeper of a container with CreateRequest.Held is more than the parent that sees it
// end. It holds a socket, in whose queue somebody has put a message with descriptors:
// the ends of the container's pipes, or of its terminal. They stay alive with it,
// whatever becomes of the processes that read and write them. Who wants them borrows
// the socket (pidfd_getfd(2)) and looks at the message without taking it (MSG_PEEK), so
// that the next one finds it too.

// Held is what a keeper is given to hold: the socket, and the two ends of a pipe, to the
// Bell of which it writes when the exit status is in its file. Whoever waits for that
// listens at the Ear, and takes nothing out of it.
type Held struct{ Socket, Ear, Bell *os.File }

// firstHeld is the number of the held socket in a keeper that hands nothing on: the
// standard three and sync come before, the ear and the bell behind.
const firstHeld = 4

// maxHeld is how many descriptors the message may carry.
const maxHeld = 16

// ErrNoKeeper means that a container has no keeper that holds something, or not any more.
var ErrNoKeeper = errors.New("the container has no keeper that holds its streams")

// Keeper is a keeper that lives, and cannot be taken for another process.
type Keeper struct {
	// PID is its process id.
	PID int

	pidfd, held int
}

// Keeper finds the keeper of a container that was created with ExitFile. The caller closes
// it. The error wraps ErrNoKeeper if there is none any more, and ErrNotFound if there is
// no container.
func (r *Runtime) Keeper(id string) (*Keeper, error) {
	st, err := r.load(id)
	if err != nil {
		return nil, err
	}
	k, err := st.keeper()
	if err != nil {
		return nil, fmt.Errorf("container %q: %w", id, err)
	}
	return k, nil
}

func (st *state) keeper() (*Keeper, error) {
	if st.Keeper == 0 {
		return nil, ErrNoKeeper
	}
	fd, err := unix.PidfdOpen(st.Keeper, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, ErrNoKeeper
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open %d: %w", st.Keeper, err)
	}
	if t, kind := startTime(st.Keeper); t != st.KeeperStart || kind == 'Z' || kind == 'X' {
		unix.Close(fd)
		return nil, ErrNoKeeper
	}
	return &Keeper{PID: st.Keeper, pidfd: fd, held: st.Held}, nil
}

// Holds reports whether it was created with Held.
func (k *Keeper) Holds() bool { return k.held != 0 }

// Close forgets the keeper, which stays.
func (k *Keeper) Close() error { return unix.Close(k.pidfd) }

// Borrow returns a copy of one of the keeper's descriptors, which does not block any more.
// 0, 1 and 2 are those that the container was started with.
func (k *Keeper) Borrow(fd int) (*os.File, error) {
	n, err := unix.PidfdGetfd(k.pidfd, fd, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, ErrNoKeeper
	case err != nil:
		return nil, fmt.Errorf("descriptor %d of the keeper, process %d: %w", fd, k.PID, err)
	}
	_ = unix.SetNonblock(n, true) // as LookInto
	return os.NewFile(uintptr(n), fmt.Sprintf("descriptor %d of process %d", fd, k.PID)), nil
}

// Look returns copies of the descriptors in the message of the held socket, in their
// order.
func (k *Keeper) Look() ([]*os.File, error) {
	if !k.Holds() {
		return nil, ErrNoKeeper
	}
	socket, err := k.Borrow(k.held)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	return LookInto(socket)
}

// LookInto returns copies of the descriptors in the first message of a socket, which
// stays there. The files behind them do not block any more, for all who have them.
func LookInto(socket *os.File) ([]*os.File, error) {
	data, control := make([]byte, 64), make([]byte, unix.CmsgSpace(4*maxHeld))
	_, n, _, _, err := unix.Recvmsg(int(socket.Fd()), data, control, unix.MSG_PEEK|unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return nil, fmt.Errorf("message of the container's keeper: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("message of the container's keeper: %d control messages, want 1: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, fmt.Errorf("message of the container's keeper: %w", err)
	}
	var files []*os.File
	for _, fd := range fds {
		_ = unix.SetNonblock(fd, true) // for Go's poller; files that cannot be polled stay as they are
		files = append(files, os.NewFile(uintptr(fd), "held by the keeper"))
	}
	return files, nil
}

// End ends a keeper whose container has ended and whose streams are read, and waits for
// that. The exit status is in its file.
func (k *Keeper) End() error {
	if err := unix.PidfdSendSignal(k.pidfd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end the keeper, process %d: %w", k.PID, err)
	}
	return awaitEnd(k.pidfd, k.PID)
}

// endKeeper ends the keeper of a container of which nothing runs any more.
func (st *state) endKeeper() error {
	if st == nil || st.Held == 0 {
		return nil
	}
	k, err := st.keeper()
	if errors.Is(err, ErrNoKeeper) {
		return nil
	}
	if err != nil {
		return err
	}
	defer k.Close()
	ctx, cancel := context.WithTimeout(context.Background(), exitPatience)
	defer cancel()
	// Of a container whose making was cut off it leaves none, and ends by itself.
	if _, err = k.AwaitExit(ctx, st.ExitFile); ctx.Err() == nil {
		err = nil
	}
	return errors.Join(err, k.End())
}

// exitPatience is how long a keeper whose container has ended may need to write that
// down.
const exitPatience = 10 * time.Second

// AwaitExit waits until the keeper has left the exit status in a file, and returns it.
// If the keeper ends without having written one, that is the error; so is the end of ctx.
func (k *Keeper) AwaitExit(ctx context.Context, file string) (int, error) {
	done, stop, err := doneFD(ctx)
	if err != nil {
		return 0, err
	}
	defer stop()
	fds := []unix.PollFd{{Fd: int32(k.pidfd), Events: unix.POLLIN}, {Fd: int32(done), Events: unix.POLLIN}}
	if k.Holds() {
		ear, err := k.Ear()
		if errors.Is(err, ErrNoKeeper) {
			return ReadExit(file)
		}
		if err != nil {
			return 0, err
		}
		defer ear.Close()
		fds = append(fds, unix.PollFd{Fd: int32(ear.Fd()), Events: unix.POLLIN})
	}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return 0, fmt.Errorf("wait for keeper %d: %w", k.PID, err)
		case fds[0].Revents != 0, k.Holds() && fds[2].Revents != 0:
			return ReadExit(file)
		case fds[1].Revents != 0:
			return 0, ctx.Err()
		}
	}
}

// Ear returns what can be read when the exit status is there. Nothing may be taken out.
func (k *Keeper) Ear() (*os.File, error) { return k.Borrow(k.held + 1) }

// doneFD returns a descriptor that can be read when ctx has ended.
func doneFD(ctx context.Context) (fd int, stop func(), err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, nil, err
	}
	end := func() { unix.Close(p[1]) }
	callOff := context.AfterFunc(ctx, end)
	return p[0], func() {
		if callOff() {
			end()
		}
		unix.Close(p[0])
	}, nil
}
