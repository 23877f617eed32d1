package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/namespace"
	"github.com/containr/containr/pkg/network/apply"
	"github.com/containr/containr/pkg/network/cni"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/runtime"
)

// Network back ends: who makes networks whose names do not say so.
const (
	BackendBuiltin  = "builtin"
	BackendCNI      = "cni"
	BackendNetavark = "netavark"
)

// NetworkBackends are all of them.
func NetworkBackends() []string { return []string{BackendBuiltin, BackendCNI, BackendNetavark} }

// actions make the steps of networks.
func actions() runtime.Actions {
	kernel := new(apply.Kernel)
	return runtime.Actions{
		Do: func(call plan.Call, regs map[plan.Reg]int) (int, error) {
			if cni.Handles(call) {
				return cni.Do(call, regs)
			}
			return kernel.Do(call, regs)
		},
		Undo: func(call plan.Call) error {
			if cni.Handles(call) {
				return cni.Undo(call)
			}
			return apply.Undo(call)
		},
		Read: func(action, operand string) (plan.Call, error) {
			if call, ok := cni.ReadEntry(action, operand); ok {
				return call, nil
			}
			return apply.Read(action, operand)
		},
	}
}

func (e *Engine) cniDirs() cni.Dirs {
	return cni.Dirs{Conf: e.options.CNIConf, Bin: e.options.CNIBin}.Complete()
}

// cniCache is where the results of plugins are kept, of all containers.
func (e *Engine) cniCache() string { return filepath.Join(e.run, "cni") }

// cniPlace is where a container's namespace gets a name.
func (e *Engine) cniPlace(id string, bin []string) cni.Place {
	return cni.Place{Netns: filepath.Join(e.run, "cni", id, "netns"), Cache: e.cniCache(), Bin: bin}
}

// preferBackend has the names of networks mean those of the back end that was asked for. Docker's words for the usual network
// are the first one's then, or netavark's own.
func (e *Engine) preferBackend(c container.Config) (container.Config, error) {
	prefer := e.preferCNI
	switch e.options.NetworkBackend {
	case BackendCNI:
	case BackendNetavark:
		prefer = preferNetavark
	default:
		return c, nil
	}
	facts, err := e.facts()
	if err != nil {
		return c, err
	}
	c.Networks = slices.Clone(c.Networks)
	word := c.Namespaces.Network
	if word == "" && len(c.Networks) == 0 && facts.Root() {
		word = e.options.Network
	}
	if word != "" && !container.IsNetworkWord(word) && len(c.Networks) == 0 {
		c.Networks = []container.Plug{{Network: word}}
	}
	for i := range c.Networks {
		p := &c.Networks[i]
		if container.IsNetworkWord(p.Network) {
			continue
		}
		if _, said := p.CNINetwork(); !said {
			if p.Network, err = prefer(p.Network); err != nil {
				return c, err
			}
		}
		c.Namespaces.Network = c.Networks[0].Network
	}
	return c, nil
}

// preferCNI is what a name means where plugins make networks.
func (e *Engine) preferCNI(name string) (string, error) {
	if isDefaultNetwork(name) {
		first, err := e.cniDirs().First()
		if err != nil {
			return "", err
		}
		name = first.List.Name
	}
	return container.CNIPrefix + name, nil
}

// attach decides how plugins are to connect a container: with those of its networks that are theirs, and with those that its
// annotations name.
func (e *Engine) attach(c container.Config) ([]container.Attachment, error) {
	dirs := e.cniDirs()
	var list []container.Attachment
	names := askedInterfaces(c.Networks)
	for i, plug := range c.Networks {
		if _, ok := plug.CNINetwork(); !ok {
			continue
		}
		if plug.Priority != 0 {
			return nil, fmt.Errorf("network %s: gw-priority: plugins decide about routes: isDefaultGateway of bridge, or default-route of an annotation", plug.Network)
		}
		if plug.Interface == "" {
			plug.Interface = freeInterface(i, names)
			names = append(names, plug.Interface)
		}
		list = append(list, container.Attachment{Plug: plug, Conf: dirs.Conf, Bin: dirs.Bin})
	}
	if text := c.Annotations[cni.NetworksAnnotation]; text != "" {
		selected, err := cni.ParseNetworks(text)
		if err != nil {
			return nil, err
		}
		for _, s := range selected {
			a, err := selectedAttachment(s, dirs)
			if err != nil {
				return nil, err
			}
			list = append(list, a)
		}
		if !c.Namespaces.OwnNetwork() {
			return nil, fmt.Errorf("--network %s: the networks of the annotation %s need a network namespace of the container's own", c.Namespaces.Network, cni.NetworksAnnotation)
		}
	}
	if len(list) > maxEndpoints {
		return nil, fmt.Errorf("network %s: a container can be in %d networks", list[maxEndpoints].Network, maxEndpoints)
	}
	seen := map[string]string{}
	for _, a := range list {
		if other := seen[a.Interface]; other != "" {
			return nil, fmt.Errorf("network %s: interface %s is that of network %s", a.Network, a.Interface, other)
		}
		seen[a.Interface] = a.Network
	}
	return list, limitBandwidth(list, c.Annotations)
}

// askedInterfaces are the names of devices that somebody has asked for.
func askedInterfaces(plugs []container.Plug) (names []string) {
	for _, p := range plugs {
		if p.Interface != "" {
			names = append(names, p.Interface)
		}
	}
	return names
}

// freeInterface is the name of a container's device in its network of that number: the usual one, or else the first that is none of names.
func freeInterface(index int, names []string) string {
	name := "eth" + strconv.Itoa(index)
	for i := 0; slices.Contains(names, name); i++ {
		name = "eth" + strconv.Itoa(i)
	}
	return name
}

// limitBandwidth notes what Kubernetes' annotations say of the first network.
func limitBandwidth(list []container.Attachment, annotations map[string]string) error {
	for i, key := range []string{cni.IngressAnnotation, cni.EgressAnnotation} {
		text := annotations[key]
		if text == "" || len(list) == 0 {
			continue
		}
		rate, err := cni.ParseRate(text)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		list[0].Limits[2*i], list[0].Limits[2*i+1] = rate, rate // a second's worth at once
	}
	return nil
}

// selectedAttachment is what an annotation asks for. Networks of a namespace are in the directory of its name, as for the plugin multus; those
// of the namespace default may be where all others are.
func selectedAttachment(s cni.Selection, dirs cni.Dirs) (container.Attachment, error) {
	if s.Namespace != "" {
		own := cni.Dirs{Conf: filepath.Join(dirs.Conf, s.Namespace), Bin: dirs.Bin}
		_, err := own.Find(s.Name)
		if err != nil && s.Namespace != "default" {
			return container.Attachment{}, fmt.Errorf("network %s/%s: %w", s.Namespace, s.Name, err)
		}
		if err == nil {
			dirs = own
		}
	}
	a := container.Attachment{Plug: container.Plug{Network: container.CNIPrefix + s.Name, MAC: s.MAC, Interface: s.Interface}, Conf: dirs.Conf, Bin: dirs.Bin,
		Addresses: s.Addresses, Limits: [4]uint64{s.Bandwidth.IngressRate, s.Bandwidth.IngressBurst, s.Bandwidth.EgressRate, s.Bandwidth.EgressBurst}}
	for _, g := range s.Gateways {
		a.Gateways = append(a.Gateways, g.String())
	}
	for _, p := range s.Ports {
		protocol := cmp.Or(strings.ToLower(p.Protocol), "tcp")
		a.Ports = append(a.Ports, container.Port{HostIP: p.HostIP, HostPort: uint16(p.HostPort), Port: uint16(p.ContainerPort), Protocol: protocol}) // as ParseNetworks has checked them
	}
	for key, value := range s.Args {
		a.Args = append(a.Args, fmt.Sprintf("%s=%v", key, value))
	}
	slices.Sort(a.Args)
	return a, nil
}

// cniSteps plans what plugins do for a container. published are the ports that are their affair.
func (e *Engine) cniSteps(id string, at cni.Place, attachments []container.Attachment, published []container.Port) ([]plan.Step, error) {
	if len(attachments) == 0 {
		return nil, nil
	}
	var requests []cni.Request
	for _, a := range attachments {
		read := cniRequest
		if a.NetworkID != "" {
			read = e.netavarkRequest
		}
		r, err := read(id, a)
		if err != nil {
			return nil, err
		}
		requests = append(requests, r)
	}
	if len(published) > 0 {
		// The first network that can has them; if none can, the first one says so.
		i := max(0, slices.IndexFunc(requests, func(r cni.Request) bool { return r.Network.CanPublish() }))
		requests[i].Ports = append(requests[i].Ports, cniPorts(published)...)
	}
	steps, err := cni.Connect(namespace.PID, at, requests)
	if err != nil {
		return nil, err
	}
	more, err := leadTo(attachments)
	return append(steps, more...), err
}

// cniRequest reads the network's file, as it is now.
func cniRequest(id string, a container.Attachment) (cni.Request, error) {
	name, _ := a.CNINetwork()
	n, err := cni.Dirs{Conf: a.Conf, Bin: a.Bin}.Find(name)
	if err != nil {
		return cni.Request{}, err
	}
	r := cni.Request{Network: n, Container: id, Interface: a.Interface, MAC: a.MAC, Aliases: a.Aliases, Ports: cniPorts(a.Ports),
		Bandwidth: cni.Bandwidth{IngressRate: a.Limits[0], IngressBurst: a.Limits[1], EgressRate: a.Limits[2], EgressBurst: a.Limits[3]}}
	for _, text := range append([]string{a.IPv4, a.IPv6}, a.Addresses...) {
		if text == "" {
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return r, err
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		r.Addresses = append(r.Addresses, p)
	}
	for _, pair := range a.Args {
		key, value, _ := strings.Cut(pair, "=")
		r.Args = append(r.Args, [2]string{key, value})
	}
	return r, nil
}

func cniPorts(ports []container.Port) []cni.Port {
	var list []cni.Port
	for _, p := range ports {
		list = append(list, cni.Port{HostPort: int(p.HostPort), ContainerPort: int(p.Port), Protocol: p.Protocol, HostIP: p.HostIP})
	}
	return list
}

// leadTo plans the default routes that an annotation asks for: they take the place of those that plugins have made.
func leadTo(attachments []container.Attachment) ([]plan.Step, error) {
	b := plan.Build(plan.Host, plan.NetworkChapter)
	for _, a := range attachments {
		for i, text := range a.Gateways {
			gateway, err := netip.ParseAddr(text)
			if err != nil {
				return nil, err
			}
			if i == 0 {
				b.Do("the network that leads to everywhere else", linux.FindLink{PID: namespace.PID, Link: a.Interface}).As(plan.Reg("cni_" + a.Interface)).Early()
			}
			b.Do("what is for elsewhere leaves there", linux.AddRoute{PID: namespace.PID, Link: plan.Reg("cni_" + a.Interface), Gateway: string(gateway.AsSlice()), Replace: true}).Early()
		}
	}
	return b.Steps, nil
}

// connectPlugins completes a request by what plugins do. Ports that lead to none of containr's own networks are theirs.
// resolvText is what the container's resolv.conf says; plugins may name other servers if dns, what the user asked for, names none.
func (e *Engine) connectPlugins(req *runtime.CreateRequest, dns container.DNS, resolvText string, endpoints []container.Endpoint, attachments []container.Attachment, published []container.Port) error {
	if len(endpoints) > 0 {
		published = nil
	}
	if len(attachments) == 0 {
		return nil
	}
	at := e.cniPlace(req.ID, attachments[0].Bin)
	at.DNS = cni.DNS{Servers: dns.Servers, Searches: dns.Search, Options: dns.Options}
	for _, m := range req.Spec.Mounts {
		// A file of the user's own is left alone.
		own := filepath.Base(filepath.Dir(m.Source)) == req.ID && (strings.HasPrefix(m.Source, e.root+"/") || strings.HasPrefix(m.Source, e.run+"/"))
		if m.Destination == "/etc/hosts" && own && filepath.Base(m.Source) == "hosts" && req.Spec.Hostname != "" {
			at.Hosts, at.Hostname = m.Source, req.Spec.Hostname
		}
		asked := len(dns.Servers)+len(dns.Search)+len(dns.Options) > 0
		if server, _ := resolverOf(endpoints); m.Destination == "/etc/resolv.conf" && own && filepath.Base(m.Source) == "resolv.conf" && resolvText != "" && !asked && server == "" {
			at.ResolvConf, at.ResolvText = m.Source, resolvText
		}
	}
	steps, err := e.cniSteps(req.ID, at, attachments, published)
	req.Network = append(req.Network, steps...)
	return err
}

// CNINetwork is a network of plugins, with what they have said of the containers in it.
type CNINetwork struct {
	Network  cni.Network
	Attached []cni.Connected
}

// CNITraffic counts what has gone through a network of plugins, by the ids of the containers in it that run. The value is nil if the
// container has taken the device away.
func (e *Engine) CNITraffic(ctx context.Context, n CNINetwork) (map[string]*PlugTraffic, error) {
	all := map[string]*PlugTraffic{}
	for _, c := range n.Attached {
		record, err := e.Get(ctx, c.Container)
		if errors.Is(err, container.ErrNotFound) {
			continue // it is gone, and not disconnected yet
		}
		if err != nil {
			return nil, err
		}
		usage, runs, err := e.plugUsage(record, container.Plug{Interface: c.Interface})
		switch {
		case err != nil:
			return nil, err
		case runs && usage != nil:
			all[c.Container] = &PlugTraffic{NetworkUsage: *usage}
		case runs:
			all[c.Container] = nil
		}
	}
	return all, nil
}

// CNINetworks lists the networks of plugins. Files that are none are in the error; the others are returned all the same.
func (e *Engine) CNINetworks() ([]CNINetwork, error) {
	found, failures := e.cniDirs().List()
	results, err := cni.Results(e.cniCache(), "")
	var list []CNINetwork
	for _, n := range found {
		one := CNINetwork{Network: n}
		for _, r := range results {
			if r.Network == n.List.Name {
				one.Attached = append(one.Attached, r)
			}
		}
		list = append(list, one)
	}
	return list, errors.Join(failures, err)
}

// CNINetwork finds one by its name, without the prefix.
func (e *Engine) CNINetwork(name string) (CNINetwork, error) {
	list, _ := e.CNINetworks() // what is wrong with files that may be about it, Find says
	i := slices.IndexFunc(list, func(n CNINetwork) bool { return n.Network.List.Name == name })
	if i >= 0 {
		return list[i], nil
	}
	n, err := e.cniDirs().Find(name)
	return CNINetwork{Network: n}, err
}

// CNICheck is what plugins say of a network, and of each container in it. An error is the plugin's complaint.
type CNICheck struct {
	// Asked: the network's version of the specification lets one ask whether it is ready.
	Asked   bool
	Ready   error
	Checked []CNIChecked
	// Left are containers that are gone and that the plugins have not disconnected, or have now.
	Left []CNILeft
}

// CNIChecked is what they say of a container.
type CNIChecked struct {
	cni.Connected
	Asked bool
	Err   error
}

// CheckCNINetwork asks the plugins of a network, STATUS, and for each container in it, CHECK. With collect they forget
// before, GC, what is no running container's of this engine.
func (e *Engine) CheckCNINetwork(ctx context.Context, name string, collect bool) (CNICheck, error) {
	if _, err := e.attendToAll(ctx); err != nil {
		return CNICheck{}, err
	}
	n, err := e.CNINetwork(name)
	if err != nil {
		return CNICheck{}, err
	}
	at := e.cniPlace("", e.cniDirs().Bin)
	var out CNICheck
	if out.Left, err = e.settleConnections(name, collect); err != nil {
		return out, err
	}
	if collect {
		if err := cni.Collect(n.Network, at, n.Attached); err != nil {
			return out, err
		}
	}
	out.Asked, out.Ready = cni.Ready(n.Network, at)
	for _, c := range n.Attached {
		asked, err := cni.Check(n.Network, at, c)
		out.Checked = append(out.Checked, CNIChecked{c, asked, err})
	}
	return out, nil
}

// inspectAttachments adds what plugins have said, if the container runs.
func (e *Engine) inspectAttachments(in *Inspection, r container.Record, st container.State) error {
	if len(r.Attachments) == 0 {
		return nil
	}
	n := &in.NetworkSettings
	if st.PID != 0 && r.Config.Annotations[cni.NetworksAnnotation] != "" {
		status, err := e.networkStatus(r)
		if err != nil {
			return err
		}
		in.HostConfig.Annotations[cni.StatusAnnotation] = status
	}
	delete(n.Networks, r.Config.Namespaces.Network)
	results, err := cni.Results(e.cniCache(), r.ID)
	if st.PID == 0 {
		results = nil
	}
	for _, a := range r.Attachments {
		out := InspectedEndpoint{Interface: a.Interface, Aliases: a.Aliases}
		name := resultName(a)
		i := slices.IndexFunc(results, func(c cni.Connected) bool { return c.Network == name && c.Interface == a.Interface })
		if i >= 0 {
			fillEndpoint(&out, results[i])
		}
		if n.IPAddress == "" && len(r.Endpoints) == 0 {
			n.IPAddress, n.IPPrefixLen, n.Gateway, n.MacAddress = out.IPAddress, out.IPPrefixLen, out.Gateway, out.MacAddress
		}
		key := a.Network
		if _, twice := n.Networks[key]; twice {
			key += "@" + a.Interface
		}
		n.Networks[key] = out
	}
	return err
}

func fillEndpoint(out *InspectedEndpoint, c cni.Connected) {
	s := c.Status(false)
	out.MacAddress = s.MAC
	for _, ip := range c.Result.IPs {
		bits, _ := ip.Address.Mask.Size()
		gateway := ""
		if ip.Gateway != nil {
			gateway = ip.Gateway.String()
		}
		if ip.Address.IP.To4() == nil {
			out.GlobalIPv6Address, out.GlobalIPv6PrefixLen, out.IPv6Gateway = ip.Address.IP.String(), bits, gateway
		} else {
			out.IPAddress, out.IPPrefixLen, out.Gateway = ip.Address.IP.String(), bits, gateway
		}
	}
}

// networkStatus is the annotation that says what came of the networks of a container that runs.
func (e *Engine) networkStatus(r container.Record) (string, error) {
	results, err := cni.Results(e.cniCache(), r.ID)
	if err != nil {
		return "", err
	}
	list := []cni.Status{}
	for i, endpoint := range r.Endpoints {
		s := cni.Status{Name: endpoint.Network, Interface: endpoint.Interface, MAC: endpoint.MAC, Default: i == 0, Gateways: endpoint.Gateways}
		for _, p := range endpoint.Prefixes {
			s.IPs = append(s.IPs, netip.MustParsePrefix(p).Addr().String())
		}
		list = append(list, s)
	}
	for _, a := range r.Attachments {
		name := resultName(a)
		for _, c := range results {
			if c.Network == name && c.Interface == a.Interface {
				s := c.Status(len(list) == 0)
				s.Name = strings.TrimPrefix(a.Network, container.CNIPrefix)
				list = append(list, s)
			}
		}
	}
	text, err := json.Marshal(list)
	return string(text), err
}
