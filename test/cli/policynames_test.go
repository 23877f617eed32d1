package cli_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/containr/containr/internal/testkit"
)

// tells has a name server in a network namespace answer with addresses by name, good for a second, until the test ends.
func (d *desk) tells(n *testkit.NetNS, names map[string][]string) {
	d.t.Helper()
	var c net.PacketConn
	var err error
	n.Do(func() { c, err = net.ListenPacket("udp", ":53") })
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	go func() {
		for b := make([]byte, 4096); ; {
			size, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:size]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			head := dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1}
			for _, text := range names[strings.TrimSuffix(m.Questions[0].Name.String(), ".")] {
				switch a := netip.MustParseAddr(text); {
				case a.Is4() && m.Questions[0].Type == dnsmessage.TypeA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
				case a.Is6() && m.Questions[0].Type == dnsmessage.TypeAAAA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
				}
			}
			if answer, err := m.Pack(); err == nil {
				c.WriteTo(answer, from)
			}
		}
	}()
}

// ask asks for a name from inside, and checks that the answer has all addresses.
func (d *desk) ask(n *testkit.NetNS, name string, want ...string) {
	d.t.Helper()
	r := &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(context.Context, string, string) (c net.Conn, err error) {
		n.Do(func() { c, err = net.DialTimeout("udp", "10.1.0.1:53", networkPatience) })
		return c, err
	}}
	got, err := r.LookupHost(d.t.Context(), name+".")
	if err != nil || len(got) != len(want) {
		d.t.Errorf("%s: %v, error %v; want %v", name, got, err, want)
	}
}

// A name that a policy lets a container reach leads to its addresses, for the one who has asked, at the ports that it says, as long as the
// answer is good; what it finds out otherwise stays closed, and whoever owns the name cannot open what is not his.
func TestPolicyByNames(t *testing.T) {
	newDesk(t).policyByNames()
}

// So it is for an ordinary user: his resolver is in the hub, where no route tells which addresses are the host's.
func TestPolicyOfAUserByNames(t *testing.T) {
	newPerson(t).policyByNames()
}

func (d *desk) policyByNames() {
	d.bridgedSeenByIP(false)
	before := d.host.State()
	d.during("traffic", func() {
		t := d.t
		d.labWithPolicies()
		for i := 11; i < 14; i++ {
			d.lan.Run("ip", "address", "add", fmt.Sprintf("192.0.2.%d/24", i), "dev", "eth0")
		}
		d.lan.Run("ip", "-6", "route", "add", "default", "via", "2001:db8::1")
		d.echoing(d.lan, 90)
		d.echoing(d.lan, 91)
		d.echoing(d.inside("web"), 90)
		d.host.Run("ip", "address", "add", "203.0.113.7/24", "dev", "up0")
		defer d.host.Run("ip", "address", "del", "203.0.113.7/24", "dev", "up0")
		d.echoing(d.host, 90)
		d.tells(d.lan, map[string][]string{"a.good.example": {"192.0.2.2", "2001:db8::2"}, "good.example": {"192.0.2.11"}, "evil.example": {"192.0.2.12"},
			"late.example": {"192.0.2.13"}, "trap.good.example": {"10.1.0.2", "10.1.0.1", "127.0.0.1"},
			"host.good.example": {"203.0.113.7", "192.0.2.1", "2001:db8::1"}})
		d.containr("run", "-d", "--network", "lab", "--dns", "192.0.2.2", "--name", "plain", "base", "sleep", "1000")
		run := []string{"run", "-d", "--network", "lab", "--dns", "192.0.2.2", "--egress", "dns=*.good.example,port=90,port=90/udp", "--name"}
		d.containr(append(run, "caged", "base", "sleep", "1000")...)
		d.containr(append(run, "beside", "base", "sleep", "1000")...)
		caged := d.inside("caged")
		all := func(who string, want bool) map[string]bool {
			return map[string]bool{who + " tcp 192.0.2.2:90": want, who + " udp 192.0.2.2:90": want, who + " tcp [2001:db8::2]:90": want}
		}
		d.flows("without a policy", all("plain", true))
		d.flows("before it has asked", all("caged", false))
		d.ask(caged, "evil.example", "192.0.2.12")
		d.ask(caged, "good.example", "192.0.2.11")
		d.ask(caged, "trap.good.example", "10.1.0.2", "10.1.0.1", "127.0.0.1")
		d.ask(caged, "a.good.example", "192.0.2.2", "2001:db8::2")
		d.ask(caged, "host.good.example", "203.0.113.7", "192.0.2.1", "2001:db8::1")
		d.flows("the host, by a name", map[string]bool{"caged tcp 203.0.113.7:90": false, "caged tcp 192.0.2.1:90": false, "caged tcp [2001:db8::1]:90": false,
			"client tcp 203.0.113.7:90": true, "client tcp 192.0.2.1:90": true, "client tcp [2001:db8::1]:90": true})
		d.flows("when it has asked", merged(all("caged", true)))
		var held net.Conn
		var err error
		caged.Do(func() { held, err = net.DialTimeout("tcp", "192.0.2.2:90", networkPatience) })
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		d.flows("what is not named", map[string]bool{"caged tcp 192.0.2.2:91": false, "caged tcp 192.0.2.11:90": false, "caged tcp 192.0.2.12:90": false,
			"caged tcp 192.0.2.13:90": false, "caged tcp 10.1.0.2:90": false, "client tcp 10.1.0.2:90": true})
		d.flows("who has not asked", all("beside", false))

		// The answer was good for a second, and the address is open for ten.
		closed := false
		for began := time.Now(); !closed && time.Since(began) < 2*time.Minute; {
			closed = !echoed(caged, "tcp", "192.0.2.2:90", unreachable)
		}
		if !closed {
			t.Error("the address stays open when the answer is no longer good")
		}
		held.SetDeadline(time.Now().Add(networkPatience))
		_, err = io.WriteString(held, "ping")
		if err == nil {
			_, err = io.ReadFull(held, make([]byte, 4))
		}
		if err != nil {
			t.Errorf("a connection that had begun does not go on: %v", err)
		}
		d.ask(caged, "a.good.example", "192.0.2.2", "2001:db8::2")
		d.flows("when it has asked again", map[string]bool{"caged tcp 192.0.2.2:90": true})

		// A policy of the network holds for who runs already, and no longer when it has gone.
		d.containr("network", "policy", "apply", "lab", d.policy("late", "select = [\"name=plain\", \"name=caged\"]\n[[egress]]\nto = [\"dns=Late.Example.\"]\n"))
		d.ask(d.inside("plain"), "late.example", "192.0.2.13")
		d.flows("by a policy that comes later", map[string]bool{"plain tcp 192.0.2.13:91": true, "plain tcp 192.0.2.12:91": false, "caged tcp 192.0.2.13:91": false})
		d.ask(caged, "late.example", "192.0.2.13")
		d.flows("policies add up", map[string]bool{"caged tcp 192.0.2.13:91": true})
		d.containr("network", "policy", "rm", "lab", "late")
		d.ask(caged, "late.example", "192.0.2.13")
		d.flows("without it", map[string]bool{"caged tcp 192.0.2.13:91": false, "plain tcp 192.0.2.12:91": true})

		d.refused("names of DNS are for egress", "run", "--rm", "--network", "lab", "--ingress", "dns=a.example", "base", "true")
		d.containr("network", "create", "--disable-dns", "quiet")
		d.refused("nobody answers names there", "run", "--rm", "--network", "quiet", "--egress", "dns=a.example", "base", "true")
		d.refused("nobody answers names there", "network", "policy", "apply", "quiet", d.policy("late", "[[egress]]\nto = [\"dns=a.example\"]\n"))
		d.containr("network", "rm", "quiet")
	})
	d.containr("rm", "-f", "web", "client", "other", "caged", "beside", "plain")
	d.containr("network", "rm", "lab")
	d.finish(before)
}
