package monitor

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/logs"
	"github.com/containr/containr/pkg/streams"
)

// copier copies what one container writes to its log, and to who is to have it besides.
// The monitor has one for each container that it looks after, and `containr run` one for a
// container in the foreground.
type copier struct {
	id   string
	ends *streams.Ends
	// hub passes on to who is attached, and waits for nobody; nil if there is none.
	hub *hub
	// write passes on to who reads as fast as the container may write; nil if there is
	// nobody. After an error nothing more of that output is copied.
	write func(o *streams.Output, data []byte) error
	// chunk is how much is moved at once, in bytes.
	chunk int

	copying sync.WaitGroup
	// leaves says that the copying is to stop where it is.
	leaves atomic.Bool

	mu  sync.Mutex // for log
	log *logs.Writer
	// gap, unless nil, is told why output cannot be written to the log, and how many bytes are missing when it can be again.
	gap func(missing int, reason error)
}

// begin copies until finish.
func (c *copier) begin() {
	c.recover()
	for i := range c.ends.Outputs {
		c.copying.Go(func() { c.copy(&c.ends.Outputs[i]) })
	}
}

// finish waits until all is copied of what a container has written that has ended, or, if
// leaves is set, stops where the copying is.
func (c *copier) finish(leaves bool) {
	c.leaves.Store(leaves)
	for _, o := range c.ends.Outputs {
		// What can be read now is read; nothing more comes, and nobody waits for it.
		o.From.SetReadDeadline(time.Now())
	}
	c.copying.Wait()
}

func (c *copier) close() {
	if c.ends != nil {
		c.ends.Close()
	}
	if c.log != nil {
		if err := c.log.Close(); err != nil {
			slog.Error("close the log", "container", c.id, "error", err)
		}
	}
}

// report tells of an error of the log.
func (c *copier) report(err error) {
	if err != nil {
		slog.Error("write the log", "container", c.id, "error", err)
	}
}

// copy copies one output until nothing more can come.
func (c *copier) copy(o *streams.Output) {
	conn, err := o.From.SyscallConn()
	if err != nil {
		slog.Error("read the output", "container", c.id, "error", err)
		return
	}
	left := -1 // bytes, once the container has ended
	for {
		var moved int
		var failed error
		err := conn.Read(func(fd uintptr) bool {
			moved, failed = move(int(fd), o, c.chunk)
			return !errors.Is(failed, unix.EAGAIN)
		})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if c.leaves.Load() {
				return
			}
			if left < 0 {
				left = c.leftIn(o.From)
			}
			moved, err = 0, nil
			if left > 0 {
				moved, failed = move(int(o.From.Fd()), o, min(c.chunk, left))
				left -= moved
			}
		}
		switch {
		case err == nil && failed == nil && moved > 0:
			if c.pass(o) != nil {
				return
			}
		case err != nil:
			slog.Error("read the output", "container", c.id, "error", err)
			return
		case failed == nil, errors.Is(failed, unix.EAGAIN), errors.Is(failed, unix.EIO):
			return // its end, or that of the terminal's other side
		default:
			slog.Error("read the output", "container", c.id, "error", failed)
			return
		}
	}
}

// leftIn is how much of what a container that has ended wrote can still be in a stream, in
// bytes. More is not the container's: it may have passed its end of the stream on, or
// somebody may have taken it from /proc, and who writes to it without end would keep the
// container from ever being cleaned up. A terminal does not say how much it holds, and
// holds less than a pipe.
func (c *copier) leftIn(from *os.File) int {
	if c.ends.Terminal != nil {
		return chunk
	}
	n, err := unix.IoctlGetInt(int(from.Fd()), unix.TIOCINQ)
	if err != nil {
		return chunk
	}
	return n
}

// chunk is how much is moved at once at most, in bytes: what a pipe holds.
const chunk = 64 << 10

// move moves data to the empty tray.
func move(from int, o *streams.Output, most int) (int, error) {
	n, err := retry(func() (int64, error) {
		n, err := unix.Splice(from, nil, int(o.TrayIn.Fd()), nil, most, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		return int64(n), err // an int where pointers have 32 bits
	})
	if !errors.Is(err, unix.EINVAL) {
		return n, err
	}
	// Linux 5.10 cannot splice from a terminal. What is lost if we are killed here is
	// what was just read.
	var b [4096]byte
	n, err = retry(func() (int64, error) { n, err := unix.Read(from, b[:]); return int64(n), err })
	if err != nil || n == 0 {
		return n, err
	}
	return unix.Write(int(o.TrayIn.Fd()), b[:n])
}

func retry(call func() (int64, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return int(n), err
		}
	}
}

// recover deals with what a monitor that was killed has left in the trays. The one that is in the log already is emptied
// first: the log remembers one tray, and the next that is logged takes its place.
func (c *copier) recover() {
	failed := func(o *streams.Output, err error) {
		if err != nil {
			slog.Error("what was left in the tray", "container", c.id, "stream", o.Stream, "error", err)
		}
	}
	for i := range c.ends.Outputs {
		if o := &c.ends.Outputs[i]; c.log.Logged(o.Stream) {
			_, err := drain(o)
			failed(o, errors.Join(err, c.log.Emptied()))
		}
	}
	for i := range c.ends.Outputs {
		_ = c.pass(&c.ends.Outputs[i])
	}
}

// pass logs what is in the tray and passes it on. The error is that of write.
func (c *copier) pass(o *streams.Output) error {
	data, err := look(o)
	c.report(err)
	if err != nil || len(data) == 0 {
		return nil
	}
	defer buffers.Put((*[chunk]byte)(data[:chunk]))
	if c.hub != nil {
		c.hub.send(frame(o.Stream), data)
	}
	c.report(c.record(o, data))
	if c.write != nil {
		return c.write(o, data)
	}
	return nil
}

// record logs what is in the tray and empties it.
func (c *copier) record(o *streams.Output, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.log.Write(o.Stream, data, time.Now())
	if lost := c.log.Filled(); c.gap != nil && (err != nil || lost > 0) {
		c.gap(lost, err)
	}
	_, drained := drain(o)
	return errors.Join(err, c.log.Unpacked(), drained, c.log.Emptied())
}

// buffers are for the data of one tray.
var buffers = sync.Pool{New: func() any { return new([chunk]byte) }}

// look returns what is in the tray, and leaves it there. The result is from buffers.
func look(o *streams.Output) ([]byte, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	n, err := retry(func() (int64, error) {
		return unix.Tee(int(o.TrayOut.Fd()), p[1], chunk, unix.SPLICE_F_NONBLOCK)
	})
	if errors.Is(err, unix.EAGAIN) || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("tee", err)
	}
	b := buffers.Get().(*[chunk]byte)
	for got := 0; got < n; {
		more, err := unix.Read(p[0], b[got:n])
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, os.NewSyscallError("read", err)
		}
		got += max(more, 0)
	}
	if waiting, err := unix.IoctlGetInt(int(o.TrayOut.Fd()), unix.TIOCINQ); err != nil || waiting == n {
		return b[:n], err
	}
	// An ordinary user with very many pipes gets small ones, see pipe(7): it does not all
	// fit. It is taken out; what is lost if we are killed before it is logged is this.
	n, err = retry(func() (int64, error) { n, err := unix.Read(int(o.TrayOut.Fd()), b[:]); return int64(n), err })
	return b[:max(n, 0)], os.NewSyscallError("read", err)
}

// drain empties the tray.
func drain(o *streams.Output) (int, error) {
	b := buffers.Get().(*[chunk]byte)
	defer buffers.Put(b)
	total := 0
	for {
		n, err := retry(func() (int64, error) { n, err := unix.Read(int(o.TrayOut.Fd()), b[:]); return int64(n), err })
		if errors.Is(err, unix.EAGAIN) || err == nil && n == 0 {
			return total, nil
		}
		if err != nil {
			return total, os.NewSyscallError("read", err)
		}
		total += n
	}
}
