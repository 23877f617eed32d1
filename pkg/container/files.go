package container

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// HostGateway is the word that --add-host takes for the host's own address in
// the container's network.
const HostGateway = "host-gateway"

// ParseHost reads one value of --add-host: NAME:IP or NAME=IP; the address may
// stand in square brackets.
func ParseHost(s string) (Host, error) {
	name, ip, ok := strings.Cut(s, "=")
	if !ok {
		name, ip, ok = strings.Cut(s, ":")
	}
	if !ok || name == "" {
		return Host{}, fmt.Errorf("host %q: not NAME:IP", s)
	}
	if strings.ContainsAny(name, " \t\r\n#\x00") {
		return Host{}, fmt.Errorf("host %q: the name contains white space or #", s)
	}
	if ip == HostGateway {
		return Host{Name: name, IP: ip}, nil
	}
	if strings.HasPrefix(ip, "[") && strings.HasSuffix(ip, "]") {
		ip = ip[1 : len(ip)-1]
	}
	address, err := netip.ParseAddr(ip)
	if err != nil {
		return Host{}, fmt.Errorf("host %q: %q is not an IP address", s, ip)
	}
	return Host{Name: name, IP: address.String()}, nil
}

// ParseDNSServer reads one value of --dns: an IP address, which may have a zone.
func ParseDNSServer(s string) (string, error) {
	address, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return "", fmt.Errorf("dns server %q: not an IP address", s)
	}
	return address.String(), nil
}

// ParseDNSSearch reads one value of --dns-search: a domain, or . for none.
func ParseDNSSearch(s string) (string, error) {
	if s == "." {
		return s, nil
	}
	name := strings.TrimSuffix(s, ".")
	if len(name) > 253 {
		return "", fmt.Errorf("dns search domain %q: longer than 253 characters", s)
	}
	for label := range strings.SplitSeq(name, ".") {
		ok := label != "" && len(label) <= 63 && !strings.HasPrefix(label, "-") && !strings.HasSuffix(label, "-")
		if !ok || strings.ContainsFunc(label, notDomainRune) {
			return "", fmt.Errorf("dns search domain %q: not a domain name", s)
		}
	}
	return name, nil
}

func notDomainRune(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}

// ParseDNSOption reads one value of --dns-option: a word of resolv.conf(5) such as
// ndots:2.
func ParseDNSOption(s string) (string, error) {
	if s == "" || strings.ContainsAny(s, " \t\r\n\x00#;") {
		return "", fmt.Errorf("dns option %q: not one word of resolv.conf(5)", s)
	}
	return s, nil
}

// HostsFile returns the contents of the container's /etc/hosts: the loopback
// names, the container's own names at its addresses, and what --add-host asked
// for. Without an address the container is only known as localhost.
//
// base is the host's /etc/hosts, for a container in the host's network, whose
// lines are kept; it is nil for all others.
func HostsFile(base []byte, names []string, addresses []netip.Addr, extra []Host) []byte {
	var b strings.Builder
	if base != nil {
		b.Write(base)
		if len(base) > 0 && base[len(base)-1] != '\n' {
			b.WriteByte('\n')
		}
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::\tip6-localnet\n" +
			"ff00::\tip6-mcastprefix\n" +
			"ff02::1\tip6-allnodes\n" +
			"ff02::2\tip6-allrouters\n")
	}
	for _, h := range extra {
		fmt.Fprintf(&b, "%s\t%s\n", h.IP, h.Name)
	}
	for _, a := range addresses {
		fmt.Fprintf(&b, "%s\t%s\n", a, strings.Join(names, " "))
	}
	return []byte(b.String())
}

// HostnameFile returns the contents of the container's /etc/hostname.
func HostnameFile(hostname string) []byte { return []byte(hostname + "\n") }

// ResolvConf returns the contents of the container's /etc/resolv.conf: the host's
// with what dns says in place of each part. With a network of its own
// (ownNetwork), a server at a loopback address of the host is left out, since it
// cannot be reached from there, and so are addresses with a zone, which name a
// link that the container does not have.
//
// resolver, if it is not empty, is where all names are asked for. It asks the other servers itself; but one
// at a loopback address is the container's own, and asked by the container alone. If it knows the names of neighbours, names without a
// dot are not searched in domains first, as for docker: they are mostly those.
func ResolvConf(host []byte, dns DNS, ownNetwork bool, resolver string, neighbours bool) []byte {
	servers, search, options := parseResolvConf(host)
	if ownNetwork {
		servers = slices.DeleteFunc(servers, func(s string) bool {
			a, err := netip.ParseAddr(s)
			return err != nil || a.IsLoopback() || a.Zone() != ""
		})
	}
	if len(dns.Servers) > 0 {
		servers = dns.Servers
	}
	if len(dns.Search) > 0 {
		search = dns.Search
	}
	if len(dns.Options) > 0 {
		options = dns.Options
	}
	if resolver != "" && !slices.ContainsFunc(dns.Servers, isLoopback) {
		servers = []string{resolver}
		if neighbours && !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
			options = append(options, "ndots:0")
		}
	}
	if slices.Contains(search, ".") {
		search = nil
	}
	var b strings.Builder
	for _, s := range servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(search) > 0 {
		b.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	if len(options) > 0 {
		b.WriteString("options " + strings.Join(options, " ") + "\n")
	}
	return []byte(b.String())
}

func isLoopback(server string) bool {
	a, err := netip.ParseAddr(server)
	return err == nil && a.IsLoopback()
}

// OnlyLoopback reports whether all name servers of a resolv.conf are at loopback addresses of the host.
func OnlyLoopback(file []byte) bool {
	servers, _, _ := parseResolvConf(file)
	return len(servers) > 0 && !slices.ContainsFunc(servers, func(s string) bool { return !isLoopback(s) })
}

// parseResolvConf reads resolv.conf(5): servers add up; of search and domain the
// last one counts; options add up.
func parseResolvConf(file []byte) (servers, search, options []string) {
	for line := range strings.Lines(string(file)) {
		f := strings.Fields(line)
		if len(f) < 2 || strings.ContainsAny(f[0][:1], "#;") {
			continue
		}
		switch f[0] {
		case "nameserver":
			servers = append(servers, f[1])
		case "search":
			search = f[1:]
		case "domain":
			search = f[1:2]
		case "options":
			options = append(options, f[1:]...)
		}
	}
	return servers, search, options
}
