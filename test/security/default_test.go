package security

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/probe"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
)

// run runs the program of a fixture in a container of the engine's, and returns its
// report.
func run(t *testing.T, c container.Config, flags ...string) (probe.Report, error) {
	t.Helper()
	return runBy(t, engine.New(engine.Options{Root: t.TempDir()}), c, flags...)
}

// runBy does it with an engine that the test has made.
func runBy(t *testing.T, e *engine.Engine, c container.Config, flags ...string) (probe.Report, error) {
	t.Helper()
	if c.Rootfs == "" {
		c.Rootfs = testkit.Rootfs(t)
	}
	c.Args, c.AutoRemove = append([]string{"/probe"}, flags...), true
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := e.Run(t.Context(), engine.RunRequest{Config: c, Streams: engine.Streams{Stdio: [3]*os.File{in, out, out}}}); err != nil {
		return probe.Report{}, err
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	return testkit.Report(t, text), nil
}

// begin begins a test of the kernel: as root, and nothing may be left at its end. The
// control group above those of all containers is meant to stay, so it is made before.
func begin(t *testing.T) {
	t.Helper()
	testkit.RequireRoot(t)
	warmUp.Do(func() {
		if _, err := run(t, container.Config{}); err != nil {
			t.Fatal(err)
		}
	})
	testkit.Leftovers(t)
}

var warmUp sync.Once

// attempts makes flags of the probe of things to try.
func attempts(words ...string) []string {
	var flags []string
	for _, w := range words {
		flags = append(flags, "-try", w)
	}
	return flags
}

// expectDenied checks that nothing of what was tried worked, for one of the reasons.
func expectDenied(t *testing.T, r probe.Report, want int, errnos string) {
	t.Helper()
	if len(r.Tries) != want {
		t.Errorf("%d attempts were made, want %d", len(r.Tries), want)
	}
	for _, try := range r.Tries {
		if try.OK || !strings.Contains(" "+errnos+" ", " "+try.Errno+" ") {
			t.Errorf("%s: worked %v, %s %s", try.Attempt, try.OK, try.Errno, try.Error)
		}
	}
}

// What most ways out of a container have begun with (CVE-2022-0185, CVE-2024-1086,
// CVE-2022-0492) is not there, whoever the user is.
func TestDefaultContainerCannotReachTheKernelsWeakSpots(t *testing.T) {
	begin(t)
	var words []string
	for _, ns := range []string{"user", "mnt", "net", "pid", "ipc", "uts", "cgroup", "time"} {
		words = append(words, "unshare:"+ns)
	}
	for _, call := range [...]struct{ nr, arg int }{
		{unix.SYS_CLONE, unix.CLONE_NEWUSER | int(unix.SIGCHLD)}, {unix.SYS_CLONE, unix.CLONE_NEWNS | int(unix.SIGCHLD)}, {unix.SYS_CLONE3, 0},
		{unix.SYS_SETNS, 0}, {unix.SYS_MOUNT, 0}, {unix.SYS_UMOUNT2, 0}, {unix.SYS_FSOPEN, 0}, {unix.SYS_FSCONFIG, 0}, {unix.SYS_FSMOUNT, 0},
		{unix.SYS_FSPICK, 0}, {unix.SYS_OPEN_TREE, 0}, {unix.SYS_MOVE_MOUNT, 0}, {unix.SYS_MOUNT_SETATTR, 0}, {unix.SYS_PIVOT_ROOT, 0},
		{unix.SYS_BPF, 0}, {unix.SYS_KEYCTL, 0}, {unix.SYS_ADD_KEY, 0}, {unix.SYS_REQUEST_KEY, 0}, {unix.SYS_USERFAULTFD, 0},
		{unix.SYS_IO_URING_SETUP, 1}, {unix.SYS_IO_URING_ENTER, 0}, {unix.SYS_IO_URING_REGISTER, 0}, {unix.SYS_PERF_EVENT_OPEN, 0},
		{unix.SYS_OPEN_BY_HANDLE_AT, 0}, {unix.SYS_INIT_MODULE, 0}, {unix.SYS_FINIT_MODULE, 0}, {unix.SYS_DELETE_MODULE, 0},
		{unix.SYS_KEXEC_LOAD, 0}, {unix.SYS_REBOOT, 0}, {unix.SYS_SWAPON, 0}, {unix.SYS_SYSLOG, 3}, {unix.SYS_SETTIMEOFDAY, 0},
		{unix.SYS_MOVE_PAGES, 0}, {unix.SYS_QUOTACTL, 0}, {unix.SYS_ACCT, 0},
	} {
		words = append(words, fmt.Sprintf("syscall:%d,%d", call.nr, call.arg))
	}
	for _, user := range []string{"0", "1000"} {
		t.Run("user "+user, func(t *testing.T) {
			r, err := run(t, container.Config{User: user}, attempts(words...)...)
			if err != nil {
				t.Fatal(err)
			}
			expectDenied(t, r, len(words), "EPERM ENOSYS")
			if caps := r.Status.Caps; caps.Inheritable != 0 || caps.Ambient != 0 || user != "0" && caps.Effective != 0 {
				t.Errorf("capabilities %+v", caps)
			}
			if r.Status.Seccomp != 2 {
				t.Errorf("seccomp mode %d", r.Status.Seccomp)
			}
		})
	}
}

// The host's settings, devices and control groups cannot be written, and what tells
// about it cannot be read (CVE-2022-0492, CVE-2023-25809).
func TestDefaultContainerCannotChangeTheHost(t *testing.T) {
	begin(t)
	var words []string
	hierarchies, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range append(hierarchies, "/sys/fs/cgroup/cgroup.procs") {
		for _, file := range []string{"release_agent", "notify_on_release", "cgroup.procs", "tasks", "devices.allow"} {
			words = append(words, "write:"+filepath.Join(filepath.Dir(h), file)+"=1")
		}
		words = append(words, "create:"+filepath.Join(filepath.Dir(h), "group"))
	}
	words = append(words,
		"write:/proc/sys/kernel/core_pattern=|/x", "write:/proc/sys/kernel/modprobe=/x", "write:/proc/sysrq-trigger=h", "write:/proc/irq/default_smp_affinity=1",
		"write:/sys/kernel/uevent_helper=/x", "create:/sys/x", "create:/proc/x", "remount-rw:/sys", "remount-rw:/proc/sys", "umount:/proc/sys",
		"open:/proc/1/root/../../../../../../dev/vda", "open:/dev/mem", "open:/dev/kmsg", "mount:/tmp", "write:/proc/self/oom_score_adj=-1000",
		"write:/proc/sys/net/ipv4/ip_forward=1", "write:/proc/bus/x=1", "write:/proc/fs/x=1")
	r, err := run(t, container.Config{}, attempts(words...)...)
	if err != nil {
		t.Fatal(err)
	}
	expectDenied(t, r, len(words), "EPERM EACCES EROFS ENOENT ENOTDIR")
}

// Files are masked with the host's own /dev/null, whatever the image has at that name
// (CVE-2025-31133); /dev is not the image's.
func TestMasksDoNotComeFromTheImage(t *testing.T) {
	begin(t)
	root := testkit.Rootfs(t)
	secret := filepath.Join(root, "dev", "null")
	testkit.WriteFile(t, secret, "not null", 0o666)
	if err := os.Symlink("/proc/sysrq-trigger", filepath.Join(root, "dev", "console")); err != nil {
		t.Fatal(err)
	}
	r, err := run(t, container.Config{Rootfs: root}, append(attempts("read:/proc/kcore", "read:/proc/keys", "read:/proc/timer_list"), "-ls", "/dev")...)
	if err != nil {
		t.Fatal(err)
	}
	for _, try := range r.Tries {
		if try.Value != "" || !try.OK && try.Errno != "ENOENT" {
			t.Errorf("%+v", try)
		}
	}
	masks := 0
	for _, m := range r.Mounts {
		if strings.HasPrefix(m.Point, "/proc/k") {
			masks++
			if m.Root != "/null" || m.Type != "devtmpfs" && m.Type != "tmpfs" {
				t.Errorf("%s is covered by %s of a %s", m.Point, m.Root, m.Type)
			}
		}
	}
	if masks == 0 {
		t.Error("nothing is masked")
	}
	for _, n := range r.Dirs["/dev"] {
		if n.Name == "null" && (n.Major != 1 || n.Minor != 3) || n.Name == "console" {
			t.Errorf("%+v", n)
		}
	}
}
