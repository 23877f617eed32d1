package linux

import "github.com/containr/containr/pkg/plan"

// Openat is openat(2).
type Openat struct {
	Dir   FD
	Path  string
	Flags OpenFlags
	Mode  uint32
}

func (Openat) Name() string { return "openat" }

func (c Openat) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, c.Dir.arg(), plan.String(c.Path), plan.Flags(uint64(c.Flags), &openFlagNames), plan.Mode(c.Mode))
}

// Openat2 is openat2(2), Linux 5.6. With ResolveInRoot, Dir is the root that the
// path, and every symbolic link on it, cannot leave.
type Openat2 struct {
	Dir     FD
	Path    string
	Flags   OpenFlags
	Mode    uint32
	Resolve ResolveFlags
}

func (Openat2) Name() string { return "openat2" }

func (c Openat2) AppendArgs(dst []plan.Arg) []plan.Arg {
	how := plan.Pointer(
		plan.Flags(uint64(c.Flags), &openFlagNames).Member("flags", 8),
		plan.Mode(c.Mode).Member("mode", 8),
		plan.Flags(uint64(c.Resolve), &resolveNames).Member("resolve", 8))
	return append(dst, c.Dir.arg(), plan.String(c.Path), how, plan.Number(24))
}

// Faccessat is faccessat(2) with the real user id.
type Faccessat struct {
	Dir  FD
	Path string
	Mode AccessMode
}

func (Faccessat) Name() string { return "faccessat" }

func (c Faccessat) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, c.Dir.arg(), plan.String(c.Path), plan.Flags(uint64(c.Mode), &accessNames))
}

// Close is close(2).
type Close struct{ FD FD }

func (Close) Name() string { return "close" }

func (c Close) AppendArgs(dst []plan.Arg) []plan.Arg { return append(dst, c.FD.arg()) }

// CloseRange is close_range(2), Linux 5.9: every descriptor from First on is
// closed, or marked to be closed at the next execve.
type CloseRange struct {
	First  int
	OnExec bool
}

func (CloseRange) Name() string { return "close_range" }

func (c CloseRange) AppendArgs(dst []plan.Arg) []plan.Arg {
	flags := uint64(0)
	if c.OnExec {
		flags = 4
	}
	return append(dst, plan.Number(c.First), plan.OneOf(0xffffffff, &lastFDName), plan.Flags(flags, &closeRangeNames))
}

// Dup3 is dup3(2).
type Dup3 struct {
	Old, New FD
	OnExec   bool
}

func (Dup3) Name() string { return "dup3" }

func (c Dup3) AppendArgs(dst []plan.Arg) []plan.Arg {
	flags := OpenFlags(0)
	if c.OnExec {
		flags = OCloexec
	}
	return append(dst, c.Old.arg(), c.New.arg(), plan.Flags(uint64(flags), &openFlagNames))
}

// SetCloexec is fcntl(2) with F_SETFD.
type SetCloexec struct {
	FD FD
	On bool
}

func (SetCloexec) Name() string { return "fcntl" }

func (c SetCloexec) AppendArgs(dst []plan.Arg) []plan.Arg {
	v := uint64(0)
	if c.On {
		v = 1
	}
	return append(dst, c.FD.arg(), plan.OneOf(2, &fcntlNames), plan.Flags(v, &fdFlagNames))
}

// DupFD is fcntl(2) with F_DUPFD: a copy with the first free number from Least on.
type DupFD struct {
	FD    FD
	Least int
}

func (DupFD) Name() string { return "fcntl" }

func (c DupFD) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, c.FD.arg(), plan.OneOf(1030, &fcntlNames), plan.Number(c.Least))
}

// Mkdirat is mkdirat(2).
type Mkdirat struct {
	Dir  FD
	Path string
	Mode uint32
}

func (Mkdirat) Name() string { return "mkdirat" }

func (c Mkdirat) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, c.Dir.arg(), plan.String(c.Path), plan.Mode(c.Mode))
}

// Mknodat is mknodat(2). Mode carries the file's type; Major and Minor count for
// devices.
type Mknodat struct {
	Dir          FD
	Path         string
	Mode         uint32
	Major, Minor uint32
}

func (Mknodat) Name() string { return "mknodat" }

func (c Mknodat) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, c.Dir.arg(), plan.String(c.Path), plan.Mode(c.Mode),
		plan.Arg{Kind: plan.Device, Num: uint64(c.Minor&0xff | c.Major<<8 | c.Minor&^0xff<<12)})
}

// Symlinkat is symlinkat(2).
type Symlinkat struct {
	Target string
	Dir    FD
	Path   string
}

func (Symlinkat) Name() string { return "symlinkat" }

func (c Symlinkat) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Target), c.Dir.arg(), plan.String(c.Path))
}

// Renameat2 is renameat2(2).
type Renameat2 struct {
	OldDir  FD
	OldPath string
	NewDir  FD
	NewPath string
	Flags   uint32
}

func (Renameat2) Name() string { return "renameat2" }

func (c Renameat2) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, c.OldDir.arg(), plan.String(c.OldPath), c.NewDir.arg(), plan.String(c.NewPath), plan.Number(int(c.Flags)))
}

// Fchownat is fchownat(2); a symbolic link itself is changed, never its target.
type Fchownat struct {
	Dir      FD
	Path     string
	UID, GID uint32
}

func (Fchownat) Name() string { return "fchownat" }

func (c Fchownat) AppendArgs(dst []plan.Arg) []plan.Arg {
	flags := uint64(atSymlinkNofollow)
	if c.Path == "" {
		flags |= atEmptyPath
	}
	return append(dst, c.Dir.arg(), plan.String(c.Path), plan.Number(c.UID), plan.Number(c.GID),
		plan.Flags(flags, &openTreeFlagNames))
}

// Fchmod is fchmod(2).
type Fchmod struct {
	FD   FD
	Mode uint32
}

func (Fchmod) Name() string { return "fchmod" }

func (c Fchmod) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, c.FD.arg(), plan.Mode(c.Mode))
}

// Fsetxattr is fsetxattr(2): an extended attribute of an open file.
type Fsetxattr struct {
	FD          FD
	Attr, Value string
}

func (Fsetxattr) Name() string { return "fsetxattr" }

func (c Fsetxattr) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, c.FD.arg(), plan.String(c.Attr), plan.String(c.Value), plan.Number(len(c.Value)), plan.Number(0))
}

// Read is read(2) into memory that nobody looks at: it waits for a message.
type Read struct {
	FD   FD
	Size int
}

func (Read) Name() string { return "read" }

func (c Read) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, c.FD.arg(), plan.Buffer(c.Size), plan.Number(c.Size))
}

// Write is write(2) of a string.
type Write struct {
	FD   FD
	Data string
}

func (Write) Name() string { return "write" }

func (c Write) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, c.FD.arg(), plan.String(c.Data), plan.Number(len(c.Data)))
}

// WriteReg is write(2) of a register's 8 bytes, or of its Size lowest ones.
type WriteReg struct {
	FD    FD
	Value plan.Reg
	Size  int
}

func (WriteReg) Name() string { return "write" }

func (c WriteReg) AppendArgs(dst []plan.Arg) []plan.Arg {
	size := 8
	if c.Size > 0 {
		size = c.Size
	}
	return append(dst, c.FD.arg(), plan.Address(c.Value), plan.Number(size))
}

// ReadReg is read(2) of 8 bytes to the register Value.
type ReadReg WriteReg

func (ReadReg) Name() string { return "read" }

func (c ReadReg) AppendArgs(dst []plan.Arg) []plan.Arg { return WriteReg(c).AppendArgs(dst) }

// Eventfd is eventfd2(2): a counter at 0, on which a read waits until somebody has
// written a number to it, or with Nonblock fails with EAGAIN.
type Eventfd struct{ Nonblock bool }

func (Eventfd) Name() string { return "eventfd2" }

func (c Eventfd) AppendArgs(dst []plan.Arg) []plan.Arg {
	flags := OCloexec
	if c.Nonblock {
		flags |= ONonblock
	}
	return append(dst, plan.Number(0), plan.Flags(uint64(flags), &eventfdNames))
}

// Chdir is chdir(2).
type Chdir struct{ Path string }

func (Chdir) Name() string { return "chdir" }

func (c Chdir) AppendArgs(dst []plan.Arg) []plan.Arg { return append(dst, plan.String(c.Path)) }

// Fchdir is fchdir(2).
type Fchdir struct{ FD FD }

func (Fchdir) Name() string { return "fchdir" }

func (c Fchdir) AppendArgs(dst []plan.Arg) []plan.Arg { return append(dst, c.FD.arg()) }

// Getcwd is getcwd(2). It fails with ENOENT when the working directory is deleted, and
// with ERANGE, which is harmless, when the name does not fit. For one that cannot be
// reached from the root the kernel has a name too, "(unreachable)/...": the ENOENT that
// the manual page promises is the C library's.
type Getcwd struct{}

func (Getcwd) Name() string { return "getcwd" }

func (Getcwd) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Buffer(8), plan.Number(8))
}

// Ioctl is ioctl(2) with a number, or with a pointer to In's words when there
// are any.
type Ioctl struct {
	FD      FD
	Request IoctlRequest
	Value   uint64
	In      []uint16
}

func (Ioctl) Name() string { return "ioctl" }

func (c Ioctl) AppendArgs(dst []plan.Arg) []plan.Arg {
	arg := plan.Number(c.Value)
	if len(c.In) > 0 {
		members := make([]plan.Arg, len(c.In))
		for i, v := range c.In {
			members[i] = plan.Number(uint32(v)).Member("", 2)
		}
		arg = plan.Pointer(members...)
	}
	return append(dst, c.FD.arg(), plan.OneOf(uint64(c.Request), &ioctlNames), arg)
}

// SendFD is sendmsg(2) of one descriptor with SCM_RIGHTS, see unix(7), with the
// text Data as the message's ordinary bytes.
type SendFD struct {
	Socket FD
	FD     plan.Reg
	Data   string
}

func (SendFD) Name() string { return "sendmsg" }

// AppendArgs lays out struct msghdr of a 64-bit kernel: name, its length, one
// struct iovec, one control message of 24 bytes with room for the descriptor.
func (c SendFD) AppendArgs(dst []plan.Arg) []plan.Arg {
	iov := plan.Pointer(plan.String(c.Data).Member("iov_base", 8), plan.Number(len(c.Data)).Member("iov_len", 8))
	control := plan.Pointer(
		plan.Number(20).Member("cmsg_len", 8),
		plan.OneOf(1, &socketLevelNames).Member("cmsg_level", 4),
		plan.OneOf(1, &controlTypeNames).Member("cmsg_type", 4),
		plan.Value(c.FD).Member("fd", 8))
	msg := plan.Pointer(
		plan.Nil.Member("msg_name", 8), plan.Number(0).Member("msg_namelen", 8),
		iov.Member("msg_iov", 8), plan.Number(1).Member("msg_iovlen", 8),
		control.Member("msg_control", 8), plan.Number(24).Member("msg_controllen", 8),
		plan.Number(0).Member("msg_flags", 8))
	return append(dst, c.Socket.arg(), msg, plan.Number(0))
}

// Socket is socket(2) for the AF_INET datagram socket that interface requests
// go through, see netdevice(7); with V6 the AF_INET6 one for addresses of version 6.
type Socket struct{ V6 bool }

func (Socket) Name() string { return "socket" }

func (c Socket) AppendArgs(dst []plan.Arg) []plan.Arg {
	family := uint64(2)
	if c.V6 {
		family = 10
	}
	return append(dst, plan.OneOf(family, &familyNames), plan.Flags(2|0x80000, &socketTypeNames), plan.Number(0))
}

// LinkUp is ioctl(2) with SIOCSIFFLAGS: the interface is up and running.
type LinkUp struct {
	Socket    FD
	Interface string
}

func (LinkUp) Name() string { return "ioctl" }

// AppendArgs lays out struct ifreq: 16 bytes of name, 24 of which the first two
// are the flags.
func (c LinkUp) AppendArgs(dst []plan.Arg) []plan.Arg {
	const siocsifflags, up, running = 0x8914, 0x1, 0x40
	var name [16]byte
	copy(name[:15], c.Interface)
	number := func(b []byte) uint64 {
		v := uint64(0)
		for i := range 8 {
			v |= uint64(b[i]) << (8 * i)
		}
		return v
	}
	zero := plan.Number(0)
	req := plan.Pointer(
		plan.Arg{Kind: plan.Hex, Num: number(name[:8])}.Member("ifr_name", 8),
		plan.Arg{Kind: plan.Hex, Num: number(name[8:])}.Member("", 8),
		plan.Flags(up|running, &linkFlagNames).Member("ifr_flags", 8), zero.Member("", 8), zero.Member("", 8))
	return append(dst, c.Socket.arg(), plan.OneOf(siocsifflags, &ioctlNames), req)
}
