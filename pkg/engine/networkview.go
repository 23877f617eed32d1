package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/network/policy"
	"github.com/containr/containr/pkg/networks"
)

// NetworkView is a network with who is in it and what it leads to.
type NetworkView struct {
	networks.Network
	// Containers are those that are in it, whether they run or not, by name.
	Containers []container.Record
	// Traffic has those that run, by id. The value is nil if the container has taken the device away, or given it another name.
	Traffic map[string]*PlugTraffic
	// Uplink is the host's device that its default route of version 4 of IP leaves by; empty if there is none.
	Uplink string
	// Carried: it is an ordinary user's, and what leaves it is carried by a process of his.
	Carried bool
}

// PlugTraffic is what went through a container's device in a network since it was plugged in, as the container sees it. What it was
// not let receive has not come to its device; what it was not let send has left it.
type PlugTraffic struct {
	NetworkUsage
	// RefusedIngress and RefusedEgress are the packets that policies have not let it receive, and send.
	RefusedIngress, RefusedEgress uint64
}

// NetworkView finds a network, and all that is to be seen of it.
func (e *Engine) NetworkView(ctx context.Context, ref string) (v NetworkView, err error) {
	if v.Network, v.Containers, err = e.Network(ctx, ref); err != nil {
		return v, err
	}
	slices.SortFunc(v.Containers, func(a, b container.Record) int { return strings.Compare(a.Name, b.Name) })
	if v.Carried, err = e.usesHub(); err != nil {
		return v, err
	}
	v.Uplink = uplinkDevice()
	v.Traffic, err = e.networkTraffic(v.Network, v.Containers)
	return v, err
}

// networkTraffic counts what has gone through a network, by the ids of the containers in it that run.
func (e *Engine) networkTraffic(n networks.Network, records []container.Record) (map[string]*PlugTraffic, error) {
	refused, err := e.policyRules(true)
	if err != nil {
		refused = &policyRules{} // where nobody may ask there are none
	}
	all := map[string]*PlugTraffic{}
	for _, r := range records {
		plug, link, ok := plugIn(r, n)
		if !ok {
			continue
		}
		usage, runs, err := e.plugUsage(r, plug)
		if err != nil {
			return nil, err
		}
		switch {
		case !runs:
		case usage == nil:
			all[r.ID] = nil
		default:
			count := func(direction string) uint64 {
				return refused.Counters[policy.RefusedCounter(direction, link)].Packets
			}
			all[r.ID] = &PlugTraffic{*usage, count("ingress"), count("egress")}
		}
	}
	return all, nil
}

// plugIn is how a container is in a network of containr's, with its device on the host, which only those have that containr makes.
func plugIn(r container.Record, n networks.Network) (plug container.Plug, link string, ok bool) {
	for _, p := range r.Endpoints {
		if p.NetworkID == n.ID {
			return p.Plug, p.Link, true
		}
	}
	for _, a := range r.Attachments {
		if a.NetworkID == n.ID {
			return a.Plug, "", true
		}
	}
	return plug, "", false
}

// plugUsage is what went through a container's device in a network: nil if it has taken it away. It runs, or there is none.
func (e *Engine) plugUsage(r container.Record, plug container.Plug) (usage *NetworkUsage, runs bool, err error) {
	st, err := e.State(r)
	if err != nil || st.PID == 0 {
		return nil, false, err
	}
	devices, err := netDev(st.PID)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.EINVAL) {
		return nil, false, nil // it has just ended
	}
	if err == nil {
		usage, err = ofDevice(devices, plug.Interface)
	}
	if err != nil {
		return nil, false, fmt.Errorf("container %s: %w", r.Name, err)
	}
	return usage, true, nil
}

// NetworkTotal is what the containers in a network that run have received and sent there.
type NetworkTotal struct {
	Containers int
	NetworkUsage
}

// NetworkTotals adds up the traffic of each network, by its name; that of plugins with their prefix. A network that no running container
// is in is not there.
func (e *Engine) NetworkTotals(ctx context.Context) (map[string]NetworkTotal, error) {
	list, err := e.List(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]NetworkTotal{}
	for _, c := range list {
		for _, plug := range plugs(c.Record) {
			usage, runs, err := e.plugUsage(c.Record, plug)
			if errors.Is(err, container.ErrNotFound) {
				continue // it has just gone
			}
			if err != nil {
				return nil, err
			}
			if !runs {
				continue
			}
			t := all[plug.Network]
			t.Containers++
			if usage != nil {
				t.Received += usage.Received
				t.Sent += usage.Sent
			}
			all[plug.Network] = t
		}
	}
	return all, nil
}
