// Package probe is the program that kernel tests run as PID 1 of a container: it tells what it sees, as JSON, and
// does what it is told.
//
// # Theory of operation
//
// The arguments are a program, carried out from left to right:
//
//	/probe -report                           print a Report (also what no arguments at all do)
//	/probe -try mount -try read:/etc/shadow  print a Report with the outcome of the attempts
//	/probe -alloc 100M -exit 3               touch 100 MiB of memory, then exit with status 3
//	/probe -report -wait-signal WINCH -report
//
// Flags that ask (-try, -sysctl, -ls) are gathered first and answered in every report; if there is one of them, or
// no flag at all, and no explicit -report, a report comes first. Each answer is one JSON object on a line of its own
// on standard output, so a reader with json.Decoder takes them as they come. Nothing else is printed, unless the test
// asks with -stdout, -stderr or -echo.
//
// A Go program does not see its process as execve left it: before main runs, the runtime has installed handlers,
// unblocked signals and raised the limit of open files. The runtime remembers what it found in variables of its own;
// the probe reads those out of its memory (inherited.go) and reports the state that the launcher really handed over.
//
// The exit status is 0, or that of -exit, 2 for wrong usage, 3 for an action that failed (its reason is on standard
// error).
package probe

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// exitStatus ends the program early with its own value.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// prober carries out one command line.
type prober struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	asked  questions
	forked []int    // processes made by -fork, ended with the probe
	ends   []any    // connections made by -connect
	held   [][]byte // memory taken by -alloc, kept until the end
}

// questions are what a report answers on request.
type questions struct {
	tries, sysctls, dirs []string
}

// action is one effect of the command line.
type action func(*prober) error

// Main runs the command line args and returns the exit status.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// -fork makes children that die with the thread that made them, so this must stay one thread.
	runtime.LockOSThread()
	p := &prober{stdin: stdin, stdout: stdout, stderr: stderr}
	actions, err := p.parse(args)
	if err != nil {
		return 2
	}
	defer p.end()
	for _, act := range actions {
		err := act(p)
		if status, ok := err.(exitStatus); ok {
			return int(status)
		}
		if err != nil {
			fmt.Fprintln(stderr, "probe:", err)
			return 3
		}
	}
	return 0
}

// parse turns the arguments into questions and actions.
func (p *prober) parse(args []string) ([]action, error) {
	var actions []action
	var reports bool
	fs := flag.NewFlagSet("probe", flag.ContinueOnError)
	fs.SetOutput(p.stderr)
	gather := func(list *[]string) func(string) error {
		return func(s string) error { *list = append(*list, s); return nil }
	}
	fs.Func("try", "report the outcome of `attempt` ("+strings.Join(attemptNames(), " ")+")", gather(&p.asked.tries))
	fs.Func("sysctl", "report /proc/sys/`name`, with dots or slashes", gather(&p.asked.sysctls))
	fs.Func("ls", "report the entries of `dir`", gather(&p.asked.dirs))
	fs.BoolFunc("report", "print a report now", func(string) error {
		reports = true
		actions = append(actions, (*prober).report)
		return nil
	})
	for _, v := range verbs {
		fs.Func(v.name, v.usage, func(s string) error {
			act, err := v.parse(s)
			actions = append(actions, act)
			return err
		})
	}
	fs.BoolFunc("echo", "copy standard input to standard output until it ends", func(string) error {
		actions = append(actions, (*prober).echo)
		return nil
	})
	fs.BoolFunc("pause", "wait until killed", func(string) error {
		actions = append(actions, func(*prober) error {
			for {
				unix.Poll(nil, -1) // not select {}: the Go runtime would call that a deadlock
			}
		})
		return nil
	})
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(p.stderr, "probe: argument %q is not a flag\n", fs.Arg(0))
		return nil, flag.ErrHelp
	}
	asks := len(p.asked.tries)+len(p.asked.sysctls)+len(p.asked.dirs) > 0
	if !reports && (asks || len(actions) == 0) {
		actions = append([]action{(*prober).report}, actions...)
	}
	return actions, nil
}

// answer prints one value as a line of JSON.
func (p *prober) answer(v any) error { return json.NewEncoder(p.stdout).Encode(v) }

func (p *prober) report() error { return p.answer(collect(p.asked)) }

func (p *prober) echo() error {
	_, err := io.Copy(p.stdout, p.stdin)
	return err
}
