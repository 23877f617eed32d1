package cli_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit/program"
)

// The way to everywhere else, and published ports, go through the first network that leads anywhere: also when the one
// that did before is left, and when the first such one is joined.
func TestDefaultRouteFollows(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "--internal", "--subnet", "10.1.0.0/24", "in")
	d.containr("network", "create", "--subnet", "10.2.0.0/24", "--subnet", "fd00:2::/64", "two")
	d.containr("network", "create", "--subnet", "10.3.0.0/24", "--subnet", "fd00:3::/64", "three")
	d.containr(append([]string{"run", "-d", "--name", "web", "--network", "in", "--network", "two", "-p", "8080:80"}, serve(80, "hello")...)...)
	through := func(want ...string) {
		t.Helper()
		pid := d.containr("inspect", "-f", "{{.State.Pid}}", "web")
		out := d.host.Run("nsenter", "-t", pid, "-n", "sh", "-c", "ip route show default; ip -6 route show default")
		if n := strings.Count(out, "default"); n != len(want) {
			t.Errorf("%d default routes, want through %q:\n%s", n, want, out)
		}
		for _, w := range want {
			if !strings.Contains(out, "via "+w+" ") {
				t.Errorf("no default route via %s:\n%s", w, out)
			}
		}
	}
	through("10.2.0.1", "fd00:2::1")
	d.reach(d.lan, "192.0.2.1:8080", "hello\n")
	d.containr("network", "connect", "three", "web")
	through("10.2.0.1", "fd00:2::1")
	d.containr("network", "disconnect", "two", "web")
	through("10.3.0.1", "fd00:3::1")
	d.reach(d.lan, "192.0.2.1:8080", "hello\n")
	d.reach(d.lan, "[2001:db8::1]:8080", "hello\n")
	d.containr("network", "disconnect", "three", "web")
	through()
	if rules := d.host.Run("nft", "list", "map", "inet", "containr", "published4"); strings.Contains(rules, "elements") {
		t.Errorf("it is only in a network that leads nowhere, and its port is published:\n%s", rules)
	}
	d.containr("network", "connect", "two", "web")
	through("10.2.0.1", "fd00:2::1")
	d.reach(d.lan, "192.0.2.1:8080", "hello\n")
	// The one that has the highest priority leads, in each version of IP that it has.
	d.containr("network", "create", "--ipv6=false", "--subnet", "10.4.0.0/24", "four")
	d.containr("network", "connect", "--gw-priority", "5", "--interface", "lan0", "--mac-address", "02:00:00:00:00:44", "four", "web")
	for range 2 {
		through("10.4.0.1", "fd00:2::1")
		if out := d.containr("exec", "web", "ip", "address", "show"); !strings.Contains(out, "lan0") || !strings.Contains(out, "02:00:00:00:00:44") {
			t.Errorf("its device is none of the name and address that were asked for:\n%s", out)
		}
		for _, address := range []string{"192.0.2.1:8080", "[2001:db8::1]:8080"} {
			d.reach(d.lan, address, "hello\n")
		}
		d.containr("restart", "-t", "0", "web")
	}
	d.refused("interface lan0 is that of network four", "network", "connect", "--interface", "lan0", "three", "web")
	d.containr("network", "connect", "--gw-priority", "9", "three", "web")
	through("10.3.0.1", "fd00:3::1")
	d.reach(d.lan, "192.0.2.1:8080", "hello\n")
	d.containr("network", "disconnect", "three", "web")
	through("10.4.0.1", "fd00:2::1")
	d.reach(d.lan, "192.0.2.1:8080", "hello\n")
	d.reach(d.lan, "[2001:db8::1]:8080", "hello\n")
	if out := d.containr("inspect", "-f", `{{(index .NetworkSettings.Networks "four").GwPriority}}`, "web"); out != "5" {
		t.Errorf("inspect says of the priority %q", out)
	}
	d.containr("run", "-d", "--name", "box", "--network", "four", "--network", "name=two,gw-priority=1", "base", "sleep", "1000")
	if out := d.containr("exec", "box", "ip", "route"); !strings.Contains(out, "default via 10.2.0.1 ") {
		t.Errorf("the priority at run counts for nothing:\n%s", out)
	}
	d.containr("run", "-d", "--name", "six", "--network", "four", "--network", "two", "-p", "8081:81", "base", "sh", "-c", "while true; do echo six | nc -v -l -p 81; done")
	d.reach(d.lan, "[2001:db8::1]:8081", "six\n")
	d.containr("rm", "-f", "box", "six")
	d.containr("rm", "-f", "web")
	d.containr("network", "prune", "-f")
	d.finish(before)
}

// A network that is joined and left again and again leaves nothing: not on the host, and not in the container's journal.
func TestConnectAgainAndAgain(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "one")
	d.containr("network", "create", "two")
	d.containr("run", "-d", "--name", "web", "--network", "one", "-p", "8080:80", "base", "sleep", "1000")
	id := d.containr("inspect", "-f", "{{.Id}}", "web")
	journal := func() string {
		b, err := os.ReadFile(filepath.Join(d.root, "run", "runtime", id, "journal"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	quiet, noted := d.host.State(), journal()
	for i := range 20 {
		d.containr("network", "connect", "two", "web")
		d.containr("network", "disconnect", "two", "web")
		if now := d.host.State(); i == 0 && strings.Count(now, "\n") < strings.Count(quiet, "\n") {
			t.Fatalf("the host has now\n%s\nand had before\n%s", now, quiet)
		}
	}
	if now := journal(); now != noted {
		t.Errorf("the journal is now\n%s\nand was\n%s", now, noted)
	}
	if n := len(leases(t, d.root, "two")); n > 0 {
		t.Errorf("%d addresses are taken", n)
	}
	d.containr("rm", "-f", "web")
	d.containr("network", "rm", "one", "two")
	d.finish(before)
}

// What would be done is explained without doing any of it: not even the default network is made.
func TestExplainMakesNoNetwork(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	out := d.containr("explain", "run", "--network", "bridge", "-p", "8080:80", "base", "true")
	if !strings.Contains(out, "containr0") {
		t.Errorf("no bridge in\n%s", out)
	}
	if now := d.host.State(); now != before {
		t.Errorf("the host has now\n%s\nand had before\n%s", now, before)
	}
	if out := d.containr("network", "ls", "-q"); out != "" {
		t.Errorf("there are networks: %s", out)
	}
	// One that is there stays.
	d.containr("run", "--rm", "--network", "bridge", "base", "true")
	d.containr("explain", "run", "--network", "bridge", "base", "true")
	if out := d.containr("network", "ls", "-q"); strings.Count(out, "\n") != 0 || out == "" {
		t.Errorf("there should be one network: %q", out)
	}
	d.containr("network", "rm", "containr")
	d.finish(before)
}

// Who names no network is in the one that is there by itself; and where none can be made, has none, and is told why.
func TestNetworkOfThoseWhoNameNone(t *testing.T) {
	d := newDesk(t)
	d.environment = append(d.environment, program.NetworkVar+"=")
	before := d.host.State()
	unable := func(args ...string) (out string, err error) {
		script := `mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec containr "$@"`
		d.host.Do(func() {
			cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", script, "sh"}, args...)...)
			cmd.Env = d.environment
			var b []byte
			b, err = cmd.CombinedOutput()
			out = string(b)
		})
		return out, err
	}
	const list = "ls /sys/class/net; ip route"
	out, err := unable("run", "--rm", "base", "sh", "-c", list)
	if want := "no network can be made here"; err != nil || !strings.Contains(out, want) || !strings.Contains(out, "ip_forward cannot be written") || !strings.HasSuffix(out, "\nlo\n") {
		t.Errorf("without sysctls: %v\n%s", err, out)
	}
	if out, err = unable("run", "--rm", "--network", "none", "base", "sh", "-c", list); err != nil || out != "lo\n" {
		t.Errorf("without sysctls, and with none asked for: %v\n%s", err, out)
	}
	if out, err = unable("run", "--rm", "-p", "8080:80", "base", "true"); err == nil || !strings.Contains(out, "-p: there is no network to reach a port through: no network can be made here: ") || !strings.Contains(out, "ip_forward cannot be written") {
		t.Errorf("a port without sysctls: %v\n%s", err, out)
	}
	if now := d.host.State(); now != before {
		t.Errorf("the host has now\n%s\nand had before\n%s", now, before)
	}
	if got, want := d.containr("run", "--rm", "base", "sh", "-c", list), "eth0\nlo\ndefault via 10.192.0.1 dev eth0\n10.192.0.0/20 dev eth0 proto kernel scope link src 10.192.0.2"; got != want {
		t.Errorf("the container has\n%s\nwant\n%s", got, want)
	}
	d.environment[len(d.environment)-1] += "none"
	if got := d.containr("run", "--rm", "base", "sh", "-c", list); got != "lo" {
		t.Errorf("with none as the default the container has %s", got)
	}
	d.environment[len(d.environment)-1] = program.NetworkVar + "="
	// The device of another state root is left to it.
	other := *d
	other.environment = append(slices.Clone(d.environment), program.RootVar+"="+filepath.Join(t.TempDir(), "other"))
	if got := other.containr("run", "--rm", "base", "ip", "route"); !strings.Contains(got, "via 10.192.16.1 ") {
		t.Errorf("another state root's container has %s", got)
	}
	other.containr("network", "rm", "bridge")
	d.containr("run", "--rm", "base", "true")
	d.containr("network", "rm", "bridge")
	d.finish(before)
}

// All that nobody needs is more than containers and images.
func TestSystemPruneRemovesNetworks(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "idle")
	d.containr("network", "create", "--label", "keep", "kept")
	d.containr("network", "create", "used")
	d.containr("run", "-d", "--name", "web", "--network", "used", "base", "sleep", "1000")
	if out := d.containr("system", "prune", "-f", "--filter", "label!=keep"); !strings.Contains(out, "Deleted network: idle\n") || strings.Contains(out, "Deleted network: used") || strings.Contains(out, "Deleted network: kept") {
		t.Errorf("system prune: %s", out)
	}
	if out := d.containr("network", "ls", "--format", "{{.Name}}"); out != "kept\nused" {
		t.Errorf("left: %q", out)
	}
	d.containr("rm", "-f", "web")
	d.containr("system", "prune", "-f")
	d.finish(before)
}

// Somebody throws all rules away: they are made again, and twice is no error.
func TestReload(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "one")
	d.containr(append([]string{"run", "-d", "--name", "web", "--network", "one", "-p", "8080:80", "-p", "192.0.2.1:8081:80"}, serve(80, "hello")...)...)
	d.reach(d.lan, "192.0.2.1:8080", "hello\n")
	quiet := d.host.State()
	d.host.Run("nft", "flush", "ruleset")
	d.notReached(d.lan, "192.0.2.1:8080")
	for range 2 {
		d.containr("network", "reload", "web")
		if now := d.host.State(); now != quiet {
			t.Errorf("the host has now\n%s\nand had before\n%s", now, quiet)
		}
	}
	d.host.Run("nft", "delete", "element", "inet", "containr", "published_at4", "{ 192.0.2.1 . tcp . 8081 }")
	if id := d.containr("network", "reload", "--all"); id != d.containr("inspect", "-f", "{{.Id}}", "web") {
		t.Errorf("reloaded: %q", id)
	}
	d.reach(d.lan, "192.0.2.1:8081", "hello\n")
	d.refused("name containers, or give --all", "network", "reload")
	d.containr("rm", "-f", "web")
	d.containr("network", "rm", "one")
	d.finish(before)
}

// Packets of containers are not longer than those that may leave the host.
func TestMTUOfTheUplink(t *testing.T) {
	d := newDesk(t)
	d.host.Run("ip", "route", "add", "default", "via", "192.0.2.2")
	d.host.Run("ip", "link", "set", "up0", "mtu", "1400")
	before := d.host.State()
	d.containr("network", "create", "one")
	d.containr("network", "create", "-o", "mtu=1300", "two")
	for network, mtu := range map[string]string{"one": "1400", "two": "1300"} {
		if out := d.containr("run", "--rm", "--network", network, "base", "cat", "/sys/class/net/eth0/mtu"); out != mtu {
			t.Errorf("network %s: MTU %s, want %s", network, out, mtu)
		}
	}
	d.containr("network", "rm", "one", "two")
	d.finish(before)
}

// Addresses are the lowest that are free, or come by chance if that is asked for.
func TestRandomAddresses(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.containr("network", "create", "--subnet", "10.1.0.0/16", "--ip-range", "10.1.128.0/17", "-o", "addresses=random", "one")
	seen := map[string]bool{}
	for i := range 3 {
		name := "c" + string(rune('0'+i))
		d.containr("create", "--name", name, "--network", "one", "base", "true")
		a := d.containr("inspect", "-f", "{{(index .NetworkSettings.Networks \"one\").IPAddress}}", name)
		if ip := netip.MustParseAddr(a); !netip.MustParsePrefix("10.1.128.0/17").Contains(ip) || seen[a] {
			t.Errorf("address %s, and before %v", a, seen)
		}
		seen[a] = true
		d.containr("rm", name)
	}
	d.refused("use lowest or random", "network", "create", "-o", "addresses=high", "two")
	d.containr("network", "rm", "one")
	d.finish(before)
}

// A container may have a share of the host's device, and be a machine of its own beside it; or the kernel cannot do that, and
// it is said so.
func TestSharedDevice(t *testing.T) {
	d := newDesk(t)
	before := d.host.State()
	d.refused("needs -o parent=DEVICE", "network", "create", "-d", "macvlan", "--subnet", "192.0.2.0/24", "lan")
	d.refused("the host has no such device", "network", "create", "-d", "macvlan", "--subnet", "192.0.2.0/24", "-o", "parent=up9", "lan")
	d.refused("is not the id of a VLAN", "network", "create", "-d", "ipvlan", "--subnet", "192.0.2.0/24", "-o", "parent=up0.5000", "lan")
	d.refused("needs --subnet", "network", "create", "-d", "macvlan", "-o", "parent=up0", "lan")
	d.refused("use bridge, private, vepa, passthru", "network", "create", "-d", "macvlan", "--subnet", "192.0.2.0/24", "-o", "parent=up0", "-o", "macvlan_mode=l3", "lan")
	d.refused("it is no option of driver macvlan", "network", "create", "-d", "macvlan", "--subnet", "192.0.2.0/24", "-o", "parent=up0", "-o", "ipvlan_mode=l3", "lan")
	for _, kind := range []string{"macvlan", "ipvlan"} {
		d.containr("network", "create", "-d", kind, "--subnet", "192.0.2.0/24", "--gateway", "192.0.2.2", "-o", "parent=up0", "lan")
		d.containr("network", "create", "-d", kind, "--subnet", "192.0.3.0/24", "-o", "parent=up0.5", "tagged")
		d.refused("cannot lead its ports there", "run", "--rm", "--network", "lan", "-p", "80", "base", "true")
		plan := d.containr("explain", "run", "--network", "tagged", "base", "true")
		for _, want := range []string{"ip link add up0.5 link up0 group 6517870 up type vlan id 5", "type " + kind + " mode "} {
			if !strings.Contains(plan, want) {
				t.Errorf("the plan has no %q:\n%s", want, plan)
			}
		}
		if out, err := d.host.Command("ip", "link", "add", "probe", "link", "up0", "type", kind); err != nil {
			t.Logf("this kernel has no %s (%s), and containr says so", kind, strings.TrimSpace(out))
			d.refused("this kernel has no devices of that kind", "run", "--rm", "--network", "lan", "base", "true")
		} else {
			d.host.Run("ip", "link", "del", "probe")
			d.shared(kind)
		}
		d.containr("network", "rm", "lan", "tagged")
		d.finish(before)
	}
}

// shared runs containers in the networks lan and tagged.
func (d *desk) shared(kind string) {
	d.t.Helper()
	neighbours := map[string]string{"lan": "192.0.2.2"}
	if out, err := d.lan.Command("ip", "link", "add", "link", "eth0", "name", "eth0.5", "type", "vlan", "id", "5"); err != nil {
		d.t.Logf("this kernel has no VLANs (%s), and containr says so", strings.TrimSpace(out))
		d.refused("this kernel has no VLANs", "run", "--rm", "--network", "tagged", "base", "true")
	} else {
		neighbours["tagged"] = "192.0.3.2"
		d.lan.Run("ip", "address", "add", "192.0.3.2/24", "dev", "eth0.5")
		d.lan.Run("ip", "link", "set", "eth0.5", "up")
		defer d.lan.Run("ip", "link", "del", "eth0.5")
	}
	for network, neighbour := range neighbours {
		if out, err := d.command("run", "--rm", "--network", network, "base", "ping", "-c", "1", "-W", "30", neighbour); err != nil {
			d.t.Errorf("driver %s, network %s: %v\n%s", kind, network, err, out)
		}
	}
	d.containr(append([]string{"run", "-d", "--name", "web", "--network", "lan", "--ip", "192.0.2.80"}, serve(80, "hello")...)...)
	d.reach(d.lan, "192.0.2.80:80", "hello\n")
	d.containr("network", "disconnect", "lan", "web")
	if out := d.containr("exec", "web", "ip", "address"); strings.Contains(out, "192.0.2.80") {
		d.t.Errorf("it has left the network, and still has\n%s", out)
	}
	d.containr("network", "connect", "--ip", "192.0.2.81", "lan", "web")
	d.reach(d.lan, "192.0.2.81:80", "hello\n")
	d.containr("rm", "-f", "web")
}
