package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/internal/testkit"
	testprobe "github.com/containr/containr/internal/testkit/probe"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// running is a container whose program waits to be killed.
type running struct {
	*Runtime
	*Started
	t    *testing.T
	root string
}

// runWaiting makes a container of the runtime and starts it. It is deleted when the
// test ends.
func runWaiting(t *testing.T, spec *specs.Spec) running {
	t.Helper()
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	facts, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	root := testkit.Rootfs(t)
	spec.Root = &specs.Root{Path: root}
	spec.Process.Args = []string{"/probe", "-wait-signal", "USR1"}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r := &Runtime{Root: filepath.Join(t.TempDir(), "state"), Facts: facts}
	s, err := r.Create(&CreateRequest{ID: "test", Bundle: filepath.Dir(root), Spec: spec, Stdio: [3]*os.File{null, null, null}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.Kill("test", unix.SIGKILL, false)
		reap(s.PID)
		if err := r.Delete("test", true); err != nil {
			t.Error(err)
		}
	})
	return running{r, s, t, root}
}

// exec runs a further process, with a directory of the host's as standard input, and
// returns what it printed.
func (c running) exec(p *specs.Process, stdin string) ([]byte, error) {
	c.t.Helper()
	in, err := os.Open(stdin)
	if err != nil {
		c.t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(filepath.Join(c.t.TempDir(), "out"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer out.Close()
	s, err := c.Exec(&ExecRequest{ID: "test", Process: p, Stdio: [3]*os.File{in, out, out}})
	if err != nil {
		return nil, err
	}
	reap(s.PID)
	text, err := os.ReadFile(out.Name())
	if err != nil {
		c.t.Fatal(err)
	}
	return text, nil
}

func (c running) probe(p *specs.Process) testprobe.Report {
	c.t.Helper()
	out, err := c.exec(p, os.DevNull)
	if err != nil {
		c.t.Fatal(err)
	}
	return testkit.Report(c.t, out)
}

// A further process gets what the container's first one gets: nothing inheritable
// (CVE-2022-24769, CVE-2022-29162), no descriptor of the host's (CVE-2024-21626),
// exactly its groups (CVE-2022-2989), and the same namespaces.
func TestExecGetsNoMoreThanTheFirstProcess(t *testing.T) {
	c := runWaiting(t, exampleSpec())
	process := exampleSpec("/probe").Process
	process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{7}}
	r := c.probe(process)
	if caps := r.Status.Caps; caps.Inheritable != 0 || caps.Ambient != 0 || caps.Effective != 0 || caps.Permitted != 0 || caps.Bounding != 1<<0|1<<5 {
		t.Errorf("capabilities %+v", caps)
	}
	if r.UID.Real != 1000 || r.UID.Saved != 1000 || r.GID.Real != 1001 || !slices.Equal(r.Groups, []int{7}) {
		t.Errorf("uid %+v, gid %+v, groups %v", r.UID, r.GID, r.Groups)
	}
	if len(r.FDs) != 3 || !r.Status.NoNewPrivs {
		t.Errorf("descriptors %v, no_new_privs %v", r.FDs, r.Status.NoNewPrivs)
	}
	for kind, number := range testkit.Namespaces(t, c.PID) {
		if kind != "pid_for_children" && r.Namespaces[kind] != number {
			t.Errorf("namespace %s is not the container's", kind)
		}
	}
}

// As for the first process, no working directory leads through a descriptor or to
// another process's root.
func TestExecWorkingDirectory(t *testing.T) {
	c := runWaiting(t, exampleSpec())
	outside := t.TempDir()
	for _, cwd := range []string{"/proc/self/fd/0", "/dev/stdin", "/proc/self/cwd", "/proc/1/root", "/proc/self/fd/0/..", "/missing"} {
		process := exampleSpec("/probe").Process
		process.Cwd = cwd
		out, err := c.exec(process, outside)
		var step *StepError
		if !errors.As(err, &step) || step.Step.From != "/cwd" || step.Step.Call.Name() != "openat2" {
			t.Errorf("%s: %v, output %s", cwd, err, out)
		}
	}
	process := exampleSpec("/probe").Process
	process.Cwd = "/home/alice"
	if r := c.probe(process); r.Cwd != "/home/alice" {
		t.Errorf("directory %s", r.Cwd)
	}
}

// A process that fails before its runner has told that it was born is reaped like any
// other: the first process of its namespace could never be.
func TestProcessThatFailsBeforeItsBirthIsToldIsReaped(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	runner := plan.Build(plan.Keeper, plan.NamespaceChapter)
	runner.Do("the process is born", linux.Clone{Flags: linux.CloneParent}).As(namespace.PID)
	runner.Do("it has the other end", linux.Openat{Dir: linux.CWD, Path: fifo}).As("fifo")
	runner.Do("until it has ended", linux.Read{FD: "fifo", Size: 1})
	runner.Do("the host learns its process id", linux.WriteReg{FD: linux.FD(child.Sync), Value: namespace.PID})
	process := plan.Build(plan.Child, plan.NamespaceChapter)
	process.Do("it has one end", linux.Openat{Dir: linux.CWD, Path: fifo, Flags: linux.OWronly}).As("fifo")
	process.Do("it fails", linux.Chdir{Path: "/missing"})
	end := plan.Build(plan.Keeper, plan.NamespaceChapter)
	end.Do("the runner is done", linux.ExitGroup{})
	_, err := Start(&plan.Plan{Steps: slices.Concat(runner.Steps, process.Steps, end.Steps)}, StartOptions{})
	var step *StepError
	if !errors.As(err, &step) || step.Step.Call.Name() != "chdir" {
		t.Errorf("error %v, want that of chdir", err)
	}
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
		t.Errorf("a child is left: %v", err)
	}
}

// The programs that an image can make the runtime execute lead back to what runs it,
// which is a sealed copy of no use (CVE-2019-5736).
func TestExecOfTheRuntimeItself(t *testing.T) {
	c := runWaiting(t, exampleSpec())
	testkit.WriteFile(t, filepath.Join(c.root, "script"), "#!/proc/self/exe\n", 0o755)
	for _, program := range []string{"/proc/self/exe", "/script", "/proc/self/fd/3", "/dev/fd/4"} {
		if out, err := c.exec(exampleSpec(program).Process, os.DevNull); err == nil && strings.Contains(string(out), `"PID"`) {
			t.Errorf("%s ran: %s", program, out)
		}
	}
	r := c.probe(exampleSpec("/probe", "-try", "open-rw:/proc/self/exe", "-try", "write:/proc/1/exe").Process)
	for _, try := range r.Tries {
		if try.Errno != "ETXTBSY" {
			t.Errorf("%+v", try)
		}
	}
}

// The keeper of a container is on the host, and holds nothing but what it writes the
// exit status to. Its program can be changed by nobody.
func TestKeeperHoldsNothing(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	exit := filepath.Join(t.TempDir(), "exit")
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	careless, err := os.Open("/etc")
	if err != nil {
		t.Fatal(err)
	}
	defer careless.Close()
	if _, err := unix.FcntlInt(careless.Fd(), unix.F_SETFD, 0); err != nil { // as if inherited from a parent
		t.Fatal(err)
	}
	spec := exampleSpec("/probe", "-wait-signal", "USR1")
	p := compileInput(t, Input{ID: "kept", Spec: spec, Root: testkit.Rootfs(t), ExitFile: exit})
	s, err := Start(p, StartOptions{Stdio: [3]*os.File{null, null, null}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = unix.Kill(s.PID, unix.SIGKILL)
		reap(s.Parent)
		if err := (Actions{}).undoAll(p.Undo()); err != nil {
			t.Error(err)
		}
	}()
	dir := "/proc/" + strconv.Itoa(s.Parent)
	links, err := os.ReadDir(dir + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if target, _ := os.Readlink(dir + "/fd/" + l.Name()); target != os.DevNull && target != exit {
			t.Errorf("descriptor %s is %s", l.Name(), target)
		}
	}
	if f, err := os.OpenFile(dir+"/exe", os.O_RDWR, 0); !errors.Is(err, unix.ETXTBSY) && !errors.Is(err, unix.EPERM) {
		t.Errorf("exe can be written: %v, error %v", f, err)
	}
	if env, err := os.ReadFile(dir + "/environ"); err != nil || len(env) > 0 {
		t.Errorf("environment %q, error %v", env, err)
	}
	if r := probeKill(t, s.Parent); r != "ESRCH" {
		t.Errorf("a container's signal to the keeper: %s, want ESRCH", r)
	}
}

// probeKill asks another container to signal a process of the host.
func probeKill(t *testing.T, pid int) string {
	t.Helper()
	return probe(t, exampleSpec("/probe", "-try", fmt.Sprintf("kill:%d", pid))).Tries[0].Errno
}

// Programs that are started at the same time, as health checks are, each get their own descriptors, and the caller has his
// in the end.
func TestExecAtOnceKeepsDescriptorsApart(t *testing.T) {
	c := runWaiting(t, exampleSpec())
	before, err := os.Readlink("/proc/self/fd/1")
	if err != nil {
		t.Fatal(err)
	}
	rounds := 10
	if testing.Short() {
		rounds = 2 // what is at stake is this process's descriptors, which no kernel treats in a way of its own
	}
	var group sync.WaitGroup
	for n := range 8 {
		group.Go(func() {
			for range rounds {
				out, in, err := os.Pipe()
				if err != nil {
					t.Error(err)
					return
				}
				s, err := c.Exec(&ExecRequest{ID: "test", Stdio: [3]*os.File{nil, in, in}, Change: func(p *specs.Process) error {
					p.Args = []string{"/probe", "-exit", strconv.Itoa(n)}
					return nil
				}})
				in.Close()
				if err != nil {
					t.Error(err)
					return
				}
				out.SetReadDeadline(time.Now().Add(30 * time.Second))
				if _, err := io.Copy(io.Discard, out); err != nil { // to its end, which nobody else may hold open
					t.Error(err)
				}
				out.Close()
				reap(s.PID)
			}
		})
	}
	group.Wait()
	if now, err := os.Readlink("/proc/self/fd/1"); now != before || err != nil {
		t.Errorf("our standard output is %s, %v, and was %s", now, err, before)
	}
}

// TestExecIsNotMovedByAnother holds a further process of root to moving by itself into groups of version 1, while it sees the
// host's files: for one that is moved by another the kernel may wait for a grace period.
func TestExecIsNotMovedByAnother(t *testing.T) {
	spec := exampleSpec("/probe")
	for name, user := range map[string]uint32{"root": 0, "ordinary user": 1000} {
		facts := paperFacts(host.CgroupV1, host.Kernel{Major: 6, Minor: 12})
		facts.UID = user
		p, err := CompileExec(ExecInput{ID: "c", Target: 2, Spec: spec, Process: spec.Process, Facts: facts, Cgroups: []string{"/sys/fs/cgroup/pids/c", "/sys/fs/cgroup/cpu/c"}})
		if err != nil {
			t.Fatal(err)
		}
		var opened, itself, moved, joined int
		for _, s := range p.Steps {
			switch call := s.Call.(type) {
			case linux.Attach:
				moved++
			case linux.Setns:
				if call.Flags&linux.CloneNewns != 0 {
					joined++
				}
			case linux.Openat:
				if s.Actor == plan.Keeper && strings.HasSuffix(call.Path, "/c/tasks") && joined == 0 {
					opened++
				}
			case linux.Write:
				if s.Actor == plan.Child && strings.HasPrefix(string(call.FD), "group") {
					itself++
				}
			}
		}
		if opened != itself {
			t.Errorf("%s: %d files are opened, %d written", name, opened, itself)
		}
		want := [2]int{2, 0}
		if user != 0 {
			want = [2]int{0, 2}
		}
		if got := [2]int{itself, moved}; got != want || joined != 1 {
			t.Errorf("%s: the process moves itself into %d groups, and is moved into %d (joined %d times); want %v", name, itself, moved, joined, want)
		}
	}
}

// A further process is seen by the container's programs as soon as it is born. Where they share the host's users they may have
// CAP_SYS_PTRACE over it, and reach what it reaches: no file of the host, neither from its root nor by a directory that is open,
// but for a group of version 2 that is mounted apart, from which no .. leads on.
func TestExecIsBornWithoutTheHostsFiles(t *testing.T) {
	for _, mode := range []host.CgroupMode{host.CgroupV1, host.CgroupV2} {
		spec := exampleSpec("/probe")
		spec.Process.SelinuxLabel = "system_u:system_r:container_t:s0"
		facts := paperFacts(mode, host.Kernel{Major: 6, Minor: 12})
		facts.SELinux = true
		p, err := CompileExec(ExecInput{ID: "c", Target: 2, Spec: spec, Process: spec.Process, Facts: facts, Cgroups: []string{"/sys/fs/cgroup/pids/c"}})
		if err != nil {
			t.Fatal(err)
		}
		joined, directories := false, map[plan.Reg]bool{}
		for i := range p.Steps {
			switch call := p.Steps[i].Call.(type) {
			case linux.Setns:
				joined = joined || call.Flags&linux.CloneNewns != 0
			case linux.OpenHost:
				directories[p.Steps[i].Result] = call.Flags&(linux.ODirectory|linux.OPath) != 0
			case linux.Openat:
				directories[p.Steps[i].Result] = !joined && call.Flags&(linux.ODirectory|linux.OPath) != 0
			case linux.Close:
				delete(directories, plan.Reg(call.FD))
			case linux.Clone:
				if !joined {
					t.Errorf("version %v: the process is born among the host's mounts", mode)
				}
				for reg, is := range directories {
					if is {
						t.Errorf("version %v: the process is born with %s open", mode, reg)
					}
				}
			}
		}
	}
}

// Hooks in the container's namespaces are in its control groups, too.
func TestHooksAreInTheContainersGroups(t *testing.T) {
	for _, stage := range []stage{createContainer, startContainer} {
		spec := exampleSpec("/probe")
		facts := paperFacts(host.CgroupV1, host.Kernel{Major: 6, Minor: 12})
		p, err := compileHook(hookInput{ExecInput{ID: "x", Target: 1, Spec: spec, Facts: facts, Cgroups: []string{"/sys/fs/cgroup/pids/c"}},
			linux.RunHook{Hook: stage.name, Path: "/hook", Args: []string{"hook"}}})
		if err != nil {
			t.Fatal(err)
		}
		moves := 0
		for _, s := range p.Steps {
			switch call := s.Call.(type) {
			case linux.Attach:
				moves++
			case linux.Write:
				if strings.HasPrefix(string(call.FD), "group") {
					moves++
				}
			}
		}
		if moves != 1 {
			t.Errorf("%s: moved %d times into its groups, want 1", stage.name, moves)
		}
	}
}
