package runtime

import (
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	testprobe "github.com/containr/containr/internal/testkit/probe"
	"github.com/containr/containr/pkg/plan"
)

// Labels of the policy of SELinux guests; see policy.cil of package guest.
const (
	labelProcess = "system_u:system_r:container_t:s0:c1,c2"
	labelFile    = "system_u:object_r:container_file_t:s0:c1,c2"
	labelAny     = "system_u:object_r:container_file_t:s0"
	labelOther   = "system_u:object_r:container_file_t:s0:c3"
	labelHost    = "system_u:object_r:host_file_t:s0"
)

// requireSELinux skips the test where there is no SELinux. What the test makes in
// temporary directories from here on may be used by containers: a program's standard
// output too must be open to it.
func requireSELinux(t *testing.T) {
	t.Helper()
	testkit.RequireRoot(t)
	if !machine(t).SELinux {
		t.Skip("SELinux is not active on this kernel; a guest has it")
	}
	setLabel(t, filepath.Dir(t.TempDir()), labelAny)
}

func setLabel(t *testing.T, path, label string) {
	t.Helper()
	if err := unix.Lsetxattr(path, "security.selinux", []byte(label), 0); err != nil {
		t.Fatalf("label %s: %v", path, err)
	}
}

// labelled gives a root file system the container's label, and adds a file of another
// container's and one of the host's.
func labelled(t *testing.T, root string) {
	t.Helper()
	testkit.WriteFile(t, filepath.Join(root, "other"), "x", 0o666)
	testkit.WriteFile(t, filepath.Join(root, "host"), "x", 0o666)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			setLabel(t, path, labelFile)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	setLabel(t, filepath.Join(root, "other"), labelOther)
	setLabel(t, filepath.Join(root, "host"), labelHost)
}

// tries are what the policy forbids a container, and what it allows.
var tries = []string{"-try", "open:/other", "-try", "open:/host", "-try", "open:/etc/passwd", "-try", "create:/tmp/new", "-try", "create:/dev/shm/new"}

func expectLabelled(t *testing.T, r testprobe.Report) {
	t.Helper()
	if r.Label != labelProcess {
		t.Errorf("label %q", r.Label)
	}
	for i, errno := range []string{"EACCES", "EACCES", "", "", ""} {
		if i >= len(r.Tries) || r.Tries[i].Errno != errno {
			t.Fatalf("%+v: try %d, want errno %q", r.Tries, i+1, errno)
		}
	}
}

func labelSpec(args ...string) *specs.Spec {
	spec := exampleSpec(args...)
	spec.Process.SelinuxLabel, spec.Linux.MountLabel = labelProcess, labelFile
	return spec
}

// A label confines the container's program, with no_new_privs and without, and its
// mounts have the label that lets the program use them; files of other categories and of
// the host are closed to it, which they are not without a label.
func TestSELinuxLabelConfines(t *testing.T) {
	requireSELinux(t)
	testkit.Leftovers(t)
	root := testkit.Rootfs(t)
	labelled(t, root)
	for _, nnp := range []bool{true, false} {
		spec := labelSpec(append([]string{"/probe"}, tries...)...)
		spec.Process.NoNewPrivileges = nnp
		res, err := runPlan(t, compileInput(t, Input{ID: "test", Spec: spec, Root: root}))
		if err != nil {
			t.Fatal(err)
		}
		expectLabelled(t, testkit.Report(t, res.out))
	}
	// Without a label of its own a mount is the host's.
	spec := labelSpec("/probe", "-try", "create:/dev/shm/new")
	spec.Linux.MountLabel = ""
	res, err := runPlan(t, compileInput(t, Input{ID: "test", Spec: spec, Root: root}))
	if err != nil {
		t.Fatal(err)
	}
	if r := testkit.Report(t, res.out); r.Tries[0].Errno != "EACCES" {
		t.Errorf("in a mount without a label: %+v", r.Tries)
	}
	res, err = runPlan(t, compileInput(t, Input{ID: "test", Spec: exampleSpec(append([]string{"/probe"}, tries...)...), Root: root}))
	if err != nil {
		t.Fatal(err)
	}
	if r := testkit.Report(t, res.out); r.Label == labelProcess || !r.Tries[0].OK || !r.Tries[1].OK {
		t.Errorf("without a label: %q, %+v", r.Label, r.Tries)
	}
}

// A further process has the label that it asks for.
func TestSELinuxLabelConfinesExec(t *testing.T) {
	requireSELinux(t)
	c := runWaiting(t, labelSpec())
	labelled(t, c.root)
	process := exampleSpec(append([]string{"/probe"}, tries...)...).Process
	process.SelinuxLabel = labelProcess
	expectLabelled(t, c.probe(process))
}

// A label that the policy does not know is an error, not a container without one.
func TestSELinuxLabelThatIsUnknown(t *testing.T) {
	requireSELinux(t)
	testkit.Leftovers(t)
	spec := exampleSpec("/probe")
	spec.Process.SelinuxLabel = "system_u:system_r:nosuch_t:s0"
	_, err := runPlan(t, compileExample(t, spec))
	step, ok := err.(*StepError)
	if !ok || step.Errno != plan.EINVAL || step.Step.From != "/process/selinuxLabel" {
		t.Errorf("error %v", err)
	}
}
