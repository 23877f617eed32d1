package cgroup

import (
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// planV1 makes a directory in every hierarchy, named ones too: a process that stays
// behind in one of them is not accounted there, and tools that look for the
// container's processes would miss it.
//
// Only the directories have to be there when the process is born. Their limits are
// written while it makes its mounts; then it moves into them. It does so by itself if
// it can (alone): the kernel lets a thread that moves itself pass at once (since Linux
// 5.6), while for one that is moved by another, the first after a tenth of a second of
// silence, all of the machine has to stand still for a moment (a grace period of RCU),
// which takes as long as the making of the whole container.
func planV1(f *host.Facts, loc location, res *specs.LinuxResources, alone bool) (*Placement, error) {
	if err := checkV1(res); err != nil {
		return nil, err
	}
	p := &Placement{Paths: make([]string, 0, len(f.Hierarchies))}
	setup := plan.Build(plan.Host, plan.CgroupChapter)
	setup.Steps = make([]plan.Step, 0, 2*len(f.Hierarchies)+16)
	for _, h := range f.Hierarchies {
		base := h.Path
		if !loc.absolute {
			base = below(h.Path, h.Own)
		}
		makeV1(setup, loc, h, base)
		p.Paths = append(p.Paths, base+loc.path)
	}
	attach := plan.Build(plan.Host, plan.CgroupChapter)
	attach.Steps = make([]plan.Step, 0, len(f.Hierarchies)+len(standardDevices)+16)
	for i, h := range f.Hierarchies {
		l := &limits{b: attach, dir: p.Paths[i], res: res}
		if err := l.hierarchyV1(h.Controllers, f.Administrator()); err != nil {
			return nil, err
		}
	}
	if alone {
		p.Join = enterV1(p.Paths)
	} else {
		for _, dir := range p.Paths {
			s := attach.Do("move the process into its control groups", linux.Attach{Path: dir + "/cgroup.procs", PID: Process})
			if loc.unit {
				s.Reverse(linux.RemoveDir{Path: dir})
			}
		}
	}
	for i := range attach.Steps {
		attach.Steps[i].Early()
	}
	p.Setup, p.Attach = setup.Steps, attach.Steps
	return p, nil
}

// enterV1 plans how a process moves itself into directories of version 1, which it has to
// see, and whose files it may write to. The file tasks takes threads one by one; the process
// has no other.
func enterV1(dirs []string) []plan.Step {
	b := plan.Build(plan.Child, plan.CgroupChapter)
	b.Steps = make([]plan.Step, 0, 3*len(dirs))
	for _, dir := range dirs {
		openV1(b, dir, "group")
		moveV1(b, "group")
	}
	return b.Steps
}

// OpenV1 and MoveV1 are the two halves of that for a process that does not see the directories:
// its parent, the actor, opens their files before it is born.
func OpenV1(actor plan.Actor, dirs []string) []plan.Step {
	b := plan.Build(actor, plan.CgroupChapter)
	for i, dir := range dirs {
		openV1(b, dir, groupFile(i))
	}
	return b.Steps
}

// MoveV1 is the process's half; see OpenV1.
func MoveV1(dirs []string) []plan.Step {
	b := plan.Build(plan.Child, plan.CgroupChapter)
	for i := range dirs {
		moveV1(b, groupFile(i))
	}
	return b.Steps
}

// groupFile is the register of one of several files that list threads.
func groupFile(i int) plan.Reg { return plan.Reg("group" + strconv.Itoa(i)) }

const whyItself = "it moves into its control groups"

func openV1(b *plan.Builder, dir string, file plan.Reg) {
	b.Do(whyItself, linux.Openat{Dir: linux.CWD, Path: dir + "/tasks", Flags: linux.OWronly | linux.OCloexec}).As(file)
}

func moveV1(b *plan.Builder, file plan.Reg) {
	b.Do(whyItself, linux.Write{FD: linux.FD(file), Data: "0"})
	b.Do(whyItself, linux.Close{FD: linux.FD(file)})
}

// movesAlone reports whether the container's process can open the files of its groups
// when it has been born: it has the host's mounts yet, and the user that the files
// belong to.
func movesAlone(spec *specs.Spec, f *host.Facts) bool {
	if spec.Linux == nil || !f.Administrator() {
		return false
	}
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.UserNamespace || ns.Type == specs.MountNamespace && ns.Path != "" {
			return false
		}
	}
	return true
}

// makeV1 makes the directory in one hierarchy. A new cpuset has no CPUs and no
// memory, and nothing may enter it (ENOSPC): each level takes its parent's first.
// Filling in only what is blank leaves a parent alone that somebody else made, and
// finishes one that somebody else is about to fill.
func makeV1(b *plan.Builder, loc location, h host.Hierarchy, base string) {
	isCpuset := slices.Contains(h.Controllers, "cpuset")
	for _, parent := range loc.parents(base) {
		makeParent(b, parent)
		if isCpuset {
			inherit(b, parent, "cpuset.cpus")
			inherit(b, parent, "cpuset.mems")
		}
	}
	loc.makeLeaf(b, base+loc.path)
}

func inherit(b *plan.Builder, dir, file string) {
	b.Do("take over the CPUs and memory nodes of the group above",
		linux.CopyFile{From: path.Dir(dir) + "/" + file, To: dir + "/" + file})
}

// updateV1 finds each path's hierarchy by its mount point.
func updateV1(c Change, res *specs.LinuxResources, f *host.Facts) ([]plan.Step, error) {
	if err := checkV1(res); err != nil {
		return nil, err
	}
	b := plan.Build(plan.Host, plan.CgroupChapter)
	done := make(map[string]bool)
	for _, dir := range c.Paths {
		for _, h := range f.Hierarchies {
			if !strings.HasPrefix(dir, h.Path+"/") {
				continue
			}
			l := &limits{b: b, dir: dir, res: res, living: true}
			if err := l.hierarchyV1(h.Controllers, false); err != nil {
				return nil, err
			}
			for _, name := range h.Controllers {
				done[name] = true
				if name == "devices" && len(res.Devices) > 0 {
					if err := l.updateDevicesV1(c.Old.Devices); err != nil {
						return nil, err
					}
				}
			}
		}
	}
	wants := asked(res, host.CgroupV1)
	if len(res.Devices) > 0 {
		wants = append(wants, want{"devices", "linux.resources.devices"})
	}
	for _, w := range wants {
		if !done[w.controller] {
			return nil, noGroup(w)
		}
	}
	return b.Steps, nil
}

// checkV1 refuses what version 1 would bend silently.
func checkV1(res *specs.LinuxResources) error {
	if res.CPU != nil && isSet(res.CPU.Shares) {
		if n := *res.CPU.Shares; n < minShares || n > maxShares {
			return invalid("cpu.shares", strconv.FormatUint(n, 10)+" is not between 2 and 262144")
		}
	}
	return nil
}

// hierarchyV1 plans the limits of the controllers that share a hierarchy.
func (l *limits) hierarchyV1(controllers []string, devices bool) error {
	for _, c := range controllers {
		switch c {
		case "cpu":
			l.cpuV1()
		case "cpuset":
			l.cpusetV1()
		case "memory":
			l.memoryV1()
		case "pids":
			l.pids()
		case "blkio":
			l.blkio()
		case "hugetlb":
			l.hugepages(".limit_in_bytes")
		case "rdma":
			l.rdma()
		case "net_cls", "net_prio":
			l.network(c)
		case "devices":
			if !devices {
				continue
			}
			if err := l.devicesV1(); err != nil {
				return err
			}
		}
	}
	return nil
}

// memoryV1 writes the limit of memory, then that of memory and swap together, which
// must never be the smaller of the two. The kernel memory limit of OCI is ignored:
// Linux 5.4 deprecated it, and 6.1 took the file away. The one for the buffers of TCP
// stayed.
func (l *limits) memoryV1() {
	const why = "limit memory"
	m := l.res.Memory
	if m == nil {
		return
	}
	limit := setting{"memory.limit_in_bytes", strconv.FormatInt(number(m.Limit), 10), at + "memory/limit"}
	both := setting{"memory.memsw.limit_in_bytes", strconv.FormatInt(number(m.Swap), 10), at + "memory/swap"}
	switch {
	case isSet(m.Limit) && *m.Limit == -1:
		// Taking the limit away takes the other away first, which a kernel
		// without swap accounting does not have.
		l.set(why, both.file, "-1", limit.field).Ok(plan.ENOENT)
		l.set(why, limit.file, "-1", limit.field)
	case isSet(m.Limit) && isSet(m.Swap) && *m.Swap == -1:
		l.set(why, both.file, "-1", both.field).Ok(plan.ENOENT)
		l.set(why, limit.file, limit.value, limit.field)
	case isSet(m.Limit) && isSet(m.Swap):
		l.setPair(why, limit, both)
	case isSet(m.Limit):
		l.set(why, limit.file, limit.value, limit.field)
	case isSet(m.Swap):
		l.set(why, both.file, both.value, both.field).Ok(plan.ENOENT)
	}
	if isSet(m.Reservation) {
		l.set("reserve memory", "memory.soft_limit_in_bytes", strconv.FormatInt(*m.Reservation, 10), at+"memory/reservation")
	}
	if isSet(m.KernelTCP) {
		l.set("limit memory of TCP's buffers", "memory.kmem.tcp.limit_in_bytes", strconv.FormatInt(*m.KernelTCP, 10), at+"memory/kernelTCP")
	}
	if m.Swappiness != nil {
		l.set("set how eagerly memory is swapped out", "memory.swappiness", strconv.FormatUint(*m.Swappiness, 10), at+"memory/swappiness")
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		l.set("let processes wait for memory instead of killing one", "memory.oom_control", "1", at+"memory/disableOOMKiller")
	}
}

func (l *limits) cpuV1() {
	c := l.res.CPU
	if c == nil {
		return
	}
	shares := ""
	if isSet(c.Shares) {
		shares = strconv.FormatUint(*c.Shares, 10)
	}
	l.cpuWeight("cpu.shares", shares)
	l.bandwidth()
	l.realtime()
}

// bandwidth writes the period, the quota and the burst. The burst may not exceed
// the quota, so it comes last; if the new quota is below the old burst, the burst
// has to come first as well.
func (l *limits) bandwidth() {
	const why = "limit CPU time"
	c := l.res.CPU
	burst := strconv.FormatUint(number(c.Burst), 10)
	if c.Burst != nil && isSet(c.Quota) && l.living {
		l.set(why, "cpu.cfs_burst_us", burst, at+"cpu/burst").Ok(plan.EINVAL)
	}
	period := setting{"cpu.cfs_period_us", strconv.FormatUint(number(c.Period), 10), at + "cpu/period"}
	quota := setting{"cpu.cfs_quota_us", strconv.FormatInt(number(c.Quota), 10), at + "cpu/quota"}
	l.setSome(why, period, isSet(c.Period), quota, isSet(c.Quota))
	if c.Burst != nil {
		l.set(why, "cpu.cfs_burst_us", burst, at+"cpu/burst")
	}
}

// realtime writes the budget of real-time scheduling.
func (l *limits) realtime() {
	c := l.res.CPU
	period := setting{"cpu.rt_period_us", strconv.FormatUint(number(c.RealtimePeriod), 10), at + "cpu/realtimePeriod"}
	runtime := setting{"cpu.rt_runtime_us", strconv.FormatInt(number(c.RealtimeRuntime), 10), at + "cpu/realtimeRuntime"}
	l.setSome("limit real-time CPU time", period, isSet(c.RealtimePeriod), runtime, isSet(c.RealtimeRuntime))
}

// setSome is setPair for files of which either may be left alone.
func (l *limits) setSome(why string, first setting, hasFirst bool, second setting, hasSecond bool) {
	switch {
	case hasFirst && hasSecond:
		l.setPair(why, first, second)
	case hasFirst:
		l.set(why, first.file, first.value, first.field)
	case hasSecond:
		l.set(why, second.file, second.value, second.field)
	}
}

// cpusetV1 takes over from the parent what the configuration does not say.
func (l *limits) cpusetV1() {
	c := l.res.CPU
	if !l.living && (c == nil || c.Cpus == "") {
		inherit(l.b, l.dir, "cpuset.cpus")
	}
	if !l.living && (c == nil || c.Mems == "") {
		inherit(l.b, l.dir, "cpuset.mems")
	}
	l.cpuset()
}

// blkio writes weights for the BFQ scheduler, the only one that has had weights in
// version 1 since Linux 5.0, and throttles, a line for each device.
func (l *limits) blkio() {
	io := l.res.BlockIO
	if io == nil {
		return
	}
	const why = "set the share of block devices under contention"
	if w := number(io.Weight); w != 0 {
		l.set(why, "blkio.bfq.weight", strconv.Itoa(int(w)), at+"blockIO/weight")
	}
	for _, d := range io.WeightDevice {
		l.set(why, "blkio.bfq.weight_device", deviceName(d.LinuxBlockIODevice)+" "+strconv.Itoa(int(*d.Weight)), at+"blockIO/weightDevice")
	}
	for _, t := range [...]struct {
		list        []specs.LinuxThrottleDevice
		file, field string
	}{
		{io.ThrottleReadBpsDevice, "blkio.throttle.read_bps_device", at + "blockIO/throttleReadBpsDevice"},
		{io.ThrottleWriteBpsDevice, "blkio.throttle.write_bps_device", at + "blockIO/throttleWriteBpsDevice"},
		{io.ThrottleReadIOPSDevice, "blkio.throttle.read_iops_device", at + "blockIO/throttleReadIOPSDevice"},
		{io.ThrottleWriteIOPSDevice, "blkio.throttle.write_iops_device", at + "blockIO/throttleWriteIOPSDevice"},
	} {
		for _, d := range t.list {
			l.set("throttle block devices", t.file, deviceName(d.LinuxBlockIODevice)+" "+strconv.FormatUint(d.Rate, 10), t.field)
		}
	}
}

// network writes what tc(8) and the scheduler of a network interface tell the
// container's packets by.
func (l *limits) network(controller string) {
	n := l.res.Network
	if n == nil {
		return
	}
	if controller == "net_cls" {
		if n.ClassID != nil {
			l.set("mark the packets", "net_cls.classid", strconv.FormatUint(uint64(*n.ClassID), 10), at+"network/classID")
		}
		return
	}
	for _, p := range n.Priorities {
		l.set("rank the packets", "net_prio.ifpriomap", p.Name+" "+strconv.FormatUint(uint64(p.Priority), 10), at+"network/priorities")
	}
}
