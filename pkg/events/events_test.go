package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A test binary with writerVar set is a process that writes events.
const writerVar = "CONTAINR_TEST_EVENT_WRITER"

func TestMain(m *testing.M) {
	if root := os.Getenv(writerVar); root != "" {
		if err := writeMany(root, os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// writeMany writes count events, which are numbered, in files that are small.
func writeMany(root, name, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	j := Open(root)
	j.maxFile, j.keep = 8<<10, 1<<20
	for i := range n {
		e := Event{Type: Container, Action: Start, ID: name, Attributes: map[string]string{"n": strconv.Itoa(i)}}
		if err := j.Append(e); err != nil {
			return err
		}
	}
	return nil
}

// within is a context that ends when a test has taken too long.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func startWriter(t *testing.T, root, name string, count int) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], name, strconv.Itoa(count))
	cmd.Env = append(os.Environ(), writerVar+"="+root)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// collect reads until there are no more.
func collect(t *testing.T, root string, q Query) []Event {
	t.Helper()
	var got []Event
	if err := Open(root).Read(within(t), q, func(e Event) error { got = append(got, e); return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

// What many processes write at once is all there, once, in the order of each of them and of
// the times; and a reader that follows sees the same.
func TestManyWriters(t *testing.T) {
	root := t.TempDir()
	const writers, each = 8, 200
	var followed []Event
	done := make(chan error, 1)
	go func() {
		done <- Open(root).Read(within(t), Query{Follow: true}, func(e Event) error {
			if followed = append(followed, e); len(followed) == writers*each {
				return errEnough
			}
			return nil
		})
	}()
	var running []*exec.Cmd
	for i := range writers {
		running = append(running, startWriter(t, root, fmt.Sprint("writer", i), each))
	}
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got := collect(t, root, Query{})
	if len(got) != writers*each || fmt.Sprint(got) != fmt.Sprint(followed) {
		t.Fatalf("%d events read, %d followed, want %d, and the same", len(got), len(followed), writers*each)
	}
	if !slices.IsSortedFunc(got, func(a, b Event) int { return a.Time.Compare(b.Time) }) {
		t.Error("the times are not in order")
	}
	expectNumbered(t, got, each)
	if files, _ := filepath.Glob(filepath.Join(root, "events", "*"+suffix)); len(files) < 10 {
		t.Errorf("%d files: the test wants many", len(files))
	}
}

// expectNumbered checks that the events of each writer count up from 0, to at least least.
func expectNumbered(t *testing.T, got []Event, least int) {
	t.Helper()
	next := map[string]int{}
	for _, e := range got {
		if e.Attributes["n"] != strconv.Itoa(next[e.ID]) {
			t.Fatalf("%s: number %s, want %d", e.ID, e.Attributes["n"], next[e.ID])
		}
		next[e.ID]++
	}
	for id, n := range next {
		if n < least {
			t.Errorf("%s: %d events, want %d", id, n, least)
		}
	}
}

// Writers that are killed take nothing with them that others wrote, and hold up nobody.
func TestKilledWriters(t *testing.T) {
	root := t.TempDir()
	for round := range 20 {
		victim := startWriter(t, root, fmt.Sprint("victim", round), 1<<20)
		seen := 0
		err := Open(root).Read(within(t), Query{Follow: true}, func(e Event) error {
			if e.ID == fmt.Sprint("victim", round) {
				seen++
			}
			if seen > round {
				return errEnough
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := victim.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		victim.Wait()
	}
	if err := writeMany(root, "last", "3"); err != nil {
		t.Fatal(err)
	}
	expectNumbered(t, collect(t, root, Query{}), 1)
}

// What is left of a line is passed over, and does not spoil the next.
func TestTornLines(t *testing.T) {
	for _, torn := range []string{`{"time":"2026-01-01T00:00:00Z","type":"conta`, "\x00\x00\x00\x00", strings.Repeat("x", 3*maxLine), "{}\n[]\n\n", `{"time":"2026-01-01T00:00:00Z"}`} {
		root := t.TempDir()
		j := Open(root)
		if err := j.Append(Event{Type: Container, Action: Start, ID: "a"}); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(j.path(1), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(torn)
		f.Close()
		if err := j.Append(Event{Type: Container, Action: Die, ID: "b"}); err != nil {
			t.Fatal(err)
		}
		got := collect(t, root, Query{})
		if len(got) != 2 || got[0].ID != "a" || got[1].ID != "b" {
			t.Errorf("%.20q: %v", torn, got)
		}
	}
}

func TestTheJournalHasABound(t *testing.T) {
	root := t.TempDir()
	j := Open(root)
	j.maxFile = 2 << 10
	for i := range 500 {
		if err := j.Append(Event{Type: Image, Action: Tag, ID: strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
	}
	numbers, err := j.numbers()
	if err != nil || len(numbers) != MaxFiles {
		t.Errorf("files %v, %v", numbers, err)
	}
	for _, n := range numbers {
		if info, err := os.Stat(j.path(n)); err != nil || info.Size() > int64(j.maxFile)+200 {
			t.Errorf("file %d: %v, %v", n, info, err)
		}
	}
	got := collect(t, root, Query{})
	for i, e := range got {
		if e.ID != strconv.Itoa(500-len(got)+i) {
			t.Fatalf("event %d of %d is %s", i, len(got), e.ID)
		}
	}
}

// Writers that go on with the file they know find the one that another has begun, also
// when theirs, or all of them, have been removed.
func TestWritersFindTheNewestFile(t *testing.T) {
	root := t.TempDir()
	a, b := Open(root), Open(root)
	a.maxFile, b.maxFile = 2<<10, 2<<10
	wrote := 0
	write := func(j *Journal, n int) {
		t.Helper()
		for range n {
			if err := j.Append(Event{Type: Image, Action: Tag, ID: strconv.Itoa(wrote)}); err != nil {
				t.Fatal(err)
			}
			wrote++
		}
		got := collect(t, root, Query{})
		for i, e := range got {
			if e.ID != strconv.Itoa(wrote-len(got)+i) {
				t.Fatalf("event %d of %d is %s, of %d that were written", i, len(got), e.ID, wrote)
			}
		}
	}
	write(a, 3)
	write(b, 60) // several files, a's is still there
	write(a, 3)
	write(b, 200) // a's is gone
	write(a, 3)
	numbers, err := a.numbers()
	if err != nil || len(numbers) != MaxFiles || int(a.last.Load()) != numbers[MaxFiles-1] {
		t.Errorf("files %v, %v, it writes to %d", numbers, err, a.last.Load())
	}
	if err := os.RemoveAll(a.dir); err != nil {
		t.Fatal(err)
	}
	wrote = 0
	write(b, 1)
	write(a, 1)
	if got := collect(t, root, Query{}); len(got) != 2 {
		t.Errorf("%d events after the journal was removed, want 2", len(got))
	}
}

func TestTimesOfAQuery(t *testing.T) {
	root := t.TempDir()
	j := Open(root)
	var times []time.Time
	for i := range 5 {
		if err := j.Append(Event{Type: Image, Action: Tag, ID: strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
		times = append(times, collect(t, root, Query{})[i].Time)
	}
	if got := collect(t, root, Query{Since: times[1], Until: times[3]}); len(got) != 3 || got[0].ID != "1" {
		t.Errorf("from 1 to 3: %v", got)
	}
	// One that follows ends at its time, and one whose caller has enough of it, then.
	if got := collect(t, root, Query{Since: times[4], Until: time.Now().Add(50 * time.Millisecond), Follow: true}); len(got) != 1 {
		t.Errorf("last one: %v", got)
	}
	ctx, cancel := context.WithCancel(within(t))
	err := j.Read(ctx, Query{Follow: true}, func(Event) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A writer that is stopped while it holds the lock holds up others for a bounded time only;
// readers do not care.
func TestReadersTakeNoLock(t *testing.T) {
	root := t.TempDir()
	j := Open(root)
	if err := j.Append(Event{Type: Image, Action: Tag, ID: "x"}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(root, "events", "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, root, Query{}); len(got) != 1 {
		t.Error(got)
	}
}

func TestLongEventsAreCut(t *testing.T) {
	e := Event{Time: time.Now(), Type: Container, Action: Start, ID: "a",
		Attributes: map[string]string{"name": "web", "big": strings.Repeat("x", maxLine), "small": "y"}}
	line, err := e.line()
	if err != nil {
		t.Fatal(err)
	}
	var got Event
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatal(err)
	}
	if got.Attributes["name"] != "web" || got.Attributes["small"] != "y" || got.Attributes["truncated"] != "true" || got.Attributes["big"] != "" {
		t.Error(got.Attributes)
	}
	if e.Attributes["big"] == "" {
		t.Error("the caller's attributes were changed")
	}
}

func TestDockersForm(t *testing.T) {
	e := Event{Time: time.Date(2026, 11, 29, 10, 0, 0, 5, time.UTC), Type: Container, Action: ExecCreate, Detail: "sh -c ls",
		ID: "abc", Attributes: map[string]string{"name": "web", "image": "base"}}
	want := e.Time.Local().Format(timeLayout) + " container exec_create: sh -c ls abc (image=base, name=web)"
	if e.String() != want {
		t.Errorf("got  %s\nwant %s", e, want)
	}
}

func TestFilters(t *testing.T) {
	c := Event{Type: Container, Action: HealthStatus, Detail: "healthy", ID: "0123456789", Attributes: map[string]string{
		"name": "web", "image": "reg.example:5000/app:v1", "tier": "front"}}
	i := Event{Type: Image, Action: Pull, ID: "debian:12", Attributes: map[string]string{"name": "debian:12"}}
	for _, test := range []struct {
		filters Filters
		c, i    bool
	}{
		{nil, true, true},
		{Filters{"type": {"container"}}, true, false},
		{Filters{"type": {"container", "image"}}, true, true},
		{Filters{"event": {"health_status"}}, true, false},
		{Filters{"event": {"health_status: healthy", "pull"}}, true, true},
		{Filters{"event": {"health_status: unhealthy"}}, false, false},
		{Filters{"container": {"web"}}, true, false},
		{Filters{"container": {"0123"}}, true, false},
		{Filters{"container": {"we"}}, false, false},
		{Filters{"image": {"debian"}}, false, true},
		{Filters{"image": {"debian:12", "reg.example:5000/app"}}, true, true},
		{Filters{"image": {"reg.example"}}, false, false},
		{Filters{"label": {"tier"}}, true, false},
		{Filters{"label": {"tier=front"}}, true, false},
		{Filters{"label": {"tier=front", "other"}}, false, false},
		{Filters{"type": {"image"}, "container": {"web"}}, false, false},
	} {
		if got := test.filters.Match(c); got != test.c {
			t.Errorf("%v: container: %v", test.filters, got)
		}
		if got := test.filters.Match(i); got != test.i {
			t.Errorf("%v: image: %v", test.filters, got)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	j := Open(b.TempDir())
	for b.Loop() {
		if err := j.Append(Event{Type: Container, Action: Start, ID: strings.Repeat("0", 64), Attributes: map[string]string{"name": "web", "image": "base"}}); err != nil {
			b.Fatal(err)
		}
	}
}
