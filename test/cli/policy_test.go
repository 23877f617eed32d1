package cli_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/network/bridge"
)

// echoing has a program in a network namespace answer at a port of TCP and UDP, with what it is told, until the test ends.
func (d *desk) echoing(n *testkit.NetNS, port int) {
	d.t.Helper()
	var l net.Listener
	var c net.PacketConn
	var err, packetErr error
	n.Do(func() {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		c, packetErr = net.ListenPacket("udp", fmt.Sprintf(":%d", port))
	})
	if err != nil || packetErr != nil {
		d.t.Fatal(err, packetErr)
	}
	var mu sync.Mutex
	var open []net.Conn
	d.t.Cleanup(func() {
		l.Close()
		c.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, conn := range open {
			conn.Close()
		}
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.(*net.TCPConn).SetLinger(0) // what waits for a last answer keeps the network namespace
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			go func() {
				defer conn.Close()
				for b := make([]byte, 512); ; {
					n, err := conn.Read(b)
					if err == nil {
						_, err = conn.Write(b[:n])
					}
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	go func() {
		for b := make([]byte, 4096); ; {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(b[:n], from)
		}
	}()
}

// echoed reports whether what is sent to an address comes back. Packets of UDP are sent again until then, as one may get lost.
func echoed(n *testkit.NetNS, network, address string, patience time.Duration) bool {
	for began := time.Now(); ; {
		var c net.Conn
		var err error
		n.Do(func() { c, err = net.DialTimeout(network, address, patience) })
		if err == nil {
			wait := patience
			if network == "udp" {
				wait = min(patience, time.Second)
			}
			if tcp, ok := c.(*net.TCPConn); ok {
				tcp.SetLinger(0)
			}
			c.SetDeadline(time.Now().Add(wait))
			b := make([]byte, 4)
			if _, err = c.Write([]byte("ping")); err == nil {
				_, err = io.ReadFull(c, b)
			}
			c.Close()
			if err == nil && string(b) == "ping" {
				return true
			}
		}
		if time.Since(began) >= patience {
			return false
		}
	}
}

// pinged6 reports whether an address of version 6 of IP echoes.
func pinged6(n *testkit.NetNS, address string, patience time.Duration) bool {
	const request, reply = 128, 129
	var c net.PacketConn
	var err error
	n.Do(func() { c, err = net.ListenPacket("ip6:ipv6-icmp", "::") })
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.WriteTo([]byte{request, 0, 0, 0, 7, 7, 0, 1}, &net.IPAddr{IP: net.ParseIP(address)}); err != nil {
		return false
	}
	for b := make([]byte, 512); ; {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return false
		}
		if n >= 8 && b[0] == reply && from.String() == address {
			return true
		}
	}
}

// flows checks who gets through: from the name of a container, "host" or "lan", to an address, by tcp or udp.
func (d *desk) flows(when string, list map[string]bool) {
	d.t.Helper()
	for words, want := range list {
		f := strings.Fields(words)
		from := map[string]*testkit.NetNS{"host": d.host, "lan": d.lan}[f[0]]
		if f[0] == "host" && d.user != nil {
			continue // no route of the host's leads to containers of an ordinary user
		}
		if from == nil {
			from = d.inside(f[0])
		}
		patience := unreachable
		if want {
			patience = networkPatience
		}
		if f[1] == "ping" {
			if strings.Contains(f[2], ":") {
				if got := pinged6(from, f[2], patience); got != want {
					d.t.Errorf("%s, %s: %v; want %v", when, words, got, want)
				}
				continue
			}
			out, err := d.command("exec", f[0], "ping", "-c", "1", "-W", fmt.Sprint(int(patience/time.Second)), f[2])
			if (err == nil) != want {
				d.t.Errorf("%s, %s: %v; want %v\n%s", when, words, err == nil, want, out)
			}
			continue
		}
		if got := echoed(from, f[1], f[2], patience); got != want {
			d.t.Errorf("%s, %s: %v; want %v", when, words, got, want)
		}
	}
}

// policyTables are the tables of policies, beside the one of all bridges.
func (d *desk) policyTables() string {
	d.t.Helper()
	return d.rulesPlace().Run("sh", "-c", "nft list tables bridge | grep containr- || :")
}

// rulesPlace is where the rules for containers are: the host, or the hub of an ordinary user.
func (d *desk) rulesPlace() *testkit.NetNS {
	d.t.Helper()
	if d.user == nil {
		return d.host
	}
	hub := testkit.NetNSOf(d.t, d.user.hub())
	d.visits = append(d.visits, hub)
	return hub
}

// during runs a part of a test, which lets go of the containers' network namespaces at its end: a cable stays as long as they do.
func (d *desk) during(name string, f func()) {
	t := d.t
	t.Run(name, func(part *testing.T) {
		d.t = part
		defer func() { d.t = t }()
		f()
	})
}

// policy writes a file of a policy.
func (d *desk) policy(name, text string) string {
	dir, mode := d.t.TempDir(), os.FileMode(0o600)
	if d.user != nil {
		var err error
		if dir, err = os.MkdirTemp(d.user.dir, "policy"); err == nil { // the one of the test is closed to him
			err = os.Chmod(dir, 0o755)
		}
		must(d.t, err)
		mode = 0o644
	}
	path := filepath.Join(dir, name+".toml")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// labWithPolicies is a network with three containers, web, client and other, of which web answers at 80 and 81.
func (d *desk) labWithPolicies(flags ...string) {
	d.t.Helper()
	d.containr(append(append([]string{"network", "create", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64"}, flags...), "lab")...)
	for i, name := range []string{"web", "client", "other"} {
		d.containr("run", "-d", "--name", name, "--network", "lab", "--label", "is="+name, "--ip", fmt.Sprint("10.1.0.", i+2), "--ip6", fmt.Sprint("fd00:1::", i+2), "base", "sleep", "1000")
	}
	web := d.inside("web")
	d.echoing(web, 80)
	d.echoing(web, 81)
}

func allFlows(from string, want bool) map[string]bool {
	list := map[string]bool{}
	for _, how := range []string{"tcp 10.1.0.2:80", "tcp [fd00:1::2]:80", "udp 10.1.0.2:80", "udp [fd00:1::2]:80"} {
		list[from+" "+how] = want
	}
	if from != "host" && from != "lan" {
		list[from+" ping 10.1.0.2"], list[from+" ping fd00:1::2"] = want, want
	}
	return list
}

func merged(list ...map[string]bool) map[string]bool {
	all := map[string]bool{}
	for _, m := range list {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

// What a policy names gets through, of TCP, UDP, ICMP and both versions of IP; what it does not is refused, and gets through again without it.
func TestPolicyOfANetwork(t *testing.T) {
	newDesk(t).policyOfANetwork()
}

func TestPolicyOfAUsersNetwork(t *testing.T) {
	newPerson(t).policyOfANetwork()
}

func (d *desk) policyOfANetwork() {
	d.bridgedSeenByIP(false)
	before := d.host.State()
	d.during("traffic", func() {
		t := d.t
		d.labWithPolicies()
		free := merged(allFlows("client", true), allFlows("other", true), allFlows("host", true))
		d.flows("without a policy", free)

		d.containr("network", "policy", "apply", "lab", d.policy("web", "select = [\"name=web\"]\n[[ingress]]\nfrom = [\"label=is=client\"]\n"))
		d.flows("with a label", merged(allFlows("client", true), allFlows("other", false), allFlows("host", false),
			map[string]bool{"web ping 10.1.0.4": true, "web ping fd00:1::4": true, "web ping 10.1.0.1": true})) // what it sends is free, and answered
		rules := d.policyTables()

		d.containr("network", "policy", "apply", "lab", d.policy("web", "select = [\"label=is=web\"]\n[[ingress]]\nfrom = [\"name=cl*\"]\nports = [\"80\"]\n[[ingress]]\nfrom = [\"cidr=10.1.0.4\"]\nports = [\"icmp\"]\n"+
			"[[ingress]]\nfrom = [\"host\"]\nports = [\"80-81/udp\"]\n"))
		d.flows("with ports", map[string]bool{"client tcp 10.1.0.2:80": true, "client tcp [fd00:1::2]:80": true, "client tcp 10.1.0.2:81": false, "client udp 10.1.0.2:80": false, "client ping 10.1.0.2": false,
			"other ping 10.1.0.2": true, "other ping fd00:1::2": false, "other tcp 10.1.0.2:80": false, "host udp 10.1.0.2:81": true, "host udp [fd00:1::2]:80": true, "host tcp 10.1.0.2:80": false})

		d.containr("network", "policy", "apply", "lab", d.policy("web", "select = [\"name=web\"]\ningress = []\n"))
		d.flows("with an empty list", merged(allFlows("client", false), allFlows("host", false)))
		d.containr("network", "policy", "apply", "lab", d.policy("more", "ingress = [{from = [\"name=client\"]}]\n"))
		d.flows("with another policy beside", merged(allFlows("client", true), allFlows("other", false)))
		d.containr("network", "policy", "rm", "lab", "more")
		d.flows("without it", allFlows("client", false))

		d.containr("network", "policy", "rm", "lab", "web")
		d.flows("without a policy again", free)
		if now := d.policyTables(); now != "" || rules == "" {
			t.Errorf("tables with a policy: %q; when the last one has gone: %q", rules, now)
		}
	})
	d.containr("rm", "-f", "web", "client", "other")
	d.containr("network", "rm", "lab")
	d.finish(before)
}

// bridgedSeenByIP has what the switch passes on be seen by the rules for IP, too, if br_netfilter is there, or not.
func (d *desk) bridgedSeenByIP(yes bool) {
	d.host.Run("sh", "-ec", "for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do if [ -e $f ]; then echo "+map[bool]string{true: "1", false: "0"}[yes]+" > $f; fi; done")
}

// A container's own policy holds from its first moment, live and after a reload, whoever starts and stops; it goes with the container.
func TestPolicyOfAContainer(t *testing.T) {
	newDesk(t).policyOfAContainer()
}

func TestPolicyOfAUsersContainer(t *testing.T) {
	newPerson(t).policyOfAContainer()
}

func (d *desk) policyOfAContainer() {
	d.bridgedSeenByIP(true)
	before := d.host.State()
	d.during("traffic", func() {
		d.labWithPolicies()
		d.echoing(d.host, 90)
		d.echoing(d.lan, 90)
		d.lan.Run("ip", "-6", "route", "add", "default", "via", "2001:db8::1")
		// The program itself tries, at once.
		d.containr("run", "--name", "caged", "--network", "lab", "--egress", "deny", "base", "sh", "-c", "for i in 1 2 3; do ping -c 1 -W 1 10.1.0.2 && exit 1; done; exit 0")
		d.containr("rm", "caged")
		d.containr("run", "-d", "--name", "caged", "--network", "lab", "--ip", "10.1.0.9", "--ip6", "fd00:1::9", "-p", "8080:80",
			"--egress", "name=web,port=80", "--egress", "cidr=192.0.2.0/24,except=192.0.2.1,port=90,port=90/udp", "--egress", "name=late", "--ingress", "cidr=192.0.2.2,port=80", "base", "sleep", "1000")
		d.echoing(d.inside("caged"), 80)
		want := map[string]bool{"caged tcp 10.1.0.2:80": true, "caged tcp [fd00:1::2]:80": true, "caged tcp 10.1.0.2:81": false, "caged udp 10.1.0.2:80": false,
			"caged tcp 192.0.2.2:90": true, "caged udp 192.0.2.2:90": true, "caged tcp 192.0.2.1:90": false, "caged tcp 10.1.0.1:90": false, "caged tcp [2001:db8::2]:90": false,
			"lan tcp 192.0.2.1:8080": true, "host tcp 10.1.0.9:80": false, "client tcp 10.1.0.9:80": false, "client tcp 10.1.0.2:81": true}
		d.flows("by flags", want)
		if got := d.containr("network", "policy", "ls", "--format", "{{.Network}} {{.Containers}} {{.Ingress}} {{.Egress}} {{if .Passed}}passed{{end}} {{if .Refused}}refused{{end}}", "lab"); !strings.Contains(got, "lab caged 1 rule 3 rules passed refused") {
			d.t.Errorf("policy ls says nothing of the flags: %q", got)
		}
		if got := d.containr("network", "policy", "show", "lab"); !strings.Contains(got, "for container caged alone, in all its networks: caged\n") || !strings.Contains(got, "egress 3: ") {
			d.t.Errorf("policy show says nothing of the flags: %q", got)
		}
		d.rulesPlace().Run("nft", "flush", "ruleset")
		d.flows("when somebody has thrown it away", map[string]bool{"caged tcp 10.1.0.2:81": true})
		d.containr("network", "reload", "--all")
		d.flows("after a reload", want)

		// Who comes later is found, and who gets another name.
		d.containr("run", "-d", "--name", "late", "--network", "lab", "--ip", "10.1.0.20", "base", "sleep", "1000")
		d.echoing(d.inside("late"), 80)
		d.flows("who comes later", map[string]bool{"caged tcp 10.1.0.20:80": true})
		d.containr("rename", "late", "others")
		d.flows("by another name", map[string]bool{"caged tcp 10.1.0.20:80": false})
		d.containr("rename", "client", "late")
		d.echoing(d.inside("late"), 80)
		d.flows("who has the name now", map[string]bool{"caged tcp 10.1.0.3:80": true})
		d.containr("restart", "-t", "0", "caged")
		d.flows("after a restart", map[string]bool{"caged tcp 10.1.0.3:80": true, "caged tcp 10.1.0.2:81": false})
	})
	d.containr("rm", "-f", "caged")
	if now := d.policyTables(); now != "" {
		d.t.Errorf("the container is gone, its rules are not: %s", now)
	}
	d.containr("rm", "-f", "web", "late", "other", "others")
	d.containr("network", "rm", "lab")
	d.finish(before)
}

// A policy holds for connections that exist, in both directions.
func TestPolicyAndConnectionsThatExist(t *testing.T) {
	newDesk(t).policyAndConnectionsThatExist()
}

func TestPolicyOfAUserAndConnectionsThatExist(t *testing.T) {
	newPerson(t).policyAndConnectionsThatExist()
}

func (d *desk) policyAndConnectionsThatExist() {
	t := d.t
	d.labWithPolicies()
	var c net.Conn
	var err error
	d.inside("client").Do(func() { c, err = net.DialTimeout("tcp", "10.1.0.2:80", networkPatience) })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answers := func(patience time.Duration) bool {
		c.SetDeadline(time.Now().Add(patience))
		b := make([]byte, 4)
		_, err := c.Write([]byte("ping"))
		if err == nil {
			_, err = io.ReadFull(c, b)
		}
		return err == nil
	}
	allow := d.policy("web", "select = [\"name=web\"]\n[[ingress]]\nfrom = [\"name=client\"]\n")
	for _, step := range []struct {
		what string
		do   []string
		want bool
	}{{"before", nil, true}, {"allowed", []string{"apply", "lab", allow}, true}, {"one more starts", nil, true},
		{"refused", []string{"apply", "lab", d.policy("web", "select = [\"name=web\"]\ningress = []\n")}, false}} {
		if step.do != nil {
			d.containr(append([]string{"network", "policy"}, step.do...)...)
		} else {
			d.containr("run", "--rm", "--network", "lab", "base", "true")
		}
		if got := answers(map[bool]time.Duration{true: networkPatience, false: unreachable}[step.want]); got != step.want {
			t.Errorf("%s: the connection goes on: %v; want %v", step.what, got, step.want)
		}
	}
	d.containr("rm", "-f", "web", "client", "other")
	d.containr("network", "rm", "lab")
}

// Whatever address a container makes up, it is who it is.
func TestPolicyAndMadeUpAddresses(t *testing.T) {
	newDesk(t).policyAndMadeUpAddresses()
}

func TestPolicyOfAUserAndMadeUpAddresses(t *testing.T) {
	newPerson(t).policyAndMadeUpAddresses()
}

func (d *desk) policyAndMadeUpAddresses() {
	t := d.t
	d.labWithPolicies()
	web, other := d.inside("web"), d.inside("other")
	var c net.PacketConn
	var err error
	web.Do(func() { c, err = net.ListenPacket("udp4", ":9000") })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	arrives := func(source string, patience time.Duration) bool {
		mac := net.HardwareAddr(bridge.MAC(netip.MustParseAddr("10.1.0.2")))
		if err := sendFrame(other, mac, netip.MustParseAddr(source), netip.MustParseAddr("10.1.0.2"), 9000, source); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 512)
		n, _, err := c.ReadFrom(b)
		return err == nil && string(b[:n]) == source
	}
	// Every bridge refuses addresses of its networks that are not the sender's; those of nobody here are let through, but with policies.
	const abroad = "192.0.2.9"
	if !arrives(abroad, networkPatience) {
		t.Error("without a policy a packet from an address of nobody here does not arrive")
	}
	d.containr("network", "policy", "apply", "lab", d.policy("web", "select = [\"name=web\"]\n[[ingress]]\nfrom = [\"name=client\", \"cidr=192.0.2.0/24\", \"cidr=10.1.0.0/28\"]\nexcept = [\"10.1.0.4\"]\n"))
	for _, source := range []string{abroad, "10.1.0.3", "10.1.0.4", "10.1.0.1", "10.1.0.7"} {
		if arrives(source, unreachable) {
			t.Errorf("a packet from %s, which the sender has made up or may not use, arrives", source)
		}
	}
	d.flows("the one who is named", map[string]bool{"client udp 10.1.0.2:80": true, "other udp 10.1.0.2:80": false})
	d.containr("rm", "-f", "web", "client", "other")
	d.containr("network", "rm", "lab")
}

// What cannot be is said in words, and changes nothing.
func TestPoliciesThatCannotBe(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "--ipv6=false", "--subnet", "10.1.0.0/24", "lab")
	for text, want := range map[string]string{
		"": "neither ingress nor egress", "ingress = [{form = [\"host\"]}]": "ingress.form: keys are", "ingress = 3": "web.toml:", "[[ingress]]\nfrom = [\"nam=x\"]": "ingress rule 1: \"nam=x\": peers are",
		"[[ingress]]\nports = [\"80-70\"]": "ends before it begins", "[[egress]]\nto = [\"cidr=10.0.0.1/8\"]": "10.0.0.0/8 is meant", "[[egress]]\nto = [\"dns=a..example\"]": "use a name such as",
		"[[egress]]\nto = [\"cidr=10.0.0.0/8\"]\nexcept = [\"10.0.0.0/8\"]": "can never apply", "select = [\"host\"]\ningress = []": "selected by name= and label=",
	} {
		d.refused(want, "network", "policy", "apply", "lab", d.policy("web", text))
	}
	d.refused("no such network", "network", "policy", "apply", "nosuch", d.policy("web", "ingress = []"))
	d.refused("no such policy", "network", "policy", "rm", "lab", "web")
	d.refused("no such policy", "network", "policy", "show", "lab", "web")
	d.refused("cannot be used with --network none", "run", "--rm", "--network", "none", "--egress", "deny", "base", "true")
	d.refused("1 to 65535", "run", "--rm", "--network", "lab", "--ingress", "port=x", "base", "true")
	d.refused("use a name such as", "run", "--rm", "--network", "lab", "--egress", "dns=a..example", "base", "true")
	d.refused("select is for policies of networks", "run", "--rm", "--network", "lab", "--policy", d.policy("p", "select = [\"name=x\"]\ningress = []"), "base", "true")
	if got := d.containr("network", "policy", "ls", "--format", "{{.Name}}"); got != "" {
		t.Errorf("there are policies: %s", got)
	}
	d.containr("network", "rm", "lab")
	d.finish(before)
}
