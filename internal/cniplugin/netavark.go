package cniplugin

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/containr/containr/pkg/network/apply"
	"github.com/containr/containr/pkg/network/bridge"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// netavarkOptions is what podman writes to netavark's standard input: the networks, and what the container is to have in each.
type netavarkOptions struct {
	Container string `json:"container_id"`
	Name      string `json:"container_name"`
	Ports     []struct {
		Container uint16 `json:"container_port"`
		Host      uint16 `json:"host_port"`
		HostIP    string `json:"host_ip"`
		Protocol  string `json:"protocol"`
		Range     uint16 `json:"range"`
	} `json:"port_mappings"`
	Networks map[string]struct {
		IPs       []string `json:"static_ips"`
		MAC       string   `json:"static_mac"`
		Interface string   `json:"interface_name"`
	} `json:"networks"`
	Info map[string]netavarkNetwork `json:"network_info"`
}

type netavarkNetwork struct {
	Name     string `json:"name"`
	Driver   string `json:"driver"`
	Link     string `json:"network_interface"`
	Internal bool   `json:"internal"`
	Subnets  []struct {
		Subnet  string `json:"subnet"`
		Gateway string `json:"gateway"`
	} `json:"subnets"`
	Options map[string]string `json:"options"`
	DNS     bool              `json:"dns_enabled"`
}

// netavarkStatus is what it prints of each network.
type netavarkStatus struct {
	Search     []string                     `json:"dns_search_domains"`
	Servers    []string                     `json:"dns_server_ips"`
	Interfaces map[string]netavarkInterface `json:"interfaces"`
}

type netavarkInterface struct {
	MAC     string `json:"mac_address"`
	Subnets []struct {
		Gateway string `json:"gateway,omitempty"`
		Net     string `json:"ipnet"`
	} `json:"subnets"`
}

// netavarkVersion is that of the protocol that this follows: podman 4 and 5 write it.
const netavarkVersion = "1.4.0"

// netavark does a command of netavark's, and prints what it prints: an error is a document too.
func netavark(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	answer, err := netavarkCommand(args, stdin)
	if err != nil {
		answer = map[string]string{"error": err.Error()}
	}
	if answer != nil {
		if printErr := json.NewEncoder(stdout).Encode(answer); err == nil {
			err = printErr
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "netavark:", err)
		return 1
	}
	return 0
}

// netavarkCommand reads the command line: flags may stand anywhere. Those that podman gives are about its other programs.
func netavarkCommand(args []string, stdin io.Reader) (answer any, err error) {
	var words []string
	input := stdin
	for i := 0; i < len(args); i++ {
		flag, value, joined := strings.Cut(args[i], "=")
		if !strings.HasPrefix(flag, "-") {
			words = append(words, args[i])
			continue
		}
		if !joined && flag != "--version" {
			if i++; i == len(args) {
				return nil, fmt.Errorf("%s: its value is missing", flag)
			}
			value = args[i]
		}
		switch flag {
		case "--config", "-c", "--rootless", "-r", "--aardvark-binary", "-a", "--plugin-directory", "--firewall-driver", "--network-dns-servers":
		case "--version":
			words = append(words, "version")
		case "--file", "-f":
			f, err := os.Open(value)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			input = f
		default:
			return nil, fmt.Errorf("unknown flag %s", flag)
		}
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("there are setup NETNS, teardown NETNS, update NETWORK, version")
	}
	if words[0] == "version" {
		return map[string]string{"version": netavarkVersion, "implementation": "containr-cni"}, nil
	}
	if len(words) != 2 {
		return nil, fmt.Errorf("%s takes one word", words[0])
	}
	if words[0] == "update" { // of the name servers, in a network of which podman asks for names
		return nil, fmt.Errorf("update of network %s: nobody answers for names in networks of this program", words[1])
	}
	raw, err := io.ReadAll(io.LimitReader(input, maxConfig))
	if err != nil {
		return nil, err
	}
	var o netavarkOptions
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	switch words[0] {
	case "setup":
		return o.setup(words[1])
	case "teardown":
		return nil, o.teardown(words[1])
	}
	return nil, fmt.Errorf("unknown command %q: there are setup, teardown, update, version", words[0])
}

// endpoints are what the container has in its networks, in the order of the interfaces' names: eth0 leads to everywhere else.
func (o netavarkOptions) endpoints() ([]bridge.Endpoint, []string, error) {
	var names []string
	for name := range o.Networks {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return strings.Compare(o.Networks[a].Interface, o.Networks[b].Interface)
	})
	var list []bridge.Endpoint
	leads := false
	for _, name := range names {
		info, ok := o.Info[name]
		if !ok {
			return nil, nil, fmt.Errorf("network %s: it is not in network_info", name)
		}
		e, err := o.endpoint(name, info)
		if err != nil {
			return nil, nil, fmt.Errorf("network %s: %w", name, err)
		}
		e.Leads = both(!leads && !info.Internal)
		leads = leads || e.Leads.Four
		list = append(list, e)
	}
	return list, names, nil
}

func (o netavarkOptions) endpoint(name string, info netavarkNetwork) (e bridge.Endpoint, err error) {
	n := o.Networks[name]
	for key, device := range map[string]string{"interface_name": n.Interface, "network_interface": info.Link} {
		if err := checkDevice(key, device); err != nil {
			return e, err
		}
	}
	e = bridge.Endpoint{Interface: n.Interface, Network: bridge.Network{Internal: info.Internal}}
	for key, value := range info.Options {
		switch {
		case key == "mtu":
			if _, err := fmt.Sscanf(value, "%d", &e.Network.MTU); err != nil {
				return e, fmt.Errorf("mtu %q: it is no number", value)
			}
		case key == "mode", key == "isolate": // networks are kept apart in any case
		default:
			return e, fmt.Errorf("option %s=%s is not known", key, value)
		}
	}
	switch info.Driver {
	case "bridge":
		e.Network.Link, e.Link = info.Link, cable(o.Container, n.Interface)
	case "macvlan":
		mode := info.Options["mode"]
		if mode == "" {
			mode = "bridge"
		}
		e.Network.Shared = bridge.Shared{Kind: "macvlan", Mode: mode, Parent: info.Link}
	default:
		return e, fmt.Errorf("driver %s: there are bridge and macvlan", info.Driver)
	}
	for _, text := range n.IPs {
		if err := give(&e, text, info); err != nil {
			return e, err
		}
	}
	if len(e.Addresses) == 0 {
		return e, fmt.Errorf("the container has no address: static_ips")
	}
	e.MAC = bridge.MAC(e.Addresses[0].Addr())
	if n.MAC != "" {
		mac, err := net.ParseMAC(n.MAC)
		if err != nil {
			return e, err
		}
		e.MAC = string(mac)
	}
	return e, nil
}

// give adds an address, which is in one of the network's subnets.
func give(e *bridge.Endpoint, text string, info netavarkNetwork) error {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return err
	}
	for _, s := range info.Subnets {
		p, err := netip.ParsePrefix(s.Subnet)
		if err != nil {
			return err
		}
		if !p.Contains(a) {
			continue
		}
		var gateway netip.Addr
		if s.Gateway != "" {
			if gateway, err = netip.ParseAddr(s.Gateway); err != nil {
				return err
			}
		}
		e.Addresses = append(e.Addresses, netip.PrefixFrom(a, p.Bits()))
		e.Network.Subnets = append(e.Network.Subnets, subnetOf(p, gateway))
		return nil
	}
	return fmt.Errorf("address %s: it is in none of the network's subnets", a)
}

// ports are those of all that is published, at the addresses in the first network that has any.
func (o netavarkOptions) ports(endpoints []bridge.Endpoint) ([]bridge.Port, error) {
	var list []portMap
	for _, p := range o.Ports {
		for i := range max(1, p.Range) {
			for protocol := range strings.SplitSeq(p.Protocol, ",") {
				list = append(list, portMap{p.Host + i, p.Container + i, protocol, p.HostIP})
			}
		}
	}
	var addresses []netip.Addr
	for _, e := range endpoints {
		if e.Network.Shared.Kind == "" && !e.Network.Internal && len(addresses) == 0 {
			for _, p := range e.Addresses {
				addresses = append(addresses, p.Addr())
			}
		}
	}
	return portsTo(list, addresses)
}

// setup connects the container. If a part of it fails, nothing of it stays.
func (o netavarkOptions) setup(netns string) (map[string]netavarkStatus, error) {
	endpoints, names, err := o.endpoints()
	if err != nil {
		return nil, err
	}
	in := bridge.Input{PID: thread, Endpoints: endpoints, Host: forwarding()}
	if in.Ports, err = o.ports(endpoints); err != nil {
		return nil, err
	}
	if err := perform(netns, bridge.Connect(in)); err != nil {
		return nil, portError(err, in.Ports)
	}
	out := map[string]netavarkStatus{}
	for i, e := range endpoints {
		one := netavarkInterface{MAC: net.HardwareAddr(e.MAC).String()}
		for k, p := range e.Addresses {
			one.Subnets = append(one.Subnets, struct {
				Gateway string `json:"gateway,omitempty"`
				Net     string `json:"ipnet"`
			}{e.Network.Subnets[k].Gateway.String(), p.String()})
		}
		out[names[i]] = netavarkStatus{Search: []string{}, Servers: []string{}, Interfaces: map[string]netavarkInterface{e.Interface: one}}
	}
	return out, nil
}

// teardown disconnects it. What is gone already is no error.
func (o netavarkOptions) teardown(netns string) error {
	endpoints, _, err := o.endpoints()
	if err != nil {
		return err
	}
	ports, err := o.ports(endpoints)
	if err != nil {
		return err
	}
	if err := unpublish(ports); err != nil {
		return err
	}
	for _, e := range endpoints {
		if e.Network.Shared.Kind == "" {
			err = apply.Undo(linux.DeleteLink{Link: e.Link})
		} else if _, statErr := os.Stat(netns); statErr == nil {
			b := plan.Build(plan.Host, plan.NetworkChapter)
			b.Do("the container leaves the network", linux.DropLink{PID: thread, Link: e.Interface})
			err = perform(netns, b.Steps)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
