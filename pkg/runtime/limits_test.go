package runtime

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	testprobe "github.com/containr/containr/internal/testkit/probe"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// The tests of this file hold on version 1 of control groups and on version 2; the
// machine decides which of them they see.

// limited is the example with resource limits; the probe gets the arguments.
func limited(r specs.LinuxResources, args ...string) *specs.Spec {
	spec := exampleSpec(append([]string{"/probe"}, args...)...)
	spec.Linux.Resources = &r
	return spec
}

// runLimited runs it, after a look at whether this machine has the controller.
func runLimited(t *testing.T, controller string, spec *specs.Spec) result {
	t.Helper()
	p := compileExample(t, spec)
	if _, ok := machine(t).Hierarchy(controller); !ok {
		t.Skipf("this machine has no %s controller", controller)
	}
	r, err := runPlan(t, p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func machine(t *testing.T) *host.Facts {
	t.Helper()
	facts, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

// ownGroup finds the directory of a plan's control group.
func ownGroup(t *testing.T, p *plan.Plan) string {
	t.Helper()
	for _, s := range p.Steps {
		if c, ok := s.Call.(linux.MakeDir); ok && strings.HasSuffix(c.Path, "test") {
			return c.Path
		}
	}
	t.Fatal("the plan makes no control group")
	return ""
}

// event is the one that the probe has printed.
func event(t *testing.T, r result) testprobe.Event {
	t.Helper()
	events := testkit.Events(t, r.out)
	if len(events) != 1 || r.code != 0 {
		t.Fatalf("exit code %d: %s", r.code, r.out)
	}
	return events[0]
}

func TestMemoryLimitKills(t *testing.T) {
	testkit.Leftovers(t)
	limit := int64(48 << 20)
	r := runLimited(t, "memory", limited(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}}, "-alloc", "200M"))
	if r.code != 137 {
		t.Errorf("exit code %d: %s, want 137", r.code, r.out)
	}
	if r := runLimited(t, "memory", limited(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}}, "-alloc", "10M")); r.code != 0 {
		t.Errorf("less than the limit: exit code %d: %s", r.code, r.out)
	}
}

func TestCPULimitThrottles(t *testing.T) {
	testkit.Leftovers(t)
	quota, period := int64(20000), uint64(100000)
	r := runLimited(t, "cpu", limited(specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Period: &period}}, "-spin", "1s"))
	spin := event(t, r).Spin
	if share := float64(spin.CPU) / float64(spin.Wall); share > 0.4 || share == 0 {
		t.Errorf("%.2f of a cpu, want about 0.2", share)
	}
}

// Over some seconds a quota is kept to a tenth: what a period has had too much, the next one has less. Whether the program
// gets all of it depends on who else is there.
func TestCPUQuotaIsKept(t *testing.T) {
	if testing.Short() {
		t.Skip("takes five seconds, which an emulated processor does not measure well")
	}
	testkit.Leftovers(t)
	quota, period := int64(20000), uint64(100000)
	r := runLimited(t, "cpu", limited(specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Period: &period}}, "-spin", "5s"))
	spin := event(t, r).Spin
	if share := float64(spin.CPU) / float64(spin.Wall); share > 0.22 || share == 0 {
		t.Errorf("%.3f of a cpu, want at most 0.2 and a tenth of that", share)
	}
	t.Logf("%v of %v", spin.CPU, spin.Wall)
}

func TestProcessLimitRefuses(t *testing.T) {
	testkit.Leftovers(t)
	most := int64(20)
	r := runLimited(t, "pids", limited(specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &most}}, "-fork", "50"))
	if f := event(t, r).Fork; f.Errno != "EAGAIN" || f.Made == 0 || f.Made >= int(most) {
		t.Errorf("%+v, want fewer than %d and EAGAIN", f, most)
	}
}

// A device that is not listed cannot be opened, whoever made the node. One that is
// listed can: there is none of that number, and the kernel gets as far as to say so.
func TestDeviceRules(t *testing.T) {
	testkit.Leftovers(t)
	if machine(t).CgroupMode == host.CgroupV1 {
		if _, ok := machine(t).Hierarchy("devices"); !ok {
			t.Skip("this machine has no devices controller")
		}
	}
	root := testkit.Rootfs(t)
	const experimental = 240 // no driver has it
	for name, number := range map[string]uint64{"null": unix.Mkdev(1, 3), "other": unix.Mkdev(experimental, 7)} {
		if err := unix.Mknod(filepath.Join(root, name), unix.S_IFCHR|0o666, int(number)); err != nil {
			t.Fatal(err)
		}
	}
	major, minor := int64(experimental), int64(7)
	deny := specs.LinuxDeviceCgroup{Access: "rwm"}
	allow := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &major, Minor: &minor, Access: "r"}
	for _, c := range []struct {
		rules []specs.LinuxDeviceCgroup
		want  []string // null, other, other for writing
	}{
		{[]specs.LinuxDeviceCgroup{deny}, []string{"", "EPERM", "EPERM"}},
		{[]specs.LinuxDeviceCgroup{deny, allow}, []string{"", "ENXIO", "EPERM"}},
	} {
		spec := limited(specs.LinuxResources{Devices: c.rules}, "-try", "open:/null", "-try", "open:/other", "-try", "open-rw:/other")
		r, err := runPlan(t, compileInput(t, Input{ID: "test", Spec: spec, Root: root}))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, try := range testkit.Report(t, r.out).Tries {
			got = append(got, try.Errno)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%d rules: %q, want %q", len(c.rules), got, c.want)
		}
	}
}

// The group of the container is all that it sees of control groups: the root of its
// namespace, and of a tree that it cannot write to.
func TestContainerSeesItsOwnControlGroup(t *testing.T) {
	testkit.Leftovers(t)
	limit, file := int64(48<<20), "/sys/fs/cgroup/memory/memory.limit_in_bytes"
	if machine(t).CgroupMode == host.CgroupV2 {
		file = "/sys/fs/cgroup/memory.max"
	}
	spec := limited(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}},
		"-try", "read:"+file, "-try", "write:"+file+"=max", "-try", "create:/sys/fs/cgroup/new", "-try", "remount-rw:/sys/fs/cgroup")
	r := testkit.Report(t, runLimited(t, "memory", spec).out)
	for _, g := range r.Cgroups {
		// A hierarchy without controllers, such as the empty version 2 of a hybrid machine, is not divided.
		if g.Path != "/" && len(g.Controllers) > 0 && !slices.Equal(g.Controllers, []string{"name=systemd"}) {
			t.Errorf("group %+v, want /", g)
		}
	}
	var got []string
	for _, try := range r.Tries {
		got = append(got, strings.TrimSpace(try.Value)+try.Errno)
	}
	if want := []string{"50331648", "EROFS", "EROFS", "EPERM"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// On version 2 the container's process is in its group before it makes its first
// call, and its limits hold for all of them.
func TestBornInItsControlGroup(t *testing.T) {
	testkit.Leftovers(t)
	if machine(t).CgroupMode != host.CgroupV2 {
		t.Skip("control groups of version 1 cannot be born into: the child waits until it has been moved")
	}
	for name, exit := range map[string]string{"plain": "", "keeper": filepath.Join(t.TempDir(), "exit")} {
		p := compileInput(t, Input{ID: "test", Spec: exampleSpec("/probe", "-exit", "0"), Root: testkit.Rootfs(t), ExitFile: exit})
		group, first := ownGroup(t, p), ""
		s, err := Start(p, StartOptions{Before: func(_ int, step *plan.Step) error {
			if step.Actor == plan.Child && first == "" {
				text, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
				first = strings.TrimSpace(string(text)) + " "
				return err
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if s.Parent != 0 {
			reap(s.Parent)
		}
		reap(s.PID)
		if err := (Actions{}).undoAll(p.Undo()); err != nil {
			t.Error(err)
		}
		if pids := strings.Fields(first); len(pids) != 1 || pids[0] != strconv.Itoa(s.PID) {
			t.Errorf("%s: processes %q in the group at its first step, want %d", name, first, s.PID)
		}
	}
}
