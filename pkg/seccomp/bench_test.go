package seccomp_test

import (
	"testing"

	"github.com/containr/containr/pkg/seccomp"
)

// BenchmarkCompile compiles docker's default profile, on the way of each
// container start: 60 us at most.
func BenchmarkCompile(b *testing.B) {
	for _, arch := range []seccomp.Arch{seccomp.AMD64, seccomp.ARM64} {
		b.Run(arch.String(), func(b *testing.B) {
			policy := dockerPolicy(arch)
			program := mustCompile(b, policy, arch)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := seccomp.Compile(policy, arch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(program.Instructions)), "instructions")
		})
	}
}

func BenchmarkSimulate(b *testing.B) {
	program := mustCompile(b, dockerPolicy(seccomp.AMD64), seccomp.AMD64)
	call := seccomp.Call{Number: 257, Audit: seccomp.AMD64.Audit()}
	for b.Loop() {
		if _, _, err := program.Simulate(call); err != nil {
			b.Fatal(err)
		}
	}
}
