package cli_test

import (
	"strings"
	"testing"
)

// Ports come and go while a container runs, stay so when it is started again, and leave nothing.
func TestPortsOfRunningContainers(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "one")
	d.containr(append([]string{"run", "-d", "--name", "web", "--network", "one"}, serve(80, "hello")...)...)
	quiet := d.host.State()
	d.containr("update", "--publish-add", "8080:80", "web")
	d.reach(d.lan, "192.0.2.1:8080", "hello\n")
	d.refused("container web has it", "update", "--publish-add", "127.0.0.1:8080:80", "web")
	d.containr("update", "--publish-add", "8081:80", "--publish-rm", "8080:80", "web")
	d.reach(d.lan, "192.0.2.1:8081", "hello\n")
	d.notReached(d.lan, "192.0.2.1:8080")
	d.refused("the port is not published", "update", "--publish-rm", "8080:80", "web")
	d.containr("restart", "-t", "0", "web")
	d.reach(d.lan, "192.0.2.1:8081", "hello\n")
	if out := d.containr("port", "web"); out != "80/tcp -> 0.0.0.0:8081\n80/tcp -> [::]:8081" {
		t.Errorf("ports: %q", out)
	}
	for range 10 {
		d.containr("update", "--publish-add", "8082:80", "web")
		d.containr("update", "--publish-rm", "8082:80", "web")
	}
	d.containr("update", "--publish-rm", "80", "web")
	if now := d.host.State(); now != quiet {
		t.Errorf("the host has now\n%s\nand had before\n%s", now, quiet)
	}
	d.containr("rm", "-f", "web")
	d.containr("network", "rm", "one")
	d.finish(before)
}

// What is in the way of a port is found, and what helps is said.
func TestNetworkDoctor(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "-o", "com.docker.network.bridge.name=one0", "one")
	d.refused("! no container publishes it\n    containr update --publish-add 8080:PORT/tcp", "network", "doctor", "8080")
	d.refused("is not a port", "network", "doctor", "web")
	d.containr(append([]string{"run", "-d", "--name", "web", "--network", "one", "-p", "8080:80", "-p", "8081:81"}, serve(80, "hello")...)...)
	d.reach(d.lan, "192.0.2.1:8080", "hello\n")
	for out, err := d.command("network", "doctor", "8080"); ; out, err = d.command("network", "doctor", "8080") { // nc listens anew after each
		if err == nil && strings.Contains(out, "listens at 80/tcp") {
			break
		}
		if !strings.Contains(out, "nobody in the container listens") {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	d.refused("! nobody in the container listens at 81/tcp", "network", "doctor", "8081")
	d.host.Run("nft", "delete", "element", "inet", "containr", "published4", "{ tcp . 8080 }")
	d.refused("is gone\n    containr network reload web", "network", "doctor", "8080/tcp")
	d.containr("network", "reload", "web")
	d.containr("run", "-d", "--name", "shut", "--network", "one", "-p", "8082:82", "--ingress", "deny", "base", "sleep", "1000")
	d.refused("! policy flags of container shut lets nothing in for its port 82/tcp, in network one\n    containr network policy show one\n", "network", "doctor", "8082")
	d.containr("rm", "-f", "shut")
	d.containr("run", "-d", "--name", "ajar", "--network", "one", "-p", "8083:83", "--ingress", "cidr=192.0.2.0/24,port=83", "base", "sleep", "1000")
	d.refused("? policy flags of container ajar lets only some in for its port 83/tcp", "network", "doctor", "8083")
	d.containr("rm", "-f", "ajar")
	d.host.Run("nft", "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
	out, _ := d.command("network", "doctor", "8080")
	for _, want := range []string{"? chain FORWARD of table ip filter drops", "    nft insert rule ip filter FORWARD iifname one0 accept\n", "    nft insert rule ip filter FORWARD oifname one0 accept\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	// And what is said helps.
	d.notReached(d.lan, "192.0.2.1:8080")
	for _, direction := range []string{"iifname", "oifname"} {
		d.host.Run("nft", "insert", "rule", "ip", "filter", "FORWARD", direction, "one0", "accept")
	}
	d.reach(d.lan, "192.0.2.1:8080", "hello\n")
	d.host.Run("nft", "delete", "table", "ip", "filter")
	d.host.Run("sysctl", "-qw", "net.ipv4.ip_forward=0")
	d.refused("! the host passes no packets on", "network", "doctor", "8080")
	d.containr("stop", "-t", "0", "web")
	d.refused("! the container does not run\n    containr start web", "network", "doctor", "8080")
	d.containr("rm", "web")
	d.containr("network", "rm", "one")
	d.finish(before)
}
