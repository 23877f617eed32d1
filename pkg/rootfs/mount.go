package rootfs

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// mount plans one entry of the configuration's mounts.
func (b *builder) mount(m *specs.Mount, pointer string) error {
	o, err := parseOptions(m.Options)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(m.Destination, "/") {
		return fmt.Errorf("destination is not an absolute path")
	}
	dest, bound := path.Clean(m.Destination), o.bind || m.Type == "bind"
	switch {
	case dest == "/" && !o.remount:
		return fmt.Errorf("only the first mount may be the root")
	case dest == "/proc" && m.Type != "proc" && m.Source != "/proc" && !o.remount:
		return fmt.Errorf("programs trust what /proc says: only a proc file system may be mounted there")
	case mappedOverlay(&b.in, m) && !o.remount:
		b.attach(linux.FD(mappedReg(pointer)), dest, true, pointer)
		b.trust(dest, linux.FD(mappedReg(pointer)))
		return nil
	case isMapped(m) && (!bound || o.remount):
		return fmt.Errorf("only a bind, or the layers of an overlay, can have its files' owners mapped, and only when it is made")
	case o.copyUp && m.Type != "tmpfs":
		return fmt.Errorf("option tmpcopyup is for a tmpfs")
	case o.remount:
		return b.change(o, dest, pointer)
	case bound:
		return b.bind(m, o, dest, pointer)
	case m.Type == "cgroup" || m.Type == "cgroup2":
		return b.cgroup(o, dest, pointer)
	case o.copyUp:
		return b.filled(m, o, dest, pointer)
	case m.Type == TreeType:
		return b.tree(m, o, dest, pointer)
	case m.Type == SecretsType:
		return b.secrets(o, dest, pointer)
	case m.Type == SecretType:
		return b.secretFile(m, dest, pointer)
	}
	return b.mountNew(m, o, dest, pointer)
}

// mountNew plans the mount of a file system that is made for it.
func (b *builder) mountNew(m *specs.Mount, o *options, dest, pointer string) error {
	if err := b.mountImages(o, pointer); err != nil {
		return err
	}
	if slices.ContainsFunc(o.data, func(d string) bool { return len(d) > maxParameter }) {
		return b.mountLong(m, o, dest, pointer)
	}
	reg := b.name("mnt")
	b.newFilesystem(m.Type, m.Source, o, plan.Reg(reg), pointer)
	// An image that has a link in the place of /proc wants it to be somewhere else than
	// where its name says (CVE-2019-19921, CVE-2023-27561).
	b.noLinks = m.Type == "proc" || m.Type == "sysfs"
	b.attach(reg, dest, true, pointer)
	b.noLinks = false
	if o.attrs()&b.late() != 0 {
		b.remount(reg, &options{set: o.attrs()}, attrFlags(o.attrs()&^b.late()), pointer)
	}
	b.propagate(reg, o, pointer)
	switch {
	case m.Type == "tmpfs":
		b.fresh[dest] = reg
	case m.Type == "proc" && dest == "/proc":
		b.proc = reg
	case m.Type == "sysfs" && dest == "/sys":
		b.sys = reg
	}
	b.trust(dest, reg)
	return nil
}

// maxParameter is how long a parameter may be that fsconfig(2) takes, in bytes.
const maxParameter = 255

// mountLong plans a new file system with parameters that only mount(2) takes, such as the
// names of many layers. It is mounted on the working directory, so that no path inside
// the tree is walked.
func (b *builder) mountLong(m *specs.Mount, o *options, dest, pointer string) error {
	data := b.mountData(m.Type, o)
	if len(data) > maxMountData {
		return fmt.Errorf("%d bytes of mount options, the kernel takes %d", len(data), maxMountData)
	}
	b.cover(dest)
	at := b.lookup(dest, true, pointer)
	b.cwd = "" // the register at means something else each time
	b.chdir(at)
	b.cwd = ""
	b.Do("a new "+m.Type+", at "+dest, linux.Mount{Source: m.Source, Target: ".", Type: m.Type, Flags: o.mountFlags(), Data: data}).For(pointer)
	if o.propagation != 0 {
		b.propagate(b.lookup(dest, true, pointer), o, pointer)
	}
	return nil
}

// late are the attributes that the kernel takes for a mount that is attached, by
// mount(2), and not yet for a new one: links that are not followed, between Linux 5.10
// and 5.14.
func (b *builder) late() linux.MountAttrs {
	if b.in.Facts.Kernel.AtLeast(5, 14) {
		return 0
	}
	return linux.AttrNosymfollow
}

// name makes a register name of its own.
func (b *builder) name(prefix string) linux.FD {
	b.n++
	return linux.FD(prefix + strconv.Itoa(b.n))
}

// bind plans a bind of a host path: a detached copy of the mount it lies on.
func (b *builder) bind(m *specs.Mount, o *options, dest, pointer string) error {
	source := b.in.Sources[Source(m)]
	if source.Kind == host.Missing {
		return fmt.Errorf("%w: %s", ErrSource, strings.ReplaceAll(Source(m), "\x00", ": "))
	}
	if isMapped(m) {
		b.attach(linux.FD(mappedReg(pointer)), dest, source.Kind == host.Directory, pointer)
		b.trust(dest, linux.FD(mappedReg(pointer)))
		return nil
	}
	old := !b.in.Facts.HasMountSetattr()
	if old && o.recursive && o.recSet|o.recClear != 0 {
		return fmt.Errorf("recursive mount attributes need Linux 5.12, this is %s", b.in.Facts.Kernel)
	}
	reg := b.name("bind")
	dir, path, empty := below(b.Builder, m.Source, o.subpath, pointer)
	if old && source.Kind == host.File {
		if o.subpath != "" {
			return fmt.Errorf("a file as a part of something else needs Linux 5.12, this is %s", b.in.Facts.Kernel)
		}
		b.boundFile(m.Source, reg, o, source.Mount, pointer)
		b.attach(reg, dest, false, pointer)
		return nil
	}
	flags := linux.OpenTreeClone | linux.OpenTreeCloexec
	why := "a host path to show inside"
	if o.recursive {
		flags |= linux.AtRecursive
		why = "a host path to show inside, with the mounts below it"
	}
	b.Do(why, linux.OpenTree{Dir: dir, Path: path, Flags: flags | empty}).As(plan.Reg(reg)).For(pointer)
	if !old {
		setattr(b.Builder, reg, o, pointer)
	}
	b.attach(reg, dest, source.Kind == host.Directory, pointer)
	if old {
		b.remount(reg, o, source.Mount, pointer)
	}
	b.trust(dest, reg)
	return nil
}

// setattr gives a detached bind its attributes and propagation.
func setattr(b *plan.Builder, reg linux.FD, o *options, pointer string) {
	if o.recSet|o.recClear != 0 {
		b.Do("its attributes, for all mounts below it", linux.MountSetattr{Dir: reg, Recursive: true, Set: o.recSet, Clear: o.recClear}).For(pointer)
	}
	if o.set|o.clear != 0 {
		b.Do("its attributes", linux.MountSetattr{Dir: reg, Set: o.set, Clear: o.clear}).For(pointer)
	}
	if o.propagation != 0 {
		b.Do(whyPropagation, linux.MountSetattr{
			Dir: reg, Recursive: o.propagation&linux.MsRec != 0, Propagation: o.propagation &^ linux.MsRec}).For(pointer)
	}
}

const whyPropagation = "whether mounts made below it are passed on"

// propagate sets the propagation of a mount that is attached, if that is asked for.
func (b *builder) propagate(reg linux.FD, o *options, pointer string) {
	switch {
	case o.propagation == 0:
	case b.in.Facts.HasMountSetattr():
		setattr(b.Builder, reg, &options{propagation: o.propagation}, pointer)
	default:
		b.chdir(reg)
		b.Do(whyPropagation, linux.Mount{Target: ".", Flags: o.propagation}).For(pointer)
	}
}

// remount does what setattr does, on kernels before 5.12, for a directory that is
// attached already and whose mount has some attributes.
func (b *builder) remount(reg linux.FD, o *options, has linux.MountFlags, pointer string) {
	if o.remountFlags(has) != has {
		b.chdir(reg)
		b.Do("its attributes", linux.Mount{Target: ".", Flags: linux.MsBind | linux.MsRemount | o.remountFlags(has)}).For(pointer)
	}
	b.propagate(reg, &options{propagation: o.propagation}, pointer)
}

// boundFile does the same for a file, which is then yet to be attached: what it opens
// is a mount with a place in the tree, which attaching moves.
func (b *builder) boundFile(source string, reg linux.FD, o *options, has linux.MountFlags, pointer string) {
	const why = "a host file to show inside: a mount of its own, at its own place as yet"
	b.Do(why, linux.Mount{Source: source, Target: source, Flags: linux.MsBind}).For(pointer)
	if o.remountFlags(has) != has {
		b.Do("its attributes", linux.Mount{Target: source, Flags: linux.MsBind | linux.MsRemount | o.remountFlags(has)}).For(pointer)
	}
	if o.propagation != 0 {
		b.Do(whyPropagation, linux.Mount{Target: source, Flags: o.propagation}).For(pointer)
	}
	b.Do(why, linux.OpenTree{Dir: linux.CWD, Path: source, Flags: linux.OpenTreeCloexec}).As(plan.Reg(reg)).For(pointer)
}

// chdir goes to a descriptor's directory if it is not there already.
func (b *builder) chdir(reg linux.FD) {
	if b.cwd != reg {
		b.Do("paths are relative to a descriptor, not to names in the image", linux.Fchdir{FD: reg})
		b.cwd = reg
	}
}

// inFresh reports whether dest is right below a file system of our own.
func (b *builder) inFresh(dest string) bool {
	_, fresh := b.fresh[path.Dir(dest)]
	return fresh
}

// attach puts a detached mount at dest, which is made if it is missing.
func (b *builder) attach(reg linux.FD, dest string, dir bool, pointer string) {
	parent, inFresh := b.fresh[path.Dir(dest)]
	b.cover(dest)
	if !inFresh {
		at := b.lookup(dest, dir, pointer)
		b.Do("at "+dest, linux.MoveMount{From: reg, To: at}).For(pointer)
		return
	}
	name, why := path.Base(dest), "at "+dest+", in a file system that is new and holds nothing else"
	if dir {
		b.Do(why, linux.Mkdirat{Dir: parent, Path: name, Mode: 0o755}).Ok(plan.EEXIST).For(pointer)
	} else {
		b.Do(why, linux.Mknodat{Dir: parent, Path: name, Mode: regular | 0o644}).Ok(plan.EEXIST).For(pointer)
	}
	b.Do(why, linux.MoveMount{From: reg, To: parent, ToPath: name}).For(pointer)
}

// cover forgets what is known about the tree at and below dest, as something else
// is mounted over it.
func (b *builder) cover(dest string) {
	for known := range b.fresh {
		if known == dest || strings.HasPrefix(known, dest+"/") {
			delete(b.fresh, known)
		}
	}
	if dest == "/proc" {
		b.proc = ""
	}
	if dest == "/sys" {
		b.sys = ""
	}
}

// File types of mknod(2).
const (
	regular     = 0o100000
	charDevice  = 0o020000
	blockDevice = 0o060000
	fifo        = 0o010000
	fileType    = 0o170000
)

// lookup resolves a path inside the root to a descriptor, and makes what is
// missing of it. Symbolic links are followed, but never out of the root, and with
// noLinks not at all. Where links lead into what the kernel shows of itself, the plan
// fails: see guard.
func (b *builder) lookup(dest string, dir bool, pointer string) linux.FD {
	at := linux.FD("at")
	rel := strings.TrimPrefix(dest, "/")
	flags := linux.OPath | linux.OCloexec
	if dir {
		flags |= linux.ODirectory
	}
	resolve := linux.ResolveInRoot | linux.ResolveNoMagiclinks
	if b.noLinks {
		resolve |= linux.ResolveNoSymlinks
	}
	guarded := b.guarded(dest)
	first, ok := resolve, []plan.Errno{plan.ENOENT}
	if len(guarded) > 0 {
		first, ok = first|linux.ResolveNoXdev, append(ok, plan.EXDEV)
	}
	b.Do("where "+dest+" is, whatever links the image has on the way",
		linux.Openat2{Dir: rootReg, Path: rel, Flags: flags, Resolve: first}).As("at").Ok(ok...).For(pointer)
	const missing = "it is not in the image: made"
	parent := linux.FD(rootReg)
	parts := strings.Split(rel, "/")
	for i, name := range parts {
		why, open := missing, linux.Openat2{Dir: rootReg, Path: strings.Join(parts[:i+1], "/"), Flags: linux.OPath | linux.OCloexec | linux.ODirectory, Resolve: resolve}
		last := i == len(parts)-1
		if last && !dir {
			if i > 0 {
				b.guard(parent, guarded, pointer)
			}
			b.Do(missing+" as an empty file", linux.Mknodat{Dir: parent, Path: name, Mode: regular | 0o644}).
				Else().Ok(plan.EEXIST).For(pointer)
			if len(guarded) > 0 {
				why, open.Dir, open.Path, open.Resolve = "the file itself: a link would lead elsewhere", parent, name, resolve|linux.ResolveNoSymlinks
			}
		} else {
			b.Do(missing, linux.Mkdirat{Dir: parent, Path: name, Mode: 0o755}).
				Else().Ok(plan.EEXIST).For(pointer)
		}
		if last {
			open.Flags = flags
		}
		b.Do(why, open).Else().As("at").For(pointer)
		parent = at
	}
	if dir {
		b.guard(at, guarded, pointer)
	}
	return at
}

// cgroup plans a mount of type cgroup: the container's own control groups, read
// from the host's hierarchies.
func (b *builder) cgroup(o *options, dest, pointer string) error {
	if len(b.in.Cgroups) == 0 {
		return b.emptyCgroup(o, dest, pointer)
	}
	if b.in.Cgroups[0].Name == "" {
		return b.unifiedCgroup(o, dest, pointer)
	}
	reg := b.name("cg")
	tmp := &options{set: o.set &^ linux.AttrReadonly, data: []string{"mode=755"}}
	b.newFilesystem("tmpfs", "tmpfs", tmp, plan.Reg(reg), pointer)
	b.attach(reg, dest, true, pointer)
	for _, c := range b.in.Cgroups {
		why := "the container's own part of the " + c.Name + " hierarchy"
		b.Do(why, linux.OpenTree{Dir: linux.CWD, Path: c.Path, Flags: linux.OpenTreeClone | linux.OpenTreeCloexec}).As("tree").For(pointer)
		if b.in.Facts.HasMountSetattr() {
			b.Do(why, linux.MountSetattr{Dir: "tree", Set: o.set}).For(pointer)
		}
		b.Do(why, linux.Mkdirat{Dir: reg, Path: c.Name, Mode: 0o755}).For(pointer)
		b.Do(why, linux.MoveMount{From: "tree", To: reg, ToPath: c.Name}).For(pointer)
		if !b.in.Facts.HasMountSetattr() {
			b.chdir(reg)
			b.Do(why, linux.Mount{Target: c.Name, Flags: linux.MsBind | linux.MsRemount | o.mountFlags()}).For(pointer)
		}
		b.links(reg, c, pointer)
	}
	b.trust(dest, reg)
	if o.set&linux.AttrReadonly != 0 {
		b.chdir(reg)
		b.Do("nothing is to be added to the list of hierarchies",
			linux.Mount{Target: ".", Flags: linux.MsBind | linux.MsRemount | o.mountFlags()}).For(pointer)
	}
	return nil
}

// links gives each of several controllers that share a hierarchy its own name.
func (b *builder) links(dir linux.FD, c CgroupMount, pointer string) {
	if len(c.Controllers) < 2 {
		return
	}
	for _, name := range c.Controllers {
		b.Do("controllers that share a hierarchy are found under their own names too",
			linux.Symlinkat{Target: c.Name, Dir: dir, Path: name}).For(pointer)
	}
}

// unifiedCgroup shows the control group of version 2: a new mount where the
// container has a cgroup namespace, so that its own group is the root, else a bind.
func (b *builder) unifiedCgroup(o *options, dest, pointer string) error {
	reg := b.name("cg")
	if hasNamespace(b.in.Spec, specs.CgroupNamespace) {
		b.newFilesystem("cgroup2", "cgroup", &options{set: o.set}, plan.Reg(reg), pointer)
		b.attach(reg, dest, true, pointer)
		b.trust(dest, reg)
		return nil
	}
	b.Do("the container's own control group", linux.OpenTree{Dir: linux.CWD, Path: b.in.Cgroups[0].Path, Flags: linux.OpenTreeClone | linux.OpenTreeCloexec}).
		As(plan.Reg(reg)).For(pointer)
	if b.in.Facts.HasMountSetattr() {
		setattr(b.Builder, reg, o, pointer)
	}
	b.attach(reg, dest, true, pointer)
	if !b.in.Facts.HasMountSetattr() {
		b.remount(reg, o, 0, pointer)
	}
	b.trust(dest, reg)
	return nil
}

// emptyCgroup keeps the place when the container has no control group of its own:
// an empty directory, so that nothing of the host's shows.
func (b *builder) emptyCgroup(o *options, dest, pointer string) error {
	reg := b.name("cg")
	b.newFilesystem("tmpfs", "tmpfs", &options{set: o.set, data: []string{"size=0k", "mode=755"}}, plan.Reg(reg), pointer)
	b.attach(reg, dest, true, pointer)
	return nil
}

func hasNamespace(spec *specs.Spec, kind specs.LinuxNamespaceType) bool {
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == kind {
			return true
		}
	}
	return false
}
