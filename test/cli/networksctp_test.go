package cli_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit"
)

// sctpIn is a socket for packets of SCTP in a network namespace, whether the kernel knows the protocol or not.
func (d *desk) sctpIn(n *testkit.NetNS) (c *net.IPConn) {
	d.t.Helper()
	var err error
	n.Do(func() { c, err = net.ListenIP("ip4:132", &net.IPAddr{IP: net.IPv4zero}) })
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	return c
}

// sctpPacket is a packet with one chunk, INIT (1) or its answer (2), as RFC 9260 has them.
func sctpPacket(source, destination uint16, tag uint32, chunk byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, source)
	b = binary.BigEndian.AppendUint16(b, destination)
	b = binary.BigEndian.AppendUint32(b, tag)
	b = append(b, 0, 0, 0, 0, chunk, 0, 0, 20)
	for _, word := range []uint32{0x0a0b0c0d, 65536, 1<<16 | 1, 1} { // tag, window, streams, first number
		b = binary.BigEndian.AppendUint32(b, word)
	}
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// A published port of SCTP, and each of a range, leads to the container, and the answer comes from the host's port. The packets are made
// here, so that the kernel need not have the protocol.
func TestPublishedSCTPAndRanges(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("run", "-d", "--name", "web", "--network", "bridge", "-p", "7000-7001:9000-9001/sctp", "-p", "8000-8002:80-82", "base", "sh", "-c",
		"for p in 80 81 82; do (while true; do echo port $p | nc -l -p $p; done) & done; sleep 1000")
	for i := range 3 {
		d.reach(d.lan, fmt.Sprintf("192.0.2.1:%d", 8000+i), fmt.Sprintf("port %d\n", 80+i))
	}
	d.notReached(d.lan, "192.0.2.1:8003")
	client, server := d.sctpIn(d.lan), d.sctpIn(d.inside("web"))
	// arrives waits for a packet at a port, and says who sent it.
	arrives := func(c *net.IPConn, destination uint16) (from string, port uint16) {
		c.SetReadDeadline(time.Now().Add(unreachable))
		for b := make([]byte, 512); ; {
			n, sender, err := c.ReadFromIP(b)
			if err != nil {
				return "nobody", 0
			}
			if n >= 12 && binary.BigEndian.Uint16(b[2:]) == destination {
				return sender.String(), binary.BigEndian.Uint16(b)
			}
		}
	}
	send := func(c *net.IPConn, to string, packet []byte) {
		t.Helper()
		if _, err := c.WriteToIP(packet, &net.IPAddr{IP: netip.MustParseAddr(to).AsSlice()}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint16(2) {
		send(client, "192.0.2.1", sctpPacket(5000, 7000+i, 0, 1))
		if from, port := arrives(server, 9000+i); from != "192.0.2.2" || port != 5000 {
			t.Fatalf("port %d: the container hears of %s, port %d", 7000+i, from, port)
		}
		send(server, "192.0.2.2", sctpPacket(9000+i, 5000, 0x0a0b0c0d, 2))
		if from, port := arrives(client, 5000); from != "192.0.2.1" || port != 7000+i {
			t.Errorf("port %d: the answer comes from %s, port %d", 7000+i, from, port)
		}
	}
	send(client, "192.0.2.1", sctpPacket(5001, 7002, 0, 1))
	if from, _ := arrives(server, 7002); from != "nobody" {
		t.Errorf("port 7002 is not published, and %s has reached it", from)
	}
	server.Close()
	d.containr("rm", "-f", "web")
	d.containr("network", "rm", "containr")
	d.finish(before)
}
