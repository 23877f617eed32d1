package seccomp_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/seccomp"
	"github.com/containr/containr/pkg/seccomp/profile"
)

// dockerPolicy returns docker's default policy for a 64-bit kernel.
func dockerPolicy(a seccomp.Arch, caps ...string) *specs.LinuxSeccomp {
	return profile.Default(profile.Target{Arch: a, Caps: caps})
}

func mustCompile(t testing.TB, policy *specs.LinuxSeccomp, a seccomp.Arch) *seccomp.Program {
	t.Helper()
	program, err := seccomp.Compile(policy, a)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// compare runs the program and the naive reading on all corners of the policy.
func compare(t interface{ Fatalf(string, ...any) }, policy *specs.LinuxSeccomp, native seccomp.Arch, highest uint32) {
	program, err := seccomp.Compile(policy, native)
	if err != nil {
		t.Fatalf("%v", err)
	}
	n := newNaive(policy, native)
	n.corners(highest, func(call seccomp.Call) {
		got, _, err := program.Simulate(call)
		if err != nil {
			t.Fatalf("%s: %v", describe(call), err)
		}
		if want := n.verdict(call); got != want {
			t.Fatalf("%s: program says %s, policy says %s\n%s", describe(call), got, want, program.Disassemble())
		}
	})
}

func TestDockerProfileMatchesItsPolicy(t *testing.T) {
	many := []string{"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_BPF", "CAP_SYS_TIME", "CAP_SYS_CHROOT"}
	for _, native := range []seccomp.Arch{seccomp.AMD64, seccomp.ARM64, seccomp.I386, seccomp.ARM} {
		for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN"}, many} {
			t.Run(fmt.Sprintf("%s/%d caps", native, len(caps)), func(t *testing.T) {
				compare(t, dockerPolicy(native, caps...), native, 1024)
			})
		}
	}
}

func TestEachSubsetOfArchitectures(t *testing.T) {
	for _, archs := range [][]specs.Arch{
		nil,
		{specs.ArchX86_64},
		{specs.ArchX86},
		{specs.ArchX32},
		{specs.ArchX32, specs.ArchX86, specs.ArchX86_64, specs.ArchMIPS},
	} {
		policy := dockerPolicy(seccomp.AMD64)
		policy.Architectures = archs
		compare(t, policy, seccomp.AMD64, 600)
		compare(t, policy, seccomp.I386, 600)
	}
}

// The filter's shape is most of what a container start pays for seccomp.
func TestDockerFilterIsSmallAndShallow(t *testing.T) {
	program := mustCompile(t, dockerPolicy(seccomp.AMD64), seccomp.AMD64)
	if n := len(program.Instructions); n > 260 {
		t.Errorf("%d instructions", n)
	}
	const numbers = 470
	sum, longest := 0, 0
	for nr := range uint32(numbers) {
		_, executed, err := program.Simulate(seccomp.Call{Number: nr, Audit: seccomp.AMD64.Audit()})
		if err != nil {
			t.Fatal(err)
		}
		sum += executed
	}
	newNaive(dockerPolicy(seccomp.AMD64), seccomp.AMD64).corners(numbers, func(call seccomp.Call) {
		_, executed, err := program.Simulate(call)
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, executed)
	})
	mean := float64(sum) / numbers
	t.Logf("%d instructions; executed: mean %.1f, at most %d", len(program.Instructions), mean, longest)
	if mean > 12 || longest > 22 {
		t.Errorf("executed: mean %.1f, at most %d", mean, longest)
	}
}

func TestOnlyNamesOfNoArchitectureAreUnknown(t *testing.T) {
	policy := dockerPolicy(seccomp.AMD64)
	if u := mustCompile(t, policy, seccomp.AMD64).Unknown; len(u) != 0 {
		t.Errorf("docker's names: %q", u)
	}
	policy.Syscalls = append(policy.Syscalls, specs.LinuxSyscall{
		Names:  []string{"raed", "s390_pci_mmio_read", "zzz", "read"},
		Action: specs.ActErrno,
	})
	if u := mustCompile(t, policy, seccomp.AMD64).Unknown; strings.Join(u, " ") != "raed zzz" {
		t.Errorf("got %q", u)
	}
}

func uintp(v uint) *uint { return &v }

func arg(index uint, op specs.LinuxSeccompOperator, values ...uint64) specs.LinuxSeccompArg {
	a := specs.LinuxSeccompArg{Index: index, Op: op, Value: values[0]}
	if len(values) > 1 {
		a.ValueTwo = values[1]
	}
	return a
}

func rule(action specs.LinuxSeccompAction, name string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: []string{name}, Action: action, Args: args}
}

// rules returns a policy with all ABIs of x86 that denies by default.
func rules(calls ...specs.LinuxSyscall) *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM},
		Syscalls:      calls,
	}
}

func TestMeaning(t *testing.T) {
	const eq, ne, lt, le, gt, ge, masked = specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan,
		specs.OpLessEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual
	const big = 5<<32 | 7
	type probe struct {
		args [6]uint64
		want seccomp.Action
	}
	deny, allow := seccomp.Errno|1, seccomp.Allow
	for _, test := range []struct {
		name   string
		calls  []specs.LinuxSyscall
		probes []probe // of read on amd64
	}{
		{
			"unconditional rule decides, wherever it stands",
			[]specs.LinuxSyscall{rule(specs.ActTrap, "read", arg(0, eq, 1)), rule(specs.ActAllow, "read"), rule(specs.ActLog, "read")},
			[]probe{{[6]uint64{1}, allow}, {[6]uint64{2}, allow}},
		},
		{
			"rules are alternatives",
			[]specs.LinuxSyscall{rule(specs.ActAllow, "read", arg(0, eq, 1)), rule(specs.ActAllow, "read", arg(1, eq, 2))},
			[]probe{{[6]uint64{1, 0}, allow}, {[6]uint64{0, 2}, allow}, {[6]uint64{2, 1}, deny}},
		},
		{
			"conditions of one rule must all hold",
			[]specs.LinuxSyscall{rule(specs.ActAllow, "read", arg(1, eq, 2), arg(0, eq, 1))},
			[]probe{{[6]uint64{1, 2}, allow}, {[6]uint64{1, 0}, deny}, {[6]uint64{0, 2}, deny}},
		},
		{
			"two conditions on one argument are two rules",
			[]specs.LinuxSyscall{rule(specs.ActAllow, "read", arg(0, ge, 10), arg(0, le, 5), arg(1, eq, 1))},
			[]probe{{[6]uint64{12}, allow}, {[6]uint64{3}, allow}, {[6]uint64{7}, deny}, {[6]uint64{7, 1}, allow}},
		},
		{
			"64 bits are compared as one number",
			[]specs.LinuxSyscall{rule(specs.ActAllow, "read", arg(0, gt, big)), rule(specs.ActAllow, "read", arg(1, lt, big)), rule(specs.ActAllow, "read", arg(2, ne, 0))},
			[]probe{
				{[6]uint64{6 << 32, big}, allow},
				{[6]uint64{5<<32 | 8, big}, allow},
				{[6]uint64{big, big}, deny},
				{[6]uint64{4<<32 | 9, big}, deny},
				{[6]uint64{0, 4<<32 | 9}, allow},
				{[6]uint64{0, big, 1 << 32}, allow},
			},
		},
		{
			"bits outside of the mask do not count",
			[]specs.LinuxSyscall{rule(specs.ActAllow, "read", arg(0, masked, 0xf0, 0xff10))},
			[]probe{{[6]uint64{0x1f}, allow}, {[6]uint64{1<<40 | 0x10}, allow}, {[6]uint64{0x20}, deny}},
		},
		{
			"empty mask is no condition",
			[]specs.LinuxSyscall{rule(specs.ActAllow, "read", arg(0, masked, 0, 0))},
			[]probe{{[6]uint64{}, allow}, {[6]uint64{^uint64(0)}, allow}},
		},
		{
			"the more specific rule wins",
			[]specs.LinuxSyscall{rule(specs.ActAllow, "read", arg(0, ge, 10)), rule(specs.ActTrap, "read", arg(0, ge, 20)), rule(specs.ActLog, "read", arg(0, eq, 30))},
			[]probe{{[6]uint64{10}, allow}, {[6]uint64{20}, seccomp.Trap}, {[6]uint64{30}, seccomp.Log}, {[6]uint64{31}, seccomp.Trap}},
		},
		{
			"a rule that repeats the default is left out",
			[]specs.LinuxSyscall{rule(specs.ActErrno, "read"), rule(specs.ActAllow, "read", arg(0, eq, 1))},
			[]probe{{[6]uint64{1}, allow}, {[6]uint64{2}, deny}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			policy := rules(test.calls...)
			program := mustCompile(t, policy, seccomp.AMD64)
			for _, p := range test.probes {
				call := seccomp.Call{Number: 0, Audit: seccomp.AMD64.Audit(), Args: p.args}
				if got, _, err := program.Simulate(call); got != p.want || err != nil {
					t.Errorf("read(%#x): got %s, %v, want %s", p.args, got, err, p.want)
				}
			}
			compare(t, policy, seccomp.AMD64, 30)
			compare(t, policy, seccomp.ARM64, 70)
		})
	}
}

func TestActions(t *testing.T) {
	for _, test := range []struct {
		action specs.LinuxSeccompAction
		errno  *uint
		want   seccomp.Action
		text   string
	}{
		{specs.ActKill, nil, 0x00000000, "kill thread"},
		{specs.ActKillThread, nil, 0x00000000, "kill thread"},
		{specs.ActKillProcess, nil, 0x80000000, "kill process"},
		{specs.ActTrap, nil, 0x00030000, "trap"},
		{specs.ActErrno, nil, 0x00050001, "errno EPERM"},
		{specs.ActErrno, uintp(38), 0x00050026, "errno ENOSYS"},
		{specs.ActErrno, uintp(0), 0x00050000, "errno 0"},
		{specs.ActTrace, nil, 0x7ff00001, "trace 1"},
		{specs.ActTrace, uintp(65535), 0x7ff0ffff, "trace 65535"},
		{specs.ActLog, nil, 0x7ffc0000, "log"},
		{specs.ActAllow, nil, 0x7fff0000, "allow"},
		{specs.ActNotify, nil, 0x7fc00000, "notify"},
	} {
		policy := rules(specs.LinuxSyscall{Names: []string{"getpid"}, Action: test.action, ErrnoRet: test.errno})
		policy.DefaultErrnoRet = uintp(99)
		program := mustCompile(t, policy, seccomp.AMD64)
		got, _, err := program.Simulate(seccomp.Call{Number: 39, Audit: seccomp.AMD64.Audit()})
		if err != nil || got != test.want || got.String() != test.text {
			t.Errorf("%s: got %#x %q, %v; want %#x %q", test.action, uint32(got), got, err, uint32(test.want), test.text)
		}
		got, _, _ = program.Simulate(seccomp.Call{Number: 1, Audit: seccomp.AMD64.Audit()})
		if got != seccomp.Errno|99 {
			t.Errorf("default: got %s", got)
		}
	}
}

func TestNewerCallsGetENOSYS(t *testing.T) {
	for _, test := range []struct {
		def  specs.LinuxSeccompAction
		want seccomp.Action
	}{
		{specs.ActErrno, seccomp.Errno | 38},
		{specs.ActKill, seccomp.Errno | 38},
		{specs.ActTrap, seccomp.Errno | 38},
		{specs.ActAllow, seccomp.Allow},
		{specs.ActLog, seccomp.Log},
		{specs.ActTrace, seccomp.Trace | 1},
	} {
		policy := rules(rule(specs.ActNotify, "openat2"))
		policy.DefaultAction = test.def
		program := mustCompile(t, policy, seccomp.AMD64)
		for _, nr := range []uint32{438, 999, x32Bit + 438} {
			if got, _, _ := program.Simulate(seccomp.Call{Number: nr, Audit: seccomp.AMD64.Audit()}); got != test.want {
				t.Errorf("default %s, number %#x: got %s, want %s", test.def, nr, got, test.want)
			}
		}
	}
}

func TestFlags(t *testing.T) {
	const tsync = "SECCOMP_FILTER_FLAG_TSYNC"
	notify := rule(specs.ActNotify, "openat2")
	for _, test := range []struct {
		flags []specs.LinuxSeccompFlag
		calls []specs.LinuxSyscall
		want  seccomp.Flags
	}{
		{nil, nil, seccomp.FlagSpecAllow},
		{[]specs.LinuxSeccompFlag{}, nil, 0},
		{[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, tsync}, nil, seccomp.FlagLog | seccomp.FlagTSync},
		{nil, []specs.LinuxSyscall{notify}, seccomp.FlagSpecAllow | seccomp.FlagNewListener},
		{
			[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv, tsync, specs.LinuxSeccompFlagSpecAllow},
			[]specs.LinuxSyscall{notify},
			seccomp.FlagWaitKillableRecv | seccomp.FlagNewListener | seccomp.FlagTSync | seccomp.FlagTSyncESRCH | seccomp.FlagSpecAllow,
		},
	} {
		policy := rules(test.calls...)
		policy.Flags = test.flags
		if got := mustCompile(t, policy, seccomp.AMD64).Flags; got != test.want {
			t.Errorf("%q: got %#x, want %#x", test.flags, got, test.want)
		}
	}
}

func TestErrorsNameTheField(t *testing.T) {
	change := func(f func(*specs.LinuxSeccomp)) *specs.LinuxSeccomp {
		p := rules(rule(specs.ActAllow, "read", arg(0, specs.OpEqualTo, 1)), rule(specs.ActAllow, "write"))
		f(p)
		return p
	}
	for _, test := range []struct {
		want   string
		policy *specs.LinuxSeccomp
	}{
		{"no default action and no rules", nil},
		{"no default action and no rules", &specs.LinuxSeccomp{}},
		{"defaultAction: no action", change(func(p *specs.LinuxSeccomp) { p.DefaultAction = "" })},
		{`defaultAction: unknown action "SCMP_ACT_DENY"`, change(func(p *specs.LinuxSeccomp) { p.DefaultAction = "SCMP_ACT_DENY" })},
		{"defaultAction: SCMP_ACT_NOTIFY cannot be the default", change(func(p *specs.LinuxSeccomp) { p.DefaultAction = specs.ActNotify })},
		{"defaultAction: errnoRet 4096 is larger than 4095", change(func(p *specs.LinuxSeccomp) { p.DefaultErrnoRet = uintp(4096) })},
		{`architectures[1]: unknown architecture "amd64"`, change(func(p *specs.LinuxSeccomp) { p.Architectures[1] = "amd64" })},
		{`flags[0]: unknown flag "LOG"`, change(func(p *specs.LinuxSeccomp) { p.Flags = []specs.LinuxSeccompFlag{"LOG"} })},
		{"flags[0]: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with action SCMP_ACT_NOTIFY", change(func(p *specs.LinuxSeccomp) {
			p.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}
		})},
		{`syscalls[1].action: unknown action "allow"`, change(func(p *specs.LinuxSeccomp) { p.Syscalls[1].Action = "allow" })},
		{"syscalls[1].action: errnoRet 5 with SCMP_ACT_ALLOW, which returns none", change(func(p *specs.LinuxSeccomp) { p.Syscalls[1].ErrnoRet = uintp(5) })},
		{"syscalls[1].names: no system call named", change(func(p *specs.LinuxSeccomp) { p.Syscalls[1].Names = nil })},
		{"syscalls[1].names[1]: empty name", change(func(p *specs.LinuxSeccomp) { p.Syscalls[1].Names = []string{"read", ""} })},
		{`syscalls[0].args[0].op: unknown operator "=="`, change(func(p *specs.LinuxSeccomp) { p.Syscalls[0].Args[0].Op = "==" })},
		{"syscalls[0].args[0].index: 6, but the last argument of a system call has index 5", change(func(p *specs.LinuxSeccomp) { p.Syscalls[0].Args[0].Index = 6 })},
		{"syscalls[2].names[0]: read: same conditions as in syscalls[0], but trap instead of allow", change(func(p *specs.LinuxSeccomp) {
			p.Syscalls = append(p.Syscalls, rule(specs.ActTrap, "read", arg(0, specs.OpEqualTo, 1)))
		})},
		{"the filter has ", change(func(p *specs.LinuxSeccomp) {
			for i := range uint64(3000) {
				p.Syscalls = append(p.Syscalls, rule(specs.ActAllow, "read", arg(uint(i%6), specs.OpEqualTo, i*i<<20)))
			}
		})},
	} {
		_, err := seccomp.Compile(test.policy, seccomp.AMD64)
		if err == nil || !strings.HasPrefix(err.Error(), "seccomp policy: "+test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
	for _, a := range []seccomp.Arch{0, seccomp.X32, 77} {
		if _, err := seccomp.Compile(rules(), a); err == nil || !strings.Contains(err.Error(), "not the native architecture") {
			t.Errorf("%s: got %v", a, err)
		}
	}
}

// A long list of rules for one call makes jumps over 255 instructions, on
// every ABI.
func TestLongJumps(t *testing.T) {
	var calls []specs.LinuxSyscall
	for i := range uint64(150) {
		calls = append(calls,
			rule(specs.ActAllow, "read", arg(0, specs.OpEqualTo, i<<32|3*i)),
			rule(specs.ActTrap, "getpid", arg(uint(i%6), specs.OpMaskedEqual, 1<<(i%50)|1, 1), arg(uint((i+1)%6), specs.OpGreaterThan, i)))
		if i%3 == 0 {
			calls = append(calls, rule(specs.ActLog, "write", arg(1, specs.OpNotEqual, i<<16), arg(2, specs.OpLessThan, i)))
		}
	}
	policy := rules(calls...)
	program := mustCompile(t, policy, seccomp.AMD64)
	if len(program.Instructions) < 1000 {
		t.Errorf("only %d instructions: too few to test long jumps", len(program.Instructions))
	}
	n := newNaive(policy, seccomp.AMD64)
	for _, a := range family(seccomp.AMD64) {
		for _, name := range []string{"read", "write", "getpid", "close"} {
			nr, _ := a.Number(name)
			for v := range uint64(600) {
				call := seccomp.Call{Number: nr, Audit: a.Audit(), Args: [6]uint64{v/3<<32 | v, v << 16, v / 2, v * v, v ^ 5, 1}}
				got, _, err := program.Simulate(call)
				if want := n.verdict(call); err != nil || got != want {
					t.Fatalf("%s: got %s, %v, want %s", describe(call), got, err, want)
				}
			}
		}
	}
}

func TestPolicyWithoutRules(t *testing.T) {
	policy := rules()
	compare(t, policy, seccomp.AMD64, 20)
	policy.Architectures = nil
	compare(t, policy, seccomp.AMD64, 20)
	compare(t, policy, seccomp.ARM64, 20)
	compare(t, policy, seccomp.ARM, 20)
}

func TestAppendToIsAnArrayOfSockFilter(t *testing.T) {
	program := &seccomp.Program{Instructions: []seccomp.Instruction{{Code: 0x20, K: 4}, {Code: 0x15, JT: 1, JF: 2, K: 0xc000003e}}}
	got := program.AppendTo([]byte{0xee})
	want := "\xee\x20\x00\x00\x00\x04\x00\x00\x00\x15\x00\x01\x02\x3e\x00\x00\xc0"
	if string(got) != want || len(got) != 1+program.Size() {
		t.Errorf("got %x, want %x", got, want)
	}
}
