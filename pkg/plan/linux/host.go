package linux

import (
	"strconv"

	"github.com/containr/containr/internal/shellword"
	"github.com/containr/containr/pkg/plan"
)

// The host's actions. Their arguments are what explain shows and what the
// journal stores; pkg/runtime executes them.

// MakeDir creates a directory on the host. With Parents, missing parents are
// created too; an existing directory is an error unless the step tolerates
// EEXIST.
type MakeDir struct {
	Path string
	Mode uint32
}

func (MakeDir) Name() string { return "mkdir" }

func (c MakeDir) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Path), plan.Mode(c.Mode))
}

// Text is the action as a shell command.
func (c MakeDir) Text() string { return "mkdir " + quote(c.Path) }

// RemoveDir removes an empty directory on the host; one that is gone already is
// no error. A cgroup whose last process has just died is tried again for a
// moment, because the kernel takes its time (EBUSY).
type RemoveDir struct{ Path string }

func (RemoveDir) Name() string { return "rmdir" }

func (c RemoveDir) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Path))
}

// Text is the action as a shell command.
func (c RemoveDir) Text() string { return "rmdir " + quote(c.Path) }

// WriteFile writes Data to an existing file on the host in one write(2), as
// control files of cgroup and proc want it.
type WriteFile struct {
	Path string
	Data string
}

func (WriteFile) Name() string { return "echo" }

func (c WriteFile) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Data), plan.String(c.Path))
}

// Text is the action as a shell command.
func (c WriteFile) Text() string { return "echo " + quote(c.Data) + " > " + quote(c.Path) }

// ChangeOwner gives a host file, not what a link leads to, to another user; its group
// stays.
type ChangeOwner struct {
	Path string
	UID  uint32
}

func (ChangeOwner) Name() string { return "lchown" }

func (c ChangeOwner) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Path), plan.Number(c.UID), plan.Number(-1))
}

// Text is the action as a shell command.
func (c ChangeOwner) Text() string {
	return "chown -h " + strconv.FormatUint(uint64(c.UID), 10) + " " + quote(c.Path)
}

// CopyFile writes to a host file what another holds, unless the file holds
// something but white space already; a new v1 cpuset takes its parent's CPUs this
// way, and one that somebody has filled keeps them.
type CopyFile struct{ From, To string }

func (CopyFile) Name() string { return "cp" }

func (c CopyFile) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.From), plan.String(c.To))
}

// Text is the action as a shell command.
func (c CopyFile) Text() string { return "cat " + quote(c.From) + " > " + quote(c.To) }

// Attach writes the number of the process in PID to a host file, cgroup.procs.
type Attach struct {
	Path string
	PID  plan.Reg
}

func (Attach) Name() string { return "attach" }

func (c Attach) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Value(c.PID), plan.String(c.Path))
}

// Text is the action as a shell command.
func (c Attach) Text() string { return "echo $" + string(c.PID) + " > " + quote(c.Path) }

// WriteProc writes Data to the file called File of the process in PID below
// /proc: uid_map, gid_map, setgroups, timens_offsets.
type WriteProc struct {
	PID  plan.Reg
	File string
	Data string
}

func (WriteProc) Name() string { return "echo_proc" }

func (c WriteProc) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Data), plan.Value(c.PID), plan.String(c.File))
}

// Text is the action as a shell command.
func (c WriteProc) Text() string {
	return "echo " + quote(c.Data) + " > /proc/$" + string(c.PID) + "/" + c.File
}

// MapIDs has newuidmap(1) or newgidmap(1) write the map of the process in PID:
// an ordinary user may use the ranges that /etc/subuid grants only through
// these set-user-ID programs. Map is triples: inside, outside, count.
type MapIDs struct {
	Program string
	PID     plan.Reg
	Map     []uint32
}

func (MapIDs) Name() string { return "run" }

func (c MapIDs) AppendArgs(dst []plan.Arg) []plan.Arg {
	dst = append(dst, plan.String(c.Program), plan.Value(c.PID))
	for _, n := range c.Map {
		dst = append(dst, plan.Number(n))
	}
	return dst
}

// UserNamespace makes a user namespace with these maps that has no process in it: its
// descriptor stands for the maps, as mount_setattr(2) takes them for id-mapped mounts.
// The maps are written as in user_namespaces(7), a line for each range: first id
// inside, first id outside, count. For a mount, inside is the file system.
type UserNamespace struct{ UIDMap, GIDMap string }

func (UserNamespace) Name() string { return "userns" }

func (c UserNamespace) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.UIDMap), plan.String(c.GIDMap))
}

// ServeFuse starts a program that serves a mount of FUSE (fuse(4)), as fuse-overlayfs(1) does: Fuse is the descriptor of
// /dev/fuse that the mount was made with, which the child has sent (see SendFD) and which the program finds as its last
// argument, /dev/fd/3. With Users it runs in the user namespace of the process that PID says, as its root. The step is
// done when the program serves; it ends when the mount is gone.
type ServeFuse struct {
	Program, Options string
	Fuse             plan.Reg
	PID              plan.Reg
	Users            bool
}

func (ServeFuse) Name() string { return "serve" }

func (c ServeFuse) AppendArgs(dst []plan.Arg) []plan.Arg {
	dst = append(dst, plan.String(c.Program), plan.String("-o"), plan.String(c.Options), plan.Value(c.Fuse))
	if c.Users {
		dst = append(dst, plan.Value(c.PID))
	}
	return dst
}

// CopyTree copies what is in the directory From to the directory To, with owners,
// modes, times, links and extended attributes. With Top, To itself gets the owner and
// mode of From. Both are descriptors that the child has sent, see SendFD. Nothing of the tree
// is trusted: no link is followed, no device or fifo opened.
type CopyTree struct {
	From, To plan.Reg
	Top      bool
}

func (CopyTree) Name() string { return "copy" }

func (c CopyTree) AppendArgs(dst []plan.Arg) []plan.Arg {
	top := 0
	if c.Top {
		top = 1
	}
	return append(dst, plan.Value(c.From), plan.Value(c.To), plan.Number(top))
}

// Provide writes the content of a secret, which whoever executes the plan knows and no
// plan holds, into the File, which is there and empty, of the directory To, a descriptor that
// the child has sent. Then the file gets the Mode, octal digits.
type Provide struct {
	To                 plan.Reg
	Secret, File, Mode string
}

func (Provide) Name() string { return "provide" }

func (c Provide) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Value(c.To), plan.String(c.Secret), plan.String(c.File), plan.String(c.Mode))
}

// OpenHost opens a file or directory of the host for the child, which inherits
// the descriptor under the step's register.
type OpenHost struct {
	Path  string
	Flags OpenFlags
}

func (OpenHost) Name() string { return "open" }

func (c OpenHost) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Path), plan.Flags(uint64(c.Flags), &openFlagNames))
}

// OpenPidfd opens the pidfd of a process by number, pidfd_open(2), Linux 5.3.
//
// Start is when the process was started, in clock ticks since boot as in field 22 of
// /proc/PID/stat, or 0 if any will do. Another process that has the number by now is
// ESRCH.
type OpenPidfd struct {
	PID   int
	Start uint64
}

func (OpenPidfd) Name() string { return "pidfd_open" }

func (c OpenPidfd) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.Number(c.PID), plan.Number(0))
}

// DeviceFilter loads an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE and
// attaches it to the cgroup v2 directory Cgroup (bpf(2)). Program holds struct
// bpf_insn instructions, 8 bytes each. The kernel detaches it with the
// directory's removal. With Replace it takes the place of the filter that an
// earlier one has attached, if there is one (BPF_F_REPLACE, Linux 5.6), so that at no
// time there is none.
type DeviceFilter struct {
	Cgroup  string
	Program string
	Replace bool
}

func (DeviceFilter) Name() string { return "bpf" }

func (c DeviceFilter) AppendArgs(dst []plan.Arg) []plan.Arg {
	dst = append(dst, plan.OneOf(8, &bpfNames), plan.String(c.Cgroup), plan.Blob(c.Program))
	if c.Replace {
		dst = append(dst, plan.OneOf(4, &attachNames))
	}
	return dst
}

// quote writes text as one word of a shell.
func quote(s string) string { return shellword.Quote(s) }
