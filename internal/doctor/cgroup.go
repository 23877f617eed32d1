package doctor

import (
	"slices"
	"strings"

	"github.com/containr/containr/pkg/host"
)

var groupChecks = []check{
	{group: "Control groups", name: "cgroup", ask: cgroupVersion},
	{group: "Control groups", name: "memory-controller", ask: controller("memory", "limits of memory (-m)")},
	{group: "Control groups", name: "cpu-controller", ask: controller("cpu", "limits of CPU time (--cpus, --cpu-shares)")},
	{group: "Control groups", name: "pids-controller", ask: controller("pids", "limits of processes (--pids-limit)")},
	{group: "Control groups", name: "cpuset-controller", ask: controller("cpuset", "choosing CPUs (--cpuset-cpus)")},
	{group: "Control groups", name: "io-controller", ask: inputOutput},
	{group: "Control groups", name: "swap-accounting", concerns: root, ask: swapAccounting},
	{group: "Control groups", name: "delegation", concerns: ordinary, ask: delegation},
	{group: "Control groups", name: "systemd", ask: serviceManager},
}

// bootVersion2 is the mending line for who has version 1.
const bootVersion2 = "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line, and boot"

func cgroupVersion(m *Machine) (State, string, string) {
	switch m.Facts.CgroupMode {
	case host.CgroupV2:
		return OK, "version 2", ""
	case host.CgroupV1:
		return Limited, "version 1: it works, but ordinary users get no limits, and there is no pressure of single containers", bootVersion2
	}
	return Limited, "no control groups are mounted: containers run, but with no limits", "sudo mount -t cgroup2 cgroup2 /sys/fs/cgroup"
}

// controller is a check of one controller. With none mounted, or for an ordinary user to whom nothing is delegated,
// another check says it.
func controller(name, use string) func(*Machine) (State, string, string) {
	return func(m *Machine) (State, string, string) {
		there := m.hasController(name)
		if there && (root(m) || version2(m)) {
			return OK, use, ""
		}
		mend := "add cgroup_enable=" + name + " to the kernel's command line, and boot"
		switch {
		case m.Facts.CgroupMode == host.NoCgroup:
			return Missing, "no control groups: no " + use, "see cgroup"
		case there:
			return Missing, "version 1 cannot be given to users safely: no " + use, bootVersion2
		case ordinary(m) && version2(m):
			return Missing, "not delegated to you: no " + use, delegate(m)
		case version2(m):
			mend = "echo +" + name + " | sudo tee /sys/fs/cgroup/cgroup.subtree_control; if it is not in cgroup.controllers there, it is still mounted as version 1, or off on the kernel's command line"
		}
		return Missing, "not there: no " + use, mend
	}
}

// managed reports whether an ordinary user's control groups come from a systemd of his own.
func (m *Machine) managed() bool {
	return ordinary(m) && version2(m) && m.Systemd && m.ManagerError == "" && len(m.ManagerControllers) > 0
}

// hasController reports whether containers can be limited by a controller.
func (m *Machine) hasController(name string) bool {
	if m.managed() {
		return slices.Contains(m.ManagerControllers, name)
	}
	_, there := m.Facts.Hierarchy(name)
	return there
}

func inputOutput(m *Machine) (State, string, string) {
	name := "io"
	if m.Facts.CgroupMode == host.CgroupV1 {
		name = "blkio"
	}
	return controller(name, "numbers and limits of disk input and output")(m)
}

func swapAccounting(m *Machine) (State, string, string) {
	if !m.SwapCounted {
		return Limited, "the kernel does not count swap: --memory-swap has no meaning", "add swapaccount=1 to the kernel's command line, and boot"
	}
	return OK, "swap is counted: --memory-swap", ""
}

// delegate is the line that has systemd give controllers to a user.
func delegate(m *Machine) string {
	if !m.Systemd {
		return "have the administrator chown a control group, its cgroup.procs and cgroup.subtree_control to you"
	}
	return `sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\nDelegate=cpu cpuset io memory pids\n' | ` +
		`sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload; then log in again`
}

func delegation(m *Machine) (State, string, string) {
	switch {
	case m.Facts.CgroupMode == host.CgroupV1:
		return Missing, "version 1 cannot be given to users safely", bootVersion2
	case m.Facts.CgroupMode == host.NoCgroup:
		return Missing, "no control groups are mounted", "see cgroup"
	case m.managed():
		return OK, "your systemd gives your containers control groups: " + strings.Join(m.ManagerControllers, ", "), ""
	case m.Facts.DelegatedGroups():
		return OK, "you may make control groups: " + strings.Join(m.Facts.Hierarchies[0].Controllers, ", "), ""
	}
	return Missing, "no control group is yours: your containers have no limits", delegate(m)
}

func serviceManager(m *Machine) (State, string, string) {
	switch {
	case !m.Systemd:
		return Limited, "systemd does not run here: control groups are made without it, and --systemd-cgroup cannot be used", ""
	case m.ManagerError != "" && ordinary(m):
		return Limited, "your systemd cannot be asked: " + m.ManagerError, "sudo apt-get install dbus-user-session; or log in by ssh or a terminal instead of su"
	case m.ManagerError != "":
		return Limited, "systemd cannot be asked: " + m.ManagerError, "sudo systemctl start dbus"
	}
	return OK, "it can be asked for control groups", ""
}
