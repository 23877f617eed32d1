package usernet

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/network/usermode"
)

// reach decides where the container's packets may go.
type reach struct {
	net      usermode.Net
	loopback bool
	warn     func(error)

	mu     sync.Mutex
	routes *sys.Route
	// own are what leads to the host's loopback device besides the usual addresses, as it was at a time.
	own []netip.Prefix
	at  time.Time
}

// lo is the number of the loopback device in every network namespace.
const lo = 1

// ownLasts is how long what was read of the loopback device is believed.
const ownLasts = time.Second

// newReach reads from the network namespace that it is called in.
func newReach(o Options) (*reach, error) {
	routes, err := sys.OpenRoute()
	if err != nil {
		return nil, err
	}
	r := &reach{net: o.Net, loopback: o.HostLoopback, warn: o.Warn, routes: routes}
	return r, r.read()
}

// read asks what the host's kernel takes for addresses of its loopback device. Of version 4 that is more than the addresses
// that somebody gave it: with 10.9.0.1/24 all of 10.9.0.0/24 is there. Its local routes say so. Of version 6 it is the
// addresses.
func (r *reach) read() error {
	local, err := r.routes.LocalPrefixes(lo)
	if err != nil {
		return fmt.Errorf("local routes of the loopback device: %w", err)
	}
	var own []netip.Prefix
	for _, p := range local {
		own = append(own, netip.PrefixFrom(netip.AddrFrom4(p.Address), p.Bits))
	}
	device := net.Interface{Index: lo}
	list, err := device.Addrs()
	if err != nil {
		return fmt.Errorf("addresses of the loopback device: %w", err)
	}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() {
			own = append(own, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
		}
	}
	r.own, r.at = own, time.Now()
	return nil
}

// isOwn tells of an address that leads to the host's loopback device. If the kernel does not say, all do.
func (r *reach) isOwn(a netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.at) >= ownLasts {
		if err := r.read(); err != nil {
			r.warn(err)
			return true
		}
	}
	return slices.ContainsFunc(r.own, func(p netip.Prefix) bool { return p.Contains(a) })
}

// target translates what the container sends to into what the host is to send to. ok is false
// where it may not go.
//
// The kernel of the host takes several addresses for its own loopback: 127.0.0.0/8 and ::1, the
// unspecified ones, those of version 4 dressed as version 6, and what somebody has added, perhaps just now. An ordinary program in the
// container does not send to them by the device, but one with a raw socket may.
func (r *reach) target(a netip.Addr) (to netip.Addr, ok bool) {
	if a == r.net.Gateway() || a == r.net.Gateway6() {
		if !r.loopback {
			return a, false
		}
		if a.Is4() {
			return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
		}
		return netip.IPv6Loopback(), true
	}
	if a.Is4In6() || !a.IsValid() {
		return a, false
	}
	if a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || r.inside(a) {
		return a, false
	}
	if a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240) { // this network, reserved, everybody
		return a, false
	}
	if a.Is6() && (a.IsLinkLocalUnicast() || compatible(a)) {
		return a, false
	}
	return a, !r.isOwn(a)
}

// elsewhere says ok if an address is another machine's, by the host's routes, and one that the container may send to.
func (r *reach) elsewhere(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return err.Error()
	}
	if a, ok := r.target(a); !ok || a.IsLoopback() {
		return "it is not"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	is, err := r.routes.Unicast(a.AsSlice())
	switch {
	case err != nil:
		return err.Error()
	case !is:
		return "it is not"
	}
	return "ok"
}

// inside tells of an address that is in the container's own network: nobody but we is there.
func (r *reach) inside(a netip.Addr) bool { return r.net.IPv4.Contains(a) || r.net.IPv6.Contains(a) }

// compatible tells of ::a.b.c.d, which once meant an address of version 4.
func compatible(a netip.Addr) bool {
	b := a.As16()
	for _, x := range b[:12] {
		if x != 0 {
			return false
		}
	}
	return true
}
