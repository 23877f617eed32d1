package runtime

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/seccomp"
	"github.com/containr/containr/pkg/seccomp/profile"
)

// fullSpec is the example with docker's filter: what a runtime gets in daily use.
func fullSpec() *specs.Spec {
	spec := exampleSpec("/bin/true")
	spec.Linux.Seccomp = profile.Default(profile.Target{Arch: seccomp.AMD64})
	return spec
}

// The parts of a start that are not the kernel's, one by one.
func BenchmarkStages(b *testing.B) {
	spec := fullSpec()
	text, err := json.Marshal(spec)
	if err != nil {
		b.Fatal(err)
	}
	in := Input{ID: "bench", Spec: spec, Facts: paperFacts(host.CgroupV1, host.Kernel{Major: 6, Minor: 12}), Root: "/rootfs"}
	p, err := Compile(in)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if err := json.Unmarshal(text, new(specs.Spec)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("compile", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Compile(in); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("lower", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := child.Lower(p, child.Options{Arch: linux.AMD64, FirstFD: 3, Values: map[plan.Reg]int{"cgroup": 9}}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("probe", func(b *testing.B) {
		for b.Loop() {
			if _, err := host.Probe(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A container from nothing to nothing, without the start of a process for the
// runtime itself.
func BenchmarkCreateDelete(b *testing.B) {
	testkit.RequireRoot(b)
	spec := fullSpec()
	spec.Process.Args = []string{"/probe", "-exit", "0"}
	spec.Root.Path = testkit.Rootfs(b)
	facts, err := host.Probe()
	if err != nil {
		b.Fatal(err)
	}
	r := &Runtime{Root: b.TempDir(), Facts: facts}
	for b.Loop() {
		s, err := r.Create(&CreateRequest{ID: "bench", Bundle: b.TempDir(), Spec: spec})
		if err != nil {
			b.Fatal(err)
		}
		reap(s.PID)
		if err := r.Delete("bench", false); err != nil {
			b.Fatal(err)
		}
	}
}
