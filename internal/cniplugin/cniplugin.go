// Package cniplugin has other engines use containr's networks: as plugins of the Container Network Interface, and as netavark, which
// podman executes.
//
// # Theory of operation
//
// One program has several names, and does what the name says that it was called by:
//
//	bridge      a switch and a cable, as pkg/network/bridge plans them
//	macvlan     a share of a device of the host's
//	host-local  addresses: a file each, as pkg/networks keeps them
//	portmap     published ports: elements of a map in containr's table of rules
//	firewall    networks are kept apart: their bridges are elements of a set there
//	multus      several networks, of these plugins and others
//	netavark    all of that at once, in podman's words
//
// A plugin is told what to do by its environment and its standard input, and prints a result; dispatch.go is that. What it does
// are the same steps that a container of containr's own has, and that is all: a thread enters the network namespace, and
// stands in them where else the container's process does.
//
// Whoever calls keeps the books: nothing is written down here but addresses. So all that is to be undone can be found by what a
// caller says again: the cable has a name that is made of the container's, and ports are taken away only if
// they lead to the container.
package cniplugin

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/network/apply"
	"github.com/containr/containr/pkg/network/bridge"
	"github.com/containr/containr/pkg/plan"
	run "github.com/containr/containr/pkg/runtime"
)

// thread is the register of a thread in the container's network namespace.
const thread plan.Reg = "pid"

// perform makes steps for the network namespace at a path.
func perform(netns string, steps []plan.Step) error {
	actions := run.Actions{Do: new(apply.Kernel).Do, Undo: apply.Undo}
	if netns == "" {
		return run.Perform(steps, map[plan.Reg]int{}, actions)
	}
	return inside(netns, func(tid int) error { return run.Perform(steps, map[plan.Reg]int{thread: tid}, actions) })
}

// inside calls do while a thread is in a network namespace. The thread ends afterwards.
func inside(netns string, do func(tid int) error) error {
	fd, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: netns, Err: err}
	}
	defer unix.Close(fd)
	entered, done := make(chan error), make(chan struct{})
	tid := 0
	go func() {
		runtime.LockOSThread() // and never unlocked: it ends with its thread
		tid = unix.Gettid()
		err := unix.Setns(fd, unix.CLONE_NEWNET)
		entered <- err
		if err == nil {
			<-done
		}
	}()
	if err := <-entered; err != nil {
		return &os.PathError{Op: "setns", Path: netns, Err: err}
	}
	defer close(done)
	return do(tid)
}

// cable is the name of the host's end of a container's cable.
func cable(container, ifname string) string {
	sum := sha256.Sum256([]byte(container + "/" + ifname))
	return "ctr" + hex.EncodeToString(sum[:])[:11]
}

// forwarding reads what the host does with packets that are not for it.
func forwarding() bridge.Host {
	on := func(path string) bool {
		text, err := os.ReadFile("/proc/sys/net/" + path)
		return err == nil && strings.TrimSpace(string(text)) == "1"
	}
	h := bridge.Host{Forwards4: on("ipv4/ip_forward"), Forwards6: on("ipv6/conf/all/forwarding")}
	entries, _ := os.ReadDir("/proc/sys/net/ipv6/conf") // not there: no version 6
	for _, e := range entries {
		if name := e.Name(); !h.Forwards6 && name != "all" && name != "default" && name != "lo" && !isPort(name) && on("ipv6/conf/"+name+"/accept_ra") {
			h.Listens = append(h.Listens, name)
		}
	}
	return h
}

// isPort: the device is plugged into a bridge, and so has no addresses or routes of its own to learn.
func isPort(device string) bool {
	_, err := os.Lstat("/sys/class/net/" + device + "/brport")
	return err == nil
}

// subnetOf is the range of an address, with its first address as the gateway if there is none.
func subnetOf(p netip.Prefix, gateway netip.Addr) bridge.Subnet {
	if !gateway.IsValid() {
		gateway = p.Masked().Addr().Next()
	}
	return bridge.Subnet{Prefix: p.Masked(), Gateway: gateway}
}

// publish plans ports, with the table of rules that they are in.
func publish(ports []bridge.Port) []plan.Step {
	if len(ports) == 0 {
		return nil
	}
	return append(bridge.Reload(bridge.Input{}), bridge.Publish(ports)...)
}

// unpublish takes ports away that lead to a container.
func unpublish(ports []bridge.Port) error {
	return undo(bridge.Publish(ports))
}

// undo makes the inverses of steps.
func undo(steps []plan.Step) error {
	for _, c := range (&plan.Plan{Steps: steps}).Undo() {
		if err := apply.Undo(c); err != nil {
			return err
		}
	}
	return nil
}
