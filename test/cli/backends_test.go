package cli_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit/program"
)

// debianNetavark is where Debian's package netavark has it.
const debianNetavark = "/usr/lib/podman"

// backendDesk is a desk where all networks are made by one back end.
func backendDesk(t *testing.T, backend string, programs ...string) *pluginDesk {
	d := newPluginDesk(t)
	if len(programs) > 0 {
		if _, err := os.Stat(filepath.Join(programs[0], backend)); err != nil && backend == "netavark" {
			t.Skipf("needs the package netavark: %v", err)
		}
		d.use(programs...)
	}
	path := filepath.Join(d.conf, "containr", "config.toml")
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, append(text, "network-backend = \""+backend+"\"\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The same commands have the same effect whoever makes the network: containr itself, plugins, or netavark, podman's and our own.
func TestBackends(t *testing.T) {
	for _, c := range []struct{ name, backend string }{{"builtin", "builtin"}, {"cni", "cni"}, {"netavark", "netavark"}, {"own netavark", "netavark"}} {
		t.Run(c.name, func(t *testing.T) {
			var d *pluginDesk
			switch c.name {
			case "netavark":
				d = backendDesk(t, c.backend, debianNetavark)
			case "own netavark":
				d = backendDesk(t, "builtin")
				d.own("netavark")
				d.environment = append(d.environment, "CONTAINR_NETWORK_BACKEND=netavark")
			default:
				d = backendDesk(t, c.backend)
			}
			if c.backend == "cni" {
				d.write("10-lab.conflist", lab)
			} else {
				d.containr("network", "create", "--subnet", "10.77.0.0/24", "--subnet", "fd77::/64", "lab")
			}
			if got := d.containr("network", "ls", "--filter", "name=lab", "--format", "{{.Backend}}"); got != c.backend {
				t.Errorf("network ls says that %q makes it", got)
			}
			if got := d.containr("network", "ls", "--filter", "name=lab"); strings.Contains(got, " BACKEND\n") != (c.backend == "netavark") {
				t.Errorf("network ls prints\n%s", got)
			}
			onOneBackend(t, d)
			if c.backend != "cni" {
				d.containr("network", "rm", "lab")
			}
		})
	}
}

// onOneBackend is the test file that passes on each of them.
func onOneBackend(t *testing.T, d *pluginDesk) {
	quiet := d.quiet("lab")
	d.containr(append([]string{"run", "-d", "--name", "web", "--network", "name=lab,ip=10.77.0.80,mac-address=02:00:00:00:00:77", "-p", "8080:80"}, serve(80, "hello")...)...)
	for range 2 { // and after a restart
		for _, address := range []string{"10.77.0.80:80", "192.0.2.1:8080"} {
			d.reach(d.host, address, "hello\n")
		}
		d.reach(d.lan, "192.0.2.1:8080", "hello\n")
		six := d.containr("inspect", "-f", `{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}`, "web")
		d.reach(d.host, "["+six+"]:80", "hello\n")
		d.answered("hello\n", "run", "--rm", "--network", "lab", "base", "nc", "-w", "30", "10.77.0.80", "80")
		d.containr("restart", "-t", "0", "web")
	}
	if got := d.containr("exec", "web", "cat", "/sys/class/net/eth0/address"); got != "02:00:00:00:00:77" {
		t.Errorf("the container has the hardware address %q", got)
	}
	if got := d.containr("exec", "web", "sh", "-c", "grep -c $(hostname) /etc/hosts"); got != "2" {
		t.Errorf("the container has %s addresses in /etc/hosts", got)
	}
	if seen := d.seenIn("lab", "192.0.2.2"); seen != "192.0.2.1" {
		t.Errorf("a neighbour is talked to from %s", seen)
	}
	if got := d.containr("inspect", "-f", `{{range .NetworkSettings.Networks}}{{.IPAddress}}/{{.IPPrefixLen}} {{.Gateway}} {{.MacAddress}}{{end}}`, "web"); got != "10.77.0.80/24 10.77.0.1 02:00:00:00:00:77" {
		t.Errorf("inspect says %q", got)
	}
	network := "lab"
	if strings.Contains(d.containr("network", "ls", "--format", "{{.Name}}"), "cni:lab") {
		network = "cni:lab"
	}
	if got := d.containr("network", "inspect", "-f", `{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}`, network); got != "web 10.77.0.80/24" {
		t.Errorf("network inspect says %q", got)
	}
	if got := d.containr("port", "web"); got != "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080" && got != "80/tcp -> 0.0.0.0:8080" {
		t.Errorf("port says %q", got)
	}
	if got := d.containr("run", "--rm", "--network", "lab", "base", "sh", "-c", "ip -4 route | grep default; ip -6 route | grep -c default"); !strings.HasPrefix(got, "default via 10.77.0.1 dev eth0") || !strings.HasSuffix(got, "\n1") {
		t.Errorf("a container's routes are %q", got)
	}
	d.containr("rm", "-f", "web")
	d.clean(quiet)
	if err := program.AwaitMonitor(d.root); err != nil {
		t.Error(err)
	}
}

// netavarkWrapper executes Debian's netavark, and at one moment does something else, as wrapper does for plugins.
const netavarkWrapper = `#!/bin/sh
config=$(cat)
for word; do case $word in setup|teardown) break ;; esac; done
at() { [ "$(cat "$PLAN/at" 2>/dev/null)" = "$word $1" ] && rm "$PLAN/at" && . "$PLAN/do"; }
at before
printf %s "$config" | ` + debianNetavark + `/netavark "$@"
status=$?
at after
exit $status
`

// Netavark fails, or containr is killed while it is at work, which goes on: nothing of the container is left.
func TestDisturbedNetavark(t *testing.T) {
	d := backendDesk(t, "netavark", debianNetavark)
	if err := os.WriteFile(filepath.Join(d.bin, "netavark"), []byte(netavarkWrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	plan := t.TempDir()
	d.environment = append(d.environment, "PLAN="+plan, "CONTAINR_NETWORK_BACKEND=netavark")
	d.use(d.bin)
	d.containr("network", "create", "lab")
	quiet := d.quiet("lab")
	run := []string{"run", "-d", "--name", "web", "--network", "lab", "-p", "8080:80", "base", "sleep", "1000"}
	for _, when := range []string{"setup before", "setup after"} {
		at(t, plan, when, `echo '{"error": "out of order"}'; exit 1`)
		d.refused("network lab: setup: ", run...)
		d.clean(quiet)
	}
	for _, when := range []string{"setup before", "setup after", "teardown before", "teardown after"} {
		d.killedAt(plan, when, quiet, run)
	}
	if err := program.AwaitMonitor(d.root); err != nil {
		t.Error(err)
	}
}

// A network that netavark would not disconnect a container from is named as it was created.
func TestNetavarkThatCannotDisconnect(t *testing.T) {
	d := backendDesk(t, "netavark", debianNetavark)
	broken := filepath.Join(d.bin, "broken")
	script := "#!/bin/sh\n[ -e " + broken + " ] && { echo '{\"error\": \"come again\"}'; exit 1; }\nexec " + debianNetavark + "/netavark \"$@\"\n"
	if err := errors.Join(os.WriteFile(filepath.Join(d.bin, "netavark"), []byte(script), 0o755), os.WriteFile(broken, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	d.use(d.bin)
	d.environment = append(d.environment, "CONTAINR_NETWORK_BACKEND=netavark")
	d.containr("network", "create", "lab")
	before := d.state()
	d.refused("come again", "run", "-d", "--name", "web", "--network", "lab", "base", "sleep", "1000")
	d.refused("plugins of lab (netavark) have not disconnected it: network lab: teardown: ", "system", "check")
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	d.containr("system", "check")
	d.clean(before)
	if err := program.AwaitMonitor(d.root); err != nil {
		t.Error(err)
	}
}

// What a back end cannot do is said in words, before anything is made.
func TestBackendsInWords(t *testing.T) {
	d := backendDesk(t, "netavark", debianNetavark)
	nowhere := t.TempDir()
	run := func(flags ...string) []string {
		return append(append([]string{"run", "--rm"}, flags...), "base", "true")
	}
	d.refused("netavark is not installed", "--cni-bin-dir", nowhere, "network", "create", "lab")
	d.refused("apt-get install netavark", "--cni-bin-dir", nowhere, "run", "--rm", "--network", "bridge", "base", "true")
	d.containr("network", "create", "lab")
	d.containr("network", "create", "--internal", "inside")
	d.containr("--network-backend", "builtin", "network", "create", "other")
	d.refused("netavark is not installed", append([]string{"--cni-bin-dir", nowhere}, run("--network", "lab")...)...)
	d.refused("another back end makes this network", run("--network", "other")...)
	d.refused("nobody answers for names in this network", run("--network", "lab", "--network-alias", "x")...)
	d.refused("nothing comes into an internal network", run("--network", "inside", "-p", "8080:80")...)
	d.refused("policy", run("--network", "lab", "--egress", "10.0.0.0/8")...)
	file := filepath.Join(nowhere, "web.toml")
	if err := os.WriteFile(file, []byte("ingress = []\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.refused("policy web, network lab, which netavark makes", "network", "policy", "apply", "lab", file)
	d.refused("driver macvlan, and not bridge", "network", "create", "-d", "macvlan", "-o", "parent=up0", "--subnet", "192.0.2.0/24", "shared")
	d.refused("keeping its containers apart", "network", "create", "--icc=false", "apart")
	d.refused("networks are files in "+d.conf, "--network-backend", "cni", "network", "create", "lab2")
	d.containr("run", "-d", "--name", "alone", "--network", "none", "base", "sleep", "1000")
	d.refused("netavark connects a container when it starts", "network", "connect", "lab", "alone")
	d.containr("rm", "-f", "alone")
	// The network knows who makes it, whatever the flag says; and two of them are two cables.
	if got := d.containr("--network-backend", "builtin", "run", "--rm", "--network", "lab", "--network", "inside", "base", "ls", "/sys/class/net"); got != "eth0  eth1  lo" && got != "eth0\neth1\nlo" {
		t.Errorf("a container in two networks has %q", got)
	}
	d.containr(run("--network", "bridge")...) // in the network that is there by itself
	if got := d.containr("network", "inspect", "-f", "{{.Name}} {{.Backend}}", "netavark", "lab"); got != "netavark netavark\nlab netavark" {
		t.Errorf("network inspect says %q", got)
	}
	if out := d.containr("explain", "run", "--network", "lab", "base", "true"); !strings.Contains(out, "netavark --config") || !strings.Contains(out, " teardown ") && !strings.Contains(out, " setup ") {
		t.Errorf("explain says nothing of netavark:\n%s", out)
	}
	for _, name := range []string{"lab", "inside", "other", "netavark"} {
		d.containr("network", "rm", name)
	}
	if links := d.host.Run("ip", "-br", "link"); strings.Contains(links, "ctr") {
		t.Errorf("devices are left:\n%s", links)
	}
}
