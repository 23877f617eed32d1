package cli_test

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit/program"
)

// Addresses by DHCP: Debian's plugin for that, with its daemon, asks a server on the network of a device that is shared.
func TestDHCPByPlugin(t *testing.T) {
	server, err := exec.LookPath("dnsmasq")
	if err != nil {
		t.Skipf("needs the package dnsmasq-base: %v", err)
	}
	d := newPluginDesk(t)
	dir := t.TempDir()
	socket, leases := filepath.Join(dir, "dhcp.sock"), filepath.Join(dir, "leases")
	d.write("10-lan.conflist", `{"cniVersion": "1.0.0", "name": "lan", "plugins": [{"type": "macvlan", "master": "up0", "ipam": {"type": "dhcp", "daemonSocketPath": "`+socket+`"}}]}`)
	before := d.state()
	run := []string{"run", "-d", "--name", "web", "--network", "cni:lan"}
	d.refused("dial unix "+socket, append(run, "base", "true")...) // and DEL as well, which is made up for when there is somebody to ask

	dhcpDaemon := exec.Command(filepath.Join(debianPlugins, "dhcp"), "daemon", "-socketpath", socket)
	d.host.Do(func() { err = dhcpDaemon.Start() })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { dhcpDaemon.Process.Kill(); dhcpDaemon.Wait() }()
	waitUntil(t, "the plugin's daemon listens", func() bool {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	d.containr("system", "check")
	d.clean(before)
	dnsmasq := exec.Command(server, "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=", "--interface=eth0", "--bind-interfaces", "--no-ping",
		"--dhcp-range=192.0.2.100,192.0.2.120,255.255.255.0,1h", "--dhcp-option=option:router,192.0.2.2", "--dhcp-leasefile="+leases)
	dnsmasq.Stderr = os.Stderr
	d.lan.Do(func() { err = dnsmasq.Start() })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { dnsmasq.Process.Kill(); dnsmasq.Wait() }()

	d.containr(append(run, serve(80, "hello")...)...)
	address, err := netip.ParseAddr(d.containr("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"))
	if err != nil || address.Compare(netip.MustParseAddr("192.0.2.100")) < 0 || address.Compare(netip.MustParseAddr("192.0.2.120")) > 0 {
		t.Fatalf("the container has %v, %v", address, err)
	}
	if text, err := os.ReadFile(leases); err != nil || !strings.Contains(string(text), address.String()) {
		t.Errorf("the server has given %v: %s", err, text)
	}
	d.reach(d.lan, address.String()+":80", "hello\n")
	d.containr("exec", "web", "ping", "-c", "1", "192.0.2.2")
	if got := d.containr("exec", "web", "ip", "route"); !strings.Contains(got, "default via 192.0.2.2") {
		t.Errorf("the routes are %s", got)
	}
	d.containr("rm", "-f", "web")
	waitUntil(t, "the address is given back", func() bool {
		text, err := os.ReadFile(leases)
		return err == nil && !strings.Contains(string(text), address.String())
	})
	d.clean(before)
	if err := program.AwaitMonitor(d.root); err != nil {
		t.Error(err)
	}
}
