package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/procfs"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

func TestContainerSeesItsOwnWorld(t *testing.T) {
	testkit.Leftovers(t)
	r := probe(t, exampleSpec("/probe"))
	if r.PID != 1 || r.PPID != 0 {
		t.Errorf("pid %d, parent %d: want 1, 0", r.PID, r.PPID)
	}
	if r.Hostname != "example" {
		t.Errorf("host name %q", r.Hostname)
	}
	own := testkit.Namespaces(t, os.Getpid())
	for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "uts"} {
		if r.Namespaces[kind] == own[kind] || r.Namespaces[kind] == 0 {
			t.Errorf("namespace %s is the host's", kind)
		}
	}
	if r.Namespaces["user"] != own["user"] {
		t.Errorf("a user namespace that nobody asked for")
	}
	if len(r.Links) != 1 || r.Links[0].Name != "lo" || !r.Links[0].Up {
		t.Errorf("links %v: want lo, up", r.Links)
	}
	const chownAndKill = 1<<0 | 1<<5
	if c := r.Status.Caps; c.Bounding != chownAndKill || c.Permitted != chownAndKill || c.Effective != chownAndKill || c.Inheritable != 0 || c.Ambient != 0 {
		t.Errorf("capabilities %+v", c)
	}
	if !r.Status.NoNewPrivs {
		t.Error("no_new_privs is not set")
	}
	if r.Signals.Blocked != 0 || r.Signals.Ignored != 0 {
		t.Errorf("signals blocked %v, ignored %v: want none", r.Signals.Blocked, r.Signals.Ignored)
	}
	if len(r.FDs) != 3 {
		t.Errorf("descriptors %v: want 0, 1, 2", r.FDs)
	}
	if r.Umask != 0o22 {
		t.Errorf("umask %o", r.Umask)
	}
	if len(r.Env) != 1 {
		t.Errorf("environment %q: want PATH only", r.Env)
	}
	if !strings.Contains(r.KeyringDesc, "_ses.test") {
		t.Errorf("session keyring %q", r.KeyringDesc)
	}
}

func TestContainerMounts(t *testing.T) {
	testkit.Leftovers(t)
	r := probe(t, exampleSpec("/probe"))
	var points []string
	for _, m := range r.Mounts {
		points = append(points, m.Point)
		if m.Shared() {
			t.Errorf("%s: propagation %v: the host could see mounts from here", m.Point, m.Propagation)
		}
		if strings.HasPrefix(m.Point, "/sys") || strings.HasPrefix(m.Point, "/proc/") && m.Point != "/proc/keys" && m.Point != "/proc/kcore" {
			if !slices.Contains(m.Options, "ro") {
				t.Errorf("%s: %v: want read-only", m.Point, m.Options)
			}
		}
	}
	for _, want := range []string{"/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/proc/keys", "/proc/sys", "/sys/firmware"} {
		if !slices.Contains(points, want) {
			t.Errorf("%s is not mounted", want)
		}
	}
}

func TestUserAndGroups(t *testing.T) {
	testkit.Leftovers(t)
	spec := exampleSpec("/probe")
	spec.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 10, 1001}}
	spec.Process.Capabilities.Ambient = []string{"CAP_KILL"}
	spec.Process.Capabilities.Inheritable = []string{"CAP_KILL"}
	r := probe(t, spec)
	if r.UID.Real != 1000 || r.UID.Saved != 1000 || r.GID.Real != 1001 || r.GID.Saved != 1001 {
		t.Errorf("uid %+v, gid %+v", r.UID, r.GID)
	}
	if !slices.Equal(r.Groups, []int{5, 10, 1001}) {
		t.Errorf("groups %v", r.Groups)
	}
	if c := r.Status.Caps; c.Effective != 1<<5 || c.Ambient != 1<<5 {
		t.Errorf("capabilities %+v: want the ambient CAP_KILL only", c)
	}
}

// With crun's annotation the groups of the caller stay, and those of the configuration
// are not set.
func TestOriginalGroupsAreKept(t *testing.T) {
	testkit.Leftovers(t)
	before, err := syscall.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setgroups([]int{7, 4242}); err != nil { // of all threads
		t.Skipf("this process may not change its groups: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Setgroups(before); err != nil {
			t.Error(err)
		}
	})
	for value, want := range map[string][]int{"1": {7, 4242}, "0": {5}} {
		spec := exampleSpec("/probe")
		spec.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5}}
		spec.Annotations = map[string]string{"run.oci.keep_original_groups": value}
		if r := probe(t, spec); !slices.Equal(r.Groups, want) {
			t.Errorf("value %s: groups %v, want %v", value, r.Groups, want)
		}
	}
}

func TestUserNamespace(t *testing.T) {
	testkit.Leftovers(t)
	spec := exampleSpec("/probe")
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	spec.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	spec.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	r := probe(t, spec)
	if f := strings.Fields(r.UIDMap); !slices.Equal(f, []string{"0", "100000", "65536"}) {
		t.Errorf("uid map %q", r.UIDMap)
	}
	if r.UID.Real != 0 || r.Status.Caps.Effective != 1<<0|1<<5 {
		t.Errorf("uid %d, capabilities %+v", r.UID.Real, r.Status.Caps)
	}
}

func TestSysctlLimitsAndScore(t *testing.T) {
	testkit.Leftovers(t)
	spec := exampleSpec("/probe", "-sysctl", "net.ipv4.ip_unprivileged_port_start")
	spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "7"}
	spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 123, Hard: 456}}
	score := 77
	spec.Process.OOMScoreAdj = &score
	r := probe(t, spec)
	if v := r.Sysctls["net.ipv4.ip_unprivileged_port_start"]; v != "7" {
		t.Errorf("sysctl %q", v)
	}
	if l := r.Rlimits["RLIMIT_NOFILE"]; l.Soft != 123 || l.Hard != 456 {
		t.Errorf("limit %+v", l)
	}
	if r.OOMScoreAdj != score {
		t.Errorf("score %d", r.OOMScoreAdj)
	}
}

func TestReadonlyRoot(t *testing.T) {
	testkit.Leftovers(t)
	spec := exampleSpec("/probe", "-try", "write:/etc/passwd")
	spec.Root.Readonly = true
	r := probe(t, spec)
	if len(r.Tries) != 1 || r.Tries[0].Errno != "EROFS" {
		t.Errorf("writing to the root: %+v", r.Tries)
	}
}

func TestBinds(t *testing.T) {
	testkit.Leftovers(t)
	dir := t.TempDir()
	testkit.WriteFile(t, filepath.Join(dir, "file"), "text", 0o644)
	spec := exampleSpec("/probe", "-try", "write:/data/file", "-try", "write:/ro/file", "-try", "read:/deep/er/file",
		"-try", "write:/one/file", "-try", "write:/another/file")
	spec.Mounts = append(spec.Mounts,
		specs.Mount{Destination: "/data", Type: "bind", Source: dir, Options: []string{"rbind", "rprivate"}},
		specs.Mount{Destination: "/ro", Type: "bind", Source: dir, Options: []string{"rbind", "ro"}},
		specs.Mount{Destination: "/deep/er/file", Type: "bind", Source: filepath.Join(dir, "file"), Options: []string{"bind"}},
		specs.Mount{Destination: "/one/file", Type: "bind", Source: filepath.Join(dir, "file"), Options: []string{"bind", "ro", "rprivate"}},
		specs.Mount{Destination: "/another/file", Type: "bind", Source: filepath.Join(dir, "file"), Options: []string{"bind", "rw", "rprivate"}})
	r := probe(t, spec)
	want := []string{"", "EROFS", "", "EROFS", ""}
	for i, try := range r.Tries {
		if try.Errno != want[i] {
			t.Errorf("try %+v: want %q", try, want[i])
		}
	}
}

// A bind keeps what its source has, unless the options say otherwise.
func TestBindsKeepAttributes(t *testing.T) {
	testkit.Leftovers(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, 0)
	testkit.WriteFile(t, filepath.Join(dir, "file"), "text", 0o644)
	root := testkit.Rootfs(t)
	testkit.WriteFile(t, filepath.Join(root, "file"), "", 0o644)
	if err := os.Mkdir(filepath.Join(root, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, spec := range map[string]*specs.Spec{"plain": exampleSpec("/probe"), "user namespace": userSpec()} {
		spec.Mounts = append(spec.Mounts,
			specs.Mount{Destination: "/dir", Type: "bind", Source: dir, Options: []string{"bind", "ro"}},
			specs.Mount{Destination: "/file", Type: "bind", Source: filepath.Join(dir, "file"), Options: []string{"bind", "ro"}})
		r, err := runPlan(t, compileInput(t, Input{ID: "test", Spec: spec, Root: root}))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		mounts := procfs.Mounts(testkit.Report(t, r.out).Mounts)
		for _, point := range []string{"/dir", "/file"} {
			m, _ := mounts.At(point)
			for _, option := range []string{"ro", "nosuid", "nodev", "noatime"} {
				if !slices.Contains(m.Options, option) {
					t.Errorf("%s, %s: %v: not %s", name, point, m, option)
				}
			}
		}
	}
}

// stepError runs a container that must fail and returns the failed step.
func stepError(t *testing.T, spec *specs.Spec) *StepError {
	t.Helper()
	_, err := runPlan(t, compileExample(t, spec))
	var step *StepError
	if !errors.As(err, &step) {
		t.Fatalf("error %v: want a StepError", err)
	}
	return step
}

func TestProgramErrors(t *testing.T) {
	testkit.Leftovers(t)
	root := func(t *testing.T) string {
		dir := testkit.Rootfs(t)
		testkit.WriteFile(t, filepath.Join(dir, "script"), "#!/no/such/interpreter\n", 0o755)
		testkit.WriteFile(t, filepath.Join(dir, "plain"), "data", 0o644)
		testkit.WriteFile(t, filepath.Join(dir, "garbage"), "\x7fELFgarbage", 0o755)
		return dir
	}
	for _, c := range []struct {
		program string
		errno   plan.Errno
		hint    string
	}{
		{"/missing", plan.ENOENT, "spelling"},
		{"missing", plan.ENOENT, "spelling"},
		{"/plain", plan.EACCES, "chmod"},
		{"/script", plan.ENOENT, "interpreter"},
		{"script", plan.ENOENT, "interpreter"},
		{"/garbage", plan.ENOEXEC, "architecture"},
		{"/probe/x", plan.ENOTDIR, "file"},
	} {
		_, err := runPlan(t, compileInput(t, Input{ID: "test", Spec: exampleSpec(c.program), Root: root(t)}))
		var step *StepError
		if !errors.As(err, &step) || step.Errno != c.errno {
			t.Errorf("%s: %v: want %s", c.program, err, c.errno.Name())
			continue
		}
		if h := Hint(err); !strings.Contains(h, c.hint) {
			t.Errorf("%s: hint %q: want one with %q", c.program, h, c.hint)
		}
	}
}

// Docker tells a program that cannot be executed (126) from one that is missing (127) by the errors of create.
func TestCreateFindsTheProgram(t *testing.T) {
	testkit.Leftovers(t)
	root := testkit.Rootfs(t)
	testkit.WriteFile(t, filepath.Join(root, "plain"), "data", 0o644)
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	facts, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	r := &Runtime{Root: filepath.Join(t.TempDir(), "state"), Facts: facts}
	for program, errno := range map[string]plan.Errno{"/missing": plan.ENOENT, "missing": plan.ENOENT, "/plain": plan.EACCES, "/etc": plan.EACCES} {
		spec := exampleSpec(program)
		spec.Root = &specs.Root{Path: root}
		_, err := r.Create(&CreateRequest{ID: "test", Bundle: filepath.Dir(root), Spec: spec, Stdio: [3]*os.File{null, null, null}})
		var step *StepError
		if !errors.As(err, &step) || step.Errno != errno {
			t.Errorf("%s: %v: want %s", program, err, errno.Name())
		}
	}
}

// Without a mount namespace a container's mounts are the host's, and are gone with it.
func TestContainerInTheHostsMountNamespace(t *testing.T) {
	testkit.RequireRoot(t)
	if !machine(t).HasMountSetattr() {
		t.Skip("this kernel has no mount_setattr (Linux 5.12), which keeps such mounts from others")
	}
	spec := exampleSpec()
	spec.Hostname, spec.Linux.Sysctl = "", nil
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.MountNamespace || n.Type == specs.UTSNamespace
	})
	c := runWaiting(t, spec) // which also checks that no mount is left in the end
	inside, err := os.Readlink(procfs.Path(c.PID, "ns/mnt"))
	if outside, _ := os.Readlink("/proc/self/ns/mnt"); err != nil || inside != outside {
		t.Errorf("mount namespace %s, want the host's, %s (%v)", inside, outside, err)
	}
	if root, err := os.Readlink(procfs.Path(c.PID, "root")); err != nil || root != c.root {
		t.Errorf("the root is %s, want %s (%v)", root, c.root, err)
	}
	mounts, err := procfs.Mountinfo(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		// A cover is a bind of the host's /dev/null and may be its peer: nothing is ever mounted on a file that is covered.
		if strings.HasPrefix(m.Point, c.root) && m.Shared() && m.Root != "/null" {
			t.Errorf("%s: other mount namespaces have it too", m)
		}
	}
	// A further process has no mount namespace to join, and is confined all the same: with no way back to the host's
	// root, by a descriptor or by its working directory.
	s, err := c.Exec(&ExecRequest{ID: "test", Process: &specs.Process{Args: []string{"/probe", "-wait-signal", "USR1"}, Cwd: "/"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root", "cwd"} {
		if dir, err := os.Readlink(procfs.Path(s.PID, name)); err != nil || dir != c.root {
			t.Errorf("exec: its %s is %s, want %s (%v)", name, dir, c.root, err)
		}
	}
	if err := unix.Kill(s.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	reap(s.PID)
	if r := c.probe(&specs.Process{Args: []string{"/probe", "-try", "read:/proc/1/cmdline", "-try", "read:" + c.root + "/etc/passwd"}, Cwd: "/../.."}); len(r.FDs) != 3 || !r.Tries[0].OK || r.Tries[1].OK {
		t.Errorf("exec: descriptors %v, tries %+v", r.FDs, r.Tries)
	}
}

// Without a mount namespace, what would be done to the host's own root or in it is refused.
func TestHostsRootIsNoContainersRoot(t *testing.T) {
	for want, ask := range map[string]func(*Input){
		"the host's root":      func(in *Input) { in.Root = "/." },
		"hooks/startContainer": func(in *Input) { in.Spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/true"}}} },
	} {
		spec := exampleSpec("/bin/true")
		spec.Hostname, spec.Linux.Sysctl = "", nil
		spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
			return n.Type == specs.MountNamespace || n.Type == specs.UTSNamespace
		})
		in := Input{ID: "x", Root: "/rootfs", Spec: spec, Facts: paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12})}
		ask(&in)
		if _, err := Compile(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v: want one with %q", err, want)
		}
	}
}

// /proc/self/exe before the execve is the memfd, never the host's binary
// (CVE-2019-5736).
func TestProgramThatIsTheRuntime(t *testing.T) {
	testkit.Leftovers(t)
	dir := testkit.Rootfs(t)
	testkit.WriteFile(t, filepath.Join(dir, "script"), "#!/proc/self/exe\n", 0o755)
	for _, program := range []string{"/proc/self/exe", "/script"} {
		r, err := runPlan(t, compileInput(t, Input{ID: "test", Spec: exampleSpec(program), Root: dir}))
		if err == nil && r.code == 0 {
			t.Errorf("%s ran: %s", program, r.out)
		}
	}
}

// Every link that an image can put in the way of a mount stays inside the root
// (CVE-2021-30465, CVE-2019-19921).
func TestMountTargetsStayInside(t *testing.T) {
	testkit.Leftovers(t)
	outside := t.TempDir()
	before := testkit.Fingerprint(t, outside)
	dir := testkit.Rootfs(t)
	for name, target := range map[string]string{"abs": outside, "up": "../../../../../../../../.." + outside, "self": "/proc/self/root" + outside} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dest := range []string{"/abs/sub", "/up/sub", "/self/sub"} {
		spec := exampleSpec("/probe")
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: dest, Type: "tmpfs", Source: "tmpfs"})
		r, err := runPlan(t, compileInput(t, Input{ID: "test", Spec: spec, Root: dir}))
		if err == nil {
			report := testkit.Report(t, r.out)
			for _, m := range report.Mounts {
				if strings.HasPrefix(m.Point, "/..") {
					t.Errorf("%s: mounted at %s", dest, m.Point)
				}
			}
		}
	}
	if diff := before.Diff(testkit.Fingerprint(t, outside)); len(diff) > 0 {
		t.Errorf("outside changed: %v", diff)
	}
}

// A container may be ahead of its keeper: here it has ended before the keeper tells
// its process id.
func TestKeeperThatIsLate(t *testing.T) {
	testkit.Leftovers(t)
	p := compileInput(t, Input{ID: "test", Spec: exampleSpec("/probe", "-exit", "0"), Root: testkit.Rootfs(t),
		ExitFile: filepath.Join(t.TempDir(), "exit"), Rootless: true}) // without control groups nothing makes the two wait for each other
	wait := slices.IndexFunc(p.Steps, func(s plan.Step) bool { return s.Call.Name() == "wait4" })
	tell := slices.IndexFunc(p.Steps, func(s plan.Step) bool { _, ok := s.Call.(linux.WriteReg); return ok })
	late := p.Steps[wait]
	p.Steps = slices.Insert(slices.Delete(p.Steps, wait, wait+1), tell, late)
	s, err := Start(p, StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	reap(s.Parent)
	if s.PID == 0 || s.PID == s.Parent {
		t.Errorf("%+v", s)
	}
}
