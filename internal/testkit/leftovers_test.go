package testkit

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/procfs"
)

// recorder is a test that cannot fail: it keeps what it was told.
type recorder struct {
	testing.TB
	name     string
	cleanups []func()
	errors   []string
}

func (r *recorder) Helper()          {}
func (r *recorder) Name() string     { return r.name }
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(s string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(s, args...))
}
func (r *recorder) end() {
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
}

// leak notes the state, does one thing, and returns what the comparison finds.
func leak(t *testing.T, dirs []string, do func()) string {
	t.Helper()
	mark := "leak/" + t.Name()
	t.Setenv(markVar, mark)
	before, err := snapshot(dirs, mark)
	if err != nil {
		t.Fatal(err)
	}
	do()
	after, err := snapshot(dirs, mark)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(before.diff(after), "\n")
}

// finds fails the test unless the comparison has a line with all these words.
func finds(t *testing.T, diff string, words ...string) {
	t.Helper()
	for line := range strings.SplitSeq(diff, "\n") {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return
		}
	}
	t.Errorf("no line with %q in:\n%s", words, diff)
}

func TestLeftoversFailsTheTest(t *testing.T) {
	dir := t.TempDir()
	r := &recorder{TB: t, name: t.Name()}
	Leftovers(r, dir)
	WriteFile(t, filepath.Join(dir, "forgotten"), "x", 0o600)
	r.end()
	if len(r.errors) != 1 || !strings.Contains(r.errors[0], "+ file ---------- "+dir+"/forgotten") {
		t.Errorf("got %q", r.errors)
	}
}

func TestLeftoversPassesACleanTest(t *testing.T) {
	dir := t.TempDir()
	r := &recorder{TB: t, name: t.Name()}
	Leftovers(r, dir)
	Leftovers(&recorder{TB: t, name: t.Name() + "/sub"}, dir) // must not wait for itself
	WriteFile(t, filepath.Join(dir, "x"), "x", 0o600)
	if err := os.Remove(filepath.Join(dir, "x")); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(Probe(t), "-exit", "0").Run(); err != nil {
		t.Fatal(err)
	}
	r.end()
	if len(r.errors) > 0 {
		t.Errorf("got %q", r.errors)
	}
}

func TestLeftoversSeesFilesAndDescriptors(t *testing.T) {
	dir := t.TempDir()
	WriteFile(t, filepath.Join(dir, "old"), "", 0o600)
	var f *os.File
	diff := leak(t, []string{dir}, func() {
		if err := os.Remove(filepath.Join(dir, "old")); err != nil {
			t.Fatal(err)
		}
		var err error
		if f, err = os.Create(filepath.Join(dir, "new")); err != nil {
			t.Fatal(err)
		}
	})
	defer f.Close()
	finds(t, diff, "+ file", "/new")
	finds(t, diff, "- file", "/old")
	finds(t, diff, "+ descriptor", "/new")
}

func TestLeftoversSeesChildren(t *testing.T) {
	cmd := exec.Command(Probe(t), "-pause")
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	diff := leak(t, nil, func() {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	})
	cmd.Process.Kill()
	cmd.Wait()
	finds(t, diff, fmt.Sprintf("+ process %d ", cmd.Process.Pid))
}

func TestLeftoversSeesOrphans(t *testing.T) {
	// The shell ends at once; its background child has lost its parent when the comparison is made. One of two
	// lines of output says that this child runs, so that its environment can be read.
	var pid int
	diff := leak(t, nil, func() {
		cmd := exec.Command("/bin/sh", "-c", `"$0" -wait-signal TERM 2>/dev/null & echo $!`, Probe(t))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		runs := false
		for lines := bufio.NewScanner(out); (pid == 0 || !runs) && lines.Scan(); {
			fmt.Sscan(lines.Text(), &pid)
			runs = runs || strings.Contains(lines.Text(), "Waiting")
		}
		cmd.Wait()
	})
	unix.Kill(pid, unix.SIGKILL)
	finds(t, diff, fmt.Sprintf("+ process %d ", pid))
}

// A keeper is known by what it will write to, when its parent has ended and it has no environment. One of somebody else's
// state root is not the test's.
func TestLeftoversSeesKeepers(t *testing.T) {
	for dir, wanted := range map[string]bool{t.TempDir(): true, must(os.MkdirTemp("", "somebody-else-")): false} {
		t.Cleanup(func() { os.RemoveAll(dir) })
		var pid int
		diff := leak(t, nil, func() { pid = keeperOf(t, filepath.Join(dir, "exit")) })
		if seen := strings.Contains(diff, fmt.Sprintf("+ process %d ", pid)); seen != wanted {
			t.Errorf("the keeper of a container in %s is seen: %v, want %v: %s", dir, seen, wanted, diff)
		}
		unix.Kill(pid, unix.SIGKILL)
	}
}

func must(dir string, err error) string {
	if err != nil {
		panic(err)
	}
	return dir
}

// keeperOf starts a process that looks like a keeper: its program is in memory, its environment empty, its parent gone.
func keeperOf(t *testing.T, exit string) (pid int) {
	t.Helper()
	fd, err := unix.MemfdCreate("containr-init", 0)
	if err != nil {
		t.Fatal(err)
	}
	program := os.NewFile(uintptr(fd), "containr-init")
	defer program.Close()
	data, err := os.ReadFile(Probe(t))
	if err == nil {
		_, err = program.Write(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("/bin/sh", "-c", fmt.Sprintf(`exec env -i /bin/sh -c '/proc/%d/fd/%d -wait-signal TERM 7>%s >/dev/null 2>&1 & echo $!'`, os.Getpid(), fd, exit)).Output()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Sscan(string(out), &pid)
	for late := time.Now().Add(10 * time.Second); time.Now().Before(late); {
		if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); strings.HasPrefix(exe, "/memfd:") {
			return pid
		}
	}
	t.Fatalf("process %d does not become a keeper", pid)
	return 0
}

func TestLeftoversSeesMountsCgroupsAndLinks(t *testing.T) {
	RequireRoot(t)
	dir := t.TempDir()
	cgroup := filepath.Join(cgroupRoot(t), "containr-testkit")
	diff := leak(t, nil, func() {
		if err := unix.Mount("left", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		if err := os.Mkdir(cgroup, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(cgroup) })
	})
	finds(t, diff, "+ mount", "left on "+dir)
	finds(t, diff, "+ cgroup", cgroup)

	after, before := state{}, state{}
	before.links = map[string]bool{"link 1: lo": true}
	after.links = map[string]bool{"link 2: veth0": true}
	lines := strings.Join(before.diff(after), "\n")
	finds(t, lines, "+ link", "veth0")
	finds(t, lines, "- link", "lo")
}

func TestLeftoversListsLinks(t *testing.T) {
	s := state{links: map[string]bool{}}
	if err := s.addLinks(); err != nil {
		t.Fatal(err)
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if !s.links[fmt.Sprintf("link %d: %s", l.Index, l.Name)] {
			t.Errorf("no %s in %v", l.Name, s.links)
		}
	}
}

func TestLeftoversSeesContainedProcesses(t *testing.T) {
	before := state{namespaces: map[uint64]bool{1: true}}
	after := state{processes: map[string]process{
		"5@1": {line: "stranger", namespaces: map[string]uint64{"pid": 1, "mnt": 1}},
		"6@1": {line: "contained", namespaces: map[string]uint64{"pid": 1, "mnt": 7}},
		"7@1": {line: "of another test", namespaces: map[string]uint64{"pid": 1, "mnt": 8}, other: true},
	}}
	if got := before.newProcesses(after); !slices.Equal(got, []string{"+ contained"}) {
		t.Error(got)
	}
}

func TestOtherTestsAreKnownByTheirPrograms(t *testing.T) {
	program := filepath.Join(t.TempDir(), "another.test")
	if err := os.Link(Probe(t), program); err != nil {
		t.Skipf("the probe is on another file system: %v", err)
	}
	cmd := exec.Command(program, "-pause")
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	procs, err := procfs.Processes()
	if err != nil {
		t.Fatal(err)
	}
	others := otherTests(procs)
	if !others[cmd.Process.Pid] || others[os.Getpid()] || others[os.Getppid()] {
		t.Errorf("%v", others)
	}
}

// cgroupRoot is a cgroup directory of this machine in which a test may make another.
func cgroupRoot(t *testing.T) string {
	ms, err := procfs.Mountinfo(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ms {
		if m.Type == "cgroup2" || m.Type == "cgroup" && m.SuperHas("freezer") {
			return m.Point
		}
	}
	t.Skip("no cgroup file system is mounted")
	return ""
}
