package network

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// maxLinkName is IFNAMSIZ without the closing zero, netdevice(7).
const maxLinkName = 15

// Devices moves devices of the host into the container's network namespace, pid's. The
// kernel takes a device's addresses when it moves; those in links, which somebody has
// given it for good, are given back, and the device is brought up. What becomes of it
// afterwards is the namespace's affair: when that ends, the kernel returns physical
// devices to the host and destroys others.
func Devices(devices map[string]specs.LinuxNetDevice, links map[string]host.Link, pid plan.Reg) ([]plan.Step, error) {
	names := make([]string, 0, len(devices))
	for name := range devices {
		names = append(names, name)
	}
	sort.Strings(names)
	b := plan.Build(plan.Host, plan.NetworkChapter)
	taken := map[string]string{}
	for i, name := range names {
		pointer, to := "/linux/netDevices/"+name, devices[name].Name
		if to == "" {
			to = name
		}
		link, ok := links[name]
		if err := checkLinkName(to); err != nil {
			return nil, fmt.Errorf("%s/name: %w", pointer, err)
		}
		if !ok {
			return nil, fmt.Errorf("%s: the host has no such network device", pointer)
		}
		if other, twice := taken[to]; twice {
			return nil, fmt.Errorf("%s: the device %s is to be called %q too", pointer, other, to)
		}
		if !strings.Contains(to, "%d") {
			taken[to] = name
		}
		move(b, name, to, link, pid, plan.Reg("link_"+strconv.Itoa(i)), pointer)
	}
	return b.Steps, nil
}

func move(b *plan.Builder, name, to string, link host.Link, pid, reg plan.Reg, pointer string) {
	b.Do("a network device of the host becomes the container's", linux.MoveLink{Link: name, Index: link.Index, PID: pid, To: to}).As(reg).For(pointer)
	for _, a := range link.Addresses {
		b.Do("with the addresses that it had", linux.AddAddress{PID: pid, Link: reg, Local: a.Local, Peer: a.Peer, Broadcast: a.Broadcast,
			Prefix: a.Prefix, Flags: a.Flags}).For(pointer)
	}
	b.Do("and is up", linux.RaiseLink{PID: pid, Link: reg}).For(pointer)
}

// checkLinkName refuses what the kernel would not take as a device's name, or would
// take as something else: only one %d is a place for a number.
func checkLinkName(name string) error {
	rest := strings.Replace(name, "%d", "", 1)
	switch {
	case len(name) > maxLinkName:
		return fmt.Errorf("%q is longer than %d bytes", name, maxLinkName)
	case name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n\v\f\r"):
		return fmt.Errorf("%q is no name for a network device", name)
	case strings.Contains(rest, "%"):
		return errors.New("only one %d may stand in a name, and no other %")
	}
	return nil
}
