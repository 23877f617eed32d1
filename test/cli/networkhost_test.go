package cli_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/network/bridge"
)

// serving has a program of the host listen at an address, and answer with a word.
func (d *desk) serving(address, word string) {
	d.t.Helper()
	var l net.Listener
	var err error
	d.host.Do(func() { l, err = net.Listen("tcp", address) })
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, word)
			c.Close()
		}
	}()
}

// What the host serves is reached from a network, at the gateway; from an internal one only the name server is.
func TestInternalNetworkAndTheHost(t *testing.T) {
	d := newDesk(t)
	d.serving(":7000", "service")
	before := d.host.State()
	d.containr("network", "create", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64", "out")
	d.containr("network", "create", "--internal", "--subnet", "10.2.0.0/24", "--subnet", "fd00:2::/64", "in")
	for _, gateway := range []string{"10.1.0.1", "fd00:1::1"} {
		if got := d.containr("run", "--rm", "--network", "out", "base", "sh", "-c", "nc -w 30 "+gateway+" 7000 < /dev/null"); got != "service" {
			t.Errorf("at %s the host's service says %q", gateway, got)
		}
	}
	for _, gateway := range []string{"10.2.0.1", "fd00:2::1"} {
		if out, err := d.command("run", "--rm", "--network", "in", "base", "sh", "-c", "nc -w 1 "+gateway+" 7000 < /dev/null"); err == nil || strings.Contains(out, "service") {
			t.Errorf("from an internal network the host's service is reached at %s: %s", gateway, out)
		}
	}
	if out, err := d.command("run", "--rm", "--network", "in", "base", "ping", "-c", "1", "-W", "30", "10.2.0.1"); err != nil {
		t.Errorf("the gateway of an internal network: %v\n%s", err, out)
	}
	// Nobody listens there: that the host says so shows that it is found.
	if out, err := d.command("run", "--rm", "--network", "in", "base", "nc", "-z", "-w", "30", "fd00:2::1", "53"); err == nil || !strings.Contains(out, "refused") {
		t.Errorf("the gateway of an internal network: %v\n%s", err, out)
	}
	d.containr("run", "-d", "--name", "web", "--network", "in", "base", "sleep", "1000")
	if out, err := d.command("run", "--rm", "--network", "in", "base", "nslookup", "-type=a", "web"); err != nil || !strings.Contains(out, "Address: 10.2.0.") {
		t.Errorf("names of an internal network: %v\n%s", err, out)
	}
	d.pastTheBridge("web", "10.2.0.1")
	d.containr("rm", "-f", "web")
	d.containr("network", "rm", "in", "out")
	d.finish(before)
}

// pastTheBridge has a container of an internal network send frames to addresses that bridges leave to the device that they come to:
// neither packets nor what a router says are taken for the host's. It starts one in the network out, whose packets the host gets.
func (d *desk) pastTheBridge(name, gateway string) {
	d.t.Helper()
	var service net.PacketConn
	var err error
	d.host.Do(func() { service, err = net.ListenPacket("udp4", ":7777") })
	if err != nil {
		d.t.Fatal(err)
	}
	defer service.Close()
	service.SetReadDeadline(time.Now().Add(networkPatience))
	d.containr("run", "-d", "--name", "plain", "--network", "out", "--ip", "10.1.0.9", "base", "sleep", "1000")
	address := netip.MustParseAddr(d.containr("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name))
	sender, plain := d.inside(name), d.inside("plain")
	everybody := net.HardwareAddr("\x33\x33\x00\x00\x00\x01")
	for _, to := range []net.HardwareAddr{everybody, net.HardwareAddr("\x01\x80\xc2\x00\x00\x02"), net.HardwareAddr("\x01\x80\xc2\x00\x00\x0e")} {
		for from, source := range map[*testkit.NetNS]netip.Addr{sender: address, plain: netip.MustParseAddr("10.1.0.9")} {
			if err := sendRouter(from, to); err != nil {
				d.t.Fatal(err)
			}
			if to[0] == 0x33 {
				continue
			}
			if err := sendFrame(from, to, source, netip.MustParseAddr(gateway), 7777, "past"); err != nil {
				d.t.Fatal(err)
			}
		}
		there := netip.MustParseAddr("10.1.0.1")
		if err := sendFrame(plain, net.HardwareAddr(bridge.MAC(there)), netip.MustParseAddr("10.1.0.9"), there, 7777, "through"); err != nil {
			d.t.Fatal(err)
		}
		b := make([]byte, 64)
		n, from, err := service.ReadFrom(b)
		for ; err == nil && string(b[:n]) != "through"; n, from, err = service.ReadFrom(b) {
			d.t.Errorf("in a frame to %s %q comes from %s", to, b[:n], from)
		}
		if err != nil {
			d.t.Fatalf("what is sent through the bridge does not come: %v", err)
		}
		if routes := d.host.Run("ip", "-6", "route"); strings.Contains(routes, "fe80::bad") || strings.Contains(routes, "2001:db8:666") {
			d.t.Errorf("a container that says that it is a router, to %s, gets the host's routes:\n%s", to, routes)
		}
	}
	for _, n := range []*testkit.NetNS{sender, plain} {
		n.Run("ip", "link", "delete", "eth0") // its namespace stays as long as the test
	}
	d.containr("rm", "-f", "plain")
}

// sendRouter says, from fe80::bad, that it is the router, of 2001:db8:666::/64.
func sendRouter(n *testkit.NetNS, to net.HardwareAddr) error {
	source, all := netip.MustParseAddr("fe80::bad").AsSlice(), netip.MustParseAddr("ff02::1").AsSlice()
	message := []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0, 0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 0}
	message = append(message, netip.MustParseAddr("2001:db8:666::").AsSlice()...)
	sum := uint32(len(message) + 58)
	for i, b := range slices.Concat(source, all, message) {
		sum += uint32(b) << (8 * (1 - i%2))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(message[2:], ^uint16(sum))
	return sendRaw(n, func(own net.HardwareAddr) []byte {
		return slices.Concat(to, own, []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(message)), 58, 255}, source, all, message)
	})
}

// A firewall of the host's that throws questions for names away is named, with the rule that lets them in.
func TestFirewallAgainstNames(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.host.Run("nft", "add table ip filter; add chain ip filter INPUT { type filter hook input priority 0; policy drop; }")
	d.containr("network", "create", "--subnet", "10.1.0.0/24", "-o", "com.docker.network.bridge.name=front0", "front")
	const rule = "nft insert rule ip filter INPUT iifname front0 udp dport 53 accept"
	out := d.containr(append([]string{"run", "-d", "--name", "web", "--network", "front", "-p", "8080:80"}, serve(80, "hello")...)...)
	if !strings.Contains(out, "questions for names may be thrown away") || !strings.Contains(out, rule) || !strings.Contains(out, "INPUT of table ip filter") {
		t.Errorf("a run behind a firewall says\n%s", out)
	}
	if out, err := d.command("network", "doctor", "8080"); err == nil || !strings.Contains(out, "! nobody answers its questions for names at 10.1.0.1") || !strings.Contains(out, rule) {
		t.Errorf("network doctor: %v\n%s", err, out)
	}
	if out, _ := d.command("doctor"); !strings.Contains(out, "chain INPUT of table ip filter drops") {
		t.Errorf("doctor says\n%s", out)
	}
	d.host.Run("sh", "-c", rule)
	if out := d.containr("run", "--rm", "--network", "front", "base", "true"); out != "" {
		t.Errorf("with the rule a run says\n%s", out)
	}
	if out, _ := d.command("network", "doctor", "8080"); strings.Contains(out, "questions for names") {
		t.Errorf("with the rule network doctor says\n%s", out)
	}
	d.containr("rm", "-f", "web")
	d.containr("network", "rm", "front")
	d.host.Run("nft", "delete", "table", "ip", "filter")
	d.finish(before)
}

// An address that is for all machines of a network is none that a port is published at; and what is in no network any more
// has no ports to show.
func TestPortsNobodyReaches(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "--subnet", "10.1.0.0/24", "front")
	d.containr(append([]string{"run", "-d", "--name", "web", "--network", "front", "-p", "8080:80"}, serve(80, "hello")...)...)
	for _, address := range []string{"255.255.255.255", "192.0.2.255", "224.0.0.1"} {
		d.refused("the address is for all machines of a network", "update", "--publish-add", address+":8081:80", "web")
		d.refused("the address is for all machines of a network", "run", "--rm", "--network", "front", "-p", address+":8081:80/udp", "base", "true")
	}
	if got, want := d.containr("port", "web"), "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080"; got != want {
		t.Errorf("the ports are %q, want %q", got, want)
	}
	d.containr("network", "disconnect", "front", "web")
	if got := d.containr("port", "web") + d.containr("ps", "--format", "{{.Ports}}") + d.containr("inspect", "-f", "{{len .NetworkSettings.Ports}}", "web"); got != "0" {
		t.Errorf("in no network the ports are %q", got)
	}
	d.containr("network", "connect", "front", "web")
	if got := d.containr("ps", "--format", "{{.Ports}}"); got != "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp" {
		t.Errorf("connected again the ports are %q", got)
	}
	d.reach(d.lan, "192.0.2.1:8080", "hello\n")
	d.refused("--subnet 10.7.0.0/24 has that address in it; --gateway 10.7.0.5 makes it the host's", "network", "create", "--subnet", "10.7.0.5/24", "odd")
	d.containr("rm", "-f", "web")
	d.containr("network", "rm", "front")
	d.finish(before)
}
