package rootfs

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

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
			b.device(dev, d.name, "/dev/"+d.name, charDevice|0o666, d.major, d.minor, "")
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

// device makes a node, or binds the host's where nodes cannot be made.
func (b *builder) device(dir linux.FD, name, hostPath string, mode, major, minor uint32, pointer string) {
	if b.in.UserNS {
		why := "in a user namespace nodes cannot be made: the host's own is bound"
		b.Do(why, linux.OpenTree{Dir: linux.CWD, Path: hostPath, Flags: linux.OpenTreeClone | linux.OpenTreeCloexec}).As("tree").For(pointer)
		b.Do(why, linux.Mknodat{Dir: dir, Path: name, Mode: regular | 0o644}).For(pointer)
		b.Do(why, linux.MoveMount{From: "tree", To: dir, ToPath: name}).For(pointer)
		return
	}
	b.Do("devices that do no harm", linux.Mknodat{Dir: dir, Path: name, Mode: mode, Major: major, Minor: minor}).For(pointer)
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
	b.device(dir, base, p, kind|mode, uint32(d.Major), uint32(d.Minor), pointer)
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

// mask covers a file with /dev/null or, when that fails because it is a directory,
// a directory with an empty file system. A path that is not there needs no cover.
func (b *builder) mask(p, pointer string) {
	const why = "tells too much: covered"
	dir, rest, _ := b.own(p)
	if dir != "" {
		b.chdir(dir)
		b.Do(p+" "+why, linux.Mount{Source: "/dev/null", Target: rest, Flags: linux.MsBind}).
			Ok(plan.ENOTDIR, plan.ENOENT).For(pointer)
		b.Do(p+" "+why, linux.Mount{Source: "tmpfs", Target: rest, Type: "tmpfs", Flags: linux.MsReadonly, Data: "size=0k,nr_inodes=2"}).
			Else().Ok(plan.ENOENT).For(pointer)
		return
	}
	b.Do(p+" "+why, linux.OpenTree{Dir: linux.CWD, Path: "/dev/null", Flags: linux.OpenTreeClone | linux.OpenTreeCloexec}).As("null").For(pointer)
	b.newFilesystem("tmpfs", "tmpfs", &options{set: linux.AttrReadonly, data: []string{"size=0k", "nr_inodes=2"}}, "empty", pointer)
	b.Do(p+" "+why, linux.Openat2{Dir: rootReg, Path: p[1:], Flags: linux.OPath | linux.OCloexec, Resolve: linux.ResolveInRoot | linux.ResolveNoMagiclinks}).
		As("at").Ok(plan.ENOENT, plan.ENOTDIR).For(pointer)
	// A file over a directory, or the reverse, is EINVAL to move_mount(2): one of the
	// two fits.
	b.Do(p+" "+why, linux.MoveMount{From: "null", To: "at"}).Then().Ok(plan.EINVAL, plan.ENOTDIR).As("covered").For(pointer)
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
	b.Do(p+" "+why, linux.Openat2{Dir: rootReg, Path: p[1:], Flags: linux.OPath | linux.OCloexec, Resolve: linux.ResolveInRoot | linux.ResolveNoMagiclinks}).
		As("at").Ok(plan.ENOENT, plan.ENOTDIR).For(pointer)
	b.Do(p+" "+why, linux.OpenTree{Dir: "at", Flags: linux.OpenTreeClone | linux.OpenTreeCloexec | linux.AtRecursive | linux.AtEmptyPath}).Then().As("tree").For(pointer)
	b.Do(p+" "+why, linux.MoveMount{From: "tree", To: "at"}).Then().For(pointer)
	if b.in.Facts.HasMountSetattr() {
		b.Do(p+" "+why, linux.MountSetattr{Dir: "tree", Recursive: true, Set: linux.AttrReadonly}).Then().For(pointer)
		return
	}
	b.Do(p+" "+why, linux.Fchdir{FD: "tree"}).Then().For(pointer)
	b.Do(p+" "+why, linux.Mount{Target: ".", Flags: linux.MsBind | linux.MsRemount | linux.MsReadonly}).Then().For(pointer)
	b.cwd = ""
}
