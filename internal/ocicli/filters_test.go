package ocicli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/testkit/probe"
)

// The filter of a policy bites whether it has just been compiled or was kept: in a container's program, in a further
// process, and when the policy has changed. What is kept is no container, and stays when containers are gone.
func TestKeptFilterBites(t *testing.T) {
	errno := uint(99)
	policy := func(spec *specs.Spec) {
		spec.Process.Args = []string{"/probe"}
		spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64},
			Syscalls: []specs.LinuxSyscall{{Names: []string{"uname"}, Action: specs.ActErrno, ErrnoRet: &errno}}}
	}
	s := newSite(t, policy)
	refused := func(what, report, want string) {
		t.Helper()
		var r probe.Report
		if err := json.Unmarshal([]byte(report), &r); err != nil {
			t.Fatalf("%s: %v: %s", what, err, report)
		}
		if said := strings.Join(r.Errors, "\n"); r.Status.Seccomp != 2 || !strings.Contains(said, want) {
			t.Errorf("%s: seccomp mode %d, errors %q, want %s", what, r.Status.Seccomp, said, want)
		}
	}
	kept := func() (names []string) {
		t.Helper()
		entries, err := os.ReadDir(s.root)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	const notAvailable, notOwner = "uname: cannot assign requested address", "uname: operation not permitted"
	refused("compiled", s.must("run", "a"), notAvailable)
	names := kept()
	if len(names) != 1 || !strings.HasPrefix(names[0], "filter@") {
		t.Fatalf("the state root has %q", names)
	}
	first, err := os.Stat(filepath.Join(s.root, names[0]))
	if err != nil {
		t.Fatal(err)
	}
	refused("kept", s.must("run", "a"), notAvailable)
	if second, err := os.Stat(filepath.Join(s.root, names[0])); err != nil || !os.SameFile(first, second) || !second.ModTime().Equal(first.ModTime()) {
		t.Errorf("the filter was compiled once more: %v, %v and %v", err, first, second)
	}
	spec := s.spec()
	spec.Process.Args = []string{"/probe", "-wait-signal", "USR1"}
	s.write(spec)
	s.must("create", "waits")
	s.must("start", "waits")
	refused("further process", s.must("exec", "waits", "/probe"), notAvailable)
	if list := s.must("list", "--quiet"); list != "waits\n" {
		t.Errorf("list says %q", list)
	}
	s.must("delete", "--force", "waits")

	errno = 1
	policy(spec)
	s.write(spec)
	refused("changed", s.must("run", "a"), notOwner)
	refused("changed and kept", s.must("run", "a"), notOwner)
	for _, name := range kept() {
		if !strings.HasPrefix(name, "filter@") {
			t.Errorf("the state root has %s", name)
		}
	}
}
