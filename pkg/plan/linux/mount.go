package linux

import "github.com/containr/containr/pkg/plan"

// Mount is mount(2).
type Mount struct {
	Source, Target, Type string
	Flags                MountFlags
	Data                 string
}

func (Mount) Name() string { return "mount" }

// AppendArgs passes NULL for an empty source, type or data, as mount(2) wants
// for remounts and changes of propagation.
func (c Mount) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, optional(c.Source), plan.String(c.Target), optional(c.Type),
		plan.Flags(uint64(c.Flags), &mountFlagNames), optional(c.Data))
}

func optional(s string) plan.Arg {
	if s == "" {
		return plan.Nil
	}
	return plan.String(s)
}

// Umount is umount2(2).
type Umount struct {
	Target string
	Flags  UmountFlags
}

func (Umount) Name() string { return "umount2" }

func (c Umount) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Target), plan.Flags(uint64(c.Flags), &umountFlagNames))
}

// PivotRoot is pivot_root(2): NewRoot becomes the root, the old one appears at
// PutOld.
type PivotRoot struct{ NewRoot, PutOld string }

func (PivotRoot) Name() string { return "pivot_root" }

func (c PivotRoot) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.NewRoot), plan.String(c.PutOld))
}

// Chroot is chroot(2).
type Chroot struct{ Path string }

func (Chroot) Name() string { return "chroot" }

func (c Chroot) AppendArgs(dst []plan.Arg) []plan.Arg { return append(dst, plan.String(c.Path)) }

// Fsopen is fsopen(2), Linux 5.2: a new file system's configuration context. As a step of the host's it is made by a
// process that is born among those that the container shares: a procfs shows those of who opens it. That process has no
// file in sight.
type Fsopen struct{ Type string }

func (Fsopen) Name() string { return "fsopen" }

func (c Fsopen) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, plan.String(c.Type), plan.Flags(1, &fsopenFlagNames))
}

// Fsconfig is fsconfig(2), Linux 5.2: one parameter of the context FS, or, with
// Command FsconfigCreate, the order to make the file system.
type Fsconfig struct {
	FS         FD
	Command    FsconfigCommand
	Key, Value string
}

func (Fsconfig) Name() string { return "fsconfig" }

func (c Fsconfig) AppendArgs(dst []plan.Arg) []plan.Arg {
	value := plan.Nil
	if c.Command == FsconfigSetString {
		value = plan.String(c.Value)
	}
	return append(dst, c.FS.arg(), plan.OneOf(uint64(c.Command), &fsconfigNames), optional(c.Key), value, plan.Number(0))
}

// Fsmount is fsmount(2), Linux 5.2: the file system FS as a mount that is not
// attached anywhere yet.
type Fsmount struct {
	FS    FD
	Attrs MountAttrs
}

func (Fsmount) Name() string { return "fsmount" }

func (c Fsmount) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, c.FS.arg(), plan.Flags(1, &fsmountFlagNames), plan.Flags(uint64(c.Attrs), &mountAttrNames))
}

// OpenTree is open_tree(2), Linux 5.2: with OpenTreeClone a copy of the mount at
// Path that is not attached anywhere yet.
type OpenTree struct {
	Dir   FD
	Path  string
	Flags OpenTreeFlags
}

func (OpenTree) Name() string { return "open_tree" }

func (c OpenTree) AppendArgs(dst []plan.Arg) []plan.Arg {
	return append(dst, c.Dir.arg(), plan.String(c.Path), plan.Flags(uint64(c.Flags), &openTreeFlagNames))
}

// MoveMount is move_mount(2), Linux 5.2: the mount that From is open on is
// attached at ToPath below To, or at To itself when ToPath is empty.
type MoveMount struct {
	From   FD
	To     FD
	ToPath string
}

func (MoveMount) Name() string { return "move_mount" }

// MOVE_MOUNT_F_EMPTY_PATH and MOVE_MOUNT_T_EMPTY_PATH.
const (
	moveFromEmpty = 0x4
	moveToEmpty   = 0x40
)

func (c MoveMount) AppendArgs(dst []plan.Arg) []plan.Arg {
	flags := uint64(moveFromEmpty)
	if c.ToPath == "" {
		flags |= moveToEmpty
	}
	return append(dst, c.From.arg(), plan.String(""), c.To.arg(), plan.String(c.ToPath),
		plan.Flags(flags, &moveMountFlagNames))
}

// MountSetattr is mount_setattr(2), Linux 5.12, on the mount that Dir and Path
// name (an empty path is Dir itself).
type MountSetattr struct {
	Dir         FD
	Path        string
	Recursive   bool
	Set, Clear  MountAttrs
	Propagation MountFlags
	// UserNS is the user namespace whose map an id-mapped mount takes.
	UserNS FD
}

func (MountSetattr) Name() string { return "mount_setattr" }

func (c MountSetattr) AppendArgs(dst []plan.Arg) []plan.Arg {
	flags := uint64(0)
	if c.Path == "" {
		flags |= atEmptyPath
	}
	if c.Recursive {
		flags |= atRecursive
	}
	userns := plan.Number(0)
	if c.UserNS != "" {
		userns = c.UserNS.arg()
	}
	attr := plan.Pointer(
		plan.Flags(uint64(c.Set), &mountAttrNames).Member("attr_set", 8),
		plan.Flags(uint64(c.Clear), &mountAttrNames).Member("attr_clr", 8),
		plan.Flags(uint64(c.Propagation), &mountFlagNames).Member("propagation", 8),
		userns.Member("userns_fd", 8))
	return append(dst, c.Dir.arg(), plan.String(c.Path), plan.Flags(flags, &openTreeFlagNames), attr, plan.Number(32))
}

// Fspick is fspick(2), Linux 5.2: the configuration context of a file system that is
// mounted already, at the mount that Dir is open on. FsconfigReconfigure takes what
// was set into effect, for all mounts of the file system.
type Fspick struct{ Dir FD }

func (Fspick) Name() string { return "fspick" }

func (c Fspick) AppendArgs(dst []plan.Arg) []plan.Arg {
	const closeOnExec, emptyPath = 0x1, 0x8
	return append(dst, c.Dir.arg(), plan.String(""), plan.Flags(closeOnExec|emptyPath, &fspickFlagNames))
}
