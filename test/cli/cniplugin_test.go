package cli_test

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/program"
)

// own puts containr's own plugins in front of Debian's, those of these names.
func (d *pluginDesk) own(names ...string) {
	d.t.Helper()
	built, err := testkit.Build("github.com/containr/containr/cmd/containr-cni", runtime.GOARCH)
	if err != nil {
		d.t.Fatal(err)
	}
	dir := d.t.TempDir()
	for _, name := range names {
		if err := os.Symlink(built, filepath.Join(dir, name)); err != nil {
			d.t.Fatal(err)
		}
	}
	d.bin = dir
	d.use(dir, debianPlugins)
}

// ownLab is a network of containr's own plugins; each can be replaced by Debian's of the same name.
const ownLab = `{
  "cniVersion": "1.0.0",
  "name": "lab",
  "plugins": [
    {"type": "bridge", "bridge": "cni-lab", "isGateway": true, "ipMasq": true, "capabilities": {"mac": true},
     "ipam": {"type": "host-local", "dataDir": "LEASES", "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]],
              "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}},
    {"type": "firewall"}
  ]
}`

// Containr's own plugins connect containers, alone and in chains with Debian's.
func TestOwnPlugins(t *testing.T) {
	for _, c := range []struct {
		name string
		own  []string
	}{
		{"all", []string{"bridge", "host-local", "portmap", "firewall"}},
		{"bridge and portmap", []string{"bridge", "portmap"}},
		{"addresses and ports", []string{"host-local", "portmap"}},
		{"bridge", []string{"bridge"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newPluginDesk(t)
			d.write("10-lab.conflist", ownLab)
			d.own(c.own...)
			quiet := d.quiet("cni:lab")
			d.containr(append([]string{"run", "-d", "--name", "web", "--network", "name=cni:lab,ip=10.77.0.80", "-p", "8080:80"}, serve(80, "hello")...)...)
			d.reach(d.host, "10.77.0.80:80", "hello\n")
			own := d.reach(d.lan, "192.0.2.1:8080", "hello\n")
			d.logged("web", "connected to "+strings.Split(own, ":")[0])
			d.answered("hello\n", "run", "--rm", "--network", "cni:lab", "base", "nc", "-w", "30", "10.77.0.80", "80")
			if seen := d.seenIn("cni:lab", "192.0.2.2"); seen != "192.0.2.1" {
				t.Errorf("a neighbour is talked to from %s", seen)
			}
			d.containr("rm", "-f", "web")
			d.clean(quiet)
			if err := program.AwaitMonitor(d.root); err != nil {
				t.Error(err)
			}
		})
	}
}

// The firewall keeps others out of a bridge of Debian's plugin, but for published ports.
func TestOwnFirewall(t *testing.T) {
	d := newPluginDesk(t)
	d.own("firewall")
	d.write("10-lab.conflist", ownLab)
	d.containr(append([]string{"run", "-d", "--name", "web", "--network", "name=cni:lab,ip=10.77.0.80", "-p", "8080:80"}, serve(80, "hello")...)...)
	d.reach(d.lan, "192.0.2.1:8080", "hello\n")
	d.lan.Run("ip", "route", "add", "10.77.0.0/24", "via", "192.0.2.1")
	d.notReached(d.lan, "10.77.0.80:80")
	d.containr("rm", "-f", "web")
	if err := program.AwaitMonitor(d.root); err != nil {
		t.Error(err)
	}
}

// cnitool, of the interface's own project, calls the plugins in all versions of the specification.
func TestOwnPluginsByCNITool(t *testing.T) {
	d := newPluginDesk(t)
	d.own("bridge", "host-local", "portmap", "firewall")
	cnitool, err := testkit.Build("github.com/containernetworking/cni/cnitool", runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove("/var/lib/cni/results"); os.Remove("/var/lib/cni") }) // if nothing else is there
	container := testkit.NewNetNS(t)
	tool := func(verb string) (string, error) {
		var out []byte
		var err error
		d.host.Do(func() {
			cmd := exec.Command(cnitool, verb, "lab", container.Path)
			cmd.Env = append(os.Environ(), "CNI_PATH="+d.bin, "NETCONFPATH="+d.conf, `CAP_ARGS={"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}`)
			out, err = cmd.CombinedOutput()
		})
		return string(out), err
	}
	must := func(verb string) string {
		t.Helper()
		out, err := tool(verb)
		if err != nil {
			t.Fatalf("cnitool %s: %v\n%s", verb, err, out)
		}
		return out
	}
	d.write("10-lab.conflist", strings.Replace(ownLab, "1.0.0", "0.3.1", 1))
	if out, err := tool("add"); err == nil || !strings.Contains(out, "before 0.4.0 nobody says") {
		t.Errorf("version 0.3.1 has ports: %v, %s", err, out)
	}
	must("del")
	quiet := ""
	for _, version := range []string{"0.4.0", "1.0.0", "1.1.0"} {
		d.write("10-lab.conflist", strings.Replace(ownLab, "1.0.0", version, 1))
		var result struct {
			Version string `json:"cniVersion"`
			IPs     []struct{ Address string }
		}
		out := must("add")
		if err := json.Unmarshal([]byte(out), &result); err != nil || result.Version != version || len(result.IPs) != 2 {
			t.Errorf("version %s: %v, %s", version, err, out)
		}
		if got := container.Run("ip", "-br", "address", "show", "eth0"); !strings.Contains(got, "10.77.0.2/24") {
			t.Errorf("version %s: the container has %s", version, got)
		}
		if rules := d.host.Run("nft", "list", "map", "inet", "containr", "published4"); !strings.Contains(rules, "10.77.0.2") {
			t.Errorf("version %s: the port leads nowhere:\n%s", version, rules)
		}
		must("check")
		container.Run("ip", "address", "del", "10.77.0.2/24", "dev", "eth0")
		if out, err := tool("check"); err == nil || !strings.Contains(out, "has lost the address 10.77.0.2/24") {
			t.Errorf("version %s: check: %v, %s", version, err, out)
		}
		must("status")
		must("del")
		must("del")
		if taken, _ := filepath.Glob(filepath.Join(d.leases, "*", "net", "leases", "*")); len(taken) > 0 {
			t.Errorf("version %s: addresses are still taken: %v", version, taken)
		}
		if now := d.state(); quiet == "" {
			quiet = now
		} else if now != quiet {
			t.Errorf("version %s: the host has\n%s\nand had before\n%s", version, now, quiet)
		}
	}
	// Whose DEL was never called is forgotten by GC.
	must("add")
	if taken, _ := filepath.Glob(filepath.Join(d.leases, "*", "net", "leases", "*")); len(taken) != 2 {
		t.Errorf("addresses taken: %v", taken)
	}
	defer tool("del")
	if out, err := tool("gc"); err == nil || !strings.Contains(out, "who is still there?") { // which cnitool does not say
		t.Errorf("gc: %v, %s", err, out)
	}
	d.containr("network", "check", "--gc", "cni:lab")
	if taken, _ := filepath.Glob(filepath.Join(d.leases, "*", "net", "leases", "*")); len(taken) > 0 {
		t.Errorf("addresses are still taken after GC: %v", taken)
	}
	for from, to := range map[string]string{`"isGateway": true`: `"isGateway": false`, `"ipMasq": true`: `"vlan": 5`, `[[{"subnet"`: `[[{"rangeStart": "10.77.0.9", "subnet"`} {
		d.write("10-lab.conflist", strings.Replace(ownLab, from, to, 1))
		if out, err := tool("add"); err == nil {
			t.Errorf("%s: accepted: %s", to, out)
		}
	}
}

// A container of a device of the host's, by macvlan.
func TestOwnMACVLAN(t *testing.T) {
	d := newPluginDesk(t)
	d.own("macvlan", "host-local")
	d.write("10-lab.conflist", `{"cniVersion": "1.0.0", "name": "lab", "plugins": [{"type": "macvlan", "master": "up0", "ipam": {"type": "host-local", "dataDir": "LEASES",
  "ranges": [[{"subnet": "192.0.2.0/24", "gateway": "192.0.2.2"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}`)
	before := d.state()
	d.containr("run", "--rm", "--network", "name=cni:lab,ip=192.0.2.9", "base", "ping", "-c", "1", "192.0.2.2")
	d.clean(before)
}

// What podman tells netavark has the same effect.
func TestNetavark(t *testing.T) {
	d := newPluginDesk(t)
	d.own("netavark")
	container := testkit.NewNetNS(t)
	call := func(in string, args ...string) (string, error) {
		var out []byte
		var err error
		d.host.Do(func() {
			cmd := exec.Command(filepath.Join(d.bin, "netavark"), args...)
			cmd.Stdin = strings.NewReader(in)
			out, err = cmd.Output()
		})
		return string(out), err
	}
	const options = `{"container_id":"2d0fa7b4d5ba6b2a","container_name":"web",
"port_mappings":[{"container_port":80,"host_ip":"","host_port":8080,"protocol":"tcp","range":2}],
"networks":{"podman":{"aliases":["2d0fa7b4d5ba"],"interface_name":"eth0","static_ips":["10.88.0.2"]},
 "second":{"interface_name":"eth1","static_ips":["10.89.0.7","fd89::7"],"static_mac":"02:00:00:00:00:07"}},
"network_info":{"podman":{"created":"2026-11-29T00:00:00Z","dns_enabled":false,"driver":"bridge","id":"2f259bab93aa","internal":false,"ipam_options":{"driver":"host-local"},
  "ipv6_enabled":false,"name":"podman","network_interface":"podman0","subnets":[{"gateway":"10.88.0.1","subnet":"10.88.0.0/16"}]},
 "second":{"driver":"bridge","id":"3f259bab93aa","internal":false,"name":"second","network_interface":"podman1","options":{"mtu":"1400"},
  "subnets":[{"gateway":"10.89.0.1","subnet":"10.89.0.0/24"},{"gateway":"fd89::1","subnet":"fd89::/64"}]}}}`
	flags := []string{"--config", "/run/containers/networks", "--rootless=false", "--aardvark-binary=/usr/lib/podman/aardvark-dns"}
	setup, teardown := append(flags, "setup", container.Path), append(flags, "teardown", container.Path)
	quiet := ""
	for range 2 {
		out, err := call(options, setup...)
		if err != nil {
			t.Fatalf("setup: %v\n%s", err, out)
		}
		var status map[string]struct {
			Interfaces map[string]struct {
				MAC     string `json:"mac_address"`
				Subnets []struct{ Gateway, IPNet string }
			}
		}
		if err := json.Unmarshal([]byte(out), &status); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if eth1 := status["second"].Interfaces["eth1"]; eth1.MAC != "02:00:00:00:00:07" || len(eth1.Subnets) != 2 || eth1.Subnets[0].Gateway != "10.89.0.1" || eth1.Subnets[1].IPNet != "fd89::7/64" {
			t.Errorf("setup prints %s", out)
		}
		if routes := container.Run("ip", "route", "show", "default"); !strings.Contains(routes, "via 10.88.0.1 dev eth0") {
			t.Errorf("routes: %s", routes)
		}
		listener := listenIn(t, container, ":81")
		d.reach(d.lan, "192.0.2.1:8081", "hello\n")
		listener.Close()
		for range 2 { // a second time it is no error
			if out, err := call(options, teardown...); err != nil || out != "" {
				t.Fatalf("teardown: %v\n%s", err, out)
			}
		}
		if now := d.state(); quiet == "" {
			quiet = now
		} else if now != quiet {
			t.Errorf("the host has now\n%s\nand had before\n%s", now, quiet)
		}
		if links := container.Run("ip", "-br", "link"); strings.Contains(links, "eth") {
			t.Errorf("the container still has %s", links)
		}
	}
	for what, in := range map[string]string{"driver": strings.Replace(options, `"driver":"bridge"`, `"driver":"token-ring"`, 1), "none of the network's subnets": strings.Replace(options, `"10.88.0.2"`, `"10.99.0.2"`, 1),
		"options": "{"} {
		if out, err := call(in, setup...); err == nil || !strings.Contains(out, `{"error":`) || !strings.Contains(out, what) {
			t.Errorf("%s: %v, %s", what, err, out)
		}
	}
	if out, err := call("", "version"); err != nil || !strings.Contains(out, `"version"`) {
		t.Errorf("version: %v, %s", err, out)
	}
	if now := d.state(); now != quiet {
		t.Errorf("the host has now\n%s\nand had before\n%s", now, quiet)
	}
}

// listenIn greets whoever connects in a namespace.
func listenIn(t *testing.T, n *testkit.NetNS, address string) net.Listener {
	t.Helper()
	var l net.Listener
	var err error
	n.Do(func() { l, err = net.Listen("tcp", address) })
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("hello\n"))
			c.Close()
		}
	}()
	return l
}
