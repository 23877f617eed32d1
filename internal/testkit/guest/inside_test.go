package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// The tests of this file run in a guest: TestGuestIsLikeAHost and TestSystemdGuest boot one and run them there.

func inside(t *testing.T) {
	t.Helper()
	if os.Getenv(Var) == "" {
		t.Skip("runs in a guest only (TestGuestIsLikeAHost)")
	}
}

func TestInsideCgroupV2Alone(t *testing.T) {
	inside(t)
	file := "cgroup.subtree_control"
	if os.Getenv("USERLAND") != "" {
		file = "cgroup.controllers" // systemd hands down what units ask for
	}
	b, err := os.ReadFile("/sys/fs/cgroup/" + file)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cpu", "cpuset", "io", "memory", "pids"} {
		if !strings.Contains(" "+strings.TrimSpace(string(b))+" ", " "+name+" ") {
			t.Errorf("controller %s is not handed down: %s", name, b)
		}
	}
	for _, m := range testkit.Mountinfo(t, 0) {
		if m.Type == "cgroup" {
			t.Errorf("cgroup v1 is mounted: %v", m)
		}
	}
}

func TestInsideRootIsAnOrdinaryMount(t *testing.T) {
	inside(t)
	m, ok := testkit.Mountinfo(t, 0).At("/")
	if !ok || m.Type != "tmpfs" && m.Type != "overlay" || !m.Shared() {
		t.Errorf("root is %v", m)
	}
	// pivot_root(2) is what needs it; a child in a mount namespace of its own tries, by busybox.
	root := testkit.Rootfs(t)
	script := `set -e; mount --make-rprivate /; mount -o bind "$1" "$1"; cd "$1"; mkdir old; pivot_root . old; /probe -ls /old/proc/self`
	cmd := exec.Command("/bin/sh", "-c", script, "sh", root)
	cmd.SysProcAttr = &unix.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestInsideModulesComeOnDemand(t *testing.T) {
	inside(t)
	dir := t.TempDir()
	// That there is no such file system is ENODEV; one that finds no device complains of that.
	for _, fstype := range []string{"squashfs", "erofs"} {
		if err := unix.Mount("none", dir, fstype, 0, ""); err == unix.ENODEV {
			t.Errorf("mount -t %s: %v", fstype, err)
		}
	}
	if out, err := exec.Command("ip", "link", "add", "probe0", "type", "dummy").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat("/sys/class/net/probe0"); err != nil {
		t.Error(err)
	}
}

func TestInsideOverlay(t *testing.T) {
	inside(t)
	dir := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testkit.WriteFile(t, dir+"/lower/f", "x", 0o644)
	options := "lowerdir=" + dir + "/lower,upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	if err := unix.Mount("overlay", dir+"/merged", "overlay", 0, options); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir+"/merged", 0)
	if err := os.Remove(dir + "/merged/f"); err != nil {
		t.Error(err)
	}
	if fi, err := os.Lstat(dir + "/upper/f"); err != nil || fi.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("no whiteout: %v %v", fi, err)
	}
}

func TestInsideFiles(t *testing.T) {
	inside(t)
	// TestGuestIsLikeAHost sends these along.
	fi, err := os.Stat("/srv/tree/sub/script")
	if err != nil || fi.Mode() != 0o751 {
		t.Fatalf("%v %v", fi, err)
	}
	if target, _ := os.Readlink("/srv/tree/link"); target != "sub/script" {
		t.Errorf("link to %q", target)
	}
	if b, _ := os.ReadFile("testdata/hello"); string(b) != "hello\n" {
		t.Errorf("testdata/hello is %q", b)
	}
	if os.Getenv("EXTRA") != "a b" {
		t.Errorf("EXTRA=%q", os.Getenv("EXTRA"))
	}
	if want := os.Getenv("CPUS"); want != strconv.Itoa(runtime.NumCPU()) {
		t.Errorf("%d cpus, want %s", runtime.NumCPU(), want)
	}
}

// insideSystemd skips a test that is not for this guest.
func insideSystemd(t *testing.T) {
	t.Helper()
	inside(t)
	if os.Getenv("USERLAND") == "" {
		t.Skip("runs in a guest with systemd only (TestSystemdGuest)")
	}
}

func TestInsideSystemdRuns(t *testing.T) {
	insideSystemd(t)
	if b, err := os.ReadFile("/proc/1/comm"); string(b) != "systemd\n" {
		t.Errorf("process 1 is %q, error %v", b, err)
	}
	if out, err := exec.Command("systemctl", "is-system-running").CombinedOutput(); string(out) != "running\n" {
		failed, _ := exec.Command("systemctl", "--failed", "--no-legend").Output()
		t.Errorf("systemd is %s, error %v, failed: %s", out, err, failed)
	}
	// By D-Bus systemd is asked for a group with a limit.
	cmd := exec.Command("systemd-run", "--quiet", "--pipe", "--wait", "--unit=limited", "-p", "MemoryMax=64M",
		"cat", "/proc/self/cgroup", "/sys/fs/cgroup/system.slice/limited.service/memory.max")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "0::/system.slice/limited.service\n67108864\n" {
		t.Errorf("%q, error %v", out, err)
	}
}

func TestInsideSystemdOverlay(t *testing.T) {
	insideSystemd(t)
	for _, dir := range []string{"/tmp", "/var/lib/containr", "/var/lib/containers"} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil || st.Type == unix.OVERLAYFS_SUPER_MAGIC {
			t.Errorf("%s: an overlayfs cannot be on it (type %#x, error %v)", dir, st.Type, err)
		}
	}
}

const profile = `
profile containr-testkit flags=(attach_disconnected) {
  file,
  capability,
  deny /etc/group r,
}
`

func TestInsideAppArmorConfines(t *testing.T) {
	inside(t)
	parser, err := exec.LookPath("apparmor_parser")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(parser, "--replace", "--skip-cache")
	cmd.Stdin = strings.NewReader(profile)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd = exec.Command("/bin/sh", "-c", `echo exec containr-testkit >/proc/self/attr/exec; exec "$0" -try open:/etc/group -try open:/etc/passwd`, testkit.Probe(t))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	r := testkit.Report(t, out)
	denied, _ := r.Try("open:/etc/group")
	allowed, _ := r.Try("open:/etc/passwd")
	if r.Label != "containr-testkit (enforce)" || denied.Errno != "EACCES" || !allowed.OK {
		t.Errorf("label %q, %+v, %+v", r.Label, denied, allowed)
	}
}
