package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containr/containr/internal/nft"
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
	var refused nft.Contents
	table := e.policyTable()
	if there, err := nft.Exists(table); err == nil && there { // an ordinary user has none, and may not ask
		if refused, err = table.Contents(); err != nil {
			return nil, policyTrouble(err)
		}
	}
	all := map[string]*PlugTraffic{}
	for _, r := range records {
		st, err := e.State(r)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(r.Endpoints, func(p container.Endpoint) bool { return p.NetworkID == n.ID })
		if st.PID == 0 || i < 0 {
			continue
		}
		plug := r.Endpoints[i]
		usage, err := deviceUsage(st.PID, plug.Interface)
		switch {
		case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.EINVAL):
			continue // it has just ended
		case err != nil:
			return nil, fmt.Errorf("container %s: %w", r.Name, err)
		case usage == nil:
			all[r.ID] = nil
		default:
			count := func(direction string) uint64 {
				return refused.Counters[policy.RefusedCounter(direction, plug.Link)].Packets
			}
			all[r.ID] = &PlugTraffic{*usage, count("ingress"), count("egress")}
		}
	}
	return all, nil
}

// deviceUsage reads what went through a device in the network namespace of a process; nil if there is no such device.
func deviceUsage(pid int, device string) (*NetworkUsage, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if name, _, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == device {
			return parseNetDev(line)
		}
	}
	return nil, nil
}
