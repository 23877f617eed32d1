package cli_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/program"
)

// networkPatience is how long a packet may take on a machine that has much else to do.
const networkPatience = 30 * time.Second

// desk is a host with containr on it, and a neighbour on a cable: 192.0.2.1 and 192.0.2.2, 2001:db8::1 and ::2. They know
// of no other machines.
type desk struct {
	t           *testing.T
	host, lan   *testkit.NetNS
	root        string
	environment []string
	visits      []*testkit.NetNS // to containers' namespaces
	// user is who gives the commands, if it is not root; see newPerson.
	user *person
}

func newDesk(t *testing.T) *desk {
	program.Require(t)
	testkit.RequireNft(t)
	testkit.Leftovers(t)
	d := &desk{t: t, host: testkit.NewNetNS(t), lan: testkit.NewNetNS(t), root: filepath.Join(t.TempDir(), "root")}
	d.host.Cable("up0", []string{"192.0.2.1/24", "2001:db8::1/64"}, d.lan, "eth0", []string{"192.0.2.2/24", "2001:db8::2/64"})
	d.environment = append(os.Environ(), program.RootVar+"="+d.root)
	return d
}

// finish checks that everything is as it was before the first network.
func (d *desk) finish(before string) {
	d.t.Helper()
	for _, n := range d.visits {
		n.Leave()
	}
	if d.user != nil {
		if err := d.user.quiet(); err != nil {
			d.t.Error(err)
		}
	} else if err := program.AwaitMonitor(d.root); err != nil {
		d.t.Error(err)
	}
	for _, path := range program.LeftIn(d.root) {
		d.t.Errorf("left in the state root: %s", path)
	}
	if now := d.host.State(); now != before {
		d.t.Errorf("the host has now\n%s\nand had before\n%s", now, before)
	}
}

// command runs containr on the host.
func (d *desk) command(args ...string) (out string, err error) {
	if d.user != nil {
		return d.user.command(args...)
	}
	d.host.Do(func() {
		cmd := exec.Command("containr", args...)
		cmd.Env = d.environment
		var b []byte
		b, err = cmd.CombinedOutput()
		out = string(b)
	})
	return out, err
}

// containr is command that has to succeed; what it prints is returned without the last line's end.
func (d *desk) containr(args ...string) string {
	d.t.Helper()
	out, err := d.command(args...)
	if err != nil {
		d.t.Fatalf("containr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSuffix(out, "\n")
}

// refused is a command that has to fail, with this in its words.
func (d *desk) refused(want string, args ...string) {
	d.t.Helper()
	if out, err := d.command(args...); err == nil || !strings.Contains(out, want) {
		d.t.Errorf("containr %s: error %v, %q; want %q", strings.Join(args, " "), err, out, want)
	}
}

// dial connects from a namespace and returns what it is told, and the own address.
func dial(n *testkit.NetNS, address string, timeout time.Duration) (text, own string, err error) {
	n.Do(func() {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", address, timeout); err != nil {
			return
		}
		defer c.Close()
		own = c.LocalAddr().String()
		var b []byte
		c.SetDeadline(time.Now().Add(timeout))
		b, err = io.ReadAll(c)
		text = string(b)
	})
	return text, own, err
}

// reach dials until it is answered.
func (d *desk) reach(n *testkit.NetNS, address, want string) (own string) {
	d.t.Helper()
	for began := time.Now(); ; {
		text, own, err := dial(n, address, networkPatience)
		if err == nil && text == want {
			return own
		}
		if time.Since(began) > networkPatience {
			d.t.Fatalf("%s: %q, %v; want %q", address, text, err, want)
		}
	}
}

// answered repeats a command until it prints what it is to be told: whoever serves it takes one after the other, and there is a
// moment in between.
func (d *desk) answered(want string, args ...string) {
	d.t.Helper()
	for began := time.Now(); ; {
		out, err := d.command(args...)
		if err == nil && out == want {
			return
		}
		if time.Since(began) > networkPatience {
			d.t.Fatalf("containr %s: %v, %q; want %q", strings.Join(args, " "), err, out, want)
		}
	}
}

// unreachable is how long a packet that nobody lets through is waited for: its like has come through in no time before.
const unreachable = time.Second

func (d *desk) notReached(n *testkit.NetNS, address string) {
	d.t.Helper()
	if text, _, err := dial(n, address, unreachable); err == nil {
		d.t.Errorf("%s can be reached: %q", address, text)
	}
}

// logged waits until a container has written what the pattern describes, and returns it.
func (d *desk) logged(name, pattern string) string {
	d.t.Helper()
	for began := time.Now(); time.Since(began) < networkPatience; {
		if found := regexp.MustCompile(pattern).FindString(d.containr("logs", name)); found != "" {
			return found
		}
	}
	d.t.Fatalf("container %s has not written %s, but\n%s", name, pattern, d.containr("logs", name))
	return ""
}

// serve is a program that greets whoever connects, and says who it was.
func serve(port int, greeting string) []string {
	return []string{"base", "sh", "-c", fmt.Sprintf("while true; do echo %s | nc -v -l -p %d; done", greeting, port)}
}

// Containers reach each other, the host and its neighbours; published ports reach them from everywhere, and keep the
// address of who asks.
func TestPublishedPorts(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64", "front")
	d.containr(append([]string{"run", "-d", "--name", "web", "--network", "front", "--ip", "10.1.0.80", "--ip6", "fd00:1::80",
		"-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "192.0.2.1:8082:80", "-p", "80"}, serve(80, "hello")...)...)
	for _, address := range []string{"127.0.0.1:8080", "127.0.0.1:8081", "192.0.2.1:8080", "192.0.2.1:8082", "10.1.0.80:80", "[2001:db8::1]:8080", "[fd00:1::80]:80"} {
		d.reach(d.host, address, "hello\n")
	}
	random := d.containr("port", "web", "80")
	random = regexp.MustCompile(`0\.0\.0\.0:(\d{4,5})\n\[::\]:\d+$`).FindStringSubmatch(random)[1]
	d.reach(d.lan, "192.0.2.1:"+random, "hello\n")
	for _, address := range []string{"192.0.2.1:8080", "192.0.2.1:8082", "[2001:db8::1]:8080"} {
		own := d.reach(d.lan, address, "hello\n")
		d.logged("web", "connected to "+regexp.QuoteMeta(own))
	}
	// A port at 127.0.0.1 is for the host alone, also if a neighbour sends packets there; so is an address that he guesses.
	d.notReached(d.lan, "192.0.2.1:8081")
	d.lan.Run("ip", "route", "add", "10.1.0.0/24", "via", "192.0.2.1")
	d.notReached(d.lan, "10.1.0.80:80")

	// Other containers, and the one itself, go through the host too.
	d.containr("network", "create", "--subnet", "10.2.0.0/24", "--ipv6=false", "other")
	for _, network := range []string{"front", "other"} {
		d.answered("hello\n", "run", "--rm", "--network", network, "base", "nc", "-w", "30", "192.0.2.1", "8080")
	}
	d.answered("hello\n", "exec", "web", "nc", "-w", "30", "192.0.2.1", "8080")
	// But networks are kept apart.
	if out, err := d.command("run", "--rm", "--network", "other", "base", "nc", "-w", "1", "10.1.0.80", "80"); err == nil {
		t.Errorf("another network's container is reached: %q", out)
	}

	d.containr("rm", "-f", "web")
	if rules := d.host.Run("nft", "list", "map", "inet", "containr", "published4"); strings.Contains(rules, "elements") {
		t.Errorf("the container is gone, its ports are not:\n%s", rules)
	}
	d.containr("network", "rm", "front", "other")
	d.finish(before)
}

// UDP goes both ways.
func TestPublishedUDP(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("run", "-d", "--name", "echo", "--network", "bridge", "-p", "5353:53/udp", "base", "sh", "-c", "echo pong | nc -v -u -l -p 53")
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
		t.Errorf("answer %q", answer)
	}
	d.logged("echo", `connected to 192\.0\.2\.2:`)
	d.containr("rm", "-f", "echo")
	d.containr("network", "rm", "containr")
	d.finish(before)
}

// What leaves has the host's address; an internal network leads nowhere; containers that are kept apart do not see each other.
func TestWayOut(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "out")
	d.containr("network", "create", "--internal", "in")
	d.containr("network", "create", "--icc=false", "--subnet", "10.3.0.0/24", "apart")
	if out, err := d.command("run", "--rm", "--network", "out", "base", "ping", "-c", "1", "-W", "30", "192.0.2.2"); err != nil {
		t.Errorf("the neighbour: %v\n%s", err, out)
	}
	if out, err := d.command("run", "--rm", "--network", "in", "base", "ping", "-c", "1", "-W", "1", "192.0.2.2"); err == nil {
		t.Errorf("the neighbour is reached from an internal network:\n%s", out)
	}
	for neighbour, host := range map[string]string{"192.0.2.2": "192.0.2.1", "2001:db8::2": "2001:db8::1"} {
		if seen := d.seenFrom(neighbour); seen != host {
			t.Errorf("the neighbour at %s sees %s", neighbour, seen)
		}
		if out, err := d.command("run", "--rm", "--network", "in", "base", "nc", "-z", "-w", "1", neighbour, "7000"); err == nil {
			t.Errorf("the neighbour at %s is reached from an internal network:\n%s", neighbour, out)
		}
	}
	d.containr("run", "-d", "--name", "one", "--network", "apart", "base", "sleep", "1000")
	if out, err := d.command("run", "--rm", "--network", "apart", "base", "ping", "-c", "1", "-W", "30", "10.3.0.1"); err != nil {
		t.Errorf("the gateway: %v\n%s", err, out)
	}
	if out, err := d.command("run", "--rm", "--network", "apart", "base", "ping", "-c", "1", "-W", "1", "10.3.0.2"); err == nil {
		t.Errorf("containers that are kept apart see each other:\n%s", out)
	}
	d.containr("rm", "-f", "one")
	d.containr("network", "rm", "out", "in", "apart")
	d.finish(before)
}

// seenFrom has a container in the network out talk to the neighbour, and returns the address that he sees.
func (d *desk) seenFrom(neighbour string) string { return d.seenIn("out", neighbour) }

func (d *desk) seenIn(network, neighbour string) string {
	d.t.Helper()
	var listener net.Listener
	var err error
	d.lan.Do(func() { listener, err = net.Listen("tcp", net.JoinHostPort(neighbour, "7000")) })
	if err != nil {
		d.t.Fatal(err)
	}
	defer listener.Close()
	from := make(chan string, 1)
	go func() {
		seen := ""
		if c, err := listener.Accept(); err == nil {
			seen = c.RemoteAddr().(*net.TCPAddr).IP.String()
			c.Close()
		}
		from <- seen
	}()
	if out, err := d.command("run", "--rm", "--network", network, "base", "nc", "-w", "30", neighbour, "7000"); err != nil {
		d.t.Errorf("the neighbour at %s: %v\n%s", neighbour, err, out)
		listener.Close()
	}
	return <-from
}

// Networks are joined and left while a container runs, and stay so when it is started again.
func TestConnect(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "--subnet", "10.1.0.0/24", "one")
	d.containr("network", "create", "--subnet", "10.2.0.0/24", "two")
	d.containr("run", "-d", "--name", "both", "--network", "one", "--mac-address", "02:00:00:00:00:42", "base", "sleep", "1000")
	d.containr("network", "connect", "--ip", "10.2.0.9", "two", "both")
	d.refused("is in the network already", "network", "connect", "two", "both")
	d.refused("the network is in use", "network", "rm", "two")
	addresses := func() string { return d.containr("exec", "both", "ip", "address") }
	for range 2 {
		for _, want := range []string{"10.1.0.2/24", "10.2.0.9/24", "02:00:00:00:00:42", "eth1"} {
			if out := addresses(); !strings.Contains(out, want) {
				t.Errorf("%s is not among\n%s", want, out)
			}
		}
		if out, err := d.command("run", "--rm", "--network", "two", "base", "ping", "-c", "1", "-W", "30", "10.2.0.9"); err != nil {
			t.Errorf("the new address: %v\n%s", err, out)
		}
		d.containr("restart", "-t", "0", "both")
	}
	d.containr("network", "disconnect", "two", "both")
	d.refused("is not in the network", "network", "disconnect", "two", "both")
	if out := addresses(); strings.Contains(out, "10.2.0.9") {
		t.Errorf("it has left network two, and still has\n%s", out)
	}
	// Another one is in its network: the same devices, the same files.
	out := d.containr("run", "--rm", "--network", "container:both", "base", "sh", "-c", "ip address; cat /etc/hosts")
	if strings.Count(out, "10.1.0.2") != 2 {
		t.Errorf("in the network of both there is\n%s", out)
	}
	pid := d.containr("inspect", "-f", "{{.State.Pid}}", "both")
	if out := d.containr("run", "--rm", "--network", "ns:/proc/"+pid+"/ns/net", "base", "ip", "address"); !strings.Contains(out, "10.1.0.2") {
		t.Errorf("in the network at a path there is\n%s", out)
	}
	d.containr("rm", "-f", "both")
	d.containr("network", "prune", "-f")
	d.finish(before)
}

// Bad wishes are refused in words, and cost nothing.
func TestNetworksInWords(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "--subnet", "10.1.0.0/24", "front")
	d.refused("network front has 10.1.0.0/24", "network", "create", "--subnet", "10.1.0.0/16", "more")
	d.refused("the host has a route to 192.0.2.0/24", "network", "create", "--subnet", "192.0.2.0/25", "more")
	d.refused("there are bridge, macvlan, ipvlan", "network", "create", "-d", "overlay", "more")
	d.refused("did you mean front?", "run", "--rm", "--network", "frnt", "base", "true")
	d.refused("it is the gateway's", "run", "--rm", "--network", "front", "--ip", "10.1.0.1", "base", "true")
	d.refused("no network to reach the port through", "run", "--rm", "--network", "none", "-p", "80", "base", "true")
	d.containr("run", "-d", "--name", "web", "--network", "front", "--ip", "10.1.0.2", "-p", "8080:80", "base", "sleep", "1000")
	d.refused("container web has it", "run", "--rm", "--network", "front", "-p", "127.0.0.1:8080:80", "base", "true")
	d.refused("container "+d.containr("inspect", "-f", "{{.Id}}", "web")[:12]+" has it", "run", "--rm", "--network", "front", "--ip", "10.1.0.2", "base", "true")
	var listener net.Listener
	var err error
	d.host.Do(func() { listener, err = net.Listen("tcp", "127.0.0.1:8090") })
	if err != nil {
		t.Fatal(err)
	}
	d.refused("process "+strconv.Itoa(os.Getpid())+" (", "run", "--rm", "--network", "front", "-p", "8090:80", "base", "true")
	listener.Close()
	d.containr("run", "--rm", "--network", "front", "-p", "8090:80", "base", "true")
	d.containr("rm", "-f", "web")
	d.containr("network", "rm", "front")
	d.finish(before)
}

// Whoever is killed: the next command takes away what the container had on the host.
func TestKilledContainersLeaveNoNetwork(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "front")
	d.containr("run", "--rm", "--network", "front", "base", "true")
	quiet := d.host.State()
	d.containr("run", "-d", "--name", "web", "--network", "front", "-p", "8080:80", "-p", "127.0.0.1:53:53/udp", "base", "sleep", "1000")
	if d.host.State() == quiet {
		t.Fatal("a container with ports has changed nothing")
	}
	pid, err := strconv.Atoi(d.containr("inspect", "-f", "{{.State.Pid}}", "web"))
	if err != nil {
		t.Fatal(err)
	}
	keeper := testkit.Status(t, pid).PPID
	for _, p := range []int{monitorOf(t, d.root), keeper, pid} {
		if err := unix.Kill(p, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	awaitEnd(t, pid)
	d.containr("ps")
	if now := d.host.State(); now != quiet {
		t.Errorf("after a kill the host has\n%s\nand had before\n%s", now, quiet)
	}
	d.containr("rm", "web")
	for _, n := range leases(t, d.root, "front") {
		t.Errorf("the address %s is still taken", n)
	}
	d.containr("network", "rm", "front")
	d.finish(before)
}

func leases(t *testing.T, root, network string) []netip.Addr {
	entries, err := os.ReadDir(filepath.Join(root, "networks", network, "leases"))
	if err != nil {
		t.Fatal(err)
	}
	var list []netip.Addr
	for _, e := range entries {
		list = append(list, netip.MustParseAddr(e.Name()))
	}
	return list
}

// awaitEnd waits until a process has ended.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ctx, cancel := context.WithTimeout(context.Background(), networkPatience)
	defer cancel()
	for ctx.Err() == nil {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000); err == nil && n == 1 {
			return
		}
	}
	t.Fatalf("process %d does not end", pid)
}
