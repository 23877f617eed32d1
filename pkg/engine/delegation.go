package engine

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/systemd"
	"github.com/containr/containr/pkg/host"
)

// The administrator's containers get their control groups from the kernel. An ordinary user may make none in the tree,
// but systemd gives each user who logs in a part of it (on version 2), which the user's own manager has. So a container
// for which limits are asked is made a scope of that manager: it need not matter where in the tree the command runs, an
// ssh session or a desktop. Where there is no manager, a group beside the command's own will do, if it is given to the
// user. A container without limits does not need the question to the manager, which takes longer than all else.

// userManager reports whether the calling user, who is not root, has a systemd that can be asked for control groups.
func userManager(f *host.Facts) bool {
	if f.Root() || f.CgroupMode != host.CgroupV2 {
		return false
	}
	m, err := systemd.Dial(true)
	if err != nil { // none, or none that can be reached: it is not needed but for limits, which are refused then
		return false
	}
	m.Close()
	return true
}

// groupFromSystemd reports whether a container's control group is to come from the calling user's systemd: limits are
// asked for, and no place for it is named.
func groupFromSystemd(spec *specs.Spec, f *host.Facts) bool {
	return spec.Linux != nil && spec.Linux.Resources != nil && spec.Linux.CgroupsPath == "" && userManager(f)
}
