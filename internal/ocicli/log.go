package ocicli

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/internal/quickjson"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/runtime"
)

// The file of --log has a line for each thing to tell. With --log-format json a line is
// an object with level, msg and time: containerd's shim takes the last one whose level
// is "error" as the reason of a failure. podman takes the whole file for one object, so
// an error must be one line, hint and all.

// report tells of the error that ends the command.
func (a *app) report(err error) {
	fmt.Fprintln(a.stderr, "containr-runtime:", err)
	text, hint := err.Error(), hintOf(err)
	if hint != "" {
		fmt.Fprintln(a.stderr, "hint:", hint)
		text += " (hint: " + hint + ")"
	}
	a.writeLog("error", text)
}

// advice says what to do, on this command line, about errors of pkg/runtime.
var advice = [...]struct {
	err  error
	text string
}{
	{runtime.ErrNotFound, "containr-runtime list shows the containers; those that were made with another --root are found there only"},
	{runtime.ErrExists, "choose another id, or remove that container first: containr-runtime delete"},
	{runtime.ErrRunning, "end it first with containr-runtime kill, or delete it with --force"},
	{runtime.ErrNoBundle, "--bundle names the directory with config.json; containr-runtime spec writes one to begin with"},
	{runtime.ErrConsole, "give --console-socket to create, and to what runs detached, if the program is to have a terminal, and only then"},
	{errUnknownSignal, "signals have the names and numbers that kill -l prints"},
}

// hintOf is a sentence on what to do about an error, or "".
func hintOf(err error) string {
	if hint := runtime.Hint(err); hint != "" {
		return hint
	}
	for _, a := range advice {
		if errors.Is(err, a.err) {
			return a.text
		}
	}
	return ""
}

// warn tells of what went wrong without stopping anything.
func (a *app) warn(err error) {
	fmt.Fprintln(a.stderr, "containr-runtime: warning:", err)
	a.writeLog("warning", err.Error())
}

// writeLog appends lines of one level to the file of --log, if there is one.
func (a *app) writeLog(level string, messages ...string) {
	if a.log == "" {
		return
	}
	var b strings.Builder
	now := time.Now().UTC().Format(time.RFC3339)
	for _, m := range messages {
		if a.logFormat == "json" {
			line, _ := quickjson.Append(nil, map[string]string{"level": level, "msg": m, "time": now}) // strings always encode
			b.Write(append(line, '\n'))
		} else {
			fmt.Fprintf(&b, "time=%q level=%s msg=%q\n", now, level, m)
		}
	}
	if err := appendFile(a.log, b.String()); err != nil {
		fmt.Fprintln(a.stderr, "containr-runtime: log:", err)
	}
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// logSteps tells what the child's steps did, for --debug: each with its result and when
// it was made. Without --log it goes to standard error.
func (a *app) logSteps(p *plan.Plan, trace []child.Record) {
	var lines []string
	for i := range p.Steps {
		if i >= len(trace) || !trace[i].Made {
			continue
		}
		r := trace[i]
		lines = append(lines, fmt.Sprintf("step %d at %s, %s: %s = %s", i+1, r.Begin.Round(time.Microsecond),
			(r.End-r.Begin).Round(100*time.Nanosecond), p.Steps[i].String(), resultOf(r.Result)))
	}
	if a.log == "" {
		fmt.Fprintln(a.stderr, strings.Join(lines, "\n"))
		return
	}
	a.writeLog("debug", lines...)
}

func resultOf(n int64) string {
	if n < 0 && n > -4096 {
		return plan.Errno(-n).Name()
	}
	return fmt.Sprint(n)
}
