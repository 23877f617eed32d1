package cgroup

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Change is new limits for a living container.
type Change struct {
	// Paths are the container's directories, as Placement.Paths had them, and Unit
	// its unit.
	Paths []string
	Unit  Unit
	// Old is what the container has: the limits of its configuration as Merge
	// left them after earlier changes; nil if it has none.
	Old *specs.LinuxResources
	// New is what changes. What it does not set stays.
	New *specs.LinuxResources
}

// Update plans the change. Limits that share a file or constrain each other (memory
// with and without swap, quota and period) are completed from the old ones. A list of
// device rules replaces the old list as a whole; the filter of version 2 is exchanged
// in one step, the lists of version 1 line by line.
//
// Group.Fits is to be asked before the steps are made, if New.Memory wants its limit
// to be compared with the usage.
//
// Errors wrap ErrInvalid or ErrNoController.
func Update(c Change, f *host.Facts) ([]plan.Step, error) {
	if c.Old == nil {
		c.Old = &specs.LinuxResources{}
	}
	res := complete(c.Old, c.New)
	if err := check(res); err != nil {
		return nil, err
	}
	if err := available(f, res); err != nil {
		return nil, err
	}
	version := updateV1
	if f.CgroupMode == host.CgroupV2 {
		version = updateV2
	}
	steps, err := version(c, res, f)
	if err != nil {
		return nil, err
	}
	return append(updateUnit(c, res, f), steps...), nil
}

// updateUnit tells systemd, before the files are written, so that they have the last
// word.
func updateUnit(c Change, res *specs.LinuxResources, f *host.Facts) []plan.Step {
	if c.Unit.Name == "" {
		return nil
	}
	properties := unitLimits(res, f)
	if len(c.New.Devices) > 0 {
		properties = append([]string{"DeviceAllow a(ss) 0"}, properties...) // what is given is added to a list; this empties it
	} else {
		properties = slices.DeleteFunc(properties, func(p string) bool { return strings.HasPrefix(p, "Device") })
	}
	if len(properties) == 0 {
		return nil
	}
	b := plan.Build(plan.Host, plan.CgroupChapter)
	b.Do("systemd is to know, lest it takes the limits back", linux.SetUnit{User: c.Unit.User, Unit: c.Unit.Name, Properties: properties})
	return b.Steps
}

// complete adds to a change what it leaves to the old limits but what it cannot be
// written without. The sum of memory and swap stays when the limit of memory alone
// changes, as it does in version 1 by itself.
func complete(old, change *specs.LinuxResources) *specs.LinuxResources {
	res := *change
	if m := change.Memory; m != nil {
		c := *m
		if o := old.Memory; o != nil {
			if isSet(c.Swap) && !isSet(c.Limit) {
				c.Limit = o.Limit
			}
			if number(c.Limit) > 0 && !isSet(c.Swap) && number(o.Swap) > 0 {
				c.Swap = o.Swap
			}
		}
		res.Memory = &c
	}
	if cpu := change.CPU; cpu != nil {
		c := *cpu
		if o := old.CPU; o != nil && isSet(c.Period) && !isSet(c.Quota) {
			c.Quota = o.Quota
		}
		res.CPU = &c
	}
	return &res
}

// updateDevicesV1 changes the lines that differ: a process of the container never
// misses a device that it had before and has afterwards. Only where the default turns
// from denying to allowing or back, the kernel's list begins anew.
func (l *limits) updateDevicesV1(old []specs.LinuxDeviceCgroup) error {
	const field = at + "devices"
	was, is := newDevicePolicy(old), newDevicePolicy(l.res.Devices)
	if was.allow != is.allow {
		return l.restartDevicesV1(is)
	}
	before, err := was.exceptions()
	if err != nil {
		return err
	}
	after, err := is.exceptions()
	if err != nil {
		return err
	}
	add, drop := "devices.allow", "devices.deny"
	if is.allow {
		add, drop = drop, add
	}
	for _, e := range after {
		if e.access &^= accessIn(before, e); e.access != 0 {
			l.set("change the devices", add, e.String(), field)
		}
	}
	for _, e := range before {
		if e.access &^= accessIn(after, e); e.access != 0 {
			l.set("change the devices", drop, e.String(), field)
		}
	}
	return nil
}

// restartDevicesV1 writes the default and all exceptions from it.
func (l *limits) restartDevicesV1(p devicePolicy) error {
	const why, field = "change the devices", at + "devices"
	list, err := p.exceptions()
	if err != nil {
		return err
	}
	file, exceptions := "devices.deny", "devices.allow"
	if p.allow {
		file, exceptions = exceptions, file
	}
	l.set(why, file, "a", field)
	for _, e := range list {
		l.set(why, exceptions, e.String(), field)
	}
	return nil
}

// accessIn is what the list says about exactly the devices of r.
func accessIn(list []deviceRule, r deviceRule) access {
	for _, e := range list {
		if e.covers(r) && r.covers(e) {
			return e.access
		}
	}
	return 0
}

// updateDevicesV2 exchanges the filter.
func (l *limits) updateDevicesV2() {
	program := compileDevices(newDevicePolicy(l.res.Devices))
	l.b.Do("change the devices", linux.DeviceFilter{Cgroup: l.dir, Program: program, Replace: true}).For(at + "devices")
}

// Merge is the limits of a container with the old ones after the change: what Old
// should be at the next change. Neither argument is altered; the result may share
// memory with both.
func Merge(old, change *specs.LinuxResources) *specs.LinuxResources {
	if old == nil {
		old = &specs.LinuxResources{}
	}
	if change == nil {
		return old
	}
	r := *old
	r.Memory = mergeMemory(old.Memory, change.Memory)
	r.CPU = mergeCPU(old.CPU, change.CPU)
	r.BlockIO = mergeBlockIO(old.BlockIO, change.BlockIO)
	if change.Pids != nil && change.Pids.Limit != nil {
		r.Pids = change.Pids
	}
	if len(change.Devices) > 0 {
		r.Devices = change.Devices
	}
	r.HugepageLimits = mergeList(old.HugepageLimits, change.HugepageLimits,
		func(a, b specs.LinuxHugepageLimit) bool { return a.Pagesize == b.Pagesize })
	if n := change.Network; n != nil {
		m := specs.LinuxNetwork{}
		if old.Network != nil {
			m = *old.Network
		}
		replace(&m.ClassID, n.ClassID)
		m.Priorities = mergeList(m.Priorities, n.Priorities, func(a, b specs.LinuxInterfacePriority) bool { return a.Name == b.Name })
		r.Network = &m
	}
	r.Rdma = mergeMap(old.Rdma, change.Rdma)
	r.Unified = mergeMap(old.Unified, change.Unified)
	return &r
}

// replace takes the new value of an optional field if there is one.
func replace[T any](old **T, change *T) {
	if change != nil {
		*old = change
	}
}

func mergeMemory(old, change *specs.LinuxMemory) *specs.LinuxMemory {
	if change == nil {
		return old
	}
	m := specs.LinuxMemory{}
	if old != nil {
		m = *old
	}
	replace(&m.Limit, change.Limit)
	replace(&m.Swap, change.Swap)
	if number(change.Limit) == -1 && !isSet(change.Swap) {
		m.Swap = change.Limit // without a limit of memory there is none of the sum
	}
	replace(&m.Reservation, change.Reservation)
	replace(&m.Swappiness, change.Swappiness)
	replace(&m.DisableOOMKiller, change.DisableOOMKiller)
	return &m
}

func mergeCPU(old, change *specs.LinuxCPU) *specs.LinuxCPU {
	if change == nil {
		return old
	}
	c := specs.LinuxCPU{}
	if old != nil {
		c = *old
	}
	replace(&c.Shares, change.Shares)
	replace(&c.Quota, change.Quota)
	replace(&c.Burst, change.Burst)
	replace(&c.Period, change.Period)
	replace(&c.RealtimeRuntime, change.RealtimeRuntime)
	replace(&c.RealtimePeriod, change.RealtimePeriod)
	replace(&c.Idle, change.Idle)
	if change.Cpus != "" {
		c.Cpus = change.Cpus
	}
	if change.Mems != "" {
		c.Mems = change.Mems
	}
	return &c
}

func mergeBlockIO(old, change *specs.LinuxBlockIO) *specs.LinuxBlockIO {
	if change == nil {
		return old
	}
	b := specs.LinuxBlockIO{}
	if old != nil {
		b = *old
	}
	replace(&b.Weight, change.Weight)
	b.WeightDevice = mergeList(b.WeightDevice, change.WeightDevice,
		func(a, b specs.LinuxWeightDevice) bool { return a.LinuxBlockIODevice == b.LinuxBlockIODevice })
	for _, t := range [...]struct{ old, change *[]specs.LinuxThrottleDevice }{
		{&b.ThrottleReadBpsDevice, &change.ThrottleReadBpsDevice}, {&b.ThrottleWriteBpsDevice, &change.ThrottleWriteBpsDevice},
		{&b.ThrottleReadIOPSDevice, &change.ThrottleReadIOPSDevice}, {&b.ThrottleWriteIOPSDevice, &change.ThrottleWriteIOPSDevice},
	} {
		*t.old = mergeList(*t.old, *t.change, func(a, b specs.LinuxThrottleDevice) bool { return a.LinuxBlockIODevice == b.LinuxBlockIODevice })
	}
	return &b
}

// mergeList replaces entries that are about the same thing, and appends the others.
func mergeList[T any](old, change []T, same func(a, b T) bool) []T {
	if len(change) == 0 {
		return old
	}
	list := slices.Clone(old)
	for _, c := range change {
		if i := slices.IndexFunc(list, func(o T) bool { return same(o, c) }); i >= 0 {
			list[i] = c
		} else {
			list = append(list, c)
		}
	}
	return list
}

func mergeMap[T any](old, change map[string]T) map[string]T {
	if len(change) == 0 {
		return old
	}
	m := make(map[string]T, len(old)+len(change))
	for k, v := range old {
		m[k] = v
	}
	for k, v := range change {
		m[k] = v
	}
	return m
}

// noGroup says that a controller has no directory among the container's.
func noGroup(w want) error {
	return fmt.Errorf("%s: %w: the container has no control group of %s", w.field, ErrNoController, strconv.Quote(w.controller))
}
