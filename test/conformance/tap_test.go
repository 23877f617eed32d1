package conformance

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// outcome is what a program of the suite said of a runtime.
type outcome struct {
	passed, skipped int
	// failed are the descriptions of the assertions that failed.
	failed []string
	// fatal says why the program gave up; it is empty when it did not.
	fatal string
}

func (o outcome) ok() bool { return len(o.failed) == 0 && o.fatal == "" }

// failures is what to compare by: giving up is worse than any number of failed assertions.
func (o outcome) failures() int {
	if o.fatal != "" {
		return 1 << 20
	}
	return len(o.failed)
}

// String is the verdict as a cell of the table.
func (o outcome) String() string {
	switch {
	case o.fatal != "":
		return "gives up"
	case len(o.failed) > 0:
		return fmt.Sprintf("%d of %d fail", len(o.failed), len(o.failed)+o.passed)
	case o.passed == 0 && o.skipped > 0:
		return "skips"
	}
	return "passes"
}

// An assertion is a line "ok 3 - description" or "not ok 3 - description # SKIP why".
var assertion = regexp.MustCompile(`^(not )?ok [0-9]+(?: (.*))?$`)

// parse reads what a program printed, and how it ended. A program that fails does one of three things: it prints "not
// ok"; it ends with an exit code; or, if it is about hooks, it makes no assertion at all, and prints only a block of
// YAML with an error in it.
func parse(stdout, stderr string, code int) outcome {
	var o outcome
	lines := strings.Split(stdout, "\n")
	for _, line := range lines {
		m := assertion.FindStringSubmatch(line)
		switch {
		case m == nil:
		case strings.Contains(m[2], "# SKIP"):
			o.skipped++
		case m[1] != "":
			o.failed = append(o.failed, strings.TrimPrefix(m[2], "- "))
		default:
			o.passed++
		}
	}
	asserted := o.passed + o.skipped + len(o.failed)
	switch {
	case code != 0:
		o.fatal = fmt.Sprintf("exit code %d: %s", code, oneLine(stderr))
	case asserted == 0:
		o.fatal = diagnosed(lines)
	}
	return o
}

// diagnosed returns the error in a block of YAML between "---" and "...", which is JSON.
func diagnosed(lines []string) string {
	var block strings.Builder
	in := false
	for _, line := range lines {
		switch line = strings.TrimSpace(line); {
		case line == "---":
			in = true
		case line == "...":
			in = false
		case in:
			block.WriteString(line)
		}
	}
	var d struct{ Error, Stderr string }
	if err := json.Unmarshal([]byte(block.String()), &d); err != nil {
		return ""
	}
	return oneLine(d.Error + " " + d.Stderr)
}

// oneLine makes text fit for a message of one line.
func oneLine(text string) string {
	return strings.Join(strings.Fields(text), " ")
}

func TestTAPIsRead(t *testing.T) {
	for _, c := range []struct {
		name, stdout, stderr string
		code                 int
		want                 string
		failed               int
	}{
		{"passes", "TAP version 13\nok 1 - a\nok 2 # SKIP b\n  ---\n  {\"error\": \"x\"}\n  ...\n1..2\n", "", 0, "passes", 0},
		{"fails", "ok 1 - a\nnot ok 2 - b\nnot ok 3\n1..3\n", "", 0, "2 of 3 fail", 2},
		{"skips", "1..1\nok 1 # SKIP needs nothing\n", "", 0, "skips", 0},
		{"nothing to say", "TAP version 13\n1..0\n", "failed to create, as it should be\n", 0, "passes", 0},
		{"exit code", "ok 1 - a\n", "failed\n to create\n", 1, "gives up", 1 << 20},
		{"only an error", "TAP version 13\n  ---\n  {\n    \"error\": \"hooks\"\n  }\n  ...\n1..0\n", "", 0, "gives up", 1 << 20},
		{"TAP inside", "  ---\n  {\n    \"stdout\": \"not ok 1 - x\\n\"\n  }\n  ...\nok 1 - a\n", "", 0, "passes", 0},
	} {
		got := parse(c.stdout, c.stderr, c.code)
		if got.String() != c.want || got.failures() != c.failed {
			t.Errorf("%s: %s with %d failures, want %s with %d", c.name, got, got.failures(), c.want, c.failed)
		}
	}
}
