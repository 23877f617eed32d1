package monitor

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/logs"
	"github.com/containr/containr/pkg/runtime"
	"github.com/containr/containr/pkg/streams"
)

// adopted is a container that is looked after.
type adopted struct {
	copier
	m        *Monitor
	exitFile string
	lock     *durable.Lock
	keeper   *runtime.Keeper
	// forwards: the log is passed on.
	forwards bool
	// gaps counts the events about the log's gaps.
	gaps int
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
	c.gap = c.tellGap
	c.log, err = logs.OpenWriter(LogDir(c.m.o.Root, c.id), c.position(), o)
	return err
}

// maxGaps bounds the events of one container's log: on a disk that is nearly full every other line may fit.
const maxGaps = 100

// tellGap makes an event of a log that has a gap. The journal may be on the same disk, which is full: then there is only the
// event of the gap's end.
func (c *adopted) tellGap(missing int, reason error) {
	if c.gaps++; c.gaps > maxGaps {
		return
	}
	r, err := c.m.containers.Get(c.id)
	if err != nil {
		slog.Error("read the record", "container", c.id, "error", err)
		return
	}
	ev := r.Event(events.LogGap)
	if reason != nil {
		ev.Detail = reason.Error()
	} else {
		ev.Attributes["lost"] = strconv.Itoa(missing)
	}
	if err := events.Open(c.m.o.Root).Append(ev); err != nil {
		slog.Error("write the event", "container", c.id, "error", err)
	}
}

func (c *adopted) position() string { return filepath.Join(positionDir(c.m.o.Run), c.id) }

func (c *adopted) close() {
	c.keeper.Close()
	c.copier.close()
}

// look copies until the container has ended and all is copied, and then has it cleaned up; or until the monitor leaves.
func (c *adopted) look(r container.Record) {
	var checking sync.WaitGroup
	alive, ended := context.WithCancel(c.m.stays)
	defer ended()
	if r.Check != nil {
		checks := &Checker{Root: c.m.o.Root, Containers: c.m.containers, Runtime: c.m.runtime, Record: r, Do: c.m.stayFor, Command: c.m.o.Command}
		checking.Go(func() { checks.Run(alive) })
	}
	if c.forwards {
		c.m.keep()
		go c.m.forward(alive, c.id)
	}
	c.begin()
	code, err := c.awaitEnd()
	left := errors.Is(err, os.ErrDeadlineExceeded)
	if err != nil && !left {
		slog.Error("wait for the end", "container", c.id, "error", err)
	}
	ended()
	checking.Wait()
	c.finish(left)
	if left {
		c.close()
		c.lock.Release()
		c.m.done()
		return
	}
	c.conclude(code)
	c.m.release(c.id, c.lock)
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
