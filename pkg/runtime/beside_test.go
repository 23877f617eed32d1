package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Between the birth and the step that awaits, no step of the child names what the host
// makes beside; and the plans of version 1 have such steps.
func TestNobodyNeedsWhatIsBesideTheBirth(t *testing.T) {
	seen := map[string]bool{}
	for name, in := range goldenInputs() {
		p, err := Compile(in)
		if err != nil {
			t.Fatal(err)
		}
		var made []string
		for i := range p.Steps {
			s := &p.Steps[i]
			if s.Beside {
				seen[name] = true
				made = append(made, s.Call.AppendArgs(nil)[0].Text)
			}
			if s.Awaits {
				break
			}
			if s.Actor == plan.Host {
				continue // what is not beside itself needs none of it, or stands after it as well
			}
			for _, path := range made {
				if strings.Contains(s.String(), path) {
					t.Errorf("%s: step %d (%s) needs %s, which may not be made yet", name, i+1, s, path)
				}
			}
		}
	}
	for _, name := range []string{"v1", "keeper", "create"} {
		if !seen[name] && goldenInputs()[name].Facts.CgroupMode == host.CgroupV1 {
			t.Errorf("%s: the host makes nothing beside the birth", name)
		}
	}
}

// meeting stands for a step that waits for the other side.
type meeting struct{ linux.MakeDir }

// The host is at a step beside the birth while the child is at its first steps: the one
// ends only when the other has come to where it awaits it. It waits there: its procfs is
// in place by then, and its control groups are not.
func TestHostAndChildAtTheSameTime(t *testing.T) {
	testkit.Leftovers(t)
	if machine(t).CgroupMode != host.CgroupV1 {
		t.Skip("a process is born into a control group of version 2, which has to be there before")
	}
	p := compileExample(t, exampleSpec("/probe", "-exit", "0"))
	for i := range p.Steps {
		if s := &p.Steps[i]; s.Beside {
			s.Call = meeting{s.Call.(linux.MakeDir)}
			break
		}
	}
	met := false
	s, err := Start(p, StartOptions{Actions: Actions{Do: func(call plan.Call, regs map[plan.Reg]int) (int, error) {
		c, pid := call.(meeting), regs[namespace.PID]
		if err := waitForSync(pid); err != nil {
			return 0, err
		}
		mounts, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "mountinfo"))
		if err != nil {
			return 0, err
		}
		if !strings.Contains(string(mounts), "/dev/mqueue ") || strings.Contains(string(mounts), "/sys/fs/cgroup/pids/containr") {
			t.Errorf("the mounts of the child that waits are\n%s", mounts)
		}
		met = true
		return 0, unix.Mkdir(c.Path, c.Mode)
	}}})
	if err != nil {
		t.Fatal(err)
	}
	reap(s.PID)
	if err := (Actions{}).undoAll(p.Undo()); err != nil {
		t.Error(err)
	}
	if !met {
		t.Error("no step was made beside the birth")
	}
}

// waitForSync waits until a process waits for a message on its socket to the host.
func waitForSync(pid int) error {
	read, _ := linux.SyscallNumber("read", goarch)
	want, said := fmt.Sprintf("%d 0x3 ", read), ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "syscall"))
		if err != nil {
			return err
		}
		if said = string(text); strings.HasPrefix(said, want) {
			return nil
		}
		if strings.HasPrefix(said, "-1") {
			break // it has ended
		}
	}
	return fmt.Errorf("process %d does not wait for the host, it is at %q", pid, said)
}

// The errors of a plan are the same whether its steps are made one after another or at
// the same time: the first in the list is told.
func TestTheFirstErrorOfBothSides(t *testing.T) {
	testkit.Leftovers(t)
	for name, exit := range map[string]string{"plain": "", "keeper": filepath.Join(t.TempDir(), "exit")} {
		p := compileInput(t, Input{ID: "test", Spec: exampleSpec("/probe", "-exit", "0"), Root: testkit.Rootfs(t), ExitFile: exit})
		first, clone := -1, -1
		for i := range p.Steps {
			if p.Steps[i].Undo != nil {
				first = i // the last of them
			}
			if isClone(p.Steps[i].Call) {
				clone = i
			}
		}
		both := failAt(failAt(p, clone), first)
		for order, before := range map[string]func(int, *plan.Step) error{"at the same time": nil, "one after another": func(int, *plan.Step) error { return nil }} {
			_, err := Start(both, StartOptions{Before: before})
			if step, ok := err.(*StepError); !ok || step.Index != first {
				t.Errorf("%s, %s: %v, want an error of step %d (%s)", name, order, err, first+1, both.Steps[first].String())
			}
		}
	}
}

// Who ends a container does not wait for the kernel to free its cables; nothing else is undone in another way.
func TestCablesOfEndedContainersAreUnplugged(t *testing.T) {
	journal := []plan.Call{linux.DeleteLink{Link: "ctr-0"}, linux.RemoveDir{Path: "/x"}}
	want := []plan.Call{linux.UnplugLink{Link: "ctr-0"}, linux.RemoveDir{Path: "/x"}}
	if got := ended(journal); !slices.Equal(got, want) || journal[0] != (linux.DeleteLink{Link: "ctr-0"}) {
		t.Errorf("to be undone is %v, of the journal %v", got, journal)
	}
}
