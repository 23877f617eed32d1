package container

import (
	"cmp"
	"maps"
	"slices"
)

// Sizes that docker gives when nothing is asked for, in bytes.
const (
	DefaultShmSize = 64 << 20
	// MinMemory is the smallest memory limit that is accepted. Below it the
	// runtime's own child could be killed before the program starts.
	MinMemory = 6 << 20
)

// Defaults returns a copy of c in which everything left open is filled in. It is
// the only place where a default of a container is decided; applied twice it
// changes nothing more.
//
// What depends on the image (ENTRYPOINT, ENV, USER, ...) is not a default but an
// inheritance, and is decided in Spec, where the image is known.
func Defaults(c Config, m Machine) Config {
	orString(&c.Pull, PullMissing)
	if c.ShmSize == 0 {
		c.ShmSize = DefaultShmSize
	}
	normalizePlugs(&c)
	if c.Namespaces.Network == "" {
		c.Namespaces.Network = cmp.Or(m.Network, NetworkNone)
		normalizePlugs(&c)
	}
	bridgeForOrdinaryUsers(&c, m)
	orString(&c.Namespaces.PID, Private)
	orString(&c.Namespaces.IPC, Private)
	orString(&c.Namespaces.UTS, Private)
	orString(&c.Namespaces.Cgroup, defaultCgroupNamespace(c, m))
	orString(&c.Namespaces.User, defaultUserNamespace(c, m))
	if c.Namespaces.User == Private && len(c.UIDMap) == 0 && len(c.GIDMap) == 0 {
		c.UIDMap, c.GIDMap = slices.Clone(m.UIDMap), slices.Clone(m.GIDMap)
	}
	if u, err := ParseUsers(c.Namespaces.User); err == nil && u.Mode == UsersKeepID {
		if len(c.UIDMap) == 0 && len(c.GIDMap) == 0 {
			c.UIDMap, c.GIDMap = keepIDMaps(u, m)
		}
		orString(&c.User, keptUser(u, m))
	}
	if r := &c.Resources; r.Memory > 0 && r.MemorySwap == 0 {
		r.MemorySwap = 2 * r.Memory
	}
	c.Sysctls = defaultSysctls(c)
	return c
}

func orString(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// defaultCgroupNamespace is docker's rule: a container on cgroup v2 sees its own
// cgroup as the root, one on v1 sees the host's names, as it always did; a
// privileged container sees the host's on both.
func defaultCgroupNamespace(c Config, m Machine) string {
	if m.CgroupV2 && !c.Privileged {
		return Private
	}
	return HostNamespace
}

// defaultUserNamespace: maps mean a user namespace, and so does having no root
// to start with.
func defaultUserNamespace(c Config, m Machine) string {
	if len(c.UIDMap) > 0 || len(c.GIDMap) > 0 || m.Rootless {
		return Private
	}
	return HostNamespace
}

// defaultSysctls lets every user of a container with a network of its own bind
// low ports and send pings, as docker does since 20.10: neither is a privilege
// in a network that belongs to the container. What the user set wins.
func defaultSysctls(c Config) map[string]string {
	if !c.Namespaces.OwnNetwork() {
		return c.Sysctls
	}
	out := map[string]string{
		"net.ipv4.ip_unprivileged_port_start": "0",
		"net.ipv4.ping_group_range":           "0 2147483647",
	}
	maps.Copy(out, c.Sysctls)
	return out
}
