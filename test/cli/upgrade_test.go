package cli_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/program"
)

// installation is a directory with the programs of one version.
type installation struct{ dir string }

// newInstallation builds containr and its monitor with a version of their protocol.
func newInstallation(t *testing.T, protocol string) installation {
	t.Helper()
	in := installation{t.TempDir()}
	for _, name := range []string{"containr", "containr-monitor"} {
		in.install(t, name, protocol)
	}
	return in
}

// install puts a program in the place of the former one, as package managers do: a new file gets the old name.
func (in installation) install(t *testing.T, name, protocol string) {
	t.Helper()
	module := "github.com/containr/containr/"
	built, err := testkit.Build(module+"cmd/"+name, runtime.GOARCH, "-ldflags=-X="+module+"pkg/monitor.protocol="+protocol)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(built)
	path := filepath.Join(in.dir, name)
	if err := errors.Join(err, os.WriteFile(path+".new", data, 0o755), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

func (in installation) command(root string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(in.dir, "containr"), append([]string{"--root", root}, args...)...)
	cmd.Env = append(os.Environ(), program.NetworkVar+"=none") // nothing is to be made in the host's network namespace
	return cmd
}

func (in installation) run(t *testing.T, root string, args ...string) string {
	t.Helper()
	out, err := in.command(root, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// monitorProgram is the path of the program that is a state root's monitor, and its process.
func monitorProgram(t *testing.T, root string) (string, int) {
	t.Helper()
	pid := monitorOf(t, root)
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatalf("the monitor, process %d: %v", pid, err)
	}
	return path, pid
}

// TestUpgrade replaces the monitor by others, newer and installed in its place, while containers write and commands run
// side by side. Every line is in the log once and in order, restarts go on, and the monitor that is there in the end is
// the newest.
func TestUpgrade(t *testing.T) {
	x := newOutside(t)
	older, newer := newInstallation(t, "1"), newInstallation(t, "2")
	const writers, times = 4, 6
	older.run(t, x.root, "run", "-d", "--name", "again", "--restart", "always", "base", "sh", "-c", "echo up; sleep 0.3; exit 1")
	for i := range writers {
		older.run(t, x.root, "run", "-d", "--name", fmt.Sprint("writer", i), "--log-opt", "max-size=64k", "--log-opt", "max-file=500", "base",
			"sh", "-c", `i=0; until [ -e /tmp/stop ]; do echo line $i; [ $((i % 50)) = 0 ] && sleep 0.02; i=$((i+1)); done; echo $i >/tmp/count; printf end`)
	}
	if path, _ := monitorProgram(t, x.root); filepath.Dir(path) != older.dir {
		t.Fatalf("the monitor is %s", path)
	}
	for i := range times {
		_, before := monitorProgram(t, x.root)
		if i > 0 { // the first time it is older; later its program has been replaced
			newer.install(t, "containr-monitor", "2")
		}
		var side sync.WaitGroup
		for range 3 {
			side.Go(func() {
				if out, err := newer.command(x.root, "run", "-d", "--rm", "base", "true").CombinedOutput(); err != nil {
					t.Errorf("run while the monitor is replaced: %v\n%s", err, out)
				}
			})
		}
		side.Wait()
		path, now := monitorProgram(t, x.root)
		if now == before || filepath.Dir(path) != newer.dir || strings.HasSuffix(path, " (deleted)") {
			t.Errorf("time %d: the monitor is process %d, %s; it was %d", i, now, path, before)
		}
	}
	older.run(t, x.root, "run", "-d", "--rm", "base", "true")
	if path, _ := monitorProgram(t, x.root); filepath.Dir(path) != newer.dir {
		t.Errorf("an older command has put %s in the place of the newer monitor", path)
	}
	ups := strings.Count(newer.run(t, x.root, "logs", "again"), "up\n")
	newer.run(t, x.root, "restart", "-t", "0", "again") // or the policy might make it wait
	waitUntil(t, "restarts go on", func() bool { return strings.Count(newer.run(t, x.root, "logs", "again"), "up\n") > ups+1 })
	for i := range writers {
		name := fmt.Sprint("writer", i)
		newer.run(t, x.root, "exec", "-d", name, "touch", "/tmp/stop") // it may be killed with the container, which ends for it
		newer.run(t, x.root, "wait", name)
		checkLines(t, name, newer.run(t, x.root, "logs", name))
	}
}

// checkLines checks that a log has every line once and in order: "line 0" and so on, and "end" without a line feed.
func checkLines(t *testing.T, name, log string) {
	t.Helper()
	var want strings.Builder
	for n := range strings.Count(log, "\n") {
		fmt.Fprintln(&want, "line", n)
	}
	want.WriteString("end")
	if log != want.String() {
		t.Errorf("%s: the log differs from what was written: %s", name, firstDifference(log, want.String()))
	}
}
