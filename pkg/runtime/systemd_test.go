package runtime

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
)

// The tests of this file need a machine whose process 1 is systemd; there is a guest for
// them. What unit_test.go says of a fake one holds of the real one too.

func needsSystemd(t *testing.T) {
	t.Helper()
	testkit.RequireRoot(t)
	if comm, err := os.ReadFile("/proc/1/comm"); err != nil || string(comm) != "systemd\n" {
		t.Skipf("needs systemd as process 1, which is %q (error %v)", comm, err)
	}
}

// show asks systemd for properties of a unit.
func show(t *testing.T, unit string, names ...string) map[string]string {
	t.Helper()
	out, err := exec.Command("systemctl", "show", unit, "--property", strings.Join(names, ",")).Output()
	if err != nil {
		t.Fatalf("systemctl show %s: %v", unit, err)
	}
	m := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		m[name] = value
	}
	return m
}

func (c running) expect(unit string, want map[string]string) {
	c.t.Helper()
	if got := show(c.t, unit, slices.Sorted(maps.Keys(want))...); !maps.Equal(got, want) {
		c.t.Errorf("systemd says %v, want %v", got, want)
	}
}

// A container in a scope of the real one: what systemd thinks and what the kernel does
// are what was asked for; both change, and stay through a reload; and it goes.
func TestSystemd(t *testing.T) {
	needsSystemd(t)
	testkit.Leftovers(t)
	limit, quota, period, pids := int64(64<<20), int64(50000), uint64(100000), int64(60)
	major, minor := int64(240), int64(7) // no driver has it
	device := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &major, Minor: &minor, Access: "rw"}
	spec := limited(specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: &limit},
		CPU:     &specs.LinuxCPU{Quota: &quota, Period: &period, Cpus: "0"},
		Pids:    &specs.LinuxPids{Limit: &pids},
		Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}, device},
	}, "-wait-signal", "USR1")
	spec.Annotations = map[string]string{"org.systemd.property.TimeoutStopSec": "7"}
	r, req := unitRequest(t, spec)
	node := filepath.Join(spec.Root.Path, "device")
	if err := unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(240, 7))); err != nil {
		t.Fatal(err)
	}
	spec.Linux.CgroupsPath = "containr-test.slice:app:test"
	t.Cleanup(func() {
		if out, err := exec.Command("systemctl", "stop", "containr.slice").CombinedOutput(); err != nil { // slices stay until nobody remembers them
			t.Errorf("systemctl stop: %v: %s", err, out)
		}
	})
	s, err := r.Create(req)
	if err != nil {
		t.Fatal(err)
	}
	c := running{Runtime: r, Started: s, t: t, root: spec.Root.Path}
	const unit = "app-test.scope"
	c.expect(unit, map[string]string{"ActiveState": "active", "Slice": "containr-test.slice", "Delegate": "yes", "MemoryMax": "67108864", "TasksMax": "60",
		"CPUQuotaPerSecUSec": "500ms", "AllowedCPUs": "0", "ControlGroup": "/containr.slice/containr-test.slice/" + unit,
		"TimeoutStopUSec": "7s", "DevicePolicy": "strict", "Description": "containr container test"})
	opens := func() string {
		return c.probe(exampleSpec("/probe", "-try", "open:/device").Process).Tries[0].Errno
	}
	memory := func() string { return c.control("memory", "", "memory.max") }
	if memory() != "67108864" || c.control("cpu", "", "cpu.max") != "50000 100000" || c.control("pids", "", "pids.max") != "60" || opens() != "ENXIO" {
		t.Errorf("memory %s, CPU %s, processes %s, device %q", memory(), c.control("cpu", "", "cpu.max"), c.control("pids", "", "pids.max"), opens())
	}
	limit *= 2
	change := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}, Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}}
	if err := r.Update("test", change); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
		t.Errorf("daemon-reload: %v: %s", err, out)
	}
	c.expect(unit, map[string]string{"MemoryMax": "134217728", "TasksMax": "60"})
	if memory() != "134217728" || opens() != "EPERM" {
		t.Errorf("after the change: memory %s, device %q", memory(), opens())
	}
	if err := r.Kill("test", unix.SIGKILL, false); err != nil {
		t.Error(err)
	}
	reap(s.PID)
	if err := r.Delete("test", false); err != nil {
		t.Error(err)
	}
	c.expect(unit, map[string]string{"LoadState": "not-found", "ActiveState": "inactive"})
}

// What systemd does not know is an error in its words, and nothing is left.
func TestSystemdRefuses(t *testing.T) {
	needsSystemd(t)
	testkit.Leftovers(t)
	r, req := unitRequest(t, exampleSpec("/probe"))
	req.Spec.Linux.CgroupsPath = ""
	req.Spec.Annotations = map[string]string{"org.systemd.property.NoSuchThing": "true"}
	if _, err := r.Create(req); err == nil || !strings.Contains(err.Error(), "NoSuchThing") {
		t.Errorf("error %v", err)
	}
	if got := show(t, "containr-test.scope", "LoadState"); got["LoadState"] != "not-found" {
		t.Errorf("the unit is %v", got)
	}
}

// A container that died by itself, or was killed by systemd, leaves a scope that is
// gone, or goes with the container.
func TestSystemdStopsIt(t *testing.T) {
	needsSystemd(t)
	testkit.Leftovers(t)
	r, req := unitRequest(t, exampleSpec("/probe", "-wait-signal", "USR1"))
	req.Spec.Linux.CgroupsPath = ""
	s, err := r.Create(req)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemctl", "stop", "containr-test.scope").CombinedOutput(); err != nil {
		t.Errorf("systemctl stop: %v: %s", err, out)
	}
	reap(s.PID)
	if err := r.Finish(s); err != nil {
		t.Error(err)
	}
}

// userVar makes this program the part of TestSystemdOfAUser that is no longer root: its
// value is the directory with the root file system.
const userVar = "CONTAINR_TEST_SYSTEMD_USER"

// An ordinary user gets a scope, with a limit, from a systemd of its own.
func TestSystemdOfAUser(t *testing.T) {
	needsSystemd(t)
	const uid = 4321
	dir, err := os.MkdirTemp("/var/tmp", "user")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	root := testkit.Rootfs(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range [][]string{
		{"useradd", "--uid", strconv.Itoa(uid), "--user-group", "--no-create-home", "containr-user"},
		{"systemctl", "start", "user@" + strconv.Itoa(uid) + ".service"},
		{"cp", "-a", root, dir + "/rootfs"}, {"cp", self, dir + "/test"}, {"chown", "-R", strconv.Itoa(uid), dir},
	} {
		if out, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", step, err, out)
		}
	}
	t.Cleanup(func() {
		_ = exec.Command("systemctl", "stop", "user@"+strconv.Itoa(uid)+".service").Run() // as far as it came
		_ = exec.Command("userdel", "containr-user").Run()
	})
	cmd := exec.Command(dir+"/test", "-test.run", "^TestPartOfAUser$", "-test.v")
	cmd.Env = append(os.Environ(), userVar+"="+dir, "XDG_RUNTIME_DIR=/run/user/"+strconv.Itoa(uid), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestPartOfAUser") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestPartOfAUser(t *testing.T) {
	dir := os.Getenv(userVar)
	if dir == "" {
		t.Skip("is a part of TestSystemdOfAUser")
	}
	facts, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	limit := int64(96 << 20)
	spec := limited(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}, "-wait-signal", "USR1")
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	spec.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: uid, Size: 1}}
	spec.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: gid, Size: 1}}
	for i := range spec.Mounts {
		spec.Mounts[i].Options = slices.DeleteFunc(spec.Mounts[i].Options, func(o string) bool { return strings.HasPrefix(o, "gid=") })
	}
	spec.Root = &specs.Root{Path: dir + "/rootfs"}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r := &Runtime{Root: filepath.Join(dir, "state"), Facts: facts}
	s, err := r.Create(&CreateRequest{ID: "test", Bundle: dir, Spec: spec, Stdio: [3]*os.File{null, null, null}, Systemd: true})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(s.PID) + "/cgroup")
	if want := "/user@" + strconv.Itoa(int(uid)) + ".service/user.slice/containr-test.scope\n"; err != nil || !strings.HasSuffix(string(text), want) {
		t.Errorf("it is in %s, error %v", text, err)
	}
	c := running{Runtime: r, Started: s, t: t}
	if got := c.control("memory", "", "memory.max"); got != strconv.FormatInt(limit, 10) {
		t.Errorf("memory %s", got)
	}
	limit *= 2
	if err := r.Update("test", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}); err != nil {
		t.Error(err)
	}
	if got := c.control("memory", "", "memory.max"); got != strconv.FormatInt(limit, 10) {
		t.Errorf("memory %s after the change", got)
	}
	if err := r.Kill("test", unix.SIGKILL, false); err != nil {
		t.Error(err)
	}
	reap(s.PID)
	if err := r.Delete("test", false); err != nil {
		t.Error(err)
	}
}
