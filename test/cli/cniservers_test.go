package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A container asks for names whom the plugins of its network have named, unless the user has named somebody, whom the plugins are told then,
// or the container has written the file itself.
func TestPluginsNameServers(t *testing.T) {
	d := newPluginDesk(t)
	const text = `{"cniVersion": "1.0.0", "name": "NAME", "plugins": [
  {"type": "bridge", "bridge": "cni-lab", "isGateway": true, "capabilities": {"dns": true}, "dns": {"nameservers": ["192.0.2.2"], "search": ["SEARCH"]},
   "ipam": {"type": "host-local", "dataDir": "LEASES", "ranges": [[{"subnet": "10.77.0.0/24"}]]}}]}`
	network := func(name, search string) string {
		return strings.NewReplacer("NAME", name, "SEARCH", search).Replace(text)
	}
	d.write("10-lab.conflist", network("lab", "lab.example"))
	d.containr("run", "--rm", "--network", "cni:lab", "base", "true")
	quiet := d.state()
	d.containr("run", "-d", "--name", "web", "--network", "cni:lab", "base", "sleep", "1000")
	for _, search := range []string{"lab.example", "other.example"} {
		want := "# Plugins of CNI have named these.\nnameserver 192.0.2.2\nsearch " + search
		if got := d.containr("exec", "web", "cat", "/etc/resolv.conf"); !strings.HasPrefix(got+"\n", want+"\n") || strings.Count(got, "nameserver") != 1 {
			t.Errorf("resolv.conf is %q, want %q", got, want)
		}
		d.write("10-lab.conflist", network("lab", "other.example"))
		d.containr("restart", "-t", "0", "web")
	}
	d.containr("exec", "web", "sh", "-c", "echo nameserver 192.0.2.9 > /etc/resolv.conf")
	d.containr("restart", "-t", "0", "web")
	if got := d.containr("exec", "web", "cat", "/etc/resolv.conf"); got != "nameserver 192.0.2.9" {
		t.Errorf("what the container wrote is gone: %q", got)
	}
	if got := d.containr("run", "--rm", "--network", "cni:lab", "--dns", "192.0.2.3", "base", "cat", "/etc/resolv.conf"); !strings.HasPrefix(got, "nameserver 192.0.2.3") {
		t.Errorf("with --dns resolv.conf is %q", got)
	}
	if plan := d.containr("explain", "run", "--network", "cni:lab", "--dns", "192.0.2.3", "base", "true"); !strings.Contains(plan, `"runtimeConfig":{"dns":{"servers":["192.0.2.3"]}}`) {
		t.Errorf("the plugins are not told of --dns:\n%s", plan)
	}
	d.containr("rm", "-f", "web")

	// A network of a namespace is another one than that of the same name elsewhere.
	dir := filepath.Join(d.conf, "blue")
	must(t, os.Mkdir(dir, 0o755))
	d.write("blue/10-lab.conflist", network("lab", "blue.example"))
	for annotation, search := range map[string]string{"lab": "other.example", "default/lab": "other.example", "blue/lab": "blue.example"} {
		got := d.containr("run", "--rm", "--network", "none", "--annotation", "k8s.v1.cni.cncf.io/networks="+annotation, "base", "cat", "/etc/resolv.conf")
		if !strings.Contains(got, "search "+search) {
			t.Errorf("in network %s resolv.conf is %q", annotation, got)
		}
	}
	d.refused("network red/lab", "run", "--rm", "--network", "none", "--annotation", "k8s.v1.cni.cncf.io/networks=red/lab", "base", "true")
	d.refused("hostPort 70000: use 1 to 65535", "run", "--rm", "--network", "none", "--annotation",
		`k8s.v1.cni.cncf.io/networks=[{"name": "lab", "portMappings": [{"hostPort": 70000, "containerPort": 80, "protocol": "tcp"}]}]`, "base", "true")
	d.clean(quiet)
}
