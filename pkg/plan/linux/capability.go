package linux

import "github.com/containr/containr/pkg/plan"

// LastCapability is the number of the newest capability that this package
// knows, CAP_CHECKPOINT_RESTORE of Linux 5.9.
const LastCapability = 40

// CapabilityByName finds a capability's number by its name, "CAP_CHOWN".
func CapabilityByName(name string) (uint, bool) {
	for _, n := range capabilityNames.List {
		if n.Name == name {
			return uint(n.Value), true
		}
	}
	return 0, false
}

// CapabilityName is the name of a capability's number, or "" for none.
func CapabilityName(n uint) string {
	if n > LastCapability {
		return ""
	}
	return capabilityNames.List[n].Name
}

var capabilityNames = plan.Names{List: []plan.Name{
	{Value: 0, Name: "CAP_CHOWN"},
	{Value: 1, Name: "CAP_DAC_OVERRIDE"},
	{Value: 2, Name: "CAP_DAC_READ_SEARCH"},
	{Value: 3, Name: "CAP_FOWNER"},
	{Value: 4, Name: "CAP_FSETID"},
	{Value: 5, Name: "CAP_KILL"},
	{Value: 6, Name: "CAP_SETGID"},
	{Value: 7, Name: "CAP_SETUID"},
	{Value: 8, Name: "CAP_SETPCAP"},
	{Value: 9, Name: "CAP_LINUX_IMMUTABLE"},
	{Value: 10, Name: "CAP_NET_BIND_SERVICE"},
	{Value: 11, Name: "CAP_NET_BROADCAST"},
	{Value: 12, Name: "CAP_NET_ADMIN"},
	{Value: 13, Name: "CAP_NET_RAW"},
	{Value: 14, Name: "CAP_IPC_LOCK"},
	{Value: 15, Name: "CAP_IPC_OWNER"},
	{Value: 16, Name: "CAP_SYS_MODULE"},
	{Value: 17, Name: "CAP_SYS_RAWIO"},
	{Value: 18, Name: "CAP_SYS_CHROOT"},
	{Value: 19, Name: "CAP_SYS_PTRACE"},
	{Value: 20, Name: "CAP_SYS_PACCT"},
	{Value: 21, Name: "CAP_SYS_ADMIN"},
	{Value: 22, Name: "CAP_SYS_BOOT"},
	{Value: 23, Name: "CAP_SYS_NICE"},
	{Value: 24, Name: "CAP_SYS_RESOURCE"},
	{Value: 25, Name: "CAP_SYS_TIME"},
	{Value: 26, Name: "CAP_SYS_TTY_CONFIG"},
	{Value: 27, Name: "CAP_MKNOD"},
	{Value: 28, Name: "CAP_LEASE"},
	{Value: 29, Name: "CAP_AUDIT_WRITE"},
	{Value: 30, Name: "CAP_AUDIT_CONTROL"},
	{Value: 31, Name: "CAP_SETFCAP"},
	{Value: 32, Name: "CAP_MAC_OVERRIDE"},
	{Value: 33, Name: "CAP_MAC_ADMIN"},
	{Value: 34, Name: "CAP_SYSLOG"},
	{Value: 35, Name: "CAP_WAKE_ALARM"},
	{Value: 36, Name: "CAP_BLOCK_SUSPEND"},
	{Value: 37, Name: "CAP_AUDIT_READ"},
	{Value: 38, Name: "CAP_PERFMON"},
	{Value: 39, Name: "CAP_BPF"},
	{Value: 40, Name: "CAP_CHECKPOINT_RESTORE"},
}}

// The low 32 capabilities as bits of capset(2).
var capabilityLow = plan.Names{List: []plan.Name{
	{Value: 1 << 0, Name: "CAP_CHOWN"},
	{Value: 1 << 1, Name: "CAP_DAC_OVERRIDE"},
	{Value: 1 << 2, Name: "CAP_DAC_READ_SEARCH"},
	{Value: 1 << 3, Name: "CAP_FOWNER"},
	{Value: 1 << 4, Name: "CAP_FSETID"},
	{Value: 1 << 5, Name: "CAP_KILL"},
	{Value: 1 << 6, Name: "CAP_SETGID"},
	{Value: 1 << 7, Name: "CAP_SETUID"},
	{Value: 1 << 8, Name: "CAP_SETPCAP"},
	{Value: 1 << 9, Name: "CAP_LINUX_IMMUTABLE"},
	{Value: 1 << 10, Name: "CAP_NET_BIND_SERVICE"},
	{Value: 1 << 11, Name: "CAP_NET_BROADCAST"},
	{Value: 1 << 12, Name: "CAP_NET_ADMIN"},
	{Value: 1 << 13, Name: "CAP_NET_RAW"},
	{Value: 1 << 14, Name: "CAP_IPC_LOCK"},
	{Value: 1 << 15, Name: "CAP_IPC_OWNER"},
	{Value: 1 << 16, Name: "CAP_SYS_MODULE"},
	{Value: 1 << 17, Name: "CAP_SYS_RAWIO"},
	{Value: 1 << 18, Name: "CAP_SYS_CHROOT"},
	{Value: 1 << 19, Name: "CAP_SYS_PTRACE"},
	{Value: 1 << 20, Name: "CAP_SYS_PACCT"},
	{Value: 1 << 21, Name: "CAP_SYS_ADMIN"},
	{Value: 1 << 22, Name: "CAP_SYS_BOOT"},
	{Value: 1 << 23, Name: "CAP_SYS_NICE"},
	{Value: 1 << 24, Name: "CAP_SYS_RESOURCE"},
	{Value: 1 << 25, Name: "CAP_SYS_TIME"},
	{Value: 1 << 26, Name: "CAP_SYS_TTY_CONFIG"},
	{Value: 1 << 27, Name: "CAP_MKNOD"},
	{Value: 1 << 28, Name: "CAP_LEASE"},
	{Value: 1 << 29, Name: "CAP_AUDIT_WRITE"},
	{Value: 1 << 30, Name: "CAP_AUDIT_CONTROL"},
	{Value: 1 << 31, Name: "CAP_SETFCAP"},
}}

// The high capabilities as bits of capset(2).
var capabilityHigh = plan.Names{List: []plan.Name{
	{Value: 1 << 0, Name: "CAP_MAC_OVERRIDE"},
	{Value: 1 << 1, Name: "CAP_MAC_ADMIN"},
	{Value: 1 << 2, Name: "CAP_SYSLOG"},
	{Value: 1 << 3, Name: "CAP_WAKE_ALARM"},
	{Value: 1 << 4, Name: "CAP_BLOCK_SUSPEND"},
	{Value: 1 << 5, Name: "CAP_AUDIT_READ"},
	{Value: 1 << 6, Name: "CAP_PERFMON"},
	{Value: 1 << 7, Name: "CAP_BPF"},
	{Value: 1 << 8, Name: "CAP_CHECKPOINT_RESTORE"},
}}
