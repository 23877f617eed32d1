package rootfs

import (
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// FuseOverlay is the type of a root mount that fuse-overlayfs(1) serves. The options of the mount are those of the program.
const FuseOverlay = "fuse.fuse-overlayfs"

// fuseFD is the number by which mount(2) is told the descriptor that a mount is served by: its options are text, and no
// step computes any. It is beyond those that a program of ours has.
const fuseFD = 200

// served makes the root a mount that a program serves.
//
// The child makes the mount, since a mount of FUSE belongs to the user namespace in which /dev/fuse was opened, and it is to
// end with the child's mount namespace. The host starts the program, see linux.ServeFuse. All descriptors but the
// program's are closed: who had one would wait, not fail, when the program dies.
func (b *builder) served(m *specs.Mount, o *options, pointer string) {
	const why = "what the kernel asks about the files, and the answers, go this way"
	b.Do(why, linux.Openat{Dir: linux.CWD, Path: "/dev/fuse", Flags: linux.ORdwr | linux.OCloexec}).As("fuse").For(pointer)
	b.Do(why, linux.Dup3{Old: "fuse", New: linux.FDNumber(fuseFD), OnExec: true}).For(pointer)
	b.Do("the layers of the image, and above them one to write to, in a mount that ends with the container",
		linux.Mount{Source: m.Source, Target: b.in.Root, Type: m.Type, Flags: o.mountFlags(),
			Data: "fd=" + strconv.Itoa(fuseFD) + ",rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"}).For(pointer)
	b.Do(why, linux.SendFD{Socket: linux.FD(Sync), FD: "fuse", Data: "fuse"}).For(pointer)
	b.Do(why, linux.Close{FD: "fuse"}).For(pointer)
	b.Do(why, linux.Close{FD: linux.FDNumber(fuseFD)}).For(pointer)
	b.By(plan.Host).Do("a program stacks the layers, as the kernel does not let the container do so",
		linux.ServeFuse{Program: m.Source, Options: strings.Join(o.data, ","), Fuse: "fuse", PID: "pid", Users: b.in.UserNS}).For(pointer)
	b.By(plan.Child).Do("from here on the root file system is this descriptor",
		linux.Openat{Dir: linux.CWD, Path: b.in.Root, Flags: linux.OPath | linux.ODirectory | linux.OCloexec}).As(rootReg).For(pointer)
}
