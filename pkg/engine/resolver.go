package engine

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/monitor"
	"github.com/containr/containr/pkg/resolver"
)

// resolverOf is where a container asks for names; empty if nobody answers in any of its networks.
func resolverOf(endpoints []container.Endpoint) string {
	for _, p := range endpoints {
		if p.Resolver != "" {
			return p.Resolver
		}
	}
	return ""
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
	if err := resolver.Write(e.run, entry); err != nil {
		return err
	}
	return r.Look(ctx, asked)
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
		plug := resolver.Plug{Network: endpoint.Network, NetworkID: endpoint.NetworkID, Internal: endpoint.Internal, Aliases: endpoint.Aliases}
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
	if resolverOf(record.Endpoints) == "" {
		return resolver.Remove(e.run, id)
	}
	err = e.tellNames(ctx, record, st.PID)
	if errors.Is(err, os.ErrNotExist) { // it has just ended
		return nil
	}
	return err
}

// renewResolvConf changes where a container asks for names when its networks have changed, unless it has changed the file
// itself.
func renewResolvConf(record container.Record, before, after []container.Endpoint) error {
	old, now := resolverOf(before), resolverOf(after)
	i := slices.IndexFunc(record.Spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/etc/resolv.conf" })
	if old == now || i < 0 {
		return nil
	}
	path := record.Spec.Mounts[i].Source
	host := hostResolvConf(true)
	if !bytes.Equal(readIfThere(path), container.ResolvConf(host, record.Config.DNS, true, old)) {
		return nil
	}
	return os.WriteFile(path, container.ResolvConf(host, record.Config.DNS, true, now), 0o644) // in place: it is mounted
}

// ensureResolver starts the resolver again if it was killed.
func (e *Engine) ensureResolver(ctx context.Context) error {
	r := e.resolver()
	if r.Program == "" || !r.Needed() {
		return nil
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
