package container

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containr/containr/pkg/network/usermode"
)

// Words of --network besides names of networks.
const (
	// NetworkBridge is docker's word for the network of those who name none.
	NetworkBridge = "bridge"
	// networkOf and networkAt join a network namespace: that of a container, or the one at a
	// path.
	networkOf = "container:"
	networkAt = "ns:"
)

// Plug says how a container is to be connected with a network. What is empty is decided
// when the container is made.
type Plug struct {
	// Network is the network's name, or docker's word for one.
	Network string `json:"network"`
	// IPv4 and IPv6 are the container's addresses there.
	IPv4 string `json:"ipv4,omitempty"`
	IPv6 string `json:"ipv6,omitempty"`
	// MAC is its address on the bridge, as 02:42:0a:c0:00:02.
	MAC string `json:"mac,omitempty"`
	// Interface is the name of its device in the container.
	Interface string `json:"interface,omitempty"`
	// Aliases are names that its neighbours there find it by, beside its own.
	Aliases []string `json:"aliases,omitempty"`
	// Priority decides which network is the way to everywhere else: the one that has most, or else the first.
	Priority int `json:"gatewayPriority,omitempty"`
}

// Endpoint is how a container is connected with a network: a Plug with everything decided.
type Endpoint struct {
	Plug
	// NetworkID is the network's id, and Bridge its device on the host.
	NetworkID string `json:"networkID"`
	// Link is the device on the host that leads to the container.
	Link string `json:"link"`
	// Prefixes are its addresses with the lengths of their prefixes, and Gateways the host's
	// in the same subnets.
	Prefixes []string `json:"prefixes"`
	Gateways []string `json:"gateways"`
	// Resolver is the address where the names of the network are asked for, empty if nobody answers. Internal: nothing
	// leaves the network.
	Resolver string `json:"resolver,omitempty"`
	Internal bool   `json:"internal,omitempty"`
	// Forwards: containers of the network have no names; Resolver is there as no name server of the host's is reached from a container.
	Forwards bool `json:"forwards,omitempty"`
}

// Joined says what of another network namespace a container joins: that of the container
// in owner, or the one at path. All are empty or false if it joins none.
func (n Namespaces) Joined() (owner, path string, joins bool) {
	if owner, ok := strings.CutPrefix(n.Network, networkOf); ok {
		return owner, "", true
	}
	if path, ok := strings.CutPrefix(n.Network, networkAt); ok {
		return "", path, true
	}
	return "", "", false
}

// OwnNetwork reports whether the container has a network namespace to itself.
func (n Namespaces) OwnNetwork() bool {
	_, _, joins := n.Joined()
	return n.Network != HostNamespace && !joins
}

// IsNetworkWord reports whether a value of --network is no name of a network.
func IsNetworkWord(s string) bool {
	return s == NetworkNone || s == HostNamespace || strings.HasPrefix(s, networkOf) || strings.HasPrefix(s, networkAt) || isUserNetwork(s)
}

// ParsePlug reads one value of --network: a name, or name=NAME,ip=IP,ip6=IP,mac-address=MAC,
// interface=NAME,alias=NAME,gw-priority=NUMBER in any order, or, in podman's form, NAME:ip=IP,alias=NAME... An alias may be given more than
// once.
func ParsePlug(s string) (Plug, error) {
	if !strings.Contains(s, "=") || IsNetworkWord(s) {
		return Plug{Network: s}, nil
	}
	var p Plug
	parts := s
	own, plugins := strings.CutPrefix(s, CNIPrefix)
	if name, rest, ok := strings.Cut(own, ":"); ok && !strings.Contains(name, "=") {
		p.Network, parts = name, rest
		if plugins {
			p.Network = CNIPrefix + name
		}
	}
	for part := range strings.SplitSeq(parts, ",") {
		key, value, _ := strings.Cut(part, "=")
		var err error
		switch key {
		case "name":
			p.Network = value
		case "ip":
			p.IPv4, err = ParseIPv4(value)
		case "ip6":
			p.IPv6, err = ParseIPv6(value)
		case "mac-address":
			p.MAC, err = ParseMAC(value)
		case "interface":
			p.Interface, err = ParseInterface(value)
		case "alias":
			var alias string
			alias, err = ParseAlias(value)
			p.Aliases = append(p.Aliases, alias)
		case "gw-priority":
			p.Priority, err = ParsePriority(value)
		default:
			if key == part && part == parts[:len(part)] { // a network's name before the rest, as podman has it with a colon
				return p, fmt.Errorf("network %q: unknown key %q: did you mean name=%s?", s, key, key)
			}
			err = fmt.Errorf("unknown key %q: use name, ip, ip6, mac-address, interface, alias, gw-priority", key)
		}
		if err != nil {
			return p, fmt.Errorf("network %q: %w", s, err)
		}
	}
	if p.Network == "" {
		return p, fmt.Errorf("network %q: no name=NETWORK in it", s)
	}
	return p, nil
}

// ParsePriority reads how much a network is wanted as the way to everywhere else.
func ParsePriority(s string) (int, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no whole number of 32 bits", s)
	}
	return int(n), nil
}

// ParseAlias reads a name for a container in a network. The resolver does not tell upper case from lower.
func ParseAlias(s string) (string, error) {
	name, err := ParseDNSSearch(s)
	if err != nil || name == "." {
		return "", fmt.Errorf("%q is no name that others could ask for", s)
	}
	return strings.ToLower(name), nil
}

// ParseIPv4 reads an address of version 4.
func ParseIPv4(s string) (string, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return "", fmt.Errorf("%q is not an IPv4 address", s)
	}
	return a.String(), nil
}

// ParseIPv6 reads an address of version 6.
func ParseIPv6(s string) (string, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" {
		return "", fmt.Errorf("%q is not an IPv6 address", s)
	}
	return a.String(), nil
}

// ParseMAC reads the address of an Ethernet device, which must be one device's.
func ParseMAC(s string) (string, error) {
	m, err := net.ParseMAC(s)
	if err != nil || len(m) != 6 || m[0]&1 != 0 {
		return "", fmt.Errorf("%q is not the address of an Ethernet device, such as 02:42:0a:c0:00:02", s)
	}
	return m.String(), nil
}

// ParseInterface reads the name of a network device.
func ParseInterface(s string) (string, error) {
	const most = 15 // IFNAMSIZ without the closing zero, netdevice(7)
	if s == "" || len(s) > most || s == "." || s == ".." || s == "lo" || strings.ContainsAny(s, "/:% \t\n\v\f\r") {
		return "", fmt.Errorf("%q is no name for a network device of at most %d bytes", s, most)
	}
	return s, nil
}

// normalizePlugs has the first network decide the word for all of them.
func normalizePlugs(c *Config) {
	if len(c.Networks) > 0 && c.Namespaces.Network == "" {
		c.Namespaces.Network = c.Networks[0].Network
	}
	if c.Namespaces.Network != "" && !IsNetworkWord(c.Namespaces.Network) && len(c.Networks) == 0 {
		c.Networks = []Plug{{Network: c.Namespaces.Network}}
	}
}

// usualNetwork is the network that a user is told of who has forgotten to ask for one.
func usualNetwork(m Machine) string {
	if m.Rootless {
		return usermode.Builtin
	}
	return NetworkBridge
}

// ErrNoNetwork means that this machine lets nobody, or not this user, make the network that containers have by themselves.
var ErrNoNetwork = errors.New("no network can be made here")

// notForUsers tells of networks that an ordinary user's container cannot be connected with: the default one, which is
// none of his own, words, and those of plugins.
func notForUsers(p Plug) bool {
	_, plugins := p.CNINetwork()
	return plugins || p.Network == NetworkBridge || p.Network == "default" || IsNetworkWord(p.Network)
}

// refusePlugs says what of its networks an ordinary user's container cannot have, by the flag that asks for it.
func refusePlugs(plugs []Plug) error {
	first := plugs[0]
	if len(plugs) > 1 && (IsNetworkWord(first.Network) || IsNetworkWord(plugs[1].Network)) {
		return fmt.Errorf("--network %s --network %s: they do not go together", first.Network, plugs[1].Network)
	}
	if first.Network == NetworkBridge || first.Network == "default" {
		for _, asked := range []struct{ flag, value string }{{"--ip", first.IPv4}, {"--ip6", first.IPv6}, {"--mac-address", first.MAC},
			{"--network-alias", strings.Join(first.Aliases, ",")}, {"--network name=bridge,interface=", first.Interface}} {
			if asked.value != "" {
				return fmt.Errorf("%s %s: an ordinary user cannot choose: his container has the addresses of --network builtin, and no neighbours there", asked.flag, asked.value)
			}
		}
	}
	return fmt.Errorf("--network %s: an ordinary user's containers can be in networks of his own (containr network create), or builtin, none or host", first.Network)
}

// ErrNoBridge means that a policy is for a container whose packets pass no bridge of containr's.
var ErrNoBridge = errors.New("a policy is for what passes a bridge of containr's")

// validateNetwork refuses networks and ports that do not go together.
func validateNetwork(c Config, m Machine) error {
	word := c.Namespaces.Network
	if len(c.Policies) > 0 && len(c.Networks) == 0 {
		return fmt.Errorf("policy %s cannot be used with --network %s: %w", c.Policies[0].Name, word, ErrNoBridge)
	}
	owner, path, joins := c.Namespaces.Joined()
	switch {
	case joins && owner == "" && path == "":
		return fmt.Errorf("--network %s: whose?", word)
	case word == CNIPrefix || slices.ContainsFunc(c.Networks, func(p Plug) bool { return p.Network == CNIPrefix }):
		return fmt.Errorf("--network %s: which?", CNIPrefix)
	case path != "" && !strings.HasPrefix(path, "/"):
		return fmt.Errorf("--network %s: not an absolute path", word)
	case m.Rootless && slices.ContainsFunc(c.Networks, notForUsers):
		return refusePlugs(c.Networks)
	case joins && m.Rootless && c.Namespaces.User != networkOf+owner: // whose network it is decides who may join it
		return fmt.Errorf("--network %s: an ordinary user cannot join another network but together with its user namespace, by --userns %s", word, word)
	}
	if isUserNetwork(word) && len(c.Networks) == 0 {
		return validateUserNetwork(c)
	}
	if IsNetworkWord(word) {
		if len(c.Networks) > 0 {
			return fmt.Errorf("--network %s cannot be used with another network", word)
		}
		if (len(c.Ports) > 0 || c.PublishAll) && word == NetworkNone && m.NoNetwork != "" {
			return fmt.Errorf("-p: there is no network to reach a port through: %w: %s", ErrNoNetwork, m.NoNetwork)
		}
		if (len(c.Ports) > 0 || c.PublishAll) && word == NetworkNone {
			return fmt.Errorf("-p cannot be used with --network none: there is no network to reach the port through; --network %s is one", usualNetwork(m))
		}
		if len(c.Ports) > 0 || c.PublishAll {
			return fmt.Errorf("-p cannot be used with --network %s: there is no network to reach the port through", word)
		}
	}
	seen, devices := map[string]bool{}, map[string]string{}
	for _, p := range c.Networks {
		if other := devices[p.Interface]; other != "" && p.Interface != "" {
			return fmt.Errorf("network %s: interface %s is that of network %s", p.Network, p.Interface, other)
		}
		devices[p.Interface] = p.Network
		if IsNetworkWord(p.Network) {
			return fmt.Errorf("--network %s cannot be used with another network", p.Network)
		}
		if seen[p.Network] {
			return fmt.Errorf("--network %s is given twice", p.Network)
		}
		seen[p.Network] = true
	}
	return nil
}
