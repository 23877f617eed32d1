package rootfs

import (
	"errors"
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

// isMapped reports whether a mount is to show its files with other owners than they
// have.
func isMapped(m *specs.Mount) bool {
	return len(m.UIDMappings)+len(m.GIDMappings) > 0 || slices.Contains(m.Options, "idmap") || slices.Contains(m.Options, "ridmap")
}

// mappedReg is the register of the id-mapped mount that a part of the configuration
// asks for.
func mappedReg(pointer string) plan.Reg { return plan.Reg("mapped" + path.Base(pointer)) }

// Before returns the host's steps that must be made before the child is born: the
// id-mapped mounts, detached, which the child then attaches.
//
// They are the host's because the kernel wants the caller to own the file system that
// is mounted; a child in a user namespace of its own does not.
func Before(in Input) ([]plan.Step, error) {
	b := plan.Build(plan.Host, plan.RootfsChapter)
	for i := range in.Spec.Mounts {
		m := &in.Spec.Mounts[i]
		if mappedOverlay(&in, m) {
			continue // see MapLayers
		}
		if !isMapped(m) || in.Sources[Source(m)].Kind == host.Missing {
			continue // the second Plan refuses, in the order of the mounts
		}
		if err := mapped(b, in, m, "/mounts/"+strconv.Itoa(i)); err != nil {
			return nil, fmt.Errorf("/mounts/%d (%s): %w", i, m.Destination, err)
		}
	}
	return b.Steps, nil
}

// mapped plans one of them. Its copy of the mount would still hand mounts made below
// it to the host's, and take them; unless that is asked for, it only takes.
func mapped(b *plan.Builder, in Input, m *specs.Mount, pointer string) error {
	o, err := parseOptions(m.Options)
	switch {
	case err != nil:
		return err
	case !in.Facts.HasMountSetattr():
		return fmt.Errorf("id-mapped mounts need Linux 5.12, this is %s", in.Facts.Kernel)
	}
	users, err := idmapUsers(b, in, m, false, pointer)
	if err != nil {
		return err
	}
	flags := linux.OpenTreeClone | linux.OpenTreeCloexec
	if o.recursive {
		flags |= linux.AtRecursive
	}
	reg := linux.FD(mappedReg(pointer))
	dir, at, empty := below(b, m.Source, o.subpath, pointer)
	b.Do("a host path to show inside, with other owners of its files", linux.OpenTree{Dir: dir, Path: at, Flags: flags | empty}).As(plan.Reg(reg)).For(pointer)
	b.Do("who its files belong to, seen through this mount", linux.MountSetattr{Dir: reg, Recursive: o.recIdmap, Set: linux.AttrIdmap, UserNS: users}).For(pointer)
	if o.propagation == 0 {
		o.propagation = linux.MsSlave | linux.MsRec
	}
	setattr(b, reg, o, pointer)
	return nil
}

// usersReg is the register of a mount's idmapUsers.
func usersReg(pointer string) linux.FD { return linux.FD("idmap" + path.Base(pointer)) }

// idmapUsers plans the user namespace that stands for a mount's maps: one made for
// them, or that of the container, or one with the maps of the container, which itself
// is not born yet. Mounts with the same maps share one. With mounter the host's root is in them, too: see mounterID.
func idmapUsers(b *plan.Builder, in Input, m *specs.Mount, mounter bool, pointer string) (linux.FD, error) {
	uids, gids := m.UIDMappings, m.GIDMappings
	reg := usersReg(pointer)
	if len(uids)+len(gids) == 0 {
		for _, ns := range in.Spec.Linux.Namespaces {
			if ns.Type == specs.UserNamespace && ns.Path != "" && !mounter {
				b.Do("ids as in the user namespace of the container", linux.OpenHost{Path: ns.Path, Flags: linux.OCloexec}).As(plan.Reg(reg)).For(pointer)
				return reg, nil
			}
		}
		uids, gids = in.Spec.Linux.UIDMappings, in.Spec.Linux.GIDMappings
		if len(uids)+len(gids) == 0 {
			return "", errors.New("an id-mapped mount needs uidMappings and gidMappings, or a container with a user namespace")
		}
	}
	if len(uids) == 0 || len(gids) == 0 {
		return "", errors.New("an id-mapped mount needs both uidMappings and gidMappings")
	}
	users := linux.UserNamespace{UIDMap: mapText(uids, mounter), GIDMap: mapText(gids, mounter)}
	for i := range b.Steps {
		if made, ok := b.Steps[i].Call.(linux.UserNamespace); ok && made == users && !mounter {
			return linux.FD(b.Steps[i].Result), nil // the same ids need no other namespace
		}
	}
	b.Do("a user namespace that stands for a map of ids: owners in the file system, and as whom they appear", users).As(plan.Reg(reg)).For(pointer)
	return reg, nil
}

// mapText writes a map as the kernel takes it. With mounter the host's root has an id in
// it, too, unless the map gives it one or has mounterID.
func mapText(list []specs.LinuxIDMapping, mounter bool) string {
	var text strings.Builder
	for _, m := range list {
		fmt.Fprintf(&text, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
		if m.HostID == 0 || uint64(m.ContainerID)+uint64(m.Size) > mounterID {
			mounter = false
		}
	}
	if mounter {
		fmt.Fprintf(&text, "%d 0 1\n", uint32(mounterID))
	}
	return text.String()
}
