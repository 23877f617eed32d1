package runtime

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	testprobe "github.com/containr/containr/internal/testkit/probe"
	"github.com/containr/containr/internal/testkit/procfs"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
)

// hooked is a container with hooks that leave word.
type hooked struct {
	t       *testing.T
	r       *Runtime
	spec    *specs.Spec
	root    string // of its root file system
	notes   string // directory of what the host's hooks say
	program string // the hooks' program, on the host
	warned  []error
}

func newHooked(t *testing.T) *hooked {
	t.Helper()
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	facts, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	h := &hooked{t: t, root: testkit.Rootfs(t), notes: t.TempDir(), program: testkit.Probe(t)}
	h.r = &Runtime{Root: filepath.Join(t.TempDir(), "state"), Facts: facts, Warn: func(err error) { h.warned = append(h.warned, err) }}
	h.spec = exampleSpec("/probe", "-save", "/tmp/program")
	h.spec.Root = &specs.Root{Path: h.root}
	h.spec.Annotations = map[string]string{"color": "blue"}
	h.spec.Hooks = new(specs.Hooks)
	h.spec.Process.User = specs.User{UID: 1000, GID: 1000}
	return h
}

// note is the file that the hook of a stage writes to, on the host; a startContainer
// hook is inside.
func (h *hooked) note(stage string) string {
	if stage == "startContainer" || stage == "program" {
		return filepath.Join(h.root, "tmp", stage)
	}
	return filepath.Join(h.notes, stage)
}

// hook makes a hook that leaves word and goes on with the arguments.
func (h *hooked) hook(stage string, args ...string) specs.Hook {
	if stage == "startContainer" {
		return specs.Hook{Path: "/probe", Args: append([]string{"start", "-save", "/tmp/" + stage}, args...), Env: []string{"A=1"}}
	}
	return specs.Hook{Path: h.program, Args: append([]string{"hook", "-save", h.note(stage)}, args...), Env: []string{"A=1"}}
}

// lists are the stages' lists by name.
func (h *hooked) lists() map[string]*[]specs.Hook {
	k := h.spec.Hooks
	//lint:ignore SA1019 callers still send prestart hooks
	return map[string]*[]specs.Hook{"prestart": &k.Prestart, "createRuntime": &k.CreateRuntime, "createContainer": &k.CreateContainer,
		"startContainer": &k.StartContainer, "poststart": &k.Poststart, "poststop": &k.Poststop}
}

func (h *hooked) all() {
	for stage, list := range h.lists() {
		*list = append(*list, h.hook(stage))
	}
}

func (h *hooked) create(wait bool) (*Started, error) {
	h.t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer null.Close()
	return h.r.Create(&CreateRequest{ID: "hooked", Bundle: filepath.Dir(h.root), Spec: h.spec, Stdio: [3]*os.File{null, null, null}, Wait: wait})
}

// said reads what the hook of a stage wrote, nil if it has not run.
func (h *hooked) said(stage string) []said {
	h.t.Helper()
	text, err := os.ReadFile(h.note(stage))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		h.t.Fatal(err)
	}
	var all []said
	for line := range strings.Lines(string(text)) {
		var s testprobe.Saved
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			h.t.Fatal(err)
		}
		one := said{Report: s.Report}
		if s.Input != "" {
			if err := json.Unmarshal([]byte(s.Input), &one.state); err != nil {
				h.t.Fatalf("%s: the state %q: %v", stage, s.Input, err)
			}
		}
		all = append(all, one)
	}
	return all
}

type said struct {
	testprobe.Report
	state specs.State
}

// ran lists the stages whose hooks have run.
func (h *hooked) ran() string {
	var list []string
	for _, s := range stages {
		if h.said(s.name) != nil {
			list = append(list, s.name)
		}
	}
	return strings.Join(list, " ")
}

// Each stage comes at its verb, in the right namespaces, with the right state.
func TestHooksAtTheirTime(t *testing.T) {
	h := newHooked(t)
	h.all()
	s, err := h.create(true)
	if err != nil {
		t.Fatal(err)
	}
	if got := h.ran(); got != "prestart createRuntime createContainer" {
		t.Errorf("after create: %s", got)
	}
	if err := h.r.Start("hooked"); err != nil {
		t.Fatal(err)
	}
	reap(s.PID)
	if got := h.ran(); got != "prestart createRuntime createContainer startContainer poststart" {
		t.Errorf("after start: %s", got)
	}
	if err := h.r.Delete("hooked", false); err != nil {
		t.Fatal(err)
	}
	if got := h.ran(); got != "prestart createRuntime createContainer startContainer poststart poststop" {
		t.Errorf("after delete: %s", got)
	}
	h.check(s.PID)
	if len(h.warned) > 0 {
		t.Errorf("warnings %v", h.warned)
	}
}

// run does the same in one go.
func TestHooksOfRun(t *testing.T) {
	h := newHooked(t)
	h.all()
	s, err := h.create(false)
	if err != nil {
		t.Fatal(err)
	}
	reap(s.PID)
	if got := h.ran(); got != "prestart createRuntime createContainer startContainer poststart" {
		t.Errorf("after the program's end: %s", got)
	}
	if err := h.r.Finish(s); err != nil {
		t.Fatal(err)
	}
	if h.said("poststop") == nil {
		t.Error("no poststop hook has run")
	}
	h.check(s.PID)
}

// check compares what the hooks saw with what they should see.
func (h *hooked) check(pid int) {
	h.t.Helper()
	own := testkit.Namespaces(h.t, os.Getpid())
	program := h.said("program")
	if len(program) != 1 {
		h.t.Fatal("the program has not run")
	}
	for _, c := range []struct {
		stage  string
		status specs.ContainerState
		pid    int
	}{
		{"prestart", "created", pid}, {"createRuntime", "creating", pid}, {"createContainer", "creating", 1},
		{"startContainer", "created", 1}, {"poststart", "running", pid}, {"poststop", "stopped", 0},
	} {
		list := h.said(c.stage)
		if len(list) != 1 {
			h.t.Errorf("%s: %d hooks have run", c.stage, len(list))
			continue
		}
		r := list[0]
		if r.state.Status != c.status || r.state.Pid != c.pid || r.state.ID != "hooked" || r.state.Bundle != filepath.Dir(h.root) ||
			r.state.Version != specs.Version || r.state.Annotations["color"] != "blue" {
			h.t.Errorf("%s: state %+v, want %s, process %d", c.stage, r.state, c.status, c.pid)
		}
		inside := c.pid == 1
		for kind, ns := range r.Namespaces {
			want := own[kind]
			if inside {
				want = program[0].Namespaces[kind]
			}
			if ns != want && !strings.HasSuffix(kind, "_for_children") {
				h.t.Errorf("%s: namespace %s is %d, want %d", c.stage, kind, ns, want)
			}
		}
		if !slices.Equal(r.Env, []string{"A=1"}) {
			h.t.Errorf("%s: environment %q", c.stage, r.Env)
		}
		if inside && len(r.FDs) != 3 { // those outside have what the test was started with
			h.t.Errorf("%s: descriptors %+v", c.stage, r.FDs)
		}
		if wantDir := map[bool]string{true: "/", false: filepath.Dir(h.root)}[inside]; r.Cwd != wantDir {
			h.t.Errorf("%s: working directory %s, want %s", c.stage, r.Cwd, wantDir)
		}
		if c.stage != "startContainer" && (r.UID.Real != 0 || r.Status.Caps.Effective != testkit.Status(h.t, 0).Caps.Effective) {
			h.t.Errorf("%s: uid %d, capabilities %v", c.stage, r.UID.Real, r.Status.Caps.Effective)
		}
	}
	h.confined(program[0].Report)
}

// confined checks that the startContainer hook has what the program has: it comes out
// of the image.
func (h *hooked) confined(program testprobe.Report) {
	h.t.Helper()
	r := h.said("startContainer")[0]
	if r.UID.Real != 1000 || r.Status.Caps != program.Status.Caps || !r.Status.NoNewPrivs || r.Status.Seccomp != program.Status.Seccomp {
		h.t.Errorf("startContainer: uid %d, %+v; the program has %+v", r.UID.Real, r.Status, program.Status)
	}
	if !slices.EqualFunc(r.Cgroups, program.Cgroups, func(a, b procfs.CgroupEntry) bool { return a.Path == b.Path }) {
		h.t.Errorf("startContainer: control groups %v, the program's are %v", r.Cgroups, program.Cgroups)
	}
	if outer := h.said("createContainer")[0]; len(outer.Mounts) <= len(program.Mounts) {
		h.t.Errorf("createContainer sees %d mounts: not those of the host", len(outer.Mounts))
	}
}

// A hook of the creation that fails ends it, and nothing is left.
func TestHookThatFailsStopsTheCreation(t *testing.T) {
	for _, stage := range []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart"} {
		t.Run(stage, func(t *testing.T) {
			h := newHooked(t)
			h.all()
			list := h.lists()[stage]
			*list = append(*list, h.hook(stage, "-stderr", "no luck", "-exit", "3"), h.hook(stage))
			_, err := h.create(false)
			var hook *HookError
			if !errors.As(err, &hook) || hook.Hook != stage || hook.Reason != "exit status 3" || hook.Output != "no luck" {
				t.Fatalf("error %v", err)
			}
			if n := len(h.said(stage)); n != 2 {
				t.Errorf("%d hooks of the stage have run, want 2", n)
			}
			if h.said("poststop") == nil {
				t.Error("no poststop hook has run")
			}
			if _, err := h.r.State("hooked"); !errors.Is(err, ErrNotFound) {
				t.Errorf("state: %v", err)
			}
		})
	}
}

// What a hook says is quoted as words, and never as commands to the reader's terminal.
func TestHookDoesNotCommandTheTerminal(t *testing.T) {
	for text, want := range map[string]string{
		"no luck\n":                         "no luck",
		"\x1b]0;owned\a\x1b[2Jno\r\nluck":   "?]0;owned??[2Jno luck",
		"\u009b2J\u202e\xffluck \u00e4\x00": "?2J??luck ä?",
	} {
		f, err := memory([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		files := hookFiles{stderr: f, kept: true}
		if got := files.said(); got != want {
			t.Errorf("%q is quoted as %q, want %q", text, got, want)
		}
		files.close()
	}
}

// A hook of the start that fails leaves a stopped container.
func TestHookThatFailsStopsTheContainer(t *testing.T) {
	for _, stage := range []string{"startContainer", "poststart"} {
		t.Run(stage, func(t *testing.T) {
			h := newHooked(t)
			h.spec.Process.Args = []string{"/probe", "-pause"}
			h.all()
			*h.lists()[stage] = []specs.Hook{h.hook(stage, "-exit", "1")}
			s, err := h.create(true)
			if err != nil {
				t.Fatal(err)
			}
			var hook *HookError
			if err := h.r.Start("hooked"); !errors.As(err, &hook) || hook.Hook != stage {
				t.Errorf("start: %v", err)
			}
			st, err := h.r.State("hooked")
			if err != nil || st.Status != specs.StateStopped {
				t.Errorf("state %+v, %v", st, err)
			}
			reap(s.PID)
			if err := h.r.Delete("hooked", false); err != nil {
				t.Error(err)
			}
			if h.said("poststop") == nil {
				t.Error("no poststop hook has run")
			}
		})
	}
}

// All poststop hooks run, and what they say is a warning.
func TestPoststopOnlyWarns(t *testing.T) {
	h := newHooked(t)
	h.spec.Hooks.Poststop = []specs.Hook{h.hook("poststop", "-exit", "1"), {Path: "/no/such/hook"}, h.hook("poststop")}
	s, err := h.create(false)
	if err != nil {
		t.Fatal(err)
	}
	reap(s.PID)
	if err := h.r.Delete("hooked", false); err != nil {
		t.Error(err)
	}
	if n := len(h.said("poststop")); n != 2 {
		t.Errorf("%d poststop hooks have run, want 2", n)
	}
	if len(h.warned) != 2 || !strings.Contains(h.warned[1].Error(), "no such file") {
		t.Errorf("warnings %v", h.warned)
	}
}

// A hook that takes too long is killed, with what it started.
func TestHookTimeout(t *testing.T) {
	for _, stage := range []string{"createRuntime", "createContainer"} {
		t.Run(stage, func(t *testing.T) {
			h := newHooked(t)
			second := 1
			hook := h.hook(stage, "-fork", "1", "-pause")
			hook.Timeout = &second
			*h.lists()[stage] = []specs.Hook{hook}
			_, err := h.create(false)
			if err == nil || !strings.Contains(err.Error(), "longer than 1 s") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// In a user namespace hooks inside are its root.
func TestHooksInUserNamespace(t *testing.T) {
	h := newHooked(t)
	user := userSpec()
	h.spec.Linux = user.Linux
	h.program = filepath.Join(h.root, "probe") // where everybody gets to
	for _, stage := range []string{"createContainer", "startContainer"} {
		*h.lists()[stage] = []specs.Hook{h.hook(stage)}
	}
	if err := os.Chmod(h.notes, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(h.notes), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := h.create(false)
	if err != nil {
		t.Fatal(err)
	}
	reap(s.PID)
	if err := h.r.Finish(s); err != nil {
		t.Fatal(err)
	}
	own := testkit.Namespaces(t, os.Getpid())
	for _, stage := range []string{"createContainer", "startContainer"} {
		r := h.said(stage)
		if len(r) != 1 || r[0].Namespaces["user"] == own["user"] || r[0].state.Pid != 1 {
			t.Errorf("%s: %+v", stage, r)
		}
	}
	if r := h.said("createContainer"); len(r) == 1 && r[0].UID.Real != 0 {
		t.Errorf("createContainer: uid %d", r[0].UID.Real)
	}
}

// The annotations name files for what hooks print.
func TestHookOutput(t *testing.T) {
	h := newHooked(t)
	out, errs := filepath.Join(h.notes, "out"), filepath.Join(h.notes, "err")
	h.spec.Annotations = map[string]string{hooksStdout: out, hooksStderr: errs}
	h.spec.Hooks.CreateRuntime = []specs.Hook{h.hook("createRuntime", "-stdout", "1", "-stderr", "2")}
	h.spec.Hooks.CreateContainer = []specs.Hook{h.hook("createContainer", "-stdout", "3")}
	s, err := h.create(false)
	if err != nil {
		t.Fatal(err)
	}
	reap(s.PID)
	if err := h.r.Finish(s); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{out: "13", errs: "2"} {
		if text, err := os.ReadFile(path); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v: want %q", path, text, err, want)
		}
	}
}

// The pid of a container that shares its process namespace is the namespace's.
func TestInnerPID(t *testing.T) {
	if pid, err := innerPID(os.Getpid()); err != nil || pid != unix.Getpid() {
		t.Errorf("%d, %v", pid, err)
	}
	if _, err := innerPID(1 << 30); err == nil {
		t.Error("no error for a process that is not there")
	}
}

func TestHooksThatCannotBe(t *testing.T) {
	zero, long := 0, maxTimeout+1
	for want, hook := range map[string]specs.Hook{
		"/hooks/poststop/0/path":           {Path: "relative"},
		"/hooks/poststop/0/timeout: 0":     {Path: "/x", Timeout: &zero},
		"/hooks/poststop/0/timeout: 21474": {Path: "/x", Timeout: &long},
		"/hooks/poststop/0/env":            {Path: "/x", Env: []string{"=1"}},
	} {
		spec := exampleSpec("/bin/sh")
		spec.Hooks = &specs.Hooks{Poststop: []specs.Hook{hook}}
		_, err := Compile(Input{ID: "x", Root: "/rootfs", Spec: spec, Facts: paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12})})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v: want one with %q", err, want)
		}
	}
}

// Hooks of a process that joins a container are not the container's.
func TestExecRunsNoHooks(t *testing.T) {
	spec := exampleSpec("/bin/sh")
	spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/x"}}}
	p, err := CompileExec(ExecInput{ID: "x", Target: 1, Spec: spec, Process: spec.Process, Facts: paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12})})
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(p.Steps, func(s plan.Step) bool { return s.Call.Name() == "hook" }) {
		t.Error("exec runs hooks")
	}
}
