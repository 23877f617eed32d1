package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/logs"
	"github.com/containr/containr/pkg/logs/forward"
	"github.com/containr/containr/pkg/monitor"
)

// ErrNoJournal means that this machine has no journal to write to.
var ErrNoJournal = errors.New("no journal takes entries at " + forward.JournalSocket)

// ErrNoSyslog means that this machine has no syslog server of its own, and no other was named.
var ErrNoSyslog = errors.New("no syslog server takes messages at " + logs.LocalSyslog)

// forwardPatience is how long the removal of a container waits for its last lines to be
// passed on.
const forwardPatience = 5 * time.Second

// Forward passes on what a container writes, until it has ended and all is sent. With another
// log driver than those that pass on there is nothing to do. When owner ends while the
// container runs, so does this.
func (e *Engine) Forward(ctx context.Context, ref string, owner *os.File) error {
	record, err := e.Get(ctx, ref)
	if err != nil {
		return err
	}
	o, err := record.Config.Logs()
	if err != nil || !o.Forwards() {
		return err
	}
	target, err := openTarget(o, record)
	if err != nil {
		return err
	}
	defer target.Close()
	containers, err := e.containers()
	if err != nil {
		return err
	}
	dir, err := containers.Dir(record.ID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := func() (bool, error) { return e.pauses(record) }
	go func() {
		var b [1]byte
		for {
			if _, err := owner.Read(b[:]); err != nil {
				break
			}
		}
		if over, err := e.silent(record); err != nil || !over {
			cancel(errOwnerEnded)
		}
	}()
	lock, err := durable.Acquire(ctx, monitor.ForwardLock(e.run, record.ID), durable.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Release()
	err = forward.Run(ctx, forward.Options{Dir: monitor.LogDir(e.root, record.ID), Position: monitor.ForwardPosition(e.root, record.ID),
		Target: target, Pause: o.RetryWait, Retries: o.Retries, Ended: e.endedFor(record, ended), Watch: []string{dir},
		Failed: func(err error) {
			slog.Warn("lines wait to be passed on", "container", record.Name, "error", err)
		}})
	if errors.Is(context.Cause(ctx), errOwnerEnded) { // the next monitor goes on
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) { // the container was removed, and the lock may have been made anew since
		return removed(monitor.ForwardLock(e.run, record.ID))
	}
	return err
}

// removed removes a file, if it is there.
func removed(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// errOwnerEnded means that the monitor has ended.
var errOwnerEnded = errors.New("who passes on is not wanted any more")

// endedFor is ended, which is not asked while the container runs again.
func (e *Engine) endedFor(record container.Record, ended func() (bool, error)) func() (bool, error) {
	return func() (bool, error) {
		if st, err := e.State(record); err == nil && st.PID != 0 {
			return false, nil
		}
		return ended()
	}
}

// openTarget returns what takes the lines of a container.
func openTarget(o logs.Options, record container.Record) (forward.Target, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("host name: %w", err)
	}
	return forward.Open(o, forward.Source{ID: record.ID, Name: record.Name, Image: record.Config.Image, Host: host,
		ImageID: record.ConfigDigest, Command: strings.Join(record.Command, " "), Created: record.Created, Attributes: LogAttributes(record, o)})
}

// LogAttributes are the labels and variables that the log options of a container name.
func LogAttributes(record container.Record, o logs.Options) map[string]string {
	out := map[string]string{}
	for _, key := range o.Labels {
		if v, ok := record.Config.Labels[key]; ok {
			out[key] = v
		}
	}
	if record.Spec == nil || record.Spec.Process == nil {
		return out
	}
	for _, v := range record.Spec.Process.Env {
		key, value, _ := strings.Cut(v, "=")
		for _, wanted := range o.Env {
			if key == wanted {
				out[key] = value
			}
		}
	}
	return out
}

// checkLogTarget refuses a log driver that cannot pass anything on here, before the
// container is made. That a server does not answer is no reason: it may later.
func checkLogTarget(c container.Config) error {
	o, err := c.Logs()
	if err != nil || !o.Forwards() {
		return err
	}
	if o.Driver == logs.Journald {
		if _, err := os.Stat(forward.JournalSocket); err != nil {
			return fmt.Errorf("--log-driver journald: %w", ErrNoJournal)
		}
	}
	if o.Driver == logs.Syslog && o.Syslog.Address == logs.LocalSyslog {
		if _, err := os.Stat(logs.LocalSyslog); err != nil {
			return fmt.Errorf("--log-driver syslog: %w", ErrNoSyslog)
		}
	}
	target, err := forward.Open(o, forward.Source{ID: container.NewID()})
	if err != nil {
		return err
	}
	return target.Close()
}

// forwardRest passes on what is left of the log of a container that is about to be removed,
// and gives up after a while. Who passes it on already is waited for: he is the quicker.
func (e *Engine) forwardRest(ctx context.Context, record container.Record) {
	o, err := record.Config.Logs()
	if err != nil || !o.Forwards() {
		return
	}
	waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), forwardPatience)
	defer cancel()
	if err := e.forwardLeft(waiting, record, o); err != nil && !errors.Is(err, fs.ErrNotExist) { // it may never have run
		slog.Warn("not all lines were passed on before the container was removed", "container", record.Name, "error", err)
	}
}

func (e *Engine) forwardLeft(ctx context.Context, record container.Record, o logs.Options) error {
	if _, err := os.Stat(monitor.LogDir(e.root, record.ID)); err != nil {
		return err
	}
	e.tellForwarder(record)
	lock, err := durable.Acquire(ctx, monitor.ForwardLock(e.run, record.ID), durable.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Release()
	target, err := openTarget(o, record)
	if err != nil {
		return err
	}
	defer target.Close()
	return forward.Run(ctx, forward.Options{Dir: monitor.LogDir(e.root, record.ID), Position: monitor.ForwardPosition(e.root, record.ID),
		Target: target, Pause: o.RetryWait, Retries: o.Retries, Ended: func() (bool, error) { return true, nil }})
}

// tellForwarder has who passes the log on look again whether the container has ended. He does so when something changes in
// the directory of the log or of the container, and the end of a container that is removed at once changes nothing there.
// Precondition: the container has ended.
func (e *Engine) tellForwarder(record container.Record) {
	f, err := os.CreateTemp(monitor.LogDir(e.root, record.ID), "ended-*")
	if err != nil {
		return // he is waited for, and it takes longer
	}
	f.Close()
	os.Remove(f.Name())
}

// LogDetails are the labels and variables that the log options of a container name, as docker
// prints them before each line: KEY=VALUE,KEY=VALUE.
func (e *Engine) LogDetails(ctx context.Context, ref string) (string, error) {
	record, err := e.Get(ctx, ref)
	if err != nil {
		return "", err
	}
	o, err := record.Config.Logs()
	if err != nil {
		return "", err
	}
	attributes := LogAttributes(record, o)
	var out []string
	for _, key := range slices.Sorted(maps.Keys(attributes)) {
		out = append(out, url.QueryEscape(key)+"="+url.QueryEscape(attributes[key]))
	}
	return strings.Join(out, ","), nil
}
