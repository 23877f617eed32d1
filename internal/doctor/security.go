package doctor

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/containr/containr/internal/apparmor"
)

var securityChecks = []check{
	{group: "Security", name: "seccomp", needed: true, ask: seccompFilter},
	{group: "Security", name: "seccomp-notify", ask: seccompNotify},
	{group: "Security", name: "apparmor", ask: appArmor},
	{group: "Security", name: "selinux", ask: seLinux},
	{group: "Security", name: "landlock", ask: landlock},
	{group: "Security", name: "raise-limits", concerns: root, ask: raiseLimits},
}

func seccompFilter(m *Machine) (State, string, string) {
	if len(m.SeccompActions) == 0 {
		return Missing, "the kernel filters no system calls: containers run only with --security-opt seccomp=unconfined", "boot a kernel with CONFIG_SECCOMP_FILTER"
	}
	return OK, "system calls are filtered", ""
}

func seccompNotify(m *Machine) (State, string, string) {
	if !slices.Contains(m.SeccompActions, "user_notif") {
		return Limited, "no agent can decide on system calls", "boot a kernel with CONFIG_SECCOMP_FILTER, 5.0 or newer"
	}
	return OK, "an agent can decide on system calls", ""
}

func appArmor(m *Machine) (State, string, string) {
	switch {
	case !m.Facts.AppArmor && m.Facts.SELinux:
		return OK, "not active; SELinux is", ""
	case !m.Facts.AppArmor:
		return Limited, "not active: --security-opt apparmor=PROFILE is refused", "add apparmor=1 security=apparmor to the kernel's command line, and boot"
	}
	if why := m.NoDefaultProfile; why != "" && ordinary(m) {
		return OK, "active: --security-opt apparmor=PROFILE; your containers run without, in user namespaces", ""
	} else if why != "" {
		return Limited, "active: --security-opt apparmor=PROFILE; but containers that name none run without a profile: " + why, m.Distribution.install("apparmor", "apparmor-parser", "apparmor")
	}
	return OK, "active: containers run with the profile " + apparmor.Profile + ", or with that of --security-opt apparmor=PROFILE", ""
}

func seLinux(m *Machine) (State, string, string) {
	switch {
	case m.Facts.SELinux:
		return OK, "active", ""
	case m.Facts.AppArmor:
		return OK, "not active; AppArmor is", ""
	}
	return Limited, "not active: --security-opt label=... is refused", "add security=selinux selinux=1 to the kernel's command line, and boot, where the distribution has a policy"
}

func landlock(m *Machine) (State, string, string) {
	switch {
	case m.NoLandlock == "" && m.Landlock > 0:
		return OK, "version " + strconv.Itoa(m.Landlock) + ": --security-opt landlock=DIR, and programs can restrict themselves", ""
	case m.Landlock > 0:
		return Limited, "version " + strconv.Itoa(m.Landlock) + ": programs can restrict themselves; --security-opt landlock=DIR is refused", "boot a kernel of version 6.2 or newer"
	}
	const without = ": --security-opt landlock=DIR is refused, and programs cannot restrict themselves"
	why := cmp.Or(m.NoLandlock, "this kernel has no Landlock")
	if slices.Contains(m.SecurityModules, "landlock") { // a filter of system calls may be in the way
		return Limited, why + without, "run containr outside of this container"
	}
	modules := append([]string{"landlock"}, m.SecurityModules...)
	return Limited, why + without, "add lsm=" + strings.Join(modules, ",") + " to the kernel's command line, and boot (CONFIG_SECURITY_LANDLOCK)"
}

func raiseLimits(m *Machine) (State, string, string) {
	if !m.has(capSysResource) {
		return Limited, "CAP_SYS_RESOURCE is missing: --ulimit cannot raise hard limits, nor --oom-score-adj lower the score", "run containr outside of this container, or give it the capability"
	}
	return OK, "CAP_SYS_RESOURCE: --ulimit may raise limits", ""
}
