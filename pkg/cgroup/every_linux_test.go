package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan/linux"
)

// blockDevice finds a whole disk, "8:0": only those have queues to throttle.
func blockDevice() (specs.LinuxBlockIODevice, string) {
	var d specs.LinuxBlockIODevice
	files, _ := filepath.Glob("/sys/block/*/dev")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		name := strings.TrimSpace(string(text))
		if e := deviceEntry(new([]DeviceUsage), name); e != nil {
			d.Major, d.Minor = int64(e.Major), int64(e.Minor)
			return d, name
		}
	}
	return d, ""
}

// TestEveryLimitReachesTheKernel gives each limit alone and reads it back. What this
// kernel has no file for is said.
func TestEveryLimitReachesTheKernel(t *testing.T) {
	eachMode(t, func(t *testing.T, f *host.Facts) {
		disk, name := blockDevice()
		rate := []specs.LinuxThrottleDevice{{LinuxBlockIODevice: disk, Rate: 1 << 20}}
		for _, c := range []struct {
			name, controllerV1, controllerV2 string
			res                              specs.LinuxResources
			v1, v2                           string // file=what it must hold
		}{
			{"reservation", "memory", "memory", specs.LinuxResources{Memory: &specs.LinuxMemory{Reservation: ptr(int64(8 << 20))}},
				"memory.soft_limit_in_bytes=8388608", "memory.low=8388608"},
			{"no swap", "memory", "memory", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(64 << 20))}},
				"memory.memsw.limit_in_bytes=67108864", "memory.swap.max=0"},
			{"swappiness", "memory", "", specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: ptr(uint64(7))}}, "memory.swappiness=7", ""},
			{"no OOM killer", "memory", "", specs.LinuxResources{Memory: &specs.LinuxMemory{DisableOOMKiller: ptr(true)}}, "memory.oom_control=oom_kill_disable 1", ""},
			{"shares", "cpu", "cpu", specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(512))}}, "cpu.shares=512", "cpu.weight=59"},
			{"idle", "cpu", "cpu", specs.LinuxResources{CPU: &specs.LinuxCPU{Idle: ptr(int64(1))}}, "cpu.idle=1", "cpu.idle=1"},
			{"burst", "cpu", "cpu", specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(50000)), Burst: ptr(uint64(20000))}},
				"cpu.cfs_burst_us=20000", "cpu.max.burst=20000"},
			{"memory nodes", "cpuset", "cpuset", specs.LinuxResources{CPU: &specs.LinuxCPU{Mems: "0"}}, "cpuset.mems=0", "cpuset.mems=0"},
			{"huge pages", "hugetlb", "hugetlb", specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}},
				"hugetlb.2MB.rsvd.limit_in_bytes=4194304", "hugetlb.2MB.rsvd.max=4194304"},
			{"class", "net_cls", "", specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: ptr(uint32(0x100001))}}, "net_cls.classid=1048577", ""},
			{"priority", "net_prio", "", specs.LinuxResources{Network: &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "lo", Priority: 5}}}},
				"net_prio.ifpriomap=lo 5", ""},
			{"throttle", "blkio", "io", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleWriteBpsDevice: rate}},
				"blkio.throttle.write_bps_device=" + name + " 1048576", "io.max=" + name + " rbps=max wbps=1048576 riops=max wiops=max"},
			{"weight", "blkio", "io", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(500))}}, "", "io.weight=default 4950"},
			{"high", "", "memory", specs.LinuxResources{Unified: map[string]string{"memory.high": "8388608"}}, "", "memory.high=8388608"},
			{"swap high", "", "memory", specs.LinuxResources{Unified: map[string]string{"memory.swap.high": "8388608"}}, "", "memory.swap.high=8388608"},
		} {
			t.Run(c.name, func(t *testing.T) {
				controller, want := c.controllerV1, c.v1
				if f.CgroupMode == host.CgroupV2 {
					controller, want = c.controllerV2, c.v2
				}
				if want == "" {
					t.Skip("is not tried on cgroup " + f.CgroupMode.String() + ", which has no such limit, or needs a scheduler for it")
				}
				needs(t, f, controller)
				if c.name == "throttle" && name == "" {
					t.Skip("needs a disk: there is none in /sys/block")
				}
				testkit.Leftovers(t)
				file, value, _ := strings.Cut(want, "=")
				if _, err := Plan(specOf("/c1", &c.res), f, "c1"); errors.Is(err, ErrNoController) {
					t.Skipf("this kernel has it not: %v", err)
				}
				b := newBox(t, f, &c.res, "sleep")
				dir, _ := b.group.path(controller)
				text, err := os.ReadFile(dir + "/" + file)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains("\n"+string(text), "\n"+value+"\n") {
					t.Errorf("%s holds %q, want %q", file, text, value)
				}
			})
		}
	})
}

// rare are hierarchies of version 1 that hosts seldom mount, though their kernels have
// them.
const rare = `mount --make-rprivate / && mount -t tmpfs tmpfs /sys/fs/cgroup && cd /sys/fs/cgroup &&
mkdir hugetlb net_cls,net_prio && mount -t cgroup -o hugetlb cgroup hugetlb && mount -t cgroup -o net_cls,net_prio cgroup net_cls,net_prio || exit 125
exec "$@"`

// TestRareHierarchies runs some of the limits above where the hierarchies for them are
// mounted, in a mount namespace.
func TestRareHierarchies(t *testing.T) {
	testkit.RequireRoot(t)
	// The hierarchies are of the whole machine: while they are there, no other test may look at it.
	lock, err := testkit.LockMachine()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	cmd := exec.Command("sh", "-c", rare, "sh", os.Args[0], "-test.v", "-test.run", "^TestEveryLimitReachesTheKernel$/^machine$/^(huge_pages|class|priority)$")
	cmd.Env = append(os.Environ(), testkit.HeldVar+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	var out []byte
	err = testkit.OutsideCgroups(func() error {
		var err error
		out, err = cmd.CombinedOutput()
		if err := testkit.ReleaseHierarchies(); err != nil {
			t.Error(err)
		}
		return err
	})
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 125 {
		t.Skipf("the kernel has them not for version 1, or uses them for version 2: %s", out)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for _, name := range []string{"huge_pages", "class", "priority"} {
		if !strings.Contains(string(out), "--- PASS: TestEveryLimitReachesTheKernel/machine/"+name) {
			t.Errorf("%s did not run: %s", name, out)
		}
	}
}

// TestRdmaReachesTheKernel: this takes a device that can, which no machine of the tests
// has; but the kernel looks for the device only after it has understood the limit.
func TestRdmaReachesTheKernel(t *testing.T) {
	eachMode(t, func(t *testing.T, f *host.Facts) {
		needs(t, f, "rdma")
		testkit.Leftovers(t)
		res := specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"none0": {HcaHandles: ptr(uint32(2)), HcaObjects: ptr(uint32(2000))}}}
		p, err := Plan(specOf(testGroup()+"/box", &res), f, "box")
		if err != nil {
			t.Fatal(err)
		}
		b := &box{t: t, facts: f, paths: p.Paths, group: Open(f.CgroupMode, p.Paths)}
		t.Cleanup(b.clean)
		if err := (&executor{files: map[linux.FD]*os.File{}}).run(p.Setup); !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "rdma.max") {
			t.Errorf("error %v, want that there is no such device", err)
		}
	})
}
