package cli_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit"
)

// refusedTo is how many packets policies have not let a container receive, and send.
func (d *desk) refusedTo(name string) (ingress, egress uint64) {
	d.t.Helper()
	var found []struct {
		Containers map[string]struct {
			Name    string
			Traffic struct{ RefusedIngress, RefusedEgress uint64 }
		}
	}
	if err := json.Unmarshal([]byte(d.containr("network", "inspect", "lab")), &found); err != nil {
		d.t.Fatal(err)
	}
	for _, c := range found[0].Containers {
		if c.Name == name {
			return c.Traffic.RefusedIngress, c.Traffic.RefusedEgress
		}
	}
	d.t.Fatalf("no container %s in the network", name)
	return 0, 0
}

// hearing counts the packets of UDP that come to a port, by what they begin with, until done is called.
func (d *desk) hearing(n *testkit.NetNS, port int) (done func() map[byte]int) {
	d.t.Helper()
	var c net.PacketConn
	var err error
	n.Do(func() { c, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", port)) })
	if err != nil {
		d.t.Fatal(err)
	}
	if err := c.(*net.UDPConn).SetReadBuffer(1 << 20); err != nil {
		d.t.Fatal(err)
	}
	heard := make(chan map[byte]int, 1)
	go func() {
		counts := map[byte]int{}
		for b := make([]byte, 4096); ; {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				heard <- counts
				return
			}
			if n > 0 {
				counts[b[0]]++
			}
		}
	}()
	// Packets between containers are in the receiver's queue when send returns: what is read until the queue is empty is all.
	return func() map[byte]int {
		c.SetReadDeadline(time.Now().Add(unreachable))
		defer c.Close()
		return <-heard
	}
}

// told sends one packet of UDP from a port.
func (d *desk) told(n *testkit.NetNS, from, to string, text []byte) {
	d.t.Helper()
	var c net.Conn
	var err error
	n.Do(func() {
		local, e := net.ResolveUDPAddr("udp4", from)
		if err = e; err == nil {
			c, err = (&net.Dialer{LocalAddr: local}).Dial("udp4", to)
		}
	})
	if err == nil {
		_, err = c.Write(text)
		c.Close()
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// A rate bounds what begins: as many flows as it says, at whichever of the rule's ports and from whichever of its peers, and what has begun
// goes on; the rest is refused, and counted. Neither another container nor a policy that is given again makes it begin anew.
func TestPolicyRateOfFlows(t *testing.T) {
	newDesk(t).policyRateOfFlows()
}

func TestPolicyRateOfFlowsOfAUser(t *testing.T) {
	newPerson(t).policyRateOfFlows()
}

func (d *desk) policyRateOfFlows() {
	t := d.t
	d.bridgedSeenByIP(false)
	d.labWithPolicies()
	web, client, other := d.inside("web"), d.inside("client"), d.inside("other")
	const most, each = 5, 4
	web1, web2 := d.hearing(web, 9000), d.hearing(web, 9001)
	file := d.policy("web", fmt.Sprintf("select = [\"name=web\"]\n[[ingress]]\nfrom = [\"name=client\", \"name=other\"]\nports = [\"9000/udp\", \"9001/udp\"]\nrate = \"%d/hour\"\n", most))
	d.containr("network", "policy", "apply", "lab", file)
	flow := func(i int, kind byte) {
		for _, port := range []string{"9000", "9001"} {
			d.told(client, fmt.Sprintf("10.1.0.3:%d", 5000+i), "10.1.0.2:"+port, []byte{kind})
			d.told(other, fmt.Sprintf("10.1.0.4:%d", 5000+i), "10.1.0.2:"+port, []byte{kind})
		}
	}
	sent := 0
	for i := range each { // 16 flows
		flow(i, 'a')
		sent += 4
	}
	ingress, _ := d.refusedTo("web")
	if want := uint64(sent - most); ingress != want {
		t.Errorf("of %d flows %d are refused; want %d", sent, ingress, want)
	}
	for range 10 {
		flow(0, 'b') // those that have begun
	}
	if again, _ := d.refusedTo("web"); again != ingress {
		t.Errorf("%d packets of flows that have begun are refused", again-ingress)
	}
	d.containr("run", "--rm", "--network", "lab", "base", "true")
	d.containr("network", "policy", "apply", "lab", file)
	flow(each, 'c')
	heard := web1()
	for kind, n := range web2() {
		heard[kind] += n
	}
	if heard['a'] != most || heard['b'] != 40 || heard['c'] != 0 {
		t.Errorf("arrived: %d flows, %d packets of those, and %d flows when others had come; want %d, 40 and 0", heard['a'], heard['b'], heard['c'], most)
	}
	d.containr("rm", "-f", "web", "client", "other")
	d.containr("network", "rm", "lab")
}

// A rate of bytes bounds what is sent, also in one flow: no more arrives than it lets through in the time that it took, and the rest is
// counted as refused.
func TestPolicyRateOfBytes(t *testing.T) {
	newDesk(t).policyRateOfBytes()
}

func TestPolicyRateOfBytesOfAUser(t *testing.T) {
	newPerson(t).policyRateOfBytes()
}

func (d *desk) policyRateOfBytes() {
	t := d.t
	d.bridgedSeenByIP(false)
	d.labWithPolicies()
	const rate, size, packets = 64 << 10, 900, 400
	heard := d.hearing(d.inside("web"), 9000)
	d.containr("run", "-d", "--name", "caged", "--network", "lab", "--ip", "10.1.0.9", "--egress", "name=web,port=9000/udp,rate=64kbytes/second", "base", "sleep", "1000")
	began := time.Now()
	caged := d.inside("caged")
	text := make([]byte, size)
	text[0] = 'a'
	for range packets {
		d.told(caged, "10.1.0.9:5000", "10.1.0.2:9000", text)
	}
	took := time.Since(began)
	_, refused := d.refusedTo("caged")
	arrived := heard()['a']
	if most := (rate + int(rate*took.Seconds())) / size; arrived > most || arrived == 0 {
		t.Errorf("%d packets of %d bytes have arrived in %s; want some, at most %d", arrived, size, took, most)
	}
	if arrived+int(refused) != packets {
		t.Errorf("%d packets have arrived, and %d are refused; want %d together", arrived, refused, packets)
	}
	d.containr("rm", "-f", "web", "client", "other", "caged")
	d.containr("network", "rm", "lab")
}

// Ports of SCTP are ports, and answers are known. The packets are made here, so that the kernel need not have the protocol.
func TestPolicyAndSCTP(t *testing.T) {
	d := newDesk(t)
	d.bridgedSeenByIP(false)
	d.labWithPolicies()
	hosts := map[string]*net.IPConn{"10.1.0.2": d.sctpIn(d.inside("web")), "10.1.0.3": d.sctpIn(d.inside("client")), "10.1.0.4": d.sctpIn(d.inside("other"))}
	arrives := func(from, to string, source, destination uint16) bool {
		b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, source), destination)
		b = append(b, make([]byte, 8)...) // tag and checksum, of no chunk
		if _, err := hosts[from].WriteToIP(b, &net.IPAddr{IP: netip.MustParseAddr(to).AsSlice()}); err != nil {
			t.Fatal(err)
		}
		c := hosts[to]
		c.SetReadDeadline(time.Now().Add(unreachable))
		for got := make([]byte, 512); ; {
			n, sender, err := c.ReadFromIP(got)
			if err != nil {
				return false
			}
			if n >= 4 && sender.String() == from && binary.BigEndian.Uint16(got) == source && binary.BigEndian.Uint16(got[2:]) == destination {
				return true
			}
		}
	}
	d.containr("network", "policy", "apply", "lab", d.policy("web", "select = [\"name=web\"]\negress = []\n[[ingress]]\nfrom = [\"name=client\"]\nports = [\"7000-7001/sctp\"]\n"))
	for _, test := range []struct {
		from, to            string
		source, destination uint16
		want                bool
	}{
		{"10.1.0.2", "10.1.0.3", 7000, 6000, false}, // nobody has begun
		{"10.1.0.3", "10.1.0.2", 6000, 7000, true},
		{"10.1.0.2", "10.1.0.3", 7000, 6000, true}, // an answer
		{"10.1.0.2", "10.1.0.3", 7000, 6001, false},
		{"10.1.0.2", "10.1.0.4", 7000, 6000, false},
		{"10.1.0.3", "10.1.0.2", 6000, 7002, false},
		{"10.1.0.4", "10.1.0.2", 6000, 7000, false},
	} {
		if got := arrives(test.from, test.to, test.source, test.destination); got != test.want {
			t.Errorf("%s:%d to %s:%d arrives: %v; want %v", test.from, test.source, test.to, test.destination, got, test.want)
		}
	}
	if ingress, egress := d.refusedTo("web"); ingress != 2 || egress != 3 {
		t.Errorf("refused: %d packets for it, %d of its own; want 2 and 3", ingress, egress)
	}
	d.containr("rm", "-f", "web", "client", "other")
	d.containr("network", "rm", "lab")
}
