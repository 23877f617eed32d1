package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// refused compiles a configuration that must be refused, with a message that has want
// in it.
func refused(t *testing.T, spec *specs.Spec, want string) {
	t.Helper()
	facts, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	_, err = Compile(Input{ID: "test", Spec: spec, Root: "/x", Facts: facts, Sources: Probe(spec)})
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v: want one with %q", err, want)
	}
	if len(spec.Linux.Sysctl) > 0 {
		return
	}
	_, err = CompileExec(ExecInput{ID: "test", Target: 1, Spec: exampleSpec("/x"), Process: spec.Process, Facts: facts})
	if strings.HasPrefix(want, "/process") && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("exec: error %v: want one with %q", err, want)
	}
}

// The id -1 tells the kernel to change nothing, so it would run the program as root.
func TestIDThatMeansUnchangedIsRefused(t *testing.T) {
	for _, c := range []struct {
		user specs.User
		want string
	}{
		{specs.User{UID: 1<<32 - 1}, "/process/user/uid"},
		{specs.User{UID: 1000, GID: 1<<32 - 1}, "/process/user/gid"},
		{specs.User{AdditionalGids: make([]uint32, 65537)}, "/process/user/additionalGids"},
	} {
		spec := exampleSpec("/probe")
		spec.Process.User = c.user
		refused(t, spec, c.want)
	}
}

// Kernel parameters that no namespace holds are the host's, and so are those of a
// namespace that the container shares with it.
func TestKernelParametersOfTheHostAreRefused(t *testing.T) {
	for _, key := range []string{"kernel.core_pattern", "kernel/core_pattern", "kernel.modprobe", "vm.overcommit_memory", "fs.protected_hardlinks",
		"kernel.msgmaxx", "network", "net", "", "../../self/attr", "net/../kernel/core_pattern/.", "kernel.hostname"} {
		spec := exampleSpec("/probe")
		spec.Linux.Sysctl = map[string]string{key: "1"}
		if !strings.HasPrefix(key, "net/") { // that is but a parameter that does not exist: "." is read as "/"
			refused(t, spec, "/linux/sysctl/"+key)
			continue
		}
		testkit.RequireRoot(t)
		if step := stepError(t, spec); step.Step.Call.Name() != "openat2" {
			t.Errorf("%s: %v", key, step)
		}
	}
	for kind, key := range map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net.ipv4.ip_forward", specs.IPCNamespace: "kernel.sem", specs.UTSNamespace: "kernel.domainname"} {
		spec := exampleSpec("/probe")
		spec.Hostname = ""
		spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
		spec.Linux.Sysctl = map[string]string{key: "1"}
		refused(t, spec, "no "+string(kind)+" namespace")
	}
}

// What is at /proc must be the kernel's: everything that masks, labels and checks
// relies on it (CVE-2019-16884).
func TestOnlyProcfsIsMountedOverProc(t *testing.T) {
	dir := t.TempDir()
	for _, m := range []specs.Mount{
		{Destination: "/proc", Type: "bind", Source: dir, Options: []string{"rbind"}},
		{Destination: "/proc/", Type: "none", Source: dir, Options: []string{"bind"}},
		{Destination: "/x/../proc/.", Type: "tmpfs", Source: "tmpfs"},
		{Destination: "/proc", Type: "overlay", Source: "proc"},
	} {
		spec := exampleSpec("/probe")
		spec.Mounts = append(spec.Mounts, m)
		refused(t, spec, "only a proc file system")
	}
}

// An image with a link in the place of /proc or /sys is refused, wherever it leads
// (CVE-2019-19921, CVE-2023-27561, CVE-2023-28642).
func TestLinkInThePlaceOfProcIsRefused(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	for _, name := range []string{"proc", "sys"} {
		for _, target := range []string{"/etc", "bin", "/dev/shm", "/proc", "../../../../tmp", "/nowhere"} {
			root := testkit.Rootfs(t)
			if err := errors.Join(os.Remove(filepath.Join(root, name)), os.Symlink(target, filepath.Join(root, name))); err != nil {
				t.Fatal(err)
			}
			_, err := runPlan(t, compileInput(t, Input{ID: "test", Spec: exampleSpec("/probe", "-exit", "0"), Root: root}))
			var step *StepError
			if !errors.As(err, &step) || step.Errno != plan.ELOOP || !strings.Contains(Hint(err), "/"+name) {
				t.Errorf("/%s -> %s: %v, hint %q", name, target, err, Hint(err))
			}
		}
	}
}

// A link on the way to the place of a mount does not lead it into what the kernel shows
// of itself, whether the image has the link or a volume, and whatever is mounted.
func TestLinksLeadNoMountIntoProc(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	root, volume, dir := testkit.Rootfs(t), t.TempDir(), t.TempDir()
	file := filepath.Join(dir, "file")
	testkit.WriteFile(t, file, "false", 0o644)
	testkit.WriteFile(t, filepath.Join(volume, "real", "file"), "", 0o644)
	for link, target := range map[string]string{
		filepath.Join(root, "proc1"): "/proc", filepath.Join(root, "sys1"): "sys", filepath.Join(root, "chain"): "chain2", filepath.Join(root, "chain2"): "../../proc1/sys",
		filepath.Join(root, "group"): "/sys/fs/cgroup", filepath.Join(root, "etc", "up"): "../proc", filepath.Join(root, "uptime"): "/proc/uptime", filepath.Join(root, "etc", "mtab"): "/proc/mounts",
		filepath.Join(volume, "out"): "/proc/sys", filepath.Join(volume, "uptime"): "../proc/uptime", filepath.Join(root, "good"): "/vol/real", filepath.Join(root, "own"): "/etc",
	} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	vol := specs.Mount{Destination: "/vol", Type: "bind", Source: volume, Options: []string{"bind"}}
	try := func(m specs.Mount) error {
		spec := exampleSpec("/probe", "-exit", "0")
		spec.Mounts = append(spec.Mounts, vol, m)
		_, err := runPlan(t, compileInput(t, Input{ID: "test", Spec: spec, Root: root}))
		return err
	}
	refuse := func(m specs.Mount) {
		var step *StepError
		if err := try(m); !errors.As(err, &step) || !strings.Contains(Hint(err), "symbolic link") {
			t.Errorf("%s at %s: %v, hint %q", m.Type, m.Destination, err, Hint(err))
		}
	}
	for _, place := range []string{"/proc1", "/sys1", "/chain", "/group", "/etc/up", "/etc/up/sys/kernel", "/proc1/sys", "/proc1/self", "/sys1/kernel", "/vol/out", "/vol/out/kernel"} {
		refuse(specs.Mount{Destination: place, Type: "tmpfs", Source: "tmpfs"})
		refuse(specs.Mount{Destination: place, Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}})
		refuse(specs.Mount{Destination: place, Type: "bind", Source: dir, Options: []string{"rbind"}})
	}
	for _, place := range []string{"/uptime", "/etc/mtab", "/etc/up/uptime", "/proc1/self/status", "/vol/uptime", "/sys1/kernel/uevent_seqnum", "/vol/out/kernel/hostname"} {
		refuse(specs.Mount{Destination: place, Type: "bind", Source: file, Options: []string{"bind"}})
	}
	for _, m := range []specs.Mount{
		{Destination: "/good", Type: "tmpfs", Source: "tmpfs"}, {Destination: "/good/new", Type: "bind", Source: dir, Options: []string{"bind"}},
		{Destination: "/good/file", Type: "bind", Source: file, Options: []string{"bind"}}, {Destination: "/own/new", Type: "bind", Source: file, Options: []string{"bind"}},
		{Destination: "/proc/uptime", Type: "bind", Source: file, Options: []string{"bind"}}, {Destination: "/dev/shm", Type: "tmpfs", Source: "tmpfs"},
	} {
		if err := try(m); err != nil {
			t.Errorf("%s at %s: %v, hint %q", m.Type, m.Destination, err, Hint(err))
		}
	}
}

// A container that waits for its start, with all its privileges dropped but with
// descriptors of the runtime's, is not open to its peers, where those see it.
func TestWaitingContainerIsClosedToItsPeers(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	peers := func(args ...string) *specs.Spec {
		s := exampleSpec(append([]string{"/probe"}, args...)...)
		s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
		return s
	}
	fifo := filepath.Join(t.TempDir(), "start")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p := compileInput(t, Input{ID: "waits", Spec: peers("-exit", "0"), Root: testkit.Rootfs(t), StartFifo: fifo})
	s, err := Start(p, StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = unix.Kill(s.PID, unix.SIGKILL)
		reap(s.PID)
		if err := (Actions{}).undoAll(p.Undo()); err != nil {
			t.Error(err)
		}
	}()
	dir := fmt.Sprintf("/proc/%d/", s.PID)
	r := probe(t, peers("-try", "ptrace:"+strconv.Itoa(s.PID), "-try", "open:"+dir+"fd/3", "-try", "open:"+dir+"mem", "-try", "open:"+dir+"root", "-try", "open-rw:"+dir+"exe"))
	for _, try := range r.Tries {
		if try.OK || try.Errno != "EPERM" && try.Errno != "EACCES" {
			t.Errorf("%+v", try)
		}
	}
	if len(r.Tries) != 5 {
		t.Errorf("%d answers", len(r.Tries))
	}
}

// A process that has taken over the number of a container's first process is never
// joined: it may be in the host's namespaces.
func TestExecNeverJoinsALaterProcess(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	facts, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	start, _ := startTime(os.Getpid())
	p, err := CompileExec(ExecInput{ID: "test", Target: os.Getpid(), TargetStart: start + 1, Facts: facts,
		Spec: exampleSpec("/probe"), Process: exampleSpec("/bin/true").Process})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(p, StartOptions{})
	if err == nil {
		reap(s.Parent)
		reap(s.PID)
	}
	var step *StepError
	if !errors.As(err, &step) || step.Errno != plan.ESRCH || step.Step.Call.Name() != "pidfd_open" {
		t.Errorf("error %v: want no such process", err)
	}
}

// A state root that another user can write to, or could have made before us, tells
// nothing: neither who to kill nor what to remove.
func TestStateRootOfOthersIsRefused(t *testing.T) {
	testkit.RequireRoot(t)
	foreign, open := filepath.Join(t.TempDir(), "foreign"), filepath.Join(t.TempDir(), "open")
	if err := errors.Join(os.Mkdir(foreign, 0o700), os.Chown(foreign, 1000, 1000), os.Mkdir(open, 0o700), os.Chmod(open, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link") // leads to a good one, as long as its owner wants
	if err := errors.Join(os.Symlink(t.TempDir(), link), os.Lchown(link, 1000, 1000)); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{foreign, open, link} {
		victim := filepath.Join(t.TempDir(), "victim")
		testkit.WriteFile(t, filepath.Join(root, "x", stateFile), `{"id":"x","pid":1}`, 0o644)
		testkit.WriteFile(t, filepath.Join(root, "x", journalFile), "rmdir "+strconv.Quote(victim)+"\n", 0o644)
		if err := os.Mkdir(victim, 0o755); err != nil {
			t.Fatal(err)
		}
		r := &Runtime{Root: root, Facts: &host.Facts{}}
		for verb, err := range map[string]error{"kill": r.Kill("x", 0, false), "start": r.Start("x"), "delete": r.Delete("x", true)} {
			if err == nil || !strings.Contains(err.Error(), "state root") {
				t.Errorf("%s in %s: %v", verb, root, err)
			}
		}
		if _, _, err := r.makeDir(&CreateRequest{ID: "y"}, ""); err == nil {
			t.Errorf("a container was made in %s", root)
		}
		if _, err := os.Stat(victim); err != nil {
			t.Error(err)
		}
	}
}

// Ids and host paths reach file names and the journal as what they are.
func TestOddNamesStayNames(t *testing.T) {
	for _, id := range []string{"", ".", "..", "a/b", "../x", "a\nb", "a\x00", "é", "a b", strings.Repeat("x", 1025)} {
		if ValidateID(id) == nil {
			t.Errorf("id %q was accepted", id)
		}
	}
	path := filepath.Join(t.TempDir(), "journal")
	calls := []plan.Call{linux.RemoveDir{Path: "/a\nrmdir \"/b\"\n"}, linux.RemoveDir{Path: "/c \\\" \x00\xff,:"}}
	if err := writeJournal(path, calls); err != nil {
		t.Fatal(err)
	}
	if got, err := (Actions{}).readJournal(path); err != nil || !slices.Equal(got, calls) {
		t.Errorf("%q, error %v", got, err)
	}
}
