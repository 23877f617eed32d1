package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/procfs"
	"github.com/containr/containr/pkg/plan/linux"
)

// TestProbeAgreesWithTheKernel holds the facts against other places where the kernel tells them.
func TestProbeAgreesWithTheKernel(t *testing.T) {
	f, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(release), f.Kernel.String()) {
		t.Errorf("kernel %s, and /proc says %s", f.Kernel, release)
	}
	last, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintln(f.LastCapability); got != string(last) {
		t.Errorf("the last capability is %s, and /proc says %s", got, last)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("CapEff:\t%016x\n", f.Capabilities), fmt.Sprintf("Uid:\t%d\t%d\t", os.Getuid(), f.UID), fmt.Sprintf("Gid:\t%d\t%d\t", os.Getgid(), f.GID),
	} {
		if !strings.Contains(string(status), want) {
			t.Errorf("/proc/self/status does not say %q", want)
		}
	}
	for _, h := range f.Hierarchies {
		if _, err := os.Stat(filepath.Join(h.Path, "cgroup.procs")); err != nil {
			t.Errorf("hierarchy %v: %v", h.Controllers, err)
		}
	}
	if (f.CgroupMode == NoCgroup) != (len(f.Hierarchies) == 0) {
		t.Errorf("cgroups %s, with hierarchies %v", f.CgroupMode, f.Hierarchies)
	}
}

// TestHierarchies reads tables of both versions, and of both at once.
// Kernels of every age are understood, and no answer passes for a small number: what is
// above it is not taken from containers.
func TestLastCapability(t *testing.T) {
	for _, last := range []int{0, 1, 37, 39, 40, 41, 62, 63} {
		got, err := lastCapability(func(n uint) error {
			if int(n) > last {
				return unix.EINVAL
			}
			return nil
		})
		if err != nil || got != uint(last) {
			t.Errorf("of a kernel whose last capability is %d: %d, %v", last, got, err)
		}
	}
	for name, ask := range map[string]func(n uint) error{
		"none is known":       func(uint) error { return unix.EINVAL },
		"refused":             func(uint) error { return unix.EPERM },
		"refused from number": func(n uint) error { return map[bool]error{true: unix.EPERM, false: unix.EINVAL}[n < 39] },
	} {
		if got, err := lastCapability(ask); err == nil {
			t.Errorf("%s: taken for %d", name, got)
		}
	}
}

func TestHierarchies(t *testing.T) {
	const table = "13:name=systemd:/a\n4:cpu,cpuacct:/b:c\n3:memory:/\n1:rdma:/x\n0::/own/place\n"
	if got := ownCgroup(table); got != "/own/place" {
		t.Errorf("the unified place is %s", got)
	}
	if got := ownCgroup("3:memory:/\n"); got != "/" {
		t.Errorf("without a line of version 2 the place is %s", got)
	}
	got := v1Hierarchies(table, func(path string) bool { return path != cgroupRoot+"/rdma" })
	want := []Hierarchy{
		{Controllers: []string{"name=systemd"}, Path: cgroupRoot + "/systemd", Own: "/a"},
		{Controllers: []string{"cpu", "cpuacct"}, Path: cgroupRoot + "/cpu,cpuacct", Own: "/b:c"},
		{Controllers: []string{"memory"}, Path: cgroupRoot + "/memory", Own: "/"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nnot %+v", got, want)
	}
}

// TestIDsAreGrantedOnce: no id is in two ranges, and none is lost.
func TestIDsAreGrantedOnce(t *testing.T) {
	for _, tt := range []struct{ have, want []IDRange }{
		{[]IDRange{{100000, 65536}, {100000, 65536}}, []IDRange{{100000, 65536}}},
		{[]IDRange{{100, 50}, {120, 100}}, []IDRange{{100, 50}, {150, 70}}},
		{[]IDRange{{120, 10}, {100, 50}, {500, 1}}, []IDRange{{120, 10}, {130, 20}, {100, 20}, {500, 1}}},
		{[]IDRange{{1000, 5}, {990, 20}}, []IDRange{{1001, 4}, {1005, 5}, {990, 10}}},
		{[]IDRange{{4294967290, 5}}, []IDRange{{4294967290, 5}}},
		{nil, nil},
	} {
		if got := disjoint(1000, tt.have); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v: %v, not %v", tt.have, got, tt.want)
		}
	}
}

// TestIDRanges reads /etc/subuid as shadow does.
func TestIDRanges(t *testing.T) {
	const table = "ann:100000:65536\nbob:1:2\n\n1000:300000:5\nann:200000:1\nann:x:1\nann:1\nann:1:0\nann:4294967296:1\n"
	for _, tt := range []struct {
		name, uid string
		want      []IDRange
	}{
		{"ann", "1000", []IDRange{{100000, 65536}, {300000, 5}, {200000, 1}}},
		{"", "1000", []IDRange{{300000, 5}}},
		{"eve", "7", nil},
	} {
		if got := parseIDRanges(table, tt.name, tt.uid); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s, %s: %v, not %v", tt.name, tt.uid, got, tt.want)
		}
	}
	if got := userName(0); got != "root" {
		t.Errorf("user 0 is called %q", got)
	}
	if got := userName(4000000001); got != "" {
		t.Errorf("a user that nobody is, is called %q", got)
	}
}

// TestFindProgram: PATH is searched in order, for what may be executed, and never relative to the working directory.
func TestFindProgram(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	for path, mode := range map[string]os.FileMode{first + "/plain": 0o644, second + "/plain": 0o755, first + "/both": 0o755, second + "/both": 0o755} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(first)
	t.Setenv("PATH", ".:"+first+"::"+second)
	for name, want := range map[string]string{"both": first + "/both", "plain": second + "/plain", "none": ""} {
		if got := findProgram(name); got != want {
			t.Errorf("%s: %q, not %q", name, got, want)
		}
	}
	f := Facts{UID: 4000000001}
	f.probeUser()
	if f.Newuidmap != "" || f.SubUIDs != nil {
		t.Errorf("a user without ranges, on a PATH without helpers: %+v", f)
	}
}

// TestLook tells files, directories and devices apart.
func TestLook(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]FileKind{dir: Directory, dir + "/file": File, dir + "/none": Missing, "/dev/null": File} {
		if s := Look(path); s.Kind != want || Kind(path) != want {
			t.Errorf("%s: %v and %v, not %v", path, s.Kind, Kind(path), want)
		}
	}
	if got, want := Look("/dev/null").Device, (Device{Kind: unix.S_IFCHR, Major: 1, Minor: 3}); got != want {
		t.Errorf("/dev/null is %v", got)
	}
	mounts, err := procfs.Mountinfo(0)
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]procfs.Mount{} // of several at one place the last is what a path leads to
	for _, m := range mounts {
		last[m.Point] = m
	}
	for _, point := range []string{"/proc", "/sys", "/dev"} {
		m, ok := last[point]
		if !ok {
			continue
		}
		got := MountOf(point)
		for option, flag := range map[string]linux.MountFlags{"ro": linux.MsReadonly, "nosuid": linux.MsNosuid, "nodev": linux.MsNodev, "noexec": linux.MsNoexec} {
			if has := slices.Contains(m.Options, option) || option == "ro" && slices.Contains(m.Super, "ro"); has != (got&flag != 0) {
				t.Errorf("%s has %s: %v, but the flags are %#x", m.Point, option, has, got)
			}
		}
	}
	if got := MountOf(dir + "/none"); got != 0 {
		t.Errorf("what is not there is mounted with %v", got)
	}
}

// A state root that is not there yet will be on the file system of the directory that it will be made in.
func TestProbeStorage(t *testing.T) {
	for dir, want := range map[string]string{"/proc/self": "proc", "/sys/none/such": "sysfs"} {
		s, err := ProbeStorage(dir)
		if err != nil || s.FileSystem != want {
			t.Errorf("%s: %+v, error %v, want %s", dir, s, err, want)
		}
	}
	if !hasFileSystem("proc") || hasFileSystem("nosuchfs") {
		t.Error("the kernel has proc, and no nosuchfs")
	}
}

// TestLandlockIsWhatTheKernelSays: the version of its interface and the kernel's list of security modules agree.
func TestLandlockIsWhatTheKernelSays(t *testing.T) {
	abi, err := LandlockABI()
	if err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EOPNOTSUPP) {
		t.Fatalf("landlock_create_ruleset: %v", err)
	}
	modules, readErr := os.ReadFile("/sys/kernel/security/lsm")
	if readErr != nil {
		t.Skipf("the kernel does not list its security modules: %v", readErr)
	}
	if listed := slices.Contains(strings.Split(strings.TrimSpace(string(modules)), ","), "landlock"); listed != (err == nil) {
		t.Errorf("version %d, %v; the modules are %s", abi, err, modules)
	}
	if usable := WhyNoLandlock() == ""; usable != (abi >= 3) {
		t.Errorf("version %d: %q", abi, WhyNoLandlock())
	}
}
