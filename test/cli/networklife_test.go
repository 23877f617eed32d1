package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
