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

// change plans the option remount: other attributes for a mount that is there, and
// without bind, other parameters for its file system.
func (b *builder) change(o *options, dest, pointer string) error {
	const why = "a mount that is there already, to be changed"
	at := linux.FD(rootReg)
	if dest != "/" {
		at = b.name("at")
		b.Do(why, linux.Openat2{Dir: rootReg, Path: strings.TrimPrefix(dest, "/"), Flags: linux.OPath | linux.OCloexec,
			Resolve: linux.ResolveInRoot | linux.ResolveNoMagiclinks}).As(plan.Reg(at)).For(pointer)
	}
	if !o.bind && len(o.data)+len(o.super) > 0 {
		b.Do(why, linux.Fspick{Dir: at}).As("fs").For(pointer)
		b.configure(why, o, pointer)
		b.Do(why, linux.Fsconfig{FS: "fs", Command: linux.FsconfigReconfigure}).For(pointer)
	}
	if b.in.Facts.HasMountSetattr() {
		setattr(b.Builder, at, o, pointer)
		return nil
	}
	if o.recSet|o.recClear != 0 {
		return fmt.Errorf("recursive mount attributes need Linux 5.12, this is %s", b.in.Facts.Kernel)
	}
	number, err := strconv.Atoi(path.Base(pointer))
	if err != nil {
		return err
	}
	b.remount(at, o, b.attributesAt(dest, number), pointer)
	return nil
}

// attributesAt is what the configuration, up to its mount of that number, says about the
// attributes of the mount that a path of the container lies on; links on the way are
// not looked at. Kernels before 5.12 take attributes away that a remount does not
// repeat.
func (b *builder) attributesAt(p string, mounts int) linux.MountFlags {
	flags, longest := b.in.RootMount, 0
	for i := range b.in.Spec.Mounts[:mounts] {
		m := &b.in.Spec.Mounts[i]
		if d := m.Destination; len(d) < longest || d != "/" && p != d && !strings.HasPrefix(p, strings.TrimSuffix(d, "/")+"/") {
			continue
		}
		o, err := parseOptions(m.Options)
		if err != nil {
			continue // the planning of that mount has failed
		}
		longest = len(m.Destination)
		if !o.remount {
			flags = b.in.Sources[m.Source].Mount
		}
		flags = o.remountFlags(flags)
	}
	return flags
}

// configure passes the file system's own parameters to the context in the register fs.
func (b *builder) configure(why string, o *options, pointer string) {
	for _, kv := range o.data {
		key, value, has := strings.Cut(kv, "=")
		c := linux.Fsconfig{FS: "fs", Command: linux.FsconfigSetFlag, Key: key}
		if has {
			c.Command, c.Value = linux.FsconfigSetString, value
		}
		b.Do(why, c).For(pointer)
	}
	for _, key := range o.super {
		b.Do(why, linux.Fsconfig{FS: "fs", Command: linux.FsconfigSetFlag, Key: key}).For(pointer)
	}
}

// filled plans a tmpfs that begins with what the image has at its place. Copying is not
// a system call: the host does it, between two directories whose descriptors the child
// sends, before the tmpfs covers the other.
func (b *builder) filled(m *specs.Mount, o *options, dest, pointer string) error {
	if b.inFresh(dest) {
		return b.mountNew(m, o, dest, pointer) // there is nothing to copy
	}
	const why = "it begins with what the image has there"
	reg := b.name("mnt")
	writable := *o
	writable.set, writable.recSet = o.set&^linux.AttrReadonly, o.recSet&^linux.AttrReadonly
	b.newFilesystem(m.Type, m.Source, &writable, plan.Reg(reg), pointer)
	at := b.lookup(dest, true, pointer)
	from, to := plan.Reg("from"+strconv.Itoa(b.n)), plan.Reg("to"+strconv.Itoa(b.n))
	b.Do(why, linux.Openat{Dir: at, Path: ".", Flags: linux.ODirectory | linux.OCloexec}).As(from).For(pointer)
	b.Do(why, linux.Openat{Dir: reg, Path: ".", Flags: linux.ODirectory | linux.OCloexec}).As(to).For(pointer)
	for _, r := range []plan.Reg{from, to} {
		b.Do(why, linux.SendFD{Socket: linux.FD(Sync), FD: r, Data: string(r)}).For(pointer)
	}
	b.By(plan.Host).Do(why, linux.CopyTree{From: from, To: to, Top: !o.saysOwner()}).For(pointer)
	b.By(plan.Child)
	b.cover(dest)
	b.Do("at "+dest, linux.MoveMount{From: reg, To: at}).For(pointer)
	if o.attrs() != writable.attrs() {
		if b.in.Facts.HasMountSetattr() {
			setattr(b.Builder, reg, &options{set: linux.AttrReadonly}, pointer)
		} else {
			b.remount(reg, &options{set: o.attrs()}, attrFlags(writable.attrs()), pointer)
		}
	}
	b.propagate(reg, o, pointer)
	return nil
}
