package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/logs"
	"github.com/containr/containr/pkg/monitor"
	"github.com/containr/containr/pkg/runtime"
	"github.com/containr/containr/pkg/streams"
)

// Attached is a container that runs detached, and whose output is listened to.
type Attached struct {
	Record container.Record
	// Terminal is our end of its terminal, nil if it has none. It is to be written to; what
	// the container writes comes by Next.
	Terminal *os.File
	// Input is where its standard input is written to.
	Input io.Writer

	engine *Engine
	pid    int
	code   int
	known  bool
	ends   *streams.Ends
	from   *monitor.Attachment
}

// ErrForeground means that a container's streams belong to the command that runs it.
var ErrForeground = errors.New("its streams are those of the command that started it")

// Attach listens to a container that runs. The caller closes it.
func (e *Engine) Attach(ctx context.Context, ref string) (*Attached, error) {
	record, rt, err := e.running(ctx, ref)
	if err != nil {
		return nil, err
	}
	st, err := e.State(record)
	if err != nil {
		return nil, err
	}
	if st.Status == container.Paused {
		return nil, fmt.Errorf("container %s: %w", record.Name, ErrPaused)
	}
	keeper, err := rt.Keeper(record.ID)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", record.Name, err)
	}
	defer keeper.Close()
	if !keeper.Holds() {
		return nil, fmt.Errorf("container %s: %w", record.Name, ErrForeground)
	}
	a := &Attached{Record: record, engine: e, pid: st.PID}
	if err := a.listen(ctx); err != nil {
		if errors.Is(err, durable.ErrLocked) {
			err = ErrForeground
		}
		return nil, fmt.Errorf("container %s: %w", record.Name, err)
	}
	if a.ends, err = streams.Find(keeper, record.Config.TTY); err != nil {
		a.from.Close()
		return nil, fmt.Errorf("container %s: %w", record.Name, err)
	}
	a.Terminal, a.Input = a.ends.Terminal, a.ends.Input
	return a, nil
}

// handedOver is how long a container may be on its way from who has started it to who looks after it.
const handedOver = 2 * time.Second

// listen has who looks after the container send what it writes: who runs it in the foreground, or
// the monitor. It may be that neither does yet.
func (a *Attached) listen(ctx context.Context) error {
	for until := time.Now().Add(handedOver); ; time.Sleep(10 * time.Millisecond) {
		from, err := monitor.AttachForeground(ctx, a.engine.run, a.Record.ID)
		if err == nil && from == nil {
			from, err = a.askMonitor(ctx)
		}
		if err == nil {
			a.from = from
		}
		if !errors.Is(err, durable.ErrLocked) || ctx.Err() != nil || time.Now().After(until) {
			return err
		}
	}
}

func (a *Attached) askMonitor(ctx context.Context) (*monitor.Attachment, error) {
	m, err := a.engine.monitor()
	if err != nil {
		return nil, err
	}
	return m.Attach(ctx, a.Record.ID)
}

// Await begins to listen to a container that is about to be started, so that nothing is
// missed. Begin goes on once it runs.
func (e *Engine) Await(ctx context.Context, record container.Record) (*Attached, error) {
	m, err := e.monitor()
	if err != nil {
		return nil, err
	}
	a := &Attached{Record: record, engine: e, ends: new(streams.Ends)}
	a.from, err = m.Await(ctx, record.ID)
	return a, err
}

// Begin borrows the streams of a container that has been started. One that has ended
// already has none any more.
func (a *Attached) Begin() error {
	rt, err := a.engine.runtime()
	if err != nil {
		return err
	}
	st, err := a.engine.State(a.Record)
	if err != nil && !errors.Is(err, container.ErrNotFound) {
		return err
	}
	a.pid = st.PID
	keeper, err := rt.Keeper(a.Record.ID)
	if errors.Is(err, runtime.ErrNotFound) || errors.Is(err, runtime.ErrNoKeeper) {
		a.Input = io.Discard
		return nil
	}
	if err != nil {
		return err
	}
	defer keeper.Close()
	ends, err := streams.Find(keeper, a.Record.Config.TTY)
	if errors.Is(err, runtime.ErrNoKeeper) {
		a.Input = io.Discard
		return nil
	}
	if err != nil {
		return err
	}
	a.ends, a.Terminal, a.Input = ends, ends.Terminal, ends.Input
	return nil
}

// Close ends the listening. The container goes on.
func (a *Attached) Close() error {
	a.ends.Close()
	return a.from.Close()
}

// Copy copies what the container writes until it ends, and returns true, or until the
// attachment is closed. What was not taken in time is missed, and told of. A monitor that
// ends meanwhile is started again.
func (a *Attached) Copy(ctx context.Context, out, err io.Writer, missed func(bytes int)) (ended bool, failure error) {
	for {
		kind, data, failure := a.from.Next()
		switch {
		case errors.Is(failure, io.ErrUnexpectedEOF):
			if ended, failure := a.again(ctx); ended || failure != nil {
				return ended, failure
			}
			continue
		case failure != nil:
			return false, failure
		}
		switch kind {
		case monitor.StdoutFrame:
			_, failure = out.Write(data)
		case monitor.StderrFrame:
			_, failure = err.Write(data)
		case monitor.MissedFrame:
			missed(monitor.Number(data))
		case monitor.EndFrame:
			a.code, a.known = monitor.Number(data), true
			return true, nil
		}
		if failure != nil {
			return false, failure
		}
	}
}

// again attaches to a new monitor, or to the one that goes on where who ran the container in the
// foreground has left.
func (a *Attached) again(ctx context.Context) (ended bool, err error) {
	err = a.from.AwaitSender(ctx)
	a.from.Close()
	if err := errors.Join(err, ctx.Err()); err != nil {
		return false, err
	}
	st, err := a.engine.State(a.Record)
	if errors.Is(err, container.ErrNotFound) || err == nil && st.PID != a.pid {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, a.listen(ctx)
}

// Signal sends a signal to the container's program. One that has ended is no error.
func (a *Attached) Signal(sig int) error {
	_, err := a.engine.Kill(context.Background(), KillRequest{Container: a.Record.ID, Signal: sig})
	if errors.Is(err, ErrNotRunning) || errors.Is(err, container.ErrNotFound) {
		return nil
	}
	return err
}

// Wait waits for the container's end, and until everything is done that is to be done
// then, and returns its exit status.
func (a *Attached) Wait(ctx context.Context) (int, error) {
	code := a.code
	var err error
	if !a.known {
		code, err = a.engine.waitFor(ctx, a.Record)
	}
	if err != nil {
		return 0, err
	}
	return code, a.engine.settle(ctx, a.Record)
}

// LogsRequest asks for what a container has written.
type LogsRequest struct {
	Container string
	// Since and Until bound the time; zero for no bound.
	Since, Until time.Time
	// Tail is how many of the last lines are wanted, if Last is set; else all.
	Last bool
	Tail int
	// Match, if set, chooses lines, and Tail counts those that match.
	Match func(line []byte) bool
	// Follow goes on until the container has ended.
	Follow bool
}

// ErrNoLogs means that a container keeps no log.
var ErrNoLogs = errors.New("the container keeps no log")

// Logs calls each with what a container has written, line by line.
func (e *Engine) Logs(ctx context.Context, r LogsRequest, each func(logs.Record) error) error {
	record, err := e.Get(ctx, r.Container)
	if err != nil {
		return err
	}
	if record.Config.LogDriver == logs.None {
		return fmt.Errorf("container %s: it was made with --log-driver none: %w", record.Name, ErrNoLogs)
	}
	containers, err := e.containers()
	if err != nil {
		return err
	}
	dir, err := containers.Dir(record.ID)
	if err != nil {
		return err
	}
	o := logs.ReadOptions{Since: r.Since, Until: r.Until, Last: r.Last, Tail: r.Tail, Match: r.Match, Follow: r.Follow, Watch: []string{dir}}
	o.Ended = func() (bool, error) { return e.silent(record) }
	if st, err := e.State(record); err == nil && st.PID == 0 && !r.Follow {
		o.Follow = true // to the end of what it wrote last, which may be under way
		o.Ended = func() (bool, error) { return e.pauses(record) }
	}
	logDir := monitor.LogDir(e.root, record.ID)
	if o.Follow {
		if err := os.MkdirAll(logDir, 0o700); err != nil {
			return err
		}
	}
	some := r.Match != nil // which may have matched none
	err = logs.Read(ctx, logDir, o, func(r logs.Record) error {
		some = true
		return each(r)
	})
	if err == nil && !some && e.unlogged(record, logDir) {
		return fmt.Errorf("container %s: in the foreground with --rm, what it writes goes to the files of that command: %w", record.Name, ErrNoLogs)
	}
	return err
}

// unlogged reports whether a container has run without anybody who writes a log, as one in
// the foreground does that goes away at its end: it has not a single file.
func (e *Engine) unlogged(record container.Record, logDir string) bool {
	if record.Config.TTY || !record.Config.AutoRemove {
		return false
	}
	st, err := e.State(record)
	if err != nil || st.Started.IsZero() {
		return false
	}
	entries, err := os.ReadDir(logDir)
	return (err == nil || errors.Is(err, fs.ErrNotExist)) && len(entries) == 0
}

// pauses reports whether all is read of what a container wrote before it ended last: it is
// silent, waits to be started again, or runs again already.
func (e *Engine) pauses(record container.Record) (bool, error) {
	containers, err := e.containers()
	if err != nil {
		return false, err
	}
	if st, err := containers.State(record.ID); err == nil && st.Status == container.Restarting {
		return true, nil
	}
	if st, err := e.State(record); err == nil && st.PID != 0 {
		return true, nil
	}
	return e.silent(record)
}

// silent reports whether a container writes nothing any more, and what it wrote is in its
// log.
func (e *Engine) silent(record container.Record) (bool, error) {
	containers, err := e.containers()
	if err != nil {
		return false, err
	}
	st, err := containers.State(record.ID)
	switch {
	case errors.Is(err, container.ErrNotFound):
		return true, nil
	case err != nil:
		return false, err
	case st.Status != container.Running && st.Status != container.Paused:
		return st.Status == container.Exited || st.Status == container.Created, nil
	}
	rt, err := e.runtime()
	if err != nil {
		return false, err
	}
	k, err := rt.Keeper(record.ID)
	if errors.Is(err, runtime.ErrNotFound) || errors.Is(err, runtime.ErrNoKeeper) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, k.Close()
}
