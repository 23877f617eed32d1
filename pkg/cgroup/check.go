package cgroup

import (
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// check refuses what no kernel of either version takes, or what a kernel would
// misread. What depends on the machine's present state (a limit below the usage, a
// CPU that is offline) is left to the kernel, whose error names the file.
func check(res *specs.LinuxResources) error {
	for _, err := range []error{
		checkMemory(res.Memory), checkCPU(res.CPU), checkPids(res.Pids), checkBlockIO(res.BlockIO),
		checkHugepages(res.HugepageLimits), checkRdma(res.Rdma), checkNetwork(res.Network),
		checkUnified(res.Unified), checkDevices(res.Devices),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkMemory(m *specs.LinuxMemory) error {
	if m == nil {
		return nil
	}
	limit, swap := number(m.Limit), number(m.Swap)
	switch {
	case limit < -1:
		return invalid("memory.limit", strconv.FormatInt(limit, 10)+" is negative; -1 is no limit")
	case swap < -1:
		return invalid("memory.swap", strconv.FormatInt(swap, 10)+" is negative; -1 is no limit")
	case number(m.Reservation) < -1:
		return invalid("memory.reservation", strconv.FormatInt(*m.Reservation, 10)+" is negative; -1 is none")
	case swap > 0 && limit == 0:
		return invalid("memory.swap", "needs memory.limit, because it counts memory and swap together")
	case swap > 0 && limit == -1:
		return invalid("memory.swap", strconv.FormatInt(swap, 10)+" limits memory and swap together, but memory.limit is unlimited")
	case swap > 0 && swap < limit:
		return invalid("memory.swap", strconv.FormatInt(swap, 10)+" counts memory and swap together and is below memory.limit "+
			strconv.FormatInt(limit, 10))
	case m.Swappiness != nil && *m.Swappiness > 100:
		return invalid("memory.swappiness", strconv.FormatUint(*m.Swappiness, 10)+" is above 100")
	}
	return nil
}

func checkCPU(c *specs.LinuxCPU) error {
	if c == nil {
		return nil
	}
	switch {
	case number(c.Quota) < -1:
		return invalid("cpu.quota", strconv.FormatInt(*c.Quota, 10)+" is negative; -1 is no limit")
	case c.Idle != nil && *c.Idle != 0 && *c.Idle != 1:
		return invalid("cpu.idle", strconv.FormatInt(*c.Idle, 10)+" is neither 0 nor 1")
	case !isNumberList(c.Cpus):
		return invalid("cpu.cpus", strconv.Quote(c.Cpus)+" is no list like 0-2,7")
	case !isNumberList(c.Mems):
		return invalid("cpu.mems", strconv.Quote(c.Mems)+" is no list like 0-2,7")
	}
	return nil
}

// isNumberList reports whether s has the characters of the list format that
// cpuset(7) describes, "0-4,9" or "0-31:2/4". The kernel judges the rest.
func isNumberList(s string) bool {
	for _, c := range s {
		if !(c >= '0' && c <= '9') && !strings.ContainsRune(",-:/", c) {
			return false
		}
	}
	return true
}

func checkPids(p *specs.LinuxPids) error {
	if p != nil && number(p.Limit) < -1 {
		return invalid("pids.limit", strconv.FormatInt(*p.Limit, 10)+" is negative; -1 is no limit")
	}
	return nil
}

func checkBlockIO(b *specs.LinuxBlockIO) error {
	if b == nil {
		return nil
	}
	const gone = "leaf weights went with the CFQ scheduler in Linux 5.0"
	if number(b.LeafWeight) != 0 {
		return invalid("blockIO.leafWeight", gone)
	}
	if w := number(b.Weight); w != 0 && (w < 10 || w > 1000) {
		return invalid("blockIO.weight", strconv.Itoa(int(w))+" is not between 10 and 1000")
	}
	for _, d := range b.WeightDevice {
		if number(d.LeafWeight) != 0 {
			return invalid("blockIO.weightDevice", gone)
		}
		if w := number(d.Weight); w < 10 || w > 1000 {
			return invalid("blockIO.weightDevice", strconv.Itoa(int(w))+" is not between 10 and 1000")
		}
	}
	for _, list := range [][]specs.LinuxThrottleDevice{b.ThrottleReadBpsDevice, b.ThrottleWriteBpsDevice,
		b.ThrottleReadIOPSDevice, b.ThrottleWriteIOPSDevice} {
		for _, d := range list {
			if d.Major < 0 || d.Minor < 0 {
				return invalid("blockIO", deviceName(d.LinuxBlockIODevice)+" is no device number")
			}
		}
	}
	return nil
}

// checkHugepages keeps a page size from being anything but part of a file name.
func checkHugepages(list []specs.LinuxHugepageLimit) error {
	for _, h := range list {
		digits := strings.TrimRight(h.Pagesize, "KMGB")
		unit := h.Pagesize[len(digits):]
		if n, err := strconv.ParseUint(digits, 10, 32); err != nil || n == 0 || !slices.Contains([]string{"KB", "MB", "GB"}, unit) {
			return invalid("hugepageLimits", strconv.Quote(h.Pagesize)+" is no page size like 2MB")
		}
	}
	return nil
}

func checkRdma(devices map[string]specs.LinuxRdma) error {
	for name, r := range devices {
		if name == "" || strings.ContainsAny(name, " \t\n\x00") {
			return invalid("rdma", strconv.Quote(name)+" is no device name")
		}
		if r.HcaHandles == nil && r.HcaObjects == nil {
			return invalid("rdma", "device "+name+" has no limit")
		}
	}
	return nil
}

func checkNetwork(n *specs.LinuxNetwork) error {
	if n == nil {
		return nil
	}
	for _, p := range n.Priorities {
		if p.Name == "" || strings.ContainsAny(p.Name, " \t\n\x00/") {
			return invalid("network.priorities", strconv.Quote(p.Name)+" is no interface name")
		}
	}
	return nil
}

// checkUnified lets only names of settings through: a name with a slash would lead
// elsewhere, and the refused files act on processes.
func checkUnified(settings map[string]string) error {
	for _, key := range unifiedKeys(settings) {
		controller := unifiedController(key)
		switch {
		case controller == "" || controller == key || strings.ContainsAny(key, "/\n\x00"):
			return invalid("unified", strconv.Quote(key)+" is no file name like memory.high")
		case slices.Contains([]string{"cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.subtree_control"}, key):
			return invalid("unified", key+" is no limit")
		}
	}
	return nil
}

// unifiedKeys lists the keys in order: a plan does not depend on a map's order.
func unifiedKeys(settings map[string]string) []string {
	keys := make([]string, 0, len(settings))
	for key := range settings {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// unifiedController is the part of a file's name before the dot.
func unifiedController(key string) string {
	controller, _, _ := strings.Cut(key, ".")
	return controller
}
