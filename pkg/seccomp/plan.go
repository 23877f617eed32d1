package seccomp

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Plan returns the child's step that loads the policy's filter, or none when the
// policy allows everything. goarch is Go's name of the architecture.
func Plan(policy *specs.LinuxSeccomp, goarch string) ([]plan.Step, error) {
	if policy == nil || Disabled(policy) {
		return nil, nil
	}
	arch, err := ArchOf(goarch)
	if err != nil {
		return nil, err
	}
	prog, err := Compile(policy, arch)
	if err != nil {
		return nil, err
	}
	filter := prog.AppendTo(make([]byte, 0, prog.Size()))
	why := "system calls that the program has no business with are refused"
	if len(prog.Unknown) > 0 {
		why += "; the policy names others that no architecture has: " + strings.Join(prog.Unknown, ", ")
	}
	return PlanCompiled(why, linux.Seccomp{Flags: linux.SeccompFlags(prog.Flags), Filter: string(filter)}), nil
}

// PlanCompiled returns the step of a filter that Plan has compiled before, with the same reason.
func PlanCompiled(why string, load linux.Seccomp) []plan.Step {
	b := plan.Build(plan.Child, plan.SeccompChapter)
	b.Do(why, load).For("/linux/seccomp")
	return b.Steps
}
