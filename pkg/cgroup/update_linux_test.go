package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
)

// TestDeviceUpdate exchanges the rules under a living process, which opens a node after
// each change: first denied, then allowed, then everything, then denied again.
func TestDeviceUpdate(t *testing.T) {
	eachMode(t, func(t *testing.T, f *host.Facts) {
		testkit.Leftovers(t)
		if f.CgroupMode == host.CgroupV1 {
			needs(t, f, "devices")
		}
		node := filepath.Join(t.TempDir(), "kmsg")
		if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 11))); err != nil {
			t.Fatal(err)
		}
		deny := specs.LinuxDeviceCgroup{Access: "rwm"}
		kmsg := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: ptr(int64(1)), Minor: ptr(int64(11)), Access: "rw"}
		all := specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"}
		old := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{deny}}
		b := newBox(t, f, old, "reopen "+node)
		b.act()
		const denied, allowed = "operation not permitted", "<nil>"
		if got := b.line(); got != denied {
			t.Fatalf("before: %q", got)
		}
		for i, c := range []struct {
			rules []specs.LinuxDeviceCgroup
			want  string
		}{
			{[]specs.LinuxDeviceCgroup{deny, kmsg}, allowed},
			{[]specs.LinuxDeviceCgroup{deny}, denied},
			{[]specs.LinuxDeviceCgroup{all}, allowed},
			{[]specs.LinuxDeviceCgroup{deny}, denied},
		} {
			change := &specs.LinuxResources{Devices: c.rules}
			steps, err := Update(Change{Paths: b.paths, Old: old, New: change}, f)
			if err != nil {
				t.Fatal(err)
			}
			if err := new(executor).run(steps); err != nil {
				t.Fatal(err)
			}
			old = Merge(old, change)
			b.act()
			if got := b.line(); got != c.want {
				t.Errorf("change %d: %q, want %q", i, got, c.want)
			}
		}
	})
}

// TestUpdateEveryFile changes what has one file and no partner, and reads it back.
func TestUpdateEveryFile(t *testing.T) {
	f := machineFacts(t)
	testkit.Leftovers(t)
	needs(t, f, "memory", "cpu", "pids", "cpuset")
	b := newBox(t, f, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(256 << 20))}, CPU: &specs.LinuxCPU{Cpus: "0", Shares: ptr(uint64(512))}}, "sleep")
	change := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Reservation: ptr(int64(64 << 20))},
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(2048)), Mems: "0"},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(77))},
	}
	want := [][3]string{{"memory", "memory.soft_limit_in_bytes", strconv.Itoa(64 << 20)}, {"cpu", "cpu.shares", "2048"},
		{"cpuset", "cpuset.mems", "0"}, {"pids", "pids.max", "77"}}
	if f.CgroupMode == host.CgroupV2 {
		change.Unified = map[string]string{"memory.high": strconv.Itoa(128 << 20)}
		want = [][3]string{{"memory", "memory.low", strconv.Itoa(64 << 20)}, {"cpu", "cpu.weight", strconv.FormatUint(Weight(2048), 10)},
			{"cpuset", "cpuset.mems", "0"}, {"pids", "pids.max", "77"}, {"memory", "memory.high", strconv.Itoa(128 << 20)}}
	}
	steps, err := Update(Change{Paths: b.paths, New: change}, f)
	if err != nil {
		t.Fatal(err)
	}
	if err := new(executor).run(steps); err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		dir, _ := b.group.path(w[0])
		text, err := os.ReadFile(dir + "/" + w[1])
		if err != nil || strings.TrimSpace(string(text)) != w[2] {
			t.Errorf("%s is %q, error %v, want %s", w[1], text, err, w[2])
		}
	}
}
