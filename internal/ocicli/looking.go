package ocicli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/pkg/runtime"
)

func state(a *app, args []string) error {
	return a.withID("state", args, func(r *runtime.Runtime, id string) error {
		s, err := r.State(id)
		if err != nil {
			return err
		}
		return a.json(s, "  ")
	})
}

// json prints a value on many lines.
func (a *app) json(v any, indent string) error {
	text, err := quickjson.Append(nil, v)
	if err == nil {
		_, err = a.stdout.Write(append(quickjson.Indent(nil, text, indent), '\n'))
	}
	return err
}

// jsonLine prints a value on one line.
func (a *app) jsonLine(v any) error {
	text, err := quickjson.Append(nil, v)
	if err == nil {
		_, err = a.stdout.Write(append(text, '\n'))
	}
	return err
}

func list(a *app, args []string) error {
	fs := a.flags("list")
	format := "table"
	quiet := false
	fs.StringVar(&format, "format", "table", "table or json")
	fs.StringVar(&format, "f", "table", "short for --format")
	fs.BoolVar(&quiet, "quiet", false, "print ids only")
	fs.BoolVar(&quiet, "q", false, "short for --quiet")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 0 {
		return errUsage
	}
	r, err := a.runtime()
	if err != nil {
		return err
	}
	all, err := r.List()
	if err != nil {
		return err
	}
	if quiet {
		for _, c := range all {
			fmt.Fprintln(a.stdout, c.ID)
		}
		return nil
	}
	names := make(map[int]string)
	for i := range all {
		all[i].Owner = userName(names, all[i].UID)
	}
	switch format {
	case "json":
		return a.jsonLine(all)
	case "table":
		return a.table(all)
	}
	return fmt.Errorf("--format %q: must be table or json", format)
}

// table prints columns as runc does: at least 12 wide, with at least three spaces behind what is longest.
func (a *app) table(all []runtime.Info) error {
	rows := [][]string{{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}}
	for _, c := range all {
		rows = append(rows, []string{c.ID, strconv.Itoa(c.PID), string(c.Status), c.Bundle, c.Created.Format(time.RFC3339Nano), c.Owner})
	}
	var widths [6]int
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], 12, utf8.RuneCountInString(cell)+3)
		}
	}
	var text strings.Builder
	for _, row := range rows {
		last := len(row) - 1
		for i, cell := range row[:last] {
			text.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
		}
		text.WriteString(row[last] + "\n")
	}
	_, err := io.WriteString(a.stdout, text.String())
	return err
}

// userName finds a user's name in /etc/passwd, once; one without is "#1000".
func userName(known map[int]string, uid int) string {
	if name, ok := known[uid]; ok {
		return name
	}
	known[uid] = "#" + strconv.Itoa(uid)
	f, err := os.Open("/etc/passwd")
	if err != nil {
		return known[uid]
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if p := strings.Split(lines.Text(), ":"); len(p) > 2 && p[2] == strconv.Itoa(uid) {
			known[uid] = p[0]
			break
		}
	}
	return known[uid]
}

// ps prints process numbers, or those lines of ps(1) that are about them.
func ps(a *app, args []string) error {
	fs, format := a.flags("ps"), "table"
	fs.StringVar(&format, "format", "table", "table or json")
	fs.StringVar(&format, "f", "table", "short for --format")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() < 1 {
		return errUsage
	}
	if format != "table" && format != "json" {
		return fmt.Errorf("--format %q: must be table or json", format)
	}
	r, err := a.runtime()
	if err != nil {
		return err
	}
	pids, err := r.Processes(fs.Arg(0))
	if err != nil {
		return err
	}
	if format == "json" {
		return a.jsonLine(pids)
	}
	psArgs := fs.Args()[1:]
	if len(psArgs) == 0 {
		psArgs = []string{"-ef"}
	}
	out, err := exec.Command("ps", psArgs...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ps %s: %w: %s", strings.Join(psArgs, " "), err, out)
	}
	return a.psLines(string(out), pids)
}

// psLines prints the heading of ps, and the lines whose column PID is one of pids.
func (a *app) psLines(out string, pids []int) error {
	heading, rest, _ := strings.Cut(out, "\n")
	column := slices.Index(strings.Fields(heading), "PID")
	if column < 0 {
		return errors.New("ps: what it prints has no column PID")
	}
	fmt.Fprintln(a.stdout, heading)
	for line := range strings.Lines(rest) {
		fields := strings.Fields(line)
		if len(fields) <= column {
			continue
		}
		if pid, err := strconv.Atoi(fields[column]); err == nil && slices.Contains(pids, pid) {
			fmt.Fprint(a.stdout, line)
		}
	}
	return nil
}

func events(a *app, args []string) error {
	fs := a.flags("events")
	stats := fs.Bool("stats", false, "print the counters once")
	interval := fs.Duration("interval", 5*time.Second, "how often to print the counters: 5s, 500ms")
	return a.withFlags(fs, args, func(r *runtime.Runtime, id string) error {
		if !*stats {
			return r.Events(context.Background(), id, *interval, func(e runtime.Event) error { return a.jsonLine(e) })
		}
		s, err := r.Stats(id)
		if err != nil {
			return err
		}
		return a.jsonLine(runtime.Event{Type: "stats", ID: id, Data: s})
	})
}
