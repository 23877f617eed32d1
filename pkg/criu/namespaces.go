package criu

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The network namespace is never in a checkpoint: its devices come from the host, with
// addresses that somebody hands out. It is external to criu, or, in a user namespace, made
// by criu, empty (InUserNamespace). A process id namespace is external if it is another
// container's. External ones have the names that runc gives them.
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
func outside(spec *specs.Spec, ns *specs.LinuxNamespace) bool {
	return ns.Type == specs.NetworkNamespace && !InUserNamespace(spec) || ns.Type == specs.PIDNamespace && ns.Path != ""
}

// InUserNamespace reports whether a container has a user namespace. criu makes that
// first, and all else from within: it cannot be given a namespace that the host owns, so
// the network namespace is made by criu, empty.
func InUserNamespace(spec *specs.Spec) bool { return has(spec, specs.UserNamespace) }

//go:noinline
func has(spec *specs.Spec, t specs.LinuxNamespaceType) bool {
	for i := range spec.Linux.Namespaces {
		if spec.Linux.Namespaces[i].Type == t {
			return true
		}
	}
	return false
}

// Mapped is the id of the host that an id of a user namespace is.
//
//go:noinline
func Mapped(ids []specs.LinuxIDMapping, id uint32) (uint32, bool) {
	for _, m := range ids {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + id - m.ContainerID, true
		}
	}
	return 0, false
}

// nobody is the id that who has none in a user namespace has there: criu, until it has
// become its root, and it says so to its helper on a socket, which the kernel refuses
// unless that id is mapped (unix(7), SCM_CREDENTIALS).
const nobody = 65534

// checkUser refuses what criu cannot bring back from within a user namespace.
func checkUser(spec *specs.Spec) error {
	for _, id := range []uint32{0, nobody} {
		_, user := Mapped(spec.Linux.UIDMappings, id)
		_, group := Mapped(spec.Linux.GIDMappings, id)
		if !user || !group {
			return errors.New("/linux/uidMappings, gidMappings: in a user namespace CRIU needs the ids 0 and 65534")
		}
	}
	h := spec.Hooks
	//lint:ignore SA1019 prestart hooks are still in use
	if !has(spec, specs.NetworkNamespace) || len(spec.Linux.NetDevices) > 0 || h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0 {
		return errors.New("/linux/namespaces: in a user namespace CRIU makes the network: it is not the host's, and has no hooks and netDevices")
	}
	return nil
}

// CheckNamespaces refuses a container whose namespaces criu cannot make again.
func CheckNamespaces(spec *specs.Spec) error {
	mounts, user := false, InUserNamespace(spec)
	for i := range spec.Linux.Namespaces {
		ns, pointer := &spec.Linux.Namespaces[i], "/linux/namespaces/"+strconv.Itoa(i)
		if ns.Path != "" && (user || ns.Type == specs.CgroupNamespace || ns.Type == specs.MountNamespace) {
			return fmt.Errorf("%s: CRIU cannot enter the %s namespace %s", pointer, ns.Type, ns.Path)
		}
		mounts = mounts || ns.Type == specs.MountNamespace
	}
	if !mounts {
		return errors.New("/linux/namespaces: without a mount namespace of its own a container cannot be frozen: its mounts are the host's")
	}
	if user {
		return checkUser(spec)
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
		if ns := &spec.Linux.Namespaces[i]; outside(spec, ns) {
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
