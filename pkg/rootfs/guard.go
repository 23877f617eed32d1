package rootfs

import (
	"strings"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// trusted is a mount in which the kernel shows itself. Programs believe what they read
// there, so nothing is mounted into it that is not said to be there: an image, or a
// volume, may have a link on the way to the place of a mount, such as /data -> /proc.
type trusted struct {
	dest string
	reg  linux.FD
}

// trust remembers a mount at dest, if it is such a one.
func (b *builder) trust(dest string, reg linux.FD) {
	if dest == "/proc" || dest == "/sys" || strings.HasPrefix(dest, "/sys/fs/cgroup") {
		b.trusted = append(b.trusted, trusted{dest, reg})
	}
}

// guarded are the mounts that dest must not be in: all but those that its name says.
func (b *builder) guarded(dest string) []trusted {
	if b.noLinks {
		return nil
	}
	for _, t := range b.trusted {
		if strings.HasPrefix(dest+"/", t.dest+"/") {
			return nil // the kernel alone makes links in there
		}
	}
	return b.trusted
}

// guard plans the check that a directory is not in one of the mounts. The path was found
// to lead into another mount than the root, and which one that is must be asked of the
// descriptor: a name could lead elsewhere the next moment. The kernel compares the mounts
// of two directories before it renames; "." can never be renamed, so nothing is done,
// but the error tells whether they are the same (EBUSY) or not (EXDEV).
func (b *builder) guard(at linux.FD, guarded []trusted, pointer string) {
	for _, t := range guarded {
		b.Do("no link has led into "+t.dest+": programs trust what is there",
			linux.Renameat2{OldDir: at, OldPath: ".", NewDir: t.reg, NewPath: "."}).Else().Ok(plan.EXDEV).For(pointer)
	}
}
