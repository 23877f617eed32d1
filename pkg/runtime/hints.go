package runtime

import (
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// hints say what to do when a call fails with an errno. The third column, a part
// of the step's reason, tells apart uses of the same call.
var hints = [...]struct {
	call  string
	errno plan.Errno
	why   string
	text  string
}{
	{"execve", plan.ENOENT, "", "the file is there, so what is missing is the program that runs it: the interpreter after #! in its first line, or the dynamic loader that it was linked for"},
	{"execve", plan.ENOEXEC, "", "the file is no program for this machine: built for another architecture, or a script without #! in its first line"},
	{"execve", plan.EACCES, "", "the file is not executable, or its file system is mounted noexec: chmod +x"},
	{"execve", plan.EPERM, "", "a seccomp filter or a security module forbids this program"},
	{"execve", plan.E2BIG, "", "arguments and environment together are longer than the kernel takes"},
	{"faccessat", plan.ENOENT, "", "check the spelling; the path is looked up inside the container"},
	{"faccessat", plan.EACCES, "", "the file is not executable by the container's user: chmod +x, or choose another user with -u"},
	{"faccessat", plan.ENOTDIR, "", "a part of the path is a file, not a directory"},
	{"clone3", plan.EPERM, "", "making these namespaces needs root, or unprivileged user namespaces: see /proc/sys/user/max_user_namespaces and kernel.unprivileged_userns_clone"},
	{"clone3", plan.ENOSPC, "", "a limit below /proc/sys/user is reached: max_user_namespaces, max_net_namespaces or another"},
	{"clone3", plan.EUSERS, "", "a limit below /proc/sys/user is reached, or user namespaces are nested too deeply"},
	{"clone3", plan.EAGAIN, "", "the number of processes is limited: ulimit -u, or the pids limit of a control group above"},
	{"clone3", plan.EINVAL, "", "the kernel lacks one of these namespaces"},
	{"mkdir", plan.EACCES, "", "control groups need root, or a subtree delegated to this user"},
	{"mkdir", plan.EROFS, "", "the control group file system is mounted read-only here"},
	{"mount", plan.EPERM, "", "mounting needs root, or a user namespace with a mount namespace of its own"},
	{"mount", plan.EINVAL, "layers", "the kernel refused the overlay: the state root may itself be on an overlay; put it on another file system with --root"},
	{"mount", plan.EACCES, "layers", "the container's users do not get to the layers: let others search every directory on the way to the state root (chmod o+x)"},
	{"mount", plan.ENODEV, "", "this kernel does not have that file system"},
	{"fsopen", plan.ENODEV, "", "this kernel does not have that file system"},
	{"fsopen", plan.EPERM, "", "mounting needs root, or a user namespace with a mount namespace of its own"},
	{"fsconfig", plan.EINVAL, "", "the file system does not know this option or its value"},
	{"prlimit64", plan.EPERM, "", "the hard limit is above that of the calling user, and raising it needs CAP_SYS_RESOURCE"},
	{"write", plan.EACCES, "whom the kernel kills first", "a score below the caller's needs CAP_SYS_RESOURCE"},
	{"write", plan.ENOENT, "AppArmor profile", "no profile of this name is loaded: apparmor_parser --replace FILE loads one, aa-status lists them"},
	{"write", plan.EACCES, "AppArmor profile", "the profile that containr itself runs under does not let it change to this one"},
	{"write", plan.EPERM, "AppArmor profile", "the profile that containr itself runs under does not let it change to this one"},
	{"write", plan.EINVAL, "SELinux label", "the loaded policy does not know this label: a user, role, type or level in it"},
	{"write", plan.EACCES, "SELinux label", "the policy does not let containr's own domain choose labels of programs"},
	{"capset", plan.EPERM, "", "a capability is asked for that containr itself does not have here"},
	{"seccomp", plan.EINVAL, "", "the kernel does not know one of the filter's flags or actions"},
	{"move_link", plan.EEXIST, "", "the container has a network device of that name already; a name that ends in %d gets a free number"},
	{"move_link", plan.EPERM, "", "moving a network device needs CAP_NET_ADMIN on both sides"},
	{"move_link", plan.EINVAL, "", "this network device cannot leave its namespace: lo, and some virtual ones"},
	{"send_listener", plan.ENOENT, "", "the agent that decides on system calls does not listen there: start it before the container"},
	{"send_listener", plan.ECONNREFUSED, "", "the agent that decides on system calls does not listen there any more: start it before the container"},
	{"send_listener", plan.EPERM, "", "taking the listener out of the process needs CAP_SYS_PTRACE"},
	{"fchdir", plan.EACCES, "", "the container's user may not enter the working directory"},
	{"setgroups", plan.EPERM, "", "in a user namespace with a single mapped group, groups cannot be set"},
	{"setresuid", plan.EINVAL, "", "this user id is not mapped in the container's user namespace: see --uidmap"},
	{"setresgid", plan.EINVAL, "", "this group id is not mapped in the container's user namespace: see --gidmap"},
	{"mkdirat", plan.EROFS, "working directory", "the root file system is read-only, so the image has to have the working directory: choose another one with -w, or mount something there"},
	{"mkdirat", plan.EROFS, "not in the image", "the root file system is read-only, so the image has to have this directory: or mount something there"},
	{"move_mount", plan.ENOTDIR, "", "a file cannot be mounted over a directory, nor a directory over a file"},
	{"move_mount", plan.EINVAL, "at /", "a file cannot be mounted over a directory, nor a directory over a file"},
	{"openat", plan.ENOTDIR, "", "the root file system must be a directory"},
	{"write", plan.ERANGE, "ahead of the host's", "no clock can show less than 0 or more than 146 years: the offset is too large, or takes away more than the host has been up"},
	{"openat2", plan.ENOENT, "not in the image", "a symbolic link in the image, on the way to there, leads to nothing"},
	{"mount_setattr", plan.EINVAL, "who its files belong to", "the file system of this path cannot be id-mapped: ext4, xfs and btrfs can on most kernels, tmpfs since Linux 6.3, overlay and kernel file systems cannot"},
	{"mount_setattr", plan.EPERM, "who its files belong to", "the path lies on a mount that is id-mapped already, or on a file system of another user namespace"},
	{"openat2", plan.ENOENT, "a kernel parameter", "the kernel has no such parameter: check its name in sysctl -a"},
	{"openat2", plan.EACCES, "a kernel parameter", "this parameter cannot be written"},
	{"openat2", plan.ELOOP, "working directory", "links of /proc, which lead to other places than their names say, are not followed on the way to a working directory"},
	{"openat2", plan.ENOTDIR, "working directory", "a part of the path is a file, not a directory"},
	{"openat2", plan.ELOOP, "where /proc is", "the image has a symbolic link in the place of /proc, so that it would not be where programs look for it"},
	{"openat2", plan.ELOOP, "where /sys is", "the image has a symbolic link in the place of /sys, so that it would not be where programs look for it"},
	{"openat2", plan.ELOOP, "", "too many symbolic links on the way, or one that must not be followed"},
	{"echo", plan.EBUSY, "hand controllers", "a control group above has processes of its own; on version 2 only leaves may have them: choose another cgroupsPath, or move the processes into a group below"},
	{"echo", plan.ENOENT, "hand controllers", "the group above does not have this controller to hand down: see its cgroup.controllers"},
	{"clone3", plan.EBUSY, "", "the control group has groups below it that it hands controllers to; on version 2 only leaves may have processes: choose another cgroupsPath"},
	{"clone3", plan.EOPNOTSUP, "", "the control group is threaded, or below one that is, and takes no whole processes: see its cgroup.type"},
	{"attach", plan.EBUSY, "", "the control group has groups below it that it hands controllers to; on version 2 only leaves may have processes"},
	{"echo", plan.ENOENT, "limit memory", "the kernel does not count swap: boot with swapaccount=1, or leave out --memory-swap"},
	{"echo", plan.ERANGE, "pin to CPUs", "this machine has no CPU, or no memory node, of that number"},
	{"echo", plan.EBUSY, "", "a control group in use refuses the new limit"},
	{"echo", plan.EINVAL, "", "the kernel refuses this value"},
	{"attach", plan.ENOSPC, "", "the cpuset of this control group has no CPUs or memory nodes"},
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
