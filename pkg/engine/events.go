package engine

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/networks"
	"github.com/containr/containr/pkg/volume"
)

// EventsRequest asks what happened, and what happens.
type EventsRequest struct {
	events.Query
	Filters events.Filters
}

// Events calls f with each event of the request, in the order in which they were written
// down. It ends when there are no more, or, if they are followed, with ctx.
func (e *Engine) Events(ctx context.Context, r EventsRequest, f func(events.Event) error) error {
	if e.root == "" {
		return ErrNoRoot
	}
	if err := e.TellRefused(ctx); err != nil {
		slog.Warn(err.Error())
	}
	if r.Follow {
		ended := e.followRefused(ctx)
		defer ended()
	}
	return events.Open(e.root).Read(ctx, r.Query, func(ev events.Event) error {
		if !r.Filters.Match(ev) {
			return nil
		}
		return f(ev)
	})
}

// refusedInterval is how often somebody who follows events is told what was refused.
const refusedInterval = time.Second

// followRefused writes down what policies refuse, again and again, until ended is called.
func (e *Engine) followRefused(ctx context.Context) (ended func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ticker := time.NewTicker(refusedInterval); ; {
			select {
			case <-ctx.Done():
				ticker.Stop()
				return
			case <-ticker.C:
				if err := e.TellRefused(ctx); err != nil && ctx.Err() == nil {
					slog.Warn(err.Error())
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}

// tell writes down what has just been done to a container. attributes are names and values
// in turn. It is done, whether the writing succeeds or not (the disk may be full): a failure
// is a warning.
func (e *Engine) tell(action string, r container.Record, attributes ...string) {
	e.write(r.Event(action, attributes...))
}

// tellExec says that a further program runs in a container. id is the program's, in what is told of it.
func (e *Engine) tellExec(r container.Record, id string, args []string) {
	for _, action := range []string{events.ExecCreate, events.ExecStart} {
		ev := r.Event(action, "execID", id)
		ev.Detail = strings.Join(args, " ")
		e.write(ev)
	}
}

// tellImage is tell for an image, which is known by a name or its digest.
func (e *Engine) tellImage(action, id string, attributes ...string) {
	e.write(events.Event{Type: events.Image, Action: action, ID: id, Attributes: events.Attributes(append(attributes, "name", id)...)})
}

// tellNetwork is tell for a network.
func (e *Engine) tellNetwork(action string, n networks.Network) {
	e.write(events.Event{Type: events.Network, Action: action, ID: n.ID, Attributes: events.Attributes("name", n.Name, "type", n.Driver)})
}

// tellVolume is tell for a volume.
func (e *Engine) tellVolume(action, name string) {
	e.write(events.Event{Type: events.Volume, Action: action, ID: name, Attributes: events.Attributes("driver", volume.DriverLocal)})
}

// tellEnd says that the program of a container has ended, as the state has it.
func (e *Engine) tellEnd(r container.Record, st container.State) {
	if st.OOMKilled {
		e.tell(events.OOM, r)
	}
	lasted := st.Finished.Sub(st.Started)
	if st.Started.IsZero() {
		lasted = 0
	}
	e.tell(events.Die, r, "exitCode", strconv.Itoa(st.ExitCode), "execDuration", strconv.Itoa(int(lasted.Seconds())))
}

func (e *Engine) write(ev events.Event) {
	if err := e.journal.Append(ev); err != nil {
		slog.Warn(err.Error())
	}
	logEvent(ev)
}

// logEvent tells the log of an event: "container start", with id and attributes by name.
func logEvent(ev events.Event) {
	if !slog.Default().Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	attrs := []slog.Attr{slog.String("id", ev.ID)}
	if ev.ID == "" { // it is about nothing in particular
		attrs = nil
	}
	for _, name := range slices.Sorted(maps.Keys(ev.Attributes)) {
		attrs = append(attrs, slog.String(name, ev.Attributes[name]))
	}
	slog.LogAttrs(context.Background(), slog.LevelInfo, ev.Type+" "+ev.Action, attrs...)
}
