package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/containr/containr/internal/shellword"
)

// Netavark is podman's program that makes networks. It is no plugin of the interface: it is told all at once, with the words setup and
// teardown, and what the container has is decided by who calls it, addresses too. All else is as with plugins, and uses the same
// steps: the namespace that has a name, the lock, the note of what was told, the result.

// NetavarkBin are the directories where distributions have it.
var NetavarkBin = []string{"/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman"}

// ErrNoNetavark means that it is not installed.
var ErrNoNetavark = errors.New("netavark is not installed")

// FindNetavark finds the program in one of the directories.
func FindNetavark(bin []string) (string, error) {
	path, err := Dirs{Bin: bin}.plugin("netavark")
	if err != nil {
		return "", fmt.Errorf("netavark: it is not in %s: %w", strings.Join(bin, ", nor in "), ErrNoNetavark)
	}
	return path, nil
}

// NetavarkNetwork is a network in netavark's words.
type NetavarkNetwork struct {
	Name     string            `json:"name"`
	ID       string            `json:"id"`
	Driver   string            `json:"driver"`
	Link     string            `json:"network_interface"`
	Subnets  []NetavarkSubnet  `json:"subnets"`
	IPv6     bool              `json:"ipv6_enabled"`
	Internal bool              `json:"internal"`
	DNS      bool              `json:"dns_enabled"`
	IPAM     map[string]string `json:"ipam_options"`
	Options  map[string]string `json:"options,omitempty"`
}

// NetavarkSubnet is one of its ranges of addresses.
type NetavarkSubnet struct {
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway"`
}

// netavarkPort is a published port.
type netavarkPort struct {
	HostIP        string `json:"host_ip"`
	ContainerPort int    `json:"container_port"`
	HostPort      int    `json:"host_port"`
	Range         int    `json:"range"`
	Protocol      string `json:"protocol"`
}

// netavarkPlug is what a container is to have in a network.
type netavarkPlug struct {
	Interface string   `json:"interface_name"`
	Addresses []string `json:"static_ips"`
	MAC       string   `json:"static_mac,omitempty"`
}

// netavarkOptions is all that it is told.
type netavarkOptions struct {
	Container string                     `json:"container_id"`
	Name      string                     `json:"container_name"`
	Ports     []netavarkPort             `json:"port_mappings"`
	Networks  map[string]netavarkPlug    `json:"networks"`
	Info      map[string]NetavarkNetwork `json:"network_info"`
}

// netavarkPrefix begins the names that results have here, so that none is taken for one of a plugins' network.
const netavarkPrefix = "netavark."

// NetavarkResult is the name under which results of a network are kept.
func NetavarkResult(network string) string { return netavarkPrefix + network }

// Netavark is a network that netavark makes, as one that can be in a Request.
func Netavark(n NetavarkNetwork) (Network, error) {
	text, err := json.Marshal(map[string]any{"cniVersion": "1.0.0", "name": NetavarkResult(n.Name), "plugins": []any{map[string]string{"type": "netavark"}}})
	if err != nil {
		return Network{}, err
	}
	list, err := libcni.NetworkConfFromBytes(text)
	return Network{List: list, Plugins: []string{"netavark"}, Netavark: &n}, err
}

// attachNetavark puts a request into netavark's words.
func (r Request) attachNetavark(a Attachment) (Attachment, error) {
	n := *r.Network.Netavark
	o := netavarkOptions{Container: r.Container, Name: r.Container, Ports: []netavarkPort{}, Info: map[string]NetavarkNetwork{n.Name: n}}
	if n.Internal && len(r.Ports) > 0 {
		return a, fmt.Errorf("network %s: port %d/%s: nothing comes into an internal network: %w", n.Name, r.Ports[0].HostPort, r.Ports[0].Protocol, ErrNoCapability)
	}
	for _, p := range r.Ports {
		o.Ports = append(o.Ports, netavarkPort{p.HostIP, p.ContainerPort, p.HostPort, 1, p.Protocol})
	}
	o.Networks = map[string]netavarkPlug{n.Name: {r.Interface, a.Addresses, r.MAC}}
	var err error
	a.Netavark, err = json.Marshal(o)
	if err == nil {
		err = a.checkNames()
	}
	return a, err
}

// netavarkArgs are its arguments: its notes are beside those of plugins.
func (a Attachment) netavarkArgs(word string) []string {
	return []string{"--config", filepath.Join(a.Cache, "netavark"), "--rootless=false", word, a.Netns}
}

// netavarkCommand is how a shell would call it.
func (a Attachment) netavarkCommand(word string) string {
	call := "printf %s " + shellword.Quote(string(a.Netavark)) + " | PATH=" + shellword.Quote(strings.Join(a.Bin, ":")) + ":$PATH netavark"
	for _, arg := range a.netavarkArgs(word) {
		call += " " + shellword.Quote(arg)
	}
	return call
}

// netavarkStatus is what it prints of each network.
type netavarkStatus struct {
	Interfaces map[string]struct {
		MAC     string `json:"mac_address"`
		Subnets []struct {
			Gateway string `json:"gateway,omitempty"`
			Net     string `json:"ipnet"`
		} `json:"subnets"`
	} `json:"interfaces"`
}

// resultOf puts what it prints into the words of the interface, as a result that is kept like a plugin's.
func (a Attachment) resultOf(printed []byte) ([]byte, error) {
	var status map[string]netavarkStatus
	if err := json.Unmarshal(printed, &status); err != nil {
		return nil, fmt.Errorf("netavark prints what is not understood: %w", err)
	}
	one := status[strings.TrimPrefix(a.list.Name, netavarkPrefix)]
	type address struct {
		Interface int    `json:"interface"`
		Address   string `json:"address"`
		Gateway   string `json:"gateway,omitempty"`
	}
	ips, interfaces := []address{}, []map[string]string{}
	for i, name := range slices.Sorted(maps.Keys(one.Interfaces)) {
		interfaces = append(interfaces, map[string]string{"name": name, "mac": one.Interfaces[name].MAC, "sandbox": a.Netns})
		for _, s := range one.Interfaces[name].Subnets {
			ips = append(ips, address{i, s.Net, s.Gateway})
		}
	}
	return json.Marshal(map[string]any{"cniVersion": "1.0.0", "interfaces": interfaces, "ips": ips})
}

// netavarkNotes makes the directory of its notes.
func (a Attachment) netavarkNotes() error {
	return os.MkdirAll(filepath.Join(a.Cache, "netavark"), 0o700)
}
