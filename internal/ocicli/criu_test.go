package ocicli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/guest"
	"github.com/containr/containr/internal/testkit/probe"
	"github.com/containr/containr/internal/testkit/procfs"
)

// TestCRIU runs the tests of this file on Debian 12 as it is installed, in one guest.
func TestCRIU(t *testing.T) {
	guest.Run(t, guest.Options{
		Kernel: "debian-6.1", Package: "github.com/containr/containr/internal/ocicli", Run: "^TestCRIU.",
		Packages: []string{"criu", "tar", "gzip", "iptables", "iproute2"}, Timeout: 15 * time.Minute, // on a busy machine
	})
}

// TestCRIUWithSystemd runs those where systemd makes the control groups, and AppArmor confines.
func TestCRIUWithSystemd(t *testing.T) {
	guest.Run(t, guest.Options{
		Kernel: "debian-6.1", Userland: guest.Systemd, Package: "github.com/containr/containr/internal/ocicli", Run: "^TestCRIU(Unit|AppArmor)$",
		Timeout: 15 * time.Minute,
	})
}

// counting is a container that counts, and the file that it counts in.
type counting struct {
	*site
	data, image string
}

// newCounting makes the bundle of a container with all that is hard to bring back.
func newCounting(t *testing.T, change func(*specs.Spec)) *counting {
	t.Helper()
	requireCRIU(t)
	c := &counting{data: t.TempDir(), image: filepath.Join(t.TempDir(), "image")}
	memory, pids := int64(256<<20), int64(50)
	c.site = newSite(t, func(spec *specs.Spec) {
		spec.Process.Args = []string{"/probe", "-write", "/tmp/mark=kept", "-count", "/data/count"}
		spec.Process.Env = append(spec.Process.Env, "COLOUR=blue")
		spec.Process.Cwd = "/home/alice"
		spec.Process.NoNewPrivileges = true
		group := filepath.Join(c.data, "group")
		testkit.WriteFile(t, group, "root:x:0:\n", 0o644)
		spec.Mounts = append(spec.Mounts,
			specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=1777"}},
			specs.Mount{Destination: "/data", Type: "bind", Source: c.data, Options: []string{"rbind", "rw", "rprivate"}},
			specs.Mount{Destination: "/etc/group", Type: "bind", Source: group, Options: []string{"bind", "ro"}})
		spec.Linux.CgroupsPath = "/" + filepath.Base(filepath.Dir(c.data)) + "-" + strconv.Itoa(os.Getpid())
		spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &memory}, Pids: &specs.LinuxPids{Limit: &pids}}
		spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow,
			Syscalls: []specs.LinuxSyscall{{Names: []string{"mount"}, Action: specs.ActErrno}}}
		if change != nil {
			change(spec)
		}
	})
	return c
}

// start runs the container, and waits until it counts.
func (c *counting) start(id string) int {
	c.t.Helper()
	c.must("run", "--detach", id)
	c.t.Cleanup(func() { c.run("delete", "--force", id) })
	c.until(func(list []probe.Counted) bool { return len(list) > 2 })
	return c.pid(id)
}

func (c *counting) pid(id string) int {
	c.t.Helper()
	var state struct{ PID int }
	if err := json.Unmarshal([]byte(c.must("state", id)), &state); err != nil {
		c.t.Fatal(err)
	}
	return state.PID
}

// counted reads what the container has counted, and checks that it is one process that
// has counted all of it: the same memory, number, directory and environment.
func (c *counting) counted() []probe.Counted {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.data, "count"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		c.t.Fatal(err)
	}
	var list []probe.Counted
	for line := range bytes.Lines(text) {
		var n probe.Counted
		if err := json.Unmarshal(line, &n); err != nil {
			break // the last one, half written
		}
		want := n
		if len(list) > 0 {
			want = list[0]
			want.N = len(list)
		}
		if !reflect.DeepEqual(n, want) {
			c.t.Fatalf("line %d is %+v, want %+v", len(list)+1, n, want)
		}
		list = append(list, n)
	}
	return list
}

// until waits until what has been counted is as it should be.
func (c *counting) until(enough func([]probe.Counted) bool) []probe.Counted {
	c.t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		list := c.counted()
		if enough(list) {
			return list
		}
		if time.Now().After(end) {
			c.t.Fatalf("it has counted to %d, and no further", len(list))
		}
	}
}

// more waits until there is more than n.
func (c *counting) more(n int) {
	c.t.Helper()
	c.until(func(list []probe.Counted) bool { return len(list) > n+2 })
}

// back waits until there is more than n, and the runtime in the background knows that the container is back: it counts
// before CRIU has ended.
func (c *counting) back(n int) {
	c.t.Helper()
	c.until(func(list []probe.Counted) bool {
		if len(list) <= n+2 {
			return false
		}
		_, _, code := c.run("state", "c")
		return code == 0
	})
}

// quoteLog shows criu's log when a test has failed.
func (c *counting) quoteLog(name string) {
	if c.t.Failed() {
		text, _ := os.ReadFile(filepath.Join(c.image, name))
		c.t.Logf("%s ends with:\n%s", name, text[max(0, len(text)-4000):])
	}
}

// confinement is what the kernel says about a process that must be as it was.
type confinement struct {
	NoNewPrivs              bool
	Seccomp, Filters        int
	Caps                    procfs.CapSets
	UID, GID                procfs.IDs
	Mounts                  []string
	Descriptors             []string
	Cgroup, PidsMax, MemMax string
	// Shared are the kinds of namespaces that are the host's.
	Shared string
}

func (c *counting) confinement(pid int, group string) confinement {
	c.t.Helper()
	st, err := procfs.ReadStatus(pid)
	if err != nil {
		c.t.Fatal(err)
	}
	mounts, err := procfs.Mountinfo(pid)
	if err != nil {
		c.t.Fatal(err)
	}
	f := confinement{NoNewPrivs: st.NoNewPrivs, Seccomp: st.Seccomp, Filters: st.SeccompFilters, Caps: st.Caps, UID: st.UID, GID: st.GID}
	for _, m := range mounts {
		f.Mounts = append(f.Mounts, m.Type+" "+m.Point+" "+m.Root+" "+strings.Join(m.Options, ","))
	}
	slices.Sort(f.Mounts)
	proc := "/proc/" + strconv.Itoa(pid)
	for i := range 3 {
		name, _ := os.Readlink(proc + "/fd/" + strconv.Itoa(i))
		f.Descriptors = append(f.Descriptors, filepath.Dir(filepath.Dir(name))) // those of two calls are near each other
	}
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			c.t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	f.Cgroup = read(proc + "/cgroup")
	f.PidsMax, f.MemMax = read(groupDir("pids", group)+"/pids.max"), read(groupDir("memory", group)+limitFile())
	for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "uts"} {
		theirs, _ := os.Readlink(proc + "/ns/" + kind)
		ours, _ := os.Readlink("/proc/self/ns/" + kind)
		if theirs == "" || theirs == ours {
			f.Shared += " " + kind
		}
	}
	return f
}

// A container that has been brought back is the one that was frozen: it counts on from
// where it was, as confined as before, and every verb knows it.
func TestCRIUGoesOn(t *testing.T) {
	var group string
	c := newCounting(t, func(spec *specs.Spec) { group = spec.Linux.CgroupsPath })
	before := c.confinement(c.start("c"), group)
	c.must("checkpoint", "--image-path", c.image, "c")
	n := len(c.counted())
	c.refused("does not exist", "state", "c")
	if _, err := os.Stat(groupDir("pids", group)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the control group is left: %v", err)
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	defer c.quoteLog("restore.log")
	c.must("restore", "--detach", "--pid-file", pidFile, "--image-path", c.image, "c")
	c.more(n)
	pid := c.pid("c")
	if text, _ := os.ReadFile(pidFile); string(text) != strconv.Itoa(pid) {
		t.Errorf("the file says process id %s, want %d", text, pid)
	}
	if after := c.confinement(pid, group); !reflect.DeepEqual(before, after) {
		t.Errorf("it is\n%+v, was\n%+v", after, before)
	}
	if !before.NoNewPrivs || before.Seccomp != 2 || before.Shared != "" || before.PidsMax != "50" {
		t.Errorf("the container was not confined as it should be: %+v", before)
	}
	c.isWhole(pid)
	c.must("kill", "c", "KILL")
	c.waitStopped("c")
	c.must("delete", "c")
}

// A container whose control group is a unit of systemd's is brought back in such a unit.
func TestCRIUUnit(t *testing.T) {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		t.Skipf("systemd is not process 1: %v", err)
	}
	name := "frozen" + strconv.Itoa(os.Getpid())
	c := newCounting(t, func(spec *specs.Spec) { spec.Linux.CgroupsPath = "system.slice:containr:" + name })
	c.flags = []string{"--systemd-cgroup"}
	group := "/system.slice/containr-" + name + ".scope"
	before := c.confinement(c.start("c"), group)
	c.must("checkpoint", "--image-path", c.image, "c")
	n := len(c.counted())
	if out, err := exec.Command("systemctl", "is-active", "containr-"+name+".scope").Output(); err == nil {
		t.Errorf("the unit is %s", out)
	}
	defer c.quoteLog("restore.log")
	c.must("restore", "--detach", "--image-path", c.image, "c")
	c.more(n)
	if after := c.confinement(c.pid("c"), group); !reflect.DeepEqual(before, after) {
		t.Errorf("it is\n%+v, was\n%+v", after, before)
	}
	if out, err := exec.Command("systemctl", "is-active", "containr-"+name+".scope").Output(); err != nil {
		t.Errorf("the unit is %s: %v", out, err)
	}
	c.isWhole(c.pid("c"))
	c.must("delete", "--force", "c")
}

// Hooks that see to the network run before the container goes on, and see the network
// namespace that it will have; those of the end run when it is frozen.
func TestCRIUHooks(t *testing.T) {
	dir := t.TempDir()
	hook, told := filepath.Join(dir, "hook"), filepath.Join(dir, "told")
	testkit.WriteFile(t, hook, `#!/bin/sh
state=$(cat)
pid=${state#*\"pid\":} pid=${pid%%[,\}]*}
echo "$1 $(readlink /proc/$pid/ns/net)" >> `+told+"\n", 0o755)
	env := []string{"PATH=" + os.Getenv("PATH")}
	c := newCounting(t, func(spec *specs.Spec) {
		spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: hook, Args: []string{"hook", "begin"}, Env: env}},
			Poststop: []specs.Hook{{Path: hook, Args: []string{"hook", "end"}, Env: env}}}
	})
	want := "begin " + c.network(c.start("c")) + "\nend \n"
	c.must("checkpoint", "--image-path", c.image, "c")
	n := len(c.counted())
	defer c.quoteLog("restore.log")
	c.must("restore", "--detach", "--image-path", c.image, "c")
	c.more(n)
	want += "begin " + c.network(c.pid("c")) + "\n"
	if text, err := os.ReadFile(told); string(text) != want {
		t.Errorf("the hooks say\n%swant\n%s%v", text, want, err)
	}
}

// network names the network namespace of a process.
func (c *counting) network(pid int) string {
	c.t.Helper()
	name, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		c.t.Fatal(err)
	}
	return name
}

// isWhole checks what verbs do with a container that was brought back.
func (c *counting) isWhole(pid int) {
	c.t.Helper()
	if s := c.status("c"); s != "running" {
		c.t.Errorf("status %s", s)
	}
	if out := c.must("ps", "--format", "json", "c"); strings.TrimSpace(out) != "["+strconv.Itoa(pid)+"]" {
		c.t.Errorf("ps says %s, want process %d", out, pid)
	}
	var r probe.Report
	if err := json.Unmarshal([]byte(c.must("exec", "c", "/probe", "-try", "read:/tmp/mark", "-try", "mount")), &r); err != nil {
		c.t.Fatal(err)
	}
	for _, a := range r.Tries {
		if a.Attempt == "mount" && a.OK || a.Attempt != "mount" && a.Value != "kept" {
			c.t.Errorf("%+v", a)
		}
	}
	theirs, err := procfs.Namespaces(pid)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, kind := range []string{"time", "net", "mnt", "cgroup", "ipc", "uts", "pid"} {
		if r.Namespaces[kind] != theirs[kind] {
			c.t.Errorf("exec is in another %s namespace than the container", kind)
		}
	}
	if i := slices.IndexFunc(r.Links, func(l probe.Link) bool { return l.Name == "lo" }); i < 0 || !r.Links[i].Up {
		c.t.Errorf("the loopback interface is not up: %+v", r.Links)
	}
	c.must("pause", "c")
	if s := c.status("c"); s != "paused" {
		c.t.Errorf("status %s after pause", s)
	}
	c.must("resume", "c")
}

func (c *counting) waitStopped(id string) {
	c.t.Helper()
	if pid := c.pid(id); pid > 0 && !endsSoon(pid) {
		c.t.Fatal("it does not stop")
	}
	if s := c.status(id); s != "stopped" {
		c.t.Fatalf("status %s after the end of its process", s)
	}
}

// throughAPipe runs the container with a pipe for its output, freezes it, brings it back in the foreground, with these flags
// of restore, and ends it. It returns what came out of restore, and its exit code.
func (c *counting) throughAPipe(flags ...string) (out []byte, code int) {
	c.t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	defer read.Close()
	cmd := c.command("run", "--detach", "c")
	cmd.Stdout = write
	if err := cmd.Run(); err != nil {
		c.t.Fatal(err)
	}
	write.Close()
	c.t.Cleanup(func() { c.run("delete", "--force", "c") })
	c.until(func(list []probe.Counted) bool { return len(list) > 2 })
	c.must("checkpoint", "--image-path", c.image, "c")
	n := len(c.counted())
	defer c.quoteLog("restore.log")
	var said bytes.Buffer
	cmd = c.command(slices.Concat([]string{"restore", "--image-path", c.image}, flags, []string{"c"})...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.back(n)
	c.must("kill", "c", "USR1")
	_ = cmd.Wait() // the exit code says it
	return said.Bytes(), cmd.ProcessState.ExitCode()
}

// In the foreground restore waits for the container, whose exit code is its own, and
// what the container writes to a pipe comes out of restore's.
func TestCRIUForeground(t *testing.T) {
	c := newCounting(t, func(spec *specs.Spec) {
		spec.Process.Args = append(spec.Process.Args, "-report", "-exit", "7")
	})
	out, code := c.throughAPipe()
	if code != 7 {
		t.Errorf("exit code %d, output %q", code, out)
	}
	if r := testkit.Report(t, out); !strings.HasSuffix(r.KeyringDesc, ";_ses.c") {
		t.Errorf("its session keyring is %q", r.KeyringDesc)
	}
	c.refused("does not exist", "state", "c")
}

// With --leave-running the container goes on, and so does the one that is made of its
// checkpoint. It is paused meanwhile, since files that the container writes to have to be
// as they were.
func TestCRIULeaveRunning(t *testing.T) {
	c := newCounting(t, nil)
	c.start("c")
	c.must("pause", "c")
	n := len(c.counted())
	c.must("checkpoint", "--leave-running", "--image-path", c.image, "c")
	if s := c.status("c"); s != "paused" {
		t.Errorf("status %s, it was paused", s)
	}
	second := &counting{site: c.site, data: t.TempDir(), image: c.image}
	if err := os.CopyFS(second.data, os.DirFS(c.data)); err != nil {
		t.Fatal(err)
	}
	c.must("resume", "c")
	c.more(n)
	c.refused("already exists", "restore", "--detach", "--image-path", c.image, "c")
	spec := c.spec()
	spec.Linux.CgroupsPath += "-second"
	for i := range spec.Mounts {
		spec.Mounts[i].Source = strings.Replace(spec.Mounts[i].Source, c.data, second.data, 1)
	}
	c.write(spec)
	t.Cleanup(func() { c.run("delete", "--force", "d") })
	defer c.quoteLog("restore.log")
	c.must("restore", "--detach", "--image-path", c.image, "d")
	second.more(n)
	c.more(len(c.counted()))
}

// spec reads the bundle's configuration.
func (s *site) spec() *specs.Spec {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.bundle, "config.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	spec := new(specs.Spec)
	if err := json.Unmarshal(text, spec); err != nil {
		s.t.Fatal(err)
	}
	return spec
}

// A checkpoint may add to one of memory alone, which was made while the container went
// on.
func TestCRIUPreDump(t *testing.T) {
	requireMemoryTracking(t)
	c := newCounting(t, nil)
	c.start("c")
	first := filepath.Join(filepath.Dir(c.image), "first")
	c.must("checkpoint", "--pre-dump", "--image-path", first, "c")
	c.more(len(c.counted()))
	c.refused("no pstree.img", "restore", "--detach", "--image-path", first, "d")
	c.must("checkpoint", "--parent-path", "../first", "--image-path", c.image, "c")
	if _, err := os.Stat(filepath.Join(c.image, "parent", "pages-1.img")); err != nil {
		t.Errorf("the checkpoint does not add to the one before: %v", err)
	}
	n := len(c.counted())
	defer c.quoteLog("restore.log")
	c.must("restore", "--detach", "--image-path", c.image, "c")
	c.more(n)
}

// A namespace that the configuration names by path is not in the checkpoint: it is joined
// again.
func TestCRIUJoinsNamespaces(t *testing.T) {
	requireCRIU(t)
	holder := newSite(t, nil)
	holder.must("run", "--detach", "holder")
	t.Cleanup(func() { holder.run("delete", "--force", "holder") })
	var state struct{ PID int }
	if err := json.Unmarshal([]byte(holder.must("state", "holder")), &state); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace} {
		file := map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts"}[kind]
		path := "/proc/" + strconv.Itoa(state.PID) + "/ns/" + file
		c := newCounting(t, func(spec *specs.Spec) {
			if kind == specs.UTSNamespace {
				spec.Hostname = ""
			}
			for i := range spec.Linux.Namespaces {
				if spec.Linux.Namespaces[i].Type == kind {
					spec.Linux.Namespaces[i].Path = path
				}
			}
		})
		c.start("c")
		c.must("checkpoint", "--image-path", c.image, "c")
		n := len(c.counted())
		c.must("restore", "--detach", "--image-path", c.image, "c")
		c.quoteLog("restore.log")
		c.more(n)
		ours, _ := os.Readlink("/proc/" + strconv.Itoa(c.pid("c")) + "/ns/" + file)
		if theirs, _ := os.Readlink(path); theirs == "" || ours != theirs {
			t.Errorf("%s namespace %s, want %s", kind, ours, theirs)
		}
		c.must("delete", "--force", "c")
	}
}

// refusedWithout checks that the container cannot be frozen if one of the flags is
// missing, goes on then, and that the hint names the flag.
func (c *counting) refusedWithout(flags ...string) {
	c.t.Helper()
	for i, missing := range flags {
		rest := append(slices.Clone(flags[:i]), flags[i+1:]...)
		_, said, code := c.run(append(append([]string{"checkpoint", "--image-path", c.t.TempDir()}, rest...), "c")...)
		if _, hint, _ := strings.Cut(said, "hint: "); code == 0 || !strings.Contains(hint, missing) {
			c.t.Fatalf("without %s: exit code %d, %s", missing, code, said)
		}
		c.more(len(c.counted()))
	}
}

// A Unix socket of the host's is left alone, if that is asked for. It is found again by
// its name, which is the same in the container.
func TestCRIUSocketOutside(t *testing.T) {
	sockets := t.TempDir()
	c := newCounting(t, func(spec *specs.Spec) {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: sockets, Type: "bind", Source: sockets, Options: []string{"bind", "rprivate"}})
		count := spec.Process.Args[len(spec.Process.Args)-2:]
		spec.Process.Args = append([]string{"/probe", "-connect", "unixgram:" + sockets + "/socket"}, count...)
		spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.NetworkNamespace })
		spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool { return m.Type == "sysfs" || m.Type == "cgroup" })
	})
	l, err := net.ListenPacket("unixgram", filepath.Join(sockets, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c.start("c")
	c.refusedWithout("--ext-unix-sk")
	c.must("checkpoint", "--ext-unix-sk", "--image-path", c.image, "c")
	n := len(c.counted())
	defer c.quoteLog("restore.log")
	c.must("restore", "--detach", "--ext-unix-sk", "--image-path", c.image, "c")
	c.more(n)
	ours, _ := os.Readlink("/proc/self/ns/net")
	if theirs, _ := os.Readlink("/proc/" + strconv.Itoa(c.pid("c")) + "/ns/net"); theirs != ours {
		t.Errorf("it shared the host's network %s, and is in %s", ours, theirs)
	}
}

// Locks and connections are carried over if that is asked for, and else the reason why the
// container cannot be frozen.
func TestCRIUOptions(t *testing.T) {
	c := newCounting(t, func(spec *specs.Spec) {
		count := spec.Process.Args[len(spec.Process.Args)-2:]
		spec.Process.Args = append([]string{"/probe", "-lock", "/data/lock", "-connect", "tcp:127.0.0.1:0"}, count...)
	})
	c.start("c")
	flags := []string{"--file-locks", "--tcp-established"}
	c.refusedWithout(flags...)
	c.must(append(append([]string{"checkpoint", "--image-path", c.image}, flags...), "c")...)
	n := len(c.counted())
	defer c.quoteLog("restore.log")
	c.must(append(append([]string{"restore", "--detach", "--image-path", c.image}, flags...), "c")...)
	c.more(n)
	lock, err := os.Open(filepath.Join(c.data, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("the lock: %v", err)
	}
	table, err := os.ReadFile("/proc/" + strconv.Itoa(c.pid("c")) + "/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	const established = " 01 " // the column st
	if got := strings.Count(string(table), established); got != 2 {
		t.Errorf("%d ends of a TCP connection:\n%s", got, table)
	}
}

// criu starts another criu, and waits until it can be talked to.
func (c *counting) criu(args ...string) *exec.Cmd {
	c.t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	defer read.Close()
	cmd := exec.Command("criu", append(args, "--status-fd", "3")...)
	cmd.ExtraFiles = []*os.File{write}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	write.Close()
	if n, _ := read.Read(make([]byte, 1)); n != 1 {
		c.t.Fatalf("criu %s does not get ready", strings.Join(args, " "))
	}
	return cmd
}

// Memory goes over the network to a page server, if that is asked for.
func TestCRIUPageServer(t *testing.T) {
	c := newCounting(t, nil)
	c.start("c")
	if err := os.Mkdir(c.image, 0o700); err != nil {
		t.Fatal(err)
	}
	const address = "127.0.0.1:27015"
	server := c.criu("page-server", "--images-dir", c.image, "--address", "127.0.0.1", "--port", "27015")
	c.must("checkpoint", "--page-server", address, "--image-path", c.image, "c")
	if err := server.Wait(); err != nil {
		t.Fatal(err)
	}
	n := len(c.counted())
	defer c.quoteLog("restore.log")
	c.must("restore", "--detach", "--image-path", c.image, "c")
	c.more(n)
}

// Memory can stay behind until it is used.
func TestCRIULazyPages(t *testing.T) {
	c := newCounting(t, nil)
	c.start("c")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	freeze := c.command("checkpoint", "--lazy-pages", "--page-server", "127.0.0.1:27016", "--status-fd", "3", "--image-path", c.image, "c")
	freeze.ExtraFiles = []*os.File{write}
	var said bytes.Buffer
	freeze.Stderr = &said
	if err := freeze.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	if n, _ := read.Read(make([]byte, 1)); n != 1 {
		_ = freeze.Wait()
		t.Fatalf("memory cannot be asked for: %s", &said)
	}
	n := len(c.counted())
	work := t.TempDir()
	lazy := c.criu("lazy-pages", "--images-dir", c.image, "--work-dir", work, "--page-server", "--address", "127.0.0.1", "--port", "27016")
	defer c.quoteLog("restore.log")
	c.must("restore", "--detach", "--lazy-pages", "--image-path", c.image, "--work-path", work, "d")
	t.Cleanup(func() { c.run("delete", "--force", "d") })
	c.more(n)
	if err := errors.Join(lazy.Wait(), freeze.Wait()); err != nil {
		t.Errorf("%v: %s", err, &said)
	}
}

// A runtime that is killed while CRIU works leaves a container that list does not mind and
// delete --force removes, with CRIU.
func TestCRIUKilledRuntime(t *testing.T) {
	c := frozen(t)
	slow := filepath.Join(t.TempDir(), "criu")
	begun := filepath.Join(t.TempDir(), "begun")
	testkit.WriteFile(t, slow, "#!/bin/sh\ncase $1 in --version) echo Version: 3.17 ;; *) echo > "+begun+"; exec sleep 1000 ;; esac\n", 0o755)
	if err := unix.Mkfifo(begun, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := c.command("--criu", slow, "restore", "--image-path", c.image, "c")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(begun); err != nil { // ends when criu has begun
		t.Fatal(err)
	}
	_, _ = cmd.Process.Kill(), cmd.Wait()
	if list := c.must("list", "--quiet"); list != "" {
		t.Errorf("list says %s", list)
	}
	c.refused("delete it with --force", "delete", "c")
	c.must("delete", "--force", "c")
}
