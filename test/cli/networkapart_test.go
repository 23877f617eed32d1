package cli_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/network/bridge"
)

// inside is the network of a container, where its root may do what it likes.
func (d *desk) inside(name string) *testkit.NetNS {
	d.t.Helper()
	pid, err := strconv.Atoi(d.containr("inspect", "-f", "{{.State.Pid}}", name))
	if err != nil {
		d.t.Fatal(err)
	}
	n := testkit.NetNSOf(d.t, pid)
	d.visits = append(d.visits, n)
	return n
}

// servingPackets has a program of the host answer each packet of UDP at an address with a word.
func (d *desk) servingPackets(address, word string) {
	d.t.Helper()
	var c net.PacketConn
	var err error
	d.host.Do(func() { c, err = net.ListenPacket("udp", address) })
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	go func() {
		for b := make([]byte, 512); ; {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo([]byte(word), from)
		}
	}()
}

// throughDevice sends a question to an address, from a socket that is bound to eth0: no route is asked for. It returns what comes back.
func throughDevice(n *testkit.NetNS, network, address, question string, patience time.Duration) (answer string, err error) {
	bind := func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), "eth0") }); e != nil {
			return e
		}
		return err
	}
	n.Do(func() {
		var c net.Conn
		if c, err = (&net.Dialer{Control: bind, Timeout: patience}).Dial(network, address); err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if _, err = c.Write([]byte(question)); err != nil {
			return
		}
		b := make([]byte, 512)
		var size int
		size, err = c.Read(b)
		answer = string(b[:size])
	})
	return answer, err
}

// Of the name servers that the host has, an internal network reaches the one at its own gateway, whatever root of a container
// does with sockets and routes; another network reaches all.
func TestInternalNetworkAndOtherNameServers(t *testing.T) {
	d := newDesk(t)
	d.host.Run("ip", "address", "add", "10.50.0.1/32", "dev", "lo")
	d.host.Run("ip", "address", "add", "fd50::1/128", "dev", "lo", "nodad")
	others := []string{"10.50.0.1:53", "[fd50::1]:53"}
	for _, address := range others {
		d.serving(address, "elsewhere")
		d.servingPackets(address, "elsewhere")
	}
	before := d.host.State()
	d.containr("network", "create", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64", "out")
	d.containr("network", "create", "--internal", "--subnet", "10.2.0.0/24", "--subnet", "fd00:2::/64", "in")
	d.containr("run", "-d", "--name", "free", "--network", "out", "base", "sleep", "1000")
	d.containr("run", "-d", "--name", "web", "--network", "in", "base", "sleep", "1000")
	free, web := d.inside("free"), d.inside("web")
	web.Run("ip", "-6", "route", "add", "default", "via", "fd00:2::1") // version 6 wants a route, also from a bound socket
	for _, address := range others {
		for _, network := range []string{"tcp", "udp"} {
			if answer, err := throughDevice(free, network, address, "who?\n", networkPatience); !strings.HasPrefix(answer, "elsewhere") {
				t.Errorf("%s %s answers another network %q, %v", network, address, answer, err)
			}
			if answer, err := throughDevice(web, network, address, "who?\n", unreachable); err == nil {
				t.Errorf("%s %s answers an internal network %q", network, address, answer)
			}
		}
	}
	for _, address := range []string{"10.1.0.1:53", "[fd00:1::1]:53"} {
		if _, err := throughDevice(web, "tcp", address, "\x00\x00", unreachable); err == nil || !os.IsTimeout(err) {
			t.Errorf("the name server of another network, at %s: %v; want that it is out of reach", address, err)
		}
	}
	web.Run("ip", "route", "add", "default", "via", "10.2.0.1")
	for target, reached := range map[string]bool{"10.2.0.1": true, "10.50.0.1": false} {
		if out, err := d.command("exec", "web", "ping", "-c", "1", "-W", map[bool]string{true: "30", false: "1"}[reached], target); (err == nil) != reached {
			t.Errorf("ping of %s: %v\n%s", target, err, out)
		}
	}
	if out, err := d.command("run", "--rm", "--network", "in", "base", "nslookup", "-type=a", "web"); err != nil || !strings.Contains(out, "Address: 10.2.0.") {
		t.Errorf("names of an internal network: %v\n%s", err, out)
	}
	d.containr("rm", "-f", "web", "free")
	d.containr("network", "rm", "in", "out")
	d.finish(before)
}

// frame is a packet of UDP in version 4 of IP, addressed to a machine that it is not for.
func frame(from, to net.HardwareAddr, source, destination netip.Addr, port uint16, text string) []byte {
	b := append(append([]byte{}, to...), from...)
	b = append(b, 0x08, 0x00) // IP
	ip := []byte{0x45, 0, 0, byte(20 + 8 + len(text)), 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	ip = append(append(ip, source.AsSlice()...), destination.AsSlice()...)
	sum := uint32(0)
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	b = append(b, ip...)
	for _, n := range []uint16{4000, port, uint16(8 + len(text)), 0} {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return append(b, text...)
}

// sendFrame sends it through eth0, with the address of the machine to hand it to.
func sendFrame(n *testkit.NetNS, to net.HardwareAddr, source, destination netip.Addr, port uint16, text string) error {
	return sendRaw(n, func(own net.HardwareAddr) []byte { return frame(own, to, source, destination, port, text) })
}

// sendRaw sends through eth0 what build gives for the hardware address of that.
func sendRaw(n *testkit.NetNS, build func(own net.HardwareAddr) []byte) (err error) {
	n.Do(func() {
		var device *net.Interface
		if device, err = net.InterfaceByName("eth0"); err != nil {
			return
		}
		var fd int
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		defer unix.Close(fd)
		err = unix.Sendto(fd, build(device.HardwareAddr), 0, &unix.SockaddrLinklayer{Ifindex: device.Index})
	})
	return err
}

// byWayOfTheHost has a container of a network reach another one there in the ways that lead through the gateway, and returns
// those that do.
func (d *desk) byWayOfTheHost(network, subnet4, subnet6 string, patience time.Duration) (ways []string) {
	d.t.Helper()
	one, two := network+"-one", network+"-two"
	d.containr(append([]string{"run", "-d", "--name", two, "--network", network, "--ip", subnet4 + "3", "--ip6", subnet6 + "3"}, serve(80, "hello")...)...)
	d.containr("run", "-d", "--name", one, "--network", network, "--ip", subnet4+"2", "--ip6", subnet6+"2", "base", "sleep", "1000")
	d.containr("network", "connect", "--ip", "10.1.0."+subnet4[3:4], "out", one)
	d.reach(d.host, subnet4+"3:80", "hello\n") // it serves
	from, to := d.inside(one), d.inside(two)
	var c net.PacketConn
	var err error
	to.Do(func() { c, err = net.ListenPacket("udp", ":9000") })
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	arrived := func(want string) bool {
		c.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 512)
		n, _, err := c.ReadFrom(b)
		return err == nil && string(b[:n]) == want
	}

	gateway := netip.MustParseAddr(subnet4 + "1")
	if err := sendFrame(from, net.HardwareAddr(bridge.MAC(gateway)), netip.MustParseAddr(subnet4+"2"), netip.MustParseAddr(subnet4+"3"), 9000, "frame"); err != nil {
		d.t.Fatal(err)
	}
	if arrived("frame") {
		ways = append(ways, "a frame for the gateway")
	}

	from.Run("ip", "-6", "route", "add", subnet6+"3/128", "via", subnet6+"1")
	from.Do(func() {
		var out net.Conn
		if out, err = net.Dial("udp", "["+subnet6+"3]:9000"); err == nil {
			_, err = out.Write([]byte("route"))
			out.Close()
		}
	})
	if err != nil {
		d.t.Fatal(err)
	}
	if arrived("route") {
		ways = append(ways, "a route of version 6")
	}

	from.Run("ip", "route", "add", subnet4+"3/32", "via", subnet4+"1", "src", "10.1.0."+subnet4[3:4])
	for began := time.Now(); time.Since(began) < patience; { // whoever serves takes one after the other
		if text, _, err := dial(from, subnet4+"3:80", patience); err == nil && text == "hello\n" {
			ways = append(ways, "the address in another network")
			break
		}
	}
	return ways
}

// Containers that are kept apart do not reach each other by way of the host either; what they publish, everybody reaches, they too.
func TestKeptApartByWayOfTheHost(t *testing.T) {
	d := newDesk(t)
	// Where br_netfilter is loaded, what a published port is translated to goes back to the switch, which does not pass it on.
	d.host.Run("sh", "-ec", "for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do if [ -e $f ]; then echo 0 > $f; fi; done")
	before := d.host.State()
	d.containr("network", "create", "--subnet", "10.1.0.0/24", "out")
	d.containr("network", "create", "--icc=false", "--subnet", "10.3.0.0/24", "--subnet", "fd00:3::/64", "apart")
	d.containr("network", "create", "--subnet", "10.4.0.0/24", "--subnet", "fd00:4::/64", "together")
	// The third way is closed in every network: the switch takes an address of a container from the cable alone that it is at.
	if ways := d.byWayOfTheHost("together", "10.4.0.", "fd00:4::", networkPatience); !slices.Equal(ways, []string{"a frame for the gateway", "a route of version 6"}) {
		t.Errorf("in a network that keeps nobody apart there are these ways: %q", ways)
	}
	if ways := d.byWayOfTheHost("apart", "10.3.0.", "fd00:3::", unreachable); len(ways) != 0 {
		t.Errorf("containers that are kept apart reach each other by %q", slices.Sorted(slices.Values(ways)))
	}

	d.containr(append([]string{"run", "-d", "--name", "web", "--network", "apart", "-p", "8080:80"}, serve(80, "public")...)...)
	for _, address := range []string{"192.0.2.1", "2001:db8::1"} {
		d.answered("public\n", "run", "--rm", "--network", "apart", "base", "sh", "-c", fmt.Sprintf("nc -w 30 %s 8080 < /dev/null", address))
		d.reach(d.lan, net.JoinHostPort(address, "8080"), "public\n")
		d.reach(d.host, net.JoinHostPort(address, "8080"), "public\n")
	}
	d.reach(d.host, "127.0.0.1:8080", "public\n")
	d.containr("rm", "-f", "web", "apart-one", "apart-two", "together-one", "together-two")
	d.containr("network", "rm", "apart", "together", "out")
	d.finish(before)
}
