package cli_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
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
	d.containr("rm", "-f", "web")
	d.containr("network", "rm", "in", "out")
	d.finish(before)
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
