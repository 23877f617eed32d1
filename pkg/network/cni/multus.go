package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Annotations that say which networks a container is in beside its first, and what came of it: those of the Kubernetes Network
// Plumbing Working Group, which Multus reads and writes.
const (
	NetworksAnnotation = "k8s.v1.cni.cncf.io/networks"
	StatusAnnotation   = "k8s.v1.cni.cncf.io/network-status"
)

// Annotations that limit what a container receives and sends, as Kubernetes has them: bits per second, such as 10M.
const (
	IngressAnnotation = "kubernetes.io/ingress-bandwidth"
	EgressAnnotation  = "kubernetes.io/egress-bandwidth"
)

// ErrAnnotation means that an annotation is not in one of its forms.
var ErrAnnotation = errors.New("the annotation is not understood")

// Selection is a network that an annotation asks for. The names are those of its JSON form.
type Selection struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	Interface string `json:"interface,omitempty"`
	// Addresses may have prefixes or not.
	Addresses []string `json:"ips,omitempty"`
	MAC       string   `json:"mac,omitempty"`
	// Gateways has the default routes lead there, and nowhere else.
	Gateways  []netip.Addr   `json:"default-route,omitempty"`
	Ports     []Port         `json:"portMappings,omitempty"`
	Bandwidth Bandwidth      `json:"bandwidth,omitzero"`
	Args      map[string]any `json:"cni-args,omitempty"`
}

// ParseNetworks reads the annotation: NAME, NAMESPACE/NAME, NAME@INTERFACE and so on with commas between them, or a list in JSON. An
// interface that has no name gets net1, net2 and so on, by its place.
func ParseNetworks(text string) ([]Selection, error) { return ParseNetworksAfter(text, 0) }

// ParseNetworksAfter does so where as many networks as place are there already, beside the first: places are counted from there.
func ParseNetworksAfter(text string, place int) ([]Selection, error) {
	var list []Selection
	var err error
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.DisallowUnknownFields()
		if err = decoder.Decode(&list); err == nil && decoder.More() {
			err = errors.New("something stands behind the list")
		}
	} else {
		for word := range strings.SplitSeq(text, ",") {
			list = append(list, shortForm(strings.TrimSpace(word)))
		}
	}
	for i := range list {
		if err == nil {
			err = list[i].complete(place + i)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", NetworksAnnotation, err, ErrAnnotation)
	}
	return list, nil
}

func shortForm(word string) Selection {
	var s Selection
	s.Name = word
	if name, device, ok := strings.Cut(s.Name, "@"); ok {
		s.Name, s.Interface = name, device
		if device == "" {
			s.Name = "" // which is refused
		}
	}
	if namespace, name, ok := strings.Cut(s.Name, "/"); ok {
		s.Namespace, s.Name = namespace, name
	}
	return s
}

// complete checks a selection and gives its interface a name.
func (s *Selection) complete(place int) error {
	if s.Name == "" || strings.ContainsAny(s.Name+s.Namespace, "/@ \t\n") {
		return fmt.Errorf("network %d: %q is no name: use NAME, NAME@INTERFACE, or JSON", place+1, s.Name)
	}
	if err := checkName(s.Name); err != nil {
		return fmt.Errorf("network %d: %w", place+1, err)
	}
	if s.Interface == "" {
		s.Interface = "net" + strconv.Itoa(place+1)
	}
	if err := checkInterface(s.Interface); err != nil {
		return fmt.Errorf("network %s: %w", s.Name, err)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Args)) {
		if err := checkArg(key, fmt.Sprint(s.Args[key])); err != nil {
			return fmt.Errorf("network %s: cni-args: %w", s.Name, err)
		}
	}
	if _, err := s.prefixes(); err != nil {
		return err
	}
	if s.Namespace != "" {
		if err := checkName(s.Namespace); err != nil {
			return fmt.Errorf("namespace %q: it is no name: letters, digits, _ . and -, the first a letter or digit", s.Namespace)
		}
	}
	for _, p := range s.Ports {
		if err := p.check(); err != nil {
			return fmt.Errorf("network %s: portMappings: %w", s.Name, err)
		}
	}
	if _, err := net.ParseMAC(s.MAC); s.MAC != "" && err != nil {
		return err
	}
	return nil
}

// check refuses what is no port.
func (p Port) check() error {
	const last = 65535
	for name, n := range map[string]int{"hostPort": p.HostPort, "containerPort": p.ContainerPort} {
		if n < 1 || n > last {
			return fmt.Errorf("%s %d: use 1 to %d", name, n, last)
		}
	}
	if !slices.Contains([]string{"", "tcp", "udp", "sctp"}, strings.ToLower(p.Protocol)) {
		return fmt.Errorf("protocol %q: use tcp, udp or sctp", p.Protocol)
	}
	if _, err := netip.ParseAddr(p.HostIP); p.HostIP != "" && err != nil {
		return fmt.Errorf("hostIP %q: it is no address", p.HostIP)
	}
	return nil
}

func (s Selection) prefixes() ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, text := range s.Addresses {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("network %s: %q is no address", s.Name, text)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		list = append(list, p)
	}
	return list, nil
}

// ParseRate reads a rate of the annotations: a number of bits per second, with k, M, G or Ki, Mi, Gi behind it.
func ParseRate(text string) (uint64, error) {
	digits := strings.TrimRight(text, "kKMGi")
	factor, ok := map[string]uint64{"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}[text[len(digits):]]
	n, err := strconv.ParseUint(digits, 10, 53)
	if !ok || err != nil || n > 1<<53/factor {
		return 0, fmt.Errorf("%q is no rate, such as 10M: %w", text, ErrAnnotation)
	}
	return n * factor, nil
}

// Status is what came of one network, in the words of the annotation.
type Status struct {
	Name      string   `json:"name"`
	Interface string   `json:"interface,omitempty"`
	IPs       []string `json:"ips,omitempty"`
	MAC       string   `json:"mac,omitempty"`
	MTU       int      `json:"mtu,omitempty"`
	// Default says that the container's way to everywhere else is there, or that it is its first network.
	Default  bool      `json:"default,omitempty"`
	DNS      StatusDNS `json:"dns"`
	Gateways []string  `json:"gateway,omitempty"`
}

// StatusDNS is who answers for names there.
type StatusDNS struct {
	Nameservers []string `json:"nameservers,omitempty"`
	Domain      string   `json:"domain,omitempty"`
	Search      []string `json:"search,omitempty"`
}

// Status says what came of it.
func (c Connected) Status(first bool) Status {
	s := Status{Name: c.Network, Interface: c.Interface, Default: first, DNS: StatusDNS{Nameservers: c.Result.DNS.Nameservers, Domain: c.Result.DNS.Domain, Search: c.Result.DNS.Search}}
	for _, i := range c.Result.Interfaces {
		if i.Sandbox != "" && i.Name == c.Interface {
			s.MAC, s.MTU = i.Mac, i.Mtu
		}
	}
	for _, ip := range c.Result.IPs {
		s.IPs = append(s.IPs, ip.Address.IP.String())
		if ip.Gateway != nil {
			s.Gateways = append(s.Gateways, ip.Gateway.String())
		}
	}
	return s
}
