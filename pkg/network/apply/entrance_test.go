package apply

import (
	"net/netip"
	"testing"

	"github.com/containr/containr/pkg/network/bridge"
	"github.com/containr/containr/pkg/network/usermode"
)

// The rules know the addresses in a hub that stand for the host's loopback, however it is spelled.
func TestEntrancesOfLoopback(t *testing.T) {
	n := usermode.DefaultNet()
	for _, host := range []string{"127.0.0.1", "127.255.255.254"} {
		if a := n.Entrance(netip.MustParseAddr(host), false); !bridge.LoopbackEntrance4.Contains(a) {
			t.Errorf("%s is %s in a hub", host, a)
		}
	}
	if a := n.Entrance(netip.IPv6Loopback(), true); !bridge.LoopbackEntrance6.Contains(a) {
		t.Errorf("::1 is %s in a hub", a)
	}
	for _, host := range []string{"192.0.2.1", "10.0.0.1"} {
		if a := n.Entrance(netip.MustParseAddr(host), false); bridge.LoopbackEntrance4.Contains(a) {
			t.Errorf("%s is %s in a hub, as loopback", host, a)
		}
	}
}
