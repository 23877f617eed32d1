package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
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
