package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/procfs"
)

const module = "github.com/containr/containr/"

// matrix are the kernels of every test run: each generation, and the other architecture.
var matrix = []string{"debian-5.10", "debian-6.1", "debian-6.12", "debian-newest", "debian-6.12-arm64"}

// longMatrix is for tests that take minutes: the oldest, the newest, the other architecture. Those between have their turn
// with systemd (6.1), and with containerd, docker and podman (6.12, test/callers/version2).
var longMatrix = []string{"debian-5.10", "debian-newest", "debian-6.12-arm64"}

// kernelTests are those that assert on kernel state.
var kernelTests = []struct {
	pkg     string
	options Options
	kernels []string
}{
	{"internal/testkit", Options{}, []string{"debian-6.12-arm64"}}, // it reads what every kernel writes alike
	{"internal/child", Options{}, matrix},
	{"pkg/cgroup", Options{Args: []string{"-test.skip=Means?LastMatch"}}, matrix}, // they ask no kernel, and take long
	// What compares with a script, or with the program of a plan, needs bash and util-linux, which the host has. The loop
	// that fails every step starts a thousand containers: too many for an emulated processor. What only plans is the same
	// everywhere.
	{"pkg/runtime", Options{
		Args:     []string{"-test.short", "-test.skip=Script|ELF|EveryStepMayFail|EveryPlan|EveryField|FuzzCompile|Golden|IsPure"},
		Packages: []string{"strace", "apparmor", "iproute2"},
		Programs: map[string]string{runtimePath: module + "cmd/containr-runtime"},
		Env:      []string{"CONTAINR_TEST_RUNTIME=" + runtimePath},
		Timeout:  8 * time.Minute,
	}, longMatrix},
}

// runtimePath is where the tests find the runtime's command line.
const runtimePath = "/usr/lib/containr-test/containr-runtime"

// chosen returns the kernels to test on: CONTAINR_TEST_KERNELS has names between commas, or "all".
func chosen(kernels []string) []string {
	if list := os.Getenv("CONTAINR_TEST_KERNELS"); list == "all" {
		kernels = nil
		for _, k := range Kernels {
			kernels = append(kernels, k.Name)
		}
	} else if list != "" {
		kernels = strings.Split(list, ",")
	}
	return kernels
}

// TestKernels runs the kernel tests of the project on other kernels.
func TestKernels(t *testing.T) {
	for _, test := range kernelTests {
		for _, k := range chosen(test.kernels) {
			t.Run(k+"/"+strings.ReplaceAll(test.pkg, "/", "."), func(t *testing.T) {
				o := test.options
				o.Kernel, o.Package = k, module+test.pkg
				Run(t, o)
			})
		}
	}
}

// TestGuestIsLikeAHost runs the tests of inside_test.go.
func TestGuestIsLikeAHost(t *testing.T) {
	dir := sentTree(t)
	for _, test := range []struct {
		kernel string
		cpus   int
	}{{"debian-5.10", 2}, {"debian-6.12", 1}} {
		t.Run(test.kernel, func(t *testing.T) {
			Run(t, Options{Kernel: test.kernel, Package: module + "internal/testkit/guest", Run: "^TestInside", CPUs: test.cpus,
				Env: []string{"EXTRA=a b", fmt.Sprint("CPUS=", test.cpus)}, Files: map[string]string{"/srv/tree": dir}, Packages: []string{"apparmor"}})
		})
	}
}

// sentTree makes what TestInsideFiles looks for.
func sentTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	testkit.WriteFile(t, dir+"/sub/script", "#!/bin/sh\n", 0o751)
	if err := os.Symlink("sub/script", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestSELinuxGuest runs the tests that need SELinux.
func TestSELinuxGuest(t *testing.T) {
	for _, k := range chosen([]string{"debian-6.12"}) {
		t.Run(k, func(t *testing.T) {
			Run(t, Options{Kernel: k, Userland: SELinux, Package: module + "pkg/runtime", Run: "^TestSELinux"})
		})
	}
}

// TestSystemdGuest runs the tests of inside_test.go in a whole Debian, where they find the same and systemd.
func TestSystemdGuest(t *testing.T) {
	Run(t, Options{Kernel: "debian-6.1", Userland: Systemd, Package: module + "internal/testkit/guest", Run: "^TestInside",
		Env: []string{"EXTRA=a b", "CPUS=2", "USERLAND=systemd"}, Files: map[string]string{"/srv/tree": sentTree(t)}})
}

// TestSystemdMakesControlGroups runs the tests that need a real systemd, the system's and a user's.
func TestSystemdMakesControlGroups(t *testing.T) {
	for _, test := range []struct{ pkg, run string }{{"internal/systemd", "^TestScope$"}, {"pkg/runtime", "^TestSystemd"}} {
		t.Run(strings.ReplaceAll(test.pkg, "/", "."), func(t *testing.T) {
			Run(t, Options{Kernel: "debian-6.1", Userland: Systemd, Package: module + test.pkg, Run: test.run})
		})
	}
}

// execProbe runs the probe in a guest.
func execProbe(t *testing.T, o Options, args ...string) (result Result, stdout, log string, err error) {
	t.Helper()
	if os.Getenv(Var) != "" || testing.Short() {
		t.Skip("boots a guest: not in a guest, not for -short")
	}
	var out, remarks bytes.Buffer
	o.Kernel, o.Args, o.Stdout, o.Log = "debian-6.12", args, &out, &remarks
	if o.Binary, err = testkit.Build(module+"internal/testkit/cmd/probe", "amd64"); err != nil {
		t.Fatal(err)
	}
	result, err = Exec(t.Context(), o)
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	return result, out.String(), remarks.String(), err
}

func TestOutputExitCodeAndFilesComeBack(t *testing.T) {
	testkit.Leftovers(t)
	back := filepath.Join(t.TempDir(), "back")
	var stderr bytes.Buffer
	o := Options{Stderr: &stderr, Out: map[string]string{"/root/made": back, "/root/missing": back + "2"}, Files: map[string]string{"/root/sent": "testdata/hello"}}
	result, stdout, log, err := execProbe(t, o, "-stdout", "out\x01\xff\r\n", "-stderr", "err", "-write", "/root/made=content", "-exit", "7")
	if err != nil {
		t.Fatal(err)
	}
	// The log has the line about the times, and nothing else.
	if result.Code != 7 || stdout != "out\x01\xff\r\n" || stderr.String() != "err" || !strings.HasPrefix(result.Release, "6.12.") ||
		!strings.HasPrefix(log, "guest debian-6.12: up in ") || strings.Count(log, "\n") != 1 {
		t.Errorf("%+v, stdout %q, stderr %q, log %q", result, stdout, &stderr, log)
	}
	if b, err := os.ReadFile(back); err != nil || string(b) != "content" {
		t.Errorf("%q %v", b, err)
	}
	if _, err := os.Stat(back + "2"); err == nil {
		t.Error("a file that is not in the guest came back")
	}
}

func TestDeathOfTheKernelIsTold(t *testing.T) {
	_, _, log, err := execProbe(t, Options{}, "-write", "/proc/sys/kernel/sysrq=1", "-write", "/proc/sysrq-trigger=c")
	if err == nil || !strings.Contains(err.Error(), "before the program did") || !strings.Contains(err.Error(), "crash") {
		t.Errorf("error %v", err)
	}
	if !errors.Is(err, errPanic) || strings.Count(log, "once more") != 1 {
		t.Errorf("a kernel that panicked is tried again once; error %v, log %s", err, log)
	}
}

func TestDeathBySignalAndTimeout(t *testing.T) {
	testkit.Leftovers(t)
	if result, _, _, err := execProbe(t, Options{}, "-signal", "KILL"); err != nil || result.Code != 137 {
		t.Errorf("%+v %v", result, err)
	}
	_, _, log, err := execProbe(t, Options{Timeout: 100 * time.Millisecond}, "-pause")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v %s", err, log)
	}
}

// fake puts programs of these names, which are shell scripts, in front of all others, or alone if alone is set.
func fake(t *testing.T, alone bool, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range scripts {
		testkit.WriteFile(t, filepath.Join(dir, name), "#!/bin/sh\n"+text, 0o755)
	}
	if !alone {
		dir += ":" + os.Getenv("PATH")
	}
	t.Setenv("PATH", dir)
}

func TestDeathBeforeTheFirstAnswerIsTriedAgainOnce(t *testing.T) {
	if _, err := findQEMU("amd64"); err != nil {
		t.Skip(err)
	}
	count := filepath.Join(t.TempDir(), "count")
	fake(t, false, map[string]string{"qemu-system-x86_64": "[ \"$1\" = --version ] && exit\necho x >>" + count + "\necho panic\nexit 1\n"})
	_, _, log, err := execProbe(t, Options{}, "-exit", "0")
	if !errors.Is(err, errNoAnswer) || !strings.Contains(err.Error(), "panic") {
		t.Errorf("error %v", err)
	}
	if b, _ := os.ReadFile(count); string(b) != "x\nx\n" {
		t.Errorf("started %q", b)
	}
	if strings.Count(log, "once more") != 1 {
		t.Errorf("log %q", log)
	}
}

func TestWhatCannotBeHadIsUnavailable(t *testing.T) {
	fake(t, true, nil)
	_, err := Exec(t.Context(), Options{Kernel: "debian-6.1", Binary: "/x"})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "qemu-system-x86") {
		t.Errorf("no emulator: %v", err)
	}
	cache := t.TempDir()
	t.Setenv("CONTAINR_GUEST_CACHE", cache)
	fake(t, true, map[string]string{"qemu-system-x86_64": "exit 1", "apt-get": "echo no mirror >&2; exit 100"})
	_, err = Exec(t.Context(), Options{Kernel: "debian-6.1", Binary: "/x"})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no mirror") {
		t.Errorf("no mirror: %v", err)
	}
	left, _ := filepath.Glob(cache + "/*")
	if !slices.Equal(left, []string{cache + "/lock"}) {
		t.Errorf("left in the cache: %v", left)
	}
}

func TestProgramsThatCannotStartAreRefused(t *testing.T) {
	k, err := Find("debian-6.1")
	if err != nil {
		t.Fatal(err)
	}
	arm, err := testkit.Build(module+"internal/testkit/cmd/probe", "arm64")
	if err != nil {
		t.Skip(err)
	}
	for binary, want := range map[string]string{
		"":               "neither Binary nor Package",
		"/nonexistent":   "no such file",
		"testdata/hello": "no readable ELF",
		arm:              "is for EM_AARCH64",
	} {
		if err := checkBinary(binary, k); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", binary, err, want)
		}
	}
	if _, err := Find("debian-1.3"); err == nil || !strings.Contains(err.Error(), "debian-6.12") {
		t.Errorf("unknown kernel: %v", err)
	}
}

// TestMachineDiesWithItsStarter kills the command line in the middle of a run: the emulator must not outlive it.
func TestMachineDiesWithItsStarter(t *testing.T) {
	if os.Getenv(Var) != "" || testing.Short() {
		t.Skip("boots a guest: not in a guest, not for -short")
	}
	testkit.Leftovers(t)
	run, err := testkit.Build(module+"internal/testkit/guest/cmd/guestrun", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(run, "-kernel", "debian-6.12", "-optional", "--", testkit.Probe(t), "-stdout", "up", "-pause")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2)
	if n, _ := out.Read(buf); n == 0 {
		cmd.Wait()
		t.Skip("guestrun ended: no guest to be had")
	}
	procs, err := procfs.Processes()
	if err != nil {
		t.Fatal(err)
	}
	var qemu int
	for _, pid := range procfs.Descendants(procs, cmd.Process.Pid) {
		if strings.HasPrefix(procs[pid].Comm, "qemu-system") {
			qemu = pid
		}
	}
	if qemu == 0 {
		t.Fatal("no emulator among the descendants")
	}
	fd, err := unix.PidfdOpen(qemu, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	cmd.Process.Kill()
	cmd.Wait()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 60_000)
	if n != 1 {
		t.Errorf("the emulator runs on: %v", err)
	}
}

// TestGoTestExec is the way in which people use it.
func TestGoTestExec(t *testing.T) {
	if os.Getenv(Var) != "" || testing.Short() {
		t.Skip("boots a guest: not in a guest, not for -short")
	}
	run, err := testkit.Build(module+"internal/testkit/guest/cmd/guestrun", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := findQEMU("amd64"); err != nil {
		t.Skip(err)
	}
	profile := filepath.Join(t.TempDir(), "cover.out")
	cmd := exec.Command("go", "test", "-v", "-exec", run+" -kernel debian-6.12 --", "-coverprofile="+profile, module+"internal/testkit/procfs")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if bytes.Contains(out, []byte(ErrUnavailable.Error())) {
		t.Skipf("%s", out)
	}
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestOwnMountinfoHasRoot")) {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(profile)
	if err != nil || bytes.Count(b, []byte("\n")) < 50 {
		t.Errorf("coverage profile: %v %q", err, b)
	}
}

// TestCoverageAndProgramsComeAlong compiles a program for the guest and collects the counters of it and of the tests.
func TestCoverageAndProgramsComeAlong(t *testing.T) {
	dir := t.TempDir()
	Run(t, Options{Kernel: "debian-6.12", Package: module + "internal/testkit", Run: "^TestProbeActs$", CoverDir: dir,
		Programs: map[string]string{"/usr/lib/containr-test/covered": module + "internal/testkit/cmd/probe"},
		Env:      []string{testkit.ProbeVar + "=/usr/lib/containr-test/covered"}})
	out, err := exec.Command("go", "tool", "covdata", "percent", "-i="+dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, pkg := range []string{"internal/testkit", "internal/testkit/probe"} {
		covered := false
		for line := range strings.Lines(string(out)) {
			f := strings.Fields(line)
			covered = covered || len(f) > 2 && f[0] == module+pkg && f[2] != "0.0%"
		}
		if !covered {
			t.Errorf("nothing of %s is covered:\n%s", pkg, out)
		}
	}
}
