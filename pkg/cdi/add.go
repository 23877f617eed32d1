package cdi

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Add puts what the devices need into a specification, which must have the parts process
// and linux. What the user asked for himself stays: a mount, a device node or a
// network device of the specification in the same place is ErrConflict. Variables of the
// devices win, as the interface wants it.
//
// limits says whether the container has a control group: without one there are no rules
// for devices, which only it could keep.
func (d *Devices) Add(spec *specs.Spec, limits bool) error {
	if err := d.check(spec); err != nil {
		return err
	}
	needs := d.needs
	for _, v := range needs.Process.Env {
		key, _, _ := strings.Cut(v, "=")
		spec.Process.Env = slices.DeleteFunc(spec.Process.Env, func(old string) bool { return strings.HasPrefix(old, key+"=") })
		spec.Process.Env = append(spec.Process.Env, v)
	}
	for _, gid := range needs.Process.User.AdditionalGids {
		if !slices.Contains(spec.Process.User.AdditionalGids, gid) {
			spec.Process.User.AdditionalGids = append(spec.Process.User.AdditionalGids, gid)
		}
	}
	spec.Mounts = append(spec.Mounts, needs.Mounts...)
	addHooks(spec, needs.Hooks)
	linux := spec.Linux
	for _, n := range needs.Linux.Devices {
		if !slices.ContainsFunc(linux.Devices, func(old specs.LinuxDevice) bool { return old.Path == n.Path }) {
			linux.Devices = append(linux.Devices, n)
		}
	}
	if limits && len(needs.Linux.Resources.Devices) > 0 {
		if linux.Resources == nil {
			linux.Resources = new(specs.LinuxResources)
		}
		linux.Resources.Devices = append(linux.Resources.Devices, needs.Linux.Resources.Devices...)
	}
	for host, device := range needs.Linux.NetDevices {
		if linux.NetDevices == nil {
			linux.NetDevices = map[string]specs.LinuxNetDevice{}
		}
		linux.NetDevices[host] = device
	}
	if needs.Linux.IntelRdt != nil {
		linux.IntelRdt = needs.Linux.IntelRdt
	}
	return nil
}

// check refuses what would take the place of something of the user's.
func (d *Devices) check(spec *specs.Spec) error {
	conflict := func(what, where string) error {
		return fmt.Errorf("device %s: %w: the container has a %s %s already", strings.Join(d.Names, ", "), ErrConflict, what, where)
	}
	for _, m := range d.needs.Mounts {
		for _, other := range spec.Mounts {
			if filepath.Clean(m.Destination) == filepath.Clean(other.Destination) {
				return conflict("mount on", m.Destination)
			}
		}
	}
	for _, n := range d.needs.Linux.Devices {
		for _, other := range spec.Linux.Devices {
			if n.Path == other.Path && (n.Type != other.Type || n.Major != other.Major || n.Minor != other.Minor) {
				return conflict("device node", n.Path)
			}
		}
	}
	for host := range d.needs.Linux.NetDevices {
		if _, ok := spec.Linux.NetDevices[host]; ok {
			return conflict("network device", host)
		}
	}
	if d.needs.Linux.IntelRdt != nil && spec.Linux.IntelRdt != nil {
		return conflict("class of service", spec.Linux.IntelRdt.ClosID)
	}
	return nil
}

// addHooks puts hooks behind those that are there.
func addHooks(spec *specs.Spec, needs *specs.Hooks) {
	if needs == nil {
		return
	}
	if spec.Hooks == nil {
		spec.Hooks = new(specs.Hooks)
	}
	for _, pair := range []struct {
		to   *[]specs.Hook
		from []specs.Hook
	}{
		//lint:ignore SA1019 descriptions still have them
		{&spec.Hooks.Prestart, needs.Prestart},
		{&spec.Hooks.CreateRuntime, needs.CreateRuntime}, {&spec.Hooks.CreateContainer, needs.CreateContainer},
		{&spec.Hooks.StartContainer, needs.StartContainer}, {&spec.Hooks.Poststart, needs.Poststart}, {&spec.Hooks.Poststop, needs.Poststop},
	} {
		*pair.to = append(*pair.to, pair.from...)
	}
}
