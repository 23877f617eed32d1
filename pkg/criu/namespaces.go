package criu

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The network namespace is never in a checkpoint: its devices come from the host, with
// addresses that somebody hands out. A process id namespace is not if it is another
// container's. Both are external to criu, under the names that runc gives them.
const (
	externalNetwork = "extRootNetNS"
	externalPID     = "extRootPidNS"
)

func externalName(t specs.LinuxNamespaceType) string {
	if t == specs.NetworkNamespace {
		return externalNetwork
	}
	return externalPID
}

// joinable reports whether criu enters namespaces of a kind by path.
func joinable(t specs.LinuxNamespaceType) bool {
	return t == specs.IPCNamespace || t == specs.UTSNamespace || t == specs.TimeNamespace
}

// outside reports whether a namespace is external.
func outside(ns *specs.LinuxNamespace) bool {
	return ns.Type == specs.NetworkNamespace || ns.Type == specs.PIDNamespace && ns.Path != ""
}

// CheckNamespaces refuses a container whose namespaces criu cannot make again.
func CheckNamespaces(spec *specs.Spec) error {
	mounts := false
	for i := range spec.Linux.Namespaces {
		ns, pointer := &spec.Linux.Namespaces[i], "/linux/namespaces/"+strconv.Itoa(i)
		switch {
		case ns.Type == specs.UserNamespace:
			return fmt.Errorf("%s: containers with a user namespace cannot be frozen: what belongs to it would be made again as the host's", pointer)
		case ns.Path != "" && (ns.Type == specs.CgroupNamespace || ns.Type == specs.MountNamespace):
			return fmt.Errorf("%s: CRIU cannot enter the %s namespace %s", pointer, ns.Type, ns.Path)
		}
		mounts = mounts || ns.Type == specs.MountNamespace
	}
	if !mounts {
		return errors.New("/linux/namespaces: without a mount namespace of its own a container cannot be frozen: its mounts are the host's")
	}
	return nil
}

// DumpNamespaces names the namespaces that are left out. inodes are the numbers of the
// container's namespaces.
func DumpNamespaces(spec *specs.Spec, inodes map[specs.LinuxNamespaceType]uint64) []string {
	var list []string
	for _, ns := range ExternalNamespaces(spec) {
		list = append(list, NamespaceFile(ns.Type)+"["+strconv.FormatUint(inodes[ns.Type], 10)+"]:"+externalName(ns.Type))
	}
	return list
}

// NamespaceFile is the kernel's word for a kind, a file of /proc/PID/ns.
func NamespaceFile(t specs.LinuxNamespaceType) string {
	if t == specs.NetworkNamespace {
		return "net"
	}
	return string(t)
}

// ExternalNamespaces are the namespaces of a configuration that are left out.
func ExternalNamespaces(spec *specs.Spec) []specs.LinuxNamespace {
	var list []specs.LinuxNamespace
	for i := range spec.Linux.Namespaces {
		if ns := &spec.Linux.Namespaces[i]; outside(ns) {
			list = append(list, *ns)
		}
	}
	return list
}

// InheritNamespace gives a namespace that was left out: fd is open on it.
func InheritNamespace(t specs.LinuxNamespaceType, fd int) string { return inherit(fd, externalName(t)) }

// JoinNamespaces gives the namespaces that criu enters by path.
func JoinNamespaces(spec *specs.Spec) []string {
	var list []string
	for i := range spec.Linux.Namespaces {
		if ns := &spec.Linux.Namespaces[i]; ns.Path != "" && joinable(ns.Type) {
			list = append(list, string(ns.Type)+":"+ns.Path)
		}
	}
	return list
}
