package cgroup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/host"
)

// fakeGroup writes control files into ordinary directories: "cpu/cpu.stat" is the file
// cpu.stat of the group in the hierarchy cpu. On version 2 the directory is "".
func fakeGroup(t *testing.T, mode host.CgroupMode, files map[string]string) *Group {
	t.Helper()
	root := filepath.Join(t.TempDir(), "sys/fs/cgroup")
	var paths []string
	for name, text := range files {
		hierarchy, file := filepath.Split(name)
		dir := filepath.Join(root, hierarchy, "c1")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(paths, dir) {
			paths = append(paths, dir)
		}
	}
	slices.Sort(paths)
	g := Open(mode, paths)
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		t.Fatal(err)
	}
	g.magic = int64(st.Type)
	return g
}

func TestUsageV1(t *testing.T) {
	g := fakeGroup(t, host.CgroupV1, map[string]string{
		"cpu,cpuacct/cpuacct.usage":      "3000000\n",
		"cpu,cpuacct/cpuacct.usage_user": "2000000\n",
		"cpu,cpuacct/cpuacct.usage_sys":  "1000000\n",
		"cpu,cpuacct/cpu.stat":           "nr_periods 10\nnr_throttled 4\nthrottled_time 5000\n",
		"memory/memory.usage_in_bytes":   "5000\n", "memory/memory.max_usage_in_bytes": "6000\n",
		"memory/memory.limit_in_bytes": "8000\n", "memory/memory.memsw.usage_in_bytes": "5500\n",
		"memory/memory.memsw.limit_in_bytes": "20000\n",
		"memory/memory.oom_control":          "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
		"memory/memory.stat":                 "cache 1\ntotal_cache 300\ntotal_rss 200\ntotal_inactive_file 100\n",
		"pids/pids.current":                  "7\n", "pids/pids.max": "max\n",
		"blkio/blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 1\n8:16 Read 1\nTotal 12288\n",
		"blkio/blkio.throttle.io_serviced_recursive":      "8:0 Read 1\n8:0 Write 2\nTotal 3\n",
	})
	got, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	want := &Usage{
		CPU:    &CPUUsage{Total: 3 * time.Millisecond, User: 2 * time.Millisecond, System: time.Millisecond, Periods: 10, ThrottledPeriods: 4, Throttled: 5 * time.Microsecond},
		Memory: &MemoryUsage{Current: 5000, Peak: 6000, Limit: 8000, Swap: 500, SwapLimit: 12000, Anonymous: 200, File: 300, InactiveFile: 100, OOMKills: 2},
		Pids:   &PidsUsage{Current: 7, Limit: Unlimited},
		IO:     []DeviceUsage{{Major: 8, ReadBytes: 4096, WriteBytes: 8192, Reads: 1, Writes: 2}, {Major: 8, Minor: 16, ReadBytes: 1}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\n%+v\n%+v\n%+v\nwant\n%+v\n%+v\n%+v\n%+v", got.CPU, got.Memory, got.Pids, got.IO, want.CPU, want.Memory, want.Pids, want.IO)
	}
	if kills, err := g.OOMKills(); kills != 2 || err != nil {
		t.Errorf("%d kills, error %v", kills, err)
	}
}

func TestUsageV2(t *testing.T) {
	g := fakeGroup(t, host.CgroupV2, map[string]string{
		"cpu.stat":       "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 5\n",
		"cpu.pressure":   "some avg10=1.50 avg60=0.20 avg300=0.00 total=2500\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
		"memory.current": "5000\n", "memory.peak": "6000\n", "memory.max": "max\n", "memory.swap.current": "500\n", "memory.swap.max": "12000\n",
		"memory.events": "low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\n",
		"memory.stat":   "anon 200\nfile 300\ninactive_file 6000\n",
		"pids.current":  "7\n", "pids.max": "9\n",
		"io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n253:1 \n",
	})
	got, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	want := &Usage{
		CPU: &CPUUsage{Total: 3 * time.Millisecond, User: 2 * time.Millisecond, System: time.Millisecond, Periods: 10, ThrottledPeriods: 4, Throttled: 5 * time.Microsecond,
			Pressure: &Pressure{Some: Stall{Avg10: 1.5, Avg60: 0.2, Total: 2500 * time.Microsecond}, Full: Stall{Total: 7 * time.Microsecond}}},
		Memory: &MemoryUsage{Current: 5000, Peak: 6000, Limit: Unlimited, Swap: 500, SwapLimit: 12000, Anonymous: 200, File: 300, InactiveFile: 6000, OOMKills: 2},
		Pids:   &PidsUsage{Current: 7, Limit: 9},
		IO:     []DeviceUsage{{Major: 8, ReadBytes: 4096, WriteBytes: 8192, Reads: 1, Writes: 2}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\n%+v\n%+v\n%+v\nwant\n%+v\n%+v\n%+v\n%+v", got.CPU, got.Memory, got.Pids, got.IO, want.CPU, want.Memory, want.Pids, want.IO)
	}
	if w := got.Memory.Working(); w != 0 {
		t.Errorf("working set %d, want 0: the cache cannot be more than everything", w)
	}
}

// TestUsageWithoutControllers: a machine that counts nothing is no error.
func TestUsageWithoutControllers(t *testing.T) {
	for _, g := range []*Group{
		Open(host.CgroupV1, nil), Open(host.CgroupV2, nil),
		fakeGroup(t, host.CgroupV2, map[string]string{"cgroup.procs": ""}),
		fakeGroup(t, host.CgroupV1, map[string]string{"systemd/cgroup.procs": ""}),
	} {
		u, err := g.Usage()
		if err != nil || !reflect.DeepEqual(u, &Usage{}) {
			t.Errorf("%+v, error %v", u, err)
		}
		if kills, err := g.OOMKills(); kills != 0 || err != nil {
			t.Errorf("%d kills, error %v", kills, err)
		}
	}
}

func TestUsageSaysWhatIsNoNumber(t *testing.T) {
	g := fakeGroup(t, host.CgroupV2, map[string]string{"pids.current": "many\n"})
	if _, err := g.Usage(); err == nil || !strings.Contains(err.Error(), `pids.current: "many"`) {
		t.Errorf("error %v", err)
	}
}

func TestProcsGoesDown(t *testing.T) {
	g := fakeGroup(t, host.CgroupV1, map[string]string{"pids/cgroup.procs": "12\n7\n0\n", "memory/cgroup.procs": "99\n"})
	inner := filepath.Join(g.main(), "a", "b")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(inner, "cgroup.procs"), []byte("7\n13\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := g.Procs()
	if err != nil || !slices.Equal(got, []int{7, 12, 13}) {
		t.Errorf("%v, error %v, want 7 12 13", got, err)
	}
}

func TestFreezeGivesUp(t *testing.T) {
	// The fake kernel never freezes anybody: the state stays what was written, which
	// is not what freezer.state reads while processes resist.
	g := fakeGroup(t, host.CgroupV2, map[string]string{"cgroup.freeze": "0", "cgroup.events": "populated 1\nfrozen 0\n"})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.Freeze(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if text, _ := os.ReadFile(g.paths[0] + "/cgroup.freeze"); string(text) != "0" {
		t.Errorf("cgroup.freeze is %q after giving up", text)
	}
}

func TestFreezeNeedsFreezer(t *testing.T) {
	g := fakeGroup(t, host.CgroupV1, map[string]string{"pids/cgroup.procs": ""})
	if err := g.Freeze(context.Background()); !errors.Is(err, ErrNoController) {
		t.Errorf("freeze: %v", err)
	}
	if err := g.Thaw(); !errors.Is(err, ErrNoController) {
		t.Errorf("thaw: %v", err)
	}
	if frozen, err := g.Frozen(); frozen || err != nil {
		t.Errorf("frozen %v, error %v", frozen, err)
	}
}

func TestFits(t *testing.T) {
	g := fakeGroup(t, host.CgroupV2, map[string]string{"memory.current": "5000\n", "memory.swap.current": "500\n", "memory.max": "max\n", "memory.swap.max": "max\n"})
	check := func(limit, swap int64, ask bool) error {
		return g.Fits(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &swap, CheckBeforeUpdate: &ask}})
	}
	if err := check(4999, 0, true); !errors.Is(err, ErrInvalid) {
		t.Errorf("limit below usage: %v", err)
	}
	if err := check(5000, 5499, true); !errors.Is(err, ErrInvalid) {
		t.Errorf("swap below usage: %v", err)
	}
	for _, ok := range []error{check(5000, 5500, true), check(1, 1, false), check(-1, -1, true)} {
		if ok != nil {
			t.Error(ok)
		}
	}
}

func TestRemoveGivesBusyGroupsTime(t *testing.T) {
	g := fakeGroup(t, host.CgroupV2, map[string]string{"cgroup.procs": ""})
	g.patience = 50 * time.Millisecond
	start := time.Now()
	err := g.Remove()
	if !errors.Is(err, unix.ENOTEMPTY) || time.Since(start) < g.patience {
		t.Errorf("error %v after %v", err, time.Since(start))
	}
}
