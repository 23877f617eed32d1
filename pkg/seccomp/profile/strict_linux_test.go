package profile_test

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/seccomp"
	"github.com/containr/containr/pkg/seccomp/profile"
)

// natives are the ABIs that a kernel of ours can have.
var natives = []seccomp.Arch{seccomp.AMD64, seccomp.ARM64, seccomp.I386, seccomp.ARM}

func compile(t *testing.T, p *specs.LinuxSeccomp, a seccomp.Arch) *seccomp.Program {
	t.Helper()
	program, err := seccomp.Compile(p, a)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func verdict(t *testing.T, p *seccomp.Program, a seccomp.Arch, number uint32, args ...uint64) string {
	t.Helper()
	call := seccomp.Call{Number: number, Audit: a.Audit()}
	copy(call.Args[:], args)
	action, _, err := p.Simulate(call)
	if err != nil {
		t.Fatal(err)
	}
	return action.String()
}

// The words of a verdict, as Action.String has them.
const allowed = "allow"

// firsts, seconds and thirds are arguments that some rule looks at.
var (
	firsts  = []uint64{0, 1, 2, 8, 10, 16, 17, 38, 40, 0x20008, 0xffffffff, unix.CLONE_NEWUSER, uint64(unix.SIGCHLD), ^uint64(0)}
	seconds = []uint64{0, 1, 2, 3, 10, 0x5412, 0x541c, 0x1_0000_5412, unix.S_IFCHR, unix.S_IFIFO}
	thirds  = []uint64{0, 1, 6, 132, unix.S_IFCHR}
)

// Whatever strict allows, the default allows, on every architecture and whatever the capabilities.
func TestStrictAllowsNothingThatTheDefaultRefuses(t *testing.T) {
	for _, a := range natives {
		strict := compile(t, profile.Strict(profile.Target{Arch: a, Caps: []string{"CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_BPF"}}), a)
		base := compile(t, profile.Default(profile.Target{Arch: a}), a)
		for number := range uint32(500) {
			for _, x := range firsts {
				for _, y := range seconds {
					for _, z := range thirds {
						args := []uint64{x, y, z}
						if verdict(t, strict, a, number, args...) == allowed && verdict(t, base, a, number, args...) != allowed {
							name, _ := a.Name(number)
							t.Fatalf("%s: %s%x is allowed by strict alone", a, name, args)
						}
					}
				}
			}
		}
	}
}

// What its documentation says that it refuses, and what it has to allow.
func TestStrict(t *testing.T) {
	const admin = "CAP_SYS_ADMIN"
	a := seccomp.AMD64
	caps := []string{admin, "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_BPF", "CAP_PERFMON", "CAP_SYS_TIME", "CAP_SYS_MODULE", "CAP_DAC_READ_SEARCH"}
	strict := compile(t, profile.Strict(profile.Target{Arch: a, Caps: caps}), a)
	for _, test := range []struct {
		call string
		args []uint64
		want string
	}{
		{"unshare", []uint64{unix.CLONE_NEWUSER}, "errno EPERM"},
		{"setns", nil, "errno EPERM"},
		{"clone", []uint64{unix.CLONE_NEWUSER}, "errno EPERM"},
		{"clone3", nil, "errno ENOSYS"},
		{"mount", nil, "errno EPERM"},
		{"fsopen", nil, "errno EPERM"},
		{"bpf", nil, "errno EPERM"},
		{"perf_event_open", nil, "errno EPERM"},
		{"ptrace", nil, "errno EPERM"},
		{"process_vm_writev", nil, "errno EPERM"},
		{"pidfd_getfd", nil, "errno EPERM"},
		{"chroot", nil, "errno EPERM"},
		{"open_by_handle_at", nil, "errno EPERM"},
		{"name_to_handle_at", nil, "errno EPERM"},
		{"vmsplice", nil, "errno EPERM"},
		{"modify_ldt", nil, "errno EPERM"},
		{"clock_adjtime", nil, "errno EPERM"},
		{"io_setup", nil, "errno ENOSYS"},
		{"personality", []uint64{8}, "errno EPERM"},
		{"ioctl", []uint64{0, 0x5412}, "errno 5"},
		{"ioctl", []uint64{0, 0xdead_0000_5412}, "errno 5"}, // the kernel looks at the low half
		{"ioctl", []uint64{0, 0x541c}, "errno 5"},
		{"mknodat", []uint64{0, 0, unix.S_IFCHR | 0o600}, "errno EPERM"},
		{"mknod", []uint64{0, unix.S_IFBLK | 0o600}, "errno EPERM"},
		{"socket", []uint64{unix.AF_PACKET, unix.SOCK_RAW, 0}, "errno EPERM"},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_PACKET, 0}, "errno EPERM"},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW}, "errno EPERM"},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, "errno EPERM"},
		{"socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, "errno EPERM"},
		{"socket", []uint64{unix.AF_BLUETOOTH, unix.SOCK_RAW, 0}, "errno EPERM"},
	} {
		number, ok := a.Number(test.call)
		if !ok {
			t.Fatalf("there is no call %s", test.call)
		}
		if got := verdict(t, strict, a, number, test.args...); got != test.want {
			t.Errorf("%s%x: %s, want %s", test.call, test.args, got, test.want)
		}
	}
	for _, test := range []struct {
		call string
		args []uint64
	}{
		{"execve", nil}, {"openat", nil}, {"futex", nil}, {"clone", []uint64{uint64(unix.SIGCHLD)}}, {"pidfd_open", nil}, {"memfd_create", nil}, {"seccomp", nil},
		{"ioctl", []uint64{0, unix.TCGETS}}, {"personality", []uint64{0xffffffff}}, {"personality", []uint64{0}},
		{"mknodat", []uint64{0, 0, unix.S_IFIFO | 0o600}}, {"mknod", []uint64{0, 0o644}},
		{"socket", []uint64{unix.AF_UNIX, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, 0}},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK, unix.IPPROTO_TCP}},
		{"socket", []uint64{unix.AF_INET6, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC, 0}},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}},
		{"socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW | unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE}},
	} {
		number, _ := a.Number(test.call)
		if got := verdict(t, strict, a, number, test.args...); got != allowed {
			t.Errorf("%s%x: %s", test.call, test.args, got)
		}
	}
}

// A kernel's other ABIs are closed: their programs do not get past their first call.
func TestStrictHasOneABI(t *testing.T) {
	for native, others := range map[seccomp.Arch][]seccomp.Arch{seccomp.AMD64: {seccomp.I386, seccomp.X32}, seccomp.ARM64: {seccomp.ARM}} {
		strict := compile(t, profile.Strict(profile.Target{Arch: native}), native)
		base := compile(t, profile.Default(profile.Target{Arch: native}), native)
		for _, other := range others {
			number, _ := other.Number("read")
			if got := verdict(t, strict, other, number); got != "kill thread" {
				t.Errorf("%s on %s: %s", other, native, got)
			}
			if got := verdict(t, base, other, number); got != allowed {
				t.Errorf("%s on %s by default: %s", other, native, got)
			}
		}
	}
}

// Every name is one that the default allows somewhere: a misspelt one would refuse nothing.
func TestStrictNamesAreCalls(t *testing.T) {
	for _, name := range profile.StrictRefused {
		if !slices.ContainsFunc(natives, func(a seccomp.Arch) bool { return len(rulesFor(profile.Default(profile.Target{Arch: a}), name)) > 0 }) {
			t.Errorf("the default does not allow %s", name)
		}
	}
	for _, a := range natives {
		program := compile(t, profile.Strict(profile.Target{Arch: a}), a)
		if def := compile(t, profile.Default(profile.Target{Arch: a}), a); fmt.Sprint(program.Unknown) != fmt.Sprint(def.Unknown) {
			t.Errorf("%s: %v, by default %v", a, program.Unknown, def.Unknown)
		}
	}
}
