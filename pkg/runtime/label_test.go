package runtime

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/testkit"
	testprobe "github.com/containr/containr/internal/testkit/probe"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// The profile lets a program do everything but two things, which root otherwise may.
const testProfile = `
profile containr-test flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  network,
  mount,
  signal,
  ptrace,
  deny /etc/group rw,
  deny /tmp/** w,
}
`

// loadProfile loads the profile, or skips the test where no profile can be.
func loadProfile(t *testing.T) {
	t.Helper()
	testkit.RequireRoot(t)
	if !machine(t).AppArmor {
		t.Skip("AppArmor is not active on this kernel; guests have it")
	}
	parser, err := exec.LookPath("apparmor_parser")
	if err != nil {
		t.Skip(err)
	}
	tell := func(order string) {
		cmd := exec.Command(parser, order, "--skip-cache")
		cmd.Stdin = strings.NewReader(testProfile)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	tell("--replace")
	t.Cleanup(func() { tell("--remove") })
}

// confined are the things that the profile forbids, and one that it does not.
var confined = []string{"-try", "open:/etc/group", "-try", "create:/tmp/new", "-try", "open:/etc/passwd"}

// expectConfined checks that the kernel says that the profile is in force, and that it
// bites.
func expectConfined(t *testing.T, r testprobe.Report) {
	t.Helper()
	if r.Label != "containr-test (enforce)" {
		t.Errorf("label %q", r.Label)
	}
	if len(r.Tries) != 3 || r.Tries[0].Errno != "EACCES" || r.Tries[1].Errno != "EACCES" || !r.Tries[2].OK {
		t.Errorf("%+v: want two refusals and a success", r.Tries)
	}
}

// A profile confines the container's program and every further one, with no_new_privs
// and without, in a user namespace and outside. What is not asked for is not confined.
func TestAppArmorProfileConfines(t *testing.T) {
	loadProfile(t)
	testkit.Leftovers(t)
	open, user := exampleSpec(append([]string{"/probe"}, confined...)...), userSpec()
	open.Process.NoNewPrivileges = false
	user.Process.Args = open.Process.Args
	for name, spec := range map[string]*specs.Spec{"plain": exampleSpec(open.Process.Args...), "no_new_privs is off": open, "user namespace": user} {
		t.Run(name, func(t *testing.T) {
			if r := probe(t, spec); r.Label != "unconfined" || !r.Tries[0].OK {
				t.Errorf("without a profile: label %q, %+v", r.Label, r.Tries)
			}
			spec.Process.ApparmorProfile = "containr-test"
			expectConfined(t, probe(t, spec))
		})
	}
}

// What a configuration mounts over the kernel's files for labels is not what the profile
// is written to: the program is confined all the same (CVE-2019-16884, CVE-2025-52881).
func TestAppArmorProfileIsNotToldToTheImage(t *testing.T) {
	loadProfile(t)
	testkit.Leftovers(t)
	spec := exampleSpec(append([]string{"/probe"}, confined...)...)
	spec.Process.ApparmorProfile = "containr-test"
	trap := t.TempDir()
	testkit.WriteFile(t, filepath.Join(trap, "apparmor", "exec"), "", 0o666)
	r := probeIn(t, Input{Spec: spec}, specs.Mount{Destination: "/proc/1/attr", Type: "bind", Source: trap, Options: []string{"bind"}})
	if r.Tries[0].Errno != "EACCES" || r.Tries[1].Errno != "EACCES" || !r.Tries[2].OK {
		t.Errorf("%+v", r.Tries)
	}
}

// The profile of a further process is its own, whatever the first one has.
func TestAppArmorProfileConfinesExec(t *testing.T) {
	loadProfile(t)
	c := runWaiting(t, exampleSpec())
	process := exampleSpec(append([]string{"/probe"}, confined...)...).Process
	if r := c.probe(process); r.Label != "unconfined" {
		t.Errorf("label %q", r.Label)
	}
	process.ApparmorProfile = "containr-test"
	expectConfined(t, c.probe(process))
	process.ApparmorProfile = "no-such-profile"
	_, err := c.exec(process, os.DevNull)
	expectNoProfile(t, err)
}

func expectNoProfile(t *testing.T, err error) {
	t.Helper()
	var step *StepError
	if !errors.As(err, &step) || step.Errno != plan.ENOENT || step.Step.From != "/process/apparmorProfile" || !strings.Contains(Hint(err), "loaded") {
		t.Errorf("error %v, hint %q", err, Hint(err))
	}
}

// A profile that is not loaded is an error, not a container without one.
func TestAppArmorProfileThatIsNotLoaded(t *testing.T) {
	loadProfile(t)
	testkit.Leftovers(t)
	spec := exampleSpec("/probe")
	spec.Process.ApparmorProfile = "no-such-profile"
	_, err := runPlan(t, compileExample(t, spec))
	expectNoProfile(t, err)
}

// Where the kernel has no such module, a label that is asked for is refused, for the
// container and for a further process; a profile that forbids nothing is there.
func TestLabelsNeedTheirModule(t *testing.T) {
	bare, armed, selinux := paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12}), paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12}), paperFacts(host.CgroupV2, host.Kernel{Major: 6, Minor: 12})
	armed.AppArmor, selinux.SELinux = true, true
	for _, c := range []struct {
		profile, label string
		facts          *host.Facts
		want           string
		writes         int
	}{
		{"containr-test", "", bare, "/process/apparmorProfile", 0},
		{"containr-test", "", selinux, "/process/apparmorProfile", 0},
		{"containr-test", "", armed, "", 1},
		{"unconfined", "", bare, "", 0},
		{"unconfined", "", armed, "", 1},
		{"", "system_u:system_r:container_t:s0", bare, "/process/selinuxLabel", 0},
		{"", "system_u:system_r:container_t:s0", armed, "/process/selinuxLabel", 0},
		{"", "system_u:system_r:container_t:s0", selinux, "", 2},
	} {
		spec := exampleSpec("/bin/sh")
		spec.Process.ApparmorProfile, spec.Process.SelinuxLabel = c.profile, c.label
		in := Input{ID: "x", Root: "/rootfs", Spec: spec, Facts: c.facts}
		first, err := Compile(in)
		expectAttributes(t, first, err, c.want, c.writes)
		further, err := CompileExec(ExecInput{ID: "x", Target: 1, Spec: exampleSpec("/bin/sh"), Process: spec.Process, Facts: c.facts})
		expectAttributes(t, further, err, c.want, c.writes)
		hook, err := compileHook(hookInput{ExecInput{ID: "x", Target: 1, Spec: spec, Facts: c.facts}, linux.RunHook{Hook: startContainer.name, Path: "/hook", Args: []string{"hook"}}})
		expectAttributes(t, hook, err, c.want, c.writes)
	}
}

func expectAttributes(t *testing.T, p *plan.Plan, err error, want string, writes int) {
	t.Helper()
	if want != "" {
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "not active") {
			t.Errorf("error %v: want one about %s", err, want)
		}
		return
	}
	if err == nil {
		err = p.Validate("sync")
	}
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for i := range p.Steps {
		if s := &p.Steps[i]; s.Call.Name() == "openat2" && strings.Contains(plan.Format(s.Call), "self/attr/") {
			got++
			if i > firstCall(p, "execve") || i > firstCall(p, "pivot_root") && firstCall(p, "pivot_root") >= 0 {
				t.Errorf("step %d comes too late: %s", i+1, s)
			}
		}
	}
	if got != writes {
		t.Errorf("%d attributes are written, want %d", got, writes)
	}
}

// firstCall finds the first step of a call, -1 if there is none.
func firstCall(p *plan.Plan, name string) int {
	for i := range p.Steps {
		if p.Steps[i].Call.Name() == name {
			return i
		}
	}
	return -1
}
