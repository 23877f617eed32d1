package rootfs

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// SubpathOption begins an option of a bind beyond those of the OCI specification: a
// path, relative and clean, of which the bind shows what is there instead of all of
// its source.
//
// It is not joined to the source, for what is in there belongs to whoever could write
// to it: a symbolic link that he has put in the way would have another file of the host
// shown, and one that he puts there in the right moment would get past every check. So
// the plan opens the source, looks the path up inside of it, whatever links there are,
// and mounts what that descriptor is open on.
const SubpathOption = "containr.subpath="

// Source is the name by which Input.Sources knows what a bind shows: its source, and
// behind a zero byte its subpath, which is part of no path.
func Source(m *specs.Mount) string {
	for _, o := range m.Options {
		if sub, ok := strings.CutPrefix(o, SubpathOption); ok {
			return m.Source + "\x00" + sub
		}
	}
	return m.Source
}

// below opens what a bind shows of its source: the directory to begin from and the rest
// of the path, which is empty if the descriptor is it.
func below(b *plan.Builder, source, sub, pointer string) (dir linux.FD, path string, flags linux.OpenTreeFlags) {
	if sub == "" {
		return linux.CWD, source, 0
	}
	b.Do("the tree that a part of is shown", linux.Openat{Dir: linux.CWD, Path: source, Flags: linux.OPath | linux.ODirectory | linux.OCloexec}).
		As("tree").For(pointer)
	b.Do("that part, whatever links there are: none leads out", linux.Openat2{Dir: "tree", Path: sub, Flags: linux.OPath | linux.OCloexec,
		Resolve: linux.ResolveInRoot | linux.ResolveNoMagiclinks}).As("part").For(pointer)
	return "part", "", linux.AtEmptyPath
}
