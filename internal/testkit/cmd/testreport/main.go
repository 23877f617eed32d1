// Command testreport makes the output of "go test -json" short: a line for each package, everything that failing tests
// printed, and at the end the tests that were left out, with their reasons, and those that failed, with the first lines
// of what they printed: who sees only the end of the output sees why.
//
//	go test -json ./... | testreport
//
// The exit status is 1 if something failed, or if the input ends before any package has.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is a line of "go test -json" (go doc test2json).
type event struct {
	Action, Package, ImportPath, Test, Output string
}

func main() {
	failed, err := report(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
	}
	if failed || err != nil {
		os.Exit(1)
	}
}

// summary is what has been seen so far.
type summary struct {
	out      io.Writer
	output   map[string][]string // of tests that are not decided yet, by package and test
	skipped  map[string][]string // names of tests, by reason
	failed   []string            // names of tests and the beginning of what they printed
	packages int
	passed   int
	failures int  // of tests
	broken   bool // a package failed, perhaps without a test that did: it did not build, or it died
}

// report reads events until the end and says whether something failed.
func report(in io.Reader, out io.Writer) (failed bool, err error) {
	s := &summary{out: out, output: map[string][]string{}, skipped: map[string][]string{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Action == "" {
			fmt.Fprintln(out, lines.Text()) // not of the tests, such as a complaint of the go command
			continue
		}
		s.take(e)
	}
	if err := lines.Err(); err != nil {
		return true, err
	}
	if s.packages == 0 {
		return true, fmt.Errorf("no package was tested")
	}
	if s.broken && s.failures == 0 {
		s.failures = 1
	}
	s.close()
	return s.failures > 0, nil
}

func (s *summary) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		io.WriteString(s.out, e.Output)
	case "output":
		s.output[key] = append(s.output[key], e.Output)
	case "pass", "fail", "skip":
		s.decide(e, key)
		delete(s.output, key)
	}
}

// decide prints what is worth it of a test or a package that has ended.
func (s *summary) decide(e event, key string) {
	output := s.output[key]
	if e.Test == "" {
		s.packages++
		s.broken = s.broken || e.Action == "fail"
		for line := range strings.Lines(strings.Join(output, "")) { // long lines come in pieces
			if e.Action == "fail" || strings.HasPrefix(line, "ok") || strings.HasPrefix(line, "---") {
				line, _, _ = strings.Cut(line, " of statements in ") // a list of all packages
				fmt.Fprintln(s.out, strings.TrimSuffix(line, "\n"))
			}
		}
		return
	}
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failures++
		io.WriteString(s.out, strings.Join(output, ""))
		s.failed = append(s.failed, shorten(nameOf(e), output))
	case "skip":
		reason := reasonOf(output)
		s.skipped[reason] = append(s.skipped[reason], nameOf(e))
	}
}

func nameOf(e event) string {
	return strings.TrimPrefix(e.Package, "github.com/containr/containr/") + "." + e.Test
}

// Of a failed test the end of the report repeats this much.
const (
	shortLines = 12
	shortWidth = 300 // bytes of a line
)

// shorten is a test's name and the beginning of its output, without the lines in which go test names it.
func shorten(name string, output []string) string {
	short, n := name+":\n", 0
	for line := range strings.Lines(strings.Join(output, "")) {
		line = strings.TrimRight(line, "\n")
		if line == "" || strings.HasPrefix(strings.TrimSpace(line), "=== ") || strings.HasPrefix(strings.TrimSpace(line), "--- ") {
			continue
		}
		if n++; n > shortLines {
			return short + "    and so on\n"
		}
		short += "    " + strings.TrimSpace(line[:min(len(line), shortWidth)]) + "\n"
	}
	return short
}

// reasonOf is what a test said when it skipped itself: "    file_test.go:12: needs root".
func reasonOf(output []string) string {
	for _, line := range slices.Backward(output) {
		if _, rest, ok := strings.Cut(line, "_test.go:"); ok {
			line = rest
		} else if _, rest, ok := strings.Cut(line, ".go:"); ok {
			line = rest
		} else {
			continue
		}
		if _, reason, ok := strings.Cut(line, ": "); ok {
			return strings.TrimSpace(reason)
		}
	}
	return "no reason given"
}

// close prints the tests that were left out, those that failed, and the totals.
func (s *summary) close() {
	var reasons []string
	left := 0
	for reason, tests := range s.skipped {
		reasons = append(reasons, reason)
		left += len(tests)
	}
	slices.Sort(reasons)
	for _, reason := range reasons {
		tests := s.skipped[reason]
		more := ""
		if len(tests) > 3 {
			tests, more = tests[:3], fmt.Sprintf(" and %d more", len(tests)-3)
		}
		fmt.Fprintf(s.out, "left out: %s: %s%s\n", reason, strings.Join(tests, ", "), more)
	}
	for _, f := range s.failed {
		io.WriteString(s.out, "failed: "+f)
	}
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.passed, s.failures, left)
}
