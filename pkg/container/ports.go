package container

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Port asks for a port of the host that leads to one of the container's.
type Port struct {
	// HostIP is the address of the host; empty for all.
	HostIP string `json:"hostIP,omitempty"`
	// HostPort to HostEnd are the ports of the host, one of which is taken. 0 is any.
	HostPort uint16 `json:"hostPort,omitempty"`
	HostEnd  uint16 `json:"hostEnd,omitempty"`
	// Port is the container's.
	Port uint16 `json:"port"`
	// Protocol is tcp, udp or sctp.
	Protocol string `json:"protocol"`
}

// Protocols that have ports.
var portProtocols = []string{"tcp", "udp", "sctp"}

// ParsePorts reads one value of --publish: [[HOSTIP:][HOSTPORT]:]PORT[/PROTOCOL]. Ports may be
// ranges, FIRST-LAST, of the same length; a range of the host's for one port of the
// container's leaves the choice, and so does the host's port 0.
func ParsePorts(s string) ([]Port, error) {
	fail := func(format string, a ...any) ([]Port, error) {
		return nil, fmt.Errorf("published port %q: "+format, append([]any{s}, a...)...)
	}
	if strings.Contains(s, "=") {
		return parseLongPort(s)
	}
	rest, protocol, found := strings.Cut(s, "/")
	if !found {
		protocol = "tcp"
	}
	if protocol = strings.ToLower(protocol); !slices.Contains(portProtocols, protocol) {
		return fail("protocol %q: use tcp, udp or sctp", protocol)
	}
	hostIP, hostPorts, ports := "", "", rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		hostPorts, ports = rest[:i], rest[i+1:]
		if j := strings.LastIndexByte(hostPorts, ':'); j >= 0 {
			hostIP, hostPorts = hostPorts[:j], hostPorts[j+1:]
		}
	}
	if hostIP != "" {
		a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(hostIP, "["), "]"))
		if err != nil || a.Zone() != "" {
			return fail("%q is not an address of the host", hostIP)
		}
		hostIP = a.Unmap().String()
		if a.IsUnspecified() && a.Is4() { // all of version 4 alone
			hostIP = "0.0.0.0"
		}
	}
	first, last, err := portRange(ports)
	if err != nil {
		return fail("%w", err)
	}
	if hostPorts == "" || hostPorts == "0" { // docker's words for any port
		return spread(Port{HostIP: hostIP, Protocol: protocol}, first, last, 0, 0), nil
	}
	hostFirst, hostLast, err := portRange(hostPorts)
	if err != nil {
		return fail("%w", err)
	}
	if first != last && hostLast-hostFirst != last-first {
		return fail("the ranges have different lengths")
	}
	return spread(Port{HostIP: hostIP, Protocol: protocol}, first, last, hostFirst, hostLast), nil
}

// spread makes a Port of each of the container's.
func spread(p Port, first, last, hostFirst, hostLast uint16) []Port {
	var list []Port
	for n := int(first); n <= int(last); n++ {
		p.Port, p.HostPort, p.HostEnd = uint16(n), 0, 0
		switch {
		case hostFirst != 0 && first == last:
			p.HostPort, p.HostEnd = hostFirst, hostLast
		case hostFirst != 0:
			p.HostPort = hostFirst + uint16(n-int(first))
			p.HostEnd = p.HostPort
		}
		list = append(list, p)
	}
	return list
}

func portRange(s string) (first, last uint16, err error) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	a, err := strconv.ParseUint(from, 10, 16)
	b, toErr := strconv.ParseUint(to, 10, 16)
	if err != nil || toErr != nil || a == 0 || b < a {
		return 0, 0, fmt.Errorf("%q is not a port, 1 to 65535, nor a range of ports", s)
	}
	return uint16(a), uint16(b), nil
}

// parseLongPort reads target=PORT,published=PORT,protocol=P,host_ip=IP. The key mode is for
// swarms, where all that we do is called host.
func parseLongPort(s string) ([]Port, error) {
	var target, published, protocol, host string
	for part := range strings.SplitSeq(s, ",") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "target":
			target = value
		case "published":
			published = value
		case "protocol":
			protocol = "/" + value
		case "host_ip":
			host = value
		case "mode":
			if value != "host" {
				return nil, fmt.Errorf("published port %q: mode %q is one of swarms: use host", s, value)
			}
		default:
			return nil, fmt.Errorf("published port %q: unknown key %q: use target, published, protocol, host_ip", s, key)
		}
	}
	short := published + ":" + target + protocol
	if host != "" {
		short = "[" + host + "]:" + short
	}
	return ParsePorts(short)
}

// Policies of published ports.
const (
	PublishNAT      = "nat"
	PublishFirewall = "firewall"
)

// ParsePublishPolicy reads who decides about what comes for a published port.
func ParsePublishPolicy(s string) (string, error) {
	switch s {
	case PublishNAT:
		return "", nil
	case PublishFirewall:
		return s, nil
	}
	return "", fmt.Errorf("%q: use %s or %s", s, PublishNAT, PublishFirewall)
}

// ParseExposed reads one value of --expose: PORT[-LAST][/PROTOCOL]. The result is a list
// of PORT/PROTOCOL.
func ParseExposed(s string) ([]string, error) {
	if strings.Contains(s, ":") || strings.Contains(s, "=") {
		return nil, fmt.Errorf("exposed port %q: not PORT[/PROTOCOL]", s)
	}
	ports, err := ParsePorts(s)
	var out []string
	for _, p := range ports {
		out = append(out, strconv.Itoa(int(p.Port))+"/"+p.Protocol)
	}
	return out, err
}

// Ports returns the ports that a container publishes: those that were asked for, and with
// PublishAll those that the image and --expose name, too.
func Ports(c Config, exposedByImage map[string]struct{}) ([]Port, error) {
	list := slices.Clone(c.Ports)
	if !c.PublishAll {
		return list, nil
	}
	var more []Port
	for s := range exposedByImage {
		ports, err := ParsePorts(s)
		if err != nil {
			return nil, fmt.Errorf("image: %w", err)
		}
		more = append(more, ports...)
	}
	for _, s := range c.Expose {
		ports, err := ParsePorts(s)
		if err != nil {
			return nil, err
		}
		more = append(more, ports...)
	}
	slices.SortFunc(more, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	for _, p := range slices.Compact(more) {
		said := slices.ContainsFunc(list, func(o Port) bool { return o.Port == p.Port && o.Protocol == p.Protocol })
		if !said {
			list = append(list, p)
		}
	}
	return list, nil
}
