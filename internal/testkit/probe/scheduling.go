package probe

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Scheduling is what the kernel knows of a process that waits for a processor or a disk.
type Scheduling struct {
	// Policy, Flags and Priority are those of sched_getattr(2), and so are the three
	// times, in nanoseconds.
	Policy, Priority          uint32
	Flags                     uint64
	Runtime, Deadline, Period uint64
	// IOPriority is the word of ioprio_get(2): the class, from bit 13 on, and the level.
	IOPriority int
	// CPUs are those that it may run on.
	CPUs []int
	// Memory is the policy of its own memory, as numa_maps says it: "interleave:0", or
	// "default"; empty where the kernel knows no memory nodes.
	Memory string
}

func (c *collector) scheduling() {
	s := &c.r.Scheduling
	attr, err := unix.SchedGetAttr(0, 0)
	c.note("sched_getattr", err)
	if err == nil {
		s.Policy, s.Priority, s.Flags = attr.Policy, attr.Priority, attr.Flags
		s.Runtime, s.Deadline, s.Period = attr.Runtime, attr.Deadline, attr.Period
	}
	const ioprioWhoProcess = 1
	word, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, ioprioWhoProcess, 0, 0)
	s.IOPriority = int(word)
	if errno != 0 {
		c.note("ioprio_get", errno)
	}
	var set unix.CPUSet
	c.note("sched_getaffinity", unix.SchedGetaffinity(0, &set))
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			s.CPUs = append(s.CPUs, i)
		}
	}
	// Kernels without memory nodes lack the file, which is no error of ours.
	maps, _ := os.ReadFile("/proc/self/numa_maps")
	if f := strings.Fields(string(maps)); len(f) > 1 {
		s.Memory = f[1]
	}
	c.r.Clocks = make(map[string]time.Duration)
	for name, id := range map[string]int32{"monotonic": unix.CLOCK_MONOTONIC, "boottime": unix.CLOCK_BOOTTIME} {
		var ts unix.Timespec
		c.note(name, unix.ClockGettime(id, &ts))
		c.r.Clocks[name] = time.Duration(ts.Nano())
	}
}
