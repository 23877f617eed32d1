package monitor

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/logs"
	"github.com/containr/containr/pkg/runtime"
	"github.com/containr/containr/pkg/streams"
)

// adopted is a container that is looked after.
type adopted struct {
	m        *Monitor
	id       string
	exitFile string
	lock     *durable.Lock
	keeper   *runtime.Keeper
	ends     *streams.Ends
	hub      *hub
	// chunk is how much is moved at once, in bytes.
	chunk int
	// forwards: the log is passed on.
	forwards bool

	// leaves says that the copying is to stop where it is.
	leaves atomic.Bool

	mu  sync.Mutex // for log
	log *logs.Writer
}

func (c *adopted) open(r container.Record) error {
	dir, err := c.m.containers.Dir(c.id)
	if err != nil {
		return err
	}
	c.exitFile = container.ExitFile(dir)
	if c.ends, err = streams.Find(c.keeper, r.Config.TTY); err != nil {
		return err
	}
	o, err := r.Config.Logs()
	if err != nil {
		return err
	}
	c.chunk, c.forwards = o.Chunk(), o.Forwards()
	c.log, err = logs.OpenWriter(LogDir(c.m.o.Root, c.id), c.position(), o)
	return err
}

func (c *adopted) position() string { return filepath.Join(positionDir(c.m.o.Run), c.id) }

func (c *adopted) close() {
	c.keeper.Close()
	if c.ends != nil {
		c.ends.Close()
	}
	if c.log != nil {
		if err := c.log.Close(); err != nil {
			slog.Error("close the log", "container", c.id, "error", err)
		}
	}
}

// look copies until the container has ended and all is copied, and then has it cleaned up; or until the monitor leaves.
func (c *adopted) look(r container.Record) {
	var copying, checking sync.WaitGroup
	alive, ended := context.WithCancel(c.m.stays)
	defer ended()
	if r.Check != nil {
		checking.Go(func() { c.checkHealth(alive, r) })
	}
	if c.forwards {
		c.m.keep()
		go c.m.forward(alive, c.id)
	}
	c.recover()
	for i := range c.ends.Outputs {
		copying.Go(func() { c.copy(&c.ends.Outputs[i]) })
	}
	code, err := c.awaitEnd()
	left := errors.Is(err, os.ErrDeadlineExceeded)
	if err != nil && !left {
		slog.Error("wait for the end", "container", c.id, "error", err)
	}
	ended()
	checking.Wait()
	c.leaves.Store(left)
	for _, o := range c.ends.Outputs {
		// What can be read now is read; nothing more comes, and nobody waits for it.
		o.From.SetReadDeadline(time.Now())
	}
	copying.Wait()
	if left {
		c.close()
		c.lock.Release()
		c.m.done()
		return
	}
	c.conclude(code)
	c.m.released(c.id)
}

// conclude ends what is done for a container that has ended.
func (c *adopted) conclude(code int) {
	c.report(c.log.End(time.Now()))
	c.hub.end(code)
	if err := c.keeper.End(); err != nil {
		slog.Error("end the keeper", "container", c.id, "error", err)
	}
	c.close()
	if err := os.Remove(c.position()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		slog.Error("remove the log's position", "container", c.id, "error", err)
	}
	c.lock.Release()
}

// awaitEnd waits for the exit status. It is the keeper's AwaitExit without a thread that
// waits: Go's poller does, for all containers together. An ear whose keeper was killed can
// be read too: it is at its end. If the monitor leaves, the error is os.ErrDeadlineExceeded.
func (c *adopted) awaitEnd() (int, error) {
	ear, err := c.keeper.Ear()
	if errors.Is(err, runtime.ErrNoKeeper) {
		return runtime.ReadExit(c.exitFile)
	}
	if err != nil {
		return 0, err
	}
	defer ear.Close()
	defer context.AfterFunc(c.m.stays, func() { ear.SetReadDeadline(time.Unix(1, 0)) })()
	if err := sys.AwaitReadable(ear); err != nil {
		return 0, err
	}
	return runtime.ReadExit(c.exitFile)
}

// report tells of an error of the log.
func (c *adopted) report(err error) {
	if err != nil {
		slog.Error("write the log", "container", c.id, "error", err)
	}
}

// copy copies one output until nothing more can come.
func (c *adopted) copy(o *streams.Output) {
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
			c.report(c.pass(o))
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
func (c *adopted) leftIn(from *os.File) int {
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
		return unix.Splice(from, nil, int(o.TrayIn.Fd()), nil, most, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
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
func (c *adopted) recover() {
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
		o := &c.ends.Outputs[i]
		failed(o, c.pass(o))
	}
}

// pass logs what is in the tray and passes it on to who is attached.
func (c *adopted) pass(o *streams.Output) error {
	data, err := look(o)
	if err != nil || len(data) == 0 {
		return err
	}
	defer buffers.Put((*[chunk]byte)(data[:chunk]))
	c.hub.send(frame(o.Stream), data)
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.log.Write(o.Stream, data, time.Now())
	_, drained := drain(o)
	return errors.Join(err, drained, c.log.Emptied())
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
