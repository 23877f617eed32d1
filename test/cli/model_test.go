package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/procfs"
)

var (
	modelSeed    = flag.Uint64("model-seed", 1, "the seed of TestCommandsAgreeWithTheModel")
	modelRounds  = flag.Int("model-rounds", 6, "how many rounds TestCommandsAgreeWithTheModel has, of 24 commands")
	modelHistory = flag.String("model-history", "", "a history that TestCommandsAgreeWithTheModel has written: check this one, and run nothing")
)

// Commands of every kind on three names, drawn at random, by one process after another and by four at a time, some of which are
// killed, do what a model says that they do: there is an order in which they would have had, one after another, the
// outcomes that they had. The model is in modelstate_test.go, the search for the order in modelcheck_test.go.
//
// The same seed draws the same commands, but the kernel decides how they meet. So what was seen is written to a
// file if it cannot be explained, and -model-history explains it again.
func TestCommandsAgreeWithTheModel(t *testing.T) {
	if *modelHistory != "" {
		text, err := os.ReadFile(*modelHistory)
		var history []act
		if err == nil {
			err = json.Unmarshal(text, &history)
		}
		if err != nil {
			t.Fatal(err)
		}
		explain(t, history)
		return
	}
	for _, c := range []struct {
		name    string
		workers int
		kills   bool
	}{{"one after another", 1, false}, {"at once", 4, false}, {"at once and killed", 4, true}} {
		t.Run(c.name, func(t *testing.T) {
			d := &drawn{outside: newOutside(t), seed: *modelSeed, kills: c.kills}
			d.run("run", "--rm", "base", "true") // the image is unpacked
			for round := range *modelRounds {
				d.round(round, c.workers, 24/c.workers)
			}
			t.Logf("-model-seed %d: %v", *modelSeed, d.outcomes())
			if !explain(t, d.history) {
				text, err := json.Marshal(d.history)
				file := filepath.Join(os.TempDir(), fmt.Sprintf("containr-history-%d-%s.json", os.Getpid(), strings.ReplaceAll(c.name, " ", "-")))
				t.Logf("-model-history %s (%v)", file, errors.Join(err, os.WriteFile(file, text, 0o600)))
			}
		})
	}
}

// explain checks a history, and prints what came before the act that cannot be.
func explain(t *testing.T, history []act) bool {
	t.Helper()
	wrong, before := check(history)
	if wrong == nil {
		return true
	}
	slices.SortFunc(history, func(a, b act) int { return a.Begin - b.Begin })
	var tail []string
	for _, a := range history {
		if a.Begin <= wrong.End {
			tail = append(tail, a.String())
		}
	}
	t.Errorf("no order of the commands explains\n%v\npossible before its end was\n%s\nafter\n%s",
		wrong, strings.Join(before, "\n"), strings.Join(tail[max(0, len(tail)-40):], "\n"))
	return false
}

// drawn are commands that were drawn at random, and run.
type drawn struct {
	*outside
	seed  uint64
	kills bool

	clock   atomic.Int64
	mu      sync.Mutex
	history []act
}

// verbs are drawn as often as they are here. Those that a paused container makes wait are in rounds of their own.
var (
	verbs       = strings.Split("create,create,create,start,start,start,stop,kill,restart,rm,rm -f,rename,look,look,list", ",")
	roundsVerbs = [][]string{append(verbs, "exec", "exec"), append(verbs, "pause", "pause", "unpause")}
	modelNames  = []string{"red", "green", "blue"}
)

// round has workers draw n commands each, and looks at everything when they are done.
func (d *drawn) round(round, workers, n int) {
	var all sync.WaitGroup
	for w := range workers {
		random := rand.New(rand.NewPCG(d.seed, uint64(round)<<8|uint64(w)))
		all.Go(func() {
			for range n {
				one := func(words []string) string { return words[random.IntN(len(words))] }
				a := act{Worker: w, Verb: one(roundsVerbs[round%2]), Name: one(modelNames), To: one(modelNames)}
				var after time.Duration
				if d.kills && random.IntN(4) == 0 {
					after = time.Duration(1+random.IntN(60)) * time.Millisecond
				}
				d.act(a, after)
			}
		})
	}
	all.Wait()
	for _, name := range modelNames { // for what is paused waits for good
		d.act(act{Verb: "unpause", Name: name}, 0)
	}
	d.awaitQuiet()
	d.note(act{Verb: settled, Begin: d.tick(), End: d.tick()})
	for _, name := range modelNames {
		d.act(act{Verb: "look", Name: name}, 0)
	}
	d.act(act{Verb: "list"}, 0)
}

func (d *drawn) tick() int { return int(d.clock.Add(1)) }

func (d *drawn) note(acts ...act) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.history = append(d.history, acts...)
}

// arguments are what is typed for a verb.
func (a act) arguments() []string {
	switch a.Verb {
	case "create":
		return []string{"create", "--name", a.Name, "base", "sleep", "100000"}
	case "look":
		return []string{"inspect", "-f", "{{.Id}} {{.State.Status}}", a.Name}
	case "list":
		return []string{"ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.ID}} {{.State}}"}
	case "stop", "restart":
		return []string{a.Verb, "-t", "0", a.Name}
	case "exec":
		return []string{"exec", a.Name, "true"}
	case "rename":
		return []string{"rename", a.Name, a.To}
	}
	return append(strings.Fields(a.Verb), a.Name)
}

// act runs a command, which is killed after a while if that is not 0, and notes what was seen.
func (d *drawn) act(a act, kill time.Duration) {
	if a.Verb != "rename" {
		a.To = ""
	}
	cmd := d.command(a.arguments()...)
	var out, fault bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &fault
	a.Begin = d.tick()
	d.clock.Add(int64(len(modelNames))) // for the looks that list consists of
	began := time.Now()
	if err := cmd.Start(); err != nil {
		d.t.Error(err)
		return
	}
	if kill > 0 {
		timer := time.AfterFunc(kill, func() { cmd.Process.Kill() })
		defer timer.Stop()
	}
	err := cmd.Wait()
	a.Took = time.Since(began).Milliseconds()
	a.Said = strings.TrimSpace(out.String() + fault.String())
	a.Outcome = outcome(err, fault.String())
	switch read := strings.Fields(out.String()); {
	case a.Verb == "list":
		d.noteList(a, out.String())
		return
	case a.Verb == "create" && a.Outcome == done:
		a.ID = read[0]
	case a.Verb == "look" && a.Outcome == done:
		a.ID, a.Status = read[0], read[1]
	}
	a.End = d.tick()
	d.note(a)
}

// outcome tells outcomes apart by the words of the error.
func outcome(err error, said string) string {
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && !exit.Exited():
		return wasKilled
	case strings.Contains(said, "no such container"):
		return absent
	case err == nil:
		return done
	case strings.Contains(said, "name is already in use"), strings.Contains(said, "this is its name already"):
		return inUse
	case strings.Contains(said, "container is running"):
		return isRunning
	case strings.Contains(said, "container is not running"):
		return notRunning
	case strings.Contains(said, "container is paused"):
		return isPaused
	case strings.Contains(said, "container is not paused"):
		return notPaused
	case strings.Contains(said, "was killed before the program started"), strings.Contains(said, "no such process"),
		strings.Contains(said, "container does not exist"), exit != nil && exit.ExitCode() == 128+int(unix.SIGKILL):
		return cutShort
	}
	return other
}

// noteList notes what ps says as one look at each name: it reads one container after another.
func (d *drawn) noteList(a act, text string) {
	if a.Outcome == wasKilled {
		return
	}
	seen := map[string]act{}
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		seen[w[0]] = act{ID: w[1], Status: w[2]}
	}
	for i, name := range modelNames {
		look := act{Worker: a.Worker, Verb: "listed", Name: name, Outcome: a.Outcome, Begin: a.Begin + i, Said: a.Said}
		if s, ok := seen[name]; ok {
			look.ID, look.Status = s.ID, s.Status
		} else if look.Outcome == done {
			look.Outcome = absent
		}
		look.End = d.tick()
		d.note(look)
	}
}

// awaitQuiet waits until no command is at work, all is done that killed ones have left to others, and what was killed has
// ended: the kernel takes its time for the first process of a namespace.
func (d *drawn) awaitQuiet() {
	path, err := exec.LookPath("containr")
	if err != nil {
		d.t.Fatal(err)
	}
	waitUntil(d.t, "no command is at work", func() bool {
		d.run("ps", "-aq")
		procs, err := procfs.Processes()
		if err != nil {
			d.t.Fatal(err)
		}
		for pid := range procs {
			if exe, _ := os.Readlink(procfs.Path(pid, "exe")); exe == path {
				return false
			}
		}
		for _, name := range modelNames {
			out, _ := d.command("inspect", "-f", "{{.State.Status}} {{.State.Pid}}", name).Output() // there need not be one
			status, number, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
			if pid, err := strconv.Atoi(number); status == restarting || err == nil && pid != 0 && ends(pid) {
				return false
			}
		}
		return true
	})
}

// ends reports whether a process is about to end.
func ends(pid int) bool {
	status, statusErr := procfs.ReadStatus(pid)
	stat, err := procfs.ReadStat(pid)
	return statusErr != nil || err != nil || stat.Exiting || status.Pending.Has(int(unix.SIGKILL))
}

// outcomes counts what came of the commands.
func (d *drawn) outcomes() map[string]int {
	count := map[string]int{}
	for _, a := range d.history {
		count[a.Outcome]++
	}
	return count
}
