package cgroup

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
)

// TestUpdateCompletes: a change of one of two settings that belong together is made
// with the other as the container has it.
func TestUpdateCompletes(t *testing.T) {
	old := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(1000)), Swap: ptr(int64(3000))},
		CPU:    &specs.LinuxCPU{Quota: ptr(int64(50000)), Period: ptr(uint64(100000))},
	}
	memory := func(m specs.LinuxMemory) *specs.LinuxResources { return &specs.LinuxResources{Memory: &m} }
	for _, c := range []struct {
		name string
		mode host.CgroupMode
		res  *specs.LinuxResources
		want map[string]string
	}{
		{"limit", host.CgroupV2, memory(specs.LinuxMemory{Limit: ptr(int64(2000))}), map[string]string{"memory.max": "2000", "memory.swap.max": "1000"}},
		{"swap", host.CgroupV2, memory(specs.LinuxMemory{Swap: ptr(int64(1500))}), map[string]string{"memory.max": "1000", "memory.swap.max": "500"}},
		{"all of it", host.CgroupV2, memory(specs.LinuxMemory{Limit: ptr(int64(3000))}), map[string]string{"memory.max": "3000", "memory.swap.max": "0"}},
		{"no limit", host.CgroupV2, memory(specs.LinuxMemory{Limit: ptr(int64(-1))}), map[string]string{"memory.max": "max", "memory.swap.max": "max"}},
		{"limit", host.CgroupV1, memory(specs.LinuxMemory{Limit: ptr(int64(2000))}), map[string]string{"memory.limit_in_bytes": "2000", "memory.memsw.limit_in_bytes": "3000"}},
		{"period", host.CgroupV2, &specs.LinuxResources{CPU: &specs.LinuxCPU{Period: ptr(uint64(200000))}}, map[string]string{"cpu.max": "50000 200000"}},
		{"quota", host.CgroupV2, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(70000))}}, map[string]string{"cpu.max": "70000"}},
	} {
		t.Run(c.mode.String()+"/"+c.name, func(t *testing.T) {
			f := machine(c.mode)
			p, err := Plan(specOf("/c1", nil), f, "c1")
			if err != nil {
				t.Fatal(err)
			}
			steps, err := Update(Change{Paths: p.Paths, Old: old, New: c.res}, f)
			if err != nil {
				t.Fatal(err)
			}
			if got := writes(steps); !reflect.DeepEqual(got, c.want) {
				t.Errorf("wrote %v, want %v", got, c.want)
			}
		})
	}
	_, err := Update(Change{Paths: []string{"/sys/fs/cgroup/c1"}, Old: old, New: memory(specs.LinuxMemory{Limit: ptr(int64(4000))})}, machineV2())
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "memory.limit 4000") {
		t.Errorf("a limit above the sum: %v", err)
	}
}

// TestMerge: what a change sets wins, what it leaves stays, and neither is altered.
func TestMerge(t *testing.T) {
	old, change := everyLimit(host.CgroupV2), &specs.LinuxResources{
		Memory:         &specs.LinuxMemory{Limit: ptr(int64(-1))},
		CPU:            &specs.LinuxCPU{Cpus: "3"},
		Pids:           &specs.LinuxPids{Limit: ptr(int64(5))},
		BlockIO:        &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: 8}, Rate: 9}}},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "1GB", Limit: 1}},
		Network:        &specs.LinuxNetwork{ClassID: ptr(uint32(1))},
		Rdma:           map[string]specs.LinuxRdma{"mlx5_9": {HcaHandles: ptr(uint32(2))}},
		Unified:        map[string]string{"memory.high": "1"},
	}
	want := everyLimit(host.CgroupV2)
	want.Memory.Limit, want.Memory.Swap = ptr(int64(-1)), ptr(int64(-1))
	want.CPU.Cpus = "3"
	want.Pids.Limit = ptr(int64(5))
	want.BlockIO.ThrottleReadBpsDevice[0].Rate = 9
	want.HugepageLimits = append(want.HugepageLimits, change.HugepageLimits...)
	want.Network = change.Network
	want.Rdma["mlx5_9"] = change.Rdma["mlx5_9"]
	want.Unified["memory.high"] = "1"
	if got := Merge(old, change); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if !reflect.DeepEqual(old, everyLimit(host.CgroupV2)) {
		t.Error("the old limits were altered")
	}
	if got := Merge(nil, change); !reflect.DeepEqual(got.Pids, change.Pids) {
		t.Errorf("from nothing: %+v", got)
	}
	if got := Merge(old, nil); got != old {
		t.Error("no change changes")
	}
}

// TestDeviceUpdateV1 applies the lines to the kernel's list, as security/device_cgroup.c
// keeps it, and compares the outcome with that of a new container.
func TestDeviceUpdateV1(t *testing.T) {
	null := func(allow bool, access string) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: allow, Type: "c", Major: ptr(int64(10)), Minor: ptr(int64(229)), Access: access}
	}
	deny, allow := specs.LinuxDeviceCgroup{Access: "rwm"}, specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"}
	lists := [][]specs.LinuxDeviceCgroup{nil, {deny}, {deny, null(true, "rw")}, {deny, null(true, "r")}, {allow}, {allow, null(false, "w")}, {allow, null(false, "rwm")}}
	for i, from := range lists {
		for k, to := range lists {
			kernel := newDevicePolicy(from)
			set, err := kernel.exceptions()
			if err != nil {
				t.Fatal(err)
			}
			steps, err := Update(Change{Paths: []string{"/sys/fs/cgroup/devices/c1"},
				Old: &specs.LinuxResources{Devices: from}, New: &specs.LinuxResources{Devices: to}}, machineV1())
			if err != nil {
				t.Fatal(err)
			}
			if len(to) == 0 {
				continue // nothing asked
			}
			allowed := kernel.allow
			for _, s := range steps {
				allowed, set = applyDeviceLine(allowed, set, s.Call.AppendArgs(nil)[0].Text, strings.HasSuffix(s.Call.AppendArgs(nil)[1].Text, "allow"))
			}
			want := newDevicePolicy(to)
			list, _ := want.exceptions()
			if allowed != want.allow || !sameRules(set, list) {
				t.Errorf("%d to %d: allow %v %v, want %v %v", i, k, allowed, set, want.allow, list)
			}
		}
	}
}

func applyDeviceLine(allowed bool, set []deviceRule, line string, allow bool) (bool, []deviceRule) {
	if line == "a" {
		return allow, nil
	}
	for _, e := range slices.Concat(standardDevices[:], []deviceRule{{kind: 'c', major: 10, minor: 229}}) {
		for a := access(1); a <= accessAll; a++ {
			if e.access = a; e.String() != line {
				continue
			}
			if allow != allowed {
				return allowed, addException(slices.Clone(set), e)
			}
			rest := []deviceRule{}
			for _, old := range set {
				if old.covers(e) && e.covers(old) {
					old.access &^= a
				}
				if old.access != 0 {
					rest = append(rest, old)
				}
			}
			return allowed, rest
		}
	}
	panic("unknown line " + line)
}

func sameRules(a, b []deviceRule) bool {
	text := func(list []deviceRule) []string {
		var lines []string
		for _, r := range list {
			lines = append(lines, r.String())
		}
		slices.Sort(lines)
		return lines
	}
	return slices.Equal(text(a), text(b))
}
