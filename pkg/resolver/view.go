package resolver

import (
	"net/netip"
	"slices"
	"sort"
	"strings"
)

// view is all entries at one moment. It does not change.
type view struct {
	// members are the containers by their addresses.
	members map[netip.Addr]*Entry
	// names are the addresses that a name has in a network.
	names map[nameIn][]netip.Addr
	// networks are those with containers, by id.
	networks map[string]Plug
	// asked are the addresses where names are asked for, and of which network.
	asked map[netip.Addr]string
}

type nameIn struct{ network, name string }

// shortID is how much of a container's id is a name for it, at least.
const shortID = 12

func newView(entries map[string]*Entry) *view {
	v := &view{map[netip.Addr]*Entry{}, map[nameIn][]netip.Addr{}, map[string]Plug{}, map[netip.Addr]string{}}
	ids := make([]string, 0, len(entries))
	for id := range entries {
		ids = append(ids, id)
	}
	slices.Sort(ids) // the order of addresses does not depend on chance
	for _, id := range ids {
		e := entries[id]
		for _, p := range e.Plugs {
			v.networks[p.NetworkID] = p
			for _, a := range p.Addresses {
				v.members[a] = e
			}
			if !p.Gateway.IsValid() { // a network without names
				continue
			}
			v.asked[p.Gateway] = p.NetworkID
			if p.Mute {
				continue
			}
			v.enter(p, e.Name)
			for _, alias := range p.Aliases {
				v.enter(p, alias)
			}
		}
	}
	return v
}

// enter adds the addresses that a name has: alone, and with the network's name behind it.
func (v *view) enter(p Plug, name string) {
	name = strings.ToLower(name)
	for _, full := range []string{name, name + "." + strings.ToLower(p.Network)} {
		key := nameIn{p.NetworkID, full}
		for _, a := range p.Addresses {
			if !slices.Contains(v.names[key], a) { // an alias may be the name
				v.names[key] = append(v.names[key], a)
			}
		}
	}
}

// asker is who asks: the networks whose names it may know, and how others are asked for it.
type asker struct {
	plugs []Plug
	// servers are its own name servers. open says that it reaches others than its networks.
	servers []netip.Addr
	open    bool
	// entry is the container that asks; nil if it is none.
	entry *Entry
}

// who finds out who asks at an address. Nobody but the network's own may: ok is false.
func (v *view) who(from, at netip.Addr) (a asker, ok bool) {
	n, known := v.networks[v.asked[at]]
	if !known {
		return a, false
	}
	if e := v.members[from]; e != nil && slices.ContainsFunc(e.Plugs, func(p Plug) bool { return p.NetworkID == n.NetworkID }) {
		open := slices.ContainsFunc(e.Plugs, func(p Plug) bool { return !p.Internal })
		return asker{e.Plugs, e.Servers, open, e}, true
	}
	// The host, by its address in the network, or something that was connected by hand.
	inside := slices.ContainsFunc(n.Subnets, func(s netip.Prefix) bool { return s.Contains(from) })
	return asker{plugs: []Plug{n}, open: !n.Internal}, inside
}

// find returns the addresses of a name, in lower case and without the last dot, for who asks.
func (v *view) find(a asker, name string) []netip.Addr {
	var found []netip.Addr
	for _, p := range a.plugs {
		for _, addr := range v.names[nameIn{p.NetworkID, name}] {
			if !slices.Contains(found, addr) {
				found = append(found, addr)
			}
		}
	}
	if len(found) == 0 && len(name) >= shortID && strings.Trim(name, "0123456789abcdef") == "" {
		return v.findID(a, name)
	}
	return found
}

// findID returns the addresses of the only container whose id begins like that.
func (v *view) findID(a asker, prefix string) []netip.Addr {
	var found []netip.Addr
	id := ""
	for addr, e := range v.members {
		if !strings.HasPrefix(e.ID, prefix) || !a.shares(e, addr) {
			continue
		}
		if id != "" && id != e.ID {
			return nil
		}
		id = e.ID
		found = append(found, addr)
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Less(found[j]) })
	return found
}

// shares reports whether an address of a container is in a network of who asks.
func (a asker) shares(e *Entry, addr netip.Addr) bool {
	_, ok := a.plugOf(e, addr)
	return ok
}

// plugOf is the container's plug with an address, in a network of who asks.
func (a asker) plugOf(e *Entry, addr netip.Addr) (Plug, bool) {
	for _, p := range e.Plugs {
		if slices.Contains(p.Addresses, addr) {
			return p, !p.Mute && slices.ContainsFunc(a.plugs, func(own Plug) bool { return own.NetworkID == p.NetworkID })
		}
	}
	return Plug{}, false
}

// reverse returns the name of the container with an address. ours says that nobody else knows it: it is an address of
// one of the networks here.
func (v *view) reverse(a asker, addr netip.Addr) (name string, ours bool) {
	if e := v.members[addr]; e != nil {
		if p, ok := a.plugOf(e, addr); ok {
			return e.Name + "." + p.Network, true
		}
	}
	for _, n := range v.networks {
		if slices.ContainsFunc(n.Subnets, func(s netip.Prefix) bool { return s.Contains(addr) }) {
			return "", true
		}
	}
	return "", false
}

// servers are the name servers that are asked for somebody, of those that there are: those that he would reach himself.
func (a asker) reachable(servers []netip.Addr) []netip.Addr {
	if a.open {
		return servers
	}
	return slices.DeleteFunc(slices.Clone(servers), func(s netip.Addr) bool {
		return !slices.ContainsFunc(a.plugs, func(p Plug) bool {
			return slices.ContainsFunc(p.Subnets, func(n netip.Prefix) bool { return n.Contains(s) })
		})
	})
}
