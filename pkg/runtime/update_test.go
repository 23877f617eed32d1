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

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/cgroup"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// control reads a file of a running container's control group.
func (c running) control(controller, v1, v2 string) string {
	c.t.Helper()
	st, err := c.load("test")
	if err != nil {
		c.t.Fatal(err)
	}
	file := v2
	if c.Facts.CgroupMode == host.CgroupV1 {
		file = v1
	}
	for _, dir := range st.Cgroups {
		h, ok := c.Facts.Hierarchy(controller)
		if !ok || !strings.HasPrefix(dir, h.Path+"/") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			c.t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	c.t.Skipf("this machine has no %s controller", controller)
	return ""
}

// Two changes, of which the second needs to know the first: a limit of memory alone
// keeps the sum with swap.
func TestUpdate(t *testing.T) {
	const mb = 1 << 20
	number := func(n int64) *int64 { return &n }
	c := runWaiting(t, limited(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: number(64 * mb)}, Pids: &specs.LinuxPids{Limit: number(50)}}))
	check := func(memory, sum int64, pids string) {
		t.Helper()
		if got := c.control("memory", "memory.limit_in_bytes", "memory.max"); got != strconv.FormatInt(memory, 10) {
			t.Errorf("memory %s, want %d", got, memory)
		}
		want := sum
		if c.Facts.CgroupMode == host.CgroupV2 {
			want -= memory
		}
		if got := c.control("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"); got != strconv.FormatInt(want, 10) {
			t.Errorf("swap %s, want %d", got, want)
		}
		if got := c.control("pids", "pids.max", "pids.max"); got != pids {
			t.Errorf("pids %s, want %s", got, pids)
		}
	}
	if err := c.Update("test", &specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: number(256 * mb)}}); err != nil {
		t.Fatal(err)
	}
	check(64*mb, 256*mb, "50")
	if err := c.Update("test", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: number(128 * mb)}, Pids: &specs.LinuxPids{Limit: number(-1)}}); err != nil {
		t.Fatal(err)
	}
	check(128*mb, 256*mb, "max")
	err := c.Update("test", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: number(512 * mb)}})
	if !errors.Is(err, cgroup.ErrInvalid) {
		t.Errorf("a limit above the sum: %v", err)
	}
	check(128*mb, 256*mb, "max")
}

// A limit below what is in use is refused if the change wants it so, and if not it is
// the kernel's affair.
func TestUpdateBelowUsage(t *testing.T) {
	c := runWaiting(t, exampleSpec())
	limit, sure := int64(4096), true
	before := c.control("memory", "memory.limit_in_bytes", "memory.max")
	err := c.Update("test", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, CheckBeforeUpdate: &sure}})
	if err == nil {
		t.Error("4 kB were enough")
	}
	if after := c.control("memory", "memory.limit_in_bytes", "memory.max"); after != before {
		t.Errorf("the limit is %s, was %s", after, before)
	}
	if s, err := c.State("test"); err != nil || s.Status != specs.StateRunning {
		t.Errorf("state %+v, error %v", s, err)
	}
}

// A change of which one step fails leaves the limits as they were.
func TestUpdateThatFailsIsTakenBack(t *testing.T) {
	number := func(n int64) *int64 { return &n }
	c := runWaiting(t, limited(specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: number(50_000)}, Pids: &specs.LinuxPids{Limit: number(50)}}))
	var warned error
	c.Warn = func(err error) { warned = errors.Join(warned, err) }
	err := c.Update("test", &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: number(70)}, CPU: &specs.LinuxCPU{Quota: number(60_000), Mems: "4000"}})
	if err == nil {
		t.Fatal("there are 4000 memory nodes")
	}
	if got := c.control("pids", "pids.max", "pids.max"); got != "50" {
		t.Errorf("pids %s, want 50", got)
	}
	if got := strings.Fields(c.control("cpu", "cpu.cfs_quota_us", "cpu.max"))[0]; got != "50000" {
		t.Errorf("quota %s, want 50000", got)
	}
	if warned != nil {
		t.Errorf("warned: %v", warned)
	}
}

func TestUpdateNeedsALivingContainer(t *testing.T) {
	c := runWaiting(t, exampleSpec())
	if err := c.Kill("test", 9, false); err != nil {
		t.Fatal(err)
	}
	reap(c.PID)
	if err := c.Update("test", &specs.LinuxResources{}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("error %v", err)
	}
	if err := c.Update("nobody", &specs.LinuxResources{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

// Steps of the host that depend on another follow its outcome.
func TestHostStepsThatDepend(t *testing.T) {
	testkit.RequireRoot(t)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	b := plan.Build(plan.Host, plan.CgroupChapter)
	group := func(head string) {
		b.Do("head", linux.MakeDir{Path: head, Mode: 0o755}).Ok(plan.EEXIST)
		b.Do("it worked", linux.MakeDir{Path: head + "-then", Mode: 0o755}).Then()
		b.Do("it did not", linux.MakeDir{Path: head + "-else", Mode: 0o755}).Else()
	}
	if err := os.Mkdir(file("old"), 0o755); err != nil {
		t.Fatal(err)
	}
	group(file("new"))
	group(file("old"))
	p := &plan.Plan{Steps: b.Steps}
	e := &execution{plan: p, regs: map[plan.Reg]int{}}
	for i := range p.Steps {
		if err := e.hostStep(i); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if want := []string{"new", "new-then", "old", "old-else"}; !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
}
