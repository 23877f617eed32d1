package seccomp_test

import (
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"pgregory.net/rapid"

	"github.com/containr/containr/pkg/seccomp"
)

// TestMain asks for more random policies than rapid's 100, which take 0.1 s.
func TestMain(m *testing.M) {
	flag.Parse()
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue && !testing.Short() {
		_ = checks.Value.Set("500")
	}
	os.Exit(m.Run())
}

// someNames are calls that differ in everything the compiler looks at: in all
// tables or few, apart or together, multiplexed, private, unknown.
var someNames = []string{
	"read", "write", "open", "close", "stat", "socket", "socketcall", "ipc", "semop", "accept", "clone",
	"personality", "openat2", "execve", "ioctl", "breakpoint", "cacheflush", "set_tls", "mseal", "uretprobe",
	"futex", "chown32", "no_such_call", "waitpid", "getpid", "gettid",
}

var operators = []specs.LinuxSeccompOperator{
	specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual,
	specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual,
}

// values lie close together, so that conditions overlap, and at the borders of
// 32 bits.
func drawValue(t *rapid.T) uint64 {
	return rapid.OneOf(
		rapid.Uint64Range(0, 4),
		rapid.SampledFrom([]uint64{1 << 31, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1 << 63, ^uint64(0), ^uint64(0) - 1, 5 << 32}),
	).Draw(t, "value")
}

func drawArg(t *rapid.T) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{
		Index:    uint(rapid.IntRange(0, 2).Draw(t, "index")),
		Op:       rapid.SampledFrom(operators).Draw(t, "op"),
		Value:    drawValue(t),
		ValueTwo: drawValue(t),
	}
}

func drawRule(t *rapid.T, actions []specs.LinuxSeccompAction) specs.LinuxSyscall {
	return specs.LinuxSyscall{
		Names:  rapid.SliceOfN(rapid.SampledFrom(someNames), 1, 4).Draw(t, "names"),
		Action: rapid.SampledFrom(actions).Draw(t, "action"),
		Args:   rapid.SliceOfN(rapid.Custom(drawArg), 0, 3).Draw(t, "args"),
	}
}

var allActions = []specs.LinuxSeccompAction{
	specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActTrap, specs.ActLog, specs.ActTrace,
}

func drawPolicy(t *rapid.T, ruleActions []specs.LinuxSeccompAction) *specs.LinuxSeccomp {
	draw := rapid.Custom(func(t *rapid.T) specs.LinuxSyscall { return drawRule(t, ruleActions) })
	archs := []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM}
	return &specs.LinuxSeccomp{
		DefaultAction: rapid.SampledFrom(allActions).Draw(t, "default"),
		Architectures: rapid.SliceOfNDistinct(rapid.SampledFrom(archs), 0, 3, rapid.ID).Draw(t, "archs"),
		Syscalls:      rapid.SliceOfN(draw, 0, 8).Draw(t, "rules"),
	}
}

var conflict = regexp.MustCompile(`same conditions as in`)

// contradicts reports whether Compile rightly refuses a policy because it has
// two rules with the same conditions and different actions.
func contradicts(err error) bool {
	return err != nil && conflict.MatchString(err.Error())
}

func TestProgramsSayWhatTheirPolicySays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := drawPolicy(t, append(allActions, specs.ActNotify))
		native := rapid.SampledFrom([]seccomp.Arch{seccomp.AMD64, seccomp.I386, seccomp.ARM64, seccomp.ARM}).Draw(t, "native")
		if _, err := seccomp.Compile(policy, native); contradicts(err) {
			return
		}
		compare(t, policy, native, 70)
	})
}

// Two programs made from one policy are the same, and Ranges agrees with
// Simulate.
func TestRangesAgreeWithSimulate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := drawPolicy(t, allActions)
		program, err := seccomp.Compile(policy, seccomp.AMD64)
		if contradicts(err) {
			return
		}
		again, err2 := seccomp.Compile(policy, seccomp.AMD64)
		if err != nil || err2 != nil || string(program.AppendTo(nil)) != string(again.AppendTo(nil)) {
			t.Fatalf("two programs from one policy: %v, %v", err, err2)
		}
		for _, a := range []seccomp.Arch{seccomp.AMD64, seccomp.I386, seccomp.X32} {
			checkRanges(t, program, a)
		}
	})
}

func checkRanges(t *rapid.T, program *seccomp.Program, a seccomp.Arch) {
	ranges, err := program.Ranges(a)
	if err != nil {
		t.Fatal(err)
	}
	next := uint32(0)
	if a == seccomp.X32 {
		next = x32Bit
	}
	for _, r := range ranges {
		if r.First != next || r.Last < r.First {
			t.Fatalf("%s: range %#x to %#x after %#x", a, r.First, r.Last, next)
		}
		next = r.Last + 1
		for _, nr := range []uint32{r.First, r.Last, r.First + (r.Last-r.First)/2} {
			got, _, err := program.Simulate(seccomp.Call{Number: nr, Audit: a.Audit()})
			if err != nil || r.Test == 0 && got != r.Action {
				t.Fatalf("%s %#x: range says %s, program %s, %v", a, nr, r.Action, got, err)
			}
		}
	}
}

// FuzzCompile feeds policies that nobody checked. Whatever compiles must end
// with an answer for every call.
func FuzzCompile(f *testing.F) {
	for _, policy := range []*specs.LinuxSeccomp{
		dockerPolicy(seccomp.AMD64),
		rules(rule(specs.ActAllow, "socket", arg(0, specs.OpMaskedEqual, 3, 1), arg(1, specs.OpLessThan, 9))),
	} {
		text, err := json.Marshal(policy)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var policy specs.LinuxSeccomp
		if json.Unmarshal(text, &policy) != nil {
			return
		}
		for _, native := range []seccomp.Arch{seccomp.AMD64, seccomp.ARM64} {
			program, err := seccomp.Compile(&policy, native)
			if err != nil {
				continue
			}
			if _, err := program.Tree(native); err != nil {
				t.Fatal(err)
			}
			for nr := range uint32(600) {
				for _, a := range family(native) {
					if _, _, err := program.Simulate(seccomp.Call{Number: nr, Audit: a.Audit(), Args: [6]uint64{1, 2, 3}}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
}
