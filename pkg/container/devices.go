package container

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Device is a host device, or a directory of them, to show in the container.
type Device struct {
	// Host is an absolute path on the host, Container the one inside.
	Host      string `json:"host"`
	Container string `json:"container"`
	// Access is what the device cgroup allows: letters of rwm (read, write,
	// make the node).
	Access string `json:"access"`
}

// ParseDevice reads HOST[:CONTAINER][:ACCESS]; a second part that consists of the
// letters r, w and m alone is the access. The default is the same path, rwm.
func ParseDevice(s string) (Device, error) {
	parts := strings.Split(s, ":")
	d := Device{Host: parts[0], Container: parts[0], Access: "rwm"}
	switch {
	case len(parts) > 3:
		return Device{}, fmt.Errorf("device %q: not HOST[:CONTAINER][:ACCESS]", s)
	case len(parts) == 3:
		d.Container, d.Access = parts[1], parts[2]
	case len(parts) == 2 && isAccess(parts[1]):
		d.Access = parts[1]
	case len(parts) == 2:
		d.Container = parts[1]
	}
	if !strings.HasPrefix(d.Host, "/") || !strings.HasPrefix(d.Container, "/") {
		return Device{}, fmt.Errorf("device %q: paths must be absolute", s)
	}
	if !isAccess(d.Access) {
		return Device{}, fmt.Errorf("device %q: access is letters of rwm", s)
	}
	d.Host, d.Container = path.Clean(d.Host), path.Clean(d.Container)
	return d, nil
}

// isAccess reports whether s is made of the letters r, w and m, each at most
// once.
func isAccess(s string) bool {
	for i, letter := range s {
		if !strings.ContainsRune("rwm", letter) || strings.ContainsRune(s[:i], letter) {
			return false
		}
	}
	return s != ""
}

// ParseDeviceRule reads a rule of the device cgroup as in the kernel's
// devices.allow: TYPE MAJOR:MINOR ACCESS with type a, b or c, and * for any
// number.
func ParseDeviceRule(s string) (specs.LinuxDeviceCgroup, error) {
	fail := fmt.Errorf("device cgroup rule %q: not TYPE MAJOR:MINOR ACCESS, such as 'c 13:* rw'", s)
	f := strings.Split(s, " ")
	if len(f) != 3 || len(f[0]) != 1 || !strings.Contains("abc", f[0]) || !isAccess(f[2]) {
		return specs.LinuxDeviceCgroup{}, fail
	}
	major, minor, ok := strings.Cut(f[1], ":")
	rule := specs.LinuxDeviceCgroup{Allow: true, Type: f[0], Access: f[2]}
	var errMajor, errMinor error
	rule.Major, errMajor = deviceNumber(major)
	rule.Minor, errMinor = deviceNumber(minor)
	if !ok || errMajor != nil || errMinor != nil {
		return specs.LinuxDeviceCgroup{}, fail
	}
	return rule, nil
}

// deviceNumber returns nil, any number, for *.
func deviceNumber(s string) (*int64, error) {
	if s == "*" {
		return nil, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	number := int64(n)
	return &number, err
}

// anyMinor stands for all minor numbers in baseDevices.
const anyMinor = -1

// baseDevices are the character devices that every container may use: they hold
// no data of the host.
var baseDevices = []struct {
	major, minor int64
	what         string
}{
	{1, 3, "null"},
	{1, 5, "zero"},
	{1, 7, "full"},
	{1, 8, "random"},
	{1, 9, "urandom"},
	{5, 0, "tty"},
	{5, 1, "console"},
	{5, 2, "ptmx"},
	{136, anyMinor, "pts"},
}

// baseDeviceRules is the device cgroup of a container that asked for nothing:
// no device but the base ones may be used. Nodes of any device may be made with
// mknod, since a node alone opens nothing.
func baseDeviceRules() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Access: "m"},
		{Allow: true, Type: "b", Access: "m"},
	}
	for _, d := range baseDevices {
		rule := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: "rwm", Major: &d.major}
		if d.minor != anyMinor {
			rule.Minor = &d.minor
		}
		rules = append(rules, rule)
	}
	return rules
}

// specDevices returns the nodes to make besides the standard ones, and the rules
// of the device cgroup in the order in which they apply.
func specDevices(c Config, in Inputs) ([]specs.LinuxDevice, []specs.LinuxDeviceCgroup, error) {
	if c.Privileged {
		return in.AllDevices, []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, nil
	}
	var nodes []specs.LinuxDevice
	rules := baseDeviceRules()
	for _, d := range c.Devices {
		found := in.Devices[d.Host]
		if len(found) == 0 {
			return nil, nil, fmt.Errorf("--device %s: no device there", d.Host)
		}
		for _, node := range found {
			node.Path = d.Container + strings.TrimPrefix(node.Path, d.Host)
			nodes = append(nodes, node)
			rules = append(rules, specs.LinuxDeviceCgroup{
				Allow: true, Type: node.Type, Major: &node.Major, Minor: &node.Minor, Access: d.Access,
			})
		}
	}
	return nodes, append(rules, c.DeviceRules...), nil
}
