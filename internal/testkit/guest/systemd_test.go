package guest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/baseimage"
	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/procfs"
)

// bootUnit is the unit that is installed with containr.
const bootUnit = "containr-boot.service"

// TestContainrUnderSystemd runs the tests below, whose names begin with TestUnderSystemd, on a Debian with systemd.
func TestContainrUnderSystemd(t *testing.T) {
	if _, err := baseimage.Archive(); err != nil {
		t.Skip(err)
	}
	Run(t, Options{Kernel: "debian-6.1", Userland: Systemd, Package: module + "internal/testkit/guest", Run: "^TestUnderSystemd",
		Programs: map[string]string{"/usr/local/bin/containr": module + "cmd/containr", "/usr/local/bin/containr-monitor": module + "cmd/containr-monitor"},
		Files:    map[string]string{"/usr/local/lib/systemd/system/" + bootUnit: "../../../init/" + bootUnit}, Timeout: 6 * time.Minute})
}

// command runs a program of the guest, which must succeed, and returns what it printed.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	inside(t)
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// The unit that is shipped starts, at the boot of a machine, what should run, and takes nothing with it when it is stopped.
func TestUnderSystemdTheUnitStartsWhatShouldRun(t *testing.T) {
	inside(t)
	command(t, "systemctl", "daemon-reload")
	command(t, "systemctl", "enable", bootUnit)
	if _, err := os.Lstat("/etc/systemd/system/multi-user.target.wants/" + bootUnit); err != nil {
		t.Error(err)
	}
	command(t, "systemctl", "start", bootUnit) // a machine without a container
	setBoot(t, 1)
	for name, policy := range map[string]string{"always": "always", "unless": "unless-stopped", "unless-by-hand": "unless-stopped", "always-by-hand": "always",
		"failing": "on-failure", "once": "no"} {
		command(t, "containr", "run", "-d", "--name", name, "--restart", policy, "base", "sleep", "1000")
	}
	command(t, "containr", "stop", "-t", "0", "unless-by-hand", "always-by-hand")

	before := names(t)
	command(t, "systemctl", "restart", bootUnit)
	if after := names(t); !slices.Equal(before, []string{"always", "failing", "once", "unless"}) || !slices.Equal(before, after) {
		t.Errorf("running: %v; after a restart of the unit alone %v", before, after)
	}

	if said := command(t, "containr", "system", "sync"); said != "0\n" {
		t.Errorf("the unit was stopped, but layers were not flushed: %s", said)
	}

	shutDown(t)
	setBoot(t, 2)
	t.Cleanup(func() { // in this boot
		command(t, "containr", "rm", "-f", "always", "unless", "unless-by-hand", "always-by-hand", "failing", "once")
		command(t, "systemctl", "disable", "--now", bootUnit)
	})
	if err := os.RemoveAll("/run/containr"); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemctl", "start", bootUnit).CombinedOutput(); err != nil {
		log, logErr := exec.Command("journalctl", "--no-pager", "--unit", bootUnit, "--output", "cat").CombinedOutput()
		t.Errorf("%v: %s; the journal: %s (%v)", err, out, log, logErr)
	}
	want := []string{"always", "always-by-hand", "unless"}
	if after := names(t); !slices.Equal(after, want) {
		t.Errorf("after a boot %v run, want %v; %s", after, want, command(t, "containr", "ps", "-a"))
	}
	for _, name := range want {
		pid := strings.TrimSpace(command(t, "containr", "inspect", "--format", "{{.State.Pid}}", name))
		if line, err := os.ReadFile("/proc/" + pid + "/cmdline"); err != nil || !strings.Contains(string(line), "sleep\x001000") {
			t.Errorf("%s: process %s is %q, error %v", name, pid, line, err)
		}
	}
	command(t, "systemctl", "stop", bootUnit)
	if after := names(t); !slices.Equal(after, want) {
		t.Errorf("after a stop of the unit %v run", after)
	}
}

// names returns the names of the containers that run, sorted.
func names(t *testing.T) []string {
	t.Helper()
	list := strings.Fields(command(t, "containr", "ps", "--format", "{{.Names}}"))
	slices.Sort(list)
	return list
}

// setBoot makes the machine's boot another one, as far as one can see.
func setBoot(t *testing.T, n int) {
	t.Helper()
	const kernels = "/proc/sys/kernel/random/boot_id"
	file := filepath.Join(t.TempDir(), "boot_id")
	testkit.WriteFile(t, file, "00000000-0000-4000-8000-00000000000"+strconv.Itoa(n)+"\n", 0o644)
	if err := unix.Mount(file, kernels, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(kernels, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// shutDown does what systemd does with all processes at the end, and the kernel with control groups.
func shutDown(t *testing.T) {
	t.Helper()
	command(t, "systemctl", "stop", bootUnit)
	for _, signal := range []syscall.Signal{unix.SIGTERM, unix.SIGKILL} {
		for _, pid := range containrs(t) {
			if err := unix.Kill(pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
				t.Fatal(err)
			}
		}
	}
	for deadline := time.Now().Add(time.Minute); len(containrs(t)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still there: %v", containrs(t))
		}
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/system.slice/containr-*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range groups {
		if strings.HasSuffix(dir, ".service") {
			continue
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// containrs returns the processes of containr: containers, their keepers, monitor, resolver.
func containrs(t *testing.T) []int {
	t.Helper()
	all, err := procfs.Processes()
	if err != nil {
		t.Fatal(err)
	}
	var list []int
	for pid := range all {
		group, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
		if err != nil { // it has ended
			continue
		}
		exe, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe") // a thread of the kernel has none
		contained := strings.Contains(string(group), "/containr-") && !strings.Contains(string(group), "/containr-agent.service")
		if contained || strings.HasPrefix(exe, "/usr/local/bin/containr") || strings.HasPrefix(exe, "/memfd:") {
			list = append(list, pid)
		}
	}
	return list
}

// ann is an ordinary user with a systemd of her own.
const ann = 1000

// asAnn runs a program as ann and returns what it printed and its exit code.
func asAnn(t *testing.T, runtimeDir, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/tmp/ann", "XDG_RUNTIME_DIR=" + runtimeDir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ann, Gid: ann}}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// An ordinary user's limits hold: they are those of a scope of her own systemd, wherever in the tree she types.
func TestUnderSystemdUsersHaveLimits(t *testing.T) {
	inside(t)
	const dir = "/run/user/1000"
	command(t, "useradd", "--uid", strconv.Itoa(ann), "--user-group", "--home-dir", "/tmp/ann", "--create-home", "ann")
	command(t, "systemctl", "start", "user@"+strconv.Itoa(ann)+".service")
	t.Cleanup(func() {
		command(t, "systemctl", "stop", "user@"+strconv.Itoa(ann)+".service")
		command(t, "userdel", "--remove", "ann")
	})
	run := func(name string, args ...string) string {
		t.Helper()
		stdout, stderr, code := asAnn(t, dir, name, args...)
		if code != 0 {
			t.Fatalf("%s %s: exit code %d: %s%s", name, strings.Join(args, " "), code, stdout, stderr)
		}
		return strings.TrimSpace(stdout)
	}
	limits := []string{"run", "-d", "-m", "64m", "--pids-limit", "50", "--cpus", "0.5"}
	for name, line := range map[string][]string{
		"scope": append([]string{"systemd-run", "--user", "--scope", "--quiet", "-p", "Delegate=yes", "containr"}, limits...),
		"apart": append([]string{"containr"}, limits...),
	} {
		run(line[0], append(line[1:], "--name", name, "base", "sleep", "1000")...)
		pid := run("containr", "inspect", "--format", "{{.State.Pid}}", name)
		text, err := os.ReadFile("/proc/" + pid + "/cgroup")
		path, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "0::")
		if err != nil || !ok || !strings.Contains(path, "/user@1000.service/user.slice/containr-") || !strings.HasSuffix(path, ".scope") {
			t.Errorf("%s: it is in %q, error %v", name, text, err)
			continue
		}
		group := "/sys/fs/cgroup" + path
		holds(t, group, map[string]string{"memory.max": "67108864", "pids.max": "50", "cpu.max": "50000 100000"})
		run("containr", "update", "-m", "96m", "--memory-swap", "96m", name)
		holds(t, group, map[string]string{"memory.max": "100663296"})
		if used := run("containr", "stats", "--no-stream", "--format", "{{.MemUsage}}", name); !strings.Contains(used, "/ 96MiB") {
			t.Errorf("%s: stats say %s", name, used)
		}
		run("containr", "rm", "-f", name)
		if _, err := os.Stat(group); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the group is still there: %v", name, err)
		}
	}
	_, stderr, code := asAnn(t, dir, "containr", "run", "--rm", "-m", "32m", "--shm-size", "100m", "base", "dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=64")
	if code != 137 || !strings.Contains(stderr, "memory limit") {
		t.Errorf("who takes more memory than allowed: exit code %d, %s", code, stderr)
	}
	if said := run("containr", "doctor", "--format", "{{.Check}}={{.Why}}"); !strings.Contains(said, "delegation=your systemd gives your containers control groups: ") {
		t.Errorf("doctor says %s", said)
	}
	// Without a systemd of her own she is told so, and all else works.
	_, stderr, code = asAnn(t, "/tmp/ann", "containr", "run", "--rm", "-m", "64m", "base", "true")
	if code != 125 || !strings.Contains(stderr, "limits need a cgroup, and none may be made here") || !strings.Contains(stderr, "containr doctor") {
		t.Errorf("no manager: exit code %d, %s", code, stderr)
	}
	if _, stderr, code = asAnn(t, "/tmp/ann", "containr", "run", "--rm", "base", "true"); code != 0 {
		t.Errorf("no limits, no manager: exit code %d, %s", code, stderr)
	}
}

// Containers that name no profile have the one that containr brings: the kernel says so, and it bites where nothing else
// would.
func TestUnderSystemdContainersAreConfined(t *testing.T) {
	inside(t)
	// A command line of the container's: all other walls are down.
	confined := func(script string, options ...string) string {
		t.Helper()
		args := []string{"run", "--rm", "--cap-add", "all", "--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"}
		return command(t, "containr", append(append(args, options...), "base", "sh", "-c", script)...)
	}
	const try = `cat /proc/self/attr/current; (echo h >/proc/sysrq-trigger) 2>/dev/null || echo no sysrq; ` +
		`(echo 1 >/proc/sys/kernel/printk_ratelimit) 2>/dev/null || echo no sysctl; (mount -t tmpfs t /mnt && umount /mnt) 2>/dev/null || echo no mount; ` +
		`echo x >/tmp/file && cat /tmp/file`
	const walled = "containr-default (enforce)\nno sysrq\nno sysctl\nno mount\nx\n"
	if got := confined(try); got != walled {
		t.Errorf("by default: %q, want %q", got, walled)
	}
	for _, option := range [][]string{{"--security-opt", "apparmor=unconfined"}, {"--privileged"}} {
		if got := confined(try, option...); got != "unconfined\nx\n" {
			t.Errorf("%v: %q", option, got)
		}
	}
	// Who removes the profile has it again with the next container, and a further program is in it too.
	if out, err := exec.Command("sh", "-c", "echo 'profile containr-default {}' | apparmor_parser --remove").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	command(t, "containr", "run", "-d", "--name", "confined", "base", "sleep", "1000")
	t.Cleanup(func() { command(t, "containr", "rm", "-f", "confined") })
	pid := strings.TrimSpace(command(t, "containr", "inspect", "--format", "{{.State.Pid}}", "confined"))
	for what, got := range map[string]string{
		"first process":   command(t, "cat", "/proc/"+pid+"/attr/current"),
		"further process": command(t, "containr", "exec", "confined", "cat", "/proc/self/attr/current"),
	} {
		if got != "containr-default (enforce)\n" {
			t.Errorf("%s: %q", what, got)
		}
	}
	if got := command(t, "containr", "inspect", "--format", "{{.AppArmorProfile}}", "confined"); got != "containr-default\n" {
		t.Errorf("inspect says %q", got)
	}
	if got := command(t, "containr", "info", "--format", "{{.SecurityOptions}}"); !strings.Contains(got, "name=apparmor,profile=containr-default") {
		t.Errorf("info says %s", got)
	}
	// Without the parser there is no profile, and it is said.
	const parser = "/usr/sbin/apparmor_parser"
	if err := os.Rename(parser, parser+".off"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Rename(parser+".off", parser); err != nil {
			t.Error(err)
		}
	}()
	if got := confined("cat /proc/self/attr/current"); got != "unconfined\n" {
		t.Errorf("without a parser: %q", got)
	}
	if said := command(t, "containr", "doctor", "--format", "{{.Check}}={{.Why}}"); !strings.Contains(said, "run without a profile: apparmor_parser is not installed") {
		t.Errorf("doctor says %s", said)
	}
}

// holds asks the kernel for files of a control group.
func holds(t *testing.T, group string, want map[string]string) {
	t.Helper()
	for file, value := range want {
		if text, err := os.ReadFile(group + "/" + file); err != nil || strings.TrimSpace(string(text)) != value {
			t.Errorf("%s is %q, want %s; error %v", file, text, value, err)
		}
	}
}
