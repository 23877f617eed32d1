package cli_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/program"
)

// bootIDFile is where the kernel says which boot this is.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// machine is one that can be restarted: commands run in a mount namespace in which another boot id is read.
type machine struct {
	*outside
	boot string // a file with the boot id
}

func newMachine(t *testing.T) *machine {
	m := &machine{newOutside(t), filepath.Join(t.TempDir(), "boot_id")}
	m.setBoot(1)
	t.Cleanup(func() { // in this boot, so that those that clean up see the same
		if out, err := m.command("system", "boot").CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		for name := range strings.Lines(m.run("ps", "-aq")) {
			m.run("rm", "-f", strings.TrimSpace(name))
		}
		m.run("system", "prune", "-f") // what was half unpacked
	})
	return m
}

func (m *machine) setBoot(n int) {
	m.t.Helper()
	// A new file: what runs already goes on seeing the former one.
	if err := errors.Join(os.WriteFile(m.boot+".new", fmt.Appendf(nil, "00000000-0000-4000-8000-%012d\n", n), 0o644), os.Rename(m.boot+".new", m.boot)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) command(args ...string) *exec.Cmd {
	script := `mount --bind "$0" ` + bootIDFile + ` && exec "$@"`
	cmd := exec.Command("unshare", append([]string{"-m", "sh", "-c", script, m.boot, "containr"}, args...)...)
	cmd.Env = append(os.Environ(), program.RootVar+"="+m.root)
	return cmd
}

func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.command(args...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("containr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// down takes the machine down as a power failure does: all processes are gone at once, and the control groups with them.
func (m *machine) down() {
	m.t.Helper()
	files, err := filepath.Glob(filepath.Join(m.root, "run/runtime/*/state.json"))
	if err != nil {
		m.t.Fatal(err)
	}
	if pid := monitorOf(m.t, m.root); pid != 0 {
		m.kill(pid)
	}
	for _, file := range files {
		var st struct{ PID, Keeper int }
		text, err := os.ReadFile(file)
		if err := errors.Join(err, json.Unmarshal(text, &st)); err != nil {
			m.t.Fatal(err)
		}
		m.kill(st.Keeper) // first, or it would write down how the container ended
		m.kill(st.PID)
	}
	for _, dir := range m.cgroups() {
		waitUntil(m.t, "the control group "+dir+" is empty", func() bool {
			text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			for _, pid := range strings.Fields(string(text)) { // of containers that were not made to the end
				n, _ := strconv.Atoi(pid)
				m.kill(n)
			}
			err := os.Remove(dir)
			return err == nil || errors.Is(err, os.ErrNotExist)
		})
	}
}

// cgroups lists the control groups of all containers, whole or not.
func (m *machine) cgroups() []string {
	m.t.Helper()
	var groups []string
	ids := map[string]bool{}
	for _, dir := range []string{"run/runtime", "containers", "run/containers"} {
		entries, err := os.ReadDir(filepath.Join(m.root, dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			m.t.Fatal(err)
		}
		for _, entry := range entries {
			ids[entry.Name()] = true
		}
	}
	// They are below our own control group, which need not be the root of its hierarchy. Others come and go.
	filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if id, ours := strings.CutPrefix(filepath.Base(path), "containr-"); ours && err == nil && ids[id] {
			groups = append(groups, path)
		}
		return nil
	})
	return groups
}

// kill ends a process, and waits until nothing of it is left but what its parent has to read.
func (m *machine) kill(pid int) {
	m.t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		m.t.Fatal(err)
	}
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 30_000); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) is(name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.run("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name))
}

// TestBoot restarts the machine: the run directory is gone, as one in /run, or is still there, as one below --root, and says
// what is not so any more. What should run runs, what was stopped stays so, nobody's exit status is made up, and of --rm
// nothing is left.
func TestBoot(t *testing.T) {
	m := newMachine(t)
	sleeper := func(name string, flags ...string) {
		m.run(slices.Concat([]string{"run", "-d", "--name", name}, flags, []string{"base", "sh", "-c", "echo begins; sleep 10000"})...)
	}
	sleeper("always", "--restart", "always")
	sleeper("always-stopped", "--restart", "always")
	sleeper("unless", "--restart", "unless-stopped")
	sleeper("unless-stopped", "--restart", "unless-stopped")
	sleeper("on-failure", "--restart", "on-failure")
	sleeper("no")
	m.run("run", "-d", "--name", "ended", "base", "sh", "-c", "exit 7")
	m.run("wait", "ended")
	m.run("create", "--name", "created", "--restart", "always", "base", "true")
	m.run("stop", "-s", "KILL", "always-stopped", "unless-stopped")
	for i, gone := range []bool{true, false} {
		boot := i + 2
		sleeper("fleeting", "--rm")
		m.down()
		m.setBoot(boot)
		if gone {
			if err := os.RemoveAll(filepath.Join(m.root, "run")); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := m.run("system", "boot"), "always\nalways-stopped\nunless\n"; got != want {
			t.Errorf("boot %d: it starts %q, want %q", boot, got, want)
		}
		// The layers, which were not on the disk for sure when the machine went down, are not taken away from who runs.
		m.run("run", "--rm", "base", "true")
		m.run("exec", "always", "ls", "/bin")
		for name, want := range map[string]string{"always": "running 0", "always-stopped": "running 0", "unless": "running 0",
			"unless-stopped": "exited 137", "on-failure": "exited 255", "no": "exited 255", "ended": "exited 7", "created": "created 0"} {
			if got := m.is(name); got != want {
				t.Errorf("boot %d: %s is %q, want %q", boot, name, got, want)
			}
		}
		if why := m.run("inspect", "-f", "{{.State.Error}}", "no"); !strings.Contains(why, "the machine was restarted") {
			t.Errorf("boot %d: what became of no: %q", boot, why)
		}
		if left := strings.Fields(m.run("ps", "-aq", "-f", "name=fleeting")); len(left) != 0 {
			t.Errorf("boot %d: fleeting is still there", boot)
		}
		layers, _ := os.ReadDir(filepath.Join(m.root, "layers"))
		logs, _ := os.ReadDir(filepath.Join(m.root, "logs"))
		names, _ := os.ReadDir(filepath.Join(m.root, "names"))
		if len(layers) != 8 || len(logs) > 8 || len(names) != 8 {
			t.Errorf("boot %d: %d layers, %d logs and %d names of 8 containers", boot, len(layers), len(logs), len(names))
		}
		m.run("stop", "-s", "KILL", "always-stopped")
		if again := m.run("system", "boot"); again != "" {
			t.Errorf("boot %d: once more it starts %q", boot, again)
		}
	}
	waitUntil(t, "the log goes on", func() bool { return strings.Count(m.run("logs", "always"), "begins\n") == 3 })
}

// The unit that is installed executes a command that there is.
func TestBootUnit(t *testing.T) {
	program.Require(t)
	text, err := os.ReadFile("../../init/containr-boot.service")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(text), "\nExecStart=/usr/local/bin/containr ")
	line, _, _ = strings.Cut(line, "\n")
	if out, err := exec.Command("containr", append(strings.Fields(line), "--help")...).CombinedOutput(); err != nil || !strings.Contains(string(out), "containr-boot.service") {
		t.Errorf("containr %s --help: %v\n%s", line, err, out)
	}
}

// The monitor's standard error stays its log, however often its memory is tidied up: a file that got the number 2 instead would
// be redirected with every health check.
func TestMonitorKeepsItsStandardError(t *testing.T) {
	m := newMachine(t)
	m.run("run", "-d", "--name", "much", "--health-cmd", "true", "--health-interval", "100ms", "base", "sh", "-c", "head -c 20000000 /dev/zero; echo; echo done; exec sleep 10000")
	waitUntil(t, "all is in the log", func() bool { return strings.HasSuffix(m.run("logs", "--tail", "1", "much"), "done\n") })
	m.run("run", "-d", "--name", "other", "base", "sleep", "10000") // opens files
	// For a moment, 2 is what a health check writes to.
	waitUntil(t, "its standard error is its log", func() bool {
		target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/2", monitorOf(t, m.root)))
		return filepath.Base(target) == "monitor.log"
	})
	m.run("rm", "-f", "much", "other")
}
