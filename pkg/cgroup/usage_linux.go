package cgroup

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containr/containr/pkg/host"
)

// Unlimited is what a limit is when there is none.
const Unlimited = math.MaxUint64

// Usage is what a container has used so far and uses now. A part is nil where its
// controller is not there.
type Usage struct {
	CPU    *CPUUsage     `json:"cpu,omitempty"`
	Memory *MemoryUsage  `json:"memory,omitempty"`
	Pids   *PidsUsage    `json:"pids,omitempty"`
	IO     []DeviceUsage `json:"io,omitempty"`
}

// CPUUsage is time on a CPU since the group was made.
type CPUUsage struct {
	Total  time.Duration `json:"total"`
	User   time.Duration `json:"user"`
	System time.Duration `json:"system"`
	// Periods is the number of accounting periods in which the group ran under
	// a quota, ThrottledPeriods those in which it was stopped, Throttled how long.
	Periods          uint64        `json:"periods"`
	ThrottledPeriods uint64        `json:"throttledPeriods"`
	Throttled        time.Duration `json:"throttled"`
	Pressure         *Pressure     `json:"pressure,omitempty"`
}

// MemoryUsage is in bytes.
type MemoryUsage struct {
	Current uint64 `json:"current"`
	// Peak is the highest Current so far; 0 where the kernel does not keep it
	// (version 2 before Linux 5.19).
	Peak  uint64 `json:"peak"`
	Limit uint64 `json:"limit"`
	// Swap and SwapLimit count swap alone. Without swap accounting they are 0
	// and Unlimited.
	Swap      uint64 `json:"swap"`
	SwapLimit uint64 `json:"swapLimit"`
	// Anonymous is memory of processes, File cached files, InactiveFile the
	// part of the cache that goes first when memory is short.
	Anonymous    uint64 `json:"anonymous"`
	File         uint64 `json:"file"`
	InactiveFile uint64 `json:"inactiveFile"`
	// OOMKills counts processes that were killed because memory ran out.
	OOMKills uint64    `json:"oomKills"`
	Pressure *Pressure `json:"pressure,omitempty"`
}

// Working is the memory that the container could not do without: Current without the
// cache that goes first.
func (m *MemoryUsage) Working() uint64 { return m.Current - min(m.InactiveFile, m.Current) }

// PidsUsage counts processes and threads.
type PidsUsage struct {
	Current uint64 `json:"current"`
	Limit   uint64 `json:"limit"`
}

// DeviceUsage is what went to and came from one block device.
type DeviceUsage struct {
	Major      uint32 `json:"major"`
	Minor      uint32 `json:"minor"`
	ReadBytes  uint64 `json:"readBytes"`
	WriteBytes uint64 `json:"writeBytes"`
	Reads      uint64 `json:"reads"`
	Writes     uint64 `json:"writes"`
}

// Pressure tells how long processes waited for a resource, see
// Documentation/accounting/psi.rst in the Linux sources. Version 2 only.
type Pressure struct {
	// Some counts time in which at least one process waited, Full time in which
	// all did.
	Some Stall `json:"some"`
	Full Stall `json:"full"`
}

// Stall is percentages of the last 10, 60 and 300 seconds, and the sum since the
// group was made.
type Stall struct {
	Avg10  float64       `json:"avg10"`
	Avg60  float64       `json:"avg60"`
	Avg300 float64       `json:"avg300"`
	Total  time.Duration `json:"total"`
}

// Usage reads the counters. They are not taken at one moment: the kernel has no way
// to do that.
func (g *Group) Usage() (*Usage, error) {
	u := &Usage{}
	r := &reader{group: g}
	if g.mode == host.CgroupV2 {
		r.usageV2(u)
	} else {
		r.usageV1(u)
	}
	if r.err != nil {
		return nil, fmt.Errorf("usage of the control group: %w", r.err)
	}
	return u, nil
}

// OOMKills counts the processes of the group that were killed because memory ran out.
// It is 0 without the memory controller.
func (g *Group) OOMKills() (uint64, error) {
	dir, ok := g.path("memory")
	if !ok {
		return 0, nil
	}
	file := "memory.oom_control"
	if g.mode == host.CgroupV2 {
		file = "memory.events"
	}
	r := &reader{group: g}
	kills := r.keyed(dir, file)["oom_kill"]
	if r.err != nil {
		return 0, fmt.Errorf("out of memory events: %w", r.err)
	}
	return kills, nil
}

// KillsAbove finds the nearest group of version 2 above dir that is there and counts, and returns how many processes have
// been killed in it and below because memory ran out; "" if there is none. A group's count goes with it, this one stays.
func KillsAbove(dir string) (above string, kills uint64) {
	for above = filepath.Dir(dir); len(above) > 1; above = filepath.Dir(above) {
		if n, err := KillsIn(above); err == nil {
			return above, n
		}
	}
	return "", 0
}

// KillsIn returns the count of a group of version 2.
func KillsIn(dir string) (uint64, error) {
	text, err := os.ReadFile(filepath.Join(dir, "memory.events"))
	return keyed(string(text))["oom_kill"], err
}

// reader reads many control files and keeps the first error. A file that is not
// there is empty: which files there are depends on the kernel and on controllers.
type reader struct {
	group *Group
	err   error
}

func (r *reader) text(dir, file string) string {
	if r.err != nil {
		return ""
	}
	text, err := r.group.read(dir + "/" + file)
	if err != nil && !isGone(err) {
		r.err = err
	}
	return text
}

// number reads a file with one number, or "max".
func (r *reader) number(dir, file string) uint64 {
	n, _ := r.optional(dir, file)
	return n
}

// optional is number for a file that may be missing.
func (r *reader) optional(dir, file string) (n uint64, there bool) {
	text := strings.TrimSpace(r.text(dir, file))
	switch text {
	case "":
		return 0, false
	case "max":
		return Unlimited, true
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil && r.err == nil {
		r.err = errors.New(dir + "/" + file + ": " + strconv.Quote(text) + " is no number")
	}
	return n, true
}

func (r *reader) nanoseconds(dir, file string) time.Duration {
	return time.Duration(r.number(dir, file))
}

func (r *reader) keyed(dir, file string) map[string]uint64 { return keyed(r.text(dir, file)) }

// keyed reads lines of a name and a number. Lines of other form are left out.
func keyed(text string) map[string]uint64 {
	m := make(map[string]uint64)
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(value, 10, 64); ok && err == nil {
			m[name] = n
		}
	}
	return m
}

// unlimitedV1 is the smallest number that version 1 shows for no limit: the largest
// number of pages, in bytes, depends on the page size.
const unlimitedV1 = 1 << 62

func limitV1(n uint64) uint64 {
	if n >= unlimitedV1 {
		return Unlimited
	}
	return n
}

func (r *reader) usageV1(u *Usage) {
	if dir, ok := r.group.path("cpuacct"); ok {
		u.CPU = &CPUUsage{Total: r.nanoseconds(dir, "cpuacct.usage"),
			User: r.nanoseconds(dir, "cpuacct.usage_user"), System: r.nanoseconds(dir, "cpuacct.usage_sys")}
		if dir, ok := r.group.path("cpu"); ok {
			stat := r.keyed(dir, "cpu.stat")
			u.CPU.Periods, u.CPU.ThrottledPeriods = stat["nr_periods"], stat["nr_throttled"]
			u.CPU.Throttled = time.Duration(stat["throttled_time"])
		}
	}
	if dir, ok := r.group.path("memory"); ok {
		u.Memory = r.memoryV1(dir)
	}
	if dir, ok := r.group.path("pids"); ok {
		u.Pids = &PidsUsage{Current: r.number(dir, "pids.current"), Limit: r.number(dir, "pids.max")}
	}
	if dir, ok := r.group.path("blkio"); ok {
		u.IO = devicesUsedV1(r.text(dir, "blkio.throttle.io_service_bytes_recursive"), r.text(dir, "blkio.throttle.io_serviced_recursive"))
	}
}

// memoryV1 subtracts where version 1 counts memory and swap together.
func (r *reader) memoryV1(dir string) *MemoryUsage {
	m := &MemoryUsage{
		Current:   r.number(dir, "memory.usage_in_bytes"),
		Peak:      r.number(dir, "memory.max_usage_in_bytes"),
		Limit:     limitV1(r.number(dir, "memory.limit_in_bytes")),
		SwapLimit: Unlimited,
		OOMKills:  r.keyed(dir, "memory.oom_control")["oom_kill"],
	}
	if both, ok := r.optional(dir, "memory.memsw.usage_in_bytes"); ok {
		m.Swap = both - min(both, m.Current)
	}
	if both, ok := r.optional(dir, "memory.memsw.limit_in_bytes"); ok && limitV1(both) != Unlimited {
		m.SwapLimit = both - min(both, m.Limit)
	}
	stat := r.keyed(dir, "memory.stat")
	m.Anonymous, m.File, m.InactiveFile = stat["total_rss"], stat["total_cache"], stat["total_inactive_file"]
	return m
}

// devicesUsedV1 reads lines like "8:0 Read 4096"; those with other words are sums.
func devicesUsedV1(bytes, operations string) []DeviceUsage {
	var list []DeviceUsage
	for i, text := range [...]string{bytes, operations} {
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) != 3 || f[1] != "Read" && f[1] != "Write" {
				continue
			}
			n, err := strconv.ParseUint(f[2], 10, 64)
			d := deviceEntry(&list, f[0])
			if err != nil || d == nil {
				continue
			}
			switch {
			case i == 0 && f[1] == "Read":
				d.ReadBytes = n
			case i == 0:
				d.WriteBytes = n
			case f[1] == "Read":
				d.Reads = n
			default:
				d.Writes = n
			}
		}
	}
	return list
}

// deviceEntry finds or adds the entry of the device "major:minor"; nil if that is no
// device.
func deviceEntry(list *[]DeviceUsage, name string) *DeviceUsage {
	a, b, ok := strings.Cut(name, ":")
	major, err1 := strconv.ParseUint(a, 10, 32)
	minor, err2 := strconv.ParseUint(b, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return nil
	}
	for i := range *list {
		if d := &(*list)[i]; d.Major == uint32(major) && d.Minor == uint32(minor) {
			return d
		}
	}
	*list = append(*list, DeviceUsage{Major: uint32(major), Minor: uint32(minor)})
	return &(*list)[len(*list)-1]
}

func (r *reader) usageV2(u *Usage) {
	dir, ok := r.group.path("")
	if !ok {
		return
	}
	// cpu.stat has the usage even without the controller.
	if stat := r.keyed(dir, "cpu.stat"); len(stat) > 0 {
		micro := func(key string) time.Duration { return time.Duration(stat[key]) * time.Microsecond }
		u.CPU = &CPUUsage{Total: micro("usage_usec"), User: micro("user_usec"), System: micro("system_usec"),
			Periods: stat["nr_periods"], ThrottledPeriods: stat["nr_throttled"], Throttled: micro("throttled_usec"),
			Pressure: parsePressure(r.pressure(dir, "cpu.pressure"))}
	}
	if current, ok := r.optional(dir, "memory.current"); ok {
		u.Memory = r.memoryV2(dir, current)
	}
	if current, ok := r.optional(dir, "pids.current"); ok {
		u.Pids = &PidsUsage{Current: current, Limit: r.number(dir, "pids.max")}
	}
	u.IO = devicesUsedV2(r.text(dir, "io.stat"))
}

func (r *reader) memoryV2(dir string, current uint64) *MemoryUsage {
	m := &MemoryUsage{
		Current:   current,
		Peak:      r.number(dir, "memory.peak"),
		Limit:     r.number(dir, "memory.max"),
		Swap:      r.number(dir, "memory.swap.current"),
		SwapLimit: Unlimited,
		OOMKills:  r.keyed(dir, "memory.events")["oom_kill"],
		Pressure:  parsePressure(r.pressure(dir, "memory.pressure")),
	}
	if limit, ok := r.optional(dir, "memory.swap.max"); ok {
		m.SwapLimit = limit
	}
	stat := r.keyed(dir, "memory.stat")
	m.Anonymous, m.File, m.InactiveFile = stat["anon"], stat["file"], stat["inactive_file"]
	return m
}

// devicesUsedV2 reads lines like "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 ...".
func devicesUsedV2(text string) []DeviceUsage {
	var list []DeviceUsage
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		d := deviceEntry(&list, f[0])
		if d == nil {
			continue
		}
		for _, pair := range f[1:] {
			key, value, _ := strings.Cut(pair, "=")
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				continue
			}
			switch key {
			case "rbytes":
				d.ReadBytes = n
			case "wbytes":
				d.WriteBytes = n
			case "rios":
				d.Reads = n
			case "wios":
				d.Writes = n
			}
		}
	}
	return list
}

// pressure reads a pressure file. A kernel that was started with psi=0 has the files
// but refuses to read them (EOPNOTSUPP); that is no pressure known, and no error.
func (r *reader) pressure(dir, file string) string {
	text, err := r.group.read(dir + "/" + file)
	if err != nil {
		return ""
	}
	return text
}

// parsePressure reads "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and the same
// with "full"; total is in microseconds.
func parsePressure(text string) *Pressure {
	if text == "" {
		return nil
	}
	p := &Pressure{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		stall := &p.Some
		if f[0] == "full" {
			stall = &p.Full
		}
		for _, pair := range f[1:] {
			key, value, _ := strings.Cut(pair, "=")
			n, _ := strconv.ParseFloat(value, 64) // what is no number counts as nothing
			switch key {
			case "avg10":
				stall.Avg10 = n
			case "avg60":
				stall.Avg60 = n
			case "avg300":
				stall.Avg300 = n
			case "total":
				stall.Total = time.Duration(n) * time.Microsecond
			}
		}
	}
	return p
}
