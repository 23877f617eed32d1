package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
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
	testkit.RequireRoot(t)
	facts, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(Input{ID: "test", Spec: spec, Facts: facts, Root: testkit.Rootfs(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Validate("sync"); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRunsAContainer(t *testing.T) {
	testkit.Leftovers(t)
	p := compileExample(t, exampleSpec("/probe"))
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s, err := Start(p, StartOptions{Stdio: [3]*os.File{nil, out, nil}})
	if err != nil {
		var b strings.Builder
		_ = p.Write(&b, plan.Steps)
		t.Log(b.String())
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(s.PID, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := undoCalls(p.Undo()); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v\n%s", ws, text)
}
