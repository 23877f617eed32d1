package rootfs

import (
	"fmt"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// TreeType is a kind of mount beyond those of the OCI specification: a directory as
// another process sees it, with all that is mounted below. The source is
// /proc/PID/root/DIRECTORY; PID is the process's.
//
// A bind cannot do that: the kernel copies only mounts of the caller's own mount
// namespace. So the child goes to the other one, takes the copy, which is attached to
// nothing, and comes back with it. The other namespace is left as it was.
const TreeType = "tree"

// tree plans a mount of that kind.
func (b *builder) tree(m *specs.Mount, o *options, dest, pointer string) error {
	process, dir, ok := treeSource(m.Source)
	switch {
	case !ok:
		return fmt.Errorf("the source of a tree is /proc/PID/root and a directory, not %q", m.Source)
	case !b.in.Facts.HasMountSetattr():
		return fmt.Errorf("the files of another process as it sees them need Linux 5.12, this is %s", b.in.Facts.Kernel)
	}
	reg := b.name("tree")
	b.Do("the way back", linux.Openat{Dir: linux.CWD, Path: "/proc/self/ns/mnt", Flags: linux.OCloexec}).As("mine").For(pointer)
	b.Do("the mounts of process "+process, linux.Openat{Dir: linux.CWD, Path: "/proc/" + process + "/ns/mnt", Flags: linux.OCloexec}).As("theirs").For(pointer)
	b.Do("mounts can be copied only from where they are", linux.Setns{FD: "theirs", Flags: linux.CloneNewns}).For(pointer)
	b.Do("what that process sees at "+dir+", with the mounts below it",
		linux.OpenTree{Dir: linux.CWD, Path: dir, Flags: linux.OpenTreeClone | linux.OpenTreeCloexec | linux.AtRecursive}).As(plan.Reg(reg)).For(pointer)
	b.Do("back, with the copy", linux.Setns{FD: "mine", Flags: linux.CloneNewns}).For(pointer)
	b.cwd = ""
	setattr(b.Builder, reg, o, pointer)
	b.attach(reg, dest, true, pointer)
	return nil
}

// treeSource takes /proc/PID/root/DIRECTORY apart.
func treeSource(source string) (process, dir string, ok bool) {
	rest, ok := strings.CutPrefix(source, "/proc/")
	if !ok {
		return "", "", false
	}
	process, rest, _ = strings.Cut(rest, "/")
	isRoot := rest == "root" || strings.HasPrefix(rest, "root/")
	number := process != "" && strings.Trim(process, "0123456789") == ""
	return process, path.Clean("/" + strings.TrimPrefix(rest, "root")), isRoot && number
}
