package cli_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/program"
)

var (
	killSeed  = flag.Uint64("kill-seed", 1, "the seed of TestNothingKillsAContainer")
	killTimes = flag.Int("kill-times", 40, "how often TestNothingKillsAContainer kills")
)

// outside runs commands with a state root of its own.
type outside struct {
	t    *testing.T
	root string
}

func newOutside(t *testing.T) *outside {
	program.Require(t)
	testkit.Leftovers(t)
	x := &outside{t, filepath.Join(t.TempDir(), "root")}
	t.Cleanup(func() {
		if t.Failed() {
			x.tell()
		}
		removeContainers(t, x.root)
		if err := program.AwaitMonitor(x.root); err != nil {
			t.Error(err)
		}
		for _, path := range program.LeftIn(x.root) {
			t.Errorf("left in the state root: %s", path)
		}
	})
	return x
}

// tell logs what a test that has failed leaves to find out why: the states on disk, and what the monitor has said.
func (x *outside) tell() {
	for _, pattern := range []string{"containers/*/state.json", "containers/*/exit", "run/runtime/*/state.json", "run/runtime/*/journal", "run/monitor.log", "events/*.jsonl"} {
		files, err := filepath.Glob(filepath.Join(x.root, pattern))
		if err != nil {
			x.t.Error(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			x.t.Logf("%s: %s (%v)", f, text, err)
		}
	}
}

func (x *outside) command(args ...string) *exec.Cmd {
	cmd := exec.Command("containr", args...)
	cmd.Env = append(os.Environ(), program.RootVar+"="+x.root)
	return cmd
}

// run runs a command that has to work, and returns what it prints.
func (x *outside) run(args ...string) string {
	x.t.Helper()
	cmd := x.command(args...)
	var out, fault bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &fault
	if err := cmd.Run(); err != nil {
		x.t.Fatalf("containr %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), fault.String())
	}
	return out.String()
}

// monitorOf is the process id of a state root's monitor, 0 if there is none: it holds a lock.
func monitorOf(t interface{ Fatalf(string, ...any) }, root string) int {
	text, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatalf("%v", err)
	}
	info, err := os.Stat(filepath.Join(root, "run", "monitor.lock"))
	if err != nil {
		return 0
	}
	inode := ":" + strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10)
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 5 && f[1] == "FLOCK" && f[3] == "WRITE" && strings.HasSuffix(f[5], inode) {
			pid, _ := strconv.Atoi(f[4])
			return pid
		}
	}
	return 0
}

// TestNothingKillsAContainer kills the monitor, and commands that are at work, at random moments, while containers write,
// end and are started again. Every line is in the log once and in order, every exit status is right, and what should run
// runs.
func TestNothingKillsAContainer(t *testing.T) {
	x := newOutside(t)
	t.Logf("-kill-seed %d", *killSeed)
	random := rand.New(rand.NewPCG(*killSeed, 0))
	const writers, lines = 3, 400
	for i := range writers {
		script := fmt.Sprintf(`i=0; while [ $i -lt %d ]; do echo line $i; [ $((i %% 10)) = 0 ] && sleep 0.05; i=$((i+1)); done; printf end; exit %d`, lines, 10+i)
		x.run("run", "-d", "--name", fmt.Sprint("writer", i), "--log-opt", "max-size=4k", "--log-opt", "max-file=100", "base", "sh", "-c", script)
	}
	x.run("run", "-d", "--name", "again", "--restart", "always", "base", "sh", "-c", "echo up; sleep 0.2; exit 1")
	x.run("run", "-d", "--name", "steady", "base", "sleep", "1000")
	pid := x.run("inspect", "-f", "{{.State.Pid}}", "steady")
	for range *killTimes {
		cmd := x.command([][]string{{"ps", "-a"}, {"logs", "writer0"}, {"exec", "steady", "true"}, {"inspect", "again"}, {"restart", "-t", "0", "again"}}[random.IntN(5)]...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.IntN(40)) * time.Millisecond) // a random moment, not one to wait for
		if random.IntN(2) == 0 {
			cmd.Process.Kill()
		}
		if pid := monitorOf(t, x.root); pid != 0 {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				t.Fatal(err)
			}
		}
		cmd.Wait()
	}
	for i := range writers {
		name := fmt.Sprint("writer", i)
		if code := strings.TrimSpace(x.run("wait", name)); code != strconv.Itoa(10+i) {
			t.Errorf("%s: exit status %s, want %d", name, code, 10+i)
		}
		var want strings.Builder
		for n := range lines {
			fmt.Fprintln(&want, "line", n)
		}
		want.WriteString("end")
		if got := x.run("logs", name); got != want.String() {
			t.Errorf("%s: the log differs from what was written:\n%s", name, firstDifference(got, want.String()))
		}
	}
	if now := x.run("inspect", "-f", "{{.State.Pid}}", "steady"); now != pid {
		t.Errorf("steady is process %s, and was %s", now, pid)
	}
	x.run("restart", "-t", "0", "again") // or the policy might make it wait for a minute
	count := func() int { return strings.Count(x.run("logs", "again"), "up\n") }
	before := count()
	waitUntil(t, "it is started again", func() bool { return count() > before })
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d is %q, want %q; %d lines, want %d", i, a[i], b[i], len(a), len(b))
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(a), len(b))
}
