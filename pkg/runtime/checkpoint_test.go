package runtime

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/criu"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// frozenSpec is a container with everything that freezing has to know of.
func frozenSpec() *specs.Spec {
	limit := int64(64 << 20)
	spec := exampleSpec("/probe")
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: "/srv", Options: []string{"rbind", "rw"}})
	spec.Root.Readonly = true
	spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/usr/bin/net"}}}
	return spec
}

func restoreInput(spec *specs.Spec) RestoreInput {
	return RestoreInput{
		Input: Input{ID: "golden", Spec: spec, Root: "/rootfs", Bundle: "/bundle", Facts: paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12}),
			Sources: map[string]host.Source{"/srv": {Kind: host.Directory}}},
		Program: "/usr/sbin/criu", Path: "/usr/bin", Output: "/run/golden/criu.out", Points: []string{"/", "/srv/more"},
		Restore:     criu.Restore{Options: criu.Options{ImageDir: "/image", WorkDir: "/image"}, Root: "/run/golden/root", PIDFile: "/run/golden/criu.pid"},
		Descriptors: []string{"/dev/null", "pipe:[12]", "pipe:[13]"},
	}
}

func checkpointInput(spec *specs.Spec) CheckpointInput {
	return CheckpointInput{
		Spec: spec, Facts: paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12}), Program: "/usr/sbin/criu", Path: "/usr/bin", Output: "/run/golden/criu.out",
		Dump:   criu.Dump{Options: criu.Options{ImageDir: "/image", WorkDir: "/image"}, PID: 42, Freezer: "/sys/fs/cgroup/golden"},
		Mounts: []criu.Mount{{ID: 1, Point: "/"}, {ID: 2, Point: "/data"}, {ID: 3, Point: "/proc/keys", Root: "/null"}},
		On:     map[string]int{"/data": 2, "/proc/keys": 3}, Inodes: map[specs.LinuxNamespaceType]uint64{specs.NetworkNamespace: 4026532156},
		Descriptors: []string{"file[1a:4]", "pipe:[12]", "pipe:[13]"},
	}
}

// The plans of freezing and bringing back, in full.
func TestGoldenCheckpoints(t *testing.T) {
	frozen, err := CompileCheckpoint(checkpointInput(frozenSpec()))
	if err != nil {
		t.Fatal(err)
	}
	back, err := CompileRestore(restoreInput(frozenSpec()))
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*plan.Plan{"checkpoint": frozen, "restore": back} {
		if err := p.Validate("sync"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var b strings.Builder
		if err := p.Write(&b, plan.Steps); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name+".plan")
		if *update {
			if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("the plan differs from %s; run make golden and look at the difference:\n%s", path, b.String())
		}
	}
}

// The limits hold before anything of the container runs, the network is there before its
// hooks, and all of it before criu.
func TestOrderOfRestore(t *testing.T) {
	p, err := CompileRestore(restoreInput(frozenSpec()))
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) int {
		return slices.IndexFunc(p.Steps, func(s plan.Step) bool { return s.Call.Name() == name })
	}
	order := []string{"echo", "clone3", "ioctl", "hook", "prctl", "execve"}
	for i := 1; i < len(order); i++ {
		if a, b := at(order[i-1]), at(order[i]); a < 0 || b < 0 || a > b {
			t.Errorf("%s is step %d, %s step %d", order[i-1], a+1, order[i], b+1)
		}
	}
	for _, s := range p.Steps {
		if s.Call.Name() == "setns" || s.Call.Name() == "pivot_root" {
			t.Errorf("criu does that itself: %s", s.String())
		}
	}
}

// Where freezing and bringing back cannot be done, both say so.
func TestCheckpointNeedsRoot(t *testing.T) {
	ordinary := paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12})
	ordinary.UID, ordinary.Capabilities = 1000, 0
	freeze, back := checkpointInput(frozenSpec()), restoreInput(frozenSpec())
	freeze.Facts, back.Facts = ordinary, ordinary
	if _, err := CompileCheckpoint(freeze); err == nil || !strings.Contains(err.Error(), "only root") {
		t.Errorf("checkpoint: %v", err)
	}
	if _, err := CompileRestore(back); err == nil || !strings.Contains(err.Error(), "only root") {
		t.Errorf("restore: %v", err)
	}
}

// The hint for an error of CRIU's is found in what it said, and what it said is quoted
// without what would command a terminal.
func TestCRIUErrors(t *testing.T) {
	log := filepath.Join(t.TempDir(), "dump.log")
	text := "(00.1) all is well\npie: 1: Daemon waits for command\n(00.2) Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.\n" +
		"tar: \x1b[2Jevil: Cannot open\n(00.25) cg: Dumping value c 1:3 rwm\nc 5:0 rwm from /proc/self/fd/9/devices.list\n(00.3) Error (criu/cr-dump.c:2053): Dumping FAILED.\n"
	if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e := &CRIUError{Action: "dump", Reason: "exit status 1", Said: criuErrors(log), Log: log}
	want := "criu dump: exit status 1: inet: Connected TCP socket, consider using --tcp-established option.; tar: ?[2Jevil: Cannot open; Dumping FAILED. (all it said is in " + log + ")"
	if e.Error() != want {
		t.Errorf("%q\nwant %q", e.Error(), want)
	}
	if h := Hint(e); !strings.Contains(h, "--tcp-established") {
		t.Errorf("hint %q", h)
	}
}

// On version 1 criu is told of the container's group in each tree, and to leave alone where
// it is in one of version 2 beside them.
func TestRestoreIntoV1Groups(t *testing.T) {
	in := restoreInput(frozenSpec())
	in.Facts, in.Unified = paperFacts(host.CgroupV1, host.Kernel{Major: 6, Minor: 12}), "/session"
	p, err := CompileRestore(in)
	if err != nil {
		t.Fatal(err)
	}
	call, ok := p.Steps[len(p.Steps)-1].Call.(linux.Execve)
	if !ok {
		t.Fatalf("the last step is %+v", p.Steps[len(p.Steps)-1])
	}
	var got []string
	for i, word := range call.Args {
		if word == "--cgroup-root" {
			got = append(got, call.Args[i+1])
		}
	}
	var want []string
	for _, h := range in.Facts.Hierarchies {
		for _, controller := range h.Controllers {
			want = append(want, controller+":/containr-golden")
		}
	}
	if want = append(want, ":/session"); len(want) < 5 || !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
