package cgroup

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// usual are the controllers that every container gets where they can be had,
// because they count what usage statistics show. The others cost memory and time in
// every group and are enabled when asked for.
var usual = [...]string{"cpu", "io", "memory", "pids"}

// planV2 makes the directory, enables controllers on the way down to it, and leaves
// it open for the clone.
func planV2(spec *specs.Spec, f *host.Facts, loc location, res *specs.LinuxResources) (*Placement, error) {
	h := f.Hierarchies[0]
	base := h.Path
	if !loc.absolute {
		base = below(h.Path, path.Dir("/"+h.Own))
	}
	dir := base + loc.path
	b := plan.Build(plan.Host, plan.CgroupChapter)
	b.Steps = make([]plan.Step, 0, 16)
	e := enabler(b, h, asked(res, host.CgroupV2))
	if f.Administrator() {
		for _, above := range between(h.Path, base) {
			e.enable(above)
		}
	}
	e.enable(base)
	for _, parent := range loc.parents(base) {
		makeParent(b, parent)
		e.enable(parent)
	}
	loc.makeLeaf(b, dir)
	giveAway(b, spec, f, dir)
	l := &limits{b: b, dir: dir, res: res}
	l.unifiedHierarchy()
	var late []plan.Step
	if !f.Kernel.AtLeast(6, 4) {
		b.Steps, late = pinLate(b.Steps)
	}
	if f.Administrator() {
		l.devicesV2()
	}
	b.Do("have the process born inside the control group",
		linux.OpenHost{Path: dir, Flags: linux.OPath | linux.ODirectory | linux.OCloexec}).As(Directory)
	return &Placement{Setup: b.Steps, Into: linux.FD(Directory), Attach: late, Paths: []string{dir}}, nil
}

// pinLate takes the writes to a cpuset out of the steps, to be made when the process
// exists. Kernels before 6.4, unless they were mended later (5.10 was not), forget with
// CLONE_INTO_CGROUP to pin the newborn process to the CPUs of its group; but a change
// of the cpuset pins everybody who is in it.
func pinLate(steps []plan.Step) (early, late []plan.Step) {
	early = steps[:0]
	for _, s := range steps {
		if w, ok := s.Call.(linux.WriteFile); ok && strings.HasPrefix(path.Base(w.Path), "cpuset.") {
			s.Early()
			late = append(late, s)
			continue
		}
		early = append(early, s)
	}
	return early, late
}

// updateV2 enables the controllers that the container may not have needed so far,
// then writes. An ordinary user can enable them just above the container only; the
// directories further up belong to somebody else.
func updateV2(c Change, res *specs.LinuxResources, f *host.Facts) ([]plan.Step, error) {
	h := f.Hierarchies[0]
	if len(c.Paths) != 1 || !strings.HasPrefix(c.Paths[0], h.Path+"/") {
		return nil, fmt.Errorf("%w: the container has no control group of version 2", ErrNoController)
	}
	if len(res.Devices) > 0 && !f.Administrator() {
		return nil, fmt.Errorf("linux.resources.devices: %w: the filter needs the machine's administrator", ErrNotDelegated)
	}
	dir := c.Paths[0]
	b := plan.Build(plan.Host, plan.CgroupChapter)
	var rare []want
	for _, w := range asked(res, host.CgroupV2) {
		if !slices.Contains(usual[:], w.controller) {
			rare = append(rare, w)
		}
	}
	if len(rare) > 0 {
		e := enabling{b: b, needed: names(rare)}
		above := between(h.Path, dir)
		if !f.Administrator() {
			above = above[len(above)-1:]
		}
		for _, a := range above {
			e.enable(a)
		}
	}
	l := &limits{b: b, dir: dir, res: res, living: true}
	l.unifiedHierarchy()
	if len(res.Devices) > 0 {
		l.updateDevicesV2()
	}
	return b.Steps, nil
}

// between lists the directories from top down to just above dir.
func between(top, dir string) []string {
	var list []string
	for i := len(top); i < len(dir); i++ {
		if dir[i] == '/' {
			list = append(list, dir[:i])
		}
	}
	return list
}

// enabling writes subtree_control files: "+cpu +memory".
type enabling struct {
	b *plan.Builder
	// wished is all controllers that are good to have, needed those that a
	// limit cannot do without.
	wished, needed string
}

func enabler(b *plan.Builder, h host.Hierarchy, wants []want) enabling {
	wished := slices.Clone(wants)
	for _, c := range usual {
		is := func(w want) bool { return w.controller == c }
		if slices.Contains(h.Controllers, c) && !slices.ContainsFunc(wants, is) {
			wished = append(wished, want{controller: c})
		}
	}
	return enabling{b: b, needed: names(wants), wished: names(wished)}
}

// names joins controllers as subtree_control takes them, leaving out the files of
// the group itself ("cgroup.freeze"), which need none.
func names(wants []want) string {
	var s strings.Builder
	for _, w := range wants {
		if w.controller == "cgroup" {
			continue
		}
		if s.Len() > 0 {
			s.WriteByte(' ')
		}
		s.WriteString("+" + w.controller)
	}
	return s.String()
}

// enable hands controllers to the children of dir. One write takes all or nothing,
// so when it fails, those that a limit needs are tried alone and must succeed.
func (e *enabling) enable(dir string) {
	const why = "hand controllers down to the container's group"
	file := dir + "/cgroup.subtree_control"
	switch {
	case e.wished != "" && e.wished != e.needed:
		e.b.Do(why, linux.WriteFile{Path: file, Data: e.wished}).Try()
		if e.needed != "" {
			e.b.Do(why, linux.WriteFile{Path: file, Data: e.needed}).Else().For("/linux/resources")
		}
	case e.needed != "":
		e.b.Do(why, linux.WriteFile{Path: file, Data: e.needed}).For("/linux/resources")
	}
}

// unifiedHierarchy plans all limits of version 2. The map "unified" comes last,
// because it overrides.
func (l *limits) unifiedHierarchy() {
	l.memoryV2()
	l.cpuV2()
	l.cpuset()
	l.pids()
	l.io()
	l.hugepages(".max")
	l.rdma()
	for _, key := range unifiedKeys(l.res.Unified) {
		for line := range strings.Lines(l.res.Unified[key]) {
			l.set("write a setting as it was given", key, strings.TrimSuffix(line, "\n"), at+"unified/"+key)
		}
	}
}

// memoryV2 writes the limits. OCI's swap limit counts memory and swap together, as
// version 1 does; version 2 counts swap alone. Swap comes first: with more of it
// allowed than before, a smaller memory.max can still push pages out.
func (l *limits) memoryV2() {
	const why = "limit memory"
	m := l.res.Memory
	if m == nil {
		return
	}
	limit, swap := number(m.Limit), number(m.Swap)
	switch {
	case swap == -1 || limit == -1:
		l.set(why, "memory.swap.max", "max", at+"memory/swap").Ok(plan.ENOENT)
	case swap > 0 && swap == limit:
		l.set(why, "memory.swap.max", "0", at+"memory/swap").Ok(plan.ENOENT)
	case swap > 0:
		l.set(why, "memory.swap.max", strconv.FormatInt(swap-limit, 10), at+"memory/swap")
	}
	if limit != 0 {
		l.set(why, "memory.max", orMax(limit), at+"memory/limit")
	}
	if isSet(m.Reservation) {
		l.set("reserve memory", "memory.low", orMax(*m.Reservation), at+"memory/reservation")
	}
}

// orMax writes a number, and -1 as version 2 spells it.
func orMax(n int64) string {
	if n == -1 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

func (l *limits) cpuV2() {
	const why = "limit CPU time"
	c := l.res.CPU
	if c == nil {
		return
	}
	weight := ""
	if isSet(c.Shares) {
		weight = strconv.FormatUint(Weight(*c.Shares), 10)
	}
	l.cpuWeight("cpu.weight", weight)
	burst := strconv.FormatUint(number(c.Burst), 10)
	bandwidth := cpuMax(number(c.Quota), number(c.Period))
	if c.Burst != nil && bandwidth != "" && l.living {
		l.set(why, "cpu.max.burst", burst, at+"cpu/burst").Ok(plan.EINVAL)
	}
	if bandwidth != "" {
		l.set(why, "cpu.max", bandwidth, at+"cpu/quota")
	}
	if c.Burst != nil {
		l.set(why, "cpu.max.burst", burst, at+"cpu/burst")
	}
}

// cpuMax is the line of cpu.max. Without a period the kernel keeps the old one.
func cpuMax(quota int64, period uint64) string {
	switch {
	case quota == 0 && period == 0:
		return ""
	case period == 0:
		return orMax(quota)
	case quota <= 0:
		return "max " + strconv.FormatUint(period, 10)
	}
	return strconv.FormatInt(quota, 10) + " " + strconv.FormatUint(period, 10)
}

// The range of cpu.shares: MIN_SHARES and MAX_SHARES of kernel/sched/sched.h.
const (
	minShares = 2
	maxShares = 1 << 18
)

// Weight converts CPU shares of version 1 (2 to 262144, default 1024) to the weight
// of version 2 (1 to 10000, default 100).
//
// The curve is the one that runc 1.3.2 and crun 1.23 changed to, so that all
// runtimes share a CPU alike: with l the binary logarithm of the shares, the weight
// is 10 to the power of (l*l + 125*l)/612 - 7/34, rounded up. It goes through the
// minimum, the default and the maximum of both scales; the straight line that was
// used before gave a container with default shares a weight of 39.
func Weight(shares uint64) uint64 {
	switch {
	case shares <= minShares:
		return 1
	case shares >= maxShares:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (float64(l*l)+float64(125*l))/612-7.0/34)))
}

// ioWeight converts a weight of OCI and BFQ (10 to 1000) to that of io.weight (1 to
// 10000), along a straight line.
func ioWeight(w uint16) uint64 { return 1 + (uint64(w)-10)*9999/990 }

// io writes weights, for the BFQ scheduler where the kernel has it and for its
// successor iocost where not, and throttles, a line for each device.
func (l *limits) io() {
	io := l.res.BlockIO
	if io == nil {
		return
	}
	if w := number(io.Weight); w != 0 {
		l.setIOWeight("", w, at+"blockIO/weight")
	}
	for _, d := range io.WeightDevice {
		l.setIOWeight(deviceName(d.LinuxBlockIODevice)+" ", *d.Weight, at+"blockIO/weightDevice")
	}
	for _, line := range throttles(io) {
		l.set("throttle block devices", "io.max", line, at+"blockIO")
	}
}

func (l *limits) setIOWeight(device string, w uint16, field string) {
	const why = "set the share of block devices under contention"
	l.set(why, "io.bfq.weight", device+strconv.Itoa(int(w)), field).Ok(plan.ENOENT, plan.EOPNOTSUP)
	l.set(why, "io.weight", device+strconv.FormatUint(ioWeight(w), 10), field).Else()
}

// throttles gathers the four lists of OCI into one line for each device, "8:0
// rbps=1048576 wiops=100", in the order in which devices are first named.
func throttles(io *specs.LinuxBlockIO) []string {
	var order []specs.LinuxBlockIODevice
	var lines []string
	for _, t := range [...]struct {
		key  string
		list []specs.LinuxThrottleDevice
	}{
		{" rbps=", io.ThrottleReadBpsDevice}, {" wbps=", io.ThrottleWriteBpsDevice},
		{" riops=", io.ThrottleReadIOPSDevice}, {" wiops=", io.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.list {
			i := slices.Index(order, d.LinuxBlockIODevice)
			if i < 0 {
				i = len(order)
				order = append(order, d.LinuxBlockIODevice)
				lines = append(lines, deviceName(d.LinuxBlockIODevice))
			}
			rate := "max"
			if d.Rate != 0 {
				rate = strconv.FormatUint(d.Rate, 10)
			}
			lines[i] += t.key + rate
		}
	}
	return lines
}
