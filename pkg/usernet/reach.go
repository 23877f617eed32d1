package usernet

import (
	"net"
	"net/netip"

	"github.com/containr/containr/pkg/network/usermode"
)

// reach decides where the container's packets may go.
type reach struct {
	net      usermode.Net
	loopback bool
	// own are addresses at the host's loopback device besides the usual ones.
	own map[netip.Addr]bool
}

func newReach(o Options) reach {
	r := reach{net: o.Net, loopback: o.HostLoopback, own: map[netip.Addr]bool{}}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return r // there is none, and nothing at it
	}
	list, _ := lo.Addrs() // those at it that the kernel does not tell are of its own kind
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			r.own[p.Addr().Unmap()] = true
		}
	}
	return r
}

// target translates what the container sends to into what the host is to send to. ok is false
// where it may not go.
//
// The kernel of the host takes several addresses for its own loopback: 127.0.0.0/8 and ::1, the
// unspecified ones, and those of version 4 dressed as version 6. An ordinary program in the
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
	if a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || r.own[a] || r.inside(a) {
		return a, false
	}
	if a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240) { // this network, reserved, everybody
		return a, false
	}
	if a.Is6() && (a.IsLinkLocalUnicast() || compatible(a)) {
		return a, false
	}
	return a, true
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
