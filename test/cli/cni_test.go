package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit/program"
)

// debianPlugins is where Debian's package containernetworking-plugins has them.
const debianPlugins = "/usr/lib/cni"

// pluginDesk is a desk whose host has networks of plugins.
type pluginDesk struct {
	*desk
	conf, bin, leases string
}

func newPluginDesk(t *testing.T) *pluginDesk {
	if _, err := os.Stat(filepath.Join(debianPlugins, "bridge")); err != nil {
		t.Skipf("needs the package containernetworking-plugins: %v", err)
	}
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skipf("needs iptables, which the plugins call: %v", err)
	}
	d := &pluginDesk{desk: newDesk(t), conf: t.TempDir(), bin: t.TempDir(), leases: t.TempDir()}
	d.use(debianPlugins)
	return d
}

// use has plugins looked for in directories.
func (d *pluginDesk) use(bin ...string) {
	text := fmt.Sprintf("[global]\ncni-conf-dir = %q\ncni-bin-dir = [%s]\n", d.conf, `"`+strings.Join(bin, `", "`)+`"`)
	if err := os.MkdirAll(filepath.Join(d.conf, "containr"), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.conf, "containr", "config.toml"), []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
	d.environment = append(d.environment, "XDG_CONFIG_HOME="+d.conf)
}

// write writes the file of a network. LEASES in it is the directory where host-local keeps who has which address.
func (d *pluginDesk) write(name, text string) {
	d.t.Helper()
	text = strings.ReplaceAll(text, "LEASES", d.leases)
	if err := os.WriteFile(filepath.Join(d.conf, name), []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// lab is a network of a bridge, with ports.
const lab = `{
  "cniVersion": "1.0.0",
  "name": "lab",
  "plugins": [
    {"type": "bridge", "bridge": "cni-lab", "isGateway": true, "ipMasq": true, "hairpinMode": true, "capabilities": {"mac": true},
     "ipam": {"type": "host-local", "dataDir": "LEASES", "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]],
              "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}},
    {"type": "firewall"},
    {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}
  ]
}`

// addressesTaken lists the addresses that host-local has given.
func (d *pluginDesk) addressesTaken() []string {
	found, err := filepath.Glob(filepath.Join(d.leases, "*", "*[0-9a-f][.:]*[0-9a-f]"))
	if err != nil {
		d.t.Fatal(err)
	}
	var list []string
	for _, path := range found {
		if name := filepath.Base(path); !strings.HasPrefix(name, "last_reserved") {
			list = append(list, name)
		}
	}
	return list
}

// quiet runs a container and returns the state that the plugins leave when the last one has gone: they keep bridges and empty chains.
func (d *pluginDesk) quiet(network string) string {
	d.t.Helper()
	d.containr("run", "--rm", "--network", network, "-p", "8080:80", "base", "true")
	return d.state()
}

// state is the host's without what has been counted.
func (d *pluginDesk) state() string {
	return regexp.MustCompile(`counter packets \d+ bytes \d+ |# Warning: .*\n`).ReplaceAllString(d.host.State(), "")
}

// clean checks that nothing of any container is left.
func (d *pluginDesk) clean(quiet string) {
	d.t.Helper()
	if now := d.state(); now != quiet {
		d.t.Errorf("the host has now\n%s\nand had before\n%s", now, quiet)
	}
	if taken := d.addressesTaken(); len(taken) > 0 {
		d.t.Errorf("addresses are still taken: %v", taken)
	}
	if left, _ := filepath.Glob(filepath.Join(d.root, "run", "cni", "*", "*")); len(left) > 0 {
		d.t.Errorf("left: %v", left)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), d.root+"/run/cni") {
		d.t.Errorf("the name of a network namespace is left: %v", err)
	}
}

// Debian's plugins connect containers: with each other, with the host and its neighbours, and through published ports; and what they
// did is undone.
func TestPlugins(t *testing.T) {
	d := newPluginDesk(t)
	d.write("10-lab.conflist", lab)
	quiet := d.quiet("cni:lab")
	d.containr(append([]string{"run", "-d", "--name", "web", "--network", "name=cni:lab,ip=10.77.0.80", "--mac-address", "02:00:00:00:00:77", "-p", "8080:80"}, serve(80, "hello")...)...)
	for _, address := range []string{"10.77.0.80:80", "192.0.2.1:8080"} {
		d.reach(d.host, address, "hello\n")
	}
	d.reach(d.lan, "192.0.2.1:8080", "hello\n")
	d.answered("hello\n", "run", "--rm", "--network", "cni:lab", "base", "nc", "-w", "30", "10.77.0.80", "80")
	if got := d.containr("exec", "web", "cat", "/proc/sys/net/core/somaxconn", "/sys/class/net/eth0/address"); got != "500\n02:00:00:00:00:77" {
		t.Errorf("the container has %q", got)
	}
	if seen := d.seenIn("cni:lab", "192.0.2.2"); seen != "192.0.2.1" {
		t.Errorf("a neighbour is talked to from %s", seen)
	}
	if got := d.containr("inspect", "-f", `{{.NetworkSettings.IPAddress}} {{(index .NetworkSettings.Networks "cni:lab").GlobalIPv6PrefixLen}}`, "web"); got != "10.77.0.80 64" {
		t.Errorf("inspect says %q", got)
	}
	if got := d.containr("network", "inspect", "-f", `{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}} {{.CNI.Plugins}}`, "cni:lab"); got != "web 10.77.0.80/24 [bridge portmap firewall tuning]" {
		t.Errorf("network inspect says %q", got)
	}
	d.containr("rm", "-f", "web")
	d.clean(quiet)

	// CHECK finds what somebody has changed. (Without a port: Debian 12's portmap looks for rules of version 6 that it has not made.)
	d.containr("run", "-d", "--name", "web", "--network", "cni:lab", "base", "sleep", "1000")
	d.containr("network", "check", "cni:lab")
	d.host.Run("iptables", "-F", "CNI-FORWARD")
	d.refused("CHECK", "network", "check", "cni:lab")
	d.containr("rm", "-f", "web")
	if taken := d.addressesTaken(); len(taken) > 0 {
		t.Errorf("addresses are still taken: %v", taken)
	}
	if err := program.AwaitMonitor(d.root); err != nil {
		t.Error(err)
	}
}

// wrapper is a plugin that executes Debian's of the same name, and at one moment does something else: at the verb AT_VERB, for the
// plugin AT_PLUGIN, before or after.
const wrapper = `#!/bin/sh
name=${0##*/}
config=$(cat)
at() { [ "$(cat "$PLAN/at" 2>/dev/null)" = "$CNI_COMMAND $name $1" ] && rm "$PLAN/at" && . "$PLAN/do"; }
at before
printf %s "$config" | /usr/lib/cni/$name
status=$?
at after
exit $status
`

// wrapped makes the plugins of a network fail as a plan says, which is written to a directory.
func (d *pluginDesk) wrapped(plugins ...string) (plan string) {
	plan = d.t.TempDir()
	for _, name := range plugins {
		if err := os.WriteFile(filepath.Join(d.bin, name), []byte(wrapper), 0o755); err != nil {
			d.t.Fatal(err)
		}
	}
	d.use(d.bin, debianPlugins)
	d.environment = append(d.environment, "PLAN="+plan)
	return plan
}

// at has something done at a moment.
func at(t *testing.T, plan, when, do string) {
	t.Helper()
	for name, text := range map[string]string{"at": when, "do": do} {
		if err := os.WriteFile(filepath.Join(plan, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// moments are those at which a container's plugins can be disturbed.
func moments(verbs ...string) (list []string) {
	for _, verb := range verbs {
		for _, plugin := range []string{"bridge", "portmap", "firewall", "tuning"} {
			list = append(list, verb+" "+plugin+" before", verb+" "+plugin+" after")
		}
	}
	return list
}

// A plugin fails, or containr is killed while one is at work, which goes on: nothing of the container is left.
func TestDisturbedPlugins(t *testing.T) {
	d := newPluginDesk(t)
	d.write("10-lab.conflist", lab)
	plan := d.wrapped("bridge", "portmap", "firewall", "tuning")
	quiet := d.quiet("cni:lab")
	run := []string{"run", "-d", "--name", "web", "--network", "cni:lab", "-p", "8080:80", "base", "sleep", "1000"}
	for _, when := range moments("ADD") {
		at(t, plan, when, `echo '{"cniVersion":"1.0.0","code":100,"msg":"out of order"}'; exit 1`)
		d.refused("out of order", run...)
		d.clean(quiet)
	}
	for _, when := range moments("ADD", "DEL") {
		d.killedAt(plan, when, quiet, run)
	}
	if err := program.AwaitMonitor(d.root); err != nil {
		t.Error(err)
	}
}

// killedAt kills containr at a moment of connecting or disconnecting the container web, which run starts: nothing of it is left.
func (d *pluginDesk) killedAt(plan, when, quiet string, run []string) {
	t := d.t
	t.Helper()
	at(t, plan, when, `kill -9 $PPID`)
	if _, err := d.command(run...); err == nil {
		d.command("rm", "-f", "web") // which is killed
	}
	if _, err := os.Stat(filepath.Join(plan, "at")); err == nil {
		t.Fatalf("%s: nobody was killed", when)
	}
	if out, err := d.command("rm", "-f", "web"); err != nil && !strings.Contains(out, "no such container") {
		t.Fatalf("killed at %s: rm -f web: %s", when, out)
	}
	d.clean(quiet)
	if t.Failed() {
		t.Fatalf("killed at %s", when)
	}
}

// A plugin that cannot disconnect is asked again later, and finds the network namespace until then.
func TestPluginThatCannotDisconnect(t *testing.T) {
	d := newPluginDesk(t)
	d.write("10-lab.conflist", lab)
	plan := d.wrapped("bridge", "portmap", "firewall", "tuning")
	quiet := d.quiet("cni:lab")
	d.containr("run", "-d", "--name", "web", "--network", "cni:lab", "base", "sleep", "1000")
	at(t, plan, "DEL bridge before", `echo '{"cniVersion":"1.0.0","code":11,"msg":"come again"}'; exit 1`)
	d.refused("come again", "rm", "-f", "web")
	d.containr("rm", "-f", "web")
	d.clean(quiet)
	if err := program.AwaitMonitor(d.root); err != nil {
		t.Error(err)
	}
}

// What is wrong with a network is said before anything is made, with file and line.
func TestPluginNetworksInWords(t *testing.T) {
	d := newPluginDesk(t)
	before := d.state()
	d.write("10-lab.conflist", lab)
	run := func(flags ...string) []string {
		return append(append([]string{"run", "--rm"}, flags...), "base", "true")
	}
	d.refused("network cni:lap: no file in "+d.conf+" is about it", run("--network", "cni:lap")...)
	d.write("20-broken.conflist", "{\n  \"name\": \"broken\",\n  \"plugins\": [\n    {\"type\" \"bridge\"}\n  ]\n}")
	d.refused("20-broken.conflist:4: ", run("--network", "cni:broken")...)
	d.write("20-broken.conflist", "{\n  \"name\": \"broken\", \"cniVersion\": \"1.0.0\",\n  \"plugins\": [\n    {\"type\": \"bridge\"},\n    {\"kind\": \"x\"}\n  ]\n}")
	d.refused("20-broken.conflist:5: plugin 2 has no \"type\"", run("--network", "cni:broken")...)
	d.write("20-broken.conflist", "{\n  \"name\": \"broken\",\n  \"cniVersion\": \"9.9.9\",\n  \"plugins\": [{\"type\": \"bridge\"}]\n}")
	d.refused("20-broken.conflist:3: cniVersion \"9.9.9\"; there are 0.1.0", run("--network", "cni:broken")...)
	d.write("20-broken.conflist", `{"name": "broken", "cniVersion": "1.1.0", "plugins": [{"type": "tuning"}]}`)
	d.refused("unknown version of CNI", run("--network", "cni:broken")...)
	d.write("20-broken.conflist", `{"name": "broken", "cniVersion": "1.0.0", "plugins": [{"type": "brigde"}]}`)
	d.refused(`plugin "brigde": it is not in `+debianPlugins, run("--network", "cni:broken")...)
	d.refused("apt-get install containernetworking-plugins", run("--network", "cni:broken")...)
	d.write("20-broken.conflist", `{"name": "bare", "cniVersion": "1.0.0", "plugins": [{"type": "bridge", "bridge": "cni-bare"}]}`)
	d.refused("no plugin of "+d.conf+"/20-broken.conflist says that it has the capability portMappings", run("--network", "cni:bare", "-p", "8080:80")...)
	d.refused("is given twice", run("--network", "cni:lab", "--network", "cni:lab")...)
	d.refused("network check lab: only networks of plugins", "network", "check", "lab")
	d.refused("--network-backend docker: use builtin, cni, netavark", "--network-backend", "docker", "ps")
	d.clean(before)
	if got := d.containr("network", "ls", "--format", "{{.Name}} {{.Driver}}"); !strings.Contains(got, "cni:lab cni") {
		t.Errorf("network ls prints %q", got)
	}
}

// Several networks, as the annotation of Multus asks for them: in order, with names of interfaces, addresses and the way out; and what came of
// it is in the annotation for that.
func TestNetworksByAnnotation(t *testing.T) {
	d := newPluginDesk(t)
	network := func(name, subnet string) string {
		return strings.NewReplacer(`"lab"`, `"`+name+`"`, "cni-lab", "cni-"+name, "10.77.0.0/24", subnet, `, [{"subnet": "fd77::/64"}]`, "", `, {"dst": "::/0"}`, "", `{"type": "portmap", "capabilities": {"portMappings": true}},`, "").Replace(lab)
	}
	d.write("10-lab.conflist", lab)
	d.write("20-storage.conflist", network("storage", "10.78.0.0/24"))
	d.write("30-backup.conflist", network("backup", "10.79.0.0/24"))
	d.write("40-spare.conflist", network("spare", "10.80.0.0/24"))
	d.containr("run", "-d", "--name", "short", "--network", "cni:lab", "--annotation", "k8s.v1.cni.cncf.io/networks=storage,default/backup@bak0", "base", "sleep", "1000")
	if got := d.containr("exec", "short", "sh", "-c", "for i in eth0 net1 bak0; do ip addr show $i | grep -o 'inet 10[^/]*'; done"); got != "inet 10.77.0.2\ninet 10.78.0.2\ninet 10.79.0.2" {
		t.Errorf("the container has %q", got)
	}
	if got := d.containr("exec", "short", "sh", "-c", "grep $(hostname) /etc/hosts | cut -f1"); got != "10.77.0.2\nfd77::2\n10.78.0.2\n10.79.0.2" {
		t.Errorf("the container's own addresses in /etc/hosts are %q", got)
	}
	d.refused("plugins connect a container when it starts", "network", "connect", "cni:spare", "short")
	d.refused("the container is in the network already", "network", "connect", "cni:backup", "short")
	d.refused("plugins publish ports when a container starts", "update", "--publish-add", "8080:80", "short")
	d.containr("restart", "-t", "0", "short")
	if got := d.containr("exec", "short", "sh", "-c", "grep -c $(hostname) /etc/hosts"); got != "4" {
		t.Errorf("after a restart the container has %s addresses in /etc/hosts", got)
	}
	text := d.containr("inspect", "-f", `{{index .HostConfig.Annotations "k8s.v1.cni.cncf.io/network-status"}}`, "short")
	var status []struct {
		Name, Interface string
		IPs             []string
		Default         bool
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil || len(status) != 3 || !status[0].Default || status[1].Default ||
		status[1].Name != "storage" || status[2].Interface != "bak0" || !strings.HasPrefix(status[2].IPs[0], "10.79.0.") {
		t.Errorf("the status is %v, %s", err, text)
	}
	d.containr("rm", "-f", "short")

	d.containr("run", "-d", "--name", "long", "--network", "cni:lab", "--annotation",
		`k8s.v1.cni.cncf.io/networks=[{"name":"storage","interface":"sto0","ips":["10.78.0.99/24"],"mac":"02:00:00:00:00:78","default-route":["10.78.0.1"]}]`, "base", "sleep", "1000")
	if got := d.containr("exec", "long", "sh", "-c", "ip route | grep default; cat /sys/class/net/sto0/address; ip addr | grep -c 10.78.0.99"); got != "default via 10.78.0.1 dev sto0\n02:00:00:00:00:78\n1" {
		t.Errorf("the container has %q", got)
	}
	d.containr("rm", "-f", "long")

	run := func(annotation string) []string {
		return []string{"run", "--rm", "--network", "cni:lab", "--annotation", "k8s.v1.cni.cncf.io/networks=" + annotation, "base", "true"}
	}
	d.refused("network cni:nowhere: no file", run("storage,nowhere")...)
	d.refused("the annotation is not understood", run("storage,")...)
	d.refused("the annotation is not understood", run(`[{"name":"storage","colour":"red"}]`)...)
	d.refused("interface eth0 is that of network cni:lab", run("storage@eth0")...)
	if taken := d.addressesTaken(); len(taken) > 0 {
		t.Errorf("addresses are still taken: %v", taken)
	}
	if err := program.AwaitMonitor(d.root); err != nil {
		t.Error(err)
	}
}

// A network in the middle cannot be made: those before it, and it itself, are undone in reverse; those behind were never asked.
func TestFailedNetworkIsUndoneInReverse(t *testing.T) {
	d := newPluginDesk(t)
	before := d.state()
	log := filepath.Join(t.TempDir(), "log")
	script := "#!/bin/sh\ncat >/dev/null\necho ${0##*/} $CNI_COMMAND $CNI_IFNAME >> " + log + `
[ $CNI_COMMAND = DEL ] && exit
[ ${0##*/} = two ] && { echo '{"code": 100, "msg": "no"}'; exit 1; }
echo '{"cniVersion": "1.0.0"}'
`
	for _, name := range []string{"one", "two", "three"} {
		if err := os.WriteFile(filepath.Join(d.bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		d.write(name+".conflist", `{"cniVersion": "1.0.0", "name": "`+name+`", "plugins": [{"type": "`+name+`"}]}`)
	}
	d.use(d.bin)
	d.refused("network cni:two: ADD", "run", "--rm", "--network", "cni:one", "--annotation", "k8s.v1.cni.cncf.io/networks=two,three", "base", "true")
	text, err := os.ReadFile(log)
	if err != nil || string(text) != "one ADD eth0\ntwo ADD net1\ntwo DEL net1\none DEL eth0\n" {
		t.Errorf("%v: the plugins were called\n%s", err, text)
	}
	d.clean(before)
}
