package rootfs

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// The devices that every container has, runtime specification "Default Devices".
// All are character devices with mode 0666.
var defaultDevices = [...]struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

// The links of /dev, runtime specification "Dev symbolic links". The link to
// /proc/kcore that docker makes is left out: the file is masked.
var devLinks = [...]struct{ name, target string }{
	{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
	{"ptmx", "pts/ptmx"},
}

// devices fills /dev, when it is a file system of our own, and adds the
// configuration's devices wherever they belong.
func (b *builder) devices() error {
	dev, fresh := b.fresh["/dev"]
	if fresh {
		b.Do("modes of device nodes are meant as they are written", linux.Umask{})
		for _, d := range &defaultDevices {
			if err := b.device(dev, node{"/dev/" + d.name, charDevice | 0o666, d.major, d.minor}, ""); err != nil {
				return err
			}
		}
		for _, l := range &devLinks {
			b.Do("names that programs expect in /dev", linux.Symlinkat{Target: l.target, Dir: dev, Path: l.name})
		}
	}
	for i := range b.in.Spec.Linux.Devices {
		pointer := "/linux/devices/" + strconv.Itoa(i)
		if err := b.specDevice(&b.in.Spec.Linux.Devices[i], dev, fresh, pointer); err != nil {
			return fmt.Errorf("%s: %w", pointer, err)
		}
	}
	return nil
}

// BoundDevices lists the host's devices that a container in a user namespace of its
// own gets bound: Input.Sources has to tell what they are.
func BoundDevices(spec *specs.Spec) []string {
	var paths []string
	for _, d := range &defaultDevices {
		paths = append(paths, "/dev/"+d.name)
	}
	for _, d := range spec.Linux.Devices {
		paths = append(paths, path.Clean(d.Path))
	}
	return paths
}

// node is a device, or a fifo, as the configuration asks for it.
type node struct {
	path         string // in the container, and of the host's where it is bound
	mode         uint32
	major, minor uint32
}

// device makes a node, or binds the host's where nodes cannot be made. What the host
// has at that name must be the same device: its directory may be somebody else's.
func (b *builder) device(dir linux.FD, n node, pointer string) error {
	name := path.Base(n.path)
	if !b.in.UserNS || n.mode&fileType == fifo {
		b.Do("devices that do no harm", linux.Mknodat{Dir: dir, Path: name, Mode: n.mode, Major: n.major, Minor: n.minor}).For(pointer)
		return nil
	}
	want, has := host.Device{Kind: n.mode & fileType, Major: n.major, Minor: n.minor}, b.in.Sources[n.path]
	switch {
	case has.Kind == host.Missing:
		return fmt.Errorf("%w: device %s of the host, which a user namespace needs as it cannot make one", ErrSource, n.path)
	case has.Device != want:
		return fmt.Errorf("the host's %s is %s, not %s: in a user namespace it would be bound in its place", n.path, has.Device, want)
	}
	const why = "in a user namespace nodes cannot be made: the host's own is bound"
	b.Do(why, linux.OpenTree{Dir: linux.CWD, Path: n.path, Flags: linux.OpenTreeClone | linux.OpenTreeCloexec}).As("tree").For(pointer)
	b.Do(why, linux.Mknodat{Dir: dir, Path: name, Mode: regular | 0o644}).For(pointer)
	b.Do(why, linux.MoveMount{From: "tree", To: dir, ToPath: name}).For(pointer)
	return nil
}

func (b *builder) specDevice(d *specs.LinuxDevice, dev linux.FD, fresh bool, pointer string) error {
	p := path.Clean(d.Path)
	if !path.IsAbs(p) || p == "/" {
		return fmt.Errorf("path %q is not absolute", d.Path)
	}
	kind := uint32(charDevice)
	switch d.Type {
	case "c", "u":
	case "b":
		kind = blockDevice
	case "p":
		kind = fifo
	default:
		return fmt.Errorf("unknown device type %q", d.Type)
	}
	if d.Major < 0 || d.Minor < 0 || d.Major > 0xfff || d.Minor > 0xfffff {
		return fmt.Errorf("device number %d:%d out of range", d.Major, d.Minor)
	}
	name, isDefault := strings.CutPrefix(p, "/dev/")
	if fresh && isDefault {
		for _, def := range &defaultDevices {
			if def.name == name {
				return nil
			}
		}
	}
	mode := uint32(0o666)
	if d.FileMode != nil {
		mode = uint32(d.FileMode.Perm())
	}
	dir := dev
	if !fresh || path.Dir(p) != "/dev" {
		dir = b.lookup(path.Dir(p), true, pointer)
	}
	base := path.Base(p)
	if err := b.device(dir, node{p, kind | mode, uint32(d.Major), uint32(d.Minor)}, pointer); err != nil {
		return err
	}
	if uid, gid := optionalID(d.UID), optionalID(d.GID); uid|gid != 0 && !b.in.UserNS {
		b.Do("the device's owner", linux.Fchownat{Dir: dir, Path: base, UID: uid, GID: gid}).For(pointer)
	}
	return nil
}

func optionalID(p *uint32) uint32 {
	if p == nil {
		return 0
	}
	return *p
}

// covers plans masked and read-only paths.
func (b *builder) covers() {
	l := b.in.Spec.Linux
	for i, p := range l.MaskedPaths {
		b.mask(path.Clean(p), "/linux/maskedPaths/"+strconv.Itoa(i))
	}
	for i, p := range l.ReadonlyPaths {
		b.readonly(path.Clean(p), "/linux/readonlyPaths/"+strconv.Itoa(i))
	}
}

// own splits a path of our procfs or sysfs into its descriptor and the rest, which
// the kernel alone has filled.
func (b *builder) own(p string) (dir linux.FD, rest string, attrs linux.MountFlags) {
	const safe = linux.MsNosuid | linux.MsNodev | linux.MsNoexec
	if r, ok := strings.CutPrefix(p, "/proc/"); ok && b.proc != "" {
		return b.proc, r, safe
	}
	if r, ok := strings.CutPrefix(p, "/sys/"); ok && b.sys != "" {
		return b.sys, r, safe
	}
	return "", "", 0
}

// mask covers a file with /dev/null and a directory with an empty file system. A path
// that is not there needs no cover. Which of the two it is is asked first: mounting a
// file over a directory would fail too, but the kernel waits for all processors (an RCU
// grace period) before it says so.
func (b *builder) mask(p, pointer string) {
	const why = "tells too much: covered"
	dir, rest, _ := b.own(p)
	if dir != "" {
		b.chdir(dir)
		b.Do(p+" "+why, linux.Faccessat{Dir: linux.CWD, Path: rest + "/", Mode: linux.FOK}).Ok(plan.ENOTDIR, plan.ENOENT).For(pointer)
		b.Do(p+" "+why, linux.Mount{Source: "tmpfs", Target: rest, Type: "tmpfs", Flags: linux.MsReadonly,
			Data: b.mountData("tmpfs", &options{data: []string{"size=0k", "nr_inodes=2"}})}).
			Then().Ok(plan.ENOENT).For(pointer)
		b.Do(p+" "+why, linux.Mount{Source: "/dev/null", Target: rest, Flags: linux.MsBind}).Else().Ok(plan.ENOENT).For(pointer)
		return
	}
	b.Do(p+" "+why, linux.OpenTree{Dir: linux.CWD, Path: "/dev/null", Flags: linux.OpenTreeClone | linux.OpenTreeCloexec}).As("null").For(pointer)
	b.newFilesystem("tmpfs", "tmpfs", &options{set: linux.AttrReadonly, data: []string{"size=0k", "nr_inodes=2"}}, "empty", pointer)
	b.Do(p+" "+why, linux.Openat2{Dir: rootReg, Path: p[1:], Flags: linux.OPath | linux.OCloexec, Resolve: linux.ResolveInRoot | linux.ResolveNoMagiclinks}).
		As("at").Ok(plan.ENOENT, plan.ENOTDIR).For(pointer)
	// A file over a directory, or the reverse, is EINVAL to move_mount(2): one of the
	// two fits.
	b.Do(p+" "+why, linux.MoveMount{From: "null", To: "at"}).Then().Ok(plan.EINVAL, plan.ENOTDIR).For(pointer)
	b.Do(p+" "+why, linux.MoveMount{From: "empty", To: "at"}).Then().Ok(plan.EINVAL, plan.ENOTDIR).For(pointer)
}

// readonly covers a path with itself, read-only.
func (b *builder) readonly(p, pointer string) {
	const why = "changes the machine: read-only"
	dir, rest, flags := b.own(p)
	if dir != "" {
		b.chdir(dir)
		b.Do(p+" "+why, linux.Mount{Source: rest, Target: rest, Flags: linux.MsBind | linux.MsRec}).Ok(plan.ENOENT).For(pointer)
		b.Do(p+" "+why, linux.Mount{Target: rest, Flags: linux.MsBind | linux.MsRemount | linux.MsReadonly | flags}).Then().For(pointer)
		return
	}
	at, tree := b.name("at"), b.name("tree")
	b.Do(p+" "+why, linux.Openat2{Dir: rootReg, Path: p[1:], Flags: linux.OPath | linux.OCloexec, Resolve: linux.ResolveInRoot | linux.ResolveNoMagiclinks}).
		As(plan.Reg(at)).Ok(plan.ENOENT, plan.ENOTDIR).For(pointer)
	b.Do(p+" "+why, linux.OpenTree{Dir: at, Flags: linux.OpenTreeClone | linux.OpenTreeCloexec | linux.AtRecursive | linux.AtEmptyPath}).
		Then().As(plan.Reg(tree)).For(pointer)
	if b.in.Facts.HasMountSetattr() {
		b.Do(p+" "+why, linux.MountSetattr{Dir: tree, Recursive: true, Set: linux.AttrReadonly}).Then().For(pointer)
		b.Do(p+" "+why, linux.MoveMount{From: tree, To: at}).Then().For(pointer)
		return
	}
	b.readonlyOld(at, tree, p, pointer)
}

// readonlyOld makes the detached tree read-only and attaches it at the place that it is
// a copy of, on kernels before 5.12. A directory is attached first and remounted as the
// working directory. Any other file is attached over the host's /dev/null for a
// moment, to have a name. Which of the two it is only the kernel knows: for the wrong
// one, and where there is nothing at all, the first step of each way fails.
func (b *builder) readonlyOld(at, tree linux.FD, p, pointer string) {
	const why, stopover = "changes the machine: read-only", "/dev/null"
	remount := linux.MsBind | linux.MsRemount | linux.MsReadonly | b.attributesAt(p, len(b.in.Spec.Mounts))
	b.Do(p+" "+why+", if it is a directory", linux.Fchdir{FD: at}).Ok(plan.ENOTDIR, plan.EBADF).For(pointer)
	b.Do(p+" "+why, linux.MoveMount{From: tree, To: at}).Then().For(pointer)
	b.Do(p+" "+why, linux.Fchdir{FD: tree}).Then().For(pointer)
	b.Do(p+" "+why, linux.Mount{Target: ".", Flags: remount}).Then().For(pointer)
	b.cwd = ""
	b.Do(p+" "+why+", if it is a file: by way of a name outside", linux.MoveMount{From: tree, To: linux.CWD, ToPath: stopover}).
		Ok(plan.EINVAL, plan.ENOTDIR, plan.EBADF).For(pointer)
	b.Do(p+" "+why, linux.Mount{Target: stopover, Flags: remount}).Then().For(pointer)
	b.Do(p+" "+why, linux.MoveMount{From: tree, To: at}).Then().For(pointer)
}
