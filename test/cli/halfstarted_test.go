package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/procfs"
	"github.com/containr/containr/internal/testkit/program"
)

// keepers lists the processes of the machine that run a plan's program: keepers, and containers whose program has not been
// executed yet.
func keepers(t *testing.T) map[int]bool {
	t.Helper()
	procs, err := procfs.Processes()
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]bool{}
	for pid, st := range procs {
		if exe, _ := os.Readlink(procfs.Path(pid, "exe")); strings.Contains(exe, "containr-init") && st.State != "Z" {
			found[pid] = true
		}
	}
	return found
}

// A command that starts a container is killed before each system call from the first step of the plan on. Whatever it
// leaves, the next commands find a container that can be started, waited for and removed, and no process stays that nobody
// knows.
func TestKilledStartLeavesNoKeeper(t *testing.T) {
	x := newOutside(t)
	before := keepers(t)
	create := func() { x.run("create", "--name", "one", "base", "sh", "-c", "echo here; exit 3") }
	create()
	journal := func() bool {
		found, _ := filepath.Glob(filepath.Join(x.root, "run", "runtime", "*", "journal"))
		return len(found) > 0
	}
	stride := 1
	if testing.Short() {
		stride = 9
	}
	kills := 0
	for n := 1; ; n += stride {
		_, ended := testkit.KillAt(t, x.command("start", "one"), n, journal)
		if !ended {
			kills++
		}
		if kills%3 == 1 && !ended {
			x.run("rm", "-f", "one")
			if left := program.LeftIn(x.root); len(left) > 0 {
				t.Fatalf("killed at call %d and removed: left: %q", n, left)
			}
			create()
		}
		x.run("start", "one")
		if code := strings.TrimSpace(x.run("wait", "one")); code != "3" {
			t.Fatalf("killed at call %d: exit status %s, want 3", n, code)
		}
		if pid := endless(keepers(t), before); pid != 0 {
			where, _ := os.ReadFile(procfs.Path(pid, "syscall"))
			t.Errorf("start killed at call %d: process %d is left, in system call %s", n, pid, where)
			before[pid] = true
			unix.Kill(pid, unix.SIGKILL)
		}
		if ended {
			break
		}
	}
	t.Logf("killed %d times", kills)
	if kills < 5 {
		t.Errorf("killed %d times only", kills)
	}
}

// endless returns one of the processes that does not end within three seconds, 0 if there is none.
func endless(now, before map[int]bool) int {
	for pid := range now {
		if before[pid] {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 3_000)
		unix.Close(fd)
		if n == 0 && err == nil {
			return pid
		}
	}
	return 0
}

// A restart that is killed while it starts the container anew is done nevertheless, whenever it was killed: whoever looks
// next, or the monitor, starts it.
func TestKilledRestartIsDone(t *testing.T) {
	x := newOutside(t)
	x.run("run", "-d", "--name", "one", "base", "sleep", "1000")
	status := func() string {
		return strings.TrimSpace(x.run("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "one"))
	}
	stride := 9
	if testing.Short() {
		stride = 31
	}
	kills, ends := 0, 0
	for n := 1; ends < 3; n += stride { // one ends early when the monitor is quicker than the command

		// It counts from the end of the old program on.
		gone := false
		begun := func() bool {
			found, _ := filepath.Glob(filepath.Join(x.root, "run", "runtime", "*", "journal"))
			gone = gone || len(found) == 0
			return gone
		}
		_, ended := testkit.KillAt(t, x.command("restart", "-t", "0", "one"), n, begun)
		last := ""
		t.Logf("killed at call %d (ended: %v)", n, ended)
		waitUntil(t, "it runs again", func() bool {
			if now := status(); now != last {
				t.Logf("%s", now)
				last = now
			}
			return last == "running 0"
		})
		if ended {
			ends++
			continue
		}
		kills, ends = kills+1, 0
	}
	t.Logf("killed %d times", kills)
	if kills < 5 {
		t.Errorf("killed %d times only", kills)
	}
}

// So is one that is killed at the last moment before the program runs, when the container can be found already: at each of the
// calls from there on.
func TestRestartKilledAtTheLastMomentIsDone(t *testing.T) {
	x := newOutside(t)
	x.run("run", "-d", "--name", "one", "base", "sleep", "1000")
	states := func() int {
		found, err := filepath.Glob(filepath.Join(x.root, "run", "runtime", "*", "state.json"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	for n := 1; n <= 12; n++ {
		gone := false
		begun := func() bool {
			there := states() > 0
			gone = gone || !there
			return gone && there
		}
		_, ended := testkit.KillAt(t, x.command("restart", "-t", "0", "one"), n, begun)
		waitUntil(t, fmt.Sprintf("killed at call %d (ended: %v), it runs again", n, ended), func() bool {
			return strings.TrimSpace(x.run("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "one")) == "running 0"
		})
	}
}
