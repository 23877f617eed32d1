package usernet

import (
	"net/netip"
	"testing"

	"github.com/containr/containr/pkg/network/usermode"
)

// Only the host's own loopback is the gateway in a hub, whose policies take the gateway for the host.
func TestStrangersAreNotTheHost(t *testing.T) {
	net := usermode.DefaultNet()
	for _, hub := range []bool{false, true} {
		o := Options{Net: net, Hub: hub, IPv6: true}
		r, err := newReach(o)
		if err != nil {
			t.Fatal(err)
		}
		n := &Network{o: o, reach: r}
		port := usermode.Port{Container: 80, HostIP: netip.MustParseAddr("10.1.0.2")}
		for _, c := range []struct {
			client string
			six    bool
			host   bool
		}{
			{"127.0.0.1", false, true}, {"::1", true, true}, {"::1", false, true}, {"fe80::1%eth0", true, false}, {"2001:db8::1", false, false},
			{net.Container().String(), false, false},
		} {
			gateway := net.Gateway()
			if c.six {
				gateway = net.Gateway6()
			}
			from := toAddr(n.ends(netip.AddrPortFrom(netip.MustParseAddr(c.client), 1), port, c.six).from.Addr)
			if got, want := from == gateway, c.host || !hub; got != want {
				t.Errorf("hub %v: %s comes as %s", hub, c.client, from)
			}
		}
		if from := toAddr(n.ends(netip.MustParseAddrPort("192.0.2.1:1"), port, false).from.Addr); from.String() != "192.0.2.1" {
			t.Errorf("hub %v: 192.0.2.1 comes as %s", hub, from)
		}
	}
}
