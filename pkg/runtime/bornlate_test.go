package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/internal/testkit"
)

// hunter is a container with CAP_SYS_PTRACE that looks for a file of the host's through every process that it sees. It
// returns the container's first process, and a function that ends it and returns what it has said.
func hunter(t *testing.T, file string, change func(*specs.Spec)) (int, func() string) {
	t.Helper()
	said, err := os.Create(filepath.Join(t.TempDir(), "said"))
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	spec := exampleSpec("/probe", "-hunt", file)
	spec.Process.Capabilities = &specs.LinuxCapabilities{}
	for _, set := range []*[]string{&spec.Process.Capabilities.Bounding, &spec.Process.Capabilities.Effective, &spec.Process.Capabilities.Permitted} {
		*set = []string{"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE", "CAP_SYS_CHROOT", "CAP_SYS_ADMIN"}
	}
	if change != nil {
		change(spec)
	}
	p := compileInput(t, Input{ID: "hunter", Spec: spec, Root: testkit.Rootfs(t)})
	s, err := Start(p, StartOptions{Stdio: [3]*os.File{null, said, said}})
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	end := func() {
		if ended {
			return
		}
		ended = true
		_ = unix.Kill(s.PID, unix.SIGKILL) // it is there until we have waited for it
		reap(s.PID)
		if err := (Actions{}).undoAll(p.Undo()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { end(); said.Close(); null.Close() })
	return s.PID, func() string {
		end()
		text, err := os.ReadFile(said.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

// A container that shares the processes of another one is seen by that one's programs as soon as it is born among them. One
// with CAP_SYS_PTRACE reaches what it reaches: nothing of the host's, neither by its root nor by a descriptor, at no time.
func TestSharedProcessesSeeNoFilesOfTheHost(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	file := filepath.Join(t.TempDir(), "secret")
	testkit.WriteFile(t, file, "of the host", 0o600)
	for _, keeper := range []bool{false, true} {
		pid, said := hunter(t, file, nil)
		for range 100 {
			spec := sharing(pid, "-sleep", "2ms")
			in := Input{ID: "test", Spec: spec, Root: testkit.Rootfs(t)}
			if keeper {
				in.ExitFile = filepath.Join(t.TempDir(), "exit")
			}
			p := compileInput(t, in)
			s, err := Start(p, StartOptions{open: (*execution).fsopen})
			if err != nil {
				t.Fatal(err, Hint(err))
			}
			if !keeper {
				reap(s.PID)
			}
			reap(s.Parent)
			if err := (Actions{}).undoAll(p.Undo()); err != nil {
				t.Error(err)
			}
		}
		text := said()
		if !strings.Contains(text, "root /probe") {
			t.Errorf("keeper %v: it has not seen a single process: %q", keeper, text)
		}
		for _, way := range []string{`"root"`, `"cwd"`, `"descriptor"`} {
			if strings.Contains(text, way) {
				t.Errorf("keeper %v: a program reached the host's file through a process with which it shares the namespace: by its %s", keeper, way)
			}
		}
	}
}

// A container's root with the usual capabilities has no power over whoever opens a procfs for another one: it would have a process with
// the host's users and without a filter.
func TestWhoOpensAProcfsIsNobodysPrey(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	pid, said := hunter(t, "/nowhere", func(spec *specs.Spec) {
		usual := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_MKNOD", "CAP_SYS_CHROOT"}
		spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: usual, Effective: usual, Permitted: usual}
	})
	for range 50 {
		p := compileInput(t, Input{ID: "test", Spec: sharing(pid, "-sleep", "2ms"), Root: testkit.Rootfs(t)})
		s, err := Start(p, StartOptions{open: (*execution).fsopen})
		if err != nil {
			t.Fatal(err, Hint(err))
		}
		reap(s.PID)
		reap(s.Parent)
		if err := (Actions{}).undoAll(p.Undo()); err != nil {
			t.Error(err)
		}
	}
	text := said()
	if !strings.Contains(text, "root /probe") {
		t.Errorf("it has not seen a single process: %q", text)
	}
	if strings.Contains(text, "another root") {
		t.Errorf("it could look into a process with another root: %s", text)
	}
}

// Nobody's word is taken for who the container's first process is: it is said once, and it is a child of ours or the keeper's.
func TestWhoGoesOnIsAChild(t *testing.T) {
	for _, late := range []bool{false, true} {
		e := &execution{late: late, pid: 42, proc: &child.Process{PID: 42}}
		if err := e.goesOn(1); !errors.As(err, new(KilledError)) || e.pid != 42 {
			t.Errorf("late %v: %v, and now it is process %d", late, err, e.pid)
		}
	}
}

// sharing is a container with the processes of that of pid.
func sharing(pid int, args ...string) *specs.Spec {
	spec := exampleSpec(append([]string{"/probe"}, args...)...)
	for i := range spec.Linux.Namespaces {
		if n := &spec.Linux.Namespaces[i]; n.Type == specs.PIDNamespace {
			n.Path = "/proc/" + strconv.Itoa(pid) + "/ns/pid"
		}
	}
	return spec
}

// Such a container is as any other: its process is the head of a session, which has the terminal; it inherits nothing but
// what it should; its limits hold; its /proc shows the processes that it shares; and its keeper tells how it ended, whomever
// its program makes a child of the keeper.
func TestContainerThatSharesProcesses(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	pid, _ := hunter(t, "/nowhere", nil)
	score := 123
	spec := sharing(pid, "-report", "-sibling", "42", "-exit", "7")
	spec.Process.Terminal, spec.Process.OOMScoreAdj = true, &score
	spec.Linux.Resources = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64)}}
	*spec.Linux.Resources.Pids.Limit = 50
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	socket := os.NewFile(uintptr(pair[1]), "console")
	defer socket.Close()
	exit := filepath.Join(t.TempDir(), "exit")
	p := compileInput(t, Input{ID: "test", Spec: spec, Root: testkit.Rootfs(t), ExitFile: exit})
	told := []int{}
	s, err := Start(p, StartOptions{open: (*execution).fsopen, Console: socket, Born: func(s *Started) error { told = append(told, s.PID); return nil }})
	if err != nil {
		t.Fatal(err, Hint(err))
	}
	if len(told) == 0 || told[len(told)-1] != s.PID {
		t.Errorf("who has to know of the process was told of %v, and it is %d", told, s.PID)
	}
	groups, err := os.ReadFile("/proc/" + strconv.Itoa(s.PID) + "/cgroup")
	if err != nil || !strings.Contains(string(groups), "containr-test") {
		t.Errorf("its control groups: %s, %v", groups, err)
	}
	out := readTerminal(t, pair[0])
	reap(s.Parent)
	if code, err := ReadExit(exit); err != nil || code != 7 {
		t.Errorf("exit status %d, error %v; want 7", code, err)
	}
	if err := (Actions{}).undoAll(p.Undo()); err != nil {
		t.Error(err)
	}
	r := testkit.Report(t, out)
	if r.PID == 1 || r.SID != r.PID || r.PGID != r.PID || r.TTY == nil || r.OOMScoreAdj != score {
		t.Errorf("process %d of session %d and group %d, terminal %+v, score %d", r.PID, r.SID, r.PGID, r.TTY, r.OOMScoreAdj)
	}
	if len(r.FDs) != 3 {
		t.Errorf("it inherits %+v", r.FDs)
	}
}
