package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// The programs that make builds keep to their budgets. Only what make has built is
// looked at: another build has other flags and no built-in image in it.
func TestSizes(t *testing.T) {
	for _, b := range budgets {
		info, err := os.Stat(filepath.Join("..", "..", "bin", b.name))
		if errors.Is(err, fs.ErrNotExist) {
			t.Skipf("skipped: %v: run make first", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > b.bytes {
			t.Errorf("%s has %d bytes, its budget is %d", b.name, info.Size(), b.bytes)
		}
	}
}

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   statistic
	}{
		{nil, statistic{}},
		{[]float64{3}, statistic{3, 3, 3}},
		{[]float64{4, 1}, statistic{1, 2.5, 4}},
		{[]float64{5, 1, 9}, statistic{1, 5, 9}},
		{[]float64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, statistic{1, 5.5, 10}},
	} {
		if got := summarize(c.values); got != c.want {
			t.Errorf("summarize(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}

// Ratios are taken round by round: here each round's is 1/2 or 1/4, while the medians'
// would be another.
func TestRatiosArePairs(t *testing.T) {
	ms := func(walls ...int) (s []sample) {
		for _, w := range walls {
			s = append(s, sample{wall: time.Duration(w) * time.Millisecond})
		}
		return s
	}
	table := raceTable("", "", []*contestant{{name: "ours", samples: ms(1, 10, 100)}, {name: "peer", samples: ms(4, 20, 200)}})
	if got := table.rows[1][6]; got != "0.50" {
		t.Errorf("ratio %s, want 0.50", got)
	}
	if got := table.rows[0][6]; got != "" {
		t.Errorf("our ratio to ourselves is %q, want none", got)
	}
}

func TestRaceTurnsTheOrder(t *testing.T) {
	var order []string
	var list []*contestant
	for _, name := range []string{"a", "b"} {
		list = append(list, &contestant{name: name, turn: func(int) (sample, error) {
			order = append(order, name)
			return sample{}, nil
		}})
	}
	if err := race(context.Background(), options{rounds: 2, warmUp: 1}, list); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "b", "b", "a", "a", "b"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if n := len(list[0].samples); n != 2 {
		t.Errorf("%d samples count, want 2 without the warm-up's", n)
	}
}

// A round in which a peer failed counts for nobody and is told of. Ours must not fail, and
// a peer not often.
// Whoever comes after a large program has a harder time: all have it equally often.
func TestOrderIsFair(t *testing.T) {
	for n := 1; n <= 7; n++ {
		rounds := 2 * n
		first, after := make([]int, n), make([][]int, n)
		for i := range after {
			after[i] = make([]int, n)
		}
		for round := range rounds {
			list := order(n, round)
			first[list[0]]++
			for i := range n - 1 {
				after[list[i+1]][list[i]]++
			}
			slices.Sort(list)
			if len(slices.Compact(list)) != n {
				t.Fatalf("of %d, in round %d somebody has no turn: %v", n, round, list)
			}
		}
		for i := range n {
			if first[i] != rounds/n {
				t.Errorf("of %d, number %d begins %d times in %d rounds", n, i, first[i], rounds)
			}
			for k := range n {
				if want := rounds / n; k != i && after[i][k] != want {
					t.Errorf("of %d, number %d comes after number %d %d times in %d rounds, want %d", n, i, k, after[i][k], rounds, want)
				}
			}
		}
	}
}

func TestRaceTellsOfFailures(t *testing.T) {
	failing := func(rounds ...int) *contestant {
		return &contestant{name: "peer", turn: func(round int) (s sample, err error) {
			if slices.Contains(rounds, round) {
				err = errors.New("no luck")
			}
			return sample{wall: time.Duration(round)}, err
		}}
	}
	ours, peer, mended := failing(), failing(3, 7), 0
	peer.mend = func() error { mended++; return nil }
	if err := race(context.Background(), options{rounds: 20}, []*contestant{ours, peer}); err != nil {
		t.Fatal(err)
	}
	if len(ours.samples) != 18 || len(peer.samples) != 18 || ours.samples[3].wall != 4 || peer.failed != 2 || mended != 2 {
		t.Errorf("%d and %d samples, %d failures, mended %d times, want 18, 18, 2 and 2", len(ours.samples), len(peer.samples), peer.failed, mended)
	}
	if text := raceTable("", "text", []*contestant{ours, peer}).text; !strings.Contains(text, "peer failed 2 times") || !strings.Contains(text, "no luck") {
		t.Errorf("the table says %q, not that a peer failed", text)
	}
	if err := race(context.Background(), options{rounds: 20}, []*contestant{failing(3), failing()}); err == nil {
		t.Error("our own program failed, but there was no error")
	}
	if err := race(context.Background(), options{rounds: 20}, []*contestant{failing(), failing(1, 2, 3)}); err == nil {
		t.Error("a peer failed in more than a tenth of the rounds, but there was no error")
	}
}

func TestRaceEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &contestant{name: "a", turn: func(int) (sample, error) { cancel(); return sample{}, nil }}
	if err := race(ctx, options{rounds: 5}, []*contestant{c}); !errors.Is(err, context.Canceled) || len(c.samples) != 1 {
		t.Errorf("error %v after %d samples, want context.Canceled after 1", err, len(c.samples))
	}
}

func TestMeasure(t *testing.T) {
	s, err := cmd("/bin/true").measure()
	if err != nil || s.wall <= 0 {
		t.Errorf("true: %v, %v", s, err)
	}
	if _, err := cmd("/bin/false").measure(); err == nil {
		t.Error("a command that fails is no measurement, but there was no error")
	}
}

func TestPeakMemory(t *testing.T) {
	kB, err := cmd("/bin/true").peakMemory()
	if err != nil || kB < 100 || kB > 10_000 { // a C program, not the Go program that this is
		t.Errorf("true: %v kB, %v", kB, err)
	}
	if _, err := cmd("/bin/false").peakMemory(); err == nil {
		t.Error("a command that fails is no measurement, but there was no error")
	}
}

// Some programs execute another one, or themselves once more, and nobody's measuring may
// end them for it. The memory is that of the last.
func TestPeakMemoryOfASecondProgram(t *testing.T) {
	alone, err := cmd("/bin/true").peakMemory()
	if err != nil {
		t.Fatal(err)
	}
	second, err := cmd("/bin/sh", "-c", "exec /bin/true").peakMemory()
	if err != nil || second < alone/2 || second > alone*2 {
		t.Errorf("true, executed by a shell: %v kB, %v; alone it has %v kB", second, err, alone)
	}
}

// The opening of a fifo waits for the other end's: one after another they would wait for ever.
func TestAtOnce(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	sh := func(text string) command { return cmd("/bin/sh", "-c", text, "sh", fifo) }
	if s, err := atOnce([]command{sh(`: <"$1"`), sh(`: >"$1"`)}); err != nil || s.wall <= 0 {
		t.Errorf("both ends of a fifo: %v, %v", s, err)
	}
	if _, err := atOnce([]command{cmd("/bin/true"), cmd("/bin/false")}); err == nil {
		t.Error("one command failed, but there was no error")
	}
}

func TestBetween(t *testing.T) {
	doc := []byte("above\n" + beginMark + "head\n<!-- section runtimes -->\nold\n<!-- section life -->\nlives\n" + endMark + "below\n")
	got, err := between(doc, []byte("new head\n"), []part{{"network", []byte("<!-- section network -->\nnew\n")}, {"runtimes", []byte("<!-- section runtimes -->\nfast\n")}})
	want := "above\n" + beginMark + "new head\n<!-- section runtimes -->\nfast\n<!-- section network -->\nnew\n<!-- section life -->\nlives\n" + endMark + "below\n"
	if err != nil || string(got) != want {
		t.Errorf("between = %q, %v, want %q", got, err, want)
	}
	if _, err := between([]byte("above\n"+endMark+beginMark), nil, nil); err == nil {
		t.Error("marks in the wrong order are no marks, but there was no error")
	}
}

func TestChosen(t *testing.T) {
	if list, err := chosen("life,runtimes"); err != nil || len(list) != 2 || list[1].name != "runtimes" {
		t.Errorf("life,runtimes = %v, %v", list, err)
	}
	if list, err := chosen(""); err != nil || len(list) != len(sections) {
		t.Errorf("none = %d sections, %v", len(list), err)
	}
	if _, err := chosen("life,typo"); err == nil {
		t.Error("a section that does not exist, but there was no error")
	}
}

// The payload does what it is measured for: it ends with status 0.
func TestPayload(t *testing.T) {
	own, ok := code[runtime.GOARCH]
	if !ok {
		t.Skipf("skipped: there is no payload for %s", runtime.GOARCH)
	}
	path := filepath.Join(t.TempDir(), "true")
	if err := os.WriteFile(path, program(own.machine, own.exit), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := cmd(path).measure(); err != nil {
		t.Error(err)
	}
	for arch, c := range code {
		f, err := elf.NewFile(bytes.NewReader(program(c.machine, c.hold)))
		if err != nil || f.Machine != c.machine || f.Entry != f.Progs[0].Vaddr+64+56 {
			t.Errorf("%s: not a program: %v, %v", arch, f, err)
		}
	}
}

// What a program and its children write is counted, and nothing else.
func TestMeasureCountsWhatIsWritten(t *testing.T) {
	for script, want := range map[string]int64{"true": 0, "head -c 300000 /dev/zero": 300000, "head -c 300000 /dev/zero | cat": 600000} {
		s, err := cmd("/bin/sh", "-c", script+"; true").measure()
		if err != nil {
			t.Fatal(err)
		}
		if s.written < want || s.written > want+10000 {
			t.Errorf("%s: %d bytes, want %d", script, s.written, want)
		}
	}
}

// A daemon's account has what its children did, also those that are gone.
func TestSpentCountsChildren(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	d := &daemon{process: exec.Command("/bin/sh", "-c", "head -c 300000 /dev/zero >/dev/null; echo done; cat | cat")}
	stdin, err := d.process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.process.Stdout = out
	if err := d.process.Start(); err != nil {
		t.Fatal(err)
	}
	defer d.process.Wait()
	defer stdin.Close()
	if _, err := in.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	s, err := d.spent()
	if err != nil || s.written < 300000 {
		t.Errorf("%d bytes were written, want 300000, error %v", s.written, err)
	}
	if kB, err := d.peak(); err != nil || kB < 100 {
		t.Errorf("at most %.0f kB were in memory, error %v", kB, err)
	}
}

// The images that pulls are measured with are the same each time.
func TestMadeLayersAreTheSame(t *testing.T) {
	var digests []digest.Digest
	for range 2 {
		for _, layer := range madeLayers(2, 10, 1000) {
			d := digest.Canonical.Digester()
			size, err := layer(d.Hash())
			if err != nil || size < 5000 || size > 15000 {
				t.Fatalf("%d bytes, error %v", size, err)
			}
			digests = append(digests, d.Digest())
		}
	}
	if digests[0] != digests[2] || digests[1] != digests[3] || digests[0] == digests[1] {
		t.Errorf("%q", digests)
	}
}

// What of others ours is, is said beside each of them, as the median of the rounds' quotients.
func TestUserTables(t *testing.T) {
	series := func(values ...float64) []float64 { return values }
	way := func(through ...float64) *path { return &path{through: through, requests: through} }
	list := []*carried{
		{network: "builtin", out: way(2, 20, 200), in: way(1, 1, 1), downloads: series(1, 1, 1), calls: series(5, 5, 5), idle: 10, busy: 20},
		{network: "other", out: way(1, 40, 100), in: way(1, 1, 1), downloads: series(4, 4, 4), calls: series(5, 5, 5)},
	}
	tables := userTables(list, way(4, 40, 400))
	if got, want := tables[0].rows[1], []string{"`--network other`", "3", "40.00", "2.00", "4.00", "0.25", "40.00", "2.00"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q", got, want)
	}
	if text := tables[0].text; !strings.Contains(text, "ours is 0.50 and 0.50 of that") {
		t.Errorf("the host itself: %q", text)
	}
	if got := tables[2].rows[0]; got[1] != "10" || got[2] != "20" {
		t.Errorf("memory: %q", got)
	}
}

// A command of another user runs as him, in his directory, with his environment.
func TestCommandOfAUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can be somebody else")
	}
	c := command{argv: []string{"/bin/sh", "-c", "echo $(id -u) $PWD $WHO"}, env: []string{"PATH=/bin:/usr/bin", "WHO=me"},
		user: &syscall.Credential{Uid: 1234, Gid: 1234, Groups: []uint32{}}, dir: "/usr"}
	if out, err := c.output(); err != nil || out != "1234 /usr me" {
		t.Errorf("%q, %v", out, err)
	}
	c.argv[2] = `test "$(id -u) $PWD $WHO" = "1234 /usr me"`
	if _, err := c.measure(); err != nil {
		t.Error(err)
	}
}
