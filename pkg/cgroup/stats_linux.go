package cgroup

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containr/containr/pkg/host"
)

// Stats is everything that the kernel counts for a container, under the names that
// "runc events --stats" prints it with, which programs read. Usage is the same for
// people. What the machine does not count is 0 and, but for a few members, left out.
// Times are nanoseconds and sizes bytes.
type Stats struct {
	CPU    CPUStats                  `json:"cpu"`
	CPUSet CPUSetStats               `json:"cpuset"`
	Memory MemoryStats               `json:"memory"`
	Pids   PidsStats                 `json:"pids"`
	Blkio  BlkioStats                `json:"blkio"`
	Huge   map[string]HugetlbStats   `json:"hugetlb"`
	RDT    struct{}                  `json:"intel_rdt"`
	Links  []map[string]StatsCounter `json:"network_interfaces"`
}

// StatsCounter is one counter of a network interface. The runtime makes none, so it
// has none to report.
type StatsCounter uint64

// CPUStats is time on CPUs.
type CPUStats struct {
	Usage struct {
		Total        uint64   `json:"total,omitempty"`
		Percpu       []uint64 `json:"percpu,omitempty"`
		PercpuKernel []uint64 `json:"percpu_kernel,omitempty"`
		PercpuUser   []uint64 `json:"percpu_user,omitempty"`
		Kernel       uint64   `json:"kernel"`
		User         uint64   `json:"user"`
	} `json:"usage"`
	Throttling struct {
		Periods   uint64 `json:"periods,omitempty"`
		Throttled uint64 `json:"throttledPeriods,omitempty"`
		Time      uint64 `json:"throttledTime,omitempty"`
	} `json:"throttling"`
	PSI *PressureStats `json:"psi,omitempty"`
}

// CPUSetStats is version 1's account of what the container is pinned to.
type CPUSetStats struct {
	CPUs             []uint16 `json:"cpus,omitempty"`
	CPUExclusive     uint64   `json:"cpu_exclusive"`
	Mems             []uint16 `json:"mems,omitempty"`
	MemHardwall      uint64   `json:"mem_hardwall"`
	MemExclusive     uint64   `json:"mem_exclusive"`
	MemoryMigrate    uint64   `json:"memory_migrate"`
	MemorySpreadPage uint64   `json:"memory_spread_page"`
	MemorySpreadSlab uint64   `json:"memory_spread_slab"`
	MemoryPressure   uint64   `json:"memory_pressure"`
	SchedLoadBalance uint64   `json:"sched_load_balance"`
	SchedRelaxDomain int64    `json:"sched_relax_domain_level"`
}

// MemoryCounter is one kind of memory.
type MemoryCounter struct {
	Limit   uint64 `json:"limit"`
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// MemoryStats is memory. Swap counts memory and swap together, on version 2 too.
type MemoryStats struct {
	Cache     uint64            `json:"cache,omitempty"`
	Usage     MemoryCounter     `json:"usage"`
	Swap      MemoryCounter     `json:"swap"`
	Kernel    MemoryCounter     `json:"kernel"`
	KernelTCP MemoryCounter     `json:"kernelTCP"`
	Raw       map[string]uint64 `json:"raw,omitempty"`
	PSI       *PressureStats    `json:"psi,omitempty"`
}

// PidsStats counts processes and threads; a Limit of 0 is none.
type PidsStats struct {
	Current uint64 `json:"current,omitempty"`
	Limit   uint64 `json:"limit,omitempty"`
}

// BlkioEntry is a counter of one block device.
type BlkioEntry struct {
	Major uint64 `json:"major,omitempty"`
	Minor uint64 `json:"minor,omitempty"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value,omitempty"`
}

// BlkioStats is what went to and came from block devices.
type BlkioStats struct {
	ServiceBytes []BlkioEntry   `json:"ioServiceBytesRecursive,omitempty"`
	Serviced     []BlkioEntry   `json:"ioServicedRecursive,omitempty"`
	Queued       []BlkioEntry   `json:"ioQueueRecursive,omitempty"`
	ServiceTime  []BlkioEntry   `json:"ioServiceTimeRecursive,omitempty"`
	WaitTime     []BlkioEntry   `json:"ioWaitTimeRecursive,omitempty"`
	Merged       []BlkioEntry   `json:"ioMergedRecursive,omitempty"`
	Time         []BlkioEntry   `json:"ioTimeRecursive,omitempty"`
	Sectors      []BlkioEntry   `json:"sectorsRecursive,omitempty"`
	PSI          *PressureStats `json:"psi,omitempty"`
}

// HugetlbStats counts the huge pages of one size.
type HugetlbStats struct {
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// PressureStats is Pressure with its sums in microseconds, as the kernel has them.
type PressureStats struct {
	Some PressureLine `json:"some"`
	Full PressureLine `json:"full"`
}

// PressureLine is one line of a pressure file.
type PressureLine struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  uint64  `json:"total"`
}

// Stats reads all counters of the group. Like Usage, it is no picture of one moment.
func (g *Group) Stats() (*Stats, error) {
	s := &Stats{Huge: map[string]HugetlbStats{}}
	r := &reader{group: g}
	if g.mode == host.CgroupV2 {
		r.statsV2(s)
	} else {
		r.statsV1(s)
	}
	if r.err != nil {
		return nil, fmt.Errorf("counters of the control group: %w", r.err)
	}
	return s, nil
}

func (r *reader) statsV1(s *Stats) {
	if dir, ok := r.group.path("cpuacct"); ok {
		r.cpuStatsV1(dir, s)
	}
	if dir, ok := r.group.path("cpu"); ok {
		stat := r.keyed(dir, "cpu.stat")
		t := &s.CPU.Throttling
		t.Periods, t.Throttled, t.Time = stat["nr_periods"], stat["nr_throttled"], stat["throttled_time"]
	}
	if dir, ok := r.group.path("cpuset"); ok {
		s.CPUSet = r.cpusetStats(dir)
	}
	if dir, ok := r.group.path("memory"); ok {
		m := &s.Memory
		m.Raw = r.keyed(dir, "memory.stat")
		m.Cache = m.Raw["cache"]
		m.Usage, m.Swap = r.memoryCounterV1(dir, "memory"), r.memoryCounterV1(dir, "memory.memsw")
		m.Kernel, m.KernelTCP = r.memoryCounterV1(dir, "memory.kmem"), r.memoryCounterV1(dir, "memory.kmem.tcp")
	}
	if dir, ok := r.group.path("pids"); ok {
		s.Pids = r.pidsStats(dir)
	}
	if dir, ok := r.group.path("blkio"); ok {
		r.blkioStatsV1(dir, &s.Blkio)
	}
	if dir, ok := r.group.path("hugetlb"); ok {
		for _, size := range r.hugeSizes(dir, ".usage_in_bytes") {
			name := "hugetlb." + size
			if _, reserved := r.optional(dir, name+".rsvd.usage_in_bytes"); reserved {
				name += ".rsvd"
			}
			s.Huge[size] = HugetlbStats{Usage: r.number(dir, name+".usage_in_bytes"), Max: r.number(dir, name+".max_usage_in_bytes"),
				Failcnt: r.number(dir, name+".failcnt")}
		}
	}
}

// ticksPerSecond is USER_HZ, which the kernel shows times in whatever its own is.
const ticksPerSecond = 100

func (r *reader) cpuStatsV1(dir string, s *Stats) {
	u := &s.CPU.Usage
	u.Total = r.number(dir, "cpuacct.usage")
	u.Percpu = numbers(r.text(dir, "cpuacct.usage_percpu"))
	stat := r.keyed(dir, "cpuacct.stat")
	u.User, u.Kernel = stat["user"]*(1e9/ticksPerSecond), stat["system"]*(1e9/ticksPerSecond)
	for line := range strings.Lines(r.text(dir, "cpuacct.usage_all")) { // "cpu user system", with a heading
		if f := numbers(line); len(f) >= 3 {
			u.PercpuUser, u.PercpuKernel = append(u.PercpuUser, f[1]), append(u.PercpuKernel, f[2])
		}
	}
}

// numbers reads the numbers of a line; other words are left out.
func numbers(text string) []uint64 {
	var list []uint64
	for word := range strings.FieldsSeq(text) {
		if n, err := strconv.ParseUint(word, 10, 64); err == nil {
			list = append(list, n)
		}
	}
	return list
}

func (r *reader) cpusetStats(dir string) CPUSetStats {
	n := func(file string) uint64 { return r.number(dir, "cpuset."+file) }
	relax, _ := strconv.ParseInt(strings.TrimSpace(r.text(dir, "cpuset.sched_relax_domain_level")), 10, 64) // -1 is usual
	return CPUSetStats{
		CPUs: members(r.text(dir, "cpuset.cpus")), CPUExclusive: n("cpu_exclusive"),
		Mems: members(r.text(dir, "cpuset.mems")), MemHardwall: n("mem_hardwall"), MemExclusive: n("mem_exclusive"),
		MemoryMigrate: n("memory_migrate"), MemorySpreadPage: n("memory_spread_page"), MemorySpreadSlab: n("memory_spread_slab"),
		MemoryPressure: n("memory_pressure"), SchedLoadBalance: n("sched_load_balance"), SchedRelaxDomain: relax,
	}
}

// members reads a list as cpuset(7) has it, "0-3,7".
func members(text string) []uint16 {
	var list []uint16
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, err1 := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil {
			continue
		}
		for n := a; n <= b; n++ {
			list = append(list, uint16(n))
		}
	}
	return list
}

func (r *reader) memoryCounterV1(dir, name string) MemoryCounter {
	return MemoryCounter{Limit: r.number(dir, name+".limit_in_bytes"), Usage: r.number(dir, name+".usage_in_bytes"),
		Max: r.number(dir, name+".max_usage_in_bytes"), Failcnt: r.number(dir, name+".failcnt")}
}

func (r *reader) pidsStats(dir string) PidsStats {
	p := PidsStats{Current: r.number(dir, "pids.current"), Limit: r.number(dir, "pids.max")}
	if p.Limit == Unlimited {
		p.Limit = 0
	}
	return p
}

// blkioStatsV1 takes the counters of the first scheduler that has any: bfq, or those
// that work with all. cfq went with Linux 5.0.
func (r *reader) blkioStatsV1(dir string, s *BlkioStats) {
	for _, prefix := range [...]string{"blkio.bfq.", "blkio.throttle."} {
		serviced := entries(r.text(dir, prefix+"io_serviced_recursive"))
		if serviced == nil {
			continue
		}
		read := func(file string) []BlkioEntry { return entries(r.text(dir, prefix+file)) }
		s.Serviced, s.ServiceBytes = serviced, read("io_service_bytes_recursive")
		s.Queued, s.ServiceTime, s.WaitTime = read("io_queued_recursive"), read("io_service_time_recursive"), read("io_wait_time_recursive")
		s.Merged, s.Time, s.Sectors = read("io_merged_recursive"), read("time_recursive"), read("sectors_recursive")
		return
	}
}

// entries reads lines like "8:0 Read 4096" and "8:0 12". The sum over all devices, a
// line without one, is left out.
func entries(text string) []BlkioEntry {
	var list []BlkioEntry
	for line := range strings.Lines(text) {
		f := strings.FieldsFunc(line, func(c rune) bool { return c == ' ' || c == ':' || c == '\n' })
		if len(f) != 3 && len(f) != 4 {
			continue
		}
		var e BlkioEntry
		major, err1 := strconv.ParseUint(f[0], 10, 32)
		minor, err2 := strconv.ParseUint(f[1], 10, 32)
		value, err3 := strconv.ParseUint(f[len(f)-1], 10, 64)
		if err1 != nil || err2 != nil || err3 != nil {
			continue
		}
		if len(f) == 4 {
			e.Op = f[2]
		}
		e.Major, e.Minor, e.Value = major, minor, value
		list = append(list, e)
	}
	return list
}

// hugeSizes lists the sizes of huge pages that the group has files for: "2MB".
func (r *reader) hugeSizes(dir, suffix string) []string {
	f, err := r.group.open(dir, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil
	}
	var sizes []string
	for _, name := range names {
		size, ok := strings.CutPrefix(name, "hugetlb.")
		if size, is := strings.CutSuffix(size, suffix); ok && is && !strings.Contains(size, ".") {
			sizes = append(sizes, size)
		}
	}
	return sizes
}

func (r *reader) statsV2(s *Stats) {
	dir, ok := r.group.path("")
	if !ok {
		return
	}
	stat := r.keyed(dir, "cpu.stat")
	u, t := &s.CPU.Usage, &s.CPU.Throttling
	u.Total, u.User, u.Kernel = stat["usage_usec"]*1000, stat["user_usec"]*1000, stat["system_usec"]*1000
	t.Periods, t.Throttled, t.Time = stat["nr_periods"], stat["nr_throttled"], stat["throttled_usec"]*1000
	s.CPU.PSI, s.Memory.PSI, s.Blkio.PSI = r.pressureStats(dir, "cpu"), r.pressureStats(dir, "memory"), r.pressureStats(dir, "io")
	s.Pids = r.pidsStats(dir)
	r.memoryStatsV2(dir, &s.Memory)
	for _, d := range devicesUsedV2(r.text(dir, "io.stat")) {
		entry := func(op string, value uint64) BlkioEntry {
			return BlkioEntry{Major: uint64(d.Major), Minor: uint64(d.Minor), Op: op, Value: value}
		}
		s.Blkio.ServiceBytes = append(s.Blkio.ServiceBytes, entry("Read", d.ReadBytes), entry("Write", d.WriteBytes))
		s.Blkio.Serviced = append(s.Blkio.Serviced, entry("Read", d.Reads), entry("Write", d.Writes))
	}
	for _, size := range r.hugeSizes(dir, ".current") {
		name := "hugetlb." + size
		s.Huge[size] = HugetlbStats{Usage: r.number(dir, name+".current"), Failcnt: r.keyed(dir, name+".events")["max"]}
	}
}

func (r *reader) memoryStatsV2(dir string, m *MemoryStats) {
	current, ok := r.optional(dir, "memory.current")
	if !ok {
		return
	}
	m.Raw = r.keyed(dir, "memory.stat")
	m.Cache = m.Raw["file"]
	m.Usage = MemoryCounter{Limit: r.number(dir, "memory.max"), Usage: current, Max: r.number(dir, "memory.peak"),
		Failcnt: r.keyed(dir, "memory.events")["max"]}
	swap, ok := r.optional(dir, "memory.swap.current")
	if !ok {
		return
	}
	m.Swap = MemoryCounter{Limit: r.number(dir, "memory.swap.max"), Usage: swap + current}
	if m.Swap.Limit != Unlimited {
		m.Swap.Limit += min(m.Usage.Limit, Unlimited-m.Swap.Limit)
	}
}

func (r *reader) pressureStats(dir, resource string) *PressureStats {
	p := parsePressure(r.pressure(dir, resource+".pressure"))
	if p == nil {
		return nil
	}
	line := func(s Stall) PressureLine {
		return PressureLine{Avg10: s.Avg10, Avg60: s.Avg60, Avg300: s.Avg300, Total: uint64(s.Total.Microseconds())}
	}
	return &PressureStats{Some: line(p.Some), Full: line(p.Full)}
}
