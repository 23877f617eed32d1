package runtime

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	testprobe "github.com/containr/containr/internal/testkit/probe"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
)

// exampleSpec is a full container: all namespaces, the usual mounts, masked paths.
func exampleSpec(args ...string) *specs.Spec {
	return &specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{
			Args: args, Env: []string{"PATH=/bin:/"}, Cwd: "/",
			Capabilities: &specs.LinuxCapabilities{
				Bounding: []string{"CAP_CHOWN", "CAP_KILL"}, Effective: []string{"CAP_CHOWN", "CAP_KILL"}, Permitted: []string{"CAP_CHOWN", "CAP_KILL"},
			},
			NoNewPrivileges: true,
		},
		Root:     &specs.Root{Path: "rootfs"},
		Hostname: "example",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.CgroupNamespace},
			},
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware", "/proc/nothing"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

// compileExample makes the plan of the example in a fixture root file system.
func compileExample(t *testing.T, spec *specs.Spec) *plan.Plan {
	t.Helper()
	return compileInput(t, Input{ID: "test", Spec: spec, Root: testkit.Rootfs(t)})
}

func compileInput(t *testing.T, in Input) *plan.Plan {
	t.Helper()
	testkit.RequireRoot(t)
	facts, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	in.Facts = facts
	in.Sources = Probe(in.Spec)
	p, err := Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Validate("sync", "console", "held", "ear", "bell"); err != nil {
		t.Fatal(err)
	}
	return p
}

// result is how a container ended and what it printed.
type result struct {
	code int
	out  []byte
}

// runPlan executes a plan, waits for the program, and undoes the plan.
func runPlan(t *testing.T, p *plan.Plan) (result, error) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	s, err := Start(p, StartOptions{Stdio: [3]*os.File{null, out, out}})
	if err != nil {
		return result{}, err
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(s.PID, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := (Actions{}).undoAll(p.Undo()); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	code := ws.ExitStatus()
	if ws.Signaled() {
		code = 128 + int(ws.Signal())
	}
	return result{code, text}, nil
}

// probe runs the probe in a container and returns its report.
func probe(t *testing.T, spec *specs.Spec) testprobe.Report {
	t.Helper()
	r, err := runPlan(t, compileExample(t, spec))
	if err != nil {
		t.Fatal(err)
	}
	if r.code != 0 {
		t.Fatalf("exit code %d: %s", r.code, r.out)
	}
	return testkit.Report(t, r.out)
}
