package cli_test

import (
	"encoding/json"
	"errors"
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

// cnitool builds the program of that name, of the interface's own project. tool has it call the plugins of a network for a
// container, with arguments of capabilities; must is for calls that have to work.
func (d *pluginDesk) cnitool(network string, container *testkit.NetNS, path string, capabilities func() string) (tool func(verb string) (string, error), must func(verb string) string) {
	program, err := testkit.Build("github.com/containernetworking/cni/cnitool", runtime.GOARCH)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { os.Remove("/var/lib/cni/results"); os.Remove("/var/lib/cni") }) // if nothing else is there
	tool = func(verb string) (string, error) {
		var out []byte
		var err error
		d.host.Do(func() {
			cmd := exec.Command(program, verb, network, container.Path)
			cmd.Env = append(os.Environ(), "CNI_PATH="+path, "NETCONFPATH="+d.conf, "CAP_ARGS="+capabilities())
			out, err = cmd.CombinedOutput()
		})
		return string(out), err
	}
	must = func(verb string) string {
		d.t.Helper()
		out, err := tool(verb)
		if err != nil {
			d.t.Fatalf("cnitool %s: %v\n%s", verb, err, out)
		}
		return out
	}
	return tool, must
}

// cnitool calls the plugins in all versions of the specification.
func TestOwnPluginsByCNITool(t *testing.T) {
	d := newPluginDesk(t)
	d.own("bridge", "host-local", "portmap", "firewall")
	container := testkit.NewNetNS(t)
	const ports = `{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}`
	tool, must := d.cnitool("lab", container, d.bin, func() string { return ports })
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

// multusFirst is the network that comes first, and the files are the others.
const multusFirst = `{"cniVersion": "VERSION", "name": "pods", "type": "multus", "confDir": "CONF/multus", "cniDir": "LEASES/multus",
  "capabilities": {"portMappings": true, "io.kubernetes.cri.pod-annotations": true}, MORE
  "delegates": [{"cniVersion": "VERSION", "name": "lab", "plugins": [
    {"type": "bridge", "bridge": "cni-lab", "isGateway": true, "ipMasq": true, "ipam": {"type": "host-local", "dataDir": "LEASES", "ranges": [[{"subnet": "10.77.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}]}]}`

// Multus as a plugin, called by cnitool: several networks by list and by annotation, the status, and DEL of all in reverse.
func TestMultusByCNITool(t *testing.T) {
	for _, name := range []string{"own", "Debian's"} {
		t.Run(name, func(t *testing.T) {
			own := []string{"multus", "portmap"} // Debian 12's portmap looks for rules of version 6, at CHECK, that it has not made
			if name == "own" {
				own = append(own, "bridge", "host-local")
			}
			multusDesk(t, own)
		})
	}
}

func multusDesk(t *testing.T, own []string) {
	d := newPluginDesk(t)
	d.own(own...)
	container := testkit.NewNetNS(t)
	capabilities := map[string]any{}
	tool, must := d.cnitool("pods", container, d.bin+":"+debianPlugins, func() string {
		args, err := json.Marshal(capabilities)
		if err != nil {
			t.Fatal(err)
		}
		return string(args)
	})
	configure := func(more string) {
		d.write("10-pods.conf", strings.NewReplacer("VERSION", "1.0.0", "CONF", d.conf, "MORE", more).Replace(multusFirst))
	}
	if err := os.Mkdir(filepath.Join(d.conf, "multus"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, subnet := range map[string]string{"storage": "10.78.0", "backup": "10.79.0"} {
		d.write("multus/"+name+".conf", `{"cniVersion": "1.0.0", "name": "`+name+`", "type": "bridge", "bridge": "cni-`+name+`", "isGateway": true, "capabilities": {"mac": true},
		  "ipam": {"type": "host-local", "dataDir": "LEASES", "ranges": [[{"subnet": "`+subnet+`.0/24"}]]}}`)
	}
	// The note is there until all is undone, and nothing of it after that.
	left := func() []string {
		list, _ := filepath.Glob(filepath.Join(d.leases, "multus", "pods", "*.*"))
		return list
	}
	annotate := func(text string) {
		capabilities["io.kubernetes.cri.pod-annotations"] = map[string]string{"k8s.v1.cni.cncf.io/networks": text}
	}
	quiet := ""
	atRest := func() {
		t.Helper()
		if links := container.Run("ip", "-br", "link"); strings.Contains(links, "eth0") || strings.Contains(links, "net1") || strings.Contains(links, "bak0") {
			t.Errorf("the container still has %s", links)
		}
		if l := left(); len(l) > 0 {
			t.Errorf("notes are left: %v", l)
		}
		if taken := d.addressesTaken(); len(taken) > 0 {
			t.Errorf("addresses are still taken: %v", taken)
		}
		if now := d.state(); quiet == "" {
			quiet = now
		} else if now != quiet {
			t.Errorf("the host has now\n%s\nand had before\n%s", now, quiet)
		}
	}

	configure("")
	capabilities["portMappings"] = []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}}
	for _, c := range []struct{ list, annotation string }{
		{"", "storage,default/backup@bak0"},
		{`"networks": "storage, backup@bak0",`, ""},
		{`"networks": [{"name": "storage"}],`, `[{"name": "backup", "interface": "bak0"}]`},
	} {
		configure(c.list)
		annotate(c.annotation)
		out := must("add")
		if !strings.Contains(out, "10.77.0.") || strings.Contains(out, "10.78.0.") {
			t.Errorf("add prints %s", out)
		}
		addresses := container.Run("ip", "-4", "-br", "address")
		for device, address := range map[string]string{"eth0": "10.77.0.", "net1": "10.78.0.", "bak0": "10.79.0."} {
			if !strings.Contains(addresses, device) || !strings.Contains(addresses, address) {
				t.Errorf("%s, %s: the container has\n%s", device, address, addresses)
			}
		}
		listener := listenIn(t, container, ":80")
		d.reach(d.lan, "192.0.2.1:8080", "hello\n")
		must("check")
		var status []struct {
			Name, Interface string
			IPs             []string
			Default         bool
		}
		paths, _ := filepath.Glob(filepath.Join(d.leases, "multus", "pods", "*.status"))
		if len(paths) != 1 {
			t.Fatalf("files of status: %v", paths)
		}
		text, err := os.ReadFile(paths[0])
		if err := errors.Join(err, json.Unmarshal(text, &status)); err != nil || len(status) != 3 || !status[0].Default || status[0].Interface != "eth0" || status[1].Name != "storage" ||
			status[1].Interface != "net1" || status[2].Interface != "bak0" || !strings.HasPrefix(status[2].IPs[0], "10.79.0.") {
			t.Fatalf("the status is %v, %s", err, text)
		}
		for _, one := range status {
			d.reach(d.host, one.IPs[0]+":80", "hello\n")
		}
		listener.Close()
		container.Run("ip", "address", "flush", "dev", "bak0")
		if out, err := tool("check"); err == nil || !strings.Contains(out, "network backup, interface bak0: CHECK") {
			t.Errorf("check: %v, %s", err, out)
		}
		must("del")
		must("del")
		atRest()
	}

	// The JSON form: address, hardware address, and the way to everywhere else.
	configure("")
	annotate(`[{"name":"storage","interface":"sto0","ips":["10.78.0.99/24"],"mac":"02:00:00:00:00:78","default-route":["10.78.0.1"]}]`)
	must("add")
	if got := container.Run("sh", "-c", "ip route show default; cat /sys/class/net/sto0/address 2>/dev/null; ip address show sto0"); !strings.Contains(got, "default via 10.78.0.1 dev sto0") ||
		!strings.Contains(got, "02:00:00:00:00:78") || !strings.Contains(got, "10.78.0.99/24") || strings.Contains(got, "dev eth0") {
		t.Errorf("the container has %q", got)
	}
	must("del")
	atRest()

	// What cannot be is refused before any plugin is called.
	for annotation, want := range map[string]string{"storage,nowhere": "no such CNI network", "storage,": "the annotation is not understood", "storage@eth0": "interface eth0 is that of network lab",
		"storage@../x": "the annotation is not understood", `[{"name":"storage","portMappings":[{"hostPort":1,"containerPort":1,"protocol":"tcp"}]}]`: "capability portMappings"} {
		annotate(annotation)
		if out, err := tool("add"); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, %s; want %q", annotation, err, out, want)
		}
		atRest()
	}

	// A network in the middle fails at ADD: those before it, and it itself, are left in reverse, and those behind are never asked; and
	// one that fails at DEL keeps no other from being left.
	log := filepath.Join(t.TempDir(), "log")
	script := "#!/bin/sh\ncat >/dev/null\necho ${0##*/} $CNI_COMMAND $CNI_IFNAME >> " + log + `
[ -e ` + log + `.$CNI_COMMAND.${0##*/} ] && { echo '{"cniVersion": "1.0.0", "code": 100, "msg": "no"}'; exit 1; }
[ -e ` + log + `.KILL.${0##*/} ] && kill -9 $PPID
[ $CNI_COMMAND = ADD ] && echo '{"cniVersion": "1.0.0"}'
exit 0
`
	for _, name := range []string{"one", "two", "three"} {
		if err := os.WriteFile(filepath.Join(d.bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		d.write("multus/"+name+".conf", `{"cniVersion": "1.0.0", "name": "`+name+`", "type": "`+name+`"}`)
	}
	fail := func(what string, on bool) {
		if on {
			os.WriteFile(log+"."+what, nil, 0o644)
		} else {
			os.Remove(log + "." + what)
		}
	}
	logged := func(want string) {
		t.Helper()
		text, err := os.ReadFile(log)
		os.Remove(log)
		if err != nil || string(text) != want {
			t.Errorf("%v: the plugins were called\n%s", err, text)
		}
	}
	annotate("one,two,three")
	fail("ADD.two", true)
	if out, err := tool("add"); err == nil || !strings.Contains(out, "network two, interface net2: ADD") {
		t.Errorf("add: %v, %s", err, out)
	}
	logged("one ADD net1\ntwo ADD net2\ntwo DEL net2\none DEL net1\n")
	atRest()
	fail("DEL.two", true)
	if _, err := tool("add"); err == nil {
		t.Error("add with a network that fails")
	}
	logged("one ADD net1\ntwo ADD net2\ntwo DEL net2\none DEL net1\n")
	if len(left()) != 1 {
		t.Errorf("what was not undone is noted: %v", left())
	}
	fail("DEL.two", false)
	must("del")
	logged("three DEL net3\ntwo DEL net2\none DEL net1\n") // whom the note names: who has connected nothing has nothing to do
	atRest()

	// Killed at work: the note is there.
	fail("ADD.two", false)
	fail("KILL.two", true)
	if _, err := tool("add"); err == nil {
		t.Error("add by who is killed")
	}
	fail("KILL.two", false)
	logged("one ADD net1\ntwo ADD net2\n")
	must("del")
	logged("three DEL net3\ntwo DEL net2\none DEL net1\n")
	atRest()
}
