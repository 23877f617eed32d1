package linux

import "github.com/containr/containr/pkg/plan"

// MountFlags are the MS_ bits of mount(2); the propagation bits also serve mount_setattr(2).
type MountFlags uint64

// The mount flags.
const (
	MsReadonly    MountFlags = 0x1
	MsNosuid      MountFlags = 0x2
	MsNodev       MountFlags = 0x4
	MsNoexec      MountFlags = 0x8
	MsSynchronous MountFlags = 0x10
	MsRemount     MountFlags = 0x20
	MsMandlock    MountFlags = 0x40
	MsDirsync     MountFlags = 0x80
	MsNosymfollow MountFlags = 0x100
	MsNoatime     MountFlags = 0x400
	MsNodiratime  MountFlags = 0x800
	MsBind        MountFlags = 0x1000
	MsMove        MountFlags = 0x2000
	MsRec         MountFlags = 0x4000
	MsSilent      MountFlags = 0x8000
	MsUnbindable  MountFlags = 0x20000
	MsPrivate     MountFlags = 0x40000
	MsSlave       MountFlags = 0x80000
	MsShared      MountFlags = 0x100000
	MsRelatime    MountFlags = 0x200000
	MsStrictatime MountFlags = 0x1000000
	MsLazytime    MountFlags = 0x2000000
)

var mountFlagNames = plan.Names{List: []plan.Name{
	{Value: 0x1, Name: "MS_RDONLY"},
	{Value: 0x2, Name: "MS_NOSUID"},
	{Value: 0x4, Name: "MS_NODEV"},
	{Value: 0x8, Name: "MS_NOEXEC"},
	{Value: 0x10, Name: "MS_SYNCHRONOUS"},
	{Value: 0x20, Name: "MS_REMOUNT"},
	{Value: 0x40, Name: "MS_MANDLOCK"},
	{Value: 0x80, Name: "MS_DIRSYNC"},
	{Value: 0x100, Name: "MS_NOSYMFOLLOW"},
	{Value: 0x400, Name: "MS_NOATIME"},
	{Value: 0x800, Name: "MS_NODIRATIME"},
	{Value: 0x1000, Name: "MS_BIND"},
	{Value: 0x2000, Name: "MS_MOVE"},
	{Value: 0x4000, Name: "MS_REC"},
	{Value: 0x8000, Name: "MS_SILENT"},
	{Value: 0x20000, Name: "MS_UNBINDABLE"},
	{Value: 0x40000, Name: "MS_PRIVATE"},
	{Value: 0x80000, Name: "MS_SLAVE"},
	{Value: 0x100000, Name: "MS_SHARED"},
	{Value: 0x200000, Name: "MS_RELATIME"},
	{Value: 0x1000000, Name: "MS_STRICTATIME"},
	{Value: 0x2000000, Name: "MS_LAZYTIME"},
}}

// UmountFlags are the flags of umount2(2).
type UmountFlags uint64

// The unmount flags.
const (
	MntForce  UmountFlags = 0x1
	MntDetach UmountFlags = 0x2
)

var umountFlagNames = plan.Names{List: []plan.Name{
	{Value: 0x1, Name: "MNT_FORCE"},
	{Value: 0x2, Name: "MNT_DETACH"},
}}

// MountAttrs are the MOUNT_ATTR_ bits of fsmount(2) and mount_setattr(2).
type MountAttrs uint64

// The mount attributes. The access time is a field of two bits, not a set; AttrAtime clears it.
const (
	AttrReadonly    MountAttrs = 0x1
	AttrNosuid      MountAttrs = 0x2
	AttrNodev       MountAttrs = 0x4
	AttrNoexec      MountAttrs = 0x8
	AttrAtime       MountAttrs = 0x70
	AttrNoatime     MountAttrs = 0x10
	AttrStrictatime MountAttrs = 0x20
	AttrNodiratime  MountAttrs = 0x80
	AttrIdmap       MountAttrs = 0x100000
	AttrNosymfollow MountAttrs = 0x200000
)

var mountAttrNames = plan.Names{List: []plan.Name{
	{Value: 0x1, Name: "MOUNT_ATTR_RDONLY"},
	{Value: 0x2, Name: "MOUNT_ATTR_NOSUID"},
	{Value: 0x4, Name: "MOUNT_ATTR_NODEV"},
	{Value: 0x8, Name: "MOUNT_ATTR_NOEXEC"},
	{Value: 0x70, Name: "MOUNT_ATTR__ATIME"},
	{Value: 0x10, Name: "MOUNT_ATTR_NOATIME"},
	{Value: 0x20, Name: "MOUNT_ATTR_STRICTATIME"},
	{Value: 0x80, Name: "MOUNT_ATTR_NODIRATIME"},
	{Value: 0x100000, Name: "MOUNT_ATTR_IDMAP"},
	{Value: 0x200000, Name: "MOUNT_ATTR_NOSYMFOLLOW"},
}}

// OpenTreeFlags are the flags of open_tree(2).
type OpenTreeFlags uint64

// The flags of open_tree(2).
const (
	OpenTreeClone     OpenTreeFlags = 0x1
	OpenTreeCloexec   OpenTreeFlags = 0x80000
	AtRecursive       OpenTreeFlags = 0x8000
	AtEmptyPath       OpenTreeFlags = 0x1000
	AtSymlinkNofollow OpenTreeFlags = 0x100
)

var openTreeFlagNames = plan.Names{List: []plan.Name{
	{Value: 0x1, Name: "OPEN_TREE_CLONE"},
	{Value: 0x80000, Name: "OPEN_TREE_CLOEXEC"},
	{Value: 0x8000, Name: "AT_RECURSIVE"},
	{Value: 0x1000, Name: "AT_EMPTY_PATH"},
	{Value: 0x100, Name: "AT_SYMLINK_NOFOLLOW"},
}}

const (
	atEmptyPath       = 0x1000
	atRecursive       = 0x8000
	atSymlinkNofollow = 0x100
)

// FsconfigCommand is what one fsconfig(2) call does.
type FsconfigCommand uint64

// The fsconfig(2) commands.
const (
	FsconfigSetFlag   FsconfigCommand = 0
	FsconfigSetString FsconfigCommand = 1
	FsconfigCreate    FsconfigCommand = 6
	// FsconfigReconfigure is for a context of Fspick.
	FsconfigReconfigure FsconfigCommand = 7
)

var fsconfigNames = plan.Names{List: []plan.Name{
	{Value: 0, Name: "FSCONFIG_SET_FLAG"},
	{Value: 1, Name: "FSCONFIG_SET_STRING"},
	{Value: 6, Name: "FSCONFIG_CMD_CREATE"},
	{Value: 7, Name: "FSCONFIG_CMD_RECONFIGURE"},
}}

// OpenFlags are the O_ flags of open(2), with amd64's numbers; lowering translates the few that differ on other architectures.
type OpenFlags uint64

// The open flags.
const (
	OWronly    OpenFlags = 0x1
	ORdwr      OpenFlags = 0x2
	OCreat     OpenFlags = 0x40
	OExcl      OpenFlags = 0x80
	ONoctty    OpenFlags = 0x100
	OTrunc     OpenFlags = 0x200
	OAppend    OpenFlags = 0x400
	ONonblock  OpenFlags = 0x800
	ODirectory OpenFlags = 0x10000
	ONofollow  OpenFlags = 0x20000
	OCloexec   OpenFlags = 0x80000
	OPath      OpenFlags = 0x200000
)

var openFlagNames = plan.Names{Zero: "O_RDONLY", List: []plan.Name{
	{Value: 0x1, Name: "O_WRONLY"},
	{Value: 0x2, Name: "O_RDWR"},
	{Value: 0x40, Name: "O_CREAT"},
	{Value: 0x80, Name: "O_EXCL"},
	{Value: 0x100, Name: "O_NOCTTY"},
	{Value: 0x200, Name: "O_TRUNC"},
	{Value: 0x400, Name: "O_APPEND"},
	{Value: 0x800, Name: "O_NONBLOCK"},
	{Value: 0x10000, Name: "O_DIRECTORY"},
	{Value: 0x20000, Name: "O_NOFOLLOW"},
	{Value: 0x80000, Name: "O_CLOEXEC"},
	{Value: 0x200000, Name: "O_PATH"},
}}

// ResolveFlags are the RESOLVE_ flags of openat2(2).
type ResolveFlags uint64

// The resolve flags.
const (
	ResolveNoXdev       ResolveFlags = 0x1
	ResolveNoMagiclinks ResolveFlags = 0x2
	ResolveNoSymlinks   ResolveFlags = 0x4
	ResolveBeneath      ResolveFlags = 0x8
	ResolveInRoot       ResolveFlags = 0x10
)

var resolveNames = plan.Names{List: []plan.Name{
	{Value: 0x1, Name: "RESOLVE_NO_XDEV"},
	{Value: 0x2, Name: "RESOLVE_NO_MAGICLINKS"},
	{Value: 0x4, Name: "RESOLVE_NO_SYMLINKS"},
	{Value: 0x8, Name: "RESOLVE_BENEATH"},
	{Value: 0x10, Name: "RESOLVE_IN_ROOT"},
}}

// CloneFlags are the CLONE_ flags of clone3(2), setns(2) and unshare(2).
type CloneFlags uint64

// The clone flags.
const (
	CloneVM           CloneFlags = 0x100
	CloneFiles        CloneFlags = 0x400
	CloneVfork        CloneFlags = 0x4000
	CloneParent       CloneFlags = 0x8000
	ClonePidfd        CloneFlags = 0x1000
	CloneNewtime      CloneFlags = 0x80
	CloneNewns        CloneFlags = 0x20000
	CloneNewcgroup    CloneFlags = 0x2000000
	CloneNewuts       CloneFlags = 0x4000000
	CloneNewipc       CloneFlags = 0x8000000
	CloneNewuser      CloneFlags = 0x10000000
	CloneNewpid       CloneFlags = 0x20000000
	CloneNewnet       CloneFlags = 0x40000000
	CloneClearSighand CloneFlags = 0x100000000
	CloneIntoCgroup   CloneFlags = 0x200000000
)

var cloneFlagNames = plan.Names{List: []plan.Name{
	{Value: 0x100, Name: "CLONE_VM"},
	{Value: 0x400, Name: "CLONE_FILES"},
	{Value: 0x4000, Name: "CLONE_VFORK"},
	{Value: 0x8000, Name: "CLONE_PARENT"},
	{Value: 0x1000, Name: "CLONE_PIDFD"},
	{Value: 0x80, Name: "CLONE_NEWTIME"},
	{Value: 0x20000, Name: "CLONE_NEWNS"},
	{Value: 0x2000000, Name: "CLONE_NEWCGROUP"},
	{Value: 0x4000000, Name: "CLONE_NEWUTS"},
	{Value: 0x8000000, Name: "CLONE_NEWIPC"},
	{Value: 0x10000000, Name: "CLONE_NEWUSER"},
	{Value: 0x20000000, Name: "CLONE_NEWPID"},
	{Value: 0x40000000, Name: "CLONE_NEWNET"},
	{Value: 0x100000000, Name: "CLONE_CLEAR_SIGHAND"},
	{Value: 0x200000000, Name: "CLONE_INTO_CGROUP"},
}}

// PrctlOption is the first argument of prctl(2).
type PrctlOption uint64

// The options of prctl(2).
const (
	PrSetPdeathsig      PrctlOption = 1
	PrSetDumpable       PrctlOption = 4
	PrSetKeepcaps       PrctlOption = 8
	PrSetName           PrctlOption = 15
	PrCapbsetDrop       PrctlOption = 24
	PrSetChildSubreaper PrctlOption = 36
	PrSetNoNewPrivs     PrctlOption = 38
	PrCapAmbient        PrctlOption = 47
	PrSetPtracer        PrctlOption = 0x59616d61
)

var prctlNames = plan.Names{List: []plan.Name{
	{Value: 1, Name: "PR_SET_PDEATHSIG"},
	{Value: 4, Name: "PR_SET_DUMPABLE"},
	{Value: 8, Name: "PR_SET_KEEPCAPS"},
	{Value: 15, Name: "PR_SET_NAME"},
	{Value: 24, Name: "PR_CAPBSET_DROP"},
	{Value: 36, Name: "PR_SET_CHILD_SUBREAPER"},
	{Value: 38, Name: "PR_SET_NO_NEW_PRIVS"},
	{Value: 47, Name: "PR_CAP_AMBIENT"},
	{Value: 0x59616d61, Name: "PR_SET_PTRACER"},
}}

// The second argument of PR_CAP_AMBIENT.
const (
	AmbientRaise    = 2
	AmbientClearAll = 4
)

var ambientNames = plan.Names{List: []plan.Name{
	{Value: 2, Name: "PR_CAP_AMBIENT_RAISE"},
	{Value: 4, Name: "PR_CAP_AMBIENT_CLEAR_ALL"},
}}

// Resource is the second argument of prlimit(2).
type Resource uint64

// The resources, see getrlimit(2).
const (
	RlimitCPU        Resource = 0
	RlimitFsize      Resource = 1
	RlimitData       Resource = 2
	RlimitStack      Resource = 3
	RlimitCore       Resource = 4
	RlimitRSS        Resource = 5
	RlimitNproc      Resource = 6
	RlimitNofile     Resource = 7
	RlimitMemlock    Resource = 8
	RlimitAS         Resource = 9
	RlimitLocks      Resource = 10
	RlimitSigpending Resource = 11
	RlimitMsgqueue   Resource = 12
	RlimitNice       Resource = 13
	RlimitRtprio     Resource = 14
	RlimitRttime     Resource = 15
)

var resourceNames = plan.Names{Zero: "RLIMIT_CPU", List: []plan.Name{
	{Value: 0, Name: "RLIMIT_CPU"},
	{Value: 1, Name: "RLIMIT_FSIZE"},
	{Value: 2, Name: "RLIMIT_DATA"},
	{Value: 3, Name: "RLIMIT_STACK"},
	{Value: 4, Name: "RLIMIT_CORE"},
	{Value: 5, Name: "RLIMIT_RSS"},
	{Value: 6, Name: "RLIMIT_NPROC"},
	{Value: 7, Name: "RLIMIT_NOFILE"},
	{Value: 8, Name: "RLIMIT_MEMLOCK"},
	{Value: 9, Name: "RLIMIT_AS"},
	{Value: 10, Name: "RLIMIT_LOCKS"},
	{Value: 11, Name: "RLIMIT_SIGPENDING"},
	{Value: 12, Name: "RLIMIT_MSGQUEUE"},
	{Value: 13, Name: "RLIMIT_NICE"},
	{Value: 14, Name: "RLIMIT_RTPRIO"},
	{Value: 15, Name: "RLIMIT_RTTIME"},
}}

// ResourceByName finds a resource by its C name, as the OCI configuration spells
// it: "RLIMIT_NOFILE".
func ResourceByName(name string) (Resource, bool) {
	n, ok := byName(&resourceNames, name)
	return Resource(n), ok
}

func byName(names *plan.Names, name string) (uint64, bool) {
	for _, n := range names.List {
		if n.Name == name {
			return n.Value, true
		}
	}
	return 0, false
}

// SeccompFlags are the SECCOMP_FILTER_FLAG_ bits of seccomp(2).
type SeccompFlags uint64

// The seccomp filter flags.
const (
	SeccompTsync        SeccompFlags = 0x1
	SeccompLog          SeccompFlags = 0x2
	SeccompSpecAllow    SeccompFlags = 0x4
	SeccompNewListener  SeccompFlags = 0x8
	SeccompTsyncEsrch   SeccompFlags = 0x10
	SeccompWaitKillable SeccompFlags = 0x20
)

var seccompFlagNames = plan.Names{List: []plan.Name{
	{Value: 0x1, Name: "SECCOMP_FILTER_FLAG_TSYNC"},
	{Value: 0x2, Name: "SECCOMP_FILTER_FLAG_LOG"},
	{Value: 0x4, Name: "SECCOMP_FILTER_FLAG_SPEC_ALLOW"},
	{Value: 0x8, Name: "SECCOMP_FILTER_FLAG_NEW_LISTENER"},
	{Value: 0x10, Name: "SECCOMP_FILTER_FLAG_TSYNC_ESRCH"},
	{Value: 0x20, Name: "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"},
}}

// IoctlRequest is the second argument of ioctl(2).
type IoctlRequest uint64

// The terminal requests, see ioctl_tty(2).
const (
	Tiocsctty   IoctlRequest = 0x540e
	Tiocswinsz  IoctlRequest = 0x5414
	Tiocsptlck  IoctlRequest = 0x40045431
	Tiocgptpeer IoctlRequest = 0x5441
)

var ioctlNames = plan.Names{List: []plan.Name{
	{Value: 0x540e, Name: "TIOCSCTTY"},
	{Value: 0x5414, Name: "TIOCSWINSZ"},
	{Value: 0x40045431, Name: "TIOCSPTLCK"},
	{Value: 0x5441, Name: "TIOCGPTPEER"},
	{Value: 0x8914, Name: "SIOCSIFFLAGS"},
	{Value: 0x8916, Name: "SIOCSIFADDR"},
	{Value: 0x891c, Name: "SIOCSIFNETMASK"},
	{Value: 0x8922, Name: "SIOCSIFMTU"},
	{Value: 0x890b, Name: "SIOCADDRT"},
	{Value: 0x400454ca, Name: "TUNSETIFF"},
	{Value: 0x400454d0, Name: "TUNSETOFFLOAD"},
	{Value: 0x400454da, Name: "TUNSETIFINDEX"},
}}

var (
	fsopenFlagNames    = plan.Names{List: []plan.Name{{Value: 1, Name: "FSOPEN_CLOEXEC"}}}
	fsmountFlagNames   = plan.Names{List: []plan.Name{{Value: 1, Name: "FSMOUNT_CLOEXEC"}}}
	fspickFlagNames    = plan.Names{List: []plan.Name{{Value: 0x1, Name: "FSPICK_CLOEXEC"}, {Value: 0x8, Name: "FSPICK_EMPTY_PATH"}}}
	moveMountFlagNames = plan.Names{List: []plan.Name{{Value: 0x4, Name: "MOVE_MOUNT_F_EMPTY_PATH"}, {Value: 0x40, Name: "MOVE_MOUNT_T_EMPTY_PATH"}}}
	eventfdNames       = plan.Names{List: []plan.Name{{Value: 0x80000, Name: "EFD_CLOEXEC"}, {Value: 0x800, Name: "EFD_NONBLOCK"}}}
	closeRangeNames    = plan.Names{List: []plan.Name{{Value: 4, Name: "CLOSE_RANGE_CLOEXEC"}}}
	lastFDName         = plan.Names{List: []plan.Name{{Value: 0xffffffff, Name: "~0U"}}}
	fcntlNames         = plan.Names{List: []plan.Name{{Value: 2, Name: "F_SETFD"}, {Value: 1030, Name: "F_DUPFD_CLOEXEC"}}}
	fdFlagNames        = plan.Names{List: []plan.Name{{Value: 1, Name: "FD_CLOEXEC"}}}
	socketLevelNames   = plan.Names{List: []plan.Name{{Value: 1, Name: "SOL_SOCKET"}}}
	controlTypeNames   = plan.Names{List: []plan.Name{{Value: 1, Name: "SCM_RIGHTS"}}}
	signalNames        = plan.Names{List: []plan.Name{{Value: 1, Name: "SIGHUP"}, {Value: 2, Name: "SIGINT"}, {Value: 17, Name: "SIGCHLD"}, {Value: 18, Name: "SIGCONT"}, {Value: 20, Name: "SIGTSTP"}, {Value: 21, Name: "SIGTTIN"}, {Value: 22, Name: "SIGTTOU"}}}
	waitNames          = plan.Names{List: []plan.Name{{Value: 0x40000000, Name: "__WALL"}, {Value: 4, Name: "WEXITED"}}}
	ptraceNames        = plan.Names{List: []plan.Name{{Value: 17, Name: "PTRACE_DETACH"}}}
	waitTypeNames      = plan.Names{List: []plan.Name{{Value: 1, Name: "P_PID"}}}
	sigmaskNames       = plan.Names{List: []plan.Name{{Value: 2, Name: "SIG_SETMASK"}}}
	infinityName       = plan.Names{List: []plan.Name{{Value: ^uint64(0), Name: "RLIM64_INFINITY"}}}
	keyctlNames        = plan.Names{List: []plan.Name{{Value: 1, Name: "KEYCTL_JOIN_SESSION_KEYRING"}}}
	seccompNames       = plan.Names{List: []plan.Name{{Value: 1, Name: "SECCOMP_SET_MODE_FILTER"}}}
	attachNames        = plan.Names{List: []plan.Name{{Value: 4, Name: "BPF_F_REPLACE"}}}
	bpfNames           = plan.Names{List: []plan.Name{{Value: 8, Name: "BPF_PROG_ATTACH"}}}
)

// IsOpenFlags reports whether an argument explained by n holds OpenFlags, whose
// numbers depend on the architecture.
func IsOpenFlags(n *plan.Names) bool { return n == &openFlagNames }

// AccessMode is the mode of faccessat(2).
type AccessMode uint64

// The access modes.
const (
	FOK AccessMode = 0
	XOK AccessMode = 1
)

var (
	accessNames     = plan.Names{Zero: "F_OK", List: []plan.Name{{Value: 1, Name: "X_OK"}}}
	familyNames     = plan.Names{List: []plan.Name{{Value: 2, Name: "AF_INET"}, {Value: 10, Name: "AF_INET6"}}}
	socketTypeNames = plan.Names{List: []plan.Name{{Value: 2, Name: "SOCK_DGRAM"}, {Value: 0x80000, Name: "SOCK_CLOEXEC"}}}
	tapFlagNames    = plan.Names{List: []plan.Name{{Value: 0x2, Name: "IFF_TAP"}, {Value: 0x1000, Name: "IFF_NO_PI"}, {Value: 0x4000, Name: "IFF_VNET_HDR"}}}
	offloadNames    = plan.Names{List: []plan.Name{{Value: 1, Name: "TUN_F_CSUM"}, {Value: 2, Name: "TUN_F_TSO4"}, {Value: 4, Name: "TUN_F_TSO6"}}}
	routeFlagNames  = plan.Names{List: []plan.Name{{Value: 1, Name: "RTF_UP"}, {Value: 2, Name: "RTF_GATEWAY"}}}
	linkFlagNames   = plan.Names{List: []plan.Name{{Value: 1, Name: "IFF_UP"}, {Value: 0x40, Name: "IFF_RUNNING"}}}
)
