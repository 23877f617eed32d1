package cli

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"

	"github.com/containr/containr/internal/doctor"
	"github.com/containr/containr/internal/errcode"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// fieldNames lists the names that the fields of a struct have in JSON.
func fieldNames(v any) []string {
	var names []string
	kind := reflect.TypeOf(v)
	for i := range kind.NumField() {
		name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

func TestSplitWords(t *testing.T) {
	for in, want := range map[string][]string{
		"":                          nil,
		"  \t\n ":                   nil,
		"run  base":                 {"run", "base"},
		`run 'a b' "c d"`:           {"run", "a b", "c d"},
		`a'b'"c"\ d`:                {"abc d"},
		`'' ""`:                     {"", ""},
		`"a\"b\n"`:                  {`a"b\n`},
		`'a\b'`:                     {`a\b`},
		`-e X="$HOME" -e 'Y=a "b"'`: {"-e", "X=$HOME", "-e", `Y=a "b"`},
	} {
		got, err := splitWords(in)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q, error %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"'", `"`, `a "b`, `a\`} {
		if got, err := splitWords(in); err == nil {
			t.Errorf("%q was split into %q", in, got)
		}
	}
}

// TestDiffLines: each text can be had back from the whole script, and equal texts
// differ in nothing.
func TestDiffLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 8)
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		var left, right []string
		for _, line := range editScript(a, b) {
			if line[0] != '+' {
				left = append(left, line[1:])
			}
			if line[0] != '-' {
				right = append(right, line[1:])
			}
		}
		if strings.Join(left, "\n") != strings.Join(a, "\n") || strings.Join(right, "\n") != strings.Join(b, "\n") {
			t.Errorf("%q and %q: %q", a, b, editScript(a, b))
		}
		if out := diffLines(a, a); len(out) != 0 {
			t.Errorf("%q differs from itself: %q", a, out)
		}
	})
	a := strings.Split("1 2 3 4 5 6 7 8 9 x", " ")
	b := strings.Split("1 two 3 4 5 6 7 8 9 y", " ")
	want := strings.Split(" 1,-2,+two, 3, 4,..., 8, 9,-x,+y", ",")
	if diff := cmp.Diff(want, diffLines(a, b)); diff != "" {
		t.Error(diff)
	}
}

func TestApplyChange(t *testing.T) {
	var c v1.ImageConfig
	for _, change := range []string{
		`CMD ["sh", "-l"]`, "entrypoint exec app", "ENV A=1 B='x y'", "ENV OLD style value", "LABEL k=v",
		"EXPOSE 80 53/udp", `VOLUME ["/data"]`, "STOPSIGNAL SIGINT", "USER app:app", "WORKDIR /srv",
	} {
		if err := applyChange(&c, change); err != nil {
			t.Errorf("%s: %v", change, err)
		}
	}
	want := v1.ImageConfig{
		Cmd: []string{"sh", "-l"}, Entrypoint: []string{"/bin/sh", "-c", "exec app"},
		Env: []string{"A=1", "B=x y", "OLD=style value"}, Labels: map[string]string{"k": "v"},
		ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}}, Volumes: map[string]struct{}{"/data": {}},
		StopSignal: "SIGINT", User: "app:app", WorkingDir: "/srv",
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	for _, change := range []string{"", "CMD", "RUN x", "CMD [1]", "ENV =x", "ENV A", "LABEL 'k", "VOLUME [x]"} {
		if err := applyChange(&c, change); err == nil {
			t.Errorf("%q was accepted", change)
		}
	}
}

func TestResult(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 7: "7", -2: "-1 ENOENT (no such file or directory)", -5000: "-5000"} {
		if got := result(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

// TestStepper plays a user who makes one step, goes on freely, and one who stops.
func TestStepper(t *testing.T) {
	step := &plan.Step{Chapter: "c", Why: "because", Call: linux.Setsid{}}
	for answers, want := range map[string][]error{
		"\nc\n": {nil, nil, nil},
		"\nq\n": {nil, errStopped},
	} {
		user, console, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(user)
		io.WriteString(user, answers)
		ask := stepper(console)
		for i, wantErr := range want {
			if err := ask(i, step); !errors.Is(err, wantErr) {
				t.Errorf("%q: step %d: %v, want %v", answers, i, err, wantErr)
			}
		}
		for !strings.Contains(must(lines.ReadString('\n')), "because") {
		}
		user.Close()
		console.Close()
	}
}

func must(line string, err error) string {
	if err != nil {
		panic(err)
	}
	return line
}

func TestAbsolute(t *testing.T) {
	t.Chdir("/")
	for in, want := range map[string]string{"": "", "/a/../b": "/b", "x": "/x"} {
		if got, err := absolute(in); err != nil || got != want {
			t.Errorf("%q: %q, error %v; want %q", in, got, err, want)
		}
	}
}

// TestEveryHintHasACode: what is worth a hint is worth being looked up.
func TestEveryHintHasACode(t *testing.T) {
	for _, h := range hints {
		if code := errcode.Of(h.err); code == errcode.Other {
			t.Errorf("%v has a hint and no code: add an entry to internal/errcode/table.go", h.err)
		}
	}
}

// TestTourSaysWhatWentWrong: a command of the tour that does not end as it should is the tour's error.
func TestTourSaysWhatWentWrong(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	// The program that is run is this test, which says of an unknown flag that it is none: 2.
	p := &tour{Program: &Program{In: null, Out: null, Err: null}, ctx: t.Context(), noWait: true}
	if err := p.walk([]stop{{title: "x", command: "-no-such-flag", status: 2}}); err != nil {
		t.Errorf("a status that was expected: %v", err)
	}
	err = p.walk([]stop{{title: "a title", command: "-no-such-flag"}, {title: "root's", command: "-no-such-flag", rootOnly: true}})
	if err == nil || !strings.Contains(err.Error(), "a title: containr -no-such-flag ended with 2, and should with 0") || strings.Contains(err.Error(), "root's") {
		t.Errorf("a status that was not: %v", err)
	}
	// Each command is one that splitWords can read.
	for _, s := range tourStops {
		if words, err := splitWords(s.command); err != nil || len(words) == 0 {
			t.Errorf("%s: %v, error %v", s.command, words, err)
		}
	}
}

// TestFindingsForPeople: chapters, states in colour only where they are wanted, and what mends it below.
func TestFindingsForPeople(t *testing.T) {
	findings := []doctor.Finding{
		{Group: "A", Check: "one", State: doctor.OK, Why: "it is there"},
		{Group: "A", Check: "two", State: doctor.Missing, Why: "it is not", Mend: "make it", Needed: true},
		{Group: "B", Check: "three", State: doctor.Limited, Why: "a little"},
	}
	var b strings.Builder
	if err := writeFindings(&b, findings, false); err != nil {
		t.Fatal(err)
	}
	want := "A\n  ok       one: it is there\n  missing  two: it is not (needed)\n           mend: make it\n\nB\n  limited  three: a little\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	b.Reset()
	if err := writeFindings(&b, findings, true); err != nil || !strings.Contains(b.String(), "\x1b[31mmissing\x1b[0m") {
		t.Errorf("%q, error %v", b.String(), err)
	}
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	for _, c := range []struct {
		noColour, term string
		want           bool
	}{{"", "xterm", true}, {"1", "xterm", false}, {"", "dumb", false}} {
		t.Setenv("NO_COLOR", c.noColour)
		t.Setenv("TERM", c.term)
		if got := colours(slave); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if file, err := os.Open(os.DevNull); err != nil || colours(file) {
		t.Errorf("a file that is no terminal has colours (%v)", err)
	}
}

// What a container wrote last, and what its events say, commands no terminal and makes no line of the story.
func TestStoryCommandsNoTerminal(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	const hostile = "x\x1b]0;title\x07\u009b\nWhat to try:"
	p := &Program{Out: out}
	story := &engine.Story{Name: "web", Headline: "has ended", Causes: []string{hostile}, Output: []string{hostile},
		Facts: []engine.Fact{{Name: "fact", Value: hostile}}, Events: []events.Event{{Action: "exec_create", Detail: hostile}}}
	if err := p.printStories([]*engine.Story{story}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(string(text), "\x1b\x07\u009b") {
		t.Errorf("it commands the terminal: %q", text)
	}
	if n := strings.Count("\n"+string(text), "\nWhat to try:"); n > 1 { // causes are the engine's own sentences
		t.Errorf("%d lines are forged: %q", n-1, text)
	}
}
