package cli

import (
	"bufio"
	"io"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/logs"
)

func (p *Program) logsCommand() *cobra.Command {
	var r engine.LogsRequest
	var timestamps, details bool
	cmd := &cobra.Command{
		Use:     "logs [FLAGS] CONTAINER",
		Short:   "Print what a container has written",
		GroupID: groupRun,
		Long: "Print what a container has written, each of its two outputs to our own.\n\n" +
			"What runs in the foreground is logged too, unless it is removed at its end with --rm and has no terminal:\n" +
			"then it writes to the files of the command that started it itself; --log-driver json-file asks for a log.",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Container = args[0]
			e, err := p.engine()
			if err != nil {
				return err
			}
			prefix := ""
			if details {
				if prefix, err = e.LogDetails(cmd.Context(), args[0]); err != nil {
					return err
				}
			}
			out := &logPrinter{details: prefix, out: bufio.NewWriterSize(p.Out, 64<<10), err: bufio.NewWriter(p.Err), timestamps: timestamps, eager: r.Follow}
			if err := e.Logs(cmd.Context(), r, out.print); err != nil {
				return err
			}
			return out.flush()
		},
	}
	b := binder{cmd.Flags(), "Flags"}
	b.bool(&details, "details", "", "begin each line with the labels and variables that the log options labels and env name")
	b.bool(&r.Follow, "follow", "f", "go on until the container has ended")
	b.value("grep", "", "only lines that match the regular `EXPRESSION`, without their ends; --tail counts these", func(s string) error {
		e, err := regexp.Compile(s)
		if err == nil {
			r.Match = e.Match
		}
		return err
	})
	at := func(s string) (time.Time, error) { return present.ParseTime(s, time.Now()) }
	b.value("since", "", "only from `TIME` on: 2026-01-31T12:00:00, or 10m before now", put(&r.Since, at))
	b.value("until", "", "only up to `TIME`", put(&r.Until, at))
	b.value("tail", "n", "only the last `NUMBER` lines; all for all", func(s string) error {
		if s == "all" {
			r.Last = false
			return nil
		}
		n, err := strconv.Atoi(s)
		if err != nil {
			return strconvError(s)
		}
		r.Last, r.Tail = n >= 0, n
		return nil
	})
	b.bool(&timestamps, "timestamps", "t", "begin each line with its time")
	return cmd
}

// strconvError is the error for what is neither a number nor all.
func strconvError(s string) error {
	_, err := number(s)
	return err
}

// logPrinter prints records to two outputs, which are flushed when the other one is
// written to, so that their order is kept on a terminal.
type logPrinter struct {
	out, err   *bufio.Writer
	timestamps bool
	// details comes before each line, behind its time.
	details string
	eager   bool
	last    *bufio.Writer
	// part says that the last record of each stream was not the end of its line.
	part [2]bool
}

func (l *logPrinter) print(r logs.Record) error {
	w := l.out
	if r.Stream == logs.Stderr {
		w = l.err
	}
	if l.last != nil && l.last != w {
		if err := l.last.Flush(); err != nil {
			return err
		}
	}
	l.last = w
	part := &l.part[r.Stream-1]
	if l.timestamps && !*part {
		if _, err := w.Write(r.Time.UTC().AppendFormat(w.AvailableBuffer(), "2006-01-02T15:04:05.000000000Z07:00 ")); err != nil {
			return err
		}
	}
	if l.details != "" && !*part {
		if _, err := io.WriteString(w, l.details+" "); err != nil {
			return err
		}
	}
	*part = len(r.Data) > 0 && r.Data[len(r.Data)-1] != '\n'
	if _, err := w.Write(r.Data); err != nil {
		return err
	}
	if l.eager {
		return w.Flush()
	}
	return nil
}

func (l *logPrinter) flush() error {
	if err := l.out.Flush(); err != nil {
		return err
	}
	return l.err.Flush()
}
