package engine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/runtime"
	"github.com/containr/containr/pkg/snapshot"
)

func TestPlaces(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/1")
	t.Setenv("XDG_DATA_HOME", "/home/u/data")
	e := New(Options{Root: "/private"})
	if e.Root() != "/private" || e.run != "/private/run" {
		t.Errorf("root %s, run %s", e.Root(), e.run)
	}
	e = New(Options{})
	if os.Geteuid() == 0 && (e.Root() != "/var/lib/containr" || e.run != "/run/containr") {
		t.Errorf("root's: root %s, run %s", e.Root(), e.run)
	}
	if os.Geteuid() != 0 && (e.Root() != "/home/u/data/containr" || e.run != "/run/user/1/containr") {
		t.Errorf("a user's: root %s, run %s", e.Root(), e.run)
	}
	if e := New(Options{Root: "/a", Run: "/b"}); e.run != "/b" {
		t.Errorf("run %s", e.run)
	}
}

func TestFindInit(t *testing.T) {
	if got := New(Options{Init: "/nonexistent"}).findInit(); got != "" {
		t.Errorf("found %s", got)
	}
	path := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := New(Options{Init: path}).findInit(); got != path {
		t.Errorf("found %q", got)
	}
}

func TestExitStatus(t *testing.T) {
	failed := func(call plan.Call, errno plan.Errno) error {
		return fmt.Errorf("wrapped: %w", &runtime.StepError{Step: plan.Step{Call: call}, Errno: errno})
	}
	program := linux.Execve{Path: "/x"}
	for want, err := range map[int]error{
		127: failed(program, plan.ENOENT),
		126: failed(program, plan.EACCES),
		125: failed(linux.Setsid{}, plan.ENOENT),
	} {
		if got := ExitStatus(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
	if got := ExitStatus(failed(program, plan.ENOEXEC)); got != 126 {
		t.Errorf("ENOEXEC: %d", got)
	}
	if got := ExitStatus(errors.New("x")); got != 125 {
		t.Errorf("others: %d", got)
	}
}

func TestSpecMountHasNamesFromTheRoot(t *testing.T) {
	got := specMount(snapshot.Mount{Type: "overlay", Source: "overlay", Dir: "/s", Lower: []string{"/s/a", "/s/b"},
		Options: []string{"lowerdir=l/a:l/b", "upperdir=/u", "workdir=/w"}})
	if strings.Join(got.Options, ",") != "lowerdir=/s/l/a:/s/l/b,upperdir=/u,workdir=/w" || got.Destination != "/" {
		t.Errorf("%+v", got)
	}
	got = specMount(snapshot.Mount{Type: "overlay", Lower: []string{"/s/a", "/s/b"}, Options: []string{"upperdir=/u"}})
	if strings.Join(got.Options, ",") != "lowerdir=/s/a:/s/b,upperdir=/u" {
		t.Errorf("a chain that is too long for short names: %+v", got)
	}
}

func TestCheckSources(t *testing.T) {
	dir := t.TempDir()
	made := filepath.Join(dir, "made", "deep")
	err := checkSources([]container.Mount{
		{Type: container.MountTmpfs, Target: "/t"},
		{Type: container.MountBind, Source: dir, Target: "/d"},
		{Type: container.MountBind, Source: made, Target: "/m", CreateSource: true},
	})
	if err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(made); err != nil || !info.IsDir() {
		t.Errorf("the source was not made: %v", err)
	}
	err = checkSources([]container.Mount{{Type: container.MountBind, Source: filepath.Join(dir, "missing"), Target: "/x"}})
	if !errors.Is(err, ErrNoSource) || !strings.Contains(err.Error(), "bind source for /x") {
		t.Error(err)
	}
}

func TestHomes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root's containers have homes of other users")
	}
	e := New(Options{Root: t.TempDir()})
	maps := func(host uint32) []specs.LinuxIDMapping { return []specs.LinuxIDMapping{{HostID: host, Size: 10}} }
	home := func(c container.Config) *home {
		h, err := e.homeOf(c)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	own := container.Config{Namespaces: container.Namespaces{User: container.HostNamespace}}
	if h := home(own); h.mapped || h.dir != e.root {
		t.Errorf("%+v", h)
	}
	a := home(container.Config{UIDMap: maps(1000), GIDMap: maps(2000)})
	b := home(container.Config{UIDMap: maps(1000), GIDMap: maps(3000)})
	if !a.mapped || a.uid != 1000 || a.gid != 2000 || a.dir == b.dir {
		t.Errorf("%+v and %+v", a, b)
	}
	if again := home(container.Config{UIDMap: maps(1000), GIDMap: maps(2000)}); again.dir != a.dir {
		t.Errorf("%s and %s", again.dir, a.dir)
	}
	noRoot := []specs.LinuxIDMapping{{ContainerID: 1, HostID: 1, Size: 1}}
	if _, err := e.homeOf(container.Config{UIDMap: noRoot, GIDMap: noRoot}); err == nil {
		t.Error("a container without a root")
	}
	if err := a.open(e); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]os.FileMode{e.root: 0o711, e.mappedDir(): 0o711, a.dir: 0o710} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, error %v; want %v", dir, info.Mode(), err, want)
		}
	}
}

// What ps finds wrong with its options is what a user of top has to know.
func TestPsSaysWhatIsWrong(t *testing.T) {
	if _, err := exec.LookPath("ps"); err != nil {
		t.Skip("there is no ps here")
	}
	if _, err := askPs(t.Context(), []string{"-o", "nonsense"}); err == nil || !strings.Contains(strings.TrimPrefix(err.Error(), "ps -o nonsense: "), "nonsense") {
		t.Errorf("ps -o nonsense: %v", err)
	}
	if out, err := askPs(t.Context(), []string{"-o", "pid"}); err != nil || !strings.Contains(out, "PID") {
		t.Errorf("ps -o pid: %q, %v", out, err)
	}
}
