package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/erofs"
	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/procfs"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/rootfs"
)

// failAt returns the plan with one step replaced by a call that fails.
func failAt(p *plan.Plan, i int) *plan.Plan {
	q := &plan.Plan{Steps: append([]plan.Step(nil), p.Steps...)}
	s := &q.Steps[i]
	s.Tolerate, s.TolerateAny = nil, false
	if s.Actor == plan.Host && !isClone(s.Call) {
		s.Call = linux.WriteFile{Path: "/nowhere/at/all", Data: "x"}
		return q
	}
	if c, ok := s.Call.(linux.Clone); ok {
		c.Flags |= 1 << 40 // a flag that no kernel knows: EINVAL
		s.Call = c
		return q
	}
	s.Call = linux.Chdir{Path: "/nowhere/at/all"}
	return q
}

// Whatever step fails, the error names it and nothing is left: no process, mount,
// control group, file or descriptor.
func TestEveryStepMayFail(t *testing.T) {
	testkit.RequireRoot(t)
	other, _ := hunter(t, "/nowhere", nil)
	for name, in := range map[string]Input{
		"shared":           {Spec: sharing(other)},
		"shared, keeper":   {Spec: sharing(other), ExitFile: filepath.Join(t.TempDir(), "exit")},
		"plain":            {Spec: exampleSpec("/probe")},
		"keeper":           {Spec: exampleSpec("/probe"), ExitFile: filepath.Join(t.TempDir(), "exit")},
		"user":             {Spec: userSpec()},
		"hooks":            {Spec: hookSpec()},
		"mounts":           {Spec: mountSpec(t)},
		"images":           {Spec: exampleSpec("/probe"), ExitFile: filepath.Join(t.TempDir(), "exit")},
		"images of others": {Spec: userSpec(), ExitFile: filepath.Join(t.TempDir(), "exit"), MapLayers: rootfs.MapLayers},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Leftovers(t)
			in.ID, in.Root = "test", testkit.Rootfs(t)
			if strings.HasPrefix(name, "images") {
				layered(t, &in)
			}
			p := compileInput(t, in)
			for i := range p.Steps {
				s := &p.Steps[i]
				if s.When != plan.Always || afterClone(p, i) || s.Later != "" {
					continue // it runs only where another has failed, or when the container runs already
				}
				failStep(t, p, i)
			}
		})
	}
}

// mountSpec has mounts that the host has a part in, where the kernel has them.
func mountSpec(t *testing.T) *specs.Spec {
	t.Helper()
	spec := userSpec()
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup", "ro"}})
	if machine(t).Kernel.AtLeast(6, 3) {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/home", Type: "bind", Source: own(t, 0), Options: []string{"rbind", "idmap"}})
	}
	return spec
}

// layered makes the root an overlay of a directory and an EROFS image, which is mounted for it.
func layered(t *testing.T, in *Input) {
	t.Helper()
	dir := t.TempDir()
	on, err := host.ProbeStorage(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := host.ChooseSnapshotter(machine(t).Snapshotters(on, false), host.ErofsSnapshotter); err != nil {
		t.Skipf("skipped: %v", err)
	}
	file := erofsImage(t, dir)
	for _, name := range []string{"layer", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	options := []string{
		"lowerdir=" + dir + "/layer:" + in.Root, "upperdir=" + dir + "/upper", "workdir=" + dir + "/work", "index=off", "xino=on",
		rootfs.ImageOption + file + ":" + dir + "/layer",
	}
	if in.MapLayers != nil {
		options = append(options, "idmap")
	}
	in.Spec.Mounts = append([]specs.Mount{{Destination: "/", Type: "overlay", Source: "overlay", Options: options}}, in.Spec.Mounts...)
	in.Root = filepath.Join(dir, "merged")
}

// erofsImage makes an image in dir that has one file.
func erofsImage(t *testing.T, dir string) string {
	t.Helper()
	image, err := os.Create(filepath.Join(dir, "layer.erofs"))
	if err != nil {
		t.Fatal(err)
	}
	spool, err := os.Create(filepath.Join(dir, "spool"))
	if err != nil {
		t.Fatal(err)
	}
	root := &erofs.Node{Mode: erofs.Dir | 0o755, Children: map[string]*erofs.Node{"of-the-image": {Mode: erofs.Fifo | 0o644}}}
	if err := errors.Join(erofs.NewWriter(image, spool).Finish(root, [16]byte{1}), image.Close(), spool.Close()); err != nil {
		t.Fatal(err)
	}
	return image.Name()
}

// afterClone reports whether a step is one of a keeper that has done its clone: what
// it does then cannot be undone, since the container lives.
func afterClone(p *plan.Plan, i int) bool {
	if p.Steps[i].Actor != plan.Keeper {
		return false
	}
	for j := range i {
		if isClone(p.Steps[j].Call) {
			return true
		}
	}
	return false
}

func failStep(t *testing.T, p *plan.Plan, i int) {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	before := len(children(t))
	s, err := Start(failAt(p, i), StartOptions{open: (*execution).fsopen, Stdio: [3]*os.File{null, null, null}, Inside: inside(t, p)})
	if err == nil {
		reap(s.PID)
		if s.Parent != 0 {
			reap(s.Parent)
		}
		if e := (Actions{}).undoAll(p.Undo()); e != nil {
			t.Error(e)
		}
		// The program was found in an earlier directory of PATH.
		if p.Steps[i].Chapter != plan.ProgramChapter {
			t.Errorf("step %d (%s) failed and nobody noticed", i+1, p.Steps[i].String())
		}
		return
	}
	var step *StepError
	if !errors.As(err, &step) || step.Index != i {
		t.Errorf("step %d (%s): error %v", i+1, p.Steps[i].String(), err)
	}
	if isFirstOfLate(p, i) {
		// Its failure may be heard before its parent has told its number, and the parent is killed then. It ends by itself;
		// whoever takes over the children of a runtime that has ended reaps it.
		for end := time.Now().Add(5 * time.Second); len(children(t)) > before && time.Now().Before(end); {
			_, _ = unix.Wait4(-1, nil, unix.WNOHANG, nil)
		}
	}
}

// isFirstOfLate reports whether a step is the first of a process that is born late, see bornLate.
func isFirstOfLate(p *plan.Plan, i int) bool {
	for i--; i > 0; i-- {
		if c, ok := p.Steps[i].Call.(linux.Clone); ok && p.Steps[i].Actor == plan.Child {
			return c.Flags == linux.CloneParent
		}
		if p.Steps[i].When == plan.Always {
			return false
		}
	}
	return false
}

// children are those of this process.
func children(t *testing.T) (pids []int) {
	t.Helper()
	all, err := procfs.Processes()
	if err != nil {
		t.Fatal(err)
	}
	for pid, s := range all {
		if s.PPID == os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// inside is what the hooks of the plan depend on.
func inside(t *testing.T, p *plan.Plan) *ExecInput {
	t.Helper()
	facts, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	return &ExecInput{ID: "test", Spec: hookSpec(), Facts: facts, Cgroups: cgroupPaths(p)}
}

func userSpec() *specs.Spec {
	spec := exampleSpec("/probe")
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	spec.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	spec.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	return spec
}

// hookSpec has hooks of the host that do nothing.
func hookSpec() *specs.Spec {
	spec := exampleSpec("/probe")
	hook := []specs.Hook{{Path: "/bin/true"}}
	spec.Hooks = &specs.Hooks{CreateRuntime: hook, CreateContainer: hook, StartContainer: []specs.Hook{{Path: "/probe", Args: []string{"probe", "-exit", "0"}}}, Poststart: hook}
	return spec
}
