package container

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/rootfs"
)

// systemMounts are the file systems that every container has, in the order in
// which they cover each other. Nothing here is of the host but sysfs and the
// cgroup tree, and those cannot be written.
func systemMounts(c Config) []specs.Mount {
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access(c)}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", access(c)}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	owner, joined := Joined(c.Namespaces.IPC)
	switch {
	case c.Namespaces.IPC == IPCNone:
	case joined:
		mounts = append(mounts, TreeOf(owner, "/dev/shm", "/dev/shm", "rprivate"))
	case c.Namespaces.IPC == HostNamespace:
		mounts = append(mounts, specs.Mount{
			Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "rprivate", "rw"},
		})
	default:
		mounts = append(mounts, specs.Mount{
			Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(c.ShmSize, 10)},
		})
	}
	return mounts
}

// access is how the host's kernel objects (/sys, cgroups) are mounted.
func access(c Config) string {
	if c.Privileged {
		return "rw"
	}
	return "ro"
}

// specMounts lists every mount of the container in the order in which it is made:
// the root, the system's, then what the user asked for and the generated files
// of /etc, each parent before its children. A mount of the user's replaces a
// system or generated one at the same place, and those below it.
func specMounts(c Config, in Inputs) ([]specs.Mount, error) {
	var user []specs.Mount
	for _, m := range c.Mounts {
		for _, other := range user {
			if other.Destination == m.Target {
				return nil, fmt.Errorf("two mounts on %s", m.Target)
			}
		}
		user = append(user, specMount(m, in))
	}
	mounts := slices.Concat(slices.Clone(in.Root.Mounts), notCovered(systemMounts(c), user))
	secrets, apart := secretMounts(c)
	extra := slices.Concat(user, notCovered(fileMounts(c, in), user), secrets)
	slices.SortStableFunc(extra, func(a, b specs.Mount) int {
		return cmp.Compare(strings.Count(a.Destination, "/"), strings.Count(b.Destination, "/"))
	})
	return slices.Concat(mounts, extra, apart), nil
}

// notCovered leaves out the mounts that are at or below one of the user's.
func notCovered(mounts, user []specs.Mount) []specs.Mount {
	return slices.DeleteFunc(mounts, func(m specs.Mount) bool {
		return slices.ContainsFunc(user, func(u specs.Mount) bool {
			return m.Destination == u.Destination || strings.HasPrefix(m.Destination, u.Destination+"/")
		})
	})
}

// initTarget is where the init program of --init appears. /dev is a tmpfs of the
// container's own, so nothing is left in its layer.
const initTarget = "/dev/containr-init"

// fileMounts binds the generated files. They are writable in the container, as
// programs such as resolvconf expect, unless its root is read-only.
func fileMounts(c Config, in Inputs) []specs.Mount {
	var mounts []specs.Mount
	bind := func(source, target string, options ...string) {
		if source == "" {
			return
		}
		if c.IDMapped {
			options = append(options, "idmap")
		}
		mounts = append(mounts, specs.Mount{
			Destination: target, Type: "bind", Source: source, Options: append([]string{"rbind", "rprivate"}, options...),
		})
	}
	var mode []string
	if c.ReadOnly {
		mode = []string{"ro"}
	}
	bind(in.Files.ResolvConf, "/etc/resolv.conf", mode...)
	bind(in.Files.Hostname, "/etc/hostname", mode...)
	bind(in.Files.Hosts, "/etc/hosts", mode...)
	if c.Init {
		bind(in.InitPath, initTarget, "ro")
	}
	for i, file := range in.Files.Configs {
		bind(file, c.Configs[i].Target, "ro", "nosuid", "nodev")
	}
	return mounts
}

// specMount says one mount in the words of the specification.
func specMount(m Mount, in Inputs) specs.Mount {
	switch m.Type {
	case MountVolume, MountImage:
		return ContentMount(m, in.Contents[m.Target])
	case MountDevpts:
		options := append([]string{"nosuid", "noexec", "rprivate", "newinstance", "ptmxmode=0666", "mode=0620"}, m.Options...) // the last one counts
		return specs.Mount{Destination: m.Target, Type: MountDevpts, Source: MountDevpts, Options: options}
	case MountTmpfs:
		return specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: tmpfsOptions(m)}
	}
	bind := "rbind"
	if m.Recursion == RecursionDisabled {
		bind = "bind"
	}
	options := []string{bind, cmp.Or(m.Propagation, "rprivate")}
	if m.ReadOnly {
		options = append(options, readOnlyOption(m, in.Machine))
	}
	for _, o := range m.Options {
		if bind == "rbind" && in.Machine.RecursiveReadOnly && o != IDMapOption {
			o = "r" + o // for all mounts below it, too
		}
		options = append(options, o)
	}
	return specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: options}
}

// ContentMount says where a volume or an image is. Only what is below its top is shown
// of one with a subpath, which the runtime looks for inside it.
func ContentMount(m Mount, content Content) specs.Mount {
	options := slices.Concat(content.Options, m.Options)
	if m.ReadOnly {
		options = append(options, "ro")
	}
	if m.Subpath != "" {
		options = append(options, rootfs.SubpathOption+m.Subpath)
	}
	return specs.Mount{Destination: m.Target, Type: content.Type, Source: content.Source, Options: options}
}

// readOnlyOption is rro, read-only with everything below, where the kernel can and
// the user did not ask for less.
func readOnlyOption(m Mount, machine Machine) string {
	switch m.Recursion {
	case RecursionReadOnly:
		return "rro"
	case RecursionDisabled, RecursionWritable:
		return "ro"
	}
	if machine.RecursiveReadOnly && strings.HasSuffix(cmp.Or(m.Propagation, "rprivate"), "private") {
		return "rro"
	}
	return "ro"
}

// tmpfsOptions are docker's defaults with what the user said in their place: a
// later flag replaces its contrary, a later value its earlier one.
func tmpfsOptions(m Mount) []string {
	options := []string{"noexec", "nosuid", "nodev", "rprivate"}
	said := slices.Clone(m.Options)
	if m.ReadOnly {
		said = append(said, "ro")
	}
	if m.Mode != 0 {
		said = append(said, "mode="+strconv.FormatUint(uint64(m.Mode), 8))
	}
	if m.Size != 0 {
		said = append(said, "size="+strconv.FormatInt(m.Size, 10))
	}
	for _, o := range said {
		key, _, hasValue := strings.Cut(o, "=")
		options = slices.DeleteFunc(options, func(old string) bool {
			oldKey, _, _ := strings.Cut(old, "=")
			return old == o || old == tmpfsFlags[o] || hasValue && oldKey == key
		})
		options = append(options, o)
	}
	return options
}
