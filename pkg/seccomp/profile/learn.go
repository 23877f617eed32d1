package profile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/seccomp"
)

// A profile is learned in three steps. Watched makes of a policy one that leaves every call which
// it allows to a listener, which notes it and has it made. A program runs under that, and is as
// confined as under the policy. Learned then leaves out what was not called: what it returns
// allows no more than the policy does, conditions on arguments included.

// Seen is a system call that was made: its number, and the ABI that it belongs to.
type Seen struct {
	Arch   seccomp.Arch
	Number uint32
}

// ErrNothingToLearn means that a policy allows what it does not name, so that what it names says
// nothing of what a program needs.
var ErrNothingToLearn = errors.New("it allows what it does not name")

// told is the call that a listener cannot be asked about: with it the process tells where the listener is.
const told = "write"

// permits reports whether an action has the call made.
func permits(a specs.LinuxSeccompAction) bool {
	return a == specs.ActAllow || a == specs.ActLog || a == specs.ActTrace
}

// Watched returns the policy that leaves the calls which p allows to the listener at a socket, but
// for write. killable says that the kernel can keep signals from disturbing the talk (Linux 5.19).
func Watched(p *specs.LinuxSeccomp, socket string, killable bool) (*specs.LinuxSeccomp, error) {
	if p.DefaultAction == "" || permits(p.DefaultAction) {
		return nil, fmt.Errorf("seccomp profile: %w", ErrNothingToLearn)
	}
	w := &specs.LinuxSeccomp{DefaultAction: p.DefaultAction, DefaultErrnoRet: p.DefaultErrnoRet, Architectures: p.Architectures, ListenerPath: socket}
	if killable {
		w.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}
	}
	for i, rule := range p.Syscalls {
		switch {
		case rule.Action == specs.ActNotify:
			return nil, fmt.Errorf("seccomp profile: syscalls[%d]: its calls are left to an agent already", i)
		case !permits(rule.Action):
			w.Syscalls = append(w.Syscalls, rule)
			continue
		}
		asked := slices.DeleteFunc(slices.Clone(rule.Names), func(name string) bool { return name == told })
		if len(asked) < len(rule.Names) {
			w.Syscalls = append(w.Syscalls, specs.LinuxSyscall{Names: []string{told}, Action: specs.ActAllow, Args: rule.Args})
		}
		if len(asked) > 0 {
			w.Syscalls = append(w.Syscalls, specs.LinuxSyscall{Names: asked, Action: specs.ActNotify, Args: rule.Args})
		}
	}
	return w, nil
}

// needed are calls that containr makes under a filter before it executes the program, those of the
// C library's beginning and end that may happen once in a thousand runs, and write.
var needed = []string{
	"capget", "capset", "close", "close_range", "execve", "exit", "exit_group", "faccessat", "faccessat2", "fcntl", "fstat", "futex", "getpid", "getppid", "openat", "prctl", "read",
	"restart_syscall", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_yield", "setgid", "setgid32", "setgroups", "setgroups32", "setresgid", "setresgid32", "setresuid", "setresuid32",
	"setuid", "setuid32", "sigreturn", "write",
}

// sooner are calls, and what a program that makes them makes sooner or later, but not in each run: an epoll is waited for
// when there is nothing else to do, and threads are waited for, woken, and in Go interrupted, when the machine is busy.
var sooner = []struct{ made, later []string }{
	{[]string{"epoll_create", "epoll_create1"}, []string{"epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait"}},
	{[]string{"clone", "clone3"}, []string{"clock_nanosleep", "gettid", "madvise", "munmap", "nanosleep", "tgkill"}},
}

// Learned returns what is left of p, a policy that refuses what it does not name, if of the calls
// that it allows only those stay that were seen, those that come with them sooner or later, and those that a container cannot begin without.
// The same calls give the same policy, in whichever order they were seen. native is the kernel's ABI;
// of its others those stay from which there were calls.
func Learned(p *specs.LinuxSeccomp, native seccomp.Arch, seen []Seen) *specs.LinuxSeccomp {
	l := &specs.LinuxSeccomp{DefaultAction: p.DefaultAction, DefaultErrnoRet: p.DefaultErrnoRet, Flags: p.Flags, Architectures: []specs.Arch{native.OCI()}}
	for _, a := range p.Architectures {
		used := slices.ContainsFunc(seen, func(s Seen) bool { return s.Arch.OCI() == a })
		if used && !slices.Contains(l.Architectures, a) {
			l.Architectures = append(l.Architectures, a)
		}
	}
	made := func(name string) bool {
		return slices.ContainsFunc(seen, func(s Seen) bool {
			number, ok := s.Arch.Number(name)
			return ok && number == s.Number
		})
	}
	called := func(name string) bool {
		if slices.Contains(needed, name) || made(name) {
			return true
		}
		for _, s := range sooner {
			if slices.Contains(s.later, name) && slices.ContainsFunc(s.made, made) {
				return true
			}
		}
		return false
	}
	for _, rule := range p.Syscalls {
		rule.Names = slices.Clone(rule.Names)
		if permits(rule.Action) {
			rule.Names = slices.DeleteFunc(rule.Names, func(name string) bool { return !called(name) || !known(l.Architectures, name) })
		}
		if len(rule.Names) == 0 {
			continue
		}
		slices.Sort(rule.Names)
		rule.Names = slices.Compact(rule.Names)
		l.Syscalls = append(l.Syscalls, rule)
	}
	// The long list first, then what has conditions, by name; the policy's own order of rules for one call stays.
	slices.SortStableFunc(l.Syscalls, func(a, b specs.LinuxSyscall) int {
		return cmp.Or(cmp.Compare(min(1, len(a.Args)), min(1, len(b.Args))), cmp.Compare(len(b.Names), len(a.Names)), strings.Compare(a.Names[0], b.Names[0]))
	})
	return l
}

// known reports whether one of the ABIs has the call.
func known(arches []specs.Arch, name string) bool {
	return slices.ContainsFunc(abis, func(a seccomp.Arch) bool {
		_, ok := a.Number(name)
		return ok && slices.Contains(arches, a.OCI())
	})
}

var abis = []seccomp.Arch{seccomp.AMD64, seccomp.X32, seccomp.I386, seccomp.ARM64, seccomp.ARM}

// seenOf is the call that the kernel shows a listener: x32 has amd64's audit architecture, and a bit in its numbers.
func seenOf(audit uint32, number int32) (Seen, bool) {
	const x32Bit = 1 << 30
	for _, a := range abis {
		if a.Audit() == audit && (a != seccomp.AMD64 || number&x32Bit == 0) {
			return Seen{a, uint32(number)}, true
		}
	}
	return Seen{}, false
}
