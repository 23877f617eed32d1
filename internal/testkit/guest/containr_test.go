package guest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/baseimage"
	"github.com/containr/containr/internal/testkit"
)

// TestContainrOnEveryKernel runs the whole of containr, the command line with its built-in image, on real kernels:
// the tests below whose names begin with TestContainrInside: on the oldest, where users have copies in place of overlays,
// and on the other architecture, where they have overlays. Those between run the tests of TestKernels.
func TestContainrOnEveryKernel(t *testing.T) {
	if _, err := baseimage.Archive(); err != nil {
		t.Skip(err)
	}
	for _, k := range chosen([]string{"debian-5.10", "debian-6.12-arm64"}) {
		t.Run(k, func(t *testing.T) {
			o := Options{Kernel: k, Package: module + "internal/testkit/guest", Run: "^TestContainrInside",
				Programs: map[string]string{"/usr/local/bin/containr": module + "cmd/containr"}}
			if k == "debian-5.10" {
				o.Packages = []string{"fuse-overlayfs"}
			}
			Run(t, o)
		})
	}
}

// containr runs a command line and returns what it printed and its exit code.
func containr(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	inside(t)
	var out, errs bytes.Buffer
	cmd := exec.Command("containr", args...)
	cmd.Env = append(os.Environ(), "CONTAINR_RUN_NETWORK=none")
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestContainrInside(t *testing.T) {
	inside(t)
	containr(t, "run", "--rm", "base", "true") // the first run unpacks the image, which stays
	testkit.Leftovers(t)
	dir := t.TempDir()
	testkit.WriteFile(t, filepath.Join(dir, "file"), "text\n", 0o666)
	for _, c := range []struct {
		args   string
		script string
		want   string
		code   int
	}{
		{"-m 32m", "cat /proc/self/cgroup /sys/fs/cgroup/memory.max", "0::/\n33554432\n", 0},
		{"-m 32m --shm-size 100m", "dd if=/dev/zero of=/dev/shm/x bs=1M count=64", "", 137},
		// A shell and a command of the built-in image are Go programs of some five threads each; one that gets no more crashes.
		{"--pids-limit 64", "cat /sys/fs/cgroup/pids.max", "64\n", 0},
		{"", "exit 7", "", 7},
		{"", "kill -KILL $$; echo alive", "alive\n", 0}, // the kernel protects PID 1 from its own
		{"-v " + dir + "/file:/file:ro", "cat /file; echo x >/file || echo refused", "text\nrefused\n", 0},
		{"-v " + dir + ":/dir", "echo more >>/dir/file; cat /dir/file", "text\nmore\n", 0},
		{"--read-only --tmpfs /tmp", "echo x >/x || echo refused; echo y >/tmp/y && cat /tmp/y", "refused\ny\n", 0},
		{"-u 1000:1000", "id -u; id -g; echo x >/x || echo refused", "1000\n1000\nrefused\n", 0},
		{"--hostname here", "hostname; hostname there || echo refused", "here\nrefused\n", 0},
	} {
		args := append(append([]string{"run", "--rm"}, strings.Fields(c.args)...), "base", "sh", "-c", c.script)
		stdout, stderr, code := containr(t, args...)
		if stdout != c.want || code != c.code {
			t.Errorf("%v: exit code %d, want %d; printed %q, want %q; %s", args, code, c.code, stdout, c.want, stderr)
		}
	}
}

func TestContainrInsideShowsTheMachine(t *testing.T) {
	stdout, stderr, code := containr(t, "run", "--rm", "base", "uname", "-r")
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil || stdout != string(release) || code != 0 {
		t.Errorf("exit code %d, printed %q, want %q (%v); %s", code, stdout, release, err, stderr)
	}
}

// An ordinary user has his containers stacked where he may mount an overlay; where he may not, by a program if he has it
// and may open its device, and else he has them copied.
func TestContainrInsideForUsers(t *testing.T) {
	inside(t)
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil && !strings.HasPrefix(string(release), "5.10.") {
		userRuns(t, "overlay")
		return
	}
	const device = "/dev/fuse"
	if err := unix.Mknod(device, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 229))); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]string{0o600: "native", 0o666: "fuse-overlayfs"} {
		if err := os.Chmod(device, mode); err != nil {
			t.Fatal(err)
		}
		userRuns(t, want)
	}
}

// userRuns has an ordinary user run a container and look at what it changed.
func userRuns(t *testing.T, want string) {
	t.Helper()
	home := t.TempDir()
	for _, dir := range []string{home, filepath.Dir(home)} {
		if err := os.Chown(dir, 1000, 1000); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ args, want string }{
		{"info --format {{.Driver}}", want + "\n"},
		{"run --name kept base sh -c 'echo mine >/mine; rm /etc/group; id -u'", "0\n"},
		{"diff kept", "C /etc\nD /etc/group\nA /mine\n"},
		{"rm kept", "kept\n"},
	} {
		cmd := exec.Command("sh", "-c", "containr "+c.args)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
		out, err := cmd.Output()
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = errors.New(err.Error() + ": " + string(failed.Stderr))
		}
		if string(out) != c.want || err != nil {
			t.Errorf("containr %s: printed %q, want %q, error %v", c.args, out, c.want, err)
		}
	}
}
