package testkit

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/procfs"
)

// partVar names, in the environment of this test binary, the part of TestInWorld that it is to play in a world of its own.
const partVar = "CONTAINR_TEST_WORLD_PART"

func TestMain(m *testing.M) {
	if os.Getenv(partVar) != "" {
		World()
	}
	os.Exit(m.Run())
}

// parts are what is done in a world. Of some the test fails.
var parts = map[string]func(*testing.T){
	"look": func(t *testing.T) {
		Leftovers(t)
		entries, err := procfs.Cgroups(0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Path != "/" {
				t.Errorf("the group of %v is %s", e.Controllers, e.Path)
			}
		}
		links, err := net.Interfaces()
		if err != nil || len(links) != 1 || links[0].Name != "lo" || links[0].Flags&net.FlagUp == 0 {
			t.Errorf("links %+v, %v; want lo, up", links, err)
		}
		if devices, err := os.ReadDir("/sys/class/net"); err != nil || len(devices) != 1 {
			t.Errorf("in /sys/class/net: %v, %v; want lo alone", devices, err)
		}
		run, err := os.ReadDir("/run")
		if err != nil || len(run) != 2 {
			t.Errorf("in /run: %v, %v", run, err)
		}
		if cpus, err := os.ReadFile("/sys/fs/cgroup/cpuset/cpuset.cpus"); err == nil && strings.TrimSpace(string(cpus)) == "" {
			t.Error("the world has no processors")
		}
		inside, err := procfs.Namespaces(0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("namespaces %d %d %d %d\n", inside["mnt"], inside["pid"], inside["net"], inside["cgroup"])
		for kind, enter := range map[string]func(func() error) error{"net": OutsideNetwork, "cgroup": OutsideCgroups} {
			err := enter(func() error {
				outer, err := os.Readlink("/proc/thread-self/ns/" + kind)
				if outer == fmt.Sprintf("%s:[%d]", kind, inside[kind]) {
					t.Errorf("outside is %s, too", outer)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
	},
	"leave": func(t *testing.T) { // one of each kind
		Leftovers(t)
		if err := unix.Mount("forgotten", t.TempDir(), "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		mounts, err := procfs.Mountinfo(0)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mounts {
			if m.Type == "cgroup" || m.Type == "cgroup2" {
				if err := os.Mkdir(filepath.Join(m.Point, worldPrefix+"forgotten"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
		}
		WriteFile(t, filepath.Join(RunDir, "dir/forgotten"), "", 0o600)
		if out, err := exec.Command("ip", "link", "add", "forgotten", "type", "veth", "peer", "name", "forgotten2").CombinedOutput(); err != nil {
			t.Fatalf("ip: %v: %s", err, out)
		}
		if err := exec.Command("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 </dev/null & setsid unshare --pid --fork sleep 2000 >/dev/null 2>&1 </dev/null &").Run(); err != nil {
			t.Fatal(err)
		}
	},
	"fail": func(t *testing.T) { t.Error("as it should") },
	"exit": func(t *testing.T) { os.Exit(7) },
	"wait": func(t *testing.T) {
		if err := os.MkdirAll("/sys/fs/cgroup/freezer/a/b", 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("setsid", "sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		fmt.Println("waiting")
		cmd.Wait()
	},
}

// TestInWorld is a part of other tests.
func TestInWorld(t *testing.T) {
	part, ok := parts[os.Getenv(partVar)]
	if !ok {
		t.Skip("is a part of other tests")
	}
	if !InWorld() {
		t.Fatal("this is no world")
	}
	part(t)
}

// worldCommand is this test binary, to play a part in a world.
func worldCommand(t *testing.T, part string, args ...string) *exec.Cmd {
	t.Helper()
	RequireRoot(t)
	if _, err := ownGroups(); err != nil {
		t.Skipf("there are no worlds here: %v", err)
	}
	cmd := exec.Command(os.Args[0], append([]string{"-test.run=^TestInWorld$", "-test.v"}, args...)...)
	cmd.Env = append(os.Environ(), partVar+"="+part)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

// groupsOf are the control groups that the process has made for a world.
func groupsOf(t *testing.T, pid int) []string {
	t.Helper()
	ns, err := procfs.Namespaces(0)
	if err != nil {
		t.Fatal(err)
	}
	parents, err := ownGroups()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, parent := range parents {
		dir := filepath.Join(parent, fmt.Sprintf("%s%d-%d", worldPrefix, ns["pid"], pid))
		if _, err := os.Stat(dir); err == nil {
			found = append(found, dir)
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return found
}

// A world has namespaces and control groups of its own; outside it leaves nothing.
func TestWorldIsApart(t *testing.T) {
	cmd := worldCommand(t, "look")
	Leftovers(t)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, line, _ := strings.Cut(string(out), "namespaces ")
	line, _, _ = strings.Cut(line, "\n")
	outside, err := procfs.Namespaces(0)
	if err != nil {
		t.Fatal(err)
	}
	for i, kind := range []string{"mnt", "pid", "net", "cgroup"} {
		if f := strings.Fields(line); len(f) != 4 || f[i] == fmt.Sprint(outside[kind]) {
			t.Errorf("%s namespace: %q of %q, outside it is %d", kind, f, out, outside[kind])
		}
	}
	if left := groupsOf(t, cmd.Process.Pid); len(left) > 0 {
		t.Errorf("control groups are left: %q", left)
	}
}

// What a test leaves in a world fails it, whatever kind it is of, and then goes with the world.
func TestWorldHidesNoLeftovers(t *testing.T) {
	cmd := worldCommand(t, "leave")
	Leftovers(t)
	text, err := cmd.CombinedOutput()
	out := string(text)
	if err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("status %d, want 1\n%s", cmd.ProcessState.ExitCode(), out)
	}
	finds(t, out, "+ mount", "forgotten on")
	finds(t, out, "+ file", RunDir+"/dir/forgotten")
	finds(t, out, "+ link", "forgotten2")
	finds(t, out, "+ process", "sleep 1000")
	finds(t, out, "+ process", "sleep 2000")
	mounts, err := procfs.Mountinfo(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if m.Type == "cgroup" || m.Type == "cgroup2" {
			finds(t, out, "+ cgroup "+m.Point+"/"+worldPrefix+"forgotten")
		}
	}
	if left := groupsOf(t, cmd.Process.Pid); len(left) > 0 {
		t.Errorf("control groups are left: %q", left)
	}
}

// The status of the tests is that of who made their world, and flags are theirs.
func TestWorldPassesOnHowTestsEnd(t *testing.T) {
	for part, want := range map[string]int{"look": 0, "fail": 1, "exit": 7} {
		if err := worldCommand(t, part).Run(); err != nil && want == 0 {
			t.Errorf("%s: %v", part, err)
		} else if got := cmdStatus(err); got != want {
			t.Errorf("%s: status %d, want %d", part, got, want)
		}
	}
	dir := t.TempDir()
	cmd := worldCommand(t, "look", "-test.cpuprofile=profile", "-test.outputdir="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if profile, err := os.ReadFile(filepath.Join(dir, "profile")); err != nil || len(profile) == 0 {
		t.Errorf("the profile has %d bytes: %v", len(profile), err)
	}
	out, err := worldCommand(t, "wait", "-test.timeout=200ms").CombinedOutput()
	if cmdStatus(err) != 2 || !strings.Contains(string(out), "panic: test timed out after 200ms") {
		t.Errorf("after the time of the test: %v\n%s", err, out)
	}
}

func cmdStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// startWorld starts a world whose test waits.
func startWorld(t *testing.T) (cmd *exec.Cmd, descendants []int) {
	t.Helper()
	cmd = worldCommand(t, "wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // unless it has ended; killed, it would leave its groups
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "waiting" {
	}
	procs, err := procfs.Processes()
	if err != nil {
		t.Fatal(err)
	}
	descendants = procfs.Descendants(procs, cmd.Process.Pid)
	if len(descendants) != 3 || len(groupsOf(t, cmd.Process.Pid)) == 0 {
		t.Fatalf("processes %v, groups %v; want an init, the tests and what they started", descendants, groupsOf(t, cmd.Process.Pid))
	}
	return cmd, descendants
}

// A signal reaches the tests: SIGQUIT has them say where they are.
func TestWorldPassesSignals(t *testing.T) {
	Leftovers(t)
	for _, s := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT} {
		cmd, _ := startWorld(t)
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		want := 128 + int(s)
		if s == unix.SIGQUIT {
			want = 2 // of a Go program that has printed its goroutines
		}
		if err := cmd.Wait(); cmdStatus(err) != want {
			t.Errorf("after %v: %v, want status %d", s, err, want)
		}
		if left := groupsOf(t, cmd.Process.Pid); len(left) > 0 {
			t.Errorf("control groups are left: %q", left)
		}
	}
}

// When the process that made a world is killed everything in it ends; its groups stay until somebody makes the next world, who leaves
// those alone whose maker lives.
func TestWorldThatWasKilledIsSwept(t *testing.T) {
	Leftovers(t)
	living, _ := startWorld(t)
	killed, inside := startWorld(t)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.Wait()
	for late := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		procs, err := procfs.Processes()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(inside, func(pid int) bool { _, there := procs[pid]; return there }) {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("some of the processes %v live", inside)
		}
	}
	if len(groupsOf(t, killed.Process.Pid)) == 0 {
		t.Error("somebody has removed the groups already: this test shows nothing")
	}
	before := groupsOf(t, living.Process.Pid)
	if out, err := worldCommand(t, "look").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if left := groupsOf(t, killed.Process.Pid); len(left) > 0 {
		t.Errorf("control groups are left: %q", left)
	}
	if after := groupsOf(t, living.Process.Pid); len(before) == 0 || !slices.Equal(before, after) {
		t.Errorf("of a world that lives there are the groups %q, before there were %q", after, before)
	}
}

// Who is not root has no world, and no word about it: his kernel tests say that they need root.
func TestNoWorldWithoutRoot(t *testing.T) {
	RequireRoot(t)
	program := filepath.Join(t.TempDir(), "testkit.test")
	for dir := filepath.Dir(program); dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil {
			t.Fatal(err)
		} else if info.Mode()&0o111 != 0o111 {
			chmod(t, dir, info.Mode()|0o111)
		}
	}
	data, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	WriteFile(t, program, string(data), 0o755)
	cmd := exec.Command(program, "-test.run=^TestInWorld$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), partVar+"=look")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "this is no world") {
		t.Errorf("%s", out)
	}
}
