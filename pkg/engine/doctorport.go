package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/network/apply"
	"github.com/containr/containr/pkg/network/bridge"
	"github.com/containr/containr/pkg/network/cni"
)

// Finding is something that matters to a port of the host.
type Finding struct {
	// Bad: it is in the way. Maybe: it is, unless other rules than ours say otherwise.
	Bad, Maybe bool
	Text       string
	// Do is what helps, commands or words.
	Do []string
}

// ExaminePort looks at all that a packet for a port of the host meets: who publishes it, the
// rule, other programs, the host's kernel parameters, other rules, and who listens in the
// container.
func (e *Engine) ExaminePort(ctx context.Context, port uint16, protocol string) ([]Finding, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	records, err := containers.List()
	if err != nil {
		return nil, err
	}
	hub, err := e.usesHub()
	if err != nil {
		return nil, err
	}
	var list []Finding
	carried := false
	for _, r := range records {
		_, byProgram := r.Config.Namespaces.UserNetwork()
		for _, p := range r.Published {
			if p.HostPort == port && p.Protocol == protocol {
				found, err := e.examine(r, p)
				if err != nil {
					return list, err
				}
				list = append(list, found...)
				carried = carried || (byProgram || (hub || r.Config.PublishPolicy == container.PublishFirewall) && len(r.Endpoints) > 0) && e.runs(r)
			}
		}
	}
	if len(list) > 0 && carried {
		return list, nil // who listens at the port is who leads it to the container
	}
	if len(list) == 0 {
		facts, err := e.facts()
		if err != nil {
			return nil, err
		}
		do := fmt.Sprintf("containr update --publish-add %d:PORT/%s CONTAINER", port, protocol)
		if !facts.Root() { // whose containers get their ports when they start
			do = fmt.Sprintf("containr run -p %d:PORT/%s IMAGE", port, protocol)
		}
		list = append(list, Finding{Bad: true, Text: "no container publishes it", Do: []string{do}})
	}
	if listening(container.Port{HostPort: port, Protocol: protocol}) != nil {
		list = append(list, Finding{Bad: true, Text: portHolder(container.Port{HostPort: port, Protocol: protocol}) + " of the host has the port, too: what the rules do not lead away is for it",
			Do: []string{"end it, or publish another port"}})
	}
	return list, nil
}

// examine follows a packet for a published port to the container.
func (e *Engine) examine(r container.Record, p container.Port) ([]Finding, error) {
	list := []Finding{{Text: fmt.Sprintf("container %s publishes it: %s leads to its port %d", r.Name, portText(p), p.Port)}}
	st, err := e.State(r)
	if err != nil {
		return list, err
	}
	if st.PID == 0 {
		return append(list, Finding{Bad: true, Text: "the container does not run", Do: []string{"containr start " + r.Name}}), nil
	}
	if u, carried := r.Config.Namespaces.UserNetwork(); carried {
		return append(list, carrierFinding(r.Name, u.Backend, p), listenFinding(st.PID, r.Name, p)), nil
	}
	if hub, err := e.usesHub(); err != nil || hub && len(r.Endpoints) > 0 {
		return append(list, carrierFinding(r.Name, r.Endpoints[0].Network, p), listenFinding(st.PID, r.Name, p)), err
	}
	planned, err := e.plannedEndpoints(r.Endpoints)
	if err != nil {
		return list, err
	}
	if r.Config.PublishPolicy == container.PublishFirewall && len(r.Endpoints) > 0 {
		more, err := inputFindings(p)
		return append(append(list, carrierFinding(r.Name, r.Endpoints[0].Network, p), listenFinding(st.PID, r.Name, p)), more...), err
	}
	ports := portsTo(p, planned)
	switch {
	case len(ports) > 0:
	case len(r.Endpoints) == 0 && len(r.Attachments) > 0:
		f, err := e.pluginFinding(r)
		if err != nil {
			return list, err
		}
		list = append(list, f)
	default:
		list = append(list, Finding{Bad: true, Text: "it is in no network that leads anywhere", Do: []string{"containr network connect NETWORK " + r.Name}})
	}
	there := 0
	for _, port := range ports {
		ok, err := apply.IsPublished(port)
		if err != nil {
			return list, err
		}
		if !ok {
			list = append(list, Finding{Bad: true, Text: "the rule that leads it to " + port.To.String() + " is gone", Do: []string{"containr network reload " + r.Name}})
			continue
		}
		there++
		list = append(list, Finding{Text: "the rule leads it to " + port.To.String()})
	}
	list = append(list, forwardFindings(ports)...)
	more, err := e.policyFindings(r, p)
	list = append(list, more...)
	if err == nil {
		more, err = dropFindings(planned)
		list = append(list, more...)
	}
	if err == nil {
		more, err = e.silenceFindings(r, st.PID)
		list = append(list, more...)
	}
	return append(list, listenFinding(st.PID, r.Name, p)), err
}

// runs reports whether a container does; of one that is gone meanwhile it is false.
func (e *Engine) runs(r container.Record) bool {
	st, err := e.State(r)
	return err == nil && st.PID != 0
}

// carrierFinding looks whether the program that carries a container's packets listens at a port of the host. No rule of the
// host is concerned.
func carrierFinding(name, backend string, p container.Port) Finding {
	if listening(p) == nil {
		return Finding{Bad: true, Text: fmt.Sprintf("the program that carries its packets (--network %s) does not listen at %s of the host", backend, portText(p)), Do: []string{"containr restart " + name}}
	}
	return Finding{Text: fmt.Sprintf("%s listens there, for --network %s: no rule of the host leads the port", portHolder(p), backend)}
}

// pluginFinding says which network's plugins lead the ports of a container to it.
func (e *Engine) pluginFinding(r container.Record) (Finding, error) {
	results, err := cni.Results(e.cniCache(), r.ID)
	if err != nil {
		return Finding{}, err
	}
	for _, c := range results {
		n, err := cni.Parse(c.Network, c.Config)
		if err == nil && n.Has("portMappings") {
			return Finding{Text: fmt.Sprintf("plugins of network %s%s (%s) lead it to the container", cni.Prefix, c.Network, strings.Join(n.Plugins, ", ")),
				Do: []string{"containr network check " + cni.Prefix + c.Network}}, nil
		}
	}
	return Finding{Bad: true, Text: "it is not published: no plugin of its networks has the capability portMappings",
		Do: []string{`chain the plugin portmap with "capabilities": {"portMappings": true} in the network's file`}}, nil
}

// forwardFindings look whether the host passes packets on.
func forwardFindings(ports []bridge.Port) (list []Finding) {
	h := lookAtForwarding()
	six := slices.ContainsFunc(ports, func(p bridge.Port) bool { return p.To.Is6() })
	if !h.Forwards4 {
		list = append(list, Finding{Bad: true, Text: "the host passes no packets on", Do: []string{"sysctl net.ipv4.ip_forward=1"}})
	}
	if six && !h.Forwards6 {
		list = append(list, Finding{Bad: true, Text: "the host passes no packets of IPv6 on", Do: []string{"sysctl net.ipv6.conf.all.forwarding=1"}})
	}
	return list
}

// policyFindings look for policies of containr's own that refuse what comes for a port.
func (e *Engine) policyFindings(r container.Record, p container.Port) (list []Finding, err error) {
	own := policyContainer(r.ID, r.Name, r.Config, r.Endpoints)
	in, _, err := e.policyInput(own)
	if err != nil {
		return nil, err
	}
	for i, plug := range own.Plugs {
		refusing, some := in.Refusing(own, plug, p.Protocol, p.Port)
		for _, n := range refusing {
			f := Finding{Bad: !some, Maybe: some, Text: fmt.Sprintf("policy %s of %s lets nothing in for its port %d/%s, in network %s", n.Name, n.Owner, p.Port, p.Protocol, r.Endpoints[i].Network)}
			if some {
				f.Text = fmt.Sprintf("policy %s of %s lets only some in for its port %d/%s, in network %s", n.Name, n.Owner, p.Port, p.Protocol, r.Endpoints[i].Network)
			}
			f.Do = []string{"containr network policy show " + r.Endpoints[i].Network}
			list = append(list, f)
		}
	}
	return list, nil
}

// inputFindings look for rules of others that decide about what is for the host itself.
func inputFindings(p container.Port) (list []Finding, err error) {
	chains, err := apply.DroppingInput()
	for _, c := range chains {
		list = append(list, Finding{Maybe: true, Text: fmt.Sprintf("chain %s of table %s %s drops what no rule there accepts, as --publish-policy %s has it", c.Chain, c.Family, c.Table, container.PublishFirewall),
			Do: []string{fmt.Sprintf("nft insert rule %s %s %s %s dport %d accept", c.Family, c.Table, c.Chain, p.Protocol, p.HostPort)}})
	}
	return list, err
}

// dropFindings look for tables of others that drop what they do not know.
func dropFindings(endpoints []bridge.Endpoint) ([]Finding, error) {
	chains, err := apply.Dropping()
	var list []Finding
	for _, c := range chains {
		f := Finding{Maybe: true, Text: fmt.Sprintf("chain %s of table %s %s drops what no rule there accepts, whatever containr's say", c.Chain, c.Family, c.Table)}
		for _, endpoint := range endpoints {
			if endpoint.Network.Shared.Kind == "" {
				for _, match := range []string{"iifname", "oifname"} {
					f.Do = append(f.Do, fmt.Sprintf("nft insert rule %s %s %s %s %s accept", c.Family, c.Table, c.Chain, match, endpoint.Network.Link))
				}
			}
		}
		list = append(list, f)
	}
	return list, err
}

// silenceFindings say that a container gets no answers to its questions for names.
func (e *Engine) silenceFindings(r container.Record, pid int) (list []Finding, err error) {
	for _, endpoint := range r.Endpoints {
		found, silenceErr := e.silence(r.ID, pid, endpoint)
		err = errors.Join(err, silenceErr)
		for _, s := range found {
			list = append(list, Finding{Bad: true, Text: fmt.Sprintf("nobody answers its questions for names at %s, in network %s: chain %s drops what no rule there accepts", endpoint.Resolver, endpoint.Network, s.chain),
				Do: []string{s.letAsk}})
		}
	}
	return list, err
}

// listenFinding looks whether a program in the container waits for what comes.
func listenFinding(pid int, name string, p container.Port) Finding {
	if p.Protocol == "sctp" {
		return Finding{Text: "whether a program listens cannot be seen for sctp"}
	}
	loopback := false
	for _, suffix := range []string{"", "6"} {
		for line := range strings.Lines(string(readIfThere("/proc/" + strconv.Itoa(pid) + "/net/" + p.Protocol + suffix))) {
			f := strings.Fields(line)
			if len(f) < 10 || !strings.HasSuffix(f[1], fmt.Sprintf(":%04X", p.Port)) || p.Protocol == "tcp" && f[3] != "0A" {
				continue
			}
			if strings.HasPrefix(f[1], "0100007F:") || strings.HasPrefix(f[1], "00000000000000000000000001000000:") {
				loopback = true
				continue
			}
			return Finding{Text: fmt.Sprintf("a program in the container listens at %d/%s", p.Port, p.Protocol)}
		}
	}
	if loopback {
		return Finding{Bad: true, Text: fmt.Sprintf("the program in the container listens at %d/%s of its own 127.0.0.1 only, where nothing from outside arrives", p.Port, p.Protocol), Do: []string{"have it listen at 0.0.0.0 or [::]"}}
	}
	return Finding{Bad: true, Text: fmt.Sprintf("nobody in the container listens at %d/%s", p.Port, p.Protocol), Do: []string{"containr logs " + name}}
}
