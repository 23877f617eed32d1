package ocicli

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/rootfs"
	"github.com/containr/containr/pkg/runtime"
)

// featuresVerb prints what the runtime specification's features document asks for: what
// this program can do, not what the machine has.
func featuresVerb(a *app, args []string) error {
	fs := a.flags("features")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 0 {
		return errUsage
	}
	return a.json(&features.Features{
		OCIVersionMin: "1.0.0",
		OCIVersionMax: specs.Version,
		Hooks:         runtime.HookNames(),
		MountOptions:  rootfs.MountOptions(),
		Linux:         linuxFeatures(),
		Annotations:   map[string]string{"io.github.containr.version": Version, "org.opencontainers.runc.checkpoint.enabled": "true"},
		// They name files of the host that are written to.
		PotentiallyUnsafeConfigAnnotations: runtime.Annotations(),
	}, "    ")
}

func linuxFeatures() *features.Linux {
	yes := true
	l := &features.Linux{
		Cgroup:          &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &yes, Rdma: &yes},
		Seccomp:         seccompFeatures(),
		Apparmor:        &features.Apparmor{Enabled: &yes},
		Selinux:         &features.Selinux{Enabled: &yes},
		IntelRdt:        &features.IntelRdt{Enabled: &yes, Schemata: &yes, Monitoring: &yes},
		MemoryPolicy:    new(features.MemoryPolicy),
		MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
		NetDevices:      &features.NetDevices{Enabled: &yes},
	}
	for _, kind := range []specs.LinuxNamespaceType{specs.CgroupNamespace, specs.IPCNamespace, specs.MountNamespace, specs.NetworkNamespace,
		specs.PIDNamespace, specs.TimeNamespace, specs.UserNamespace, specs.UTSNamespace} {
		l.Namespaces = append(l.Namespaces, string(kind))
	}
	for n := range uint(linux.LastCapability + 1) {
		l.Capabilities = append(l.Capabilities, linux.CapabilityName(n))
	}
	l.MemoryPolicy.Modes, l.MemoryPolicy.Flags = linux.MemoryPolicyNames()
	return l
}

func seccompFeatures() *features.Seccomp {
	yes := true
	s := &features.Seccomp{Enabled: &yes}
	for _, a := range []specs.LinuxSeccompAction{specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess,
		specs.ActKillThread, specs.ActLog, specs.ActNotify, specs.ActTrace, specs.ActTrap} {
		s.Actions = append(s.Actions, string(a))
	}
	for _, o := range []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpLessEqual,
		specs.OpLessThan, specs.OpMaskedEqual, specs.OpNotEqual} {
		s.Operators = append(s.Operators, string(o))
	}
	for _, a := range []specs.Arch{specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64} {
		s.Archs = append(s.Archs, string(a))
	}
	s.KnownFlags = []string{"SECCOMP_FILTER_FLAG_TSYNC", string(specs.LinuxSeccompFlagLog), string(specs.LinuxSeccompFlagSpecAllow)}
	s.SupportedFlags = s.KnownFlags
	const killable = string(specs.LinuxSeccompFlagWaitKillableRecv)
	s.KnownFlags = append(s.KnownFlags, killable)
	if facts, err := host.Probe(); err == nil && facts.Kernel.AtLeast(5, 19) {
		s.SupportedFlags = s.KnownFlags
	}
	return s
}
