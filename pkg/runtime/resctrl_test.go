package runtime

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// classSteps compiles a container with a class of service and returns what is done to
// resctrl.
func classSteps(rdt specs.LinuxIntelRdt, found host.Resctrl) ([]string, error) {
	spec := exampleSpec("/bin/sh")
	spec.Linux.IntelRdt = &rdt
	p, err := Compile(Input{ID: "id", Root: "/rootfs", Spec: spec, Resctrl: found, Facts: paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12})})
	if err != nil {
		return nil, err
	}
	var list []string
	for i := range p.Steps {
		if s := &p.Steps[i]; s.Chapter == plan.ResctrlChapter {
			text := plan.Format(s.Call)
			if s.Undo != nil {
				text += " undo " + plan.Format(s.Undo)
			}
			list = append(list, text)
		}
	}
	return list, nil
}

// The specification's rules on what is made, written, joined and removed.
func TestClassesOfService(t *testing.T) {
	mounted := host.Resctrl{Path: "/r"}
	there := host.Resctrl{Path: "/r", Exists: true, Schemata: "    L3:0=7f0;1=01f\n    MB:0= 20;1=100\n"}
	for name, c := range map[string]struct {
		rdt   specs.LinuxIntelRdt
		found host.Resctrl
		want  []string
	}{
		"own": {specs.LinuxIntelRdt{}, mounted, []string{"mkdir /r/id undo rmdir /r/id", "echo $pid > /r/id/tasks"}},
		"own with schemata": {specs.LinuxIntelRdt{MemBwSchema: "MB:0=20", L3CacheSchema: "L3:0=f", Schemata: []string{"L2:0=1"}}, mounted,
			[]string{"mkdir /r/id undo rmdir /r/id", `echo $'L3:0=f\nMB:0=20\nL2:0=1\n' > /r/id/schemata`, "echo $pid > /r/id/tasks"}},
		"named, new": {specs.LinuxIntelRdt{ClosID: "gold", L3CacheSchema: "L3:0=f"}, mounted,
			[]string{"mkdir /r/gold", `echo $'L3:0=f\n' > /r/gold/schemata`, "echo $pid > /r/gold/tasks"}},
		"named, there":            {specs.LinuxIntelRdt{ClosID: "gold"}, there, []string{"echo $pid > /r/gold/tasks"}},
		"named, there, and right": {specs.LinuxIntelRdt{ClosID: "gold", L3CacheSchema: "L3:1=1F;0=7f0", MemBwSchema: "MB:0=20"}, there, []string{"echo $pid > /r/gold/tasks"}},
		"default": {specs.LinuxIntelRdt{ClosID: "/", EnableMonitoring: true}, there,
			[]string{"mkdir /r/mon_groups/id undo rmdir /r/mon_groups/id", "echo $pid > /r/tasks", "echo $pid > /r/mon_groups/id/tasks"}},
	} {
		got, err := classSteps(c.rdt, c.found)
		if err != nil || strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
	for want, c := range map[string]struct {
		rdt   specs.LinuxIntelRdt
		found host.Resctrl
	}{
		"no file system resctrl":      {specs.LinuxIntelRdt{}, host.Resctrl{}},
		"there is no class gold":      {specs.LinuxIntelRdt{ClosID: "gold"}, mounted},
		`MB:1 is "100" there`:         {specs.LinuxIntelRdt{ClosID: "gold", MemBwSchema: "MB:0=20;1=70"}, there},
		"not the name":                {specs.LinuxIntelRdt{ClosID: "a/b"}, mounted},
		"does not begin with \"MB:\"": {specs.LinuxIntelRdt{MemBwSchema: "0=20"}, mounted},
		"not one line":                {specs.LinuxIntelRdt{Schemata: []string{"L3:0=f\nL3:0=f"}}, mounted},
	} {
		if got, err := classSteps(c.rdt, c.found); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, error %v: want one with %q", got, err, want)
		}
	}
}

// The first process and a further one are written to the class's list. A directory
// with the files of one stands for the file system, which needs a certain processor.
func TestProcessesJoinTheirClass(t *testing.T) {
	testkit.Leftovers(t)
	root := t.TempDir()
	tasks := filepath.Join(root, "gold", "tasks")
	testkit.WriteFile(t, tasks, "", 0o644)
	testkit.WriteFile(t, filepath.Join(root, "gold", "schemata"), "L3:0=f\n", 0o644)
	spec := exampleSpec("/probe", "-exit", "0")
	spec.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "gold", L3CacheSchema: "L3:0=f"}
	found, err := host.LookResctrl(root, filepath.Join(root, "gold"))
	if err != nil {
		t.Fatal(err)
	}
	p := compileInput(t, Input{ID: "test", Spec: spec, Root: testkit.Rootfs(t), Resctrl: found})
	if got := taskFiles(p); len(got) != 1 || got[0] != tasks {
		t.Errorf("the lists of processes are %v", got)
	}
	s, err := Start(p, StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	reap(s.PID)
	if err := (Actions{}).undoAll(p.Undo()); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(tasks); err != nil || string(text) != strconv.Itoa(s.PID) {
		t.Errorf("the list holds %q, %v: want process %d", text, err, s.PID)
	}
	e, err := CompileExec(ExecInput{ID: "test", Target: 1, Spec: spec, Process: spec.Process, Tasks: []string{tasks}, Facts: paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12})})
	if err != nil || len(taskFiles(e)) != 1 {
		t.Errorf("exec: %v, %v", taskFiles(e), err)
	}
	if _, ok := e.Steps[0].Call.(linux.OpenPidfd); !ok {
		t.Errorf("exec begins with %v", e.Steps[0])
	}
}

// A living container's class gets other shares: the file is that of its class, the lines
// are checked, and what the kernel has against them is quoted. A directory with the files
// of resctrl stands for it.
func TestClassOfALivingContainerChanges(t *testing.T) {
	root := t.TempDir()
	withClass := func(name string) *specs.Spec {
		return &specs.Spec{Linux: &specs.Linux{IntelRdt: &specs.LinuxIntelRdt{ClosID: name}}}
	}
	for name, dir := range map[string]string{"": "id", "gold": "gold", "/": ""} {
		file := filepath.Join(root, dir, "schemata")
		testkit.WriteFile(t, file, "L3:0=fff\n", 0o644)
		steps, err := changeClass(root, "id", withClass(name), "L3:0=f", "MB:0=20")
		if err != nil {
			t.Fatal(err)
		}
		if err := carryOutClass(root, steps); err != nil {
			t.Error(err)
		}
		if text, err := os.ReadFile(file); string(text) != "L3:0=f\nMB:0=20\n" {
			t.Errorf("class %q: its file holds %q, %v", name, text, err)
		}
	}
	for want, c := range map[string]struct {
		root      string
		spec      *specs.Spec
		bandwidth string
	}{
		"no class of service":        {root, &specs.Spec{Linux: &specs.Linux{}}, "MB:0=20"},
		"mounted any more":           {"", withClass(""), "MB:0=20"},
		`does not begin with "MB:"`:  {root, withClass(""), "0=20"},
		"is not one line of a schem": {root, withClass(""), "MB:0=20\nMB:1=20"},
	} {
		if _, err := changeClass(c.root, "id", c.spec, "", c.bandwidth); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v: want %q", err, want)
		}
	}
	testkit.WriteFile(t, filepath.Join(root, "info", "last_cmd_status"), "Mask f0f0 has non-consecutive 1-bits\n", 0o644)
	steps, err := changeClass(root, "gone", withClass(""), "L3:0=f0f0", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := carryOutClass(root, steps); err == nil || !strings.Contains(err.Error(), "(the kernel says: Mask f0f0 has non-consecutive 1-bits)") {
		t.Errorf("error %v", err)
	}
}
