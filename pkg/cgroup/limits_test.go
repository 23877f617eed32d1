package cgroup

import (
	"errors"
	"path"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

func allMachines() []*host.Facts { return []*host.Facts{machineV1(), machineV2()} }

// writes lists the control files that the steps write, without their directories.
func writes(steps []plan.Step) map[string]string {
	m := make(map[string]string)
	for _, s := range steps {
		if w, ok := s.Call.(linux.WriteFile); ok {
			m[path.Base(w.Path)] = w.Data
		}
	}
	return m
}

// TestValues compares what is written with what runc 1.3.2 and crun 1.23 write for the
// same configuration.
func TestValues(t *testing.T) {
	memory := func(limit, swap int64) *specs.LinuxResources {
		m := &specs.LinuxMemory{}
		if limit != 0 {
			m.Limit = &limit
		}
		if swap != 0 {
			m.Swap = &swap
		}
		return &specs.LinuxResources{Memory: m}
	}
	cpu := func(quota int64, period uint64) *specs.LinuxResources {
		c := &specs.LinuxCPU{}
		if quota != 0 {
			c.Quota = &quota
		}
		if period != 0 {
			c.Period = &period
		}
		return &specs.LinuxResources{CPU: c}
	}
	pids := func(n int64) *specs.LinuxResources {
		return &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &n}}
	}
	const v1, v2 = host.CgroupV1, host.CgroupV2
	for _, c := range []struct {
		name string
		mode host.CgroupMode
		res  *specs.LinuxResources
		want string // file=value pairs; a file alone must not be written
	}{
		{"limit", v1, memory(1000, 0), "memory.limit_in_bytes=1000 memory.memsw.limit_in_bytes"},
		{"limit", v2, memory(1000, 0), "memory.max=1000 memory.swap.max"},
		{"limit and swap", v1, memory(1000, 3000), "memory.limit_in_bytes=1000 memory.memsw.limit_in_bytes=3000"},
		{"limit and swap", v2, memory(1000, 3000), "memory.max=1000 memory.swap.max=2000"},
		{"no swap", v2, memory(1000, 1000), "memory.max=1000 memory.swap.max=0"},
		{"any swap", v1, memory(1000, -1), "memory.limit_in_bytes=1000 memory.memsw.limit_in_bytes=-1"},
		{"any swap", v2, memory(1000, -1), "memory.max=1000 memory.swap.max=max"},
		{"unlimited", v1, memory(-1, 0), "memory.limit_in_bytes=-1 memory.memsw.limit_in_bytes=-1"},
		{"unlimited", v2, memory(-1, 0), "memory.max=max memory.swap.max=max"},
		{"quota and period", v1, cpu(50000, 200000), "cpu.cfs_quota_us=50000 cpu.cfs_period_us=200000"},
		{"quota and period", v2, cpu(50000, 200000), "cpu.max=50000_200000"},
		{"quota", v2, cpu(50000, 0), "cpu.max=50000"},
		{"no quota", v1, cpu(-1, 0), "cpu.cfs_quota_us=-1 cpu.cfs_period_us"},
		{"no quota", v2, cpu(-1, 0), "cpu.max=max"},
		{"period", v2, cpu(0, 200000), "cpu.max=max_200000"},
		{"pids", v1, pids(7), "pids.max=7"},
		{"pids", v2, pids(-1), "pids.max=max"},
		{"pids 0", v2, pids(0), "pids.max=1"},
	} {
		t.Run(c.mode.String()+"/"+c.name, func(t *testing.T) {
			p, err := Plan(specOf("", c.res), machine(c.mode), "c1")
			if err != nil {
				t.Fatal(err)
			}
			got := writes(slices.Concat(p.Setup, p.Attach))
			for pair := range strings.FieldsSeq(c.want) {
				file, want, given := strings.Cut(strings.ReplaceAll(pair, "_20", " 20"), "=")
				if value, there := got[file]; there != given || value != want {
					t.Errorf("%s: wrote %q (%v), want %q (%v)", file, value, there, want, given)
				}
			}
		})
	}
}

func machine(mode host.CgroupMode) *host.Facts {
	if mode == host.CgroupV2 {
		return machineV2()
	}
	return machineV1()
}

// TestWeight has the figures that the runtimes published with the new curve.
func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 1, 1: 1, 2: 1, 102: 17, 512: 59, 1024: 100, 2000: 170, 262144: 10000, 1 << 40: 10000} {
		if got := Weight(shares); got != want {
			t.Errorf("%d shares: weight %d, want %d", shares, got, want)
		}
	}
	for s, last := uint64(2), uint64(0); s <= maxShares; s++ {
		w := Weight(s)
		if w < last || w < 1 || w > 10000 {
			t.Fatalf("%d shares: weight %d after %d", s, w, last)
		}
		last = w
	}
}

// TestRefusals: bad input names the field, and the error is of the right kind.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name  string
		facts *host.Facts
		path  string
		res   specs.LinuxResources
		is    error
		says  string
	}{
		{"negative limit", machineV1(), "", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(-2))}}, ErrInvalid, "memory.limit: -2"},
		{"swap below limit", machineV2(), "", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(10)), Swap: ptr(int64(9))}}, ErrInvalid, "memory.swap: 9"},
		{"swap alone", machineV1(), "", specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: ptr(int64(9))}}, ErrInvalid, "needs memory.limit"},
		{"swappiness", machineV1(), "", specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: ptr(uint64(101))}}, ErrInvalid, "101"},
		{"swappiness on v2", machineV2(), "", specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: ptr(uint64(1))}}, ErrNoController, "memory.swappiness"},
		{"no OOM killer on v2", machineV2(), "", specs.LinuxResources{Memory: &specs.LinuxMemory{DisableOOMKiller: ptr(true)}}, ErrNoController, "disableOOMKiller"},
		{"cpus", machineV1(), "", specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0\n1"}}, ErrInvalid, "cpu.cpus"},
		{"shares", machineV1(), "", specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(1))}}, ErrInvalid, "cpu.shares: 1"},
		{"idle", machineV2(), "", specs.LinuxResources{CPU: &specs.LinuxCPU{Idle: ptr(int64(2))}}, ErrInvalid, "cpu.idle"},
		{"burst of an old kernel", older(machineV1()), "", specs.LinuxResources{CPU: &specs.LinuxCPU{Burst: ptr(uint64(1))}}, ErrNoController, "5.14"},
		{"idle of an old kernel", older(machineV2()), "", specs.LinuxResources{CPU: &specs.LinuxCPU{Idle: ptr(int64(1))}}, ErrNoController, "5.15"},
		{"realtime on v2", machineV2(), "", specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimeRuntime: ptr(int64(2))}}, ErrNoController, "realtimeRuntime"},
		{"weight", machineV1(), "", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(9))}}, ErrInvalid, "blockIO.weight: 9"},
		{"leaf weight", machineV1(), "", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{LeafWeight: ptr(uint16(9))}}, ErrInvalid, "leafWeight"},
		{"page size", machineV1(), "", specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "../2MB"}}}, ErrInvalid, "hugepageLimits"},
		{"page size", machineV1(), "", specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2BMB"}}}, ErrInvalid, "hugepageLimits"},
		{"network on v2", machineV2(), "", specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: ptr(uint32(1))}}, ErrNoController, "network.classID"},
		{"interface", machineV1(), "", specs.LinuxResources{Network: &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "a b"}}}}, ErrInvalid, "a b"},
		{"unified on v1", machineV1(), "", specs.LinuxResources{Unified: map[string]string{"memory.high": "1"}}, ErrNoController, "unified[memory.high]"},
		{"unified elsewhere", machineV2(), "", specs.LinuxResources{Unified: map[string]string{"memory.x/../../a": "1"}}, ErrInvalid, "memory.x"},
		{"unified processes", machineV2(), "", specs.LinuxResources{Unified: map[string]string{"cgroup.procs": "1"}}, ErrInvalid, "cgroup.procs"},
		{"unified controller", machineV2(), "", specs.LinuxResources{Unified: map[string]string{"dmem.max": "1"}}, ErrNoController, "dmem"},
		{"device type", machineV2(), "", specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "p", Access: "r"}}}, ErrInvalid, "devices[0]"},
		{"device access", machineV2(), "", specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "c", Access: "x"}}}, ErrInvalid, `"x"`},
		{"no device access", machineV2(), "", specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "c"}}}, ErrInvalid, "no access"},
		{"device number", machineV2(), "", specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "c", Major: ptr(int64(-2)), Access: "r"}}}, ErrInvalid, "devices[0]"},
		{"systemd path", machineV2(), "system.slice:containr:c1", specs.LinuxResources{}, ErrInvalid, "systemd"},
		{"root path", machineV1(), "/a/../..", specs.LinuxResources{}, ErrInvalid, "root"},
		{"newline", machineV1(), "/a\nb", specs.LinuxResources{}, ErrInvalid, "control character"},
		{"missing controller", without(machineV1(), "pids"), "", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(1))}}, ErrNoController, "pids"},
		{"no cgroups", &host.Facts{}, "", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(1))}}, ErrNoController, "pids.limit"},
		{"ordinary user", ordinary(machineV1()), "", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(1))}}, ErrNotDelegated, "pids.limit"},
		{"ordinary user", ordinary(machineV2()), "", specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(2))}}, ErrNotDelegated, "cpu.shares"},
		{"not delegated", delegatedV2(), "", specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(2))}}, ErrNoController, "cpu.shares"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Plan(specOf(c.path, &c.res), c.facts, "c1")
			if !errors.Is(err, c.is) || p != nil {
				t.Fatalf("error %v, want %v", err, c.is)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
		})
	}
}

func without(f *host.Facts, controller string) *host.Facts {
	f.Hierarchies = slices.DeleteFunc(f.Hierarchies, func(h host.Hierarchy) bool { return slices.Contains(h.Controllers, controller) })
	return f
}

func older(f *host.Facts) *host.Facts {
	f.Kernel = host.Oldest
	return f
}

func ordinary(f *host.Facts) *host.Facts {
	f.UID, f.Capabilities = 1000, 0
	return f
}

// TestOrdinaryUserWithoutLimits: a container that asks for nothing runs in its maker's
// group where no other can be had.
func TestOrdinaryUserWithoutLimits(t *testing.T) {
	res := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}}
	for _, f := range []*host.Facts{ordinary(machineV1()), ordinary(machineV2()), {}} {
		p, err := Plan(specOf("", res), f, "c1")
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Setup)+len(p.Attach)+len(p.Paths) > 0 || p.Into != "" {
			t.Errorf("%s: %+v", f.CgroupMode, p)
		}
	}
}

func TestPaths(t *testing.T) {
	for _, c := range []struct{ mode, path, want string }{
		{"v1", "", "/sys/fs/cgroup/memory/user.slice/containr-c1"},
		{"v1", "a/b", "/sys/fs/cgroup/memory/user.slice/a/b"},
		{"v1", "/a/b", "/sys/fs/cgroup/memory/a/b"},
		{"v1", "../../../a", "/sys/fs/cgroup/memory/user.slice/a"},
		{"v1", "/../a/./b//../c/", "/sys/fs/cgroup/memory/a/c"},
		{"v2", "", "/sys/fs/cgroup/user.slice/containr-c1"},
		{"v2", "a/b", "/sys/fs/cgroup/user.slice/a/b"},
		{"v2", "/a/b", "/sys/fs/cgroup/a/b"},
		{"v2", "../../../a", "/sys/fs/cgroup/user.slice/a"},
		{"v2", "/:a:b", "/sys/fs/cgroup/:a:b"},
	} {
		f := machineV2()
		if c.mode == "v1" {
			f = machineV1()
		}
		p, err := Plan(specOf(c.path, nil), f, "c1")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(p.Paths, c.want) {
			t.Errorf("%s %q: %q, want %q", c.mode, c.path, p.Paths, c.want)
		}
	}
}

// TestRootIsOwnParent: in a machine whose init is containr's shell, the group lies
// directly below the root.
func TestRootIsOwnParent(t *testing.T) {
	f := machineV2()
	f.Hierarchies[0].Own = "/"
	p, err := Plan(&specs.Spec{}, f, "c1")
	if err != nil {
		t.Fatal(err)
	}
	if p.Paths[0] != "/sys/fs/cgroup/containr-c1" {
		t.Error(p.Paths)
	}
}

// TestUpdateRefusals: what Update alone cannot do.
func TestUpdateRefusals(t *testing.T) {
	for _, c := range []struct {
		name  string
		facts *host.Facts
		paths []string
		res   specs.LinuxResources
		is    error
	}{
		{"devices", machineV1(), nil, specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}}, ErrNoController},
		{"devices as a user", ordinary(machineV2()), []string{"/sys/fs/cgroup/c1"}, specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}}, ErrNotDelegated},
		{"no group", machineV2(), nil, specs.LinuxResources{}, ErrNoController},
		{"a group elsewhere", machineV2(), []string{"/tmp/c1"}, specs.LinuxResources{}, ErrNoController},
		{"no group of the controller", machineV1(), []string{"/sys/fs/cgroup/memory/c1"}, specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(1))}}, ErrNoController},
		{"bad value", machineV1(), nil, specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(-5))}}, ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			steps, err := Update(Change{Paths: c.paths, New: &c.res}, c.facts)
			if !errors.Is(err, c.is) || steps != nil {
				t.Errorf("error %v, want %v", err, c.is)
			}
		})
	}
}

func BenchmarkPlanV1(b *testing.B) {
	f, s := machineV1(), specOf("", usualLimits())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Plan(s, f, "c1"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlanV2(b *testing.B) {
	f, s := machineV2(), specOf("", usualLimits())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Plan(s, f, "c1"); err != nil {
			b.Fatal(err)
		}
	}
}
