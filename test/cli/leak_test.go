package cli_test

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit/procfs"
)

var (
	leakRuns  = flag.Int("leak-runs", 60, "how many containers TestNothingIsLeaked runs")
	leakExecs = flag.Int("leak-execs", 20, "how many programs it runs in one that lives")
)

// Many short containers, and programs in one that goes on: the machine is afterwards as it was before (newOutside looks at
// processes, mounts, control groups, files and links), and the monitor has neither more descriptors nor much more memory.
func TestNothingIsLeaked(t *testing.T) {
	x := newOutside(t)
	before := keepers(t)
	x.run("run", "-d", "--name", "lives", "base", "sleep", "100000")
	short := func(n int) {
		for i := range n {
			if i%2 == 0 {
				x.run("run", "--rm", "base", "true")
				continue
			}
			x.run("run", "-d", "--name", "short", "base", "echo", "line")
			x.run("wait", "short")
			x.run("rm", "-f", "short")
		}
	}
	execs := func(n int) {
		for range n {
			x.run("exec", "lives", "true")
		}
	}
	short(20) // what Go keeps it keeps from the beginning
	execs(5)
	began := monitorUse(t, x.root)
	short(*leakRuns)
	execs(*leakExecs)
	var now use
	waitUntil(t, "the monitor has let go of what it had", func() bool {
		now = monitorUse(t, x.root)
		return now.descriptors <= began.descriptors
	})
	t.Logf("%d containers, %d programs; the monitor before: %+v, after: %+v", *leakRuns, *leakExecs, began, now)
	const growth = 4 << 10 // what the collector of Go may let stand
	if now.kilobytes > began.kilobytes+growth {
		t.Errorf("the monitor had %d kB of private memory, and has %d", began.kilobytes, now.kilobytes)
	}
	x.run("rm", "-f", "lives")
	if pid := endless(keepers(t), before); pid != 0 {
		t.Errorf("process %d is left, which nobody knows", pid)
	}
}

// use is what a process has of the machine.
type use struct{ pid, descriptors, kilobytes int }

// monitorUse looks at the monitor, which has to be there.
func monitorUse(t *testing.T, root string) use {
	t.Helper()
	u := use{pid: monitorOf(t, root)}
	if u.pid == 0 {
		t.Fatal("there is no monitor")
	}
	list, err := os.ReadDir(procfs.Path(u.pid, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	u.descriptors = len(list)
	text, err := os.ReadFile(procfs.Path(u.pid, "smaps_rollup"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Private_Dirty:"); ok {
			if u.kilobytes, err = strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB")); err != nil {
				t.Fatal(fmt.Errorf("smaps_rollup: %w", err))
			}
		}
	}
	return u
}
