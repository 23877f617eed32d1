package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	testprobe "github.com/containr/containr/internal/testkit/probe"
	"github.com/containr/containr/internal/testkit/procfs"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/plan/planjson"
	"github.com/containr/containr/pkg/plan/shell"
)

// The containers that are made in other ways than by Start, and must be the same.
func byHandSpecs(t *testing.T) map[string]*specs.Spec {
	t.Helper()
	dir := t.TempDir()
	testkit.WriteFile(t, filepath.Join(dir, "file"), "text", 0o644)
	args := []string{"/probe", "-ls", "/dev", "-ls", "/", "-sysctl", "net.ipv4.ip_unprivileged_port_start", "-try", "write:/etc/passwd", "-try", "open:/proc/kcore"}
	list := map[string]*specs.Spec{}
	facts, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	add := func(name string, change func(s *specs.Spec)) {
		s := exampleSpec(args...)
		// The limit of this process is not the one that it was started with: a Go
		// program raises it for itself.
		s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1000, Hard: 1000}}
		change(s)
		list[name] = s
	}
	add("default", func(*specs.Spec) {})
	add("user", func(s *specs.Spec) {
		s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 10, 1001}}
	})
	add("readonly", func(s *specs.Spec) { s.Root.Readonly = true })
	add("mounts", func(s *specs.Spec) {
		s.Mounts = append(s.Mounts,
			specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "mode=1777", "size=1m"}},
			specs.Mount{Destination: "/data", Type: "bind", Source: dir, Options: []string{"rbind", "rprivate", "nosuid"}},
			specs.Mount{Destination: "/ro here", Type: "bind", Source: dir, Options: []string{"bind", "ro", "noexec"}},
			specs.Mount{Destination: "/deep/er/file", Type: "bind", Source: filepath.Join(dir, "file"), Options: []string{"bind"}},
			specs.Mount{Destination: "/var/link/x", Type: "tmpfs", Source: "it's $HOME", Options: []string{"ro", "noatime"}})
		s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/etc/group", "/home", "/none")
		s.Linux.ReadonlyPaths = append(s.Linux.ReadonlyPaths, "/etc")
		if facts.HasMountSetattr() { // a file cannot be remounted without it
			s.Linux.ReadonlyPaths = append(s.Linux.ReadonlyPaths, "/data/file")
		}
	})
	add("ambient", func(s *specs.Spec) {
		s.Process.User = specs.User{UID: 1000, GID: 1000}
		s.Process.Capabilities.Ambient = []string{"CAP_KILL"}
		s.Process.Capabilities.Inheritable = []string{"CAP_KILL"}
		s.Process.NoNewPrivileges = false
	})
	add("kernel", func(s *specs.Spec) {
		s.Hostname, s.Domainname = "it's a host", "domain.example"
		s.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "7"}
		s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 123, Hard: 456}, {Type: "RLIMIT_CORE"}}
		score, mask, shares, limit := 77, uint32(0o27), uint64(512), int64(1<<28)
		s.Process.OOMScoreAdj, s.Process.User.Umask = &score, &mask
		s.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}, Memory: &specs.LinuxMemory{Limit: &limit},
			Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}
		s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/deep/er", Type: "c", Major: 1, Minor: 3}}
		s.Process.Cwd = "/new/dir"
	})
	add("path", func(s *specs.Spec) {
		s.Process.Args[0] = "probe"
		s.Process.Env = []string{"PATH=/nothing:/", "EMPTY=", "QUOTE='\"$(id)\n", "odd.name=1", "PWD=/x", "UID=7", "LC_ALL=xx", "BASH_ENV=/y", "LD_PRELOAD=/z", "SHLVL=5"}
		s.Process.Args = append(s.Process.Args, "-try", "read:it's \\ $x `id`\n", "-ls", "/")
	})
	add("odd", func(s *specs.Spec) {
		s.Mounts = append(s.Mounts,
			specs.Mount{Destination: "/it's \"odd\" \\ $(x)\n\xff*", Type: "tmpfs", Source: "a b"},
			specs.Mount{Destination: "/-v", Type: "tmpfs", Source: "tmpfs"})
		s.Process.Cwd = "/it's \"odd\" \\ $(x)\n\xff*/and more"
		s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
		s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 7}
	})
	add("shared", func(s *specs.Spec) { s.Linux.RootfsPropagation = "shared" })
	add("idle", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedIdle} })
	add("batch", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 5} })
	if !facts.NoTimeNamespace {
		add("clocks", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 864000}, "monotonic": {Secs: 86400}}
		})
	}
	add("recursive", func(s *specs.Spec) {
		source, readonly := t.TempDir(), "ro"
		if facts.HasMountSetattr() {
			readonly = "rro"
		}
		mountForTest(t, source, "", 0)
		for i, below := range []string{"a b", "c"} {
			dir := filepath.Join(source, below)
			testkit.WriteFile(t, filepath.Join(dir, "file"), "text", 0o644)
			mountForTest(t, dir, "tmpfs", []uintptr{unix.MS_NOSUID | unix.MS_NOATIME, unix.MS_RDONLY}[i])
		}
		s.Mounts = append(s.Mounts,
			specs.Mount{Destination: "/all", Type: "bind", Source: source, Options: []string{"rbind", readonly, "rslave"}},
			specs.Mount{Destination: "/one", Type: "bind", Source: filepath.Join(source, "a b"), Options: []string{"bind", "noexec"}},
			specs.Mount{Destination: "/two", Type: "bind", Source: filepath.Join(source, "c"), Options: []string{"bind", "relatime"}})
		s.Linux.ReadonlyPaths = append(s.Linux.ReadonlyPaths, "/one")
	})
	add("overlay", func(s *specs.Spec) {
		dir, lower := t.TempDir(), byHandRoot(t)
		for _, name := range []string{"upper", "work"} {
			if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		s.Mounts = append([]specs.Mount{{Destination: "/", Type: "overlay", Source: "overlay",
			Options: []string{"lowerdir=" + lower, "upperdir=" + dir + "/upper", "workdir=" + dir + "/work"}}}, s.Mounts...)
		s.Mounts[0].Options = append(s.Mounts[0].Options, "nodev")
	})
	add("joined", func(s *specs.Spec) {
		ns := otherContainer(t)
		s.Hostname = ""
		for i := range s.Linux.Namespaces {
			n := &s.Linux.Namespaces[i]
			switch n.Type {
			case specs.NetworkNamespace:
				n.Path = ns + "net"
			case specs.IPCNamespace:
				n.Path = ns + "ipc"
			case specs.UTSNamespace:
				n.Path = ns + "uts"
			}
		}
	})
	add("nothing", func(s *specs.Spec) {
		s.Mounts, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths, s.Hostname = nil, nil, nil, ""
		s.Mounts = []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}}
		s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}
		s.Process.NoNewPrivileges = false
		s.Process.Capabilities = nil
	})
	add("namespaces", func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
		s.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 1000}, {ContainerID: 1000, HostID: 200000, Size: 1000}}
	})
	return list
}

// mountForTest mounts a tmpfs, or without a type the directory itself, for the time of
// the test.
func mountForTest(t *testing.T, dir, kind string, flags uintptr) {
	t.Helper()
	source := dir
	if kind == "" {
		flags |= unix.MS_BIND
	} else {
		source = kind
	}
	if err := unix.Mount(source, dir, kind, flags, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// otherContainer starts a process in namespaces of its own and returns the directory
// with its namespaces.
func otherContainer(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("unshare", "-n", "-i", "-u", "sh", "-c", "echo ready; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it is still there
		_ = cmd.Wait()         // killed
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/proc/%d/ns/", cmd.Process.Pid)
}

// byHandRoot is the fixture with a few things that the containers above ask for.
func byHandRoot(t *testing.T) string {
	t.Helper()
	root := testkit.Rootfs(t)
	for name, target := range map[string]string{"var/link": "/run/real"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "run/real"), 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

// ofLibc are the signals 32 and 33, which C libraries keep for themselves. Some programs,
// make among them, leave them ignored in what they start; the plan resets them, and no
// tool of util-linux or coreutils can.
const ofLibc = 1<<31 | 1<<32

// seen is a report reduced to what two containers of one configuration must have in
// common: without numbers that the kernel hands out.
type seen map[string]string

func observe(t *testing.T, r testprobe.Report) seen {
	t.Helper()
	if len(r.Errors) > 0 {
		t.Logf("the probe's errors: %v", r.Errors)
	}
	r.Signals.Ignored &^= ofLibc // a script has no way to reset them
	s := seen{
		"pid": fmt.Sprint(r.PID, r.PPID, r.PGID, r.SID), "argv": fmt.Sprintf("%q", r.Argv), "cwd": r.Cwd, "exe": r.Exe,
		"uid": fmt.Sprint(r.UID), "gid": fmt.Sprint(r.GID), "groups": fmt.Sprint(r.Groups),
		"capabilities": fmt.Sprintf("%+v", r.Status.Caps), "no_new_privs": fmt.Sprint(r.Status.NoNewPrivs),
		"seccomp": fmt.Sprint(r.Status.Seccomp, r.Status.SeccompFilters), "signals": fmt.Sprintf("%+v", r.Signals),
		"securebits": fmt.Sprint(r.Securebits), "dumpable": fmt.Sprint(r.Dumpable), "umask": fmt.Sprintf("%o", r.Umask),
		"maps": r.UIDMap + r.GIDMap + r.Setgroups, "host name": r.Hostname, "domain name": r.Domainname,
		"links": fmt.Sprintf("%+v", r.Links), "limits": fmt.Sprint(r.Rlimits), "score": fmt.Sprint(r.OOMScoreAdj),
		"nice": fmt.Sprint(r.Nice), "personality": fmt.Sprint(r.Personality), "terminal": fmt.Sprint(r.TTY != nil),
		"sysctls": fmt.Sprint(r.Sysctls), "tries": fmt.Sprintf("%+v", r.Tries), "cgroups": fmt.Sprintf("%+v", r.Cgroups),
		"keyring": keyringName(r.KeyringDesc), "cpus": r.Status.CPUsAllowed + " " + r.Status.MemsAllowed,
		"mounts": strings.Join(mountLines(r.Mounts), "\n"),
	}
	q := r.Scheduling
	s["scheduler"] = fmt.Sprint(q.Policy, q.Priority, q.Flags, q.Runtime, q.Deadline, q.Period, q.IOPriority)
	for clock, shown := range r.Clocks { // in days: time goes on between two containers
		s["clock "+clock] = fmt.Sprint(int(shown.Hours() / 24))
	}
	env := slices.Sorted(slices.Values(r.Env))
	s["environment"] = fmt.Sprintf("%q", env)
	var fds []string
	for _, fd := range r.FDs {
		fds = append(fds, fmt.Sprint(fd.Num, fd.Flags&unix.O_ACCMODE))
	}
	s["descriptors"] = strings.Join(fds, " ")
	own := testkit.Namespaces(t, os.Getpid())
	for kind := range r.Namespaces {
		s["namespace "+kind] = fmt.Sprint("the host's: ", r.Namespaces[kind] == own[kind])
	}
	for dir, nodes := range r.Dirs {
		s["directory "+dir] = fmt.Sprintf("%+v", nodes)
	}
	return s
}

// keyringName is the last part of a keyring's description.
func keyringName(description string) string {
	return description[strings.LastIndexByte(description, ';')+1:]
}

// mountLines are a mount table's lines without ids, device numbers and peer groups,
// sorted. Two mounts at one place keep their order.
func mountLines(ms procfs.Mounts) []string {
	var lines []string
	for _, m := range ms {
		propagation := "private"
		for _, p := range m.Propagation {
			propagation, _, _ = strings.Cut(p, ":")
		}
		// An overlay has a number of its own only the first time that it is mounted.
		super := slices.DeleteFunc(slices.Clone(m.Super), func(o string) bool { return o == "uuid=on" })
		lines = append(lines, fmt.Sprintf("%s type %s source %q root %s (%s) super (%s) %s", m.Point, m.Type, m.Source, m.Root,
			strings.Join(m.Options, ","), strings.Join(super, ","), propagation))
	}
	slices.SortStableFunc(lines, func(a, b string) int {
		pa, _, _ := strings.Cut(a, " type ")
		pb, _, _ := strings.Cut(b, " type ")
		return strings.Compare(pa, pb)
	})
	return lines
}

// compare reports what differs, but for the keys in except.
func (s seen) compare(t *testing.T, want seen, except ...string) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if s[key] != want[key] && !slices.Contains(except, key) {
			t.Errorf("%s: got\n%s\nwant\n%s", key, s[key], want[key])
		}
	}
}

// runFile executes a program as a user would from a shell and returns its output; the
// standard descriptors are files, as they are for runPlan.
func runFile(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	dir := t.TempDir()
	var files [2]*os.File
	for i, name := range []string{"out", "err"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	cmd.Stdout, cmd.Stderr = files[0], files[1]
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var text [2][]byte
	for i, f := range files {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		text[i] = b
	}
	if len(text[1]) > 0 {
		t.Logf("standard error: %s", text[1])
	}
	return result{cmd.ProcessState.ExitCode(), text[0]}
}

// writeELF makes the plan's program as a file called name and returns its path.
func writeELF(t *testing.T, p *plan.Plan, name string) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := WriteELF(&b, p); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	testkit.WriteFile(t, path, b.String(), 0o755)
	return path
}

// A program that stands alone makes the container that Start makes, but for control
// groups.
func TestELFIsTheContainer(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	for name, spec := range byHandSpecs(t) {
		t.Run(name, func(t *testing.T) {
			p := compileInput(t, Input{ID: "test", Spec: spec, Root: byHandRoot(t)})
			r, err := runPlan(t, p)
			if err != nil || r.code != 0 {
				t.Fatalf("%v %d %s", err, r.code, r.out)
			}
			want := observe(t, testkit.Report(t, r.out))
			got := runFile(t, exec.Command(writeELF(t, p, name)))
			if got.code != 0 {
				t.Fatalf("exit code %d: %s", got.code, got.out)
			}
			alone := observe(t, testkit.Report(t, got.out))
			alone["mounts"], want["mounts"] = withoutGroups(alone["mounts"]), withoutGroups(want["mounts"])
			alone.compare(t, want, "cgroups", "cpus")
		})
	}
}

// withoutGroups removes the mounts that show a container's own control groups.
func withoutGroups(mounts string) string {
	lines := slices.DeleteFunc(strings.Split(mounts, "\n"), func(l string) bool { return strings.Contains(l, " type cgroup ") })
	return strings.Join(lines, "\n")
}

func TestELFEndsLikeItsProgram(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	root := testkit.Rootfs(t)
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"/probe", "-exit", "0"}, 0},
		{[]string{"/probe", "-exit", "7"}, 7},
		{[]string{"/probe", "-exit", "255"}, 255},
		{[]string{"/missing"}, 125},
	} {
		p := compileInput(t, Input{ID: "test", Spec: exampleSpec(c.args...), Root: root})
		if r := runFile(t, exec.Command(writeELF(t, p, "program"))); r.code != c.code {
			t.Errorf("%q: exit code %d, want %d", c.args, r.code, c.code)
		}
	}
	// A first process cannot be killed from inside its namespace, so this one has none.
	spec := exampleSpec("/probe", "-signal", "KILL")
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.PIDNamespace })
	spec.Mounts = nil
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil
	p := compileInput(t, Input{ID: "test", Spec: spec, Root: root})
	if r := runFile(t, exec.Command(writeELF(t, p, "program"))); r.code != int(unix.SIGKILL) {
		t.Errorf("killed: exit code %d, want %d", r.code, unix.SIGKILL)
	}
}

// The file can be moved anywhere; and when it is killed, nothing of it stays.
func TestELFMovesAndDies(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	for _, user := range []uint32{0, 1000} {
		spec := exampleSpec("/probe", "-wait-signal", "WINCH")
		spec.Process.User.UID = user
		p := compileInput(t, Input{ID: "test", Spec: spec, Root: testkit.Rootfs(t)})
		moved := filepath.Join(t.TempDir(), "elsewhere")
		if err := os.Rename(writeELF(t, p, "program"), moved); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(moved)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
		procs, err := procfs.Processes()
		if err != nil {
			t.Fatal(err)
		}
		children := procfs.Descendants(procs, cmd.Process.Pid)
		if len(children) == 0 {
			t.Error("the container is no child of the program")
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // killed
		waitEnded(t, children)
	}
}

// waitEnded waits until the processes have ended.
func waitEnded(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(5*time.Second/time.Millisecond))
		if n != 1 {
			t.Errorf("process %d is still there (%v)", pid, err)
		}
		_ = unix.Close(fd)
	}
}

func TestELFRefuses(t *testing.T) {
	in := goldenInputs()["v1"]
	p, err := Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	before := plan.Plan{Steps: slices.Clone(p.Steps)}
	var b bytes.Buffer
	if _, err := WriteELF(&b, p); err != nil {
		t.Error(err)
	}
	if !reflect.DeepEqual(p.Steps, before.Steps) {
		t.Error("the plan was changed")
	}
	if _, err := WriteELF(&b, &plan.Plan{}); err == nil {
		t.Error("an empty plan has become a program")
	}
}

// Every plan can be shown as words, for both architectures, whatever descriptors it
// gets from outside, and every step of the child is in them.
func TestWordsOfEveryPlan(t *testing.T) {
	for name, in := range goldenInputs() {
		p, err := Compile(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, arch := range []linux.Arch{linux.AMD64, linux.ARM64} {
			var b strings.Builder
			if err := WriteWords(&b, p, arch, 0); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for i := range p.Steps {
				s := &p.Steps[i]
				if s.Actor != plan.Host && !strings.Contains(b.String(), fmt.Sprintf(" %d %s: %s\n", i+1, s.Actor, s)) {
					t.Errorf("%s: step %d (%s) is not in the words", name, i+1, s)
				}
			}
		}
	}
}

// What is written down as JSON comes back as the same plan.
func TestEveryPlanSurvivesJSON(t *testing.T) {
	for name, in := range goldenInputs() {
		p, err := Compile(in)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := planjson.Encode(&b, p); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		back, err := planjson.Decode(&b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(p, back) {
			t.Errorf("%s: the plan has changed", name)
		}
	}
}

// requireTools skips the test where a script cannot run: guests have busybox only.
func requireTools(t *testing.T) {
	t.Helper()
	for _, name := range []string{"bash", "unshare", "nsenter", "setpriv", "prlimit", "findmnt", "pivot_root"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("a script needs bash and util-linux: %v", err)
		}
	}
}

// runScript runs the plan's script.
func runScript(t *testing.T, p *plan.Plan) result {
	t.Helper()
	text, err := shell.Script(p, shell.Options{Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "script")
	testkit.WriteFile(t, path, text, 0o755)
	r := runFile(t, exec.Command("timeout", "--verbose", "60", "bash", path))
	if t.Failed() {
		t.Log(text)
	}
	return r
}

// A script of the tools of util-linux builds the container that Start builds.
func TestScriptIsTheContainer(t *testing.T) {
	requireTools(t)
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	for name, spec := range byHandSpecs(t) {
		t.Run(name, func(t *testing.T) {
			p := compileInput(t, Input{ID: "test", Spec: spec, Root: byHandRoot(t)})
			compareScript(t, p)
		})
	}
}

// compareScript runs the plan, and then its script. The keyring is the caller's in the
// script's container: util-linux has no tool for it.
func compareScript(t *testing.T, p *plan.Plan, except ...string) {
	t.Helper()
	r, err := runPlan(t, p)
	if err != nil || r.code != 0 {
		t.Fatalf("%v %d %s", err, r.code, r.out)
	}
	want := observe(t, testkit.Report(t, r.out))
	got := runScript(t, p)
	if got.code != 0 {
		t.Fatalf("exit code %d: %s", got.code, got.out)
	}
	observe(t, testkit.Report(t, got.out)).compare(t, want, append(except, "keyring")...)
}

// The same on version 2 of control groups, which this machine may have beside version 1.
func TestScriptOnUnifiedControlGroups(t *testing.T) {
	requireTools(t)
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	facts, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	const mount = "/sys/fs/cgroup/unified"
	if facts.CgroupMode == host.CgroupV1 {
		if _, err := os.Stat(mount + "/cgroup.procs"); err != nil {
			t.Skipf("no version 2 of control groups: %v", err)
		}
		facts.CgroupMode = host.CgroupV2
		facts.Hierarchies = []host.Hierarchy{{Path: mount, Own: "/"}}
	}
	spec := exampleSpec("/probe")
	p, err := Compile(Input{ID: "test", Spec: spec, Root: testkit.Rootfs(t), Facts: facts})
	if err != nil {
		t.Fatal(err)
	}
	compareScript(t, p)
}

// A filter that the shell's setpriv cannot load is missed aloud, and nothing else is
// another.
func TestScriptWithSystemCallFilter(t *testing.T) {
	requireTools(t)
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	spec := exampleSpec("/probe")
	spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow,
		Syscalls: []specs.LinuxSyscall{{Names: []string{"sethostname"}, Action: specs.ActErrno}}}
	compareScript(t, compileInput(t, Input{ID: "test", Spec: spec, Root: testkit.Rootfs(t)}), "seccomp")
}

// The script ends as its program does, and leaves nothing when it cannot go on.
func TestScriptEndsLikeItsProgram(t *testing.T) {
	requireTools(t)
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"/probe", "-exit", "7"}, 7},
		{[]string{"/missing"}, 127},
		{[]string{"missing"}, 127},
	} {
		p := compileInput(t, Input{ID: "test", Spec: exampleSpec(c.args...), Root: testkit.Rootfs(t)})
		if r := runScript(t, p); r.code != c.code {
			t.Errorf("%q: exit code %d, want %d", c.args, r.code, c.code)
		}
	}
	spec := exampleSpec("/probe")
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/etc/passwd/x", Type: "tmpfs"})
	if r := runScript(t, compileInput(t, Input{ID: "test", Spec: spec, Root: testkit.Rootfs(t)})); r.code == 0 || r.code == 124 {
		t.Errorf("a mount that cannot be made: exit code %d", r.code)
	}
}

// Signals that the caller ignores are not ignored in the container, however it is made.
func TestScriptResetsSignals(t *testing.T) {
	requireTools(t)
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	p := compileInput(t, Input{ID: "test", Spec: exampleSpec("/probe"), Root: testkit.Rootfs(t)})
	text, err := shell.Script(p, shell.Options{})
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "script")
	testkit.WriteFile(t, script, text, 0o755)
	checkSignals(t, script)
}

func TestELFResetsSignals(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	checkSignals(t, writeELF(t, compileInput(t, Input{ID: "test", Spec: exampleSpec("/probe"), Root: testkit.Rootfs(t)}), "program"))
}

func checkSignals(t *testing.T, program string) {
	t.Helper()
	got := runFile(t, exec.Command("sh", "-c", `trap "" HUP INT QUIT TSTP; exec "$0"`, program))
	if r := testkit.Report(t, got.out); got.code != 0 || r.Signals.Ignored&^ofLibc != 0 || r.Signals.Blocked != 0 {
		t.Errorf("exit code %d, signals %+v", got.code, r.Signals)
	}
}
