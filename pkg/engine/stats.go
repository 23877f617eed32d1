package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/cgroup"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/runtime"
)

// Sample is what a container has used up to a moment, and uses then.
type Sample struct {
	ID, Name string
	Time     time.Time
	// Running says that the container runs. Without it nothing follows.
	Running bool
	PID     int
	cgroup.Usage
	// Network is what went through the interfaces of the container's own network
	// namespace, but the loopback interface. It is nil if it shares the host's.
	Network *NetworkUsage
	// Networks are the same for each network that it was put into, in their order, but for those whose device it has taken away.
	Networks []NamedUsage
	// MachineMemory is that of the machine, in bytes: the limit of who has none.
	MachineMemory uint64
}

// NetworkUsage is bytes, packets, and packets that were lost, of all interfaces.
type NetworkUsage struct {
	Received, Sent               uint64
	ReceivedPackets, SentPackets uint64
	ReceiveErrors, SendErrors    uint64
	ReceiveDropped, SendDropped  uint64
}

// NamedUsage is what went through a container's device in one network.
type NamedUsage struct {
	Network, Interface string
	NetworkUsage
}

// StatsRequest asks what containers use.
type StatsRequest struct {
	// Containers are names or ids; empty is all that run.
	Containers []string
	// All has those that do not run too, if Containers is empty.
	All bool
}

// Stats reads the counters of containers once. One that ends meanwhile is one that does not
// run.
func (e *Engine) Stats(ctx context.Context, r StatsRequest) ([]Sample, error) {
	records, err := e.chosen(ctx, r)
	if err != nil {
		return nil, err
	}
	memory, err := machineMemory()
	if err != nil {
		return nil, err
	}
	var out []Sample
	for _, record := range records {
		s, err := e.sample(record)
		if errors.Is(err, container.ErrNotFound) && len(r.Containers) == 0 {
			continue // it has gone
		}
		if err != nil {
			return nil, err
		}
		if s.MachineMemory = memory; s.Running || r.All || len(r.Containers) > 0 {
			out = append(out, s)
		}
	}
	return out, nil
}

// chosen finds the containers of a request.
func (e *Engine) chosen(ctx context.Context, r StatsRequest) ([]container.Record, error) {
	var records []container.Record
	if len(r.Containers) == 0 {
		listed, err := e.List(ctx)
		for _, c := range listed {
			records = append(records, c.Record)
		}
		return records, err
	}
	for _, name := range r.Containers {
		record, err := e.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	return records, nil
}

// sample reads the counters of one container.
func (e *Engine) sample(record container.Record) (Sample, error) {
	s := Sample{ID: record.ID, Name: record.Name}
	rt, err := e.runtime()
	if err != nil {
		return s, err
	}
	st, err := e.State(record)
	if err != nil {
		return s, err
	}
	s.Time = time.Now()
	if st.PID == 0 {
		return s, nil
	}
	usage, err := rt.Usage(record.ID)
	if err == nil {
		s.Network, s.Networks, err = networkUsage(st.PID, record)
	}
	switch {
	case errors.Is(err, runtime.ErrNotFound), errors.Is(err, runtime.ErrNotRunning), errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
		return s, nil // it has just ended
	case err != nil:
		return s, fmt.Errorf("container %s: %w", record.Name, err)
	}
	s.Running, s.PID, s.Usage = true, st.PID, *usage
	return s, nil
}

// networkUsage reads what went through the network namespace of a container's process, all together and in each of its networks; nil if
// that namespace is ours.
func networkUsage(pid int, record container.Record) (*NetworkUsage, []NamedUsage, error) {
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil, nil, err
	}
	theirs, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil || ours == theirs {
		return nil, nil, err
	}
	devices, err := netDev(pid)
	if err != nil {
		return nil, nil, err
	}
	all, err := parseNetDev(devices)
	if err != nil {
		return nil, nil, err
	}
	var list []NamedUsage
	for _, plug := range plugs(record) {
		usage, err := ofDevice(devices, plug.Interface)
		if err != nil {
			return nil, nil, err
		}
		if usage != nil {
			list = append(list, NamedUsage{plug.Network, plug.Interface, *usage})
		}
	}
	return all, list, nil
}

// netDev reads the counters of the devices in the network namespace of a process.
func netDev(pid int) (string, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	return string(text), err
}

// ofDevice finds what went through one device; nil if there is no such device.
func ofDevice(devices, device string) (*NetworkUsage, error) {
	for line := range strings.Lines(devices) {
		if name, _, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == device {
			return parseNetDev(line)
		}
	}
	return nil, nil
}

// plugs are the networks that a container is in, whoever makes them.
func plugs(r container.Record) []container.Plug {
	var list []container.Plug
	for _, p := range r.Endpoints {
		list = append(list, p.Plug)
	}
	for _, a := range r.Attachments {
		list = append(list, a.Plug)
	}
	return list
}

// parseNetDev adds up the lines of /proc/PID/net/dev, which are a name, a colon and 16 numbers, below a heading of
// two lines.
func parseNetDev(text string) (*NetworkUsage, error) {
	u := &NetworkUsage{}
	for line := range strings.Lines(text) {
		name, numbers, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "lo" {
			continue
		}
		f := strings.Fields(numbers)
		if len(f) < 12 {
			return nil, fmt.Errorf("net/dev: %q has %d numbers, want 16", name, len(f))
		}
		for i, sum := range map[int]*uint64{0: &u.Received, 1: &u.ReceivedPackets, 2: &u.ReceiveErrors, 3: &u.ReceiveDropped,
			8: &u.Sent, 9: &u.SentPackets, 10: &u.SendErrors, 11: &u.SendDropped} {
			n, err := strconv.ParseUint(f[i], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("net/dev: %w", err)
			}
			*sum += n
		}
	}
	return u, nil
}

// machineMemory reads how much memory the machine has, in bytes.
func machineMemory() (uint64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "MemTotal:"); ok {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc/meminfo has no MemTotal")
}

// Rates are what a container did between two samples of it.
type Rates struct {
	// CPU is in percent of one CPU: 200 is two of them, all the time.
	CPU float64
	// Throttled is in percent of the accounting periods: in how many a CPU limit stopped it.
	Throttled float64
}

// Since compares a sample with an earlier one of the same container. Counters that have
// gone back are those of another run.
func (s Sample) Since(before Sample) Rates {
	var r Rates
	elapsed := s.Time.Sub(before.Time)
	if !s.Running || !before.Running || s.CPU == nil || before.CPU == nil || elapsed <= 0 || s.CPU.Total < before.CPU.Total {
		return r
	}
	r.CPU = 100 * float64(s.CPU.Total-before.CPU.Total) / float64(elapsed)
	if periods := s.CPU.Periods - before.CPU.Periods; s.CPU.Periods > before.CPU.Periods {
		r.Throttled = 100 * float64(s.CPU.ThrottledPeriods-min(before.CPU.ThrottledPeriods, s.CPU.ThrottledPeriods)) / float64(periods)
	}
	return r
}

// MemoryLimit is the container's, or the machine's where it has none or a higher one.
func (s Sample) MemoryLimit() uint64 {
	if s.Memory == nil {
		return s.MachineMemory
	}
	return min(s.Memory.Limit, s.MachineMemory)
}

// BlockIO adds up what went to and came from all block devices, in bytes.
func (s Sample) BlockIO() (read, written uint64) {
	for _, d := range s.IO {
		read += d.ReadBytes
		written += d.WriteBytes
	}
	return read, written
}
