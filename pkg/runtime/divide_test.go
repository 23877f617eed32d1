package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
)

func needsV2(t *testing.T) string {
	t.Helper()
	testkit.RequireRoot(t)
	f := machine(t)
	if f.CgroupMode != host.CgroupV2 {
		t.Skip("needs control groups of version 2 alone")
	}
	return f.Hierarchies[0].Path
}

// A group whose parent has processes cannot be limited: the error says so.
func TestGroupBelowProcessesIsRefusedInWords(t *testing.T) {
	root := needsV2(t)
	testkit.Leftovers(t)
	parent := filepath.Join(root, "containr-test-busy")
	if err := os.Mkdir(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	busy, err := os.StartProcess("/proc/self/exe", []string{"x", "-test.run=TestSleep"}, &os.ProcAttr{Env: append(os.Environ(), "CONTAINR_TEST_SLEEP=1")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		busy.Kill()
		busy.Wait()
		if err := removeDir(parent); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(parent, "cgroup.procs"), []byte(strconv.Itoa(busy.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	limit := int64(64 << 20)
	spec := limited(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}})
	spec.Linux.CgroupsPath = "/containr-test-busy/box"
	_, err = runPlan(t, compileExample(t, spec))
	if !errors.Is(err, plan.EBUSY) || !strings.Contains(Hint(err), "processes of its own") {
		t.Errorf("error %v, hint %q", err, Hint(err))
	}
}

// TestSleep is the process that is in the way.
func TestSleep(t *testing.T) {
	if os.Getenv("CONTAINR_TEST_SLEEP") == "" {
		t.Skip("is a part of another test")
	}
	_ = unix.Pause() // until it is killed
}

// A container that owns its group can divide it, and a further process goes where the
// first one is; its own limits it cannot change.
func TestContainerDividesItsGroup(t *testing.T) {
	needsV2(t)
	limit := int64(128 << 20)
	spec := exampleSpec()
	spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	spec.Process.User = specs.User{UID: 1000, GID: 1000}
	for i := range spec.Mounts {
		if spec.Mounts[i].Destination == "/sys/fs/cgroup" {
			spec.Mounts[i].Options = []string{"nosuid", "noexec", "nodev"}
		}
	}
	c := runWaiting(t, spec)
	process := exampleSpec("/probe", "-try", "mkdir:/sys/fs/cgroup/inner", "-try", "write:/sys/fs/cgroup/inner/cgroup.procs=1",
		"-try", "write:/sys/fs/cgroup/memory.max=max").Process
	process.User = spec.Process.User
	var got []string
	for _, try := range c.probe(process).Tries {
		got = append(got, try.Errno)
	}
	if !slices.Equal(got, []string{"", "", "EACCES"}) {
		t.Errorf("as the owner: %q", got)
	}
	st, err := c.load("test")
	if err != nil {
		t.Fatal(err)
	}
	if err := writeControl(st.Cgroups[0]+"/cgroup.subtree_control", "+memory"); err != nil {
		t.Fatal(err)
	}
	for _, g := range c.probe(exampleSpec("/probe").Process).Cgroups {
		if g.Path != "/inner" {
			t.Errorf("a further process is in %s", g.Path)
		}
	}
}

// Two containers in one group: the end of one is not the end of the other.
func TestSharedGroupOutlivesItsSecond(t *testing.T) {
	testkit.RequireRoot(t)
	spec := exampleSpec()
	spec.Linux.CgroupsPath = "/containr-test-shared"
	c := runWaiting(t, spec)
	second := exampleSpec("/probe", "-wait-signal", "USR1")
	second.Linux.CgroupsPath, second.Root = spec.Linux.CgroupsPath, spec.Root
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	s, err := c.Create(&CreateRequest{ID: "second", Bundle: filepath.Dir(c.root), Spec: second, Stdio: [3]*os.File{null, null, null}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Kill("second", 9, false); err != nil {
		t.Error(err)
	}
	reap(s.PID)
	if err := c.Delete("second", true); err != nil {
		t.Error(err)
	}
	if s, err := c.State("test"); err != nil || s.Status != specs.StateRunning {
		t.Errorf("the first one: %+v, error %v", s, err)
	}
}
