package cgroup

import (
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// limits plans the writes to the control files of one directory.
type limits struct {
	b   *plan.Builder
	dir string
	res *specs.LinuxResources
	// living is set when processes run under the limits that are changed, so
	// that the old values are unknown.
	living bool
}

// at is where the limits are in an OCI configuration.
const at = "/linux/resources/"

// set adds the step that writes a value to a control file, because the field asked
// for it.
func (l *limits) set(why, file, value, field string) *plan.Step {
	return l.b.Do(why, linux.WriteFile{Path: l.dir + "/" + file, Data: value}).For(field)
}

// setting is a control file and its value.
type setting struct{ file, value, field string }

// setPair writes two files that constrain each other. In a new group the order
// first, second is right. In a living one it is right or wrong depending on the old
// values; the kernel tells by refusing the first with EINVAL, and then the other
// order is right.
func (l *limits) setPair(why string, first, second setting) {
	write := func(s setting) *plan.Step { return l.set(why, s.file, s.value, s.field) }
	if !l.living {
		write(first)
		write(second)
		return
	}
	write(first).Ok(plan.EINVAL)
	write(second).Then()
	write(second).Else()
	write(first).Else()
}

// cpuWeight writes the share of the CPU, and whether the group only runs when
// nobody else wants to. The kernel refuses a share for an idle group (EINVAL), so
// idleness is taken away before and given after.
func (l *limits) cpuWeight(file, weight string) {
	const why = "set the share of the CPU under contention"
	idle := l.res.CPU.Idle
	if idle != nil && *idle == 0 {
		l.set(why, "cpu.idle", "0", at+"cpu/idle")
	}
	if weight != "" {
		l.set(why, file, weight, at+"cpu/shares")
	}
	if idle != nil && *idle == 1 {
		l.set(why, "cpu.idle", "1", at+"cpu/idle")
	}
}

// cpuset writes the CPUs and memory nodes; the files have the same names in both
// versions.
func (l *limits) cpuset() {
	const why = "pin to CPUs and memory nodes"
	c := l.res.CPU
	if c == nil {
		return
	}
	if c.Cpus != "" {
		l.set(why, "cpuset.cpus", c.Cpus, at+"cpu/cpus")
	}
	if c.Mems != "" {
		l.set(why, "cpuset.mems", c.Mems, at+"cpu/mems")
	}
}

// pids writes the limit of processes and threads. It counts the container's first
// process too, so that 0 means the same as 1; the kernel would refuse to bear even
// that one in a group of 0.
func (l *limits) pids() {
	if l.res.Pids == nil || l.res.Pids.Limit == nil {
		return
	}
	value := "max"
	if n := *l.res.Pids.Limit; n >= 0 {
		value = strconv.FormatInt(max(n, 1), 10)
	}
	l.set("limit processes and threads", "pids.max", value, at+"pids/limit")
}

// hugepages writes both limits that hugetlb has for a page size: of pages in use,
// and of pages reserved by mmap(2), which fails early instead of killing later.
func (l *limits) hugepages(suffix string) {
	for _, h := range l.res.HugepageLimits {
		value := strconv.FormatUint(h.Limit, 10)
		l.set("limit huge pages", "hugetlb."+h.Pagesize+suffix, value, at+"hugepageLimits")
		l.set("limit huge pages", "hugetlb."+h.Pagesize+".rsvd"+suffix, value, at+"hugepageLimits")
	}
}

// rdma writes one line for each device.
func (l *limits) rdma() {
	names := make([]string, 0, len(l.res.Rdma))
	for name := range l.res.Rdma {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		line, r := name, l.res.Rdma[name]
		if r.HcaHandles != nil {
			line += " hca_handle=" + strconv.FormatUint(uint64(*r.HcaHandles), 10)
		}
		if r.HcaObjects != nil {
			line += " hca_object=" + strconv.FormatUint(uint64(*r.HcaObjects), 10)
		}
		l.set("limit RDMA resources", "rdma.max", line, at+"rdma")
	}
}

// deviceName is a block device as the control files spell it: "8:0".
func deviceName(d specs.LinuxBlockIODevice) string {
	return strconv.FormatInt(d.Major, 10) + ":" + strconv.FormatInt(d.Minor, 10)
}
