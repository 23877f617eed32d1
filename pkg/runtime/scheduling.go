package runtime

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// scheduling plans how the kernel treats the process: its execution domain, its place
// in the queues for the disk and the processors, where its memory comes from. It comes
// before privileges are given up, since most of it needs some, and after the control
// groups, which have a say in it.
func (c *compiler) scheduling(b *plan.Builder) error {
	for _, part := range []func(*plan.Builder) error{c.personality, c.ioPriority, c.scheduler, c.memoryPolicy} {
		if err := part(b); err != nil {
			return err
		}
	}
	return nil
}

func (c *compiler) personality(b *plan.Builder) error {
	p := c.Spec.Linux.Personality
	if p == nil {
		return nil
	}
	if len(p.Flags) > 0 {
		return errors.New("/linux/personality/flags: no flags are supported")
	}
	persona, ok := map[specs.LinuxPersonalityDomain]uint32{specs.PerLinux: 0, specs.PerLinux32: 8}[p.Domain]
	if !ok {
		return fmt.Errorf("/linux/personality/domain: unknown domain %q", p.Domain)
	}
	b.Do("the execution domain", linux.Personality{Persona: persona}).For("/linux/personality")
	return nil
}

// lowestIOPriority is the last level of a class, ioprio_set(2).
const lowestIOPriority = 7

func (c *compiler) ioPriority(b *plan.Builder) error {
	p := c.Spec.Process.IOPriority
	if p == nil {
		return nil
	}
	class, ok := map[specs.IOPriorityClass]int{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}[p.Class]
	if !ok {
		return fmt.Errorf("/process/ioPriority/class: unknown class %q", p.Class)
	}
	if p.Priority < 0 || p.Priority > lowestIOPriority {
		return fmt.Errorf("/process/ioPriority/priority: %d is not between 0 and %d", p.Priority, lowestIOPriority)
	}
	b.Do("its place in the queue for the disk", linux.Ioprio{Class: class, Level: p.Priority}).For("/process/ioPriority")
	return nil
}

func (c *compiler) scheduler(b *plan.Builder) error {
	s := c.Spec.Process.Scheduler
	if s == nil {
		return nil
	}
	policy, ok := linux.SchedPolicyByName(string(s.Policy))
	realtime := policy == linux.SchedFIFO || policy == linux.SchedRR
	switch {
	case !ok:
		return fmt.Errorf("/process/scheduler/policy: unknown policy %q", s.Policy)
	case s.Nice < -20 || s.Nice > 19:
		return fmt.Errorf("/process/scheduler/nice: %d is not between -20 and 19", s.Nice)
	case s.Priority != 0 && !realtime:
		return errors.New("/process/scheduler/priority: only SCHED_FIFO and SCHED_RR have priorities")
	case realtime && (s.Priority < 1 || s.Priority > 99):
		return fmt.Errorf("/process/scheduler/priority: %d is not between 1 and 99", s.Priority)
	case (s.Runtime != 0 || s.Deadline != 0 || s.Period != 0) && policy != linux.SchedDeadline:
		return errors.New("/process/scheduler: only SCHED_DEADLINE has runtime, deadline and period")
	}
	call := linux.SchedSetattr{Policy: policy, Nice: s.Nice, Priority: uint32(s.Priority), Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period}
	for _, name := range s.Flags {
		flag, ok := linux.SchedFlagByName(string(name))
		if !ok {
			return fmt.Errorf("/process/scheduler/flags: unknown flag %q", name)
		}
		call.Flags |= flag
	}
	b.Do("its place in the queue for the processors", call).For("/process/scheduler")
	return nil
}

func (c *compiler) memoryPolicy(b *plan.Builder) error {
	p := c.Spec.Linux.MemoryPolicy
	if p == nil {
		return nil
	}
	mode, ok := linux.MemoryPolicyByName(string(p.Mode))
	if !ok {
		return fmt.Errorf("/linux/memoryPolicy/mode: unknown mode %q", p.Mode)
	}
	call := linux.SetMempolicy{Mode: mode}
	for _, name := range p.Flags {
		flag, ok := linux.MemoryFlagByName(string(name))
		if !ok {
			return fmt.Errorf("/linux/memoryPolicy/flags: unknown flag %q", name)
		}
		call.Flags |= flag
	}
	if err := checkMemoryPolicy(call, c.Facts.Kernel); err != nil {
		return err
	}
	var err error
	if call.Nodes, err = parseList(p.Nodes); err != nil {
		return fmt.Errorf("/linux/memoryPolicy/nodes: %w", err)
	}
	b.Do("the nodes that its memory comes from", call).For("/linux/memoryPolicy")
	return nil
}

// checkMemoryPolicy refuses what the kernel is too old for; it would only say EINVAL.
func checkMemoryPolicy(c linux.SetMempolicy, k host.Kernel) error {
	switch {
	case c.Mode == linux.MpolPreferredMany && !k.AtLeast(5, 15):
		return errors.New("/linux/memoryPolicy/mode: MPOL_PREFERRED_MANY needs Linux 5.15")
	case c.Mode == linux.MpolWeightedInterleave && !k.AtLeast(6, 9):
		return errors.New("/linux/memoryPolicy/mode: MPOL_WEIGHTED_INTERLEAVE needs Linux 6.9")
	case c.Flags&linux.MpolNumaBalancing != 0 && !k.AtLeast(5, 12):
		return errors.New("/linux/memoryPolicy/flags: MPOL_F_NUMA_BALANCING needs Linux 5.12")
	}
	return nil
}

// maxListed is one more than the highest number of a CPU or a memory node that the
// kernel can be built for.
const maxListed = 8192

// parseList reads a list of CPUs or memory nodes, "0-3,7", as a mask; an empty list is
// no mask.
func parseList(list string) ([]uint64, error) {
	var mask []uint64
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.ParseUint(from, 10, 32)
		last := first
		if err == nil && isRange {
			last, err = strconv.ParseUint(to, 10, 32)
		}
		if err != nil || last < first || last >= maxListed {
			return nil, fmt.Errorf("%q is not a list of numbers and ranges below %d", list, maxListed)
		}
		for len(mask) <= int(last/64) {
			mask = append(mask, 0)
		}
		for n := first; n <= last; n++ {
			mask[n/64] |= 1 << (n % 64)
		}
	}
	return mask, nil
}

// affinity plans on which CPUs a process of exec runs: initial before it is in the
// container's control groups, which may change it, final after that.
func (c *execCompiler) affinity() (initial, final *linux.SchedSetaffinity, err error) {
	a := c.Spec.Process.ExecCPUAffinity
	if a == nil {
		return nil, nil, nil
	}
	masks := [2]*linux.SchedSetaffinity{}
	for i, list := range [...]struct{ name, cpus string }{{"initial", a.Initial}, {"final", a.Final}} {
		mask, err := parseList(list.cpus)
		if err != nil {
			return nil, nil, fmt.Errorf("/process/execCPUAffinity/%s: %w", list.name, err)
		}
		if mask != nil {
			masks[i] = &linux.SchedSetaffinity{Mask: mask}
		}
	}
	return masks[0], masks[1], nil
}
