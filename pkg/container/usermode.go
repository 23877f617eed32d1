package container

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containr/containr/pkg/network/usermode"
)

// UserNetwork is a network that a program of the same user carries, see package usermode.
type UserNetwork struct {
	// Backend is one of usermode's.
	Backend string
	Net     usermode.Net
	// HostLoopback and MTU: see usermode.Input.
	HostLoopback bool
	MTU          int
}

// isUserNetwork reports whether a value of --network begins with the name of a backend.
func isUserNetwork(word string) bool {
	name, _, _ := strings.Cut(word, ":")
	return name == usermode.Builtin || name == usermode.Pasta || name == usermode.Slirp
}

// UserNetwork returns the network that the container's packets are carried by a program in; ok is false if it has
// another one. The word has been validated.
func (n Namespaces) UserNetwork() (u UserNetwork, ok bool) {
	if !isUserNetwork(n.Network) {
		return u, false
	}
	u, err := parseUserNetwork(n.Network)
	return u, err == nil
}

// Bounds of the options.
const (
	minMTU = 1280 // IPv6 needs it, RFC 8200
	maxMTU = 65521
	// maxUserPrefix leaves room for the addresses .2, .3 and .100.
	maxUserPrefix = 24
)

// parseUserNetwork reads BACKEND[:OPTION,...]; options are host-loopback, mtu=BYTES and subnet=PREFIX.
func parseUserNetwork(word string) (UserNetwork, error) {
	name, options, found := strings.Cut(word, ":")
	u := UserNetwork{Backend: name, Net: usermode.DefaultNet()}
	if !found {
		return u, nil
	}
	for option := range strings.SplitSeq(options, ",") {
		key, value, given := strings.Cut(option, "=")
		switch {
		case key == "host-loopback" && !given:
			u.HostLoopback = true
		case key == "mtu":
			n, err := strconv.Atoi(value)
			if err != nil || n < minMTU || n > maxMTU {
				return u, fmt.Errorf("--network %s: mtu %q: use %d to %d", word, value, minMTU, maxMTU)
			}
			u.MTU = n
		case key == "subnet" && name != usermode.Pasta:
			p, err := parseUserSubnet(value)
			if err != nil {
				return u, fmt.Errorf("--network %s: subnet %q: %w, such as 10.7.0.0/24", word, value, err)
			}
			u.Net.IPv4 = p
		default:
			return u, fmt.Errorf("--network %s: unknown option %q: use host-loopback, mtu=BYTES or, but for pasta, subnet=PREFIX", word, option)
		}
	}
	return u, nil
}

// parseUserSubnet reads addresses that a machine may have.
func parseUserSubnet(value string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(value)
	if err != nil || !p.Addr().Is4() || p.Bits() > maxUserPrefix || p.Bits() < 8 {
		return p, fmt.Errorf("use one of version 4 with 8 to %d bits", maxUserPrefix)
	}
	p = p.Masked()
	what := ""
	switch first := p.Addr().As4()[0]; {
	case first == 0:
		what = "means this network"
	case first == 127:
		what = "is every machine's loopback device"
	case first >= 224 && first < 240:
		what = "means groups of machines, multicast"
	case first >= 240:
		what = "is reserved, or means everybody"
	default:
		return p, nil
	}
	return p, fmt.Errorf("%s %s: use addresses that a machine can have", p, what)
}

// validateUserNetwork refuses what a program cannot carry.
func validateUserNetwork(c Config) error {
	u, err := parseUserNetwork(c.Namespaces.Network)
	if err != nil {
		return err
	}
	for _, p := range c.Ports {
		if p.Protocol != "tcp" && p.Protocol != "udp" {
			return fmt.Errorf("--network %s: -p %d/%s: it carries tcp and udp", u.Backend, p.Port, p.Protocol)
		}
		if u.Backend == usermode.Slirp && strings.Contains(p.HostIP, ":") {
			return fmt.Errorf("--network %s: -p [%s]:%d:%d: it leads no ports of IPv6 to containers: use builtin or pasta", u.Backend, p.HostIP, p.HostPort, p.Port)
		}
	}
	return nil
}

// bridgeForOrdinaryUsers gives the word bridge, which stands for the network of those who name none, its meaning for
// somebody who cannot have a bridge.
func bridgeForOrdinaryUsers(c *Config, m Machine) {
	if !m.Rootless || len(c.Networks) != 1 {
		return
	}
	p := c.Networks[0]
	plain := p.IPv4 == "" && p.IPv6 == "" && p.MAC == "" && p.Interface == "" && len(p.Aliases) == 0
	if plain && (p.Network == NetworkBridge || p.Network == "default") {
		c.Networks, c.Namespaces.Network = nil, usermode.Builtin
	}
}
