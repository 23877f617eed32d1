package container

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// inUserNamespace changes a specification for a container whose root is not the
// host's root, and for a user who may not make cgroups. Inside a user namespace
// the kernel refuses what would reach the host: mounting a /proc or /sys that
// belongs to a namespace of the host's, ids that are not mapped, cgroups that
// were not delegated. Each adjustment gives the nearest thing that is allowed, or
// an error if the user asked for the thing itself.
func inUserNamespace(spec *specs.Spec, c Config, m Machine) error {
	if m.NoCgroups || m.Rootless && c.Resources == (Resources{}) && c.CgroupParent == "" {
		if err := withoutCgroups(spec, c); err != nil {
			return err
		}
	}
	if c.Namespaces.User == HostNamespace {
		return nil
	}
	if err := mapUser(&spec.Process.User, c, m); err != nil {
		return err
	}
	mapDevices(spec, c)
	mapTerminals(spec, c)
	mapKernelMounts(spec, c, m)
	mapPingGroups(spec, c)
	return nil
}

// withoutCgroups leaves it to the runtime whether the container has a group: an ordinary user who asks for no limit
// needs none, and has one where one is delegated.
func withoutCgroups(spec *specs.Spec, c Config) error {
	if c.Resources != (Resources{}) {
		return errors.New("limits need a cgroup, and none may be made here: run as root, or have systemd delegate the controllers to you (containr doctor says how)")
	}
	spec.Linux.CgroupsPath = ""
	spec.Linux.Resources = nil
	return nil
}

// mapUser refuses ids that do not exist in the namespace, and drops the
// supplementary groups where setgroups(2) was given up for the map.
func mapUser(u *specs.User, c Config, m Machine) error {
	if !mapped(u.UID, c.UIDMap) {
		return notMapped("user", u.UID, "--uidmap", c.UIDMap, m.UIDMap)
	}
	if m.DenySetgroups {
		if len(c.GroupAdd) > 0 {
			return errors.New("--group-add: groups cannot be set in a user namespace of your own ids alone")
		}
		u.AdditionalGids = nil
	}
	for _, gid := range append([]uint32{u.GID}, u.AdditionalGids...) {
		if !mapped(gid, c.GIDMap) {
			return notMapped("group", gid, "--gidmap", c.GIDMap, m.GIDMap)
		}
	}
	return nil
}

// ErrNotGranted means that a container is to have a user or group that its owner was granted no id for.
var ErrNotGranted = errors.New("you are granted no id for it")

// notMapped says that an id does not exist in the namespace: by the flag of its map, or, if that is the one that an ordinary
// user's containers have by themselves, by what makes it longer.
func notMapped(what string, id uint32, flag string, maps, usual []specs.LinuxIDMapping) error {
	alone := len(usual) == 1 && len(maps) == 1 && maps[0].Size == 1 // by --userns keep-id, called otherwise
	if len(usual) > 0 && slices.Equal(maps, usual) || alone {
		return fmt.Errorf("%s %d is not in the user namespace, which has %s: %w", what, id, describeMaps(maps), ErrNotGranted)
	}
	return fmt.Errorf("%s %d is not in the user namespace: %s covers %s", what, id, flag, describeMaps(maps))
}

func describeMaps(maps []specs.LinuxIDMapping) string {
	var out []string
	for _, m := range maps {
		last := uint64(m.ContainerID) + uint64(m.Size) - 1
		out = append(out, fmt.Sprintf("%d-%d", m.ContainerID, last))
	}
	return strings.Join(out, ", ")
}

// mapDevices shows devices that are to have another name inside by binds: no node can be
// made in a user namespace, and one of the same name may mean something else on the host.
func mapDevices(spec *specs.Spec, c Config) {
	for _, d := range c.Devices {
		if d.Host == d.Container {
			continue
		}
		spec.Linux.Devices = slices.DeleteFunc(spec.Linux.Devices, func(node specs.LinuxDevice) bool {
			rest, ok := strings.CutPrefix(node.Path, d.Container)
			if !ok || rest != "" && rest[0] != '/' {
				return false
			}
			spec.Mounts = append(spec.Mounts, specs.Mount{Destination: node.Path, Type: "bind", Source: d.Host + rest, Options: []string{"bind", "rprivate"}})
			return true
		})
	}
}

// ttyGroup is the group that devpts gives new terminals.
const ttyGroup = 5

// mapTerminals drops the group of new terminals if it does not exist here: they
// then belong to the group of who opens them.
func mapTerminals(spec *specs.Spec, c Config) {
	if mapped(ttyGroup, c.GIDMap) {
		return
	}
	for i := range spec.Mounts {
		if m := &spec.Mounts[i]; m.Type == "devpts" {
			m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "gid=5" })
		}
	}
}

// mapKernelMounts replaces a file system by a bind of the host's wherever it
// shows a namespace that the user namespace does not own, so that the kernel
// refuses a new mount of it. Message queues need none, and few hosts mount them.
func mapKernelMounts(spec *specs.Spec, c Config, m Machine) {
	n := c.Namespaces
	hostOwned := map[string]bool{
		"proc":   n.PID == HostNamespace,
		"sysfs":  n.Network == HostNamespace,
		"cgroup": n.Cgroup == HostNamespace,
	}
	if n.IPC == HostNamespace {
		spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool { return m.Type == "mqueue" })
	}
	for i := range spec.Mounts {
		mount := &spec.Mounts[i]
		if !hostOwned[mount.Type] {
			continue
		}
		options := []string{"rbind", "rslave", "nosuid", "noexec", "nodev"}
		if slices.Contains(mount.Options, "ro") {
			options = append(options, readOnlyOption(Mount{}, m))
		}
		*mount = specs.Mount{Destination: mount.Destination, Type: "bind", Source: mount.Destination, Options: options}
	}
}

// mapPingGroups narrows the default range of groups that may send pings to the
// groups that exist: the kernel refuses any other.
func mapPingGroups(spec *specs.Spec, c Config) {
	const name, everyone = "net.ipv4.ping_group_range", "0 2147483647"
	if spec.Linux.Sysctl[name] != everyone {
		return
	}
	delete(spec.Linux.Sysctl, name)
	for _, m := range c.GIDMap {
		if m.ContainerID == 0 {
			last := min(uint64(m.Size)-1, MaxID)
			spec.Linux.Sysctl[name] = "0 " + strconv.FormatUint(last, 10)
		}
	}
}
