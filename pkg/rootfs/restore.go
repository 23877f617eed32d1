package rootfs

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// Restore returns the steps of a process that lets another program (CRIU) make the mounts
// of a container again: in a mount namespace of its own it makes the root file system a
// mount at the directory place, which is the host's, and in it the places that the
// mounts need. What is on a file system that is new with the container is not there yet.
//
// The root must not lie on another mount at the same place, so it is not where Root is.
func Restore(in Input, place string) ([]plan.Step, error) {
	b := &builder{Builder: plan.Build(plan.Child, plan.RootfsChapter), in: in, fresh: make(map[string]linux.FD)}
	mounts, err := b.root()
	if err != nil {
		return nil, err
	}
	const why = "where CRIU looks for the root file system"
	b.Do(why, linux.OpenTree{Dir: rootReg, Flags: linux.OpenTreeClone | linux.OpenTreeCloexec | linux.AtRecursive | linux.AtEmptyPath}).As("copy")
	b.Do(why, linux.Openat{Dir: linux.CWD, Path: place, Flags: linux.OPath | linux.ODirectory | linux.OCloexec}).As("place")
	b.Do(why, linux.MoveMount{From: "copy", To: "place"})
	const done = "CRIU finds it by its path"
	b.Do(done, linux.Close{FD: "place"})
	for i := mounts; i < len(in.Spec.Mounts); i++ {
		m, pointer := &in.Spec.Mounts[i], "/mounts/"+strconv.Itoa(i)
		if !strings.HasPrefix(m.Destination, "/") {
			return nil, fmt.Errorf("%s: destination is not an absolute path", pointer)
		}
		o, err := parseOptions(m.Options)
		if err != nil {
			return nil, fmt.Errorf("%s (%s): %w", pointer, m.Destination, err)
		}
		dest := path.Clean(m.Destination)
		if o.remount || b.covered(dest, i) {
			continue
		}
		dir := true
		if o.bind || m.Type == "bind" {
			source := in.Sources[m.Source]
			if source.Kind == host.Missing {
				return nil, fmt.Errorf("%s (%s): %w: %s", pointer, dest, ErrSource, m.Source)
			}
			dir = source.Kind == host.Directory
		}
		b.Do("the place is there now", linux.Close{FD: b.lookup(dest, dir, pointer)}).For(pointer)
	}
	if in.Spec.Root != nil && in.Spec.Root.Readonly {
		b.readonlyCopy(place)
	}
	b.Do(done, linux.Close{FD: "copy"})
	b.Do(done, linux.Close{FD: rootReg})
	return b.Steps, nil
}

// readonlyCopy makes the root read-only when all places are there: CRIU takes the mount
// as it finds it, whatever it was.
func (b *builder) readonlyCopy(place string) {
	const why, pointer = "nobody may write to the root file system", "/root/readonly"
	if b.in.Facts.HasMountSetattr() {
		b.Do(why, linux.MountSetattr{Dir: "copy", Set: linux.AttrReadonly}).For(pointer)
		return
	}
	b.Do(why, linux.Mount{Target: place, Flags: linux.MsRemount | linux.MsBind | linux.MsReadonly | rootMount(b.in)}).For(pointer)
}

// covered reports whether a path lies below one of the first n mounts.
func (b *builder) covered(dest string, n int) bool {
	for i := range n {
		over := path.Clean(b.in.Spec.Mounts[i].Destination)
		if over != "/" && (dest == over || strings.HasPrefix(dest, over+"/")) {
			return true
		}
	}
	return false
}
