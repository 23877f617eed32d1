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

	"github.com/containr/containr/internal/systemd"
	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/fakesystemd"
	"github.com/containr/containr/pkg/host"
)

// fakeManager is a systemd for the hierarchy that a real one would keep its units in.
func fakeManager(t *testing.T) *fakesystemd.Fake {
	t.Helper()
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	f := machine(t)
	h, ok := f.Hierarchy("name=systemd")
	switch {
	case f.CgroupMode == host.CgroupV2:
		h = f.Hierarchies[0]
	case f.CgroupMode == host.CgroupV1 && !ok:
		h, ok = f.Hierarchy("pids") // any will do
		fallthrough
	default:
		if !ok {
			t.Skip("this machine has no control groups")
		}
	}
	// Slices of version 1 stay in the hierarchies that systemd leaves alone: others may be in them.
	t.Cleanup(func() {
		for _, h := range f.Hierarchies {
			_ = os.Remove(filepath.Join(h.Path, "contest.slice", testSlice()))
			_ = os.Remove(filepath.Join(h.Path, "contest.slice"))
		}
	})
	return fakesystemd.Start(t, h.Path)
}

func testSlice() string { return "contest-" + strconv.Itoa(os.Getpid()) + ".slice" }

func unitRequest(t *testing.T, spec *specs.Spec) (*Runtime, *CreateRequest) {
	t.Helper()
	root := testkit.Rootfs(t)
	spec.Root = &specs.Root{Path: root}
	spec.Linux.CgroupsPath = testSlice() + ":app:test"
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	r := &Runtime{Root: filepath.Join(t.TempDir(), "state"), Facts: machine(t)}
	return r, &CreateRequest{ID: "test", Bundle: filepath.Dir(root), Spec: spec, Stdio: [3]*os.File{null, null, null}, Systemd: true}
}

// A container whose group systemd makes: it is there, limited, changed and gone.
func TestUnit(t *testing.T) {
	fake := fakeManager(t)
	limit := int64(64 << 20)
	spec := limited(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}, "-wait-signal", "USR1")
	spec.Annotations = map[string]string{"org.systemd.property.TimeoutStopUSec": "uint64 7"}
	r, req := unitRequest(t, spec)
	s, err := r.Create(req)
	if err != nil {
		t.Fatal(err)
	}
	c := running{Runtime: r, Started: s, t: t}
	inGroup, err := os.ReadFile("/proc/" + strconv.Itoa(s.PID) + "/cgroup")
	if err != nil || !strings.Contains(string(inGroup), "/app-test.scope\n") {
		t.Errorf("it is in %s, error %v", inGroup, err)
	}
	if got := c.control("memory", "memory.limit_in_bytes", "memory.max"); got != strconv.FormatInt(limit, 10) {
		t.Errorf("memory %s", got)
	}
	start := fake.Calls("StartTransientUnit")
	if len(start) != 1 || !slices.Equal(fakesystemd.Property(start[0], "TimeoutStopUSec"), []string{"t", "7"}) ||
		!slices.Equal(fakesystemd.Property(start[0], "Delegate"), []string{"b", "true"}) {
		t.Errorf("asked for %q", start)
	}
	limit *= 2
	if err := r.Update("test", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}); err != nil {
		t.Error(err)
	}
	if got := c.control("memory", "memory.limit_in_bytes", "memory.max"); got != strconv.FormatInt(limit, 10) {
		t.Errorf("memory %s after the change", got)
	}
	property := map[host.CgroupMode]string{host.CgroupV1: "MemoryLimit", host.CgroupV2: "MemoryMax"}[r.Facts.CgroupMode]
	change := fake.Calls("SetUnitProperties")
	if len(change) != 1 || !slices.Equal(fakesystemd.Property(change[0], property), []string{"t", strconv.FormatInt(limit, 10)}) {
		t.Errorf("changed %q", change)
	}
	if err := r.Kill("test", 9, false); err != nil {
		t.Error(err)
	}
	reap(s.PID)
	if err := r.Finish(s); err != nil {
		t.Error(err)
	}
	if n := len(fake.Calls("StopUnit")); n != 1 {
		t.Errorf("%d calls to stop it", n)
	}
}

// What the container sees is its own group, mounted after it was put there.
func TestUnitIsTheRootInside(t *testing.T) {
	fakeManager(t)
	r, req := unitRequest(t, exampleSpec("/probe", "-try", "read:/sys/fs/cgroup/cgroup.procs"))
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	req.Stdio[1] = out
	s, err := r.Create(req)
	if err != nil {
		t.Fatal(err)
	}
	reap(s.PID)
	if err := r.Finish(s); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	report := testkit.Report(t, text)
	for _, g := range report.Cgroups {
		if g.Path != "/" && len(g.Controllers) > 0 && !slices.Equal(g.Controllers, []string{"name=systemd"}) {
			t.Errorf("group %+v, want /", g)
		}
	}
	if got := strings.TrimSpace(report.Tries[0].Value); r.Facts.CgroupMode == host.CgroupV2 && got != "1" {
		t.Errorf("processes %q in the group that is mounted, want 1", got)
	}
}

// Whatever goes wrong between us and systemd, nothing is left and its words are ours.
func TestUnitFails(t *testing.T) {
	fake := fakeManager(t)
	fake.Fail("StartTransientUnit", "org.example.No")
	r, req := unitRequest(t, exampleSpec("/probe"))
	if _, err := r.Create(req); err == nil || !strings.Contains(err.Error(), "told to fail (org.example.No)") {
		t.Errorf("error %v", err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/nobody")
	r, req = unitRequest(t, exampleSpec("/probe"))
	if _, err := r.Create(req); !errors.Is(err, systemd.ErrNotRunning) || !strings.Contains(Hint(err), "--systemd-cgroup") {
		t.Errorf("error %v", err)
	}
}

// Every step may fail with a group of systemd's too.
func TestEveryStepOfAUnitMayFail(t *testing.T) {
	fakeManager(t)
	in := Input{ID: "test", Spec: exampleSpec("/probe"), Root: testkit.Rootfs(t), Facts: machine(t), Systemd: true}
	in.Spec.Linux.CgroupsPath = testSlice() + ":app:test"
	in.Facts.Manager, in.Sources = "/", Probe(in.Spec)
	p, err := Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Validate("sync", "console", "held", "ear", "bell"); err != nil {
		t.Fatal(err)
	}
	for i, s := range p.Steps {
		if s.When == 0 && s.Chapter == "cgroup" {
			failStep(t, p, i)
		}
	}
}
