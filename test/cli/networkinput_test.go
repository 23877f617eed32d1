package cli_test

import (
	"net"
	"strings"
	"testing"
	"time"
)

// A published port is the affair of the host's rules for what comes in if that is asked for, and not of those for what it passes on; else
// it is the other way round.
func TestPublishPolicy(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.host.Run("nft", `add table inet own; add chain inet own in { type filter hook input priority 0; policy drop; }
add rule inet own in ct state established accept; add rule inet own in iifname lo accept; add rule inet own in icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept`)
	d.containr("network", "create", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64", "--disable-dns", "one")
	d.containr("network", "create", "--disable-dns", "two")
	d.containr(append([]string{"run", "-d", "--name", "usual", "--network", "one", "-p", "8079:80"}, serve(80, "usual")...)...)
	d.reach(d.lan, "192.0.2.1:8079", "usual\n")
	d.containr("rm", "-f", "usual")
	d.containr(append([]string{"run", "-d", "--name", "web", "--network", "one", "--publish-policy", "firewall", "-p", "8080:80", "-p", "[::1]:8082:80"}, serve(80, "hello")...)...)
	for range 2 {
		d.reach(d.host, "127.0.0.1:8080", "hello\n")
		d.reach(d.host, "[::1]:8082", "hello\n")
		d.notReached(d.lan, "192.0.2.1:8080")
		d.containr("restart", "-t", "0", "web")
	}
	if out, _ := d.command("network", "doctor", "8080"); !strings.Contains(out, "? chain in of table inet own drops") || !strings.Contains(out, "    nft insert rule inet own in tcp dport 8080 accept\n") ||
		!strings.Contains(out, "containr-userne) listens there") {
		t.Errorf("network doctor says\n%s", out)
	}
	d.host.Run("nft", "insert", "rule", "inet", "own", "in", "tcp", "dport", "8080", "accept")
	d.host.Run("nft", "insert", "rule", "inet", "own", "in", "udp", "dport", "5353", "accept")
	d.host.Run("nft", "add chain inet own on { type filter hook forward priority 0; policy drop; }")
	for _, address := range []string{"192.0.2.1:8080", "[2001:db8::1]:8080"} {
		d.reach(d.lan, address, "hello\n")
	}
	d.containr("run", "-d", "--name", "echo", "--network", "one", "--publish-policy", "firewall", "-p", "5353:53/udp", "base", "sh", "-c", "echo pong | nc -v -u -l -p 53")
	answer := ""
	d.lan.Do(func() {
		c, err := net.Dial("udp", "192.0.2.1:5353")
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for began := time.Now(); answer == "" && time.Since(began) < networkPatience; { // until it listens
			c.Write([]byte("ping\n"))
			c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			b := make([]byte, 100)
			n, _ := c.Read(b)
			answer = string(b[:n])
		}
	})
	if answer != "pong\n" {
		t.Errorf("by UDP it answers %q", answer)
	}
	d.refused("cannot be given others later", "update", "--publish-add", "8083:80", "web")
	d.containr("network", "connect", "two", "web")
	d.refused("its ports lead there", "network", "disconnect", "one", "web")
	d.refused("container web has it", "run", "--rm", "--network", "one", "-p", "8080:80", "base", "true")
	d.refused("the program carries tcp and udp", "run", "--rm", "--network", "one", "--publish-policy", "firewall", "-p", "8084:80/sctp", "base", "true")
	d.refused("use nat or firewall", "run", "--rm", "--network", "one", "--publish-policy", "open", "base", "true")
	d.containr("stop", "-t", "0", "web")
	if text, _, err := dial(d.host, "127.0.0.1:8080", unreachable); err == nil {
		t.Errorf("it has ended, and its port answers %q", text)
	}
	d.containr("rm", "-f", "web", "echo")
	d.containr("network", "rm", "one", "two")
	d.host.Run("nft", "delete", "table", "inet", "own")
	d.finish(before)
}
