package engine

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/containr/containr/pkg/networks"
)

// Errors of networks that share a device of the host's.
var (
	// ErrParent means that there is no device to share.
	ErrParent = errors.New("no device of the host to share")
	// ErrNoPortsThere means that ports are to be published in a network that the host is not in.
	ErrNoPortsThere = errors.New("the host is not in the network, and cannot lead its ports there")
)

// sharing completes a network of the drivers macvlan and ipvlan: a device that is called
// PARENT.ID, and is not there or was made for another network, is the VLAN of that id.
func sharing(store *networks.Store, n networks.Network) (networks.Network, error) {
	if n.Parent == "" {
		return n, fmt.Errorf("driver %s needs -o parent=DEVICE: %w", n.Driver, ErrParent)
	}
	if len(n.Subnets) == 0 {
		return n, fmt.Errorf("driver %s needs --subnet PREFIX, the addresses of the network that %s is in", n.Driver, n.Parent)
	}
	others, err := store.List()
	if err != nil {
		return n, err
	}
	if i := slices.IndexFunc(others, func(o networks.Network) bool { return o.Parent == n.Parent && o.VLAN != 0 }); i >= 0 {
		n.Base, n.VLAN = others[i].Base, others[i].VLAN // the last of them takes it away
		return n, nil
	}
	if _, err := net.InterfaceByName(n.Parent); err == nil {
		return n, nil
	}
	i := strings.LastIndexByte(n.Parent, '.')
	if i < 0 {
		return n, fmt.Errorf("parent %s: the host has no such device: %w", n.Parent, ErrParent)
	}
	base, id := n.Parent[:i], n.Parent[i+1:]
	vlan, err := strconv.Atoi(id)
	if err != nil || vlan < 1 || vlan > 4094 {
		return n, fmt.Errorf("parent %s: %q is not the id of a VLAN, 1 to 4094: %w", n.Parent, id, ErrParent)
	}
	if _, err := net.InterfaceByName(base); err != nil {
		return n, fmt.Errorf("parent %s: the host has no device %s: %w", n.Parent, base, ErrParent)
	}
	n.Base, n.VLAN = base, vlan
	return n, nil
}

// uplinkDevice is the device that packets leave the host through by its default route of version 4 of IP; empty if there is none.
func uplinkDevice() string {
	device, best := "", -1
	for line := range strings.Lines(string(readIfThere("/proc/net/route"))) {
		f := strings.Fields(line) // Iface Destination Gateway Flags RefCnt Use Metric Mask
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		if metric, err := strconv.Atoi(f[6]); err == nil && (best < 0 || metric < best) {
			device, best = f[0], metric
		}
	}
	return device
}

// uplinkMTU is how long packets may be that leave the host by its default route; 0 if there is
// none. Those of containers are not to be longer, or they have to be cut up.
func uplinkMTU() int {
	link, err := net.InterfaceByName(uplinkDevice())
	if err != nil {
		return 0
	}
	return link.MTU
}
