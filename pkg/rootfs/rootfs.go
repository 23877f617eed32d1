// Package rootfs plans what a container sees as its file system.
//
// # Theory of operation
//
// The child is born into a copy of the host's mount table. In this order it
//
//  1. cuts the copy off, so that nothing it mounts appears on the host (MS_SLAVE);
//  2. makes the image's tree a mount, and keeps a descriptor of it, the register
//     "root": a bind of a directory, or an overlay of layers that exists in this
//     mount namespace only and vanishes with it, or a directory whose files appear
//     with other owners;
//  3. adds the mounts of the configuration. Each is made detached (fsopen or
//     open_tree), gets its attributes, and is then attached to a descriptor of the
//     place where it belongs. The place is looked up with openat2 and
//     RESOLVE_IN_ROOT from "root", so no symbolic link in the image leads outside
//     (CVE-2021-30465), and missing directories are made one by one below
//     descriptors;
//  4. fills the fresh /dev with nodes and links;
//  5. covers paths of /proc and /sys that tell or change too much, walking from the
//     descriptors of its own procfs and sysfs;
//  6. makes "root" the root with pivot_root and drops the host's tree.
//
// What is different without a mount namespace of the child's own is in shared.go.
//
// Paths of the host (sources of binds, the layers) are trusted; whatever lies
// below "root" is not.
//
// Two things the child cannot do. Mounts whose files appear with other owners are made
// by the host before the child is born (Before), as only the owner of a file system may
// map it. And the files that a tmpfs begins with (tmpcopyup) are copied by the host
// while the child waits, since no system call copies a tree: the child sends both
// directories over its socket.
//
// mount_setattr(2) came with Linux 5.12. On older kernels attributes of binds are
// set by a remount, which needs a mount with a place in the tree. A directory is
// remounted after attaching, through the working directory and ".", so that no path
// inside the tree is walked there either. A file cannot be the working directory: it
// is bound over itself first, at its own place in the child's copy of the host's
// tree, remounted there, and then moved.
package rootfs

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// CgroupMount is one control group directory that a mount of type cgroup shows.
type CgroupMount struct {
	// Name is the directory's name below the mount point ("cpu,cpuacct"); empty
	// on version 2, where the mount point itself is the directory.
	Name string
	// Controllers of version 1 each get a link when several share a directory.
	Controllers []string
	// Path is the container's control group on the host.
	Path string
}

// Input is what the planner reads.
type Input struct {
	Spec  *specs.Spec
	Facts *host.Facts
	// Root is the host directory of the root file system. When the first
	// mount's destination is "/", that mount is the root file system, and Root
	// is just a directory to attach it to.
	Root string
	// Sources tells for every source of a bind what it is, and with UserNS for every
	// device.
	Sources map[string]host.Source
	// RootMount are the attributes of the mount that Root lies on. They count before
	// Linux 5.12 only.
	RootMount linux.MountFlags
	Cgroups   []CgroupMount
	// UserNS says that the child is in a user namespace: device nodes cannot be
	// made there and are bound from the host instead.
	UserNS bool
	// NoPivot moves the root over the old one instead of pivoting, for hosts that
	// run from an initramfs, which cannot be pivoted away from.
	NoPivot bool
	// MapLayers is the function of that name for programs that have layers of images: the
	// owners of an overlay's files can then be mapped. Nil leaves it out of a program.
	MapLayers func(Input) (Layers, error)
	// Contexts says that there is a context for each procfs, opened by Contexts: the child
	// is not among the processes that it is to show.
	Contexts bool
	// Joined, for Terminal, says that the process joins a container that has its
	// /dev/console already.
	Joined bool
}

const rootReg = "root"

// Sync is the register of the child's socket to the host, as internal/child calls it.
const Sync plan.Reg = "sync"

// ErrSource means that the source of a bind does not exist.
var ErrSource = errors.New("bind source does not exist")

type builder struct {
	*plan.Builder
	in Input
	// fresh are mounts that are empty file systems of our own, by destination: in
	// them nothing needs to be looked up.
	fresh map[string]linux.FD
	// proc and sys are our own procfs and sysfs, if mounted at their usual places.
	proc, sys linux.FD
	cwd       linux.FD // where the last fchdir went
	noLinks   bool     // see lookup
	trusted   []trusted
	secret    linux.FD // the file system of secrets
	n         int      // registers that have been given a name of their own
}

// Plan returns the child's steps up to the mounts, devices and covers; Enter
// returns those that make the result the root.
func Plan(in Input) ([]plan.Step, error) {
	b := &builder{Builder: plan.Build(plan.Child, plan.RootfsChapter), in: in, fresh: make(map[string]linux.FD)}
	b.Steps = make([]plan.Step, 0, 12*len(in.Spec.Mounts)+64+4*(len(in.Spec.Linux.MaskedPaths)+len(in.Spec.Linux.ReadonlyPaths)))
	mounts, err := b.root()
	if err != nil {
		return nil, err
	}
	for i := mounts; i < len(in.Spec.Mounts); i++ {
		if err := b.mount(&in.Spec.Mounts[i], "/mounts/"+strconv.Itoa(i)); err != nil {
			return nil, fmt.Errorf("/mounts/%d (%s): %w", i, in.Spec.Mounts[i].Destination, err)
		}
	}
	if err := b.devices(); err != nil {
		return nil, err
	}
	b.covers()
	return b.Steps, nil
}

// root plans steps 1 and 2 and returns the index of the first further mount.
func (b *builder) root() (int, error) {
	spec := b.in.Spec
	if sharesMounts(b.in) {
		b.Do("from here on the root file system is this descriptor",
			linux.Openat{Dir: linux.CWD, Path: b.in.Root, Flags: linux.OPath | linux.ODirectory | linux.OCloexec}).As(rootReg).For("/root/path")
		return 0, nil
	}
	flags, why := linux.MsSlave, "mounts made here stay here, those of the host still arrive"
	switch spec.Linux.RootfsPropagation {
	case "", "slave", "rslave":
	case "private", "rprivate":
		flags, why = linux.MsPrivate, "mounts stay on their side, here and on the host"
	case "shared", "rshared", "unbindable", "runbindable":
		flags, why = linux.MsSlave, "mounts made here stay here until the root is in place"
	default:
		return 0, fmt.Errorf("/linux/rootfsPropagation: unknown propagation %q", spec.Linux.RootfsPropagation)
	}
	b.Do(why, linux.Mount{Target: "/", Flags: flags | linux.MsRec})
	if len(spec.Mounts) > 0 && path.Clean(spec.Mounts[0].Destination) == "/" {
		return 1, b.mountedRoot(&spec.Mounts[0])
	}
	b.Do("the root file system becomes a mount of its own",
		linux.OpenTree{Dir: linux.CWD, Path: b.in.Root, Flags: linux.OpenTreeClone | linux.OpenTreeCloexec | linux.AtRecursive}).
		As(rootReg).For("/root/path")
	openPlace(b.Builder, b.in.Root, "/root/path")
	b.Do("a new root must be attached somewhere", linux.MoveMount{From: rootReg, To: "place"}).For("/root/path")
	return 0, nil
}

// openPlace opens the directory that a new root is attached to, as "place".
func openPlace(b *plan.Builder, root, pointer string) {
	b.Do("a new root must be attached somewhere", linux.Openat{Dir: linux.CWD, Path: root, Flags: linux.OPath | linux.ODirectory | linux.OCloexec}).
		As("place").For(pointer)
}

// maxMountData is what mount(2) takes as data: one page with its closing NUL.
const maxMountData = 4095

// mountedRoot makes the first mount the root. Its options reach mount(2) as they are.
// Where they are too long for that (many layers), names of layers are made relative to
// the directory that all of them are in, and where that is not enough, the kernel must
// take the layers one by one.
func (b *builder) mountedRoot(m *specs.Mount) error {
	o, err := parseOptions(m.Options)
	if err != nil {
		return err
	}
	const pointer = "/mounts/0"
	switch bound := m.Type == "bind" || o.bind; {
	case bound && isMapped(m):
		return b.mappedRoot(m, pointer)
	case bound:
		return errors.New("/mounts/0: a bind over / is what root.path is for, unless the owners of its files are to be mapped")
	case mappedOverlay(&b.in, m):
		return b.mappedRoot(m, pointer)
	case isMapped(m):
		return fmt.Errorf("/mounts/0: only a bind, and the layers of an overlay, can have their files' owners mapped: the kernel maps no %s", m.Type)
	}
	if m.Type == FuseOverlay {
		b.served(m, o, pointer)
		return nil
	}
	if err := b.mountImages(o, pointer); err != nil {
		return fmt.Errorf("/mounts/0: %w", err)
	}
	return b.overlay(m, o, rootReg, pointer)
}

// overlay plans the mount of a file system at Root, an overlay most often, and has reg
// stand for it.
func (b *builder) overlay(m *specs.Mount, o *options, reg plan.Reg, pointer string) error {
	data := b.mountData(m.Type, o)
	if len(data) > maxMountData {
		if dir, short := relativeLower(o.data); dir != "" {
			relative := *o
			relative.data = short
			if d := b.mountData(m.Type, &relative); len(d) <= maxMountData {
				b.Do("the names of the layers count from here: written in full they are longer than the kernel takes", linux.Chdir{Path: dir}).For(pointer)
				data = d
			}
		}
	}
	if len(data) <= maxMountData {
		b.Do("the layers of the image, and above them one to write to, in a mount that ends with the container",
			linux.Mount{Source: m.Source, Target: b.in.Root, Type: m.Type, Flags: o.mountFlags(), Data: data}).For(pointer)
		b.Do("from here on the root file system is this descriptor",
			linux.Openat{Dir: linux.CWD, Path: b.in.Root, Flags: linux.OPath | linux.ODirectory | linux.OCloexec}).As(reg).For(pointer)
		return nil
	}
	if m.Type != "overlay" || !b.in.Facts.HasOverlayLowerAppend() {
		return fmt.Errorf("/mounts/0: %d bytes of mount options, the kernel takes %d (Linux 6.7 can take the layers one by one)", len(data), maxMountData)
	}
	o.data = splitLower(o.data)
	b.newFilesystem(m.Type, m.Source, o, reg, pointer)
	openPlace(b.Builder, b.in.Root, pointer)
	b.Do("a new root must be attached somewhere", linux.MoveMount{From: linux.FD(reg), To: "place"}).For(pointer)
	return nil
}

// mappedRoot makes a directory the root whose files appear with other owners than they
// have: a user namespace's own, most often. The host has made the mount, see Before, or the
// keeper, see MapLayers.
func (b *builder) mappedRoot(m *specs.Mount, pointer string) error {
	if m.Type != "overlay" && b.in.Sources[m.Source].Kind != host.Directory {
		return fmt.Errorf("/mounts/0: %w: no directory %s", ErrSource, m.Source)
	}
	if b.in.MapLayers == nil { // else it is open, see Layers.Born
		openPlace(b.Builder, b.in.Root, pointer)
	}
	mount := linux.FD(mappedReg(pointer))
	b.Do("the root file system, with the owners that its files have here", linux.MoveMount{From: mount, To: "place"}).For(pointer)
	b.Do("from here on the root file system is this descriptor",
		linux.Openat{Dir: mount, Path: ".", Flags: linux.OPath | linux.ODirectory | linux.OCloexec}).As(rootReg).For(pointer)
	return nil
}

// mountData are the file system's own parameters as mount(2) takes them.
func (b *builder) mountData(fstype string, o *options) string {
	list := o.data
	if b.labels(fstype, o) {
		list = append(list[:len(list):len(list)], "context="+strconv.Quote(b.label()))
	}
	return strings.Join(list, ",")
}

// relativeLower finds the directory that all lower directories of an overlay are in,
// and writes their names without it; dir is empty if there is none.
func relativeLower(list []string) (dir string, short []string) {
	for i, o := range list {
		names, ok := strings.CutPrefix(o, "lowerdir=")
		if !ok {
			continue
		}
		layers := strings.Split(names, ":")
		dir = path.Dir(layers[0])
		for _, l := range layers {
			for !strings.HasPrefix(l, strings.TrimSuffix(dir, "/")+"/") {
				if dir == "." || dir == "/" {
					return "", nil
				}
				dir = path.Dir(dir)
			}
		}
		for k := range layers {
			layers[k] = strings.TrimPrefix(layers[k][len(dir):], "/")
		}
		short = append(append(append(short, list[:i]...), "lowerdir="+strings.Join(layers, ":")), list[i+1:]...)
		return dir, short
	}
	return "", nil
}

// splitLower turns "lowerdir=a:b:c" into "lowerdir+=a", "lowerdir+=b", ...
func splitLower(options []string) []string {
	var out []string
	for _, o := range options {
		if list, ok := strings.CutPrefix(o, "lowerdir="); ok {
			for dir := range strings.SplitSeq(list, ":") {
				out = append(out, "lowerdir+="+dir)
			}
			continue
		}
		out = append(out, o)
	}
	return out
}

// newFilesystem plans fsopen to fsmount; the detached mount is in reg.
func (b *builder) newFilesystem(fstype, source string, o *options, reg plan.Reg, pointer string) {
	why := "a new " + fstype
	for _, k := range &filesystems {
		if k.name == fstype {
			why += ": " + k.why
		}
	}
	if fstype == procfs && b.in.Contexts {
		b.Do(why, linux.DupFD{FD: linux.FD(contextOf(pointer))}).As("fs").For(pointer)
	} else {
		b.Do(why, linux.Fsopen{Type: fstype}).As("fs").For(pointer)
	}
	if source != "" {
		b.Do(why, linux.Fsconfig{FS: "fs", Command: linux.FsconfigSetString, Key: "source", Value: source}).For(pointer)
	}
	b.configure(why, o, pointer)
	b.labelNew(fstype, o)
	b.Do(why, linux.Fsconfig{FS: "fs", Command: linux.FsconfigCreate}).For(pointer)
	b.Do(why, linux.Fsmount{FS: "fs", Attrs: o.attrs() &^ b.late()}).As(reg).For(pointer)
	b.labelMade(fstype, reg)
}

const procfs = "proc"

// contextOf is the register of a procfs's context, see Input.Contexts.
func contextOf(pointer string) plan.Reg {
	return plan.Reg("context" + strings.TrimPrefix(pointer, "/mounts/"))
}

// Contexts are the host's steps that open a context for each procfs, see Input.Contexts.
func Contexts(mounts []specs.Mount) []plan.Step {
	b := plan.Build(plan.Host, plan.RootfsChapter)
	for i := range mounts {
		if pointer := "/mounts/" + strconv.Itoa(i); mounts[i].Type == procfs {
			b.Do("a new proc is opened by one of the processes that it shows: this one lives for that, and has nothing of the host's in sight",
				linux.Fsopen{Type: procfs}).As(contextOf(pointer)).For(pointer)
		}
	}
	return b.Steps
}

// filesystems says what the usual kinds are for.
var filesystems = [...]struct{ name, why string }{
	{"proc", "the processes of the container's own process namespace, and the kernel's tables"},
	{"sysfs", "the kernel's devices, as the container's network namespace sees them"},
	{"tmpfs", "a file system in memory that ends with the container"},
	{"devpts", "terminals of the container's own"},
	{"mqueue", "POSIX message queues of the container's own IPC namespace"},
	{"cgroup2", "the container's control group, as the root of the tree"},
}

// rootMount are the attributes that the root's mount has.
func rootMount(in Input) linux.MountFlags {
	b := builder{in: in}
	return b.attributesAt("/", len(in.Spec.Mounts))
}

// Enter makes the register "root" the root directory and drops the host's tree.
func Enter(in Input) []plan.Step {
	b := plan.Build(plan.Child, plan.RootfsChapter)
	if in.Spec.Root != nil && in.Spec.Root.Readonly && in.Facts.HasMountSetattr() {
		b.Do("nobody may write to the root file system",
			linux.MountSetattr{Dir: rootReg, Set: linux.AttrReadonly}).For("/root/readonly")
	}
	b.Do("the new root is the working directory", linux.Fchdir{FD: rootReg})
	switch {
	case sharesMounts(in):
		b.Do("the root of this process alone: the mounts are the host's", linux.Chroot{Path: "."}).For("/linux/namespaces")
	case in.NoPivot:
		b.Do("the root of an initramfs cannot be pivoted away from; the new one is moved over it", linux.Mount{Source: ".", Target: "/", Flags: linux.MsMove})
		b.Do("and becomes the root", linux.Chroot{Path: "."})
	default:
		b.Do("the new root becomes the root, the old one lies above it", linux.PivotRoot{NewRoot: ".", PutOld: "."})
		b.Do("the host's tree is gone from here", linux.Umount{Target: ".", Flags: linux.MntDetach})
	}
	b.Do("from inside", linux.Chdir{Path: "/"})
	if sharesMounts(in) {
		return b.Steps
	}
	if in.Spec.Root != nil && in.Spec.Root.Readonly && !in.Facts.HasMountSetattr() {
		b.Do("nobody may write to the root file system",
			linux.Mount{Target: "/", Flags: linux.MsRemount | linux.MsBind | linux.MsReadonly | rootMount(in)}).For("/root/readonly")
	}
	switch in.Spec.Linux.RootfsPropagation {
	case "shared", "rshared":
		b.Do("the container's own mounts are to be shared with its children", linux.Mount{Target: "/", Flags: linux.MsShared | linux.MsRec}).For("/linux/rootfsPropagation")
	case "unbindable", "runbindable":
		b.Do("the root must not be bound again", linux.Mount{Target: "/", Flags: linux.MsUnbindable | linux.MsRec}).For("/linux/rootfsPropagation")
	}
	return b.Steps
}
