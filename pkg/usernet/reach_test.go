package usernet

import (
	"net/netip"
	"testing"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/network/usermode"
)

// TestReach: the host's loopback addresses are closed however they are spelled.
func TestReach(t *testing.T) {
	reachOf := func(o Options) *reach {
		r, err := newReach(o)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	closed := reachOf(Options{Net: usermode.DefaultNet()})
	for _, s := range []string{"127.0.0.1", "127.8.9.1", "::1", "0.0.0.0", "0.1.2.3", "::", "::ffff:127.0.0.1", "::ffff:192.0.2.1", "::127.0.0.1",
		"10.0.2.2", "10.0.2.3", "10.0.2.77", "fd00:c0a7::2", "fd00:c0a7::77", "224.0.0.1", "255.255.255.255", "ff02::1", "fe80::1"} {
		if to, ok := closed.target(netip.MustParseAddr(s)); ok {
			t.Errorf("%s leads to %s", s, to)
		}
	}
	for _, s := range []string{"192.0.2.1", "10.0.3.1", "2001:db8::1", "fd01::1"} {
		if to, ok := closed.target(netip.MustParseAddr(s)); !ok || to.String() != s {
			t.Errorf("%s leads to %s, %v", s, to, ok)
		}
	}
	open := reachOf(Options{Net: usermode.DefaultNet(), HostLoopback: true})
	for s, want := range map[string]string{"10.0.2.2": "127.0.0.1", "fd00:c0a7::2": "::1"} {
		if to, ok := open.target(netip.MustParseAddr(s)); !ok || to.String() != want {
			t.Errorf("%s leads to %s, %v; want %s", s, to, ok, want)
		}
	}
	if to, ok := open.target(netip.MustParseAddr("127.0.0.1")); ok {
		t.Errorf("127.0.0.1 leads to %s", to)
	}
}

// TestReachOfLoopback: what somebody gives the host's loopback device is closed with all that the kernel takes for its own
// because of that, also if it is given later.
func TestReachOfLoopback(t *testing.T) {
	host := testkit.NewNetNS(t)
	host.Run("ip", "link", "set", "lo", "up")
	host.Cable("eth0", []string{"192.0.2.1/24", "2001:db8::1/64"}, testkit.NewNetNS(t), "eth0", nil)
	var r *reach
	var err error
	host.Do(func() {
		r, err = newReach(Options{Net: usermode.DefaultNet(), Warn: func(err error) { t.Error(err) }})
	})
	if err != nil {
		t.Fatal(err)
	}
	open := func(want bool, list ...string) {
		t.Helper()
		r.at = r.at.Add(-ownLasts)
		for _, s := range list {
			var ok bool
			host.Do(func() { _, ok = r.target(netip.MustParseAddr(s)) })
			if ok != want {
				t.Errorf("%s is open: %v; want %v", s, ok, want)
			}
		}
	}
	own := []string{"10.99.0.1", "10.99.0.7", "10.98.0.1", "10.97.0.9", "10.96.3.4", "fd99::1"}
	open(true, own...)
	for _, a := range []string{"10.99.0.1/24", "fd99::1/64"} {
		host.Run("ip", "address", "add", a, "dev", "lo")
	}
	host.Run("ip", "address", "add", "10.98.0.1", "peer", "10.97.0.0/24", "dev", "lo")
	host.Run("ip", "route", "add", "local", "10.96.0.0/16", "dev", "lo")
	host.Run("ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "100") // as transparent proxies have it
	open(false, own...)
	open(true, "10.95.0.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "fd99::2")
	r.routes.Close()
	r.warn = func(error) {}
	open(false, "192.0.2.2")
}

// TestPortsAreRead: what the plan says is what the program reads.
func TestPortsAreRead(t *testing.T) {
	for _, p := range []usermode.Port{
		{Protocol: "tcp", Host: 8080, Container: 80},
		{Protocol: "udp", HostIP: netip.MustParseAddr("192.0.2.1"), Host: 53, Container: 5353},
		{Protocol: "tcp", HostIP: netip.MustParseAddr("2001:db8::1"), Host: 1, Container: 65535},
	} {
		if got, err := parsePort(p.String()); err != nil || got != p {
			t.Errorf("%s was read as %v, %v", p, got, err)
		}
	}
	for _, s := range []string{"", "80", "80/tcp", "*:80/tcp", "*:x:80/tcp", "*:70000:80/tcp", "nobody:1:2/tcp"} {
		if got, err := parsePort(s); err == nil {
			t.Errorf("%q was read as %v", s, got)
		}
	}
}

// TestEntrances: two addresses of the host have two that stand for them in a hub, none of which is anybody's there.
func TestEntrances(t *testing.T) {
	n := usermode.DefaultNet()
	seen := map[netip.Addr]string{}
	for _, s := range []string{"127.0.0.1", "127.0.0.2", "192.0.2.1", "10.0.2.100", "::1", "2001:db8::1", "2001:db8:1::1", "fe80::1"} {
		host := netip.MustParseAddr(s)
		a := n.Entrance(host, host.Is6())
		if other, taken := seen[a]; taken {
			t.Errorf("%s and %s are both %s", s, other, a)
		}
		seen[a] = s
		if a.Is6() != host.Is6() || a == n.Container() || a == n.Container6() || a == n.Gateway6() || a == n.Names6() || a.Is6() && !n.IPv6.Contains(a) {
			t.Errorf("%s is %s", s, a)
		}
	}
	if a := n.Entrance(netip.MustParseAddr("0.0.0.0"), false); a != n.Container() {
		t.Errorf("all addresses are %s", a)
	}
}
