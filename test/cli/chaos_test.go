package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/procfs"
)

var (
	chaosSeed       = flag.Uint64("chaos-seed", 1, "the seed of TestChaos")
	chaosKills      = flag.Int("chaos-kills", 60, "how often TestChaos kills")
	chaosContainers = flag.Int("chaos-containers", 10, "how many containers TestChaos looks after")
)

// Containers of five kinds live while the monitor, commands, and all processes of containr together are killed at random
// moments:
//
//   - a writer numbers its lines until it is told to end: each is in its log once, in order, and its exit status is right;
//   - finite ones are run all the time, and end by themselves with a status that each has for itself;
//   - one again ends and is started again by its restart policy;
//   - one sick is healthy until a file appears, and is then killed by its health check;
//   - one toggled is stopped and started by commands, and is in the end as the last one that was not killed left it.
//
// What a command that was killed was about to do may be done or not, and nothing between.
func TestChaos(t *testing.T) {
	x := newOutside(t)
	before := keepers(t)
	c := newChaos(x)
	for i := range *chaosContainers {
		c.kinds[i%len(c.kinds)](i)
	}
	for i := range *chaosKills {
		c.round(i)
		if i%10 == 9 {
			c.checkPS()
		}
	}
	t.Logf("-chaos-seed %d: killed %d times: %v", *chaosSeed, c.killed["monitor"]+c.killed["command"]+c.killed["all"], c.killed)
	c.checkWriters()
	c.checkFinite()
	c.checkAgain()
	c.checkSick()
	c.checkToggled()
	for _, name := range strings.Fields(x.run("ps", "-a", "--format", "{{.Names}}")) {
		x.run("rm", "-f", name)
	}
	if pid := endless(keepers(t), before); pid != 0 {
		t.Errorf("process %d is left, which nobody knows", pid)
	}
}

// chaos is a state root under attack.
type chaos struct {
	*outside
	random *rand.Rand
	kinds  []func(i int)
	// control is a directory that containers see: files in it tell them what to do.
	control string
	// bin is where the programs of containr are.
	bin string

	writers, again, sick []string
	// finite are the containers that were to be run, by name; true if the command said that it did.
	finite map[string]bool
	// toggled are as the last command left them that was not killed: "running", "exited", or "" if one was killed since.
	toggled map[string]string
	killed  map[string]int
}

func newChaos(x *outside) *chaos {
	path, err := exec.LookPath("containr")
	if err != nil {
		x.t.Fatal(err)
	}
	c := &chaos{outside: x, random: rand.New(rand.NewPCG(*chaosSeed, 0)), control: x.t.TempDir(), bin: filepath.Dir(path),
		finite: map[string]bool{}, toggled: map[string]string{}, killed: map[string]int{}}
	c.kinds = []func(int){c.runWriter, c.runFinite, c.runAgain, c.runSick, c.runToggled}
	return c
}

func (c *chaos) tell(what string) {
	if err := os.WriteFile(filepath.Join(c.control, what), nil, 0o644); err != nil {
		c.t.Fatal(err)
	}
}

func (c *chaos) runWriter(i int) {
	name := fmt.Sprint("writer", i)
	c.writers = append(c.writers, name)
	script := fmt.Sprintf(`i=0; while [ ! -e /control/end ]; do echo line $i; i=$((i+1)); [ $((i %% 10)) = 0 ] && sleep 0.5; done; echo end $i; exit %d`, 10+i)
	c.run("run", "-d", "--name", name, "-v", c.control+":/control:ro", "--log-opt", "max-size=16k", "--log-opt", "max-file=1000", "base", "sh", "-c", script)
}

// finiteCommand is the command that runs the nth finite container, whose exit status is finiteStatus.
func finiteCommand(name string, n int) []string {
	return []string{"run", "-d", "--name", name, "base", "sh", "-c", fmt.Sprintf("echo begin; sleep 0.%d; echo end; exit %d", n%7, finiteStatus(name))}
}

func finiteStatus(name string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(name, "finite"))
	return 20 + n%100
}

func (c *chaos) runFinite(i int) {
	name := fmt.Sprint("finite", i)
	c.run(finiteCommand(name, i)...)
	c.finite[name] = true
}

func (c *chaos) runAgain(i int) {
	name := fmt.Sprint("again", i)
	c.again = append(c.again, name)
	c.run("run", "-d", "--name", name, "--restart", "always", "base", "sh", "-c", "echo up; sleep 0.5; exit 1")
}

func (c *chaos) runSick(i int) {
	name := fmt.Sprint("sick", i)
	c.sick = append(c.sick, name)
	c.run("run", "-d", "--name", name, "-v", c.control+":/control:ro", "--health-cmd", "test ! -e /control/"+name, "--health-interval", "1s",
		"--health-retries", "2", "--health-on-failure", "kill", "base", "sleep", "100000")
}

func (c *chaos) runToggled(i int) {
	name := fmt.Sprint("toggled", i)
	c.run("run", "-d", "--name", name, "base", "sleep", "100000")
	c.toggled[name] = "running"
}

// round kills once while a command is at work.
func (c *chaos) round(i int) {
	args, done := c.draw(i)
	cmd := c.command(args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	time.Sleep(time.Duration(c.random.IntN(120)) * time.Millisecond) // a random moment, not one to wait for
	victim := []string{"monitor", "command", "all"}[c.random.IntN(3)]
	switch victim {
	case "monitor":
		if pid := monitorOf(c.t, c.root); pid != 0 {
			unix.Kill(pid, unix.SIGKILL)
		}
	case "command":
		cmd.Process.Kill()
	case "all":
		c.killAll()
	}
	c.killed[victim]++
	err := cmd.Wait()
	var exit *exec.ExitError
	wasKilled := errors.As(err, &exit) && !exit.Exited()
	if err != nil && !wasKilled {
		c.t.Errorf("kill %d, of %s: containr %s: %v\n%s", i, victim, strings.Join(args, " "), err, said.String())
	}
	done(!wasKilled && err == nil)
}

// draw chooses a command, and what is to be noted after it, when it has ended well or was killed.
func (c *chaos) draw(i int) (args []string, done func(well bool)) {
	one := func(names []string) string { return names[c.random.IntN(len(names))] }
	nothing := func(bool) {}
	toggled := slices.Sorted(maps.Keys(c.toggled))
	switch c.random.IntN(9) {
	case 0:
		return []string{"ps", "-a"}, nothing
	case 1:
		return []string{"logs", "--tail", "5", one(c.writers)}, nothing
	case 2:
		return []string{"exec", one(c.writers), "true"}, nothing
	case 3:
		return []string{"restart", "-t", "0", one(c.again)}, nothing
	case 4:
		if c.random.IntN(4) == 0 {
			c.tell(one(c.sick))
		}
		return []string{"inspect", one(c.sick)}, nothing
	case 5, 6:
		name := fmt.Sprint("finite", 1000+i)
		return finiteCommand(name, i), func(well bool) { c.finite[name] = well }
	case 7:
		name := one(toggled)
		return []string{"stop", "-t", "0", name}, func(well bool) { c.toggled[name] = map[bool]string{true: "exited"}[well] }
	default:
		name := one(toggled)
		return []string{"start", name}, func(well bool) { c.toggled[name] = map[bool]string{true: "running"}[well] }
	}
}

// killAll kills all processes of containr's programs together; keepers and containers are others.
func (c *chaos) killAll() {
	procs, err := procfs.Processes()
	if err != nil {
		c.t.Fatal(err)
	}
	for pid := range procs {
		if exe, _ := os.Readlink(procfs.Path(pid, "exe")); filepath.Dir(exe) == c.bin {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// listed is a line of ps.
type listed struct{ Names, State string }

func (c *chaos) list() map[string]string {
	c.t.Helper()
	states := map[string]string{}
	for line := range strings.Lines(c.run("ps", "-a", "--format", "json")) {
		var l listed
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			c.t.Fatalf("ps: %v: %s", err, line)
		}
		states[l.Names] = l.State
	}
	return states
}

// checkPS checks that ps tells what is known.
func (c *chaos) checkPS() {
	c.t.Helper()
	states := c.list()
	for _, name := range c.writers {
		if states[name] != "running" {
			c.t.Errorf("ps says that %s is %q; it runs", name, states[name])
		}
	}
	for name, want := range c.toggled {
		if want != "" && states[name] != want {
			c.t.Errorf("ps says that %s is %q, want %q", name, states[name], want)
		}
	}
}

func (c *chaos) checkWriters() {
	c.tell("end")
	for _, name := range c.writers {
		n, _ := strconv.Atoi(strings.TrimPrefix(name, "writer"))
		if code := strings.TrimSpace(c.run("wait", name)); code != strconv.Itoa(10+n) {
			c.t.Errorf("%s: exit status %s, want %d", name, code, 10+n)
		}
		got := c.run("logs", name)
		var want strings.Builder
		count := max(strings.Count(got, "\n")-1, 0)
		for i := range count {
			fmt.Fprintln(&want, "line", i)
		}
		fmt.Fprintln(&want, "end", count)
		if got != want.String() {
			c.t.Errorf("%s: the log differs from what was written:\n%s", name, firstDifference(got, want.String()))
		}
	}
}

// checkFinite looks at containers whose program has run once, or never, if who was to start it was killed.
func (c *chaos) checkFinite() {
	const cutOff = "125"
	states := c.list()
	for _, name := range slices.Sorted(maps.Keys(c.finite)) {
		ran, state := c.finite[name], states[name]
		if !ran && (state == "" || state == "created") {
			continue
		}
		code, log := strings.TrimSpace(c.run("wait", name)), c.run("logs", name)
		switch {
		case code == strconv.Itoa(finiteStatus(name)) && log == "begin\nend\n":
		case !ran && code == cutOff && log == "":
		default:
			c.t.Errorf("%s (was %s, its command ended well: %v): exit status %s, want %d, log %q; %s", name, state, ran, code, finiteStatus(name), log,
				c.run("inspect", "-f", "{{json .State}}", name))
		}
	}
}

func (c *chaos) checkAgain() {
	for _, name := range c.again {
		c.run("restart", "-t", "0", name) // or the policy might make it wait for a minute
		count := func() int { return strings.Count(c.run("logs", name), "up\n") }
		before := count()
		waitUntil(c.t, name+" is started again", func() bool { return count() > before })
		if log := c.run("logs", name); strings.Trim(strings.ReplaceAll(log, "up\n", ""), "\n") != "" {
			c.t.Errorf("%s: its log has more than it wrote: %q", name, log)
		}
		c.run("rm", "-f", name)
	}
}

func (c *chaos) checkSick() {
	for _, name := range c.sick {
		c.tell(name)
	}
	for _, name := range c.sick {
		if code := strings.TrimSpace(c.run("wait", name)); code != "137" {
			c.t.Errorf("%s: exit status %s, want 137: its health check kills it", name, code)
		}
	}
}

func (c *chaos) checkToggled() {
	states := c.list()
	for name, want := range c.toggled {
		if want != "" && states[name] != want {
			c.t.Errorf("in the end %s is %s, want %s", name, states[name], want)
		}
	}
	for name := range c.toggled {
		c.run("start", name)
		if state := c.list()[name]; state != "running" {
			c.t.Errorf("%s was started, and is %s", name, state)
		}
		c.run("stop", "-t", "0", name)
		if state := c.list()[name]; state != "exited" {
			c.t.Errorf("%s was stopped, and is %s", name, state)
		}
	}
}
