package cniplugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/network/apply"
	"github.com/containr/containr/pkg/network/bridge"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// addBridge plugs the container into a bridge.
func addBridge(r *request) (*types100.Result, error) {
	c := r.Config
	switch {
	case c.IsGateway != nil && !*c.IsGateway && !c.IsDefaultGateway:
		return nil, invalid("isGateway: the host is the gateway of a bridge of containr's: leave it out, or set it to true")
	case c.VLAN != 0:
		return nil, invalid("vlan: a bridge of containr's has none; macvlan on a device called eth0.%d has", c.VLAN)
	case c.Promisc:
		return nil, invalid("promiscMode: a bridge of containr's learns addresses, and a port that sends packets back is always allowed to (hairpinMode)")
	}
	if c.Bridge == "" {
		c.Bridge = "cni0"
	}
	if err := checkDevice("bridge", c.Bridge); err != nil {
		return nil, err
	}
	network := bridge.Network{Link: c.Bridge, MTU: c.MTU, Unmasked: !c.IPMasq, Isolated: c.PortIsolation}
	return r.plug(network, cable(r.Container, r.Interface))
}

// addMACVLAN gives the container a share of a device of the host's.
func addMACVLAN(r *request) (*types100.Result, error) {
	c := r.Config
	if c.Master == "" {
		return nil, invalid("master: which device of the host?")
	}
	if err := checkDevice("master", c.Master); err != nil {
		return nil, err
	}
	mode := c.Mode
	if mode == "" {
		mode = "bridge"
	}
	if !slices.ContainsFunc(linux.SubLinkModes["macvlan"], func(m linux.Mode) bool { return m.Word == mode }) {
		return nil, invalid("mode %q: there are bridge, private, vepa, passthru", mode)
	}
	return r.plug(bridge.Network{MTU: c.MTU, Shared: bridge.Shared{Kind: "macvlan", Mode: mode, Parent: c.Master}}, "")
}

// plug connects the container, with addresses from the plugin for them.
func (r *request) plug(n bridge.Network, link string) (result *types100.Result, err error) {
	addresses, err := r.addresses()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.passAddresses("DEL"))
		}
	}()
	e := bridge.Endpoint{Network: n, Link: link, Interface: r.Interface, Leads: both(r.Config.IsDefaultGateway)}
	for _, ip := range addresses.IPs {
		p, gateway, err := prefixOf(ip)
		if err != nil {
			return nil, err
		}
		e.Addresses = append(e.Addresses, p)
		e.Network.Subnets = append(e.Network.Subnets, subnetOf(p, gateway))
	}
	for _, route := range addresses.Routes {
		if ones, _ := route.Dst.Mask.Size(); ones != 0 {
			return nil, invalid("route to %s: only that to everywhere is known, 0.0.0.0/0 or ::/0", route.Dst.String())
		}
		e.Leads = both(true)
	}
	if len(e.Addresses) == 0 {
		return nil, invalid("ipam: it has given no address")
	}
	mac, err := r.mac(e.Addresses[0].Addr())
	if err != nil {
		return nil, err
	}
	e.MAC = string(mac)
	steps := bridge.Connect(bridge.Input{PID: thread, Endpoints: []bridge.Endpoint{e}, Host: forwarding()})
	if err := perform(r.Netns, steps); err != nil {
		return nil, err
	}
	return r.result(e, addresses, mac), nil
}

// both are both versions of IP, or none.
func both(leads bool) bridge.Versions { return bridge.Versions{Four: leads, Six: leads} }

// mac is the address that was asked for, or one that is made of the first IP address.
func (r *request) mac(first netip.Addr) (net.HardwareAddr, error) {
	text := r.Config.RuntimeConfig.MAC
	if text == "" {
		text = r.Args["MAC"]
	}
	if text == "" {
		return net.HardwareAddr(bridge.MAC(first)), nil
	}
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 {
		return nil, invalid("mac %q: it is no address of an Ethernet device", text)
	}
	return mac, nil
}

func prefixOf(ip *types100.IPConfig) (p netip.Prefix, gateway netip.Addr, err error) {
	if p, err = netip.ParsePrefix(ip.Address.String()); err != nil {
		return p, gateway, err
	}
	gateway, _ = netip.AddrFromSlice(ip.Gateway)
	return p, gateway.Unmap(), nil
}

// result says what the container has.
func (r *request) result(e bridge.Endpoint, addresses *types100.Result, mac net.HardwareAddr) *types100.Result {
	out := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, Routes: addresses.Routes, DNS: addresses.DNS}
	if e.Network.Shared.Kind == "" {
		out.Interfaces = append(out.Interfaces, &types100.Interface{Name: e.Network.Link}, &types100.Interface{Name: e.Link})
	}
	own := len(out.Interfaces)
	out.Interfaces = append(out.Interfaces, &types100.Interface{Name: r.Interface, Mac: mac.String(), Sandbox: r.Netns, Mtu: e.Network.MTU})
	for i := range e.Addresses {
		out.IPs = append(out.IPs, &types100.IPConfig{Interface: &own, Address: addresses.IPs[i].Address, Gateway: e.Network.Subnets[i].Gateway.AsSlice()})
	}
	if e.Leads.Four && len(out.Routes) == 0 {
		for _, s := range e.Network.Subnets {
			bits := s.Prefix.Addr().BitLen()
			out.Routes = append(out.Routes, &types.Route{Dst: net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)}, GW: s.Gateway.AsSlice()})
		}
	}
	return out
}

// addresses asks the plugin for addresses.
func (r *request) addresses() (*types100.Result, error) {
	if r.Config.IPAM.Type == "" {
		return nil, invalid("ipam: who gives addresses? host-local does")
	}
	got, err := invoke.DelegateAdd(context.Background(), r.Config.IPAM.Type, r.Raw, &delegate{})
	if err != nil {
		return nil, err
	}
	return types100.NewResultFromResult(got)
}

// passAddresses passes a verb on to the plugin for addresses.
func (r *request) passAddresses(verb string) error {
	if r.Config.IPAM.Type == "" {
		return nil
	}
	ctx, name := context.Background(), r.Config.IPAM.Type
	switch verb {
	case "CHECK":
		return invoke.DelegateCheck(ctx, name, r.Raw, &delegate{})
	case "GC":
		return invoke.DelegateGC(ctx, name, r.Raw, &delegate{})
	case "STATUS":
		return invoke.DelegateStatus(ctx, name, r.Raw, &delegate{})
	}
	return invoke.DelegateDel(ctx, name, r.Raw, &delegate{})
}

// passOn is a verb that only the plugin for addresses has something to do at.
func passOn(verb string) func(*request) error {
	return func(r *request) error { return r.passAddresses(verb) }
}

// delBridge pulls the cable out.
func delBridge(r *request) error {
	return errors.Join(apply.Undo(linux.DeleteLink{Link: cable(r.Container, r.Interface)}), r.passAddresses("DEL"))
}

// delMACVLAN deletes the device in the container, if there still is one.
func delMACVLAN(r *request) error {
	var err error
	if _, statErr := os.Stat(r.Netns); r.Netns != "" && statErr == nil {
		b := plan.Build(plan.Host, plan.NetworkChapter)
		b.Do("the container leaves the network", linux.DropLink{PID: thread, Link: r.Interface})
		err = perform(r.Netns, b.Steps)
	}
	return errors.Join(err, r.passAddresses("DEL"))
}

// checkLinks looks whether the container still has the addresses of the result.
func checkLinks(r *request) error {
	if r.Previous == nil {
		return invalid("prevResult is missing")
	}
	err := inside(r.Netns, func(tid int) error {
		route, err := sys.OpenRouteOf(tid)
		if err != nil {
			return err
		}
		defer route.Close()
		index, err := route.LinkIndex(r.Interface)
		if err != nil {
			return fmt.Errorf("interface %s: %w", r.Interface, err)
		}
		has, err := route.Addresses(index)
		if err != nil {
			return err
		}
		for _, ip := range r.Previous.IPs {
			p, _, err := prefixOf(ip)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(has, func(a sys.Address) bool { return a.Local == string(p.Addr().AsSlice()) }) {
				return fmt.Errorf("interface %s: it has lost the address %s", r.Interface, p)
			}
		}
		return nil
	})
	return errors.Join(err, r.passAddresses("CHECK"))
}

// ready looks whether the kernel can do what is needed.
func ready(r *request) error {
	facts, err := host.Probe()
	if err != nil {
		return err
	}
	if why := apply.Unable(facts, r.Config.Bridge); why != "" {
		return types.NewError(codeUnavailable, why, "")
	}
	return r.passAddresses("STATUS")
}

// addPorts leads ports of the host to the container.
func addPorts(r *request) (*types100.Result, error) {
	if r.Previous == nil {
		return nil, invalid("portmap: it comes behind a plugin that gives addresses: prevResult is missing")
	}
	ports, err := r.ports()
	if err != nil {
		return nil, err
	}
	if older, err := version.GreaterThan("0.4.0", r.Config.CNIVersion); len(ports) > 0 && (older || err != nil) {
		return nil, types.NewError(codeVersion, "portmap: cniVersion "+r.Config.CNIVersion, "before 0.4.0 nobody says at the end to whom a port led, and it would stay")
	}
	return r.Previous, portError(perform("", publish(ports)), ports)
}

// portError says what it means that an element of the map is there already.
func portError(err error, ports []bridge.Port) error {
	if !errors.Is(err, unix.EEXIST) || len(ports) == 0 {
		return err
	}
	var list []string
	for _, p := range ports {
		list = append(list, fmt.Sprintf("%d/%s", p.HostPort, p.Protocol))
	}
	return fmt.Errorf("port %s of the host leads to another container: %w", strings.Join(slices.Compact(list), " or "), err)
}

func delPorts(r *request) error {
	if r.Previous == nil {
		return nil // nobody has an address yet, so none leads to it
	}
	ports, err := r.ports()
	return errors.Join(err, unpublish(ports))
}

func checkPorts(r *request) error {
	ports, err := r.ports()
	for _, p := range ports {
		there, lookErr := apply.IsPublished(p)
		if err == nil {
			err = lookErr
		}
		if err == nil && !there {
			err = fmt.Errorf("port %d/%s of the host does not lead to %s any more", p.HostPort, p.Protocol, p.To)
		}
	}
	return err
}

// ports are those that were asked for, at each address of the container.
func (r *request) ports() ([]bridge.Port, error) {
	var addresses []netip.Addr
	for _, ip := range r.Previous.IPs {
		p, _, err := prefixOf(ip)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, p.Addr())
	}
	return portsTo(r.Config.RuntimeConfig.Ports, addresses)
}

func portsTo(list []portMap, addresses []netip.Addr) ([]bridge.Port, error) {
	var out []bridge.Port
	for _, p := range list {
		protocol := strings.ToLower(p.Protocol)
		if !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) || p.HostPort == 0 || p.ContainerPort == 0 {
			return nil, invalid("port %d to %d/%s: there are 1 to 65535 of tcp, udp, sctp", p.HostPort, p.ContainerPort, p.Protocol)
		}
		var at netip.Addr
		if p.HostIP != "" {
			a, err := netip.ParseAddr(p.HostIP)
			if err != nil {
				return nil, invalid("port %d: %q is no address", p.HostPort, p.HostIP)
			}
			at = a
		}
		for _, six := range []bool{false, true} {
			i := slices.IndexFunc(addresses, func(a netip.Addr) bool { return a.Is6() == six })
			if i < 0 || at.IsValid() && at.Is6() != six {
				continue
			}
			port := bridge.Port{To: addresses[i], Protocol: protocol, HostPort: p.HostPort, Container: p.ContainerPort}
			if at.IsValid() && !at.IsUnspecified() {
				port.Host = at
			}
			out = append(out, port)
		}
	}
	return out, nil
}

// addFirewall has the rules apply to the bridge of the plugin before, whosever it is: then nobody but its own containers, and who comes
// for a published port, gets in. It is the network's, and stays with it.
func addFirewall(r *request) (*types100.Result, error) {
	if r.Previous == nil {
		return nil, invalid("firewall: it comes behind a plugin that gives addresses: prevResult is missing")
	}
	link, err := r.gatewayLink()
	if err != nil {
		return nil, err
	}
	n := bridge.Network{Link: link, Unmasked: true}
	for _, ip := range r.Previous.IPs {
		p, gateway, err := prefixOf(ip)
		if err != nil {
			return nil, err
		}
		n.Subnets = append(n.Subnets, subnetOf(p, gateway))
	}
	return r.Previous, perform("", bridge.Reload(bridge.Input{Endpoints: []bridge.Endpoint{{Network: n}}}))
}

// gatewayLink is the device of the host's, of those that the plugin before has named, at which a gateway of the container's is.
func (r *request) gatewayLink() (string, error) {
	route, err := sys.OpenRoute()
	if err != nil {
		return "", err
	}
	defer route.Close()
	for _, i := range r.Previous.Interfaces {
		if i.Sandbox != "" {
			continue
		}
		index, err := route.LinkIndex(i.Name)
		if err != nil {
			continue // it is another one's business that it is gone
		}
		has, err := route.Addresses(index)
		if err != nil {
			return "", err
		}
		for _, ip := range r.Previous.IPs {
			_, gateway, err := prefixOf(ip)
			if err == nil && slices.ContainsFunc(has, func(a sys.Address) bool { return a.Local == string(gateway.AsSlice()) }) {
				return i.Name, nil
			}
		}
	}
	return "", invalid("firewall: none of the devices that the plugins before have made is the container's gateway, and only bridges that are one are kept apart")
}
