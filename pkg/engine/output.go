package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/logs"
	"github.com/containr/containr/pkg/monitor"
	"github.com/containr/containr/pkg/streams"
)

// A container in the foreground that has a terminal, or stays after its end, has a log, as one that
// runs detached does. Its keeper holds its terminal or pipes, and we copy what it writes to the log,
// to the files that the caller gave, and to whoever attaches. One without a terminal that is removed
// at its end needs no log: its outputs are these files themselves, which costs nothing, and nobody
// else sees what it writes.

// copied reports whether we copy what a container in the foreground writes.
func (x *execution) copied() bool {
	c := x.record.Config
	return c.TTY || !c.AutoRemove && c.LogDriver != logs.None
}

// give makes the streams of a container in the foreground. The caller closes them if there
// is something for the keeper to hold; else they are the request's.
func (x *execution) give() (*streams.Given, error) {
	switch input := x.request.Stdio[0]; {
	case x.record.Config.TTY:
		return streams.New(true, true)
	case !x.copied():
		return &streams.Given{Stdio: x.request.Stdio}, nil
	case input == nil:
		return streams.Outputs(os.Stdin)
	default:
		return streams.Outputs(input)
	}
}

// giveDetached makes the streams of a container that runs detached.
func (x *execution) giveDetached() (*streams.Given, error) {
	c := x.record.Config
	if input := x.request.Stdio[0]; input != nil && !c.TTY {
		return streams.Outputs(input)
	}
	return streams.New(c.TTY, c.Interactive)
}

// output is what a container in the foreground writes, on its way to its log and to us.
type output struct {
	given *streams.Given
	// to are copies of the request's files. With a terminal the first is the writing end of
	// a pipe whose reading end is screen, and there is no second.
	to     [2]*os.File
	screen *os.File
	from   *monitor.Foreground
}

// copyOutput begins to copy the output of a container that has just been started.
func (x *execution) copyOutput(given *streams.Given) (*output, error) {
	given.Started()
	keeper, err := x.runtime.Keeper(x.record.ID)
	if err != nil {
		return nil, err
	}
	defer keeper.Close()
	ends, err := streams.Find(keeper, x.record.Config.TTY)
	if err != nil {
		return nil, err
	}
	c := &output{given: given}
	if x.record.Config.TTY {
		c.screen, c.to[0], err = os.Pipe()
	} else {
		err = c.copyFiles(x.request.Stdio)
	}
	if err != nil {
		ends.Close()
		return nil, err
	}
	c.from = monitor.OpenForeground(x.root, x.run, x.record, ends, c.write)
	c.from.Start()
	return c, nil
}

// copyFiles copies the request's files, or our own.
func (c *output) copyFiles(stdio [3]*os.File) (err error) {
	for i, f := range [...]*os.File{stdio[1], stdio[2]} {
		if f == nil {
			f = [...]*os.File{os.Stdout, os.Stderr}[i]
		}
		if c.to[i], err = duplicate(f); err != nil {
			return err
		}
	}
	return nil
}

// duplicate opens a file once more, so that both can be closed. A write to it whose reader has
// gone is an error and no more, though the file be our standard output.
func duplicate(f *os.File) (*os.File, error) {
	n, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(n), f.Name()), nil
}

// write writes what the container has written where we write to. If that cannot be, the
// container's next write to this output fails too: as if it had the file itself.
func (c *output) write(o *streams.Output, data []byte) error {
	_, err := c.to[o.Stream-1].Write(data)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EPIPE) {
		slog.Error("write the container's output", "error", err)
	}
	if c.screen != nil {
		return err
	}
	return errors.Join(err, c.given.HangUp(o.Stream), o.From.Close())
}

// finish copies the rest of the output of a container that has ended. Whoever reads the screen
// sees its end then.
func (c *output) finish(code int) {
	if err := c.from.Finish(code); err != nil {
		slog.Error("write the log", "error", err)
	}
	c.close()
}

// stop stops copying, for a container that goes on.
func (c *output) stop() {
	c.from.Stop()
	c.close()
}

func (c *output) close() {
	for _, f := range c.to {
		if f != nil {
			f.Close()
		}
	}
}
