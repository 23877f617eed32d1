package runtime

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan/shell"
)

// beyondScripts are the golden plans that need what the tools of util-linux cannot do:
// hooks between steps, offsets in nanoseconds, memory policies, labels of programs,
// id-mapped mounts, seccomp listeners, network devices, mounts of the host's. Each is
// refused with its reason.
var beyondScripts = map[string]string{
	"hooks": "privileges", "hooks-create": "privileges", "time": "whole seconds", "scheduled": "numactl", "labels": "security label",
	"mapped": "util-linux 2.39", "layers": "util-linux 2.39", "images-user": "util-linux 2.39", "listener": "no shell can take it", "links": "ip(8)", "shared": "the host's mounts",
	"secrets": "written down nowhere", "landlock": "--landlock-access", "join": "among them",
}

// No step is forgotten: the reason of each stands in the script, over a command or
// over the word why there is none; and the result is a script.
func TestScriptNamesEveryStep(t *testing.T) {
	requireTools(t)
	for name, in := range goldenInputs() {
		p, err := Compile(in)
		if err != nil {
			t.Fatal(err)
		}
		text, err := shell.Script(p, shell.Options{Name: name})
		if reason, ok := beyondScripts[name]; ok {
			if !errors.Is(err, shell.ErrCannot) || !strings.Contains(err.Error(), reason) {
				t.Errorf("%s: error %v: want ErrCannot with %q", name, err, reason)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := range p.Steps {
			if s := &p.Steps[i]; !strings.Contains(text, "# "+s.Why) && !strings.Contains(text, "; "+s.Why) {
				t.Errorf("%s: step %d (%s: %s) is not in the script", name, i+1, s.Why, s)
			}
		}
		cmd := exec.Command("bash", "-n")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s\n%s", name, err, out, text)
		}
	}
}

// What this machine may refuse to do is at least written: policies, flags and clocks that
// chrt and unshare have options for; and what they have none for is refused.
func TestScriptOfSchedulers(t *testing.T) {
	flag := func(f ...specs.LinuxSchedulerFlag) []specs.LinuxSchedulerFlag { return f }
	for _, c := range []struct {
		scheduler specs.Scheduler
		want      string
	}{
		{specs.Scheduler{Policy: specs.SchedFIFO, Priority: 7, Flags: flag(specs.SchedFlagResetOnFork)}, "chrt --fifo --reset-on-fork 7 "},
		{specs.Scheduler{Policy: specs.SchedRR, Priority: 99}, "chrt --rr 99 "},
		{specs.Scheduler{Policy: specs.SchedDeadline, Runtime: 1000, Deadline: 2000, Period: 3000},
			"chrt --deadline --sched-runtime 1000 --sched-deadline 2000 --sched-period 3000 0 "},
		{specs.Scheduler{Policy: specs.SchedOther, Nice: -3}, "renice -n -3 "},
		{specs.Scheduler{Policy: specs.SchedOther, Flags: flag(specs.SchedFlagResetOnFork)}, "cannot"},
		{specs.Scheduler{Policy: specs.SchedFIFO, Priority: 1, Flags: flag(specs.SchedFlagUtilClampMin)}, "cannot"},
		{specs.Scheduler{Policy: specs.SchedISO}, "cannot"},
	} {
		spec := exampleSpec("/bin/sh")
		spec.Process.Scheduler = &c.scheduler
		p, err := Compile(Input{ID: "x", Root: "/rootfs", Spec: spec, Facts: paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12})})
		if err != nil {
			t.Fatal(err)
		}
		text, err := shell.Script(p, shell.Options{})
		if refused := errors.Is(err, shell.ErrCannot); refused != (c.want == "cannot") || !refused && !strings.Contains(text, c.want) {
			t.Errorf("%+v: error %v, want %q", c.scheduler, err, c.want)
		}
	}
}
