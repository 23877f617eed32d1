package cgroup

import (
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan/linux"
)

// TestOwner: who gets the group, and that nobody does by accident.
func TestOwner(t *testing.T) {
	spec := func(change func(*specs.Spec)) *specs.Spec {
		s := &specs.Spec{
			Process: &specs.Process{User: specs.User{UID: 5}},
			Mounts:  []specs.Mount{{Destination: "/sys/fs/cgroup", Type: "cgroup", Options: []string{"nosuid"}}},
			Linux: &specs.Linux{
				Namespaces:  []specs.LinuxNamespace{{Type: specs.CgroupNamespace}, {Type: specs.UserNamespace}},
				UIDMappings: []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 10}},
			},
		}
		change(s)
		return s
	}
	same := func(*specs.Spec) {}
	for _, c := range []struct {
		name   string
		facts  *host.Facts
		change func(*specs.Spec)
		want   []string
	}{
		{"mapped", machineV2(), same, []string{"100005", "100005 cgroup.procs", "100005 memory.oom.group"}},
		{"no user namespace", machineV2(), func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[:1] }, []string{"5", "5 cgroup.procs", "5 memory.oom.group"}},
		{"root", machineV2(), func(s *specs.Spec) { s.Linux.Namespaces, s.Process.User.UID = s.Linux.Namespaces[:1], 0 }, nil},
		{"unmapped", machineV2(), func(s *specs.Spec) { s.Process.User.UID = 10 }, nil},
		{"read-only", machineV2(), func(s *specs.Spec) { s.Mounts[0].Options = []string{"ro"} }, nil},
		{"covered", machineV2(), func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys/fs/cgroup/", Type: "tmpfs"})
		}, nil},
		{"the host's namespace", machineV2(), func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] }, nil},
		{"a joined namespace", machineV2(), func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/proc/1/ns/cgroup" }, nil},
		{"version 1", machineV1(), same, nil},
		{"a user", delegatedV2(), same, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := spec(c.change)
			c.facts.Delegatable = []string{"cgroup.procs", "memory.oom.group"}
			if WantsOwner(s, c.facts) != (c.want != nil) {
				t.Error("the files are asked for wrongly")
			}
			for _, plan := range []func(*specs.Spec, *host.Facts, string) (*Placement, error){Plan, PlanUnit} {
				p, err := plan(s, managed(c.facts), "c1")
				if c.name == "version 1" || c.name == "a user" {
					p, err = Plan(s, c.facts, "c1")
				}
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, step := range slices.Concat(p.Setup, p.Enter) {
					if o, ok := step.Call.(linux.ChangeOwner); ok {
						text := strings.TrimPrefix(o.Text(), "chown -h ")
						got = append(got, strings.TrimSuffix(strings.Replace(text, p.Paths[0], "", 1), " "))
					}
				}
				want := slices.Clone(c.want)
				for i := range want {
					want[i] = strings.Replace(want[i], " ", " /", 1)
				}
				if !slices.Equal(got, want) {
					t.Errorf("%q, want %q", got, want)
				}
			}
		})
	}
}
