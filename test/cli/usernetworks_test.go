package cli_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// hub is the process that holds the user's networks.
func (p *person) hub() int { p.t.Helper(); return p.one("network hold ") }

// hubCarrier is the process that carries the packets of the user's networks.
func (p *person) hubCarrier() int { p.t.Helper(); return p.one("--control ") }

// one finds the process of which there is to be one: the command line says that, and the user's run directory.
func (p *person) one(words string) int {
	p.t.Helper()
	pids := p.processes(words + filepath.Join(p.dir, "run/containr"))
	if len(pids) != 1 {
		p.t.Fatalf("%d processes of the user are \"%s...\", not 1", len(pids), words)
	}
	return pids[0]
}

// processes finds those whose command line has a text in it.
func (p *person) processes(text string) (pids []int) {
	lists, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(p.t, err)
	for _, path := range lists {
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(strings.ReplaceAll(string(b), "\x00", " "), text) {
			pid, err := strconv.Atoi(strings.Split(path, "/")[2])
			must(p.t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

// address is the one of version 4 that a container has in a network.
func (p *person) address(name, network string) string {
	p.t.Helper()
	return p.containr("inspect", "-f", "{{(index .NetworkSettings.Networks \""+network+"\").IPAddress}}", name)
}

// TestNetworksOfUsers: an ordinary user has networks with names. His containers find each other there, are reached by ports, and
// see who comes; what is in another network they do not reach. Nothing of that is seen on the host.
func TestNetworksOfUsers(t *testing.T) {
	p := newPerson(t)
	answerNames(t, p.lan)
	tellCallers(t, p.lan, ":7000")
	tellCallers(t, p.host, "127.0.0.1:7001")
	p.host.Run("ip", "address", "add", "192.0.2.5/24", "dev", "up0")
	before := p.host.State()
	p.containr("network", "create", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64", "front")
	p.containr("network", "create", "--subnet", "10.2.0.0/24", "back")
	p.containr("run", "-d", "--name", "web", "--network", "front", "-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1:8081:80", "-p", "192.0.2.5:8081:81",
		"-p", "[::1]:8083:80", "-p", "[2001:db8::1]:8082:80", "base", "sleep", "1000")
	p.containr("run", "-d", "--name", "data", "--network", "back", "base", "sleep", "1000")
	p.containr("network", "create", "--subnet", "10.3.0.0/24", "--subnet", "fd00:3::/64", "beside")
	p.containr("run", "-d", "--name", "other", "--network", "beside", "base", "sleep", "1000")
	web, data := p.inside("web"), p.inside("data")
	tellCallers(t, web, ":80")
	tellCallers(t, web, ":81")
	tellCallers(t, data, ":80")

	// Neighbours by name, and what is elsewhere by the host's name servers.
	if out := p.containr("run", "--rm", "--network", "front", "base", "sh", "-c", "ping -c 1 web && nslookup somewhere.example"); !strings.Contains(out, "1 sent, 1 answered") || !strings.Contains(out, "192.0.2.55") {
		t.Errorf("a neighbour says %q", out)
	}
	// Out, as the user; and in, as who one is.
	seenAs(t, web, "192.0.2.2:7000", "192.0.2.1")
	seenAs(t, web, "[2001:db8::2]:7000", "2001:db8::1")
	seenAs(t, p.lan, "192.0.2.1:8080", "192.0.2.2")
	if text, _, err := dial(p.lan, "[2001:db8::1]:8080", networkPatience); err != nil || text != "2001:db8::2" {
		t.Errorf("TCP by version 6: seen as %q, %v", text, err)
	}
	for address, want := range map[string]string{"127.0.0.1:8081": "10.0.2.2", "192.0.2.5:8081": "192.0.2.1", "[2001:db8::1]:8082": "2001:db8::1"} {
		if text, _, err := dial(p.host, address, networkPatience); err != nil || text != want {
			t.Errorf("%s: seen as %q, %v; want %q", address, text, err, want)
		}
	}
	if out, err := p.command("network", "doctor", "8080"); err != nil || !strings.Contains(out, "(containr-userne) listens there, for --network front") || strings.Contains(out, "! ") {
		t.Errorf("network doctor: %v, %q", err, out)
	}
	refusedAt(t, p.lan, "192.0.2.1:8081")
	// Not to the host's own, nor to other networks.
	for _, closed := range []string{"10.0.2.2:7001", "127.0.0.1:7001", "10.1.0.1:7001", "10.0.2.100:7001"} {
		refusedAt(t, web, closed)
	}
	p.notReached(web, p.address("data", "back")+":80")
	// A port published at the host's loopback is the host's, also at the address that stands for it.
	if text, _, err := dial(p.host, "[::1]:8083", networkPatience); err != nil {
		t.Errorf("[::1]:8083: %q, %v", text, err)
	}
	for _, closed := range []string{"255.0.0.1:8081", "[fd00:c0a7::8000:0:0:1]:8083"} {
		p.notReached(p.inside("other"), closed)
	}
	p.containr("rm", "-f", "other")
	p.containr("network", "rm", "beside")
	if out, err := p.command("exec", "web", "nslookup", "data"); err == nil && strings.Contains(out, p.address("data", "back")) {
		t.Errorf("a name of another network is known: %q", out)
	}

	// Connected with the other network, and taken out of it again.
	p.containr("network", "connect", "--alias", "store", "back", "web")
	if out := p.containr("exec", "web", "ping", "-c", "1", "data"); !strings.Contains(out, "1 sent, 1 answered") {
		t.Errorf("ping: %q", out)
	}
	if out := p.containr("exec", "data", "ping", "-c", "1", "store"); !strings.Contains(out, "1 sent, 1 answered") {
		t.Errorf("ping: %q", out)
	}
	p.containr("network", "disconnect", "back", "web")
	p.notReached(web, p.address("data", "back")+":80")
	p.containr("network", "connect", "front", "data")
	p.containr("network", "disconnect", "front", "web") // its ports go with it
	if text, _, err := dial(p.lan, "192.0.2.1:8080", unreachable); err == nil {
		t.Errorf("a container in no network is reached: %q", text)
	}
	p.containr("network", "connect", "front", "web")
	seenAs(t, p.lan, "192.0.2.1:8080", "192.0.2.2")

	// Ports come and go.
	p.containr("update", "--publish-add", "8090:80", "web")
	if text, _, err := dial(p.lan, "192.0.2.1:8090", networkPatience); err != nil || text != "192.0.2.2" {
		t.Errorf("a port that was added: seen as %q, %v", text, err)
	}
	if out, err := p.command("run", "--rm", "--network", "back", "-p", "8090:80", "base", "true"); err == nil || !strings.Contains(out, "container web has it") {
		t.Errorf("a port that is taken: %v, %q", err, out)
	}
	p.containr("update", "--publish-rm", "8090:80", "web")
	refusedAt(t, p.lan, "192.0.2.1:8090")
	p.containr("network", "reload", "web")

	if out := p.containr("network", "ls", "--format", "{{.Name}} {{.Driver}}"); out != "back bridge\nfront bridge" {
		t.Errorf("networks: %q", out)
	}
	if out := p.containr("network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", "front"); !strings.Contains(out, "web") {
		t.Errorf("network inspect: %q", out)
	}
	if out, err := p.command("network", "rm", "front"); err == nil || !strings.Contains(out, "in use") {
		t.Errorf("a network with containers: %v, %q", err, out)
	}
	if now := p.host.State(); now != before {
		t.Errorf("the host has now\n%s\nand had before\n%s", now, before)
	}
	p.containr("rm", "-f", "web", "data")
	if out := p.containr("network", "prune", "-f"); !strings.Contains(out, "front") || !strings.Contains(out, "back") {
		t.Errorf("network prune: %q", out)
	}
}

// TestNetworksOfUsersAreRefused in words, where they would be the host's.
func TestNetworksOfUsersAreRefused(t *testing.T) {
	p := newPerson(t)
	p.containr("network", "create", "net")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"that takes root", []string{"network", "create", "--driver", "macvlan", "-o", "parent=eth0", "x"}},
		{"overlap", []string{"network", "create", "--subnet", "10.0.2.0/24", "x"}},
		{"no such network", []string{"run", "--rm", "--network", "nowhere", "base", "true"}},
		{"they do not go together", []string{"run", "--rm", "--network", "builtin", "--network", "nowhere", "base", "true"}},
		{"an ordinary user cannot choose", []string{"run", "--rm", "--network", "bridge", "--ip", "10.1.0.2", "base", "true"}},
		{"create a network, by", []string{"run", "--rm", "--egress", "deny", "base", "true"}},
		{"create a network, by", []string{"run", "--rm", "--network", "builtin", "--egress", "deny", "base", "true"}},
	} {
		if out, err := p.command(c.args...); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%v: %v, %q; want %q", c.args, err, out, c.want)
		}
	}
	if out := p.containr("network", "policy", "ls", "--format", "{{.Name}}"); out != "" {
		t.Errorf("policies of an ordinary user: %q", out)
	}
	p.containr("network", "rm", "net")
}

// TestNetworksOfUsersOutliveWhoHoldsThem: whoever is killed, the containers reach each other, and with the next command that
// needs it there is a way out and in again. When no container is left, nobody holds anything.
func TestNetworksOfUsersOutliveWhoHoldsThem(t *testing.T) {
	p := newPerson(t)
	tellCallers(t, p.lan, ":7000")
	p.containr("network", "create", "net")
	p.containr("run", "-d", "--name", "one", "--network", "net", "-p", "8080:80", "base", "sleep", "1000")
	p.containr("run", "-d", "--name", "two", "--network", "net", "base", "sleep", "1000")
	one, two := p.inside("one"), p.inside("two")
	tellCallers(t, one, ":80")
	address := p.address("one", "net")
	for _, c := range []struct {
		name  string
		whoms func() []int
	}{
		{"who carries", func() []int { return []int{p.hubCarrier()} }},
		{"who holds", func() []int { return []int{p.hub()} }},
		{"all", func() []int {
			return append(p.processes("resolver "+filepath.Join(p.dir, "run/containr")), p.hubCarrier(), p.hub())
		}},
	} {
		for _, pid := range c.whoms() {
			must(t, unix.Kill(pid, unix.SIGKILL))
			p.await(func() bool { // a zombie has no words
				words, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				return err != nil || len(words) == 0
			})
		}
		if text, _, err := dial(two, address+":80", networkPatience); err != nil || text != p.address("two", "net") {
			t.Errorf("%s was killed: the neighbour is %q, %v", c.name, text, err)
		}
		if out := p.containr("run", "--rm", "--network", "net", "base", "ping", "-c", "1", "one"); !strings.Contains(out, "1 sent, 1 answered") {
			t.Errorf("%s was killed: ping says %q", c.name, out)
		}
		seenAs(t, one, "192.0.2.2:7000", "192.0.2.1")
		if text, _, err := dial(p.lan, "192.0.2.1:8080", networkPatience); err != nil || text != "192.0.2.2" {
			t.Errorf("%s was killed: the port's user is seen as %q, %v", c.name, text, err)
		}
	}
	p.containr("rm", "-f", "one", "two")
	p.await(func() bool { return len(p.processes(filepath.Join(p.dir, "run/containr"))) == 0 })
	p.containr("run", "--rm", "--network", "net", "base", "true")
	p.containr("network", "rm", "net")
}

// TestPoliciesOfUsersOutliveWhoHoldsThem: rules are the kernel's. Whoever is killed, they hold, for more containers than one transaction
// has room for; what was refused is counted and told; who follows events does not keep the hub, with which the rules go.
func TestPoliciesOfUsersOutliveWhoHoldsThem(t *testing.T) {
	p := newPerson(t)
	d := p.desk
	d.during("traffic", func() {
		p.labWithPolicies()
		for _, name := range []string{"more1", "more2", "more3"} {
			p.containr("run", "-d", "--name", name, "--network", "lab", "base", "sleep", "1000")
		}
		p.containr("network", "policy", "apply", "lab", d.policy("all", "[[ingress]]\nfrom = [\"name=client\"]\nports = [\"80\"]\n"))
		p.containr("run", "-d", "--name", "open", "--network", "lab", "--ip", "10.1.0.30", "-p", "127.0.0.1:8081:80", "--ingress", "host,port=80", "base", "sleep", "1000")
		d.echoing(p.inside("open"), 80)
		if !echoed(p.host, "tcp", "127.0.0.1:8081", networkPatience) {
			d.t.Error("the host is let in, and does not come")
		}
		if text := p.containr("network", "policy", "show", "lab"); !strings.Contains(text, "ingress 1: host,port=80/tcp: ") {
			d.t.Errorf("policy show: %q", text)
		}
		want := map[string]bool{"client tcp 10.1.0.2:80": true, "other tcp 10.1.0.2:80": false, "client tcp 10.1.0.2:81": false, "other tcp 10.1.0.30:80": false}
		d.flows("before", want)
		p.containr("network", "policy", "ls") // which writes down what was refused by now, and so before the time that events are asked for
		if out := p.containr("events", "--since", "1h", "--until", "0s", "--filter", "event=refused", "--filter", "container=web", "--format", "{{json .}}"); !strings.Contains(out, "10.1.0.4") || !strings.Contains(out, "ingress") {
			d.t.Errorf("what was refused is told as %q", out)
		}
		for _, pid := range append(p.processes("resolver "+filepath.Join(p.dir, "run/containr")), p.hubCarrier(), p.hub()) {
			must(d.t, unix.Kill(pid, unix.SIGKILL))
		}
		d.flows("who holds the networks was killed", want)
		p.containr("run", "--rm", "--network", "lab", "base", "true")
		d.flows("somebody else holds them", want)
		if ingress, _ := d.refusedTo("web"); ingress == 0 {
			d.t.Error("what was refused is not counted")
		}
	})
	var follower *exec.Cmd
	p.host.Do(func() {
		follower = p.prepare("containr", "events", "--filter", "event=refused")
		must(t, follower.Start())
	})
	defer func() {
		must(t, follower.Process.Kill())
		_ = follower.Wait() // killed
	}()
	for _, n := range p.visits {
		n.Leave()
	}
	p.containr("rm", "-f", "web", "client", "other", "more1", "more2", "more3", "open")
	p.await(func() bool { return len(p.processes("network hold "+filepath.Join(p.dir, "run/containr"))) == 0 })
	p.containr("network", "rm", "lab")
}

// TestNetworksOfUsersAreTheirOwn: two users have networks of the same name and addresses. Neither sees the other's, and a
// container finds nobody who lets it ask for what is the user's: not the sockets of who holds the networks, and no address.
func TestNetworksOfUsersAreTheirOwn(t *testing.T) {
	p, q := newPerson(t), (*person)(nil)
	q = &person{desk: &desk{t: t, host: p.host, lan: p.lan}, dir: t.TempDir()}
	for _, name := range []string{"home", "share", "run"} {
		must(t, os.Mkdir(filepath.Join(q.dir, name), 0o700))
		must(t, os.Chown(filepath.Join(q.dir, name), 1001, 1001))
	}
	for dir := q.dir; strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
	for _, name := range []string{"as", "resolv.conf"} {
		b, err := os.ReadFile(filepath.Join(p.dir, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(q.dir, name), b, 0o755))
	}
	q.environment = append(append([]string{}, p.environment...), "PERSON="+q.dir, "PERSON_ID=1001")
	var in []*testkit.NetNS
	for _, who := range []*person{p, q} {
		who.containr("network", "create", "--subnet", "10.1.0.0/24", "net")
		who.containr("run", "-d", "--name", "his", "--network", "net", "base", "sleep", "1000")
		in = append(in, who.inside("his"))
	}
	q.containr("run", "-d", "--name", "more", "--network", "net", "--ip", "10.1.0.77", "base", "sleep", "1000")
	tellCallers(t, q.inside("more"), ":80")
	if text, _, err := dial(in[1], "10.1.0.77:80", networkPatience); err != nil || text != "10.1.0.2" {
		t.Errorf("the user's own container is not reached: %q, %v", text, err)
	}
	p.notReached(in[0], "10.1.0.77:80")
	p.notReached(p.host, "10.1.0.77:80")
	if out, err := p.command("exec", "his", "nslookup", "more"); err == nil && strings.Contains(out, "10.1.0.77") {
		t.Errorf("another user's container is known by name: %q", out)
	}
	// Neither user's processes let the other in.
	hub := strconv.Itoa(p.hub())
	for _, args := range [][]string{{"ls", filepath.Join(p.dir, "run/containr")}, {"nsenter", "--target", hub, "--user", "--net", "true"}, {"ls", "/proc/" + hub + "/fd"}} {
		if out, err := q.execute(args...); err == nil {
			t.Errorf("another user: %v: %q", args, out)
		}
	}
	// An address that is not the container's own leads nowhere: what is sent from it is not answered to somebody else.
	spoofer := in[0]
	spoofer.Run("ip", "address", "add", "192.0.2.77/32", "dev", "eth0")
	tellCallers(t, p.lan, ":7000")
	if text, err := dialFrom(t, spoofer, "192.0.2.77", "192.0.2.2:7000"); err == nil && text != "192.0.2.1" {
		t.Errorf("a container speaks as %q", text)
	}
	p.containr("rm", "-f", "his")
	q.containr("rm", "-f", "his", "more")
	p.containr("network", "rm", "net")
	q.containr("network", "rm", "net")
	if err := q.quiet(); err != nil {
		t.Error(err)
	}
}

// TestNetworksOfUsersWithGrantedIDs: the same with ids that the administrator granted, which are those of the hub.
func TestNetworksOfUsersWithGrantedIDs(t *testing.T) {
	p := newPerson(t)
	for _, name := range []string{"subuid", "subgid"} {
		if _, err := os.Stat("/etc/" + name); err != nil {
			t.Skipf("nothing to mount a list of granted ids on: %v", err)
		}
		must(t, os.WriteFile(filepath.Join(p.dir, name), []byte("1000:300000:65536\n"), 0o644))
	}
	p.containr("network", "create", "net")
	p.containr("run", "-d", "--name", "root", "--network", "net", "base", "sleep", "1000")
	p.containr("run", "-d", "--name", "other", "--network", "net", "--user", "1234:1234", "base", "sleep", "1000")
	for name, want := range map[string]uint32{"root": 1000, "other": 300000 + 1233} {
		var st unix.Stat_t
		must(t, unix.Stat(fmt.Sprintf("/proc/%d", p.pid(name)), &st))
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid(name)))
		must(t, err)
		if !strings.Contains(string(status), fmt.Sprintf("Uid:\t%d\t", want)) {
			t.Errorf("container %s: its processes are not of user %d:\n%s", name, want, status)
		}
	}
	if out := p.containr("exec", "--user", "0", "other", "ping", "-c", "1", "root"); !strings.Contains(out, "1 sent, 1 answered") {
		t.Errorf("ping: %q", out)
	}
	p.containr("rm", "-f", "root", "other")
	p.containr("network", "rm", "net")
}

// dialFrom dials from an address of its own.
func dialFrom(t *testing.T, n *testkit.NetNS, from, to string) (text string, err error) {
	n.Do(func() {
		fd, failed := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err = failed; err != nil {
			return
		}
		defer unix.Close(fd)
		timeout := unix.NsecToTimeval(unreachable.Nanoseconds())
		must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout))
		must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout))
		if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr(from).As4()}); err != nil {
			return
		}
		target := netip.MustParseAddrPort(to)
		if err = unix.Connect(fd, &unix.SockaddrInet4{Addr: target.Addr().As4(), Port: int(target.Port())}); err != nil {
			return
		}
		b := make([]byte, 100)
		var size int
		if size, err = unix.Read(fd, b); err == nil {
			text = string(b[:size])
		}
	})
	return text, err
}
