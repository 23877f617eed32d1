package container

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Bounds of the kernel's CPU controller: shares are clamped by the kernel to
// this range, the period is refused outside of it (kernel/sched/core.c).
const (
	minCPUShares, maxCPUShares = 2, 262144
	minCPUPeriod, maxCPUPeriod = 1_000, 1_000_000
	minCPUQuota                = 1_000
	// defaultCPUPeriod is the period in microseconds in which --cpus is
	// measured out.
	defaultCPUPeriod = 100_000
)

// validateResources refuses limits that contradict each other or the machine.
// The rules are docker's.
func validateResources(r Resources, m Machine) error {
	if err := validateMemory(r); err != nil {
		return err
	}
	if err := validateSwapping(r, m); err != nil {
		return err
	}
	if err := validateCPU(r, m); err != nil {
		return err
	}
	if err := validateList("--cpuset-cpus", r.CPUs, m.CPUSet); err != nil {
		return err
	}
	if err := validateList("--cpuset-mems", r.MemoryNodes, m.MemoryNodes); err != nil {
		return err
	}
	if r.Pids < -1 {
		return fmt.Errorf("--pids-limit %d: use a positive number, or -1 for no limit", r.Pids)
	}
	return nil
}

func validateMemory(r Resources) error {
	switch {
	case r.Memory != 0 && r.Memory < MinMemory:
		return fmt.Errorf("--memory %s: the smallest limit is %s", humanBytes(r.Memory), humanBytes(MinMemory))
	case r.MemorySwap != 0 && r.Memory == 0:
		return fmt.Errorf("--memory-swap needs --memory: it is the sum of memory and swap")
	case r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return fmt.Errorf("--memory-swap %s is below --memory %s: it is the sum of memory and swap",
			humanBytes(r.MemorySwap), humanBytes(r.Memory))
	case r.MemoryReservation != 0 && r.MemoryReservation < MinMemory:
		return fmt.Errorf("--memory-reservation %s: the smallest is %s", humanBytes(r.MemoryReservation), humanBytes(MinMemory))
	case r.Memory > 0 && r.MemoryReservation > r.Memory:
		return fmt.Errorf("--memory-reservation %s is above --memory %s", humanBytes(r.MemoryReservation), humanBytes(r.Memory))
	}
	return nil
}

// validateSwapping refuses what version 2 of control groups has no word for.
func validateSwapping(r Resources, m Machine) error {
	switch {
	case r.Swappiness != nil && (*r.Swappiness < 0 || *r.Swappiness > 100):
		return fmt.Errorf("--memory-swappiness %d: use a number from 0 to 100, or -1 for the host's", *r.Swappiness)
	case r.Swappiness != nil && m.CgroupV2:
		return errors.New("--memory-swappiness: version 2 of control groups, which this machine has, knows it for the whole machine only: bound swap with --memory-swap")
	case r.OOMKillDisable && m.CgroupV2:
		return errors.New("--oom-kill-disable: version 2 of control groups, which this machine has, cannot do that: use --oom-score-adj")
	case r.OOMKillDisable && r.Memory == 0:
		return errors.New("--oom-kill-disable needs --memory: without a limit it is the machine that would come to a stop")
	}
	return nil
}

func humanBytes(n int64) string { return units.BytesSize(float64(n)) }

func validateCPU(r Resources, m Machine) error {
	switch {
	case r.NanoCPUs != 0 && (r.CPUPeriod != 0 || r.CPUQuota != 0):
		return fmt.Errorf("--cpus cannot be used with --cpu-period or --cpu-quota: it sets both")
	case r.NanoCPUs != 0 && r.NanoCPUs < 1e7:
		return fmt.Errorf("--cpus %g: the smallest is 0.01", float64(r.NanoCPUs)/1e9)
	case m.CPUs > 0 && r.NanoCPUs > int64(m.CPUs)*1e9:
		return fmt.Errorf("--cpus %g: this machine has %d", float64(r.NanoCPUs)/1e9, m.CPUs)
	case r.CPUShares < 0:
		return fmt.Errorf("--cpu-shares %d: use a positive number", r.CPUShares)
	case r.CPUPeriod != 0 && (r.CPUPeriod < minCPUPeriod || r.CPUPeriod > maxCPUPeriod):
		return fmt.Errorf("--cpu-period %d: use %d to %d microseconds", r.CPUPeriod, minCPUPeriod, maxCPUPeriod)
	case r.CPUQuota != 0 && r.CPUQuota != -1 && r.CPUQuota < minCPUQuota:
		return fmt.Errorf("--cpu-quota %d: use at least %d microseconds, or -1 for no limit", r.CPUQuota, minCPUQuota)
	}
	return nil
}

func validateList(flag, list, available string) error {
	if list == "" {
		return nil
	}
	asked, err := ParseCPUList(list)
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	if available == "" {
		return nil
	}
	have, err := ParseCPUList(available)
	if err != nil {
		return fmt.Errorf("%s: what the machine has: %w", flag, err)
	}
	for _, n := range asked {
		if !slices.Contains(have, n) {
			return fmt.Errorf("%s %s: number %d is not available: this machine has %s", flag, list, n, available)
		}
	}
	return nil
}

// specResources says the limits in the words of the specification. devices are
// the rules of the device cgroup.
func specResources(r Resources, devices []specs.LinuxDeviceCgroup) *specs.LinuxResources {
	out := &specs.LinuxResources{Devices: devices, Memory: specMemory(r), CPU: specCPU(r)}
	if r.Pids != 0 {
		out.Pids = &specs.LinuxPids{Limit: &r.Pids}
	}
	out.BlockIO = specBlockIO(r.BlockIOWeight, BlockIO{}, nil)
	return out
}

func specMemory(r Resources) *specs.LinuxMemory {
	m := specs.LinuxMemory{
		Limit:       orNil(r.Memory),
		Swap:        orNil(r.MemorySwap),
		Reservation: orNil(r.MemoryReservation),
	}
	if r.Swappiness != nil {
		n := uint64(*r.Swappiness)
		m.Swappiness = &n
	}
	m.DisableOOMKiller = orNil(r.OOMKillDisable)
	if m == (specs.LinuxMemory{}) {
		return nil
	}
	return &m
}

func specCPU(r Resources) *specs.LinuxCPU {
	c := specs.LinuxCPU{Cpus: r.CPUs, Mems: r.MemoryNodes}
	if r.CPUShares != 0 {
		shares := uint64(min(max(r.CPUShares, minCPUShares), maxCPUShares))
		c.Shares = &shares
	}
	quota, period := r.CPUQuota, uint64(r.CPUPeriod)
	if r.NanoCPUs != 0 {
		quota, period = r.NanoCPUs*defaultCPUPeriod/1e9, defaultCPUPeriod
	}
	c.Quota, c.Period = orNil(quota), orNil(period)
	if c == (specs.LinuxCPU{}) {
		return nil
	}
	return &c
}

// orNil is how the specification says "not given".
func orNil[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// specRlimits names the limits as getrlimit(2) does.
func specRlimits(limits []Ulimit) []specs.POSIXRlimit {
	var out []specs.POSIXRlimit
	for _, l := range limits {
		r := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(l.Name), Soft: uint64(l.Soft), Hard: uint64(l.Hard)}
		// The same limit asked for twice: the last one wins.
		out = slices.DeleteFunc(out, func(o specs.POSIXRlimit) bool { return o.Type == r.Type })
		out = append(out, r)
	}
	return out
}

// MergeResources are the limits of a container of which some change: what change leaves zero
// stays. CPU time is either NanoCPUs or a period with a quota; who sets one gives up the other. No Memory and no NanoCPUs,
// -1 in a change, are 0 in what comes of it; without a limit of memory there is none of swap.
func MergeResources(old, change Resources, m Machine) (Resources, error) {
	out := old
	if change.NanoCPUs != 0 {
		out.CPUPeriod, out.CPUQuota = 0, 0
	}
	if change.CPUPeriod != 0 || change.CPUQuota != 0 {
		out.NanoCPUs = 0
	}
	for _, f := range [...]struct{ to, from *int64 }{
		{&out.Memory, &change.Memory}, {&out.MemorySwap, &change.MemorySwap}, {&out.MemoryReservation, &change.MemoryReservation},
		{&out.NanoCPUs, &change.NanoCPUs}, {&out.CPUShares, &change.CPUShares}, {&out.CPUPeriod, &change.CPUPeriod},
		{&out.CPUQuota, &change.CPUQuota}, {&out.Pids, &change.Pids},
	} {
		if *f.from != 0 {
			*f.to = *f.from
		}
	}
	if change.Memory == Lifted {
		out.Memory, out.MemorySwap = 0, max(change.MemorySwap, 0)
	}
	if change.NanoCPUs == Lifted {
		out.NanoCPUs = 0
	}
	out.BlockIOWeight = cmp.Or(change.BlockIOWeight, old.BlockIOWeight)
	out.CPUs, out.MemoryNodes = cmp.Or(change.CPUs, old.CPUs), cmp.Or(change.MemoryNodes, old.MemoryNodes)
	if out.MemorySwap > 0 && change.MemorySwap == 0 && out.MemorySwap < out.Memory {
		return out, fmt.Errorf("--memory %s is above the limit of memory and swap, %s: change --memory-swap too",
			humanBytes(out.Memory), humanBytes(out.MemorySwap))
	}
	return out, validateResources(out, m)
}

// ResourceChange says a change of limits in the words of the specification. Who can use which devices
// does not change.
func ResourceChange(change Resources) *specs.LinuxResources {
	if change.Memory == Lifted {
		change.MemorySwap = Lifted
	}
	if change.NanoCPUs == Lifted {
		change.NanoCPUs, change.CPUPeriod, change.CPUQuota = 0, 0, Lifted
	}
	return specResources(change, nil)
}

// SetResources puts limits into a specification. Who can use which devices stays, and so do the bounds
// of single ones.
func SetResources(spec *specs.Spec, r Resources) {
	if spec == nil || spec.Linux == nil {
		return
	}
	before := spec.Linux.Resources
	if before == nil {
		before = new(specs.LinuxResources)
	}
	after := specResources(r, before.Devices)
	if b := before.BlockIO; b != nil {
		changed := *b
		changed.Weight = orNil(r.BlockIOWeight)
		after.BlockIO = &changed
	}
	spec.Linux.Resources = after
}
