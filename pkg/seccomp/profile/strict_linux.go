package profile

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Strict returns a policy for containers that run code which nobody vouches for: the default
// one without what everyday programs do not ask for, and attacks on kernels do. It allows
// nothing that the default refuses. The caller owns it.
//
// What it takes away, beyond the default:
//
//   - what capabilities would give back: with them or without, there are no new namespaces, no
//     mounts, no bpf, no perf events, no modules, no clocks, no chroot
//   - looking into and steering other processes: ptrace, process_vm_readv and the like
//   - calls that are old, rare, or have been a way in: see strictRefused
//   - sockets but those of Unix, of TCP, UDP and ping, and of netlink for routes
//   - nodes for devices
//   - input put into a terminal (TIOCSTI), execution domains
//   - calls of the kernel's other ABIs: on amd64 those of 32-bit x86 and of x32
//
// Capabilities change nothing: t.Caps is not looked at.
func Strict(t Target) *specs.LinuxSeccomp {
	t.Caps = nil
	p := Default(t)
	p.Architectures = nil
	if a, ok := t.arch(); ok {
		p.Architectures = []specs.Arch{a.OCI()}
	}
	kept := p.Syscalls[:0]
	for _, rule := range p.Syscalls {
		rule.Names = slices.DeleteFunc(slices.Clone(rule.Names), func(name string) bool {
			return slices.Contains(strictRefused, name) || slices.Contains(strictConditional, name)
		})
		if len(rule.Names) > 0 {
			kept = append(kept, rule)
		}
	}
	p.Syscalls = slices.Concat(kept, strictSockets(), strictNodes(), strictTerminals(), []specs.LinuxSyscall{
		allowIf([]string{"personality"}, specs.LinuxSeccompArg{Op: specs.OpEqualTo}),
		allowIf([]string{"personality"}, specs.LinuxSeccompArg{Value: 0xffffffff, Op: specs.OpEqualTo}), // what is it?
		{Names: strictAbsent, Action: specs.ActErrno, ErrnoRet: errno(unix.ENOSYS)},
	})
	return p
}

// strictRefused are calls that the default allows, whatever the capabilities. Those that it ties to some
// are gone with t.Caps.
var strictRefused = []string{
	// Other processes' memory and descriptors, and programs that are traced.
	"process_mrelease", "process_vm_readv", "process_vm_writev", "ptrace",
	// Ways around paths.
	"fanotify_mark", "name_to_handle_at",
	// Memory that has been a way to other people's pages, or that the kernel itself cannot see.
	"memfd_secret", "remap_file_pages", "vmsplice",
	// Tables of the processor's.
	"modify_ldt",
	// What only programs that keep time ask for, and what is in no kernel any more.
	"adjtimex", "clock_adjtime", "clock_adjtime64", "epoll_ctl_old", "epoll_wait_old",
	// Many calls in one, which a filter cannot look into.
	"socketcall",
	// What is in the page cache.
	"cachestat",
}

// strictAbsent are calls that programs can do without if they are told that there are none: the
// kernel's asynchronous input and output.
var strictAbsent = []string{
	"io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup", "io_submit",
}

// strictConditional are calls that Strict has rules of its own for.
var strictConditional = append([]string{"ioctl", "mknod", "mknodat", "personality", "socket"}, strictAbsent...)

// strictSockets allow what programs that serve or ask in networks use. The type is in the low
// four bits of the second argument, the others are flags (SOCK_TYPE_MASK of linux/net.h); type
// 10 would be a packet socket, whatever the family.
func strictSockets() []specs.LinuxSyscall {
	const typeMask = 0xf
	names := []string{"socket"}
	family := func(f uint64) specs.LinuxSeccompArg { return specs.LinuxSeccompArg{Value: f, Op: specs.OpEqualTo} }
	kind := func(k uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: 1, Value: typeMask, ValueTwo: k, Op: specs.OpMaskedEqual}
	}
	protocol := func(p uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: 2, Value: p, Op: specs.OpEqualTo}
	}
	rules := []specs.LinuxSyscall{
		allowIf(names, family(unix.AF_UNIX)),
		allowIf(names, family(unix.AF_NETLINK), protocol(unix.NETLINK_ROUTE)), // getaddrinfo(3) asks for addresses
	}
	for _, f := range []uint64{unix.AF_INET, unix.AF_INET6} {
		for _, p := range []uint64{unix.IPPROTO_IP, unix.IPPROTO_TCP, unix.IPPROTO_MPTCP} {
			rules = append(rules, allowIf(names, family(f), kind(unix.SOCK_STREAM), protocol(p)))
		}
		for _, p := range []uint64{unix.IPPROTO_IP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6} {
			rules = append(rules, allowIf(names, family(f), kind(unix.SOCK_DGRAM), protocol(p)))
		}
		for _, p := range []uint64{unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6} {
			rules = append(rules, allowIf(names, family(f), kind(unix.SOCK_RAW), protocol(p))) // ping(8)
		}
	}
	return rules
}

// strictNodes allow fifos, sockets and regular files to be made with mknod, as mkfifo(3) does. The
// mode is the second argument of mknod, the third of mknodat.
func strictNodes() []specs.LinuxSyscall {
	var rules []specs.LinuxSyscall
	for _, node := range []uint64{0, unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK} {
		for i, name := range []string{"mknod", "mknodat"} {
			rules = append(rules, allowIf([]string{name}, specs.LinuxSeccompArg{Index: uint(i + 1), Value: unix.S_IFMT, ValueTwo: node, Op: specs.OpMaskedEqual}))
		}
	}
	return rules
}

// strictTerminals refuse TIOCSTI with the error that kernels give which do not have it
// (dev.tty.legacy_tiocsti, Linux 6.2). The kernel looks at the low 32 bits of the request alone
// (CVE-2019-10063), and so does the rule.
func strictTerminals() []specs.LinuxSyscall {
	const low = 0xffffffff
	refuse := func(request uint64) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: []string{"ioctl"}, Action: specs.ActErrno, ErrnoRet: errno(unix.EIO),
			Args: []specs.LinuxSeccompArg{{Index: 1, Value: low, ValueTwo: request, Op: specs.OpMaskedEqual}}}
	}
	return []specs.LinuxSyscall{refuse(unix.TIOCSTI), refuse(tiocLinux),
		allowIf([]string{"ioctl"}, specs.LinuxSeccompArg{Index: 1, Op: specs.OpGreaterEqual})} // any other
}

// tiocLinux is TIOCLINUX, ioctl_tty(2): it pastes what is selected on a console.
const tiocLinux = 0x541c

func allowIf(names []string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: names, Action: specs.ActAllow, Args: args}
}

func errno(e unix.Errno) *uint {
	n := uint(e)
	return &n
}
