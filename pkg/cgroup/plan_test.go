package cgroup

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
)

var update = flag.Bool("update", false, "write the golden files anew")

func ptr[T any](v T) *T { return &v }

// machineV1 has the hierarchies of a typical machine, with containr in a session's
// group.
func machineV1() *host.Facts {
	mount := func(own string, controllers ...string) host.Hierarchy {
		path := "/sys/fs/cgroup/" + controllers[0]
		if len(controllers) == 2 {
			path += "," + controllers[1]
		}
		return host.Hierarchy{Controllers: controllers, Path: path, Own: own}
	}
	systemd := mount("/user.slice/session-1.scope", "name=systemd")
	systemd.Path = "/sys/fs/cgroup/systemd"
	return &host.Facts{
		Arch: "amd64", Kernel: host.Kernel{Major: 6, Minor: 1}, Capabilities: ^uint64(0), CgroupMode: host.CgroupV1,
		Hierarchies: []host.Hierarchy{systemd, mount("/", "cpu", "cpuacct"), mount("/", "cpuset"), mount("/user.slice", "memory"),
			mount("/", "devices"), mount("/", "freezer"), mount("/", "blkio"), mount("/", "pids"), mount("/", "hugetlb"),
			mount("/", "net_cls", "net_prio"), mount("/", "rdma")},
	}
}

func machineV2() *host.Facts {
	return &host.Facts{
		Arch: "amd64", Kernel: host.Kernel{Major: 6, Minor: 12}, Capabilities: ^uint64(0), CgroupMode: host.CgroupV2,
		Hierarchies: []host.Hierarchy{{
			Controllers: []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"},
			Path:        "/sys/fs/cgroup", Own: "/user.slice/session-1.scope",
		}},
	}
}

// usualLimits are what "run -m 64m --memory-swap 128m --cpus 1.5 --cpu-shares 512
// --cpuset-cpus 0-1 --pids-limit 100" asks for.
func usualLimits() *specs.LinuxResources {
	return &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(128 << 20)), Reservation: ptr(int64(32 << 20))},
		CPU:     &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(150000)), Period: ptr(uint64(100000)), Cpus: "0-1"},
		Pids:    &specs.LinuxPids{Limit: ptr(int64(100))},
		Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "c", Major: ptr(int64(10)), Minor: ptr(int64(229)), Access: "rw"}},
	}
}

// everyLimit uses each field that the version has.
func everyLimit(mode host.CgroupMode) *specs.LinuxResources {
	device := specs.LinuxBlockIODevice{Major: 8, Minor: 0}
	other := specs.LinuxBlockIODevice{Major: 8, Minor: 16}
	r := usualLimits()
	r.CPU.Mems, r.CPU.Burst, r.CPU.Idle = "0", ptr(uint64(20000)), ptr(int64(1))
	r.BlockIO = &specs.LinuxBlockIO{
		Weight:                  ptr(uint16(500)),
		WeightDevice:            []specs.LinuxWeightDevice{{LinuxBlockIODevice: device, Weight: ptr(uint16(10))}},
		ThrottleReadBpsDevice:   []specs.LinuxThrottleDevice{{LinuxBlockIODevice: device, Rate: 1 << 20}},
		ThrottleWriteBpsDevice:  []specs.LinuxThrottleDevice{{LinuxBlockIODevice: other, Rate: 2 << 20}, {LinuxBlockIODevice: device, Rate: 0}},
		ThrottleReadIOPSDevice:  []specs.LinuxThrottleDevice{{LinuxBlockIODevice: device, Rate: 100}},
		ThrottleWriteIOPSDevice: []specs.LinuxThrottleDevice{{LinuxBlockIODevice: other, Rate: 200}},
	}
	r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}
	r.Rdma = map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: ptr(uint32(2))}, "mlx5_0": {HcaHandles: ptr(uint32(3)), HcaObjects: ptr(uint32(4))}}
	if mode == host.CgroupV2 {
		r.Unified = map[string]string{"memory.high": "48M", "io.max": "8:0 rbps=max\n8:16 rbps=max\n", "misc.max": "res_a 1"}
		return r
	}
	r.Memory.Swappiness, r.Memory.DisableOOMKiller = ptr(uint64(10)), ptr(true)
	r.CPU.RealtimePeriod, r.CPU.RealtimeRuntime = ptr(uint64(1000000)), ptr(int64(5000))
	r.Network = &specs.LinuxNetwork{ClassID: ptr(uint32(0x100001)), Priorities: []specs.LinuxInterfacePriority{{Name: "eth0", Priority: 5}}}
	return r
}

func specOf(path string, res *specs.LinuxResources) *specs.Spec {
	return &specs.Spec{Linux: &specs.Linux{CgroupsPath: path, Resources: res}}
}

// TestPlanGolden shows the plans of typical containers, steps and their inverses.
func TestPlanGolden(t *testing.T) {
	for _, c := range []struct {
		name  string
		facts *host.Facts
		spec  *specs.Spec
	}{
		{"v1-nothing", machineV1(), &specs.Spec{}},
		{"v1-usual", machineV1(), specOf("", usualLimits())},
		{"v1-every", machineV1(), specOf("/pod/c1", everyLimit(host.CgroupV1))},
		{"v2-nothing", machineV2(), &specs.Spec{}},
		{"v2-usual", machineV2(), specOf("", usualLimits())},
		{"v2-every", machineV2(), specOf("/pod/c1", everyLimit(host.CgroupV2))},
		{"v2-old-kernel", older(machineV2()), specOf("", usualLimits())},
		{"v2-relative", machineV2(), specOf("a/../pod/../../c1", usualLimits())},
		{"v2-delegated", delegatedV2(), specOf("", &specs.LinuxResources{Memory: usualLimits().Memory})},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Plan(c.spec, c.facts, "c1")
			if err != nil {
				t.Fatal(err)
			}
			whole := plan.Plan{Steps: slices.Concat(p.Setup, p.Attach, p.Join)}
			if err := whole.Validate(Process); err != nil {
				t.Error(err)
			}
			golden(t, c.name, show(t, &whole))
		})
	}
}

func TestUpdateGolden(t *testing.T) {
	for _, c := range []struct {
		name  string
		facts *host.Facts
	}{{"update-v1", machineV1()}, {"update-v2", machineV2()}} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Plan(specOf("/c1", nil), c.facts, "c1")
			if err != nil {
				t.Fatal(err)
			}
			res := everyLimit(c.facts.CgroupMode)
			steps, err := Update(Change{Paths: p.Paths, New: res}, c.facts)
			if err != nil {
				t.Fatal(err)
			}
			whole := plan.Plan{Steps: steps}
			if err := whole.Validate(); err != nil {
				t.Error(err)
			}
			golden(t, c.name, show(t, &whole))
		})
	}
}

func delegatedV2() *host.Facts {
	f := machineV2()
	f.UID, f.Capabilities = 1000, 0
	f.Hierarchies[0].Own = "/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope"
	f.Hierarchies[0].Controllers = []string{"memory", "pids"}
	f.Hierarchies[0].Delegated = true
	return f
}

func show(t *testing.T, p *plan.Plan) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := p.Write(&b, plan.Steps); err != nil {
		t.Fatal(err)
	}
	b.WriteString("\n# undo\n")
	for _, c := range p.Undo() {
		b.WriteString("    " + plan.Format(c) + "\n")
	}
	return b.Bytes()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; -update writes it anew. Now:\n%s", file, got)
	}
}
