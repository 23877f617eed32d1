package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/pkg/plan"
)

// printTrace prints the plan of a container that has been started, with what each
// step of the child returned and when. Steps of the host, which have failed if
// they are the last, are printed without.
func (p *Program) printTrace(pl *plan.Plan, records []child.Record) {
	w := bufio.NewWriter(p.Err)
	defer w.Flush()
	chapter := plan.Chapter("")
	for i, s := range pl.Steps {
		if s.Chapter != chapter {
			chapter = s.Chapter
			fmt.Fprintf(w, "%s\n", chapter)
		}
		call := plan.Format(s.Call)
		if s.Result != "" {
			call = string(s.Result) + " = " + call
		}
		switch {
		case s.Actor == plan.Host || i >= len(records):
			fmt.Fprintf(w, "  %9s  %s\n", s.Actor, call)
		case !records[i].Made:
			fmt.Fprintf(w, "  %9s  %s\n", "not made", call)
		default:
			r := records[i]
			fmt.Fprintf(w, "  %9s  %s = %s  <%s>\n", micros(r.Begin), call, result(r.Result), micros(r.End-r.Begin))
		}
	}
}

func micros(d time.Duration) string {
	return fmt.Sprintf("%.1fµs", float64(d.Nanoseconds())/1e3)
}

// result writes what a call returned as strace does.
func result(n int64) string {
	if n >= 0 || n < -4095 {
		return fmt.Sprint(n)
	}
	errno := plan.Errno(-n)
	return fmt.Sprintf("-1 %s (%s)", errno.Name(), errno.Error())
}

// errStopped is what ends a run whose user had seen enough.
var errStopped = errors.New("stopped before the next step")

// stepper returns a function that shows each step on the terminal and waits for
// Enter; c goes on without waiting, q stops, and so does Ctrl-C.
func stepper(console *os.File) func(int, *plan.Step) error {
	in := bufio.NewReader(console)
	free := false
	interrupts := make(chan os.Signal, 1) // caught before the first question, so that none is lost
	signal.Notify(interrupts, os.Interrupt)
	return func(index int, s *plan.Step) error {
		fmt.Fprintf(console, "%3d %s, %s: %s\n    %s\n", index, s.Chapter, s.Actor, s.Why, plan.Format(s.Call))
		if free {
			return nil
		}
		fmt.Fprint(console, "    Enter: make this step   c: go on without waiting   q: stop  ")
		answer, err := ask(console, in, interrupts)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		switch strings.TrimSpace(answer) {
		case "q":
			return errStopped
		case "c":
			free = true
			signal.Stop(interrupts)
		}
		if err != nil {
			return errStopped
		}
		return nil
	}
}

// ask reads a line from the terminal. Ctrl-C, which others catch too to pass it on or
// to give up what they do, ends the wait: the answer is errStopped.
func ask(console *os.File, in *bufio.Reader, interrupts <-chan os.Signal) (string, error) {
	answered := make(chan struct{})
	defer close(answered)
	go func() {
		select {
		case <-interrupts:
			console.SetReadDeadline(time.Now()) // the read returns
		case <-answered:
		}
	}()
	answer, err := in.ReadString('\n')
	if errors.Is(err, os.ErrDeadlineExceeded) {
		fmt.Fprintln(console)
		return "", errStopped
	}
	return answer, err
}
