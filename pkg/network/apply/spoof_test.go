package apply

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/network/bridge"
	"github.com/containr/containr/pkg/plan"
)

// A forgery is a frame that a container writes by itself.
type forgery struct {
	name string
	// passes: its neighbours see it.
	passes  bool
	source  string // hardware address
	tags    []uint16
	carries uint16
	packet  []byte
}

// Protocols of frames.
const (
	carriesIP, carriesARP, carriesIP6 = 0x0800, 0x0806, 0x86dd
	vlanTag, outerTag                 = 0x8100, 0x88a8
)

// frame is the forgery to everybody, with a mark at its end that it is known by.
func (f forgery) frame(mark byte) []byte {
	b := append([]byte("\xff\xff\xff\xff\xff\xff"), f.source...)
	for _, tag := range f.tags {
		b = binary.BigEndian.AppendUint16(b, tag)
		b = binary.BigEndian.AppendUint16(b, 0) // VLAN 0: none, and taken for its content
	}
	b = binary.BigEndian.AppendUint16(b, f.carries)
	b = append(b, f.packet...)
	return append(b, bytes.Repeat([]byte{mark}, 64)...)
}

func arpPacket(mac, sender string) []byte {
	b := append([]byte{0, 1, 8, 0, 6, 4, 0, 2}, mac...)
	b = append(b, netip.MustParseAddr(sender).AsSlice()...)
	return append(b, make([]byte, 10)...)
}

func udp4(source string) []byte {
	b := []byte{0x45, 0, 0, 20 + 64, 0, 0, 0, 0, 64, 17, 0, 0}
	b = append(b, netip.MustParseAddr(source).AsSlice()...)
	b = append(b, 10, 1, 0, 3)
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16)) // a bridge that asks the rules of IP throws others away
	return b
}

// ip6 is a packet with what follows its header: nothing known, or a message of ICMPv6.
func ip6(source string, message ...byte) []byte {
	next := byte(59)
	if len(message) > 0 {
		next = 58
	}
	b := []byte{0x60, 0, 0, 0, 0, byte(len(message) + 64), next, 255}
	b = append(b, netip.MustParseAddr(source).AsSlice()...)
	b = append(b, netip.MustParseAddr("ff02::1").AsSlice()...)
	return append(b, message...)
}

func advert(target string) []byte {
	return append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, netip.MustParseAddr(target).AsSlice()...)
}

func solicit(target string) []byte {
	return append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, netip.MustParseAddr(target).AsSlice()...)
}

// A container that writes its own frames cannot be its neighbour or the gateway: its frames are thrown away by the bridge.
// Frames of its own, and those about addresses that are nobody's, pass.
func TestNobodySendsAsAnother(t *testing.T) {
	testkit.RequireNft(t)
	n := testkit.NewNetNS(t)
	testkit.Leftovers(t)
	in := inputOf()
	in.Ports, in.Endpoints = nil, in.Endpoints[:1]
	attacker, victim := in.Endpoints[0], in.Endpoints[0]
	attacker.Bound, victim.Bound = true, true
	v4, v6 := netip.MustParsePrefix("10.1.0.3/24"), netip.MustParsePrefix("fd00:1::3/64")
	victim.Link, victim.MAC, victim.Addresses = "ctr-9", bridge.MAC(v4.Addr()), []netip.Prefix{v4, v6}
	pids := make([]int, 2)
	var undos []plan.Call
	for i, e := range []bridge.Endpoint{attacker, victim} {
		pids[i] = container(t, n)
		in.Endpoints = []bridge.Endpoint{e}
		steps := bridge.Connect(in)
		undos = append(undos, (&plan.Plan{Steps: steps}).Undo()...)
		if err := perform(n, new(Kernel), steps, pids[i]); err != nil {
			t.Fatal(err)
		}
	}
	mac, other, gateway := attacker.MAC, victim.MAC, bridge.MAC(netip.MustParseAddr("10.1.0.1"))
	const oddLocal = "fe80::7054:ff:fe00:9" // of 72:54:00:00:00:09
	const own4, own6, local = "10.1.0.2", "fd00:1::2", "fe80::42:aff:fe01:2"
	list := []forgery{
		{"its own ARP", true, mac, nil, carriesARP, arpPacket(mac, own4)},
		{"who looks whether an address is free", true, mac, nil, carriesARP, arpPacket(mac, "0.0.0.0")},
		{"its own IP", true, mac, nil, carriesIP, udp4(own4)},
		{"its own IPv6", true, mac, nil, carriesIP6, ip6(own6)},
		{"its own answer about a neighbour", true, mac, nil, carriesIP6, ip6(local, advert(own6)...)},
		{"an address of no network", true, mac, nil, carriesIP, udp4("192.0.2.1")},
		{"an address that is not given to anybody", false, mac, nil, carriesIP, udp4("10.1.0.200")},
		{"its own link-local address", true, mac, nil, carriesIP6, ip6(local)},
		{"who looks whether its link-local address is free", true, mac, nil, carriesIP6, ip6("::", solicit(local)...)},
		{"who looks whether an address of no network is free", true, mac, nil, carriesIP6, ip6("::", solicit("2001:db8::1")...)},
		{"its own answer about its link-local address", true, mac, nil, carriesIP6, ip6(own6, advert(local)...)},
		{"a link-local address that is made by chance", true, mac, nil, carriesIP6, ip6("fe80::1234:5678:9abc:def0")},
		{"the neighbour's link-local address", false, mac, nil, carriesIP6, ip6("fe80::42:aff:fe01:3")},
		{"the gateway's link-local address", false, mac, nil, carriesIP6, ip6("fe80::42:aff:fe01:1")},
		{"the neighbour's, who has a hardware address of another kind", false, mac, nil, carriesIP6, ip6(oddLocal)},
		{"an answer for the neighbour's link-local address", false, mac, nil, carriesIP6, ip6(own6, advert("fe80::42:aff:fe01:3")...)},
		{"an answer for the gateway's link-local address", false, mac, nil, carriesIP6, ip6(own6, advert("fe80::42:aff:fe01:1")...)},
		{"an answer for one of another kind", false, mac, nil, carriesIP6, ip6(own6, advert(oddLocal)...)},
		{"who claims the neighbour's link-local address as if it were free", false, mac, nil, carriesIP6, ip6("::", solicit("fe80::42:aff:fe01:3")...)},
		{"who claims the neighbour's address as if it were free", false, mac, nil, carriesIP6, ip6("::", solicit("fd00:1::3")...)},
		{"the neighbour's link-local address in VLAN 0", false, mac, []uint16{vlanTag}, carriesIP6, ip6("fe80::42:aff:fe01:3")},
		{"a hardware address of another kind", true, "\x52\x54\x00\x00\x00\x01", nil, carriesARP, arpPacket("\x52\x54\x00\x00\x00\x01", "192.0.2.1")},
		{"its own in VLAN 0", true, mac, []uint16{vlanTag}, carriesIP, udp4(own4)},
		{"the neighbour's hardware address", false, other, nil, carriesIP, udp4(own4)},
		{"the gateway's hardware address", false, gateway, nil, carriesARP, arpPacket(mac, own4)},
		{"the neighbour's address in ARP", false, mac, nil, carriesARP, arpPacket(mac, "10.1.0.3")},
		{"the gateway's address in ARP", false, mac, nil, carriesARP, arpPacket(mac, "10.1.0.1")},
		{"the neighbour's IP", false, mac, nil, carriesIP, udp4("10.1.0.3")},
		{"the gateway's IP", false, mac, nil, carriesIP, udp4("10.1.0.1")},
		{"the neighbour's IPv6", false, mac, nil, carriesIP6, ip6("fd00:1::3")},
		{"the gateway's IPv6", false, mac, nil, carriesIP6, ip6("fd00:1::1")},
		{"an answer for the neighbour", false, mac, nil, carriesIP6, ip6(own6, advert("fd00:1::3")...)},
		{"an answer for the gateway", false, mac, nil, carriesIP6, ip6(local, advert("fd00:1::1")...)},
		{"a router", false, mac, nil, carriesIP6, ip6(local, 134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0)},
		{"another way", false, mac, nil, carriesIP6, ip6(local, append([]byte{137, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 32)...)...)},
		{"the gateway's address in VLAN 0", false, mac, []uint16{vlanTag}, carriesARP, arpPacket(mac, "10.1.0.1")},
		{"the gateway's address in VLAN 0, twice", false, mac, []uint16{vlanTag, vlanTag}, carriesARP, arpPacket(mac, "10.1.0.1")},
		{"the gateway's address in two kinds of VLAN", false, mac, []uint16{outerTag, vlanTag}, carriesARP, arpPacket(mac, "10.1.0.1")},
	}
	send, receive := rawSocket(t, pids[0], false), rawSocket(t, pids[1], true)
	mark := byte(0xa0)
	for _, f := range list {
		// Behind it comes a frame that passes: what has not come before that does not come.
		if err := unix.Send(send, f.frame(mark), 0); err != nil {
			t.Fatal(err)
		}
		if err := unix.Send(send, list[0].frame(mark+1), 0); err != nil {
			t.Fatal(err)
		}
		if seen := comes(t, receive, mark, mark+1); seen != f.passes {
			t.Errorf("%s: its neighbour sees it: %v", f.name, seen)
		}
		mark += 2
	}
	undo(t, n, undos)
	for _, set := range []string{"cables", "sender4", "sender6", "own_mac"} {
		if out := n.Run("nft", "list", "set", "bridge", "containr", set); bytes.Contains([]byte(out), []byte("elements")) {
			t.Errorf("left is %s", out)
		}
	}
}

// Frames to the addresses that are for the next device only do not pass the bridge: the kernel would take what is in them for the
// host's, on the cable. Nothing in them reaches the host, of whatever network; and the host learns no routes from a cable or a bridge, though it does from devices
// that are made later.
func TestNothingComesPastTheBridge(t *testing.T) {
	testkit.RequireNft(t)
	n := testkit.NewNetNS(t)
	testkit.Leftovers(t)
	n.Run("sysctl", "-qw", "net.ipv6.conf.default.accept_ra=2")
	in := inputOf()
	in.Ports = nil
	pid := container(t, n)
	steps := bridge.Connect(in)
	if err := perform(n, new(Kernel), steps, pid); err != nil {
		t.Fatal(err)
	}
	for _, device := range []string{"front0", "back0", "ctr-0", "ctr-1"} {
		if got := n.Run("cat", "/proc/sys/net/ipv6/conf/"+device+"/accept_ra"); got != "0\n" {
			t.Errorf("%s has accept_ra %q", device, got)
		}
	}
	var service net.PacketConn
	var err error
	n.Do(func() { service, err = net.ListenPacket("udp4", ":7777") })
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	service.SetReadDeadline(time.Now().Add(10 * time.Second))
	send := rawSocket(t, pid, false)
	for last := range byte(16) {
		past := append([]byte("\x01\x80\xc2\x00\x00"), last)
		through := []byte(bridge.MAC(netip.MustParseAddr("10.1.0.1")))
		for _, f := range []struct {
			to   []byte
			mark byte
		}{{past, 1}, {through, 2}} {
			if err := unix.Send(send, bytes.Join([][]byte{f.to, []byte(in.Endpoints[0].MAC), {0x08, 0}, toService(f.mark)}, nil), 0); err != nil {
				t.Fatal(err)
			}
		}
		b := make([]byte, 64)
		count, _, err := service.ReadFrom(b)
		for ; err == nil && b[0] != 2; count, _, err = service.ReadFrom(b) {
			// 00 is the address of bridges among themselves: without their protocol the bridge takes it for everybody's.
			if last != 0 {
				t.Errorf("to 01:80:c2:00:00:%02x, %d bytes come", last, count)
			}
		}
		if err != nil {
			t.Fatalf("what is sent to the bridge does not come: %v", err)
		}
	}
	undo(t, n, (&plan.Plan{Steps: steps}).Undo())
}

// toService is a packet from 10.1.0.2 to port 7777 of 10.1.0.1, that says mark.
func toService(mark byte) []byte {
	b := udp4("10.1.0.2")[:20]
	b[3] = 20 + 8 + 1
	b[10], b[11] = 0, 0
	copy(b[16:], []byte{10, 1, 0, 1})
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
	b = binary.BigEndian.AppendUint16(b, 4444)
	b = binary.BigEndian.AppendUint16(b, 7777)
	return append(b, 0, 9, 0, 0, mark)
}

// rawSocket is one for whole frames of a container's eth0.
func rawSocket(t *testing.T, pid int, listens bool) (fd int) {
	t.Helper()
	var err error
	testkit.NetNSOf(t, pid).Do(func() {
		protocol := 0
		if listens {
			protocol = 0x0300 // ETH_P_ALL in the order of the network
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol); err != nil {
			return
		}
		var device *net.Interface
		if device, err = net.InterfaceByName("eth0"); err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(protocol), Ifindex: device.Index})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// comes reads frames until one with the mark last comes, and reports whether one with the other mark did.
func comes(t *testing.T, fd int, mark, last byte) (seen bool) {
	t.Helper()
	wait := unix.NsecToTimeval((10 * time.Second).Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 2048); ; {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			t.Fatalf("the frame that passes did not come: %v", err)
		}
		if tail := b[max(0, n-32):n]; bytes.Equal(tail, bytes.Repeat([]byte{last}, len(tail))) {
			return seen
		} else if bytes.Equal(tail, bytes.Repeat([]byte{mark}, len(tail))) {
			seen = true
		}
	}
}

// members starts two containers in one network, the second with a hardware address of its own choice.
func members(t *testing.T, n *testkit.NetNS) (pids []int, plugs []bridge.Endpoint, undos []plan.Call) {
	t.Helper()
	in := inputOf()
	in.Ports = nil
	attacker, victim := in.Endpoints[0], in.Endpoints[0]
	attacker.Bound, victim.Bound = true, true
	victim.Link, victim.MAC, victim.Addresses = "ctr-9", "\x72\x54\x00\x00\x00\x09", []netip.Prefix{netip.MustParsePrefix("10.1.0.3/24"), netip.MustParsePrefix("fd00:1::3/64")}
	plugs = []bridge.Endpoint{attacker, victim}
	for _, e := range plugs {
		pid := container(t, n)
		in.Endpoints = []bridge.Endpoint{e}
		steps := bridge.Connect(in)
		undos = append(undos, (&plan.Plan{Steps: steps}).Undo()...)
		if err := perform(n, new(Kernel), steps, pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids, plugs, undos
}

// The bridge learns no hardware address from what containers send: nobody takes a neighbour's place in its table, whatever
// address that one has, and nobody fills it. Both still reach each other, and frames from one to the other are seen by no third.
func TestBridgeLearnsNothingFromContainers(t *testing.T) {
	testkit.RequireNft(t)
	n := testkit.NewNetNS(t)
	testkit.Leftovers(t)
	pids, plugs, undos := members(t, n)
	table := func() string { return n.Run("bridge", "fdb", "show", "br", "front0") }
	odd := "72:54:00:00:00:09 dev ctr-9 sticky master front0 static"
	if !strings.Contains(table(), odd) || !strings.Contains(table(), "02:42:0a:01:00:02 dev ctr-0 sticky master front0 static") {
		t.Errorf("the table has\n%s\nand not %q", table(), odd)
	}
	// places are the entries of the bridge's own table; the others ("self") are groups that the ports' ends join when they like.
	places := func(table string) (n int) {
		for line := range strings.Lines(table) {
			if strings.Contains(line, "dev ctr-") && strings.Contains(line, "master front0") {
				n++
			}
		}
		return n
	}
	entries := places(table())
	send, receive := rawSocket(t, pids[0], false), rawSocket(t, pids[1], true)
	own := forgery{"", true, plugs[0].MAC, nil, carriesIP, udp4("10.1.0.2")}
	stolen := own
	stolen.source = plugs[1].MAC
	stolen.packet = udp4("192.0.2.1")
	for i := range 40 {
		other := stolen
		other.source = string([]byte{0x52, 0x54, 0, 0, 1, byte(i)})
		for _, f := range []forgery{stolen, other} {
			if err := unix.Send(send, f.frame(1), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := unix.Send(send, own.frame(2), 0); err != nil {
		t.Fatal(err)
	}
	comes(t, receive, 1, 2) // all have passed the bridge
	if now := table(); places(now) != entries || !strings.Contains(now, odd) {
		t.Errorf("the bridge has learned:\n%s", now)
	}
	reach(t, pids[0], pids[1], "10.1.0.3")
	reach(t, pids[1], pids[0], "fd00:1::2")
	for i, at := range []string{"fe80::42:aff:fe01:2", "fe80::7054:ff:fe00:9"} {
		nsenter(pids[i], "ip", "-6", "address", "replace", at+"/64", "dev", "eth0", "nodad") // sooner than the kernel would
		reach(t, pids[1-i], pids[i], at)
	}
	undo(t, n, undos)
}

// reach has what listens in one container answer to another one.
func reach(t *testing.T, from, to int, at string) {
	t.Helper()
	var listener net.Listener
	var err error
	testkit.NetNSOf(t, to).Do(func() {
		listener, err = net.Listen(map[bool]string{true: "tcp4", false: "tcp6"}[strings.Contains(at, ".")], ":0")
	})
	if err != nil {
		t.Fatalf("listen at %s: %v", at, err)
	}
	defer listener.Close()
	testkit.NetNSOf(t, from).Do(func() {
		var device *net.Interface
		if device, err = net.InterfaceByName("eth0"); err != nil {
			return
		}
		remote := net.TCPAddr{IP: net.ParseIP(at), Port: listener.Addr().(*net.TCPAddr).Port}
		if remote.IP.IsLinkLocalUnicast() {
			remote.Zone = strconv.Itoa(device.Index)
		}
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", remote.String(), 10*time.Second); err == nil {
			conn.Close()
		}
	})
	if err != nil {
		t.Errorf("the containers do not reach each other: %v", err)
	}
}

// Who is asked in frames for the next device only is the host, on a cable: it does not answer who has which of its addresses.
func TestNothingIsAnsweredPastTheBridge(t *testing.T) {
	testkit.RequireNft(t)
	n := testkit.NewNetNS(t)
	testkit.Leftovers(t)
	n.Run("ip", "address", "add", "10.77.0.1/24", "dev", "lo")
	pids, plugs, undos := members(t, n)
	socket := rawSocket(t, pids[0], true)
	question := func(to []byte, target string) {
		b := arpPacket(plugs[0].MAC, "10.1.0.2")
		b[7] = 1 // a question
		b = append(b[:24:24], netip.MustParseAddr(target).AsSlice()...)
		f := bytes.Join([][]byte{to, []byte(plugs[0].MAC), {0x08, 0x06}, b, make([]byte, 18)}, nil)
		if err := unix.Send(socket, f, 0); err != nil {
			t.Fatal(err)
		}
	}
	wait := unix.NsecToTimeval((10 * time.Second).Nanoseconds())
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		t.Fatal(err)
	}
	everybody := bytes.Repeat([]byte{0xff}, 6)
	for last := range byte(16) {
		question(append([]byte("\x01\x80\xc2\x00\x00"), last), "10.77.0.1")
		question(everybody, "10.1.0.1") // is answered, behind the other
		for b := make([]byte, 2048); ; {
			size, from, err := unix.Recvfrom(socket, b, 0)
			if err != nil {
				t.Fatalf("the gateway does not answer: %v", err)
			}
			if link, ok := from.(*unix.SockaddrLinklayer); !ok || link.Pkttype == unix.PACKET_OUTGOING || size < 42 || b[12] != 8 || b[13] != 6 || b[21] != 2 {
				continue
			}
			if answered := netip.AddrFrom4([4]byte(b[28:32])).String(); answered == "10.1.0.1" {
				break
			} else if last != 0 { // without the protocol of bridges 00 is for everybody in the network, and asks the gateway
				t.Errorf("a question to 01:80:c2:00:00:%02x about %s is answered", last, answered)
			}
		}
	}
	undo(t, n, undos)
}
