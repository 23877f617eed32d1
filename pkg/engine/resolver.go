package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/monitor"
	"github.com/containr/containr/pkg/network/apply"
	"github.com/containr/containr/pkg/network/policy"
	"github.com/containr/containr/pkg/resolver"
)

// resolverOf is where a container asks for names, empty if nobody answers in any of its networks; neighbours says that theirs are known
// there. One who knows those goes before one who does not.
func resolverOf(endpoints []container.Endpoint) (server string, neighbours bool) {
	for _, p := range endpoints {
		switch {
		case p.Resolver != "" && !p.Forwards:
			return p.Resolver, true
		case p.Resolver != "" && server == "":
			server = p.Resolver
		}
	}
	return server, false
}

// resolver returns what talks to the resolver.
func (e *Engine) resolver() *resolver.Client {
	return &resolver.Client{Run: e.run, Program: e.MonitorProgram()}
}

// tellNames has the neighbours of a container that is about to run find it, and returns when they do.
func (e *Engine) tellNames(ctx context.Context, record container.Record, pid int) error {
	entry, asked := entryOf(record, pid)
	if len(asked) == 0 {
		return nil
	}
	r := e.resolver()
	if r.Program == "" {
		return monitor.ErrNoProgram
	}
	if err := e.writeNames(ctx, record, entry); err != nil {
		return err
	}
	if hub, err := e.usesHub(); err != nil || hub { // no firewall of the host's is in the way there
		return errors.Join(err, e.lookInHub(asked, true))
	}
	if err := r.Look(ctx, asked); err != nil {
		return err
	}
	return e.warnOfSilence(record, pid)
}

// writeNames writes down how a container is found, and which names of others a policy lets it reach. A policy that comes meanwhile finds
// what is written here, see openNames, or is found.
func (e *Engine) writeNames(ctx context.Context, record container.Record, entry resolver.Entry) error {
	some, err := e.somePolicy(record.Config, record.Endpoints)
	if err != nil {
		return err
	}
	if !some {
		if err := resolver.Write(e.run, entry); err != nil {
			return err
		}
		if some, err = e.somePolicy(record.Config, record.Endpoints); err != nil || !some {
			return err
		}
	}
	lock, err := e.lockPolicies(ctx)
	if err != nil {
		return err
	}
	defer lock.Release()
	own := policyContainer(record.ID, record.Name, record.Config, record.Endpoints)
	in, _, err := e.policyInput(own)
	if err != nil {
		return err
	}
	opens := opensOf(in, own)
	for i := range entry.Plugs {
		entry.Plugs[i].Opens = opens[entry.Plugs[i].Link]
	}
	entry.Table = string(in.Table)
	return resolver.Write(e.run, entry)
}

// opensOf are the names that policies let a container reach, by the names of links.
func opensOf(in policy.Input, c policy.Container) map[string][]resolver.Open {
	all := map[string][]resolver.Open{}
	for _, p := range c.Plugs {
		for _, name := range in.Names(c, p) {
			all[p.Link] = append(all[p.Link], resolver.Open{Name: name, Set: policy.NameSetPrefix(name)})
		}
	}
	return all
}

// openNames has the resolver know which names policies let containers reach, as they are now. The lock of policies is held.
func (e *Engine) openNames(ctx context.Context, in policy.Input) error {
	some := false
	for _, c := range in.Containers {
		changed, err := resolver.Reopen(e.run, c.ID, string(in.Table), opensOf(in, c))
		if err != nil {
			return err
		}
		some = some || changed
	}
	if !some {
		return nil
	}
	return e.ensureResolver(ctx) // one of an earlier containr, that would not look, goes
}

// answerPatience is how long an answer of the resolver, which takes less than a millisecond, is waited for.
const answerPatience = 500 * time.Millisecond

// silenced is a chain of somebody else that keeps a container's questions for names from the resolver.
type silenced struct {
	chain string
	// letAsk is the rule there that lets the network's containers ask.
	letAsk string
}

// silence lists what keeps a container from asking for names in a network, if it gets no answer.
func (e *Engine) silence(id string, pid int, endpoint container.Endpoint) ([]silenced, error) {
	if hub, err := e.usesHub(); err != nil || hub { // no chain of the host's sees them
		return nil, err
	}
	gateway, err := netip.ParseAddr(endpoint.Resolver)
	if err != nil {
		return nil, nil // nobody answers there
	}
	chains, err := apply.DroppingInput()
	if err != nil || len(chains) == 0 {
		return nil, err
	}
	answered, err := apply.Answered(pid, gateway, id[:12], answerPatience)
	if err != nil || answered {
		return nil, err
	}
	store, err := e.networks()
	if err != nil {
		return nil, err
	}
	n, err := store.Get(endpoint.Network)
	var list []silenced
	for _, c := range chains {
		list = append(list, silenced{c.Chain + " of table " + c.Family + " " + c.Table,
			fmt.Sprintf("nft insert rule %s %s %s iifname %s udp dport 53 accept", c.Family, c.Table, c.Chain, n.Bridge)})
	}
	return list, err
}

// warnOfSilence says that a container cannot ask for names, since the host's firewall is in the way.
func (e *Engine) warnOfSilence(record container.Record, pid int) error {
	for _, endpoint := range record.Endpoints {
		found, err := e.silence(record.ID, pid, endpoint)
		if err != nil {
			return err
		}
		for _, s := range found {
			slog.Warn("the container's questions for names may be thrown away by the host's firewall: there is no answer", "container", record.Name,
				"network", endpoint.Network, "server", endpoint.Resolver, "chain", s.chain, "hint", s.letAsk)
		}
	}
	return nil
}

// entryOf is what the resolver has to know of a container, and where it is asked.
func entryOf(record container.Record, pid int) (entry resolver.Entry, asked []netip.Addr) {
	entry = resolver.Entry{ID: record.ID, Name: record.Name, PID: pid}
	for _, s := range record.Config.DNS.Servers {
		if a, err := netip.ParseAddr(s); err == nil && !a.IsLoopback() { // such a one is the container's own
			entry.Servers = append(entry.Servers, a)
		}
	}
	for _, endpoint := range record.Endpoints {
		plug := resolver.Plug{Network: endpoint.Network, NetworkID: endpoint.NetworkID, Internal: endpoint.Internal, Aliases: endpoint.Aliases, Link: endpoint.Link, Mute: endpoint.Forwards}
		if a, err := netip.ParseAddr(endpoint.Resolver); err == nil {
			plug.Gateway = a
			asked = append(asked, a)
		}
		for _, s := range endpoint.Prefixes {
			if a, err := netip.ParsePrefix(s); err == nil {
				plug.Subnets = append(plug.Subnets, a.Masked())
				plug.Addresses = append(plug.Addresses, a.Addr())
			}
		}
		entry.Plugs = append(entry.Plugs, plug)
	}
	return entry, asked
}

// forgetNames has a container that does not run be found no more.
func (e *Engine) forgetNames(record container.Record) error {
	if len(record.Endpoints) == 0 {
		return nil
	}
	return resolver.Remove(e.run, record.ID)
}

// renewNames has a container be found as its record says now, if it runs.
func (e *Engine) renewNames(ctx context.Context, id string) error {
	lock, err := durable.Acquire(ctx, filepath.Join(e.run, "resolver.write"), durable.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Release()
	containers, err := e.containers()
	if err != nil {
		return err
	}
	record, err := containers.Get(id)
	if err != nil {
		return err
	}
	st, err := e.State(record)
	if err != nil || st.PID == 0 {
		return err
	}
	if server, _ := resolverOf(record.Endpoints); server == "" {
		return resolver.Remove(e.run, id)
	}
	err = e.tellNames(ctx, record, st.PID)
	if errors.Is(err, os.ErrNotExist) { // it has just ended
		return nil
	}
	return err
}

// renewResolvConf changes where a container asks for names when its networks or the host's name servers have changed, unless it has
// changed the file itself. It notes what it has written in the record.
func (e *Engine) renewResolvConf(record *container.Record, after []container.Endpoint) error {
	path := e.ownFile(*record, "/etc/resolv.conf")
	if path == "" || record.ResolvConf == "" {
		return nil
	}
	now := resolvConf(record.Config.DNS, after)
	if now == record.ResolvConf {
		return nil
	}
	has, err := safepath.Rewrite(path, []byte(record.ResolvConf), []byte(now))
	if has {
		record.ResolvConf = now
	}
	warnOfFile(path, err)
	return nil
}

// resolvConf is /etc/resolv.conf of a container in these networks.
func resolvConf(dns container.DNS, endpoints []container.Endpoint) string {
	server, neighbours := resolverOf(endpoints)
	return string(container.ResolvConf(hostResolvConf(true), dns, true, server, neighbours))
}

// forwardNames has the first network of a container answer for names, without names of its own, if no other does and all of the host's
// name servers are at its loopback addresses, where containers do not reach them.
func forwardNames(endpoints []container.Endpoint, dns container.DNS, bridged func(container.Endpoint) bool) {
	if server, _ := resolverOf(endpoints); server != "" || len(dns.Servers) > 0 || !container.OnlyLoopback(readIfThere("/etc/resolv.conf")) {
		return
	}
	for i, endpoint := range endpoints {
		if !endpoint.Internal && bridged(endpoint) {
			endpoints[i].Resolver, endpoints[i].Forwards = endpoint.Gateways[0], true
			return
		}
	}
}

// warnOfNoServer says that a container in a network asks nobody for names.
func warnOfNoServer(p *prepared) {
	if len(p.endpoints)+len(p.attachments) > 0 && !strings.Contains(p.resolvConf, "nameserver ") && container.OnlyLoopback(readIfThere("/etc/resolv.conf")) {
		slog.Warn("the container asks nobody for names: the host's name servers are at its own 127.0.0.1, which is closed to containers", "hint", "name one with --dns ADDRESS")
	}
}

// ensureResolver starts the resolver again if it was killed.
func (e *Engine) ensureResolver(ctx context.Context) error {
	r := e.resolver()
	if r.Program == "" || !r.Needed() {
		return nil
	}
	if hub, err := e.usesHub(); err != nil || hub {
		return errors.Join(err, e.lookInHub(nil, false))
	}
	return r.Look(ctx, nil)
}

// Where systemd-resolved keeps the name servers that it asks itself.
const resolvedServers = "/run/systemd/resolve/resolv.conf"

// hostResolvConf reads the host's resolv.conf. For a container with a network of its own, which does not reach what listens
// at the host's loopback addresses, it is the list of those that are asked behind them, if there is one.
func hostResolvConf(ownNetwork bool) []byte {
	text := readIfThere("/etc/resolv.conf")
	if ownNetwork && container.OnlyLoopback(text) {
		if behind := readIfThere(resolvedServers); len(behind) > 0 {
			return behind
		}
	}
	return text
}
