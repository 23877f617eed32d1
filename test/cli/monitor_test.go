package cli_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestMonitorIsSmall holds the budget of memory: 15 MB for the monitor and 64 kB for each container in the background, and
// no thread for each.
func TestMonitorIsSmall(t *testing.T) {
	x := newOutside(t)
	const containers, monitorBudget, keeperBudget, threads = 20, 15 << 10, 64, 16 // kB
	for i := range containers {
		x.run("run", "-d", "--name", fmt.Sprint("small", i), "base", "sh", "-c", "echo line; exec sleep 1000")
	}
	pid := monitorOf(t, x.root)
	if pid == 0 {
		t.Fatal("there is no monitor")
	}
	if pss := fieldOf(t, pid, "smaps_rollup", "Pss:"); pss > monitorBudget+containers*keeperBudget {
		t.Errorf("the monitor takes %d kB for %d containers", pss, containers)
	}
	if n := fieldOf(t, pid, "status", "Threads:"); n > threads {
		t.Errorf("the monitor has %d threads for %d containers", n, containers)
	}
	first, err := strconv.Atoi(strings.TrimSpace(x.run("inspect", "-f", "{{.State.Pid}}", "small0")))
	if err != nil {
		t.Fatal(err)
	}
	keeper := fieldOf(t, first, "status", "PPid:")
	if pss := fieldOf(t, keeper, "smaps_rollup", "Pss:"); pss > keeperBudget {
		t.Errorf("a keeper takes %d kB", pss)
	}
}

// fieldOf reads a number from a file of /proc/PID.
func fieldOf(t *testing.T, pid int, file, name string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("/proc/%d/%s has no %s", pid, file, name)
	return 0
}
