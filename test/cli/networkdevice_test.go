package cli_test

import (
	"strings"
	"testing"
)

// What a network takes away is what it has made: devices that the host had before, or that somebody else has made meanwhile, stay as
// they are, and are not given a network's addresses.
func TestDevicesOfTheHostStay(t *testing.T) {
	d := newDesk(t)
	d.host.Run("ip", "link", "add", "br0", "type", "bridge")
	before := d.host.State()
	d.refused("none of containr's", "network", "create", "-o", "com.docker.network.bridge.name=br0", "mine")
	d.containr("network", "create", "-o", "com.docker.network.bridge.name=br1", "mine")
	d.host.Run("ip", "link", "add", "br1", "type", "bridge")
	d.refused("device br1: the host has a device of this name, which is none of containr's", "run", "--rm", "--network", "mine", "base", "true")
	if out := d.host.Run("ip", "address", "show", "br1"); strings.Contains(out, "inet ") {
		t.Errorf("a device of the host has now\n%s", out)
	}
	d.containr("network", "rm", "mine")
	if out, err := d.host.Command("ip", "link", "show", "br1"); err != nil {
		t.Errorf("the host's device went with a network that never had it: %s", out)
	}
	d.host.Run("ip", "link", "del", "br1")
	d.finish(before)
}

// A VLAN that was made for networks goes with the last of them, and one that the host had stays.
func TestVLANOfTwoNetworks(t *testing.T) {
	d := newDesk(t)
	if out, err := d.host.Command("ip", "link", "add", "up0.6", "link", "up0", "type", "vlan", "id", "6"); err != nil {
		t.Skipf("this kernel has no VLANs: %s", out)
	}
	before := d.host.State()
	d.containr("network", "create", "-d", "macvlan", "--subnet", "192.0.3.0/24", "-o", "parent=up0.5", "one")
	d.containr("network", "create", "-d", "macvlan", "--subnet", "192.0.4.0/24", "-o", "parent=up0.6", "hosts")
	d.command("run", "--rm", "--network", "one", "base", "true") // which succeeds where there are macvlans, and makes the VLAN anyway
	there := func() bool { _, err := d.host.Command("ip", "link", "show", "up0.5"); return err == nil }
	if !there() {
		t.Fatal("the VLAN is not there")
	}
	d.containr("network", "create", "-d", "macvlan", "--subnet", "192.0.5.0/24", "-o", "parent=up0.5", "two")
	d.containr("network", "rm", "one")
	if !there() {
		t.Error("the VLAN of network two went with network one")
	}
	d.containr("network", "rm", "hosts", "two")
	d.finish(before)
}
