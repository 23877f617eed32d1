package doctor

import (
	"fmt"

	"github.com/containr/containr/pkg/host"
)

var userChecks = []check{
	{group: "Users", name: "privileges", needed: true, ask: privileges},
	{group: "Users", name: "user-namespaces", concerns: root, ask: namespacesForRoot},
	{group: "Users", name: "user-namespaces", concerns: ordinary, needed: true, ask: namespacesForUsers},
	{group: "Users", name: "subuid", concerns: ordinary, ask: subordinate("/etc/subuid", "users", "--add-subuids", func(m *Machine) []host.IDRange { return m.Facts.SubUIDs })},
	{group: "Users", name: "subgid", concerns: ordinary, ask: subordinate("/etc/subgid", "groups", "--add-subgids", func(m *Machine) []host.IDRange { return m.Facts.SubGIDs })},
	{group: "Users", name: "newuidmap", concerns: ordinary, ask: mapper("newuidmap", func(m *Machine) Helper { return m.Newuidmap })},
	{group: "Users", name: "newgidmap", concerns: ordinary, ask: mapper("newgidmap", func(m *Machine) Helper { return m.Newgidmap })},
	{group: "Users", name: "runtime-directory", concerns: ordinary, ask: runtimeDirectory},
	{group: "Users", name: "linger", concerns: ordinary, ask: linger},
	{group: "Users", name: "ping", concerns: ordinary, ask: ping},
	{group: "Users", name: "low-ports", concerns: ordinary, ask: lowPorts},
}

// Numbers of capabilities, from linux/capability.h.
const (
	capNetAdmin    = 12
	capSysAdmin    = 21
	capSysResource = 24
	capMknod       = 27
)

func (m *Machine) has(capability uint) bool { return m.Facts.Capabilities&(1<<capability) != 0 }

// privileges looks at what uid 0 may really do: inside a container it is often less.
func privileges(m *Machine) (State, string, string) {
	switch {
	case m.Facts.UID != 0:
		return OK, "you are " + m.User + ": your containers run in user namespaces", ""
	case !m.has(capSysAdmin):
		return Limited, "you are root without CAP_SYS_ADMIN, perhaps in a container: your containers run in user namespaces", "run containr outside, or give this container the capability"
	case !m.has(capNetAdmin) || !m.has(capMknod):
		return Limited, "you are root, but without CAP_NET_ADMIN or CAP_MKNOD: networks and devices cannot be made", "run containr outside of this container"
	}
	return OK, "you are root", ""
}

func namespacesForRoot(m *Machine) (State, string, string) {
	if m.MaxUserNamespaces == 0 {
		return Limited, "user namespaces are off: --uidmap and --userns private cannot be used", "sudo sysctl -w user.max_user_namespaces=15000"
	}
	if m.MaxUserNamespaces < 0 {
		return Limited, "the kernel has no user namespaces: --uidmap cannot be used", "boot a kernel with CONFIG_USER_NS"
	}
	return OK, "a container's root can be another user than yours (--uidmap)", ""
}

// keptSetting is the line that sets a kernel parameter, now and at every boot.
func keptSetting(name, value string) string {
	return fmt.Sprintf("echo %s=%s | sudo tee -a /etc/sysctl.d/90-containr.conf && sudo sysctl -p /etc/sysctl.d/90-containr.conf", name, value)
}

func namespacesForUsers(m *Machine) (State, string, string) {
	switch {
	case m.MaxUserNamespaces < 0:
		return Missing, "the kernel has no user namespaces, and without root a container needs one", "boot a kernel with CONFIG_USER_NS"
	case m.MaxUserNamespaces == 0:
		return Missing, "sysctl user.max_user_namespaces is 0: nobody may make a user namespace", keptSetting("user.max_user_namespaces", "15000")
	case m.setting("kernel.unprivileged_userns_clone") == "0":
		return Missing, "sysctl kernel.unprivileged_userns_clone is 0: only root may make a user namespace", keptSetting("kernel.unprivileged_userns_clone", "1")
	case m.setting("kernel.apparmor_restrict_unprivileged_userns") == "1" && m.UserNamespacesTried:
		return OK, "you may make user namespaces with containr, which has an AppArmor profile that lets it; other programs may not", ""
	case m.setting("kernel.apparmor_restrict_unprivileged_userns") == "1":
		return Missing, "sysctl kernel.apparmor_restrict_unprivileged_userns is 1: AppArmor takes all privileges away in user namespaces of programs without a profile",
			keptSetting("kernel.apparmor_restrict_unprivileged_userns", "0")
	}
	return OK, "you may make user namespaces", ""
}

// neededIDs is how many subordinate ids an image usually needs.
const neededIDs = 65536

func subordinate(file, what, flag string, of func(*Machine) []host.IDRange) func(*Machine) (State, string, string) {
	return func(m *Machine) (State, string, string) {
		ranges := of(m)
		count := uint64(0)
		for _, r := range ranges {
			count += uint64(r.Count)
		}
		mend := fmt.Sprintf("sudo usermod %s 100000-165535 %s", flag, m.User)
		switch {
		case count == 0:
			return Limited, fmt.Sprintf("%s grants you nothing: root is the only one of the %s in your containers", file, what), mend
		case count < neededIDs:
			return Limited, fmt.Sprintf("%s grants you %d ids: images have %s up to 65535", file, count, what), mend
		}
		return OK, fmt.Sprintf("%s grants you %d ids", file, count), ""
	}
}

func mapper(name string, of func(*Machine) Helper) func(*Machine) (State, string, string) {
	return func(m *Machine) (State, string, string) {
		h := of(m)
		switch {
		case h.Path == "":
			return Limited, name + " is not in PATH: your subordinate ids cannot be used", m.Distribution.install("uidmap", "shadow-utils", "shadow")
		case !h.Privileged:
			return Limited, h.Path + " is neither setuid nor has it file capabilities: it cannot do its work", "sudo chmod u+s " + h.Path
		case m.NoNewPrivileges:
			return Limited, h.Path + " gains no privileges here, since no_new_privs is set on this process", "log in by ssh or a terminal, outside of what has set it"
		}
		return OK, h.Path, ""
	}
}

func runtimeDirectory(m *Machine) (State, string, string) {
	mend := "log in by ssh or a terminal, not by su; or: export XDG_RUNTIME_DIR=/run/user/" + fmt.Sprint(m.Facts.UID)
	switch {
	case m.RuntimeDir.Path == "":
		return Limited, "XDG_RUNTIME_DIR is not set: what is to be gone after a boot is kept with your images", mend
	case !m.RuntimeDir.Own:
		return Limited, m.RuntimeDir.Path + " is no directory of your own", mend
	}
	return OK, m.RuntimeDir.Path, ""
}

func linger(m *Machine) (State, string, string) {
	if m.Systemd && !m.Lingers {
		return Limited, "systemd may end what you have started when your last session ends", "sudo loginctl enable-linger " + m.User
	}
	return OK, "what you start outlives your sessions", ""
}

func ping(m *Machine) (State, string, string) {
	var first, last uint64
	fmt.Sscan(m.setting("net.ipv4.ping_group_range"), &first, &last)
	if gid := uint64(m.Facts.GID); gid < first || gid > last {
		return Limited, "your group may not ping with the host's network", keptSetting("net.ipv4.ping_group_range", "'0 2147483647'")
	}
	return OK, "your group may ping", ""
}

func lowPorts(m *Machine) (State, string, string) {
	var first int
	if n, _ := fmt.Sscan(m.setting("net.ipv4.ip_unprivileged_port_start"), &first); n == 1 && first > 80 {
		return Limited, fmt.Sprintf("with the host's network you may use ports from %d on", first), keptSetting("net.ipv4.ip_unprivileged_port_start", "80")
	}
	return OK, "you may use port 80", ""
}
