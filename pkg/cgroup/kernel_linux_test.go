package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
)

// The tests of this file run on the kernel that is there, in whichever version of
// control groups it has mounted. What no plan can hide is asserted: a process that is
// killed, throttled, refused.

func TestMemoryLimitKills(t *testing.T) {
	f := machineFacts(t)
	testkit.Leftovers(t)
	needs(t, f, "memory")
	limit := &specs.LinuxMemory{Limit: ptr(int64(32 << 20)), Swap: ptr(int64(32 << 20))}
	b := newBox(t, f, &specs.LinuxResources{Memory: limit}, "eat 128")
	b.act()
	if got := b.line(); got != "" {
		t.Errorf("128 MB went into 32: %s", got)
	}
	if s := b.signal(); s != syscall.SIGKILL {
		t.Errorf("ended by signal %v, want SIGKILL", s)
	}
	kills, err := b.group.OOMKills()
	if err != nil || kills != 1 {
		t.Errorf("%d kills for lack of memory, error %v, want 1", kills, err)
	}
	m := b.usage().Memory
	// The kernel counts in batches: the peak may pass the limit by some pages.
	if m.Limit != 32<<20 || m.Peak > 33<<20 || m.OOMKills != 1 {
		t.Errorf("usage %+v", m)
	}
}

func TestMemoryBelowLimitLives(t *testing.T) {
	f := machineFacts(t)
	testkit.Leftovers(t)
	needs(t, f, "memory")
	b := newBox(t, f, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(96 << 20))}}, "eat 32")
	b.act()
	if got := b.line(); got != "ate" {
		t.Fatalf("said %q", got)
	}
	if m := b.usage().Memory; m.Current < 32<<20 || m.Anonymous < 32<<20 || m.Working() > m.Current {
		t.Errorf("usage %+v after eating 32 MB", m)
	}
}

func TestQuotaThrottles(t *testing.T) {
	f := machineFacts(t)
	testkit.Leftovers(t)
	needs(t, f, "cpu")
	const quota, period = 10000, 100000 // a tenth of a CPU
	b := newBox(t, f, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(quota)), Period: ptr(uint64(period))}}, "spin")
	// What starts before it spins may have been throttled already.
	before, start := b.usage().CPU, time.Now()
	b.act()
	var cpu *CPUUsage
	for deadline := time.Now().Add(30 * time.Second); ; {
		if cpu = b.usage().CPU; cpu.ThrottledPeriods >= before.ThrottledPeriods+10 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not throttled: %+v", cpu)
		}
		unix.Poll(nil, 20)
	}
	used, elapsed := cpu.Total-before.Total, time.Since(start)
	// The first period may have been used before start; one more is open. The kernel notices at a tick only that a period
	// is used up, which an emulated one gets late: so twice as much, where it would be ten times without a limit.
	if allowed := 2*elapsed*quota/period + 3*quota*time.Microsecond; used > allowed {
		t.Errorf("used %v of the CPU in %v, allowed %v", used, elapsed, allowed)
	}
	if cpu.Throttled == 0 || cpu.Periods < cpu.ThrottledPeriods {
		t.Errorf("usage %+v", cpu)
	}
}

func TestPidsLimitRefusesFork(t *testing.T) {
	f := machineFacts(t)
	testkit.Leftovers(t)
	needs(t, f, "pids")
	// A Go program has some ten threads, each of which counts.
	b := newBox(t, f, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(40))}}, "fork 60")
	b.act()
	if got := b.line(); !strings.HasPrefix(got, "refused after") || !strings.Contains(got, "temporarily unavailable") {
		t.Errorf("said %q", got)
	}
	if p := b.usage().Pids; p.Limit != 40 || p.Current == 0 || p.Current > 40 {
		t.Errorf("usage %+v", p)
	}
}

func TestCpusetPins(t *testing.T) {
	f := machineFacts(t)
	testkit.Leftovers(t)
	needs(t, f, "cpuset")
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil || all.Count() < 2 {
		t.Skipf("needs two CPUs, has %d (error %v)", all.Count(), err)
	}
	first := 0
	for !all.IsSet(first) {
		first++
	}
	b := newBox(t, f, &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: strconv.Itoa(first)}}, "affinity")
	b.act()
	if got := b.line(); got != "1" {
		t.Errorf("may run on %s CPUs, want 1", got)
	}
}

// TestDeviceRulesDeny opens nodes as root with all capabilities, so that nothing but
// the group stands in the way.
func TestDeviceRulesDeny(t *testing.T) {
	eachMode(t, func(t *testing.T, f *host.Facts) {
		testkit.Leftovers(t)
		if f.CgroupMode == host.CgroupV1 {
			needs(t, f, "devices")
		}
		dir := t.TempDir()
		node := func(name string, major, minor uint32) string {
			path := filepath.Join(dir, name)
			if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor))); err != nil {
				t.Fatal(err)
			}
			return path
		}
		null, kmsg, port, twice := node("null", 1, 3), node("kmsg", 1, 11), node("port", 1, 4), node("tty0", 4, 0)
		rules := []specs.LinuxDeviceCgroup{
			{Access: "rwm"},
			{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(11)), Access: "rw"},
			{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(4)), Access: "r"}, // opened for writing too
			{Allow: true, Type: "c", Major: ptr(int64(4)), Access: "rw"},
			{Type: "c", Major: ptr(int64(4)), Access: "rwm"},
		}
		b := newBox(t, f, &specs.LinuxResources{Devices: rules}, "open "+strings.Join([]string{null, kmsg, port, twice}, " "))
		b.act()
		for _, want := range []string{null + " <nil>", kmsg + " <nil>", port + " operation not permitted", twice + " operation not permitted"} {
			if got := b.line(); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	})
}

// TestKernelTakesDevicePrograms loads what the compiler makes of many rule sets: the
// verifier refuses a program with an instruction that nothing reaches, or a jump to
// nowhere.
func TestKernelTakesDevicePrograms(t *testing.T) {
	f := unifiedFacts(t)
	testkit.Leftovers(t)
	dir := f.Hierarchies[0].Path + testGroup()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	h, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	all := specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"}
	none := specs.LinuxDeviceCgroup{Access: "rwm"}
	one := specs.LinuxDeviceCgroup{Type: "c", Major: ptr(int64(4294967295)), Minor: ptr(int64(0)), Access: "w"}
	half := specs.LinuxDeviceCgroup{Allow: true, Type: "a", Major: ptr(int64(8)), Access: "r"}
	wide := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: "rwm"}
	many := slices.Repeat([]specs.LinuxDeviceCgroup{one}, maxDeviceRules)
	for _, rules := range [][]specs.LinuxDeviceCgroup{nil, {none}, {all, one}, {none, half}, {none, wide, one}, {all, wide}, many} {
		program := compileDevices(newDevicePolicy(rules))
		if err := sys.AttachDeviceFilter(int(h.Fd()), []byte(program)); err != nil {
			t.Errorf("%d rules: %v", len(rules), err)
		}
	}
	if err := sys.AttachDeviceFilter(int(h.Fd()), []byte(compileDevices(devicePolicy{}))[:16]); err == nil || !strings.Contains(err.Error(), "insn") {
		t.Errorf("half a program: error %v, want the verifier's words", err)
	}
}

func TestFreezeAndThaw(t *testing.T) {
	eachMode(t, func(t *testing.T, f *host.Facts) {
		testkit.Leftovers(t)
		if f.CgroupMode == host.CgroupV1 {
			needs(t, f, "freezer")
		}
		b := newBox(t, f, nil, "spin")
		b.act()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := b.group.Freeze(ctx); err != nil {
			t.Fatal(err)
		}
		if frozen, err := b.group.Frozen(); err != nil || !frozen {
			t.Fatalf("frozen: %v, error %v", frozen, err)
		}
		before := cpuTicks(t, b.cmd.Process.Pid)
		unix.Poll(nil, 100)
		if after := cpuTicks(t, b.cmd.Process.Pid); after != before {
			t.Errorf("a frozen process used the CPU: %d ticks, then %d", before, after)
		}
		if err := b.group.Thaw(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); cpuTicks(t, b.cmd.Process.Pid) == before; unix.Poll(nil, 10) {
			if time.Now().After(deadline) {
				t.Fatal("the process does not go on")
			}
		}
	})
}

// cpuTicks is the time that a process was on a CPU, utime and stime of proc(5).
func cpuTicks(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return user + system
}

// TestKillReachesEverybody: processes in groups that the container made, frozen ones,
// and descendants of the first one.
func TestKillReachesEverybody(t *testing.T) {
	eachMode(t, func(t *testing.T, f *host.Facts) {
		testkit.Leftovers(t)
		b := newBox(t, f, nil, "fork 20")
		b.act()
		if got := b.line(); got != "forked" {
			t.Fatalf("said %q", got)
		}
		pids, err := b.group.Procs()
		if err != nil || len(pids) != 21 {
			t.Fatalf("%d processes, error %v, want 21", len(pids), err)
		}
		inner := b.group.main() + "/inner"
		if err := os.Mkdir(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := writeOnce(inner+"/cgroup.procs", strconv.Itoa(pids[len(pids)-1])); err != nil {
			t.Fatal(err)
		}
		if pids, err := b.group.Procs(); err != nil || len(pids) != 21 {
			t.Errorf("%d processes with a group inside, error %v, want 21", len(pids), err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if _, ok := b.group.path("freezer"); ok {
			if err := b.group.Freeze(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.group.Kill(ctx); err != nil {
			t.Fatal(err)
		}
		if s := b.signal(); s != syscall.SIGKILL {
			t.Errorf("ended by signal %v", s)
		}
		if pids, err := b.group.Procs(); err != nil || len(pids) != 0 {
			t.Errorf("%d processes left, error %v", len(pids), err)
		}
		if err := b.group.Remove(); err != nil {
			t.Error(err)
		}
		for _, p := range b.paths {
			if _, err := os.Stat(p); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left: %v", p, err)
			}
		}
	})
}

// TestKillEachOnVersion2 takes the way of kernels before 5.14.
func TestKillEachOnVersion2(t *testing.T) {
	f := unifiedFacts(t)
	testkit.Leftovers(t)
	b := newBox(t, f, nil, "fork 5")
	b.act()
	if got := b.line(); got != "forked" {
		t.Fatalf("said %q", got)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := b.group.killEach(ctx); err != nil {
		t.Fatal(err)
	}
	if pids, err := b.group.Procs(); err != nil || len(pids) != 0 {
		t.Errorf("%d processes left, error %v", len(pids), err)
	}
}

// TestRemoveOfTheGone: delete may come twice, and after a reboot.
func TestRemoveOfTheGone(t *testing.T) {
	f := machineFacts(t)
	p, err := Plan(specOf("/containr-test-gone/box", nil), f, "box")
	if err != nil {
		t.Fatal(err)
	}
	g := Open(f.CgroupMode, p.Paths)
	if err := g.Kill(context.Background()); err != nil {
		t.Error(err)
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
}

// TestUpdateOfTheLiving lowers and raises limits that constrain each other, over the
// old values in both directions.
func TestUpdateOfTheLiving(t *testing.T) {
	f := machineFacts(t)
	testkit.Leftovers(t)
	needs(t, f, "memory", "cpu", "pids")
	hasBurst := f.Kernel.AtLeast(5, 14)
	res := func(mem, swap, quota int64, period uint64, burst uint64) *specs.LinuxResources {
		r := &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: &mem, Swap: &swap},
			CPU:    &specs.LinuxCPU{Quota: &quota, Period: &period},
			Pids:   &specs.LinuxPids{Limit: ptr(int64(50))},
		}
		if hasBurst {
			r.CPU.Burst = &burst
		}
		return r
	}
	b := newBox(t, f, res(64<<20, 128<<20, 50000, 100000, 10000), "sleep")
	b.act()
	if got := b.line(); got != "asleep" {
		t.Fatal(got)
	}
	for _, next := range []*specs.LinuxResources{
		res(512<<20, 768<<20, 1500000, 1000000, 100000), // up, over the old sums
		res(80<<20, 96<<20, 5000, 20000, 1000),          // down, below the old parts
		res(96<<20, 96<<20, 20000, 100000, 20000),
		res(300<<20, -1, 5000, 10000, 0),
	} {
		steps, err := Update(Change{Paths: b.paths, New: next}, f)
		if err != nil {
			t.Fatal(err)
		}
		if err := new(executor).run(steps); err != nil {
			t.Fatal(err)
		}
		m := b.usage().Memory
		wantSwap := uint64(*next.Memory.Swap - *next.Memory.Limit)
		if *next.Memory.Swap == -1 {
			wantSwap = Unlimited
		}
		if m.Limit != uint64(*next.Memory.Limit) || m.SwapLimit != wantSwap {
			t.Errorf("memory %d, swap %d, want %d, %d", m.Limit, m.SwapLimit, *next.Memory.Limit, wantSwap)
		}
		if got, want := bandwidthOf(t, b), bandwidthAsked(next.CPU); got != want {
			t.Errorf("CPU %q, want %q", got, want)
		}
	}
}

func bandwidthAsked(c *specs.LinuxCPU) string {
	s := fmt.Sprint(*c.Quota, " ", *c.Period)
	if c.Burst != nil {
		s += fmt.Sprint(" ", *c.Burst)
	}
	return s
}

// bandwidthOf reads quota, period and, where the kernel has it, burst back.
func bandwidthOf(t *testing.T, b *box) string {
	t.Helper()
	files := []string{"cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us"}
	if b.facts.CgroupMode == host.CgroupV2 {
		files = []string{"cpu.max", "cpu.max.burst"}
	}
	dir, _ := b.group.path("cpu")
	var words []string
	for _, file := range files {
		text, err := os.ReadFile(dir + "/" + file)
		if errors.Is(err, os.ErrNotExist) && strings.Contains(file, "burst") {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, strings.Fields(string(text))...)
	}
	return strings.Join(words, " ")
}

// TestDefaultPathIsBesideUs: without cgroupsPath the group lies below the limits that
// containr itself runs under.
func TestDefaultPathIsBesideUs(t *testing.T) {
	f := machineFacts(t)
	testkit.Leftovers(t)
	p, err := Plan(&specs.Spec{}, f, fmt.Sprint("test-", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	b := startBox(t, f, p, "sleep")
	b.act()
	if got := b.line(); got != "asleep" {
		t.Fatal(got)
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(b.cmd.Process.Pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range f.Hierarchies {
		want := strings.Join(h.Controllers, ",") + ":" + strings.TrimSuffix(h.Own, "/") + "/containr-test-"
		if f.CgroupMode == host.CgroupV2 {
			want = "0::" + strings.TrimSuffix(filepath.Dir(h.Own), "/") + "/containr-test-"
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

// TestOnlyCgroupsAreCgroups: a path from a damaged or forged state file leads nowhere.
func TestOnlyCgroupsAreCgroups(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{"cgroup.procs", "cgroup.kill", "cgroup.freeze", "freezer.state", "cpu.stat"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte("1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := Open(host.CgroupV2, []string{dir})
	if _, err := g.Procs(); !errors.Is(err, ErrNotCgroup) {
		t.Errorf("procs: %v", err)
	}
	if _, err := g.Usage(); !errors.Is(err, ErrNotCgroup) {
		t.Errorf("usage: %v", err)
	}
	if err := g.Kill(context.Background()); !errors.Is(err, ErrNotCgroup) {
		t.Errorf("kill: %v", err)
	}
	if err := g.Freeze(context.Background()); !errors.Is(err, ErrNotCgroup) {
		t.Errorf("freeze: %v", err)
	}
	if text, _ := os.ReadFile(dir + "/cgroup.kill"); string(text) != "1\n" {
		t.Errorf("an ordinary file was written: %q", text)
	}
}
