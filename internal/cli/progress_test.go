package cli

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/registry"
)

var someWaits = []registry.Wait{
	{Registry: "r.test", What: "manifest a:1", Doing: "connecting to r.test", For: 3 * time.Second, Limit: 30 * time.Second, Attempt: 1, Attempts: 6},
	{Registry: "r.test", What: "manifest a:1", Doing: "connecting to r.test", For: 4 * time.Second, Limit: 30 * time.Second, Attempt: 1, Attempts: 6},
	{Registry: "r.test", What: "manifest a:1", Over: true},
	{Registry: "r.test", What: "manifest a:1", Attempt: 1, Attempts: 6, For: 500 * time.Millisecond, Failed: errors.New("it\x1bfailed")},
}

// A file gets a line for each thing that is waited for.
func TestWaitsOfAFile(t *testing.T) {
	const want = "connecting to r.test for 3 s, at most 30 s, attempt 1 of 6: manifest a:1\n" +
		"it?failed; attempt 2 of 6 follows in 0.5 s\n"
	for quiet, want := range map[bool]string{false: want, true: ""} {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		p := &Program{Err: f}
		p.newProgress(quiet)
		for _, w := range someWaits {
			p.showWait(w)
		}
		got, err := os.ReadFile(f.Name())
		if err != nil || string(got) != want {
			t.Errorf("quiet %v: printed %q, want %q; error %v", quiet, got, want, err)
		}
		f.Close()
	}
}

// A terminal has one line that counts, and is empty again in the end.
func TestWaitsOfATerminal(t *testing.T) {
	outer, inner, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer outer.Close()
	if err := pty.Setsize(inner, &pty.Winsize{Rows: 24, Cols: 60}); err != nil {
		t.Fatal(err)
	}
	p := &Program{Err: inner}
	for _, w := range someWaits[:3] {
		p.showWait(w)
	}
	want := eraseLine + "connecting to r.test for 3 s, at most 30 s, attempt 1 of 6:" +
		eraseLine + "connecting to r.test for 4 s, at most 30 s, attempt 1 of 6:" + eraseLine
	inner.Close()
	// What is read is what was written before the other side was closed, and then EIO.
	if got, err := io.ReadAll(outer); !errors.Is(err, unix.EIO) || string(got) != want {
		t.Errorf("the terminal got %q, want %q; error %v", got, want, err)
	}
}
