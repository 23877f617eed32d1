package cli_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// atOnce runs commands at the same moment, and counts those that succeed.
func (d *desk) atOnce(commands ...[]string) (succeeded int, said string) {
	outs, errs := make([]string, len(commands)), make([]error, len(commands))
	var all sync.WaitGroup
	for i, args := range commands {
		all.Go(func() { outs[i], errs[i] = d.apart(args...) })
	}
	all.Wait()
	for _, err := range errs {
		if err == nil {
			succeeded++
		}
	}
	return succeeded, strings.Join(outs, "")
}

// apart is command that does not keep others from being given meanwhile.
func (d *desk) apart(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.Command("containr", args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = d.environment, &out, &out
	var err error
	d.host.Do(func() { err = cmd.Start() })
	if err == nil {
		err = cmd.Wait()
	}
	return out.String(), err
}

// without is command on a kernel that has nothing below a directory.
func (d *desk) without(dir string, args ...string) (out string, err error) {
	d.host.Do(func() {
		cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-ec", `mount -t tmpfs none "$0"; exec containr "$@"`, dir}, args...)...)
		cmd.Env = d.environment
		var b []byte
		b, err = cmd.CombinedOutput()
		out = string(b)
	})
	return out, err
}

// Who connects a container with several networks at once gets all of them, with a device and an address each; one network is joined
// once, and a port published once, and neither is lost by who comes too late.
func TestConnectedAtOnce(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr(append([]string{"run", "-d", "--name", "web", "--network", "bridge"}, serve(80, "hello")...)...)
	const count = 8
	var connect, leave [][]string
	names := []string{"network", "rm"}
	for i := range count {
		name := fmt.Sprintf("n%d", i)
		d.containr("network", "create", "--ipv6=false", "--subnet", fmt.Sprintf("10.%d.0.0/24", i+1), name)
		connect, leave = append(connect, []string{"network", "connect", name, "web"}), append(leave, []string{"network", "disconnect", name, "web"})
		names = append(names, name)
	}
	if n, out := d.atOnce(connect...); n != count {
		t.Errorf("%d of %d networks were joined:\n%s", n, count, out)
	}
	out := d.containr("exec", "web", "ip", "address")
	for i := range count {
		if want := netip.AddrFrom4([4]byte{10, byte(i + 1), 0, 2}).String() + "/24"; !strings.Contains(out, want) {
			t.Errorf("%s is not among\n%s", want, out)
		}
		if answer, err := d.command("run", "--rm", "--network", fmt.Sprintf("n%d", i), "base", "ping", "-c", "1", "-W", "30", fmt.Sprintf("10.%d.0.2", i+1)); err != nil {
			t.Errorf("network n%d: %v\n%s", i, err, answer)
		}
	}
	if n, out := d.atOnce(leave...); n != count {
		t.Errorf("%d of %d networks were left:\n%s", n, count, out)
	}
	var same, publish [][]string
	for range 4 {
		same = append(same, []string{"network", "connect", "n0", "web"})
		publish = append(publish, []string{"update", "--publish-add", "8080:80", "web"})
	}
	if n, out := d.atOnce(same...); n != 1 || strings.Count(out, "is in the network already") != 3 {
		t.Errorf("one network was joined %d times:\n%s", n, out)
	}
	if out := d.containr("exec", "web", "ip", "address"); strings.Count(out, "10.1.0.2/24") != 1 {
		t.Errorf("in network n0 it has\n%s", out)
	}
	if n, out := d.atOnce(publish...); n != 1 || strings.Count(out, "container web has it") != 3 {
		t.Errorf("one port was published %d times:\n%s", n, out)
	}
	d.reach(d.lan, "192.0.2.1:8080", "hello\n")
	d.containr("rm", "-f", "web")
	d.containr(names...)
	d.containr("network", "prune", "-f")
	d.containr("network", "rm", "bridge")
	d.finish(before)
}

// A device has one name in a container: names that are asked for are not given to others, and not twice.
func TestNamesOfDevices(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	for i, name := range []string{"one", "two", "three"} {
		d.containr("network", "create", "--ipv6=false", "--subnet", fmt.Sprintf("10.%d.0.0/24", i+1), name)
	}
	d.refused("network two: interface lan0 is that of network one", "run", "--rm", "--network", "name=one,interface=lan0", "--network", "name=two,interface=lan0", "base", "true")
	d.containr("run", "-d", "--name", "web", "--network", "name=one,interface=eth1", "--network", "two", "base", "sleep", "1000")
	d.containr("network", "connect", "three", "web")
	for range 2 {
		web := d.inside("web")
		out := web.Run("ip", "-o", "-4", "address")
		web.Leave()
		for device, address := range map[string]string{"eth1": "10.1.0.2", "eth0": "10.2.0.2", "eth2": "10.3.0.2"} {
			if !strings.Contains(out, device+"    inet "+address) {
				t.Errorf("%s does not have %s:\n%s", device, address, out)
			}
		}
		d.containr("restart", "-t", "0", "web")
	}
	d.containr("rm", "-f", "web")
	d.containr("network", "rm", "one", "two", "three")
	d.finish(before)
}

// What is known by the name of the default network is there before anybody was in it. What plugins have made is not made again here.
func TestDefaultNetworkIsThere(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	if out := d.containr("network", "inspect", "-f", "{{.Name}}", "bridge"); out != "containr" {
		t.Errorf("network bridge is %q", out)
	}
	d.containr("network", "rm", "bridge")
	d.containr("create", "--name", "web", "--network", "none", "base", "true")
	d.containr("network", "create", "one")
	d.containr("run", "-d", "--name", "box", "--network", "one", "base", "sleep", "1000")
	d.containr("network", "connect", "bridge", "box")
	if out := d.containr("exec", "box", "ip", "address"); !strings.Contains(out, "eth1") {
		t.Errorf("connected with the default network it has\n%s", out)
	}
	d.containr("rm", "-f", "box", "web")
	d.containr("network", "rm", "one", "bridge")
	policy := d.policy("closed", "ingress = []\n")
	d.containr("network", "policy", "apply", "bridge", policy)
	d.containr("network", "rm", "bridge")
	d.containr("run", "-d", "--name", "alone", "--network", "none", "base", "sleep", "1000")
	d.refused("container alone, --network none", "network", "reload", "alone")
	if out := d.containr("network", "reload", "--all"); out != "" {
		t.Errorf("a container without networks was reloaded: %q", out)
	}
	d.containr("rm", "-f", "alone")
	d.finish(before)
}

// The files of a container say which addresses it has, and which the host, when its networks change.
func TestHostsFollowNetworks(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	for i, name := range []string{"one", "two"} {
		d.containr("network", "create", "--ipv6=false", "--subnet", fmt.Sprintf("10.%d.0.0/24", i+1), name)
	}
	d.containr("run", "-d", "--name", "web", "--hostname", "web", "--add-host", "outside:host-gateway", "--network", "one", "base", "sleep", "1000")
	d.containr("run", "-d", "--name", "own", "--hostname", "own", "--network", "one", "base", "sleep", "1000")
	hosts := func(want ...string) {
		t.Helper()
		text := d.containr("exec", "web", "cat", "/etc/hosts")
		for _, line := range want {
			if !strings.Contains(text+"\n", "\n"+line+"\n") {
				t.Errorf("no %q in\n%s", line, text)
			}
		}
		if got := strings.Count(text, "\n"); got != 5+len(want) {
			t.Errorf("%d lines, with %q:\n%s", got+1, want, text)
		}
	}
	hosts("10.1.0.1\toutside", "10.1.0.2\tweb")
	d.containr("network", "connect", "two", "web")
	hosts("10.1.0.1\toutside", "10.1.0.2\tweb", "10.2.0.2\tweb")
	d.containr("network", "disconnect", "one", "web")
	hosts("10.2.0.1\toutside", "10.2.0.2\tweb")
	d.containr("restart", "-t", "0", "web")
	hosts("10.2.0.1\toutside", "10.2.0.2\tweb")
	// Who has changed the file himself keeps it.
	d.containr("exec", "own", "sh", "-c", "echo 192.0.2.9 printer >> /etc/hosts")
	text := d.containr("exec", "own", "cat", "/etc/hosts")
	d.containr("network", "connect", "two", "own")
	if now := d.containr("exec", "own", "cat", "/etc/hosts"); now != text {
		t.Errorf("what the container wrote is gone:\n%s", now)
	}
	d.containr("rm", "-f", "web", "own")
	d.containr("network", "rm", "one", "two")
	d.finish(before)
}

// A host that wants no IPv6 on its devices has networks of both versions all the same, as its own are not concerned; one without it
// is told so.
func TestHostWithoutIPv6(t *testing.T) {
	d := newDesk(t)
	for _, which := range []string{"all", "default"} {
		d.host.Run("sysctl", "-qw", "net.ipv6.conf."+which+".disable_ipv6=1")
	}
	before := d.host.State()
	d.containr("network", "create", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64", "one")
	d.containr(append([]string{"run", "-d", "--name", "web", "--network", "one", "-p", "8080:80"}, serve(80, "hello")...)...)
	d.reach(d.lan, "192.0.2.1:8080", "hello\n")
	d.reach(d.host, "[fd00:1::2]:80", "hello\n")
	if out, err := d.command("run", "--rm", "--network", "bridge", "base", "true"); err != nil {
		t.Errorf("the default network: %v\n%s", err, out)
	}
	d.containr("rm", "-f", "web")
	d.containr("network", "rm", "one", "bridge")
	out, err := d.without("/proc/sys/net", "network", "create", "--subnet", "fd00:2::/64", "two")
	if err == nil || !strings.Contains(out, "network two, subnet fd00:2::/64: this kernel has no IPv6") {
		t.Errorf("without IPv6: %v\n%s", err, out)
	}
	d.finish(before)
}

// Ports are published as docker's users write them, or it is said why not.
func TestFormsOfPorts(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "one")
	d.refused("port [::1]:8080/tcp of the host", "run", "--rm", "--network", "one", "-p", "[::1]:8080:80", "base", "true")
	d.containr(append([]string{"run", "-d", "--name", "web", "--network", "one", "-p", "0:80", "-p", "127.0.0.1:0:80"}, serve(80, "hello")...)...)
	lines := strings.Fields(d.containr("port", "web", "80"))
	if len(lines) != 3 || strings.Contains(strings.Join(lines, " "), ":0") {
		t.Fatalf("any port of the host: %q", lines)
	}
	for _, address := range lines {
		if at := netip.MustParseAddrPort(address); at.Addr().IsUnspecified() {
			address = fmt.Sprintf("127.0.0.1:%d", at.Port())
		}
		d.reach(d.host, address, "hello\n")
	}
	d.refused("port [::1]:8081/tcp of the host", "update", "--publish-add", "[::1]:8081:80", "web")
	d.containr("rm", "-f", "web")
	d.containr("network", "rm", "one")
	d.finish(before)
}
