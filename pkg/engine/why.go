package engine

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containr/containr/pkg/cgroup"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/logs"
)

// WhyRequest asks what became of a container.
type WhyRequest struct {
	// Container is its name, its id or the beginning of its id. One that was removed is known
	// as long as the journal of events is.
	Container string
	// Lines is how many of the last lines of its log are wanted.
	Lines int
}

// Why tells what became of a container.
func (e *Engine) Why(ctx context.Context, r WhyRequest) (*Story, error) {
	v := &evidence{now: time.Now()}
	record, err := e.Get(ctx, r.Container)
	if errors.Is(err, container.ErrNotFound) {
		story, journalErr := e.whyRemoved(ctx, r.Container)
		if story == nil && journalErr == nil {
			return nil, err
		}
		return story, journalErr
	}
	if err != nil {
		return nil, err
	}
	v.record = record
	if v.state, err = e.State(record); err != nil {
		return nil, err
	}
	if v.events, err = e.eventsOf(ctx, record.ID); err != nil {
		return nil, err
	}
	if !v.state.Started.IsZero() && r.Lines > 0 {
		if v.output, err = e.lastLines(ctx, record, r.Lines); err != nil {
			return nil, err
		}
	}
	if v.state.PID != 0 {
		samples, err := e.Stats(ctx, StatsRequest{Containers: []string{record.ID}})
		if err != nil {
			return nil, err
		}
		v.sample = &samples[0]
	}
	return v.story(), nil
}

// eventsOf reads the events of a container.
func (e *Engine) eventsOf(ctx context.Context, id string) ([]events.Event, error) {
	var out []events.Event
	err := e.Events(ctx, EventsRequest{Filters: events.Filters{"container": {id}}}, func(ev events.Event) error {
		out = append(out, ev)
		return nil
	})
	return out, err
}

// lastLines reads the end of a container's log. One that keeps none has none.
func (e *Engine) lastLines(ctx context.Context, record container.Record, n int) ([]string, error) {
	var out []string
	err := e.Logs(ctx, LogsRequest{Container: record.ID, Last: true, Tail: n}, func(r logs.Record) error {
		out = append(out, strings.TrimRight(string(r.Data), "\r\n"))
		return nil
	})
	if errors.Is(err, ErrNoLogs) {
		err = nil
	}
	return out, err
}

// whyRemoved tells what the journal knows of a container that is no more; nil if that is
// nothing. Of several that had the name it is the last.
func (e *Engine) whyRemoved(ctx context.Context, ref string) (*Story, error) {
	all, err := e.eventsOf(ctx, ref)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	last := all[len(all)-1]
	all = slices.DeleteFunc(all, func(ev events.Event) bool { return ev.ID != last.ID })
	v := &evidence{now: time.Now(), events: all, record: container.Record{ID: last.ID, Name: last.Attributes["name"]}}
	v.record.Config.Image = last.Attributes["image"]
	v.state = stateFrom(all)
	for _, ev := range all {
		if ev.Action == events.Create {
			v.record.Created = ev.Time
		}
	}
	story := v.story()
	story.forgetAdvice(v.record)
	for _, ev := range all {
		if ev.Action == events.Destroy {
			story.Headline += "; it was removed " + v.ago(ev.Time)
		}
	}
	return story, nil
}

// forgetAdvice leaves out what needs a container that is no more. One that never ran went with the command that was to run it,
// or was removed by a user: the events do not say why.
func (s *Story) forgetAdvice(r container.Record) {
	s.Advice = slices.DeleteFunc(s.Advice, func(text string) bool { return strings.Contains(text, " "+r.Name+"`") })
	if slices.Contains(s.Causes, neverStarted) {
		s.Causes = []string{"It has not come to run before it was removed; `containr run` removes what it could not start, and says why when it does."}
		s.try("run it again, and read the error; with `containr create` and `containr start` it stays, and `containr why` knows the error")
	}
}

// stateFrom is the state that a container had last, of its events.
func stateFrom(all []events.Event) container.State {
	st := container.State{Status: container.Created}
	for _, ev := range all {
		switch ev.Action {
		case events.Start:
			st = container.State{Status: container.Exited, Started: ev.Time}
		case events.OOM:
			st.OOMKilled = true
		case events.Die:
			st.Finished = ev.Time
			st.ExitCode = exitCode(ev)
		}
	}
	return st
}

// exitCode is that of a die event; one that is no number is 0.
func exitCode(ev events.Event) int {
	n, err := strconv.Atoi(ev.Attributes["exitCode"])
	if err != nil {
		return 0
	}
	return n
}

// countUsed notes what a container that has ended had used, before its control group goes; nil if
// that cannot be known: a word less in its story is no reason to fail its end.
func (e *Engine) countUsed(record container.Record) *container.Used {
	if record.Config.AutoRemove {
		return nil // it would go at once
	}
	rt, err := e.runtime()
	if err != nil {
		return nil
	}
	usage, err := rt.LastUsage(record.ID)
	if err != nil {
		return nil
	}
	used := &container.Used{}
	if m := usage.Memory; m != nil {
		used.OOMKills, used.MemoryPeak = m.OOMKills, m.Peak
		if m.Limit != cgroup.Unlimited {
			used.MemoryLimit = m.Limit
		}
	}
	if c := usage.CPU; c != nil {
		used.CPU, used.Periods, used.Throttled = c.Total, c.Periods, c.ThrottledPeriods
	}
	return used
}
