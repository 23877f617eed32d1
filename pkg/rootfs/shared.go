package rootfs

import (
	"errors"
	"fmt"
	"path"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// A container may go without a mount namespace of its own; "it inherits the one of the
// runtime", says the runtime specification. Its mounts are then the host's: everybody
// sees them, and they outlive its processes. So the host mounts the root file system on
// itself first. What the child mounts lies below that one mount, which is private, so
// that no other mount namespace gets it too, and one inverse takes all of it away. The
// root cannot be pivoted, since it is the host's; chroot(2) changes the child's alone,
// which confines no program that may call chroot itself.

// sharesMounts reports whether the container has no mount namespace of its own.
func sharesMounts(in Input) bool { return !hasNamespace(in.Spec, specs.MountNamespace) }

// CheckShared refuses what cannot be done without a mount namespace, or would change
// mounts of the host that are not the container's. root is the host directory of the root
// file system, without links. The error says what.
func CheckShared(spec *specs.Spec, facts *host.Facts, root string) error {
	if hasNamespace(spec, specs.MountNamespace) {
		return nil
	}
	switch spec.Linux.RootfsPropagation {
	case "", "private", "rprivate", "slave", "rslave":
	default:
		return fmt.Errorf("/linux/rootfsPropagation %q needs a mount namespace of the container's own", spec.Linux.RootfsPropagation)
	}
	switch {
	case path.Clean(root) == "/":
		return errors.New("/root/path is the host's root: that needs a mount namespace of the container's own")
	case spec.Hooks != nil && len(spec.Hooks.StartContainer) > 0:
		return errors.New("/hooks/startContainer needs a mount namespace of the container's own: nothing else keeps the hooks inside")
	case hasNamespace(spec, specs.UserNamespace):
		return errors.New("/linux/namespaces has a user namespace but no mount namespace: who is not root of the host cannot change its mounts")
	case !facts.HasMountSetattr():
		return fmt.Errorf("/linux/namespaces has no mount namespace: that needs Linux 5.12, this is %s", facts.Kernel)
	case len(spec.Mounts) > 0 && spec.Mounts[0].Destination == "/":
		return errors.New("/mounts/0: a mount at / needs a mount namespace of the container's own")
	}
	return nil
}

// Shared returns the host's part, for a container without a mount namespace whose root
// is the host's directory root. It comes first: its inverse, made after a failure before
// it, would take away a mount that the caller has at the same place.
func Shared(spec *specs.Spec, root string) []plan.Step {
	if hasNamespace(spec, specs.MountNamespace) {
		return nil
	}
	b := plan.Build(plan.Host, plan.RootfsChapter)
	b.Do("without a mount namespace, the container's mounts are the host's: they go below one that can be taken away",
		linux.Mount{Source: root, Target: root, Flags: linux.MsBind | linux.MsRec}).
		Reverse(linux.Umount{Target: root, Flags: linux.MntDetach}).For("/linux/namespaces")
	b.Do("no other mount namespace gets them", linux.Mount{Target: root, Flags: linux.MsPrivate | linux.MsRec}).For("/linux/namespaces")
	return b.Steps
}
