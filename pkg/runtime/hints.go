package runtime

import (
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// damagedLayer is about layers that are EROFS images: CRC and structure are the kernel's to check.
const damagedLayer = "a layer is damaged: `containr system check` says which, and with --repair removes it, to be unpacked again from its image"

// hints say what to do when a call fails with an errno. The fourth column, a part
// of the step's reason, tells apart uses of the same call. The first column is the
// code of the error, which stays as it is whatever happens to the others: a new hint
// gets the next number, wherever it stands.
var hints = [...]struct {
	code  string
	call  string
	errno plan.Errno
	why   string
	text  string
}{
	{"CTR-5001", "execve", plan.ENOENT, "", "the file is there, so what is missing is the program that runs it: the interpreter after #! in its first line, or the dynamic loader that it was linked for"},
	{"CTR-5002", "execve", plan.ENOEXEC, "", "the file is no program for this machine: built for another architecture, or a script without #! in its first line"},
	{"CTR-5003", "execve", plan.EACCES, "", "the file is not executable, or its file system is mounted noexec: chmod +x"},
	{"CTR-5004", "execve", plan.EPERM, "", "a seccomp filter or a security module forbids this program"},
	{"CTR-5005", "execve", plan.E2BIG, "", "arguments and environment together are longer than the kernel takes"},
	{"CTR-5006", "faccessat", plan.ENOENT, "", "check the spelling; the path is looked up inside the container"},
	{"CTR-5007", "faccessat", plan.EACCES, "", "the file is not executable by the container's user: chmod +x, or choose another user with -u"},
	{"CTR-5008", "faccessat", plan.ENOTDIR, "", "a part of the path is a file, not a directory"},
	{"CTR-5009", "clone3", plan.EPERM, "", "making these namespaces needs root, or unprivileged user namespaces: see /proc/sys/user/max_user_namespaces and kernel.unprivileged_userns_clone"},
	{"CTR-5010", "clone3", plan.ENOSPC, "", "a limit below /proc/sys/user is reached: max_user_namespaces, max_net_namespaces or another"},
	{"CTR-5011", "clone3", plan.EUSERS, "", "a limit below /proc/sys/user is reached, or user namespaces are nested too deeply"},
	{"CTR-5012", "clone3", plan.EAGAIN, "", "the number of processes is limited: ulimit -u, or the pids limit of a control group above"},
	{"CTR-5013", "clone3", plan.EINVAL, "", "the kernel lacks one of these namespaces"},
	{"CTR-5014", "mkdir", plan.EACCES, "", "control groups need root, or a subtree delegated to this user"},
	{"CTR-5015", "mkdir", plan.EROFS, "", "the control group file system is mounted read-only here"},
	{"CTR-5016", "mount", plan.EPERM, "", "mounting needs root, or a user namespace with a mount namespace of its own"},
	{"CTR-5017", "mount", plan.EINVAL, "layers", "the kernel refused the overlay: the state root may itself be on an overlay; put it on another file system with --root"},
	{"CTR-5018", "mount", plan.EACCES, "layers", "the container's users do not get to the layers: let others search every directory on the way to the state root (chmod o+x)"},
	{"CTR-5019", "mount", plan.ENODEV, "", "this kernel does not have that file system"},
	{"CTR-5020", "fsopen", plan.ENODEV, "", "this kernel does not have that file system"},
	{"CTR-5021", "fsopen", plan.EPERM, "", "mounting needs root, or a user namespace with a mount namespace of its own"},
	{"CTR-5085", "mount", plan.EBADMSG, "a layer that is one file", damagedLayer},
	{"CTR-5086", "mount", plan.EUCLEAN, "a layer that is one file", damagedLayer},
	{"CTR-5087", "mount", plan.EINVAL, "a layer that is one file", damagedLayer},
	{"CTR-5088", "mount", plan.ENOENT, "a layer that is one file", damagedLayer},
	{"CTR-5089", "fsconfig", plan.EBADMSG, "a layer that is one file", damagedLayer},
	{"CTR-5090", "fsconfig", plan.EUCLEAN, "a layer that is one file", damagedLayer},
	{"CTR-5091", "fsconfig", plan.EINVAL, "a layer that is one file", damagedLayer},
	{"CTR-5092", "fsconfig", plan.ENOENT, "a layer that is one file", damagedLayer},
	{"CTR-5093", "openat2", plan.EUCLEAN, "", damagedLayer},
	{"CTR-5022", "fsconfig", plan.EINVAL, "", "the file system does not know this option or its value"},
	{"CTR-5023", "prlimit64", plan.EPERM, "", "the hard limit is above that of the calling user, and raising it needs CAP_SYS_RESOURCE"},
	{"CTR-5024", "write", plan.EACCES, "whom the kernel kills first", "a score below the caller's needs CAP_SYS_RESOURCE"},
	{"CTR-5025", "write", plan.ENOENT, "AppArmor profile", "no profile of this name is loaded: apparmor_parser --replace FILE loads one, aa-status lists them"},
	{"CTR-5026", "write", plan.EACCES, "AppArmor profile", "the profile that containr itself runs under does not let it change to this one"},
	{"CTR-5027", "write", plan.EPERM, "AppArmor profile", "the profile that containr itself runs under does not let it change to this one"},
	{"CTR-5028", "write", plan.EINVAL, "SELinux label", "the loaded policy does not know this label: a user, role, type or level in it"},
	{"CTR-5029", "write", plan.EACCES, "SELinux label", "the policy does not let containr's own domain choose labels of programs"},
	{"CTR-5030", "capset", plan.EPERM, "", "a capability is asked for that containr itself does not have here"},
	{"CTR-5031", "seccomp", plan.EINVAL, "", "the kernel does not know one of the filter's flags or actions"},
	{"CTR-5032", "move_link", plan.EEXIST, "", "the container has a network device of that name already; a name that ends in %d gets a free number"},
	{"CTR-5033", "move_link", plan.EPERM, "", "moving a network device needs CAP_NET_ADMIN on both sides"},
	{"CTR-5034", "move_link", plan.EINVAL, "", "this network device cannot leave its namespace: lo, and some virtual ones"},
	{"CTR-5035", "send_listener", plan.ENOENT, "", "the agent that decides on system calls does not listen there: start it before the container"},
	{"CTR-5036", "send_listener", plan.ECONNREFUSED, "", "the agent that decides on system calls does not listen there any more: start it before the container"},
	{"CTR-5037", "send_listener", plan.EPERM, "", "taking the listener out of the process needs CAP_SYS_PTRACE"},
	{"CTR-5038", "fchdir", plan.EACCES, "", "the container's user may not enter the working directory"},
	{"CTR-5039", "setgroups", plan.EPERM, "", "in a user namespace with a single mapped group, groups cannot be set"},
	{"CTR-5040", "setresuid", plan.EINVAL, "", "this user id is not mapped in the container's user namespace, for which run has --uidmap: /proc/self/uid_map in it lists those that are"},
	{"CTR-5041", "setresgid", plan.EINVAL, "", "this group id is not mapped in the container's user namespace, for which run has --gidmap: /proc/self/gid_map in it lists those that are"},
	{"CTR-5042", "mkdirat", plan.EROFS, "working directory", "the root file system is read-only, so the image has to have the working directory: choose another one with -w, or mount something there"},
	{"CTR-5043", "mkdirat", plan.EROFS, "not in the image", "the root file system is read-only, so the image has to have this directory: or mount something there"},
	{"CTR-5044", "move_mount", plan.ENOTDIR, "", "a file cannot be mounted over a directory, nor a directory over a file"},
	{"CTR-5045", "move_mount", plan.EINVAL, "at /", "a file cannot be mounted over a directory, nor a directory over a file"},
	{"CTR-5046", "openat", plan.ENOTDIR, "", "the root file system must be a directory"},
	{"CTR-5047", "write", plan.ERANGE, "ahead of the host's", "no clock can show less than 0 or more than 146 years: the offset is too large, or takes away more than the host has been up"},
	{"CTR-5094", "landlock_create_ruleset", plan.ENOSYS, "", "this kernel has no Landlock (Linux 6.2, CONFIG_SECURITY_LANDLOCK): leave out --security-opt landlock, or use --read-only and volumes"},
	{"CTR-5095", "landlock_create_ruleset", plan.EOPNOTSUP, "", "Landlock is not among the security modules that the kernel was booted with: see containr doctor"},
	{"CTR-5096", "landlock_create_ruleset", plan.EINVAL, "", "this kernel's Landlock does not know all rights to write: it takes Linux 6.2"},
	{"CTR-5097", "openat2", plan.ENOENT, "below this directory", "the image has no such directory: make it first, or leave it out of --security-opt landlock"},
	{"CTR-5098", "openat2", plan.ELOOP, "below this directory", "a link leads there: name the directory that it leads to, so that no link of the image decides"},
	{"CTR-5099", "openat2", plan.ENOTDIR, "below this directory", "--security-opt landlock takes directories"},
	{"CTR-5048", "openat2", plan.ENOENT, "not in the image", "a symbolic link in the image, on the way to there, leads to nothing"},
	{"CTR-5049", "mount_setattr", plan.EINVAL, "who its files belong to", "the file system of this path cannot be id-mapped: ext4, xfs and btrfs can on most kernels, tmpfs since Linux 6.3, overlay and kernel file systems cannot"},
	{"CTR-5050", "mount_setattr", plan.EPERM, "who its files belong to", "the path lies on a mount that is id-mapped already, or on a file system of another user namespace"},
	{"CTR-5051", "openat2", plan.ENOENT, "a kernel parameter", "the kernel has no such parameter: check its name in sysctl -a"},
	{"CTR-5052", "openat2", plan.EACCES, "a kernel parameter", "this parameter cannot be written"},
	{"CTR-5053", "openat2", plan.ELOOP, "working directory", "links of /proc, which lead to other places than their names say, are not followed on the way to a working directory"},
	{"CTR-5054", "openat2", plan.ENOTDIR, "working directory", "a part of the path is a file, not a directory"},
	{"CTR-5055", "openat2", plan.ELOOP, "where /proc is", "the image has a symbolic link in the place of /proc, so that it would not be where programs look for it"},
	{"CTR-5056", "openat2", plan.ELOOP, "where /sys is", "the image has a symbolic link in the place of /sys, so that it would not be where programs look for it"},
	{"CTR-5072", "renameat2", plan.EBUSY, "no link has led", "a symbolic link on the way, in the image or in a volume, leads to where the kernel shows itself, which programs trust: choose another place for the mount, or name the place itself"},
	{"CTR-5073", "openat2", plan.ELOOP, "the file itself", "the image has a symbolic link in the place of the file, which leads to nothing or into another mount: name the place that it is to be at"},
	{"CTR-5074", "fchownat", plan.EINVAL, "whose it is", "this user or group id is not mapped in the container's user namespace: leave out uid and gid of --secret, or map more ids"},
	{"CTR-5057", "openat2", plan.ELOOP, "", "too many symbolic links on the way, or one that must not be followed"},
	{"CTR-5058", "echo", plan.EBUSY, "hand controllers", "a control group above has processes of its own; on version 2 only leaves may have them: choose another cgroupsPath, or move the processes into a group below"},
	{"CTR-5059", "echo", plan.ENOENT, "hand controllers", "the group above does not have this controller to hand down: see its cgroup.controllers"},
	{"CTR-5060", "clone3", plan.EBUSY, "", "the control group has groups below it that it hands controllers to; on version 2 only leaves may have processes: choose another cgroupsPath"},
	{"CTR-5061", "clone3", plan.EOPNOTSUP, "", "the control group is threaded, or below one that is, and takes no whole processes: see its cgroup.type"},
	{"CTR-5062", "attach", plan.EBUSY, "", "the control group has groups below it that it hands controllers to; on version 2 only leaves may have processes"},
	{"CTR-5063", "echo", plan.ENOENT, "limit memory", "the kernel does not count swap: boot with swapaccount=1, or leave out --memory-swap"},
	{"CTR-5064", "echo", plan.ERANGE, "pin to CPUs", "this machine has no CPU, or no memory node, of that number"},
	{"CTR-5065", "echo", plan.EBUSY, "", "a control group in use refuses the new limit"},
	{"CTR-5066", "echo", plan.EINVAL, "", "the kernel refuses this value"},
	{"CTR-5075", "echo", plan.EOPNOTSUP, "share of block devices", "this disk has no scheduler that knows weights, and virtual disks often have none at all: cat /sys/block/DISK/queue/scheduler lists them, echo bfq > the same file chooses the one that does; or bound it with --device-read-bps and its like"},
	{"CTR-5067", "attach", plan.ENOSPC, "", "the cpuset of this control group has no CPUs or memory nodes"},
	{"CTR-5069", "add_sub_link", plan.EOPNOTSUP, "", "this kernel has no devices of that kind: load the module macvlan or ipvlan, or use a network of the driver bridge"},
	{"CTR-5070", "add_vlan", plan.EOPNOTSUP, "", "this kernel has no VLANs: load the module 8021q"},
	{"CTR-5080", "openat", plan.EACCES, "a device whose other end", "this user may not open /dev/net/tun: sudo chmod 666 /dev/net/tun, as udev does"},
	{"CTR-5084", "openat", plan.EPERM, "a device whose other end", "this user may not open /dev/net/tun: sudo chmod 666 /dev/net/tun, as udev does; in a container its control group has to allow the device, too"},
	{"CTR-5081", "openat", plan.ENOENT, "a device whose other end", "the kernel has no taps: sudo modprobe tun; or choose --network none"},
	{"CTR-5082", "openat", plan.ENODEV, "a device whose other end", "the kernel has no taps: sudo modprobe tun; or choose --network none"},
	{"CTR-5083", "open_tree", plan.EACCES, "becomes a mount of its own", "the container's users do not get to the root file system: let others search every directory on the way to it (chmod o+x)"},
	{"CTR-5071", "add_sub_link", plan.EBUSY, "", "the device is shared in another way already, or is part of a bridge: choose another parent"},
	{"CTR-5068", "openat2", plan.ENOENT, "the working directory", "the container has no such directory, and exec makes none: make it first, or choose another with --workdir"},
}

// HintEntry is a kind of failed step, and what is known about it.
type HintEntry struct {
	// Code is the stable name of the kind.
	Code string
	// Call is the step's call, Errno the kernel's answer, and Why a part of the step's
	// reason, or empty if it does not matter.
	Call  string
	Errno plan.Errno
	Why   string
	// Text says what it probably means, and what to do.
	Text string
}

// Hints lists the kinds of failed steps that are known.
func Hints() []HintEntry {
	var all []HintEntry
	for _, h := range hints {
		all = append(all, HintEntry{h.code, h.call, h.errno, h.why, h.text})
	}
	return all
}

// Program reports whether the step was the start of the user's program, and with
// which path.
func (e *StepError) Program() (string, bool) {
	switch c := e.Step.Call.(type) {
	case linux.Execve:
		return c.Path, true
	case linux.Faccessat:
		return c.Path, true
	}
	return "", false
}
