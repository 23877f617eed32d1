package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// refusesWorkdir starts the probe in cwd, with a directory of the host's as standard
// input, and expects that the directory is not even found.
func refusesWorkdir(t *testing.T, spec *specs.Spec, stdin, cwd string) {
	t.Helper()
	spec.Process.Cwd = cwd
	dir, err := os.Open(stdin)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	p := compileExample(t, spec)
	s, err := Start(p, StartOptions{Stdio: [3]*os.File{dir, nil, nil}})
	if err == nil {
		_ = unix.Kill(s.PID, unix.SIGKILL)
		reap(s.PID)
		if err := (Actions{}).undoAll(p.Undo()); err != nil {
			t.Error(err)
		}
		t.Errorf("%s: the program was started there", cwd)
		return
	}
	var step *StepError
	if !errors.As(err, &step) || step.Step.From != "/process/cwd" || step.Step.Call.Name() == "fchdir" {
		t.Errorf("%s: %v", cwd, err)
	}
}

// A working directory that is a descriptor of the host's must never be entered
// (CVE-2024-21626), whatever its number; here standard input is one. And nothing is
// made below it.
func TestWorkingDirectoryThroughDescriptor(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	outside := t.TempDir()
	before := testkit.Fingerprint(t, outside)
	numbers := []int{0, 3, 5, 15}
	if !testing.Short() {
		numbers = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	}
	for _, fd := range numbers {
		for _, of := range []string{"self", "thread-self", "1", "self/../self"} {
			refusesWorkdir(t, exampleSpec("/probe"), outside, fmt.Sprintf("/proc/%s/fd/%d", of, fd))
		}
	}
	for _, cwd := range []string{"/proc/self/fd/0/new", "/dev/fd/0/new/deeper", "/dev/stdin/..", "/dev/stdin/new"} {
		refusesWorkdir(t, exampleSpec("/probe"), outside, cwd)
	}
	if diff := before.Diff(testkit.Fingerprint(t, outside)); len(diff) > 0 {
		t.Errorf("outside changed: %v", diff)
	}
}

// Where the container sees the host's processes, it must not get to their roots and
// working directories: the program could not follow such a link, but the process that
// becomes it still could.
func TestWorkingDirectoryThroughProcessOfTheHost(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	outside := t.TempDir()
	spec := func() *specs.Spec {
		s := exampleSpec("/probe", "-exit", "0")
		s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
		return s
	}
	self := strconv.Itoa(os.Getpid())
	for _, cwd := range []string{"/proc/1/root", "/proc/" + self + "/root" + outside, "/proc/" + self + "/cwd", "/proc/" + self + "/root" + filepath.Join(outside, "new")} {
		refusesWorkdir(t, spec(), outside, cwd)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("outside: %v, error %v", entries, err)
	}
}

// A working directory that is missing is made, below the links that are on the way.
func TestWorkingDirectoryIsMade(t *testing.T) {
	testkit.Leftovers(t)
	root := testkit.Rootfs(t)
	if err := os.Symlink("/var", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	spec := exampleSpec("/probe")
	spec.Process.Cwd = "/link/a//b/./c/"
	r, err := runPlan(t, compileInput(t, Input{ID: "test", Spec: spec, Root: root}))
	if err != nil || r.code != 0 {
		t.Fatalf("%v %s", err, r.out)
	}
	report := testkit.Report(t, r.out)
	if report.Cwd != "/var/a/b/c" || len(report.FDs) != 3 {
		t.Errorf("directory %s, descriptors %v", report.Cwd, report.FDs)
	}
	info, err := os.Stat(filepath.Join(root, "var/a/b/c"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, error %v", info, err)
	}
}
