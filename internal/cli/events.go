package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/events"
)

// eventsFlags are those of `events`.
type eventsFlags struct {
	since, until, format string
	filters              []string
}

func (p *Program) eventsCommand() *cobra.Command {
	var f eventsFlags
	cmd := &cobra.Command{
		Use:     "events [FLAGS]",
		Short:   "Print what happens to containers and images",
		GroupID: groupRun,
		Long: "Print what happens to containers and images, as it happens, until interrupted.\n\n" +
			"With --since or --until, print what has happened before too; with an --until that has passed,\n" +
			"end there. Every command writes down what it does, whether somebody looks or not, in the\n" +
			"directory events below the state root, of which the last 16 MiB are kept.\n\n" +
			"Filters are type=container|image, event=ACTION, container=NAME or ID, image=NAME, label=KEY[=VALUE].\n" +
			"Of one key any may be met, but all labels must be.",
		Example: "  containr events --since 1h --until 0s\n" +
			"  containr events --filter event=die --format '{{.Time}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}'",
		Args:                  exactArgs(0),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if strings.HasPrefix(f.format, "table") {
				return &usageError{text: "events: --format table: events come one by one, columns would have no width", hint: "use json, or a template"}
			}
			req, err := f.request(time.Now())
			if err != nil {
				return err
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			return e.Events(cmd.Context(), req, func(ev events.Event) error { return p.printEvent(f.format, ev) })
		},
	}
	cmd.Flags().StringVar(&f.since, "since", "", "print events from `TIME` on: a time, or a duration before now")
	cmd.Flags().StringVar(&f.until, "until", "", "end at `TIME`: a time, or a duration before now")
	cmd.Flags().StringArrayVarP(&f.filters, "filter", "f", nil, "print only events with `KEY=VALUE`")
	cmd.Flags().StringVar(&f.format, "format", "", "print as json, or as a `TEMPLATE` (Go's)")
	return cmd
}

// request reads the flags. Without a time, only what comes is printed.
func (f *eventsFlags) request(now time.Time) (engine.EventsRequest, error) {
	var req engine.EventsRequest
	filters, err := present.ParseFilters(f.filters, events.FilterKeys...)
	if err != nil {
		return req, err
	}
	req.Filters = events.Filters(filters)
	if req.Until, err = readTime("--until", f.until, now); err != nil {
		return req, err
	}
	if req.Since, err = readTime("--since", f.since, now); err != nil {
		return req, err
	}
	if f.since == "" && f.until == "" {
		req.Since = now
	}
	req.Follow = req.Until.IsZero() || req.Until.After(now)
	return req, nil
}

// readTime reads the value of a flag that is a time; empty is the zero time.
func readTime(flag, value string, now time.Time) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	t, err := present.ParseTime(value, now)
	if err != nil {
		return time.Time{}, &usageError{text: fmt.Sprintf("%s %s: %v", flag, value, err),
			hint: "use a duration such as 24h, or a time such as 2026-01-31T12:00:00", err: err}
	}
	return t, nil
}

// shownEvent is an event as docker's API has it, for templates and as JSON.
type shownEvent struct {
	Status   string `json:"status,omitempty"`
	ID       string `json:"id,omitempty"`
	From     string `json:"from,omitempty"`
	Type     string
	Action   string
	Actor    actor
	Scope    string `json:"scope"`
	Time     int64  `json:"time"`
	TimeNano int64  `json:"timeNano"`
}

// actor is what an event is about.
type actor struct {
	ID         string
	Attributes map[string]string
}

func (p *Program) printEvent(format string, e events.Event) error {
	if format == "" {
		_, err := fmt.Fprintln(p.Out, present.CleanLine(e.String()))
		return err
	}
	shown := shownEvent{Status: e.Status(), ID: e.ID, Type: e.Type, Action: e.Status(),
		Actor: actor{ID: e.ID, Attributes: e.Attributes},
		Scope: "local", Time: e.Time.Unix(), TimeNano: e.Time.UnixNano()}
	if e.Type == events.Container {
		shown.From = e.Attributes["image"]
	}
	return present.Rows(p.text(), present.List{Format: format}, []shownEvent{shown})
}
