package cgroup

import (
	"path"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// # The container's own tree
//
// A program that divides its container further, an init system or another container
// engine, makes control groups below the container's. On version 2 it may if it owns
// the directory and the files that the kernel lists as safe to give away; the limits
// stay with us. The OCI specification ("Cgroup ownership") says when that is to be: the
// container has a cgroup namespace of its own, and its control group mounted writable.

// WantsOwner reports whether the container is to own its control group, so that
// Facts.Delegatable has to be known.
func WantsOwner(spec *specs.Spec, f *host.Facts) bool {
	_, ok := owner(spec, f)
	return ok
}

// owner is the user of the container's program as the host numbers it. Only the
// administrator gives directories away, and there is nothing to give to oneself.
func owner(spec *specs.Spec, f *host.Facts) (uint32, bool) {
	if f.CgroupMode != host.CgroupV2 || !f.Administrator() || spec.Linux == nil || spec.Process == nil || !mountsWritable(spec) {
		return 0, false
	}
	uid, own, mapped := spec.Process.User.UID, false, true
	for _, ns := range spec.Linux.Namespaces {
		switch ns.Type {
		case specs.CgroupNamespace:
			own = ns.Path == ""
		case specs.UserNamespace:
			uid, mapped = hostID(uid, spec.Linux.UIDMappings)
		}
	}
	return uid, own && mapped && uid != f.UID
}

// hostID finds what a number inside means outside. The maps of a namespace that is
// joined are not known.
func hostID(id uint32, maps []specs.LinuxIDMapping) (uint32, bool) {
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + (id - m.ContainerID), true
		}
	}
	return 0, false
}

func mountsWritable(spec *specs.Spec) bool {
	writable := false
	for _, m := range spec.Mounts {
		if path.Clean(m.Destination) == "/sys/fs/cgroup" { // the last one is seen
			writable = (m.Type == "cgroup" || m.Type == "cgroup2") && !slices.Contains(m.Options, "ro")
		}
	}
	return writable
}

// giveAway plans the change of owner.
func giveAway(b *plan.Builder, spec *specs.Spec, f *host.Facts, dir string) {
	uid, ok := owner(spec, f)
	if !ok {
		return
	}
	const why, pointer = "the container may divide its control group further", "/mounts"
	b.Do(why, linux.ChangeOwner{Path: dir, UID: uid}).For(pointer)
	for _, file := range f.Delegatable {
		b.Do(why, linux.ChangeOwner{Path: dir + "/" + file, UID: uid}).Ok(plan.ENOENT).For(pointer)
	}
}
