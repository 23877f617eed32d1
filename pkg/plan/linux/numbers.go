package linux

// Arch is an architecture that a plan can be lowered for, by Go's name.
type Arch string

// The architectures with an interpreter.
const (
	AMD64 Arch = "amd64"
	ARM64 Arch = "arm64"
)

// SyscallNumber is the number of the named call on the architecture
// (arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h).
func SyscallNumber(name string, arch Arch) (uint32, bool) {
	for i := range numbers {
		if n := &numbers[i]; n.name == name {
			switch arch {
			case AMD64:
				return n.amd64, true
			case ARM64:
				return n.generic, true
			}
		}
	}
	return 0, false
}

// SyscallName is the reverse of SyscallNumber; "" for a call that no plan makes.
func SyscallName(nr uint32, arch Arch) string {
	for i := range numbers {
		if n := &numbers[i]; arch == AMD64 && n.amd64 == nr || arch == ARM64 && n.generic == nr {
			return n.name
		}
	}
	return ""
}

// ForArch translates open flags from amd64's numbers to the architecture's:
// O_DIRECTORY and O_NOFOLLOW differ on arm64 (arch/arm64/include/uapi/asm/fcntl.h).
func (f OpenFlags) ForArch(arch Arch) OpenFlags {
	if arch != ARM64 {
		return f
	}
	out := f &^ (ODirectory | ONofollow)
	if f&ODirectory != 0 {
		out |= 0x4000
	}
	if f&ONofollow != 0 {
		out |= 0x8000
	}
	return out
}

// The table is sorted by how often plans use a call.
var numbers = [...]struct {
	name           string
	amd64, generic uint32
}{
	{"prctl", 157, 167},
	{"mount", 165, 40},
	{"openat2", 437, 437},
	{"move_mount", 429, 429},
	{"fsconfig", 431, 431},
	{"mknodat", 259, 33},
	{"symlinkat", 266, 36},
	{"fsopen", 430, 430},
	{"fsmount", 432, 432},
	{"write", 1, 64},
	{"close", 3, 57},
	{"fchdir", 81, 50},
	{"open_tree", 428, 428},
	{"mount_setattr", 442, 442},
	{"umount2", 166, 39},
	{"pivot_root", 155, 41},
	{"chroot", 161, 51},
	{"openat", 257, 56},
	{"close_range", 436, 436},
	{"dup3", 292, 24},
	{"fcntl", 72, 25},
	{"mkdirat", 258, 34},
	{"renameat2", 316, 276},
	{"fchownat", 260, 54},
	{"fchmod", 91, 52},
	{"read", 0, 63},
	{"chdir", 80, 49},
	{"getcwd", 79, 17},
	{"ioctl", 16, 29},
	{"sendmsg", 46, 211},
	{"clone3", 435, 435},
	{"setns", 308, 268},
	{"unshare", 272, 97},
	{"setsid", 112, 157},
	{"umask", 95, 166},
	{"sethostname", 170, 161},
	{"setdomainname", 171, 162},
	{"personality", 135, 92},
	{"execve", 59, 221},
	{"execveat", 322, 281},
	{"wait4", 61, 260},
	{"ptrace", 101, 117},
	{"ppoll", 271, 73},
	{"exit_group", 231, 94},
	{"rt_sigprocmask", 14, 135},
	{"capset", 126, 91},
	{"setgroups", 116, 159},
	{"setresuid", 117, 147},
	{"setresgid", 119, 149},
	{"prlimit64", 302, 261},
	{"keyctl", 250, 219},
	{"seccomp", 317, 277},
	{"ioprio_set", 251, 30},
	{"mmap", 9, 222},
	{"rt_sigaction", 13, 134},
	{"faccessat", 269, 48},
	{"socket", 41, 198},
	{"waitid", 247, 95},
	{"eventfd2", 290, 19},
	{"sched_setattr", 314, 274},
	{"sched_setaffinity", 203, 122},
	{"set_mempolicy", 238, 237},
	{"fspick", 433, 433},
	{"fsetxattr", 190, 7},
	{"landlock_create_ruleset", 444, 444},
	{"landlock_add_rule", 445, 445},
	{"landlock_restrict_self", 446, 446},
}
