//go:build linux && (amd64 || arm64)

package child

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/plan"
)

// Next waits for the program's next message.
func (proc *Process) Next() (Event, error) {
	var b, control [64]byte
	ended := false
	for {
		n, oobn, _, _, err := unix.Recvmsg(proc.sock, b[:], control[:], unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNRESET):
			// The kernel tells once, and first, that the program went away with a
			// message unread; what the program said before is still there.
			continue
		case err != nil:
			return Event{}, fmt.Errorf("read sync: %w", err)
		case n == 0 && !ended:
			// A reader that is about to sleep looks for messages first and for the
			// end then. When the last messages and the end both come in between, it
			// is told of the end alone; the messages are there for the next read.
			ended = true
			continue
		}
		if oobn > 0 {
			return descriptor(b[:n], control[:oobn])
		}
		return proc.program.decode(b[:n])
	}
}

// descriptor takes the one descriptor out of a message whose text names its register.
func descriptor(name, control []byte) (Event, error) {
	list, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return Event{}, fmt.Errorf("sync: control message: %w", err)
	}
	if len(list) != 1 {
		return Event{}, fmt.Errorf("sync: %d control messages came with %q, not 1", len(list), name)
	}
	fds, err := unix.ParseUnixRights(&list[0])
	if err != nil {
		return Event{}, fmt.Errorf("sync: control message: %w", err)
	}
	if len(fds) != 1 {
		return Event{}, fmt.Errorf("sync: %d descriptors came with %q, not 1", len(fds), name)
	}
	return Event{Kind: Descriptor, FD: fds[0], Reg: plan.Reg(name)}, nil
}

// Continue hands the baton back to the program, which waits for it after Baton and
// Pause. A program that is gone is no error here; Next tells about it.
func (proc *Process) Continue() error {
	_, err := unix.SendmsgN(proc.sock, []byte{1}, nil, nil, unix.MSG_NOSIGNAL)
	if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		return fmt.Errorf("write sync: %w", err)
	}
	return nil
}

// Close frees what the host holds for the program; the program itself goes on.
func (proc *Process) Close() {
	if proc.sock >= 0 {
		_ = unix.Close(proc.sock)
		proc.sock = -1
	}
	if proc.Pidfd != nil {
		_ = proc.Pidfd.Close()
	}
	if proc.trace != nil {
		_ = unix.Munmap(proc.trace)
		proc.trace = nil
	}
}

// makeTrace makes the shared memory that a traced program writes to and returns
// its descriptor.
func (proc *Process) makeTrace() (int, error) {
	fd, err := unix.MemfdCreate("containr-trace", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	size := (len(proc.program.Steps)*InstructionSize + 2*4095) &^ 4095
	if err = unix.Ftruncate(fd, int64(size)); err == nil {
		proc.trace, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("trace memory: %w", err)
	}
	proc.epoch = time.Now()
	return fd, nil
}

// Record is what a traced step did.
type Record struct {
	// Made is false for a step that was not reached or was skipped.
	Made bool
	// Result is the call's, negative errno included. The last call, execve,
	// does not return when it succeeds, and has Result 0.
	Result int64
	// Begin and End count from the start of the program.
	Begin, End time.Duration
}

// Trace returns a record for each of the plan's instructions, by the index of the
// plan step; steps of the host have none. It is to be called after Closed.
func (proc *Process) Trace() []Record {
	if proc.trace == nil {
		return nil
	}
	last := 0
	for _, s := range proc.program.Steps {
		last = max(last, s)
	}
	// Nobody knows the clock's rate; two readings beside the monotonic clock
	// give it.
	ticks, elapsed := clock()-proc.begin, time.Since(proc.epoch)
	at := func(c uint64) time.Duration {
		if c < proc.begin || ticks == 0 {
			return 0
		}
		return time.Duration(float64(c-proc.begin) / float64(ticks) * float64(elapsed))
	}
	list := make([]Record, last+1)
	for i, s := range proc.program.Steps {
		b := proc.trace[i*InstructionSize:]
		begin := binary.LittleEndian.Uint64(b[8:])
		if s < 0 || begin == 0 {
			continue
		}
		end := binary.LittleEndian.Uint64(b[16:])
		r := Record{Made: true, Result: int64(binary.LittleEndian.Uint64(b)), Begin: at(begin), End: at(end)}
		if end == 0 {
			r.End = r.Begin
		}
		list[s] = r
	}
	return list
}
