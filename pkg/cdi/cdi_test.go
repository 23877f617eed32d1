package cdi

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var update = flag.Bool("update", false, "write the golden files anew")

// accelerator describes two devices of a vendor who uses everything that there is. /dev/zero
// is the hardware.
const accelerator = `{
  "cdiVersion": "1.1.0", "kind": "vendor.com/accel",
  "containerEdits": {"env": ["ACCEL_VERSION=3"]},
  "devices": [
    {"name": "a", "containerEdits": {
      "env": ["ACCEL_A=1", "PATH=/accel/bin"],
      "deviceNodes": [{"path": "/dev/accel/a", "hostPath": "/dev/zero", "permissions": "rw"}],
      "mounts": [{"hostPath": "/etc", "containerPath": "/accel", "options": ["ro", "rbind"]}],
      "hooks": [
        {"hookName": "prestart", "path": "/bin/true"},
        {"hookName": "createRuntime", "path": "/bin/true", "args": ["true", "x"], "env": ["H=1"], "timeout": 5},
        {"hookName": "createContainer", "path": "/bin/true"},
        {"hookName": "startContainer", "path": "/bin/true"},
        {"hookName": "poststart", "path": "/bin/true"},
        {"hookName": "poststop", "path": "/bin/true"}],
      "additionalGids": [44],
      "netDevices": [{"hostInterfaceName": "accel0", "name": "eth9"}],
      "intelRdt": {"closID": "accel"}}},
    {"name": "b", "containerEdits": {"deviceNodes": [{"path": "/dev/accel/b", "hostPath": "/dev/full"}]}},
    {"name": "same-node", "containerEdits": {"deviceNodes": [{"path": "/dev/accel/a", "hostPath": "/dev/full"}]}},
    {"name": "same-mount", "containerEdits": {"mounts": [{"hostPath": "/usr", "containerPath": "/accel"}]}},
    {"name": "same-variable", "containerEdits": {"env": ["ACCEL_A=2"]}},
    {"name": "same-class", "containerEdits": {"intelRdt": {"closID": "other"}}},
    {"name": "same-link", "containerEdits": {"netDevices": [{"hostInterfaceName": "accel1", "name": "eth9"}]}},
    {"name": "gone", "containerEdits": {"deviceNodes": [{"path": "/dev/nosuch-accelerator"}]}}
  ]
}`

func describe(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func container() *specs.Spec {
	return &specs.Spec{
		Process: &specs.Process{Env: []string{"PATH=/bin", "HOME=/"}},
		Mounts:  []specs.Mount{{Destination: "/proc", Type: "proc"}},
		Linux:   &specs.Linux{Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}}},
	}
}

// TestEveryEdit: whatever a description asks for is in the specification, behind what was there.
func TestEveryEdit(t *testing.T) {
	dir := describe(t, map[string]string{"accel.json": accelerator})
	d, err := Find([]string{dir}, []string{"vendor.com/accel=a", "vendor.com/accel=b", "vendor.com/accel=a"})
	if err != nil {
		t.Fatal(err)
	}
	spec := container()
	if err := d.Add(spec, true); err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(spec, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("testdata/every-edit.json", append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/every-edit.json")
	if err != nil || strings.TrimSpace(string(want)) != string(got) {
		t.Errorf("got (error %v)\n%s", err, cmp.Diff(strings.TrimSpace(string(want)), string(got)))
	}
}

// TestWithoutLimits: a container without a control group gets no rules that nobody keeps.
func TestWithoutLimits(t *testing.T) {
	d, err := Find([]string{describe(t, map[string]string{"accel.json": accelerator})}, []string{"vendor.com/accel=b"})
	if err != nil {
		t.Fatal(err)
	}
	spec := container()
	spec.Linux.Resources = nil
	if err := d.Add(spec, false); err != nil || spec.Linux.Resources != nil || len(spec.Linux.Devices) != 1 {
		t.Errorf("%+v, error %v", spec.Linux, err)
	}
}

// TestRefusals: what cannot be had is found out without a specification.
func TestRefusals(t *testing.T) {
	once := `{"cdiVersion": "0.6.0", "kind": "vendor.com/twice", "devices": [{"name": "x", "containerEdits": {"env": ["A=1"]}}]}`
	dir := describe(t, map[string]string{"accel.json": accelerator, "one.json": once, "two.json": once, "broken.yaml": "kind: [",
		"yaml.yaml": "cdiVersion: 0.6.0\nkind: vendor.com/yaml\ndevices:\n- name: x\n  containerEdits:\n    env: [A=1]\n"})
	const accel = "vendor.com/accel="
	for _, tt := range []struct {
		names string
		is    error
		text  string
	}{
		{accel + "c", ErrUnknown, "there are vendor.com/accel=a vendor.com/accel=b"},
		{accel + "c", ErrUnknown, "broken.yaml"},
		{"other.com/accel=a", ErrUnknown, "no file in " + dir + " describes it"},
		{"vendor.com/twice=x", ErrConflict, "it is described twice"},
		{accel + "a " + accel + "same-node", ErrConflict, "device node /dev/accel/a is c 1:5 already, and was to be c 1:7"},
		{accel + "a " + accel + "same-mount", ErrConflict, "mount /accel is /etc already"},
		{accel + "a " + accel + "same-variable", ErrConflict, "variable ACCEL_A is 1 already"},
		{accel + "a " + accel + "same-class", ErrConflict, "class of service of the container is accel already"},
		{accel + "a " + accel + "same-link", ErrConflict, "network device named eth9 is accel0 already"},
		{accel + "gone", nil, "/dev/nosuch-accelerator"},
	} {
		_, err := Find([]string{dir}, strings.Fields(tt.names))
		if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %q", tt.names, err, tt.text)
		}
	}
	if _, err := Find([]string{dir}, []string{"vendor.com/yaml=x"}); err != nil {
		t.Errorf("a file in YAML: %v", err)
	}
}

// TestUsersOwn: what the user has asked for himself is not replaced.
func TestUsersOwn(t *testing.T) {
	d, err := Find([]string{describe(t, map[string]string{"accel.json": accelerator})}, []string{"vendor.com/accel=a"})
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*specs.Spec){
		"mount":  func(s *specs.Spec) { s.Mounts = append(s.Mounts, specs.Mount{Destination: "/accel/", Source: "/mine"}) },
		"node":   func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/accel/a", Type: "b"}} },
		"class":  func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "mine"} },
		"device": func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"accel0": {}} },
	} {
		spec := container()
		change(spec)
		if err := d.Add(spec, true); !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestPriority: of two directories the later one counts.
func TestPriority(t *testing.T) {
	file := func(value string) string {
		return `{"cdiVersion": "0.6.0", "kind": "vendor.com/x", "devices": [{"name": "x", "containerEdits": {"env": ["A=` + value + `"]}}]}`
	}
	dirs := []string{describe(t, map[string]string{"x.json": file("first")}), describe(t, map[string]string{"x.json": file("second")})}
	d, err := Find(dirs, []string{"vendor.com/x=x"})
	if err != nil {
		t.Fatal(err)
	}
	spec := container()
	if err := d.Add(spec, true); err != nil || !slices.Contains(spec.Process.Env, "A=second") {
		t.Errorf("%v, error %v", spec.Process.Env, err)
	}
}

func TestAnnotated(t *testing.T) {
	got, err := Annotated(map[string]string{"cdi.k8s.io/b": "vendor.com/x=2", "cdi.k8s.io/a": "vendor.com/x=0,vendor.com/x=1", "other": "vendor.com/x=3"})
	want := []string{"vendor.com/x=0", "vendor.com/x=1", "vendor.com/x=2"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, error %v", got, err)
	}
	if _, err := Annotated(map[string]string{"cdi.k8s.io/a": "nonsense"}); err == nil || !strings.Contains(err.Error(), "annotation cdi.k8s.io/a") {
		t.Errorf("nonsense: %v", err)
	}
}
