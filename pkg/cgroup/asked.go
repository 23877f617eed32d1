package cgroup

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
)

// want is a controller that a field of the configuration needs. The controller is
// empty if the cgroup version has none for the field.
type want struct{ controller, field string }

// asked lists the controllers that res needs, each with the first field that needs
// it. Device rules are not limits and are not listed.
func asked(res *specs.LinuxResources, mode host.CgroupMode) []want {
	v2 := mode == host.CgroupV2
	var list []want
	add := func(yes bool, v1Name, v2Name, field string) {
		if !yes {
			return
		}
		name := v1Name
		if v2 {
			name = v2Name
		}
		for _, w := range list {
			if w.controller == name && name != "" {
				return
			}
		}
		list = append(list, want{name, "linux.resources." + field})
	}
	if m := res.Memory; m != nil {
		add(isSet(m.Limit), "memory", "memory", "memory.limit")
		add(isSet(m.Swap), "memory", "memory", "memory.swap")
		add(isSet(m.Reservation), "memory", "memory", "memory.reservation")
		add(m.Swappiness != nil, "memory", "", "memory.swappiness")
		add(m.DisableOOMKiller != nil && *m.DisableOOMKiller, "memory", "", "memory.disableOOMKiller")
	}
	if c := res.CPU; c != nil {
		add(isSet(c.Shares), "cpu", "cpu", "cpu.shares")
		add(isSet(c.Quota), "cpu", "cpu", "cpu.quota")
		add(isSet(c.Period), "cpu", "cpu", "cpu.period")
		add(c.Burst != nil, "cpu", "cpu", "cpu.burst")
		add(c.Idle != nil, "cpu", "cpu", "cpu.idle")
		add(isSet(c.RealtimeRuntime), "cpu", "", "cpu.realtimeRuntime")
		add(isSet(c.RealtimePeriod), "cpu", "", "cpu.realtimePeriod")
		add(c.Cpus != "", "cpuset", "cpuset", "cpu.cpus")
		add(c.Mems != "", "cpuset", "cpuset", "cpu.mems")
	}
	add(res.Pids != nil && res.Pids.Limit != nil, "pids", "pids", "pids.limit")
	add(hasBlockIO(res.BlockIO), "blkio", "io", "blockIO")
	add(len(res.HugepageLimits) > 0, "hugetlb", "hugetlb", "hugepageLimits")
	add(len(res.Rdma) > 0, "rdma", "rdma", "rdma")
	if n := res.Network; n != nil {
		add(n.ClassID != nil, "net_cls", "", "network.classID")
		add(len(n.Priorities) > 0, "net_prio", "", "network.priorities")
	}
	for _, key := range unifiedKeys(res.Unified) {
		controller := unifiedController(key)
		add(controller != "cgroup" || !v2, "", controller, "unified["+key+"]")
	}
	return list
}

// isSet reports whether a number of the configuration asks for something: as in
// every OCI runtime, 0 stands for leaving the kernel's value.
func isSet[T int64 | uint64](p *T) bool { return p != nil && *p != 0 }

// number is the value of an optional number, 0 when it is absent.
func number[T int64 | uint64 | uint16](p *T) T {
	if p == nil {
		return 0
	}
	return *p
}

func hasBlockIO(b *specs.LinuxBlockIO) bool {
	return b != nil && (number(b.Weight) != 0 || len(b.WeightDevice) > 0 || len(b.ThrottleReadBpsDevice) > 0 ||
		len(b.ThrottleWriteBpsDevice) > 0 || len(b.ThrottleReadIOPSDevice) > 0 || len(b.ThrottleWriteIOPSDevice) > 0)
}
