package cli_test

import (
	"strings"
	"testing"
)

// TestTourOfAPerson: who takes the tour looks at a stop, leaves one out, types something else, and goes when a container is
// kept, which is removed then.
func TestTourOfAPerson(t *testing.T) {
	x := newTerminal(t)
	const prompt = "[Enter: run it, s: skip it, q: leave the tour] "
	x.containr("tour")
	x.expect("1 of ")
	x.expect("$ containr run --rm base echo hello")
	x.expect(prompt)
	x.types("what?\n")
	x.expect(prompt)
	x.types("\n")
	x.expect("\r\nhello\r\n")
	for {
		before := x.expect(prompt)
		if strings.Contains(before, "$ containr rm souvenir") {
			break
		}
		if strings.Contains(before, "souvenir") {
			x.types("\n")
		} else {
			x.types("s\n")
		}
	}
	x.types("q\n")
	x.expect("Good bye.")
	x.ends(0)
}

// TestTourIsInterrupted: Ctrl-C at a question ends it, as it ends every command.
func TestTourIsInterrupted(t *testing.T) {
	x := newTerminal(t)
	x.containr("tour")
	x.expect("leave the tour] ")
	x.types("\x03")
	x.ends(130)
}

// TestQuestionIsInterrupted: Ctrl-C at the question whether to remove something removes nothing, and so does Ctrl-D.
func TestQuestionIsInterrupted(t *testing.T) {
	for _, c := range []struct {
		name, key string
		status    int
	}{{"Ctrl-C", "\x03", 130}, {"Ctrl-D", "\x04", 1}, {"no", "n\n", 1}} {
		t.Run(c.name, func(t *testing.T) {
			x := newTerminal(t)
			x.containr("create", "--name", "kept", "base")
			x.ends(0)
			x.containr("container", "prune")
			x.expect("Go on? [y/N] ")
			x.types(c.key)
			x.ends(c.status)
			x.containr("container", "rm", "kept")
			x.ends(0)
		})
	}
}
