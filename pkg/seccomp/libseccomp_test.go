//go:build libseccomp

package seccomp_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"pgregory.net/rapid"

	"github.com/containr/containr/pkg/seccomp"
	"github.com/containr/containr/pkg/seccomp/internal/libseccomp"
)

// compareWithLibrary compares verdicts on all corners of a policy, on all ABIs
// or those that abis picks. The ENOSYS of newer calls is left out: it is runc's,
// not the library's.
func compareWithLibrary(t interface{ Fatalf(string, ...any) }, policy *specs.LinuxSeccomp, native seccomp.Arch, tree bool, highest uint32, abis ...func(seccomp.Arch) bool) {
	theirs, err := libseccomp.Compile(policy, native, tree, naiveAction)
	if errors.Is(err, libseccomp.ErrConflict) {
		return
	}
	if err != nil {
		t.Fatalf("libseccomp: %v", err)
	}
	ours, err := seccomp.Compile(policy, native)
	if err != nil {
		t.Fatalf("%v", err)
	}
	n := newNaive(policy, native)
	n.corners(highest, func(call seccomp.Call) {
		a := n.abi(call)
		if largest, ok := n.largest[a]; ok && largest >= 0 && int64(call.Number) > largest && !lets(n.def) {
			return
		}
		if newerThanLibrary(a, call.Number) || len(abis) > 0 && !abis[0](a) {
			return
		}
		got, _, err := ours.Simulate(call)
		want, _, err2 := theirs.Simulate(call)
		if err != nil || err2 != nil || got != want {
			t.Fatalf("%s: got %s, %v; libseccomp says %s, %v\n%s\n%s", describe(call), got, err, want, err2, ours.Disassemble(), theirs.Disassemble())
		}
	})
}

// newerThanLibrary reports whether a call is missing in the library's table.
func newerThanLibrary(a seccomp.Arch, number uint32) bool {
	key := [2]uint32{uint32(a), number}
	newer, ok := newerCache[key]
	if !ok {
		if name, named := a.Name(number); named {
			_, mux := multiplexed[name]
			theirs, known := libseccomp.Number(a, name)
			newer = !known || theirs < 0 && !mux
		}
		newerCache[key] = newer
	}
	return newer
}

var newerCache = map[[2]uint32]bool{}

func TestDockerProfileHasLibseccompsVerdicts(t *testing.T) {
	for _, native := range []seccomp.Arch{seccomp.AMD64, seccomp.ARM64} {
		for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}} {
			compareWithLibrary(t, dockerPolicy(native, caps...), native, true, 600)
			compareWithLibrary(t, dockerPolicy(native, caps...), native, false, 600)
		}
	}
}

func TestTablesHaveLibseccompsNumbers(t *testing.T) {
	for _, a := range []seccomp.Arch{seccomp.AMD64, seccomp.I386, seccomp.X32, seccomp.ARM64, seccomp.ARM} {
		checked := 0
		for nr := range uint32(0xf0010) {
			full := nr
			if a == seccomp.X32 {
				full |= x32Bit
			}
			name, ok := a.Name(full)
			if !ok {
				continue
			}
			theirs, known := libseccomp.Number(a, name)
			if _, mux := multiplexed[name]; !known || theirs < 0 || mux && a == seccomp.I386 {
				continue // newer than the library's table, or another kind of number
			}
			checked++
			if theirs != int(nr) {
				t.Errorf("%s %s: got %d, libseccomp has %d", a, name, nr, theirs)
			}
			if nr == 600 {
				nr = 0xf0000 - 1
			}
		}
		if checked < 290 {
			t.Errorf("%s: only %d names compared", a, checked)
		}
	}
}

// drawLibraryPolicy draws a random policy without what the installed library
// (2.5.4) is known to get wrong or this package does differently on purpose:
//   - names that some ABI of the family lacks: the library forgets to load the
//     number if such a one comes first;
//   - conditions on calls that 32-bit x86 multiplexes, which it drops.
func drawLibraryPolicy(t *rapid.T, native seccomp.Arch, actions []specs.LinuxSeccompAction) *specs.LinuxSeccomp {
	policy := drawPolicy(t, actions)
	for i := range policy.Syscalls {
		call := &policy.Syscalls[i]
		call.Names = slices.DeleteFunc(call.Names, func(name string) bool { return !everywhere(native, name) })
		if len(call.Names) == 0 {
			call.Names = []string{"getpid"}
		}
		for _, name := range call.Names {
			if _, mux := multiplexed[name]; mux {
				call.Args = nil
			}
		}
	}
	return policy
}

// everywhere reports whether all ABIs of a family have a call.
func everywhere(native seccomp.Arch, name string) bool {
	for _, a := range family(native) {
		if _, ok := a.Number(name); !ok {
			return false
		}
	}
	return true
}

var bothNatives = []seccomp.Arch{seccomp.AMD64, seccomp.ARM64}

// Rules that have one action, so that all that overlaps is an alternative. They
// test one argument, and for equality: where alternatives on two arguments or
// two ranges meet, libseccomp 2.5.4 compares one word as if it were another.
func TestAlternativesHaveLibseccompsVerdicts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		native := rapid.SampledFrom(bothNatives).Draw(t, "native")
		action := rapid.SampledFrom(allActions).Draw(t, "action")
		policy := drawLibraryPolicy(t, native, []specs.LinuxSeccompAction{action})
		for i := range policy.Syscalls {
			policy.Syscalls[i].Args = slices.DeleteFunc(policy.Syscalls[i].Args, func(arg specs.LinuxSeccompArg) bool {
				return class(arg.Op) != 3 || arg.Index != 0
			})
		}
		compareWithLibrary(t, policy, native, rapid.Bool().Draw(t, "tree"), 70)
	})
}

// All operators and any actions, but one rule for a call.
func TestSingleRulesHaveLibseccompsVerdicts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		native := rapid.SampledFrom(bothNatives).Draw(t, "native")
		policy := drawLibraryPolicy(t, native, allActions)
		seen := map[string]bool{}
		byIndex := func(a, b specs.LinuxSeccompArg) int { return int(a.Index) - int(b.Index) }
		sameIndex := func(a, b specs.LinuxSeccompArg) bool { return a.Index == b.Index }
		for i := range policy.Syscalls {
			call := &policy.Syscalls[i]
			call.Names = slices.DeleteFunc(call.Names, func(name string) bool {
				again := seen[name]
				seen[name] = true
				return again
			})
			if len(call.Names) == 0 {
				call.Names = []string{"no_such_call"}
			}
			call.Args = slices.CompactFunc(slices.SortedFunc(slices.Values(call.Args), byIndex), sameIndex)
		}
		compareWithLibrary(t, policy, native, rapid.Bool().Draw(t, "tree"), 70)
	})
}

// The order in which rules with different actions are asked: equality, then
// ranges from the narrowest, all of them open to the same side. Only 32-bit
// ABIs: on 64 bits the library mixes up overlapping ranges, as above.
func TestPrecedenceIsLibseccomps(t *testing.T) {
	sides := [][]specs.LinuxSeccompOperator{
		{specs.OpEqualTo, specs.OpLessThan, specs.OpLessEqual},
		{specs.OpEqualTo, specs.OpGreaterThan, specs.OpGreaterEqual},
	}
	rapid.Check(t, func(t *rapid.T) {
		side := rapid.SampledFrom(sides).Draw(t, "side")
		draw := rapid.Custom(func(t *rapid.T) specs.LinuxSyscall {
			return rule(
				rapid.SampledFrom(allActions).Draw(t, "action"), "read",
				arg(0, rapid.SampledFrom(side).Draw(t, "op"), drawValue(t)))
		})
		policy := rules(rapid.SliceOfN(draw, 1, 5).Draw(t, "rules")...)
		for _, native := range bothNatives {
			compareWithLibrary(t, policy, native, false, 70, func(a seccomp.Arch) bool { return !wide(a) })
		}
	})
}
