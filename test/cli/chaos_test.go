package cli_test

import (
	"errors"
	"fmt"
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
)

// chaosVar is the environment variable that says how often TestChaos kills, instead of the short form.
const chaosVar = "CONTAINR_TEST_CHAOS"

// chaos is a machine with containers of several kinds, of which it is known what has to become of them.
type chaos struct {
	*machine
	random *rand.Rand
	// each is how many there are of each kind.
	each int
	// boots counts the boots of the machine, the first included, and deeds what was done.
	boots int
	deeds map[string]int
}

// Kinds of containers. Writers write until they are told to stop, and run again after a restart of the machine; finite ones
// end with a status of their own; again is started again and again; sick ones become unhealthy and well again; toggles
// are stopped and started.
const (
	writerScript = `i=0; until [ -e /tmp/stop ]; do echo line $i; i=$((i+1)); [ $((i % 20)) = 0 ] && sleep 0.1; done; printf end`
	finiteScript = `i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); [ $((i %% 10)) = 0 ] && sleep 0.2; done; printf end; exit %d`
	againScript  = `echo begin; sleep 0.2; echo end; exit 1`
	sleepScript  = `exec sleep 100000`
)

// finiteStatus is that of the nth finite one.
func finiteStatus(n int) int { return 10 + n }

func (c *chaos) begin() {
	start := func(name, script string, flags ...string) {
		c.run(slices.Concat([]string{"run", "-d", "--name", name}, flags, []string{"base", "sh", "-c", script})...)
	}
	for i := range c.each {
		n := strconv.Itoa(i)
		start("writer"+n, writerScript, "--restart", "unless-stopped", "--log-opt", "max-size=64k", "--log-opt", "max-file=1000")
		start("finite"+n, fmt.Sprintf(finiteScript, finiteStatus(i)), "--log-opt", "max-size=4k", "--log-opt", "max-file=100")
		start("again"+n, againScript, "--restart", "always")
		start("sick"+n, sleepScript, "--restart", "always", "--health-cmd", "test ! -e /tmp/sick", "--health-interval", "200ms", "--health-retries", "1")
		start("toggle"+n, sleepScript)
	}
}

// one returns the name of a container of a kind.
func (c *chaos) one(kind string) string { return kind + strconv.Itoa(c.random.IntN(c.each)) }

// victim begins a command that may be killed.
func (c *chaos) victim() *exec.Cmd {
	commands := [][]string{{"ps", "-a"}, {"logs", c.one("writer")}, {"exec", c.one("writer"), "true"}, {"inspect", c.one("again")},
		{"restart", "-t", "0", c.one("again")}, {"stop", "-t", "0", c.one("toggle")}, {"start", c.one("toggle")},
		{"restart", "-t", "0", c.one("toggle")}, {"exec", c.one("sick"), "touch", "/tmp/sick"}, {"exec", c.one("sick"), "rm", "-f", "/tmp/sick"},
		{"run", "-d", "--rm", "base", "echo", "fleeting"}, {"run", "--rm", "base", "true"}, {"kill", "-s", "KILL", c.one("toggle")}}
	cmd := c.command(commands[c.random.IntN(len(commands))]...)
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return cmd
}

// ours lists the processes of containr that have to do with this state root, but for keepers.
func (c *chaos) ours() []int {
	var pids []int
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		text, err := os.ReadFile(file)
		program, rest, _ := strings.Cut(string(text), "\x00")
		if err == nil && strings.Contains(rest, c.root) && strings.HasPrefix(filepath.Base(program), "containr") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func (c *chaos) signal(pid int) {
	if pid == 0 { // there is none, and 0 would be ourselves
		return
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		c.t.Fatal(err)
	}
}

// step begins commands and does one of the things that must do no harm, at a random moment.
func (c *chaos) step(n int) {
	victims := []*exec.Cmd{c.victim(), c.victim()}
	time.Sleep(time.Duration(c.random.IntN(60)) * time.Millisecond) // a random moment, not one to wait for
	deed := "monitor"
	switch r := c.random.IntN(100); {
	case n%50 == 30:
		deed = "reboot"
	case r < 30:
		deed = "commands"
	case r < 55:
		deed = "all"
	case r < 65:
		deed = "upgrade"
	}
	c.deeds[deed]++
	if deed == "commands" || deed == "all" || deed == "reboot" {
		for _, v := range victims {
			v.Process.Kill()
		}
	}
	switch deed {
	case "monitor":
		c.signal(monitorOf(c.t, c.root))
	case "all":
		for _, pid := range c.ours() {
			c.signal(pid)
		}
	case "upgrade":
		c.replaceMonitor()
	}
	for _, v := range victims {
		v.Wait()
	}
	if deed == "reboot" {
		c.reboot()
	}
}

// replaceMonitor puts a copy of the monitor's program in its place, as an upgrade does.
func (c *chaos) replaceMonitor() {
	path, err := exec.LookPath("containr")
	if err != nil {
		c.t.Fatal(err)
	}
	path = filepath.Join(filepath.Dir(path), "containr-monitor")
	data, err := os.ReadFile(path)
	if err := errors.Join(err, os.WriteFile(path+".new", data, 0o755), os.Rename(path+".new", path)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *chaos) reboot() {
	for pids := c.ours(); len(pids) > 0; pids = c.ours() {
		for _, pid := range pids {
			c.kill(pid)
		}
	}
	c.down()
	c.boots++
	c.setBoot(c.boots)
	if c.random.IntN(2) == 0 {
		if err := os.RemoveAll(filepath.Join(c.root, "run")); err != nil {
			c.t.Fatal(err)
		}
	}
	c.run("system", "boot")
}

// checkNow checks that ps says what is so at this moment.
func (c *chaos) checkNow() {
	states := map[string]string{}
	for line := range strings.Lines(c.run("ps", "-a", "--format", "{{.Names}} {{.State}}")) {
		name, state, _ := strings.Cut(strings.TrimSpace(line), " ")
		states[name] = state
	}
	for i := range c.each {
		n := strconv.Itoa(i)
		for _, kind := range []string{"writer", "sick"} {
			if state := states[kind+n]; state != "running" {
				c.t.Errorf("%s is %q, and should run", kind+n, state)
			}
		}
		for _, kind := range []string{"finite", "again", "toggle"} {
			if states[kind+n] == "" {
				c.t.Errorf("%s is not in ps", kind+n)
			}
		}
	}
}

// finish ends all and checks what became of it.
func (c *chaos) finish() {
	for i := range c.each {
		n := strconv.Itoa(i)
		c.finishFinite(i)
		c.run("update", "--restart", "no", "writer"+n)
		c.run("exec", "writer"+n, "touch", "/tmp/stop")
		c.run("wait", "writer"+n)
		c.checkWriter("writer" + n)
		c.checkAgain("again" + n)
		c.run("exec", "sick"+n, "touch", "/tmp/sick")
		c.awaitHealth("sick"+n, "unhealthy")
		c.run("exec", "sick"+n, "rm", "-f", "/tmp/sick")
		c.awaitHealth("sick"+n, "healthy")
		c.run("restart", "-t", "0", "toggle"+n)
		if is := c.is("toggle" + n); is != "running 0" {
			c.t.Errorf("toggle%s is %q after a restart", n, is)
		}
		c.run("stop", "-t", "0", "toggle"+n)
		if is := c.is("toggle" + n); !strings.HasPrefix(is, "exited ") {
			c.t.Errorf("toggle%s is %q after a stop", n, is)
		}
	}
	waitUntil(c.t, "nothing is there but what was made", func() bool { return len(strings.Fields(c.run("ps", "-aq"))) == 5*c.each })
}

func (c *chaos) awaitHealth(name, want string) {
	waitUntil(c.t, name+" is "+want, func() bool {
		return strings.TrimSpace(c.run("inspect", "-f", "{{.State.Health.Status}}", name)) == want
	})
}

func (c *chaos) finishFinite(i int) {
	name := "finite" + strconv.Itoa(i)
	code, log := strings.TrimSpace(c.run("wait", name)), c.run("logs", name)
	if code == "255" && c.boots > 1 { // the machine went down under it
		c.checkSequence(name, log, 1, false)
		return
	}
	if want := strconv.Itoa(finiteStatus(i)); code != want {
		c.t.Errorf("%s: exit status %s, want %s", name, code, want)
	}
	checkLines(c.t, name, log)
}

// checkWriter checks that a writer's log counts up from 0 once for each boot.
func (c *chaos) checkWriter(name string) { c.checkSequence(name, c.run("logs", name), c.boots, true) }

// checkSequence checks a log that counts up from 0 so many times. What was in the pipes when the machine went down is gone, and
// the last line may be a part of one.
func (c *chaos) checkSequence(name, log string, times int, ended bool) {
	next, runs := 0, 0
	lines := strings.Split(log, "\n")
	for i, line := range lines {
		switch {
		case line == fmt.Sprint("line ", next):
			next++
		case line == "line 0":
			next = 1
		case i == len(lines)-1 && ended && line == "end", i == len(lines)-1 && !ended:
		default:
			c.t.Errorf("%s: line %d of the log is %q, want line %d", name, i, line, next)
			return
		}
		if line == "line 0" {
			runs++
		}
	}
	if ended && (runs > times || lines[len(lines)-1] != "end") {
		c.t.Errorf("%s: it has begun %d times in %d boots, and its last line is %q", name, runs, times, lines[len(lines)-1])
	}
}

// checkAgain checks that a container is started again, and that its log is one run after the other. A run that a restart or
// a reboot cut off has no end.
func (c *chaos) checkAgain(name string) {
	c.run("restart", "-t", "0", name) // or the policy might make it wait for a minute
	begun := func() int { return strings.Count(c.run("logs", name), "begin\n") }
	before := begun()
	waitUntil(c.t, name+" is started again", func() bool { return begun() > before+1 })
	previous := "end"
	for line := range strings.Lines(c.run("logs", name)) {
		if line = strings.TrimSpace(line); line == "end" && previous != "begin" || line != "end" && line != "begin" {
			c.t.Errorf("%s: %q follows %q in the log", name, line, previous)
		}
		previous = line
	}
}

// TestChaos kills the monitor, commands, and all processes of containr together, replaces the monitor by another and restarts
// the machine, at random moments that a seed decides, while containers write, end, are started again and become unhealthy.
// What should run runs, every exit status is right, every line is in the log once and in order, and ps says what is so.
func TestChaos(t *testing.T) {
	times, each := 40, 2
	if text := os.Getenv(chaosVar); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", chaosVar, err)
		}
		times, each = n, 10
	}
	t.Logf("-kill-seed %d", *killSeed)
	c := &chaos{machine: newMachine(t), random: rand.New(rand.NewPCG(*killSeed, 1)), each: each, boots: 1, deeds: map[string]int{}}
	c.begin()
	for n := range times {
		c.step(n)
		if n%10 == 9 {
			c.checkNow()
		}
		if t.Failed() {
			t.Fatalf("after %d kills: %v", n+1, c.deeds)
		}
	}
	c.finish()
	t.Logf("%d times: %v", times, c.deeds)
}
