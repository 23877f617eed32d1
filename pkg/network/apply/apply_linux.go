// Package apply makes the steps of networks in the kernel.
//
// # Theory of operation
//
// Package bridge plans links, addresses, routes and rules as data; here is what makes
// them. It is a package of its own because the OCI runtime, which never makes a network, is
// to stay small: pkg/runtime hands host calls that it does not know to whoever asked for the
// container, see runtime.Actions.
//
// Rules of the packet filter wait in a Kernel until NftCommit, and go to the kernel as one
// transaction.
package apply

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/nft"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/network/bridge"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// ErrUnknown means that a call is none of a network.
var ErrUnknown = errors.New("no action of a network")

// ErrForeign means that a device of the host is there already, and no network has made it.
var ErrForeign = errors.New("the host has a device of this name, which is none of containr's")

// Kernel makes the calls of one plan. The zero value is ready.
type Kernel struct {
	rules []string // of the transaction that is being collected
}

// Do makes a call. regs holds the results of earlier ones.
func (k *Kernel) Do(call plan.Call, regs map[plan.Reg]int) (int, error) {
	switch c := call.(type) {
	case linux.StartNetwork:
		return 0, startNetwork(c, regs)
	case linux.CarryPort:
		return 0, askCarrier(c.Socket, "publish "+c.Port+" "+c.Owner)
	case linux.WriteWithin:
		return 0, os.WriteFile(strings.ReplaceAll(c.Path, linux.PIDWord, strconv.Itoa(regs[c.PID])), []byte(c.Data), 0)
	case linux.NftSet:
		return 0, findSet(c)
	case linux.Nft:
		k.rules = append(k.rules, c.Message)
		return 0, nil
	case linux.NftCommit:
		rules := k.rules
		k.rules = nil
		return 0, nft.Transact(rules...)
	case linux.AddVeth:
		return addVeth(c, regs[c.PID])
	case linux.AddSubLink:
		return addSubLink(c, regs[c.PID])
	case linux.AddVLAN:
		return 0, here(func(r *sys.Route) error {
			parent, err := r.LinkIndex(c.Parent)
			if err != nil {
				return err
			}
			return r.AddSubLink(sys.SubLink{Kind: "vlan", Parent: parent, Name: c.Link, Number: c.ID, Group: linux.NetworkGroup})
		})
	case linux.AddAddress: // these two the runtime makes by itself, but in the hub of an ordinary user
		return 0, inside(regs[c.PID], func(r *sys.Route) error {
			return r.AddAddress(regs[c.Link], sys.Address{Prefix: c.Prefix, Local: c.Local, Peer: c.Peer, Broadcast: c.Broadcast, Flags: c.Flags})
		})
	case linux.RaiseLink:
		return 0, inside(regs[c.PID], func(r *sys.Route) error { return r.Up(regs[c.Link]) })
	case linux.DropLink:
		return 0, inside(regs[c.PID], func(r *sys.Route) error { _, err := r.DeleteLink(c.Link); return err })
	case linux.FindLink:
		return linkIn(regs[c.PID], c.Link)
	case linux.AddRoute:
		return 0, inside(regs[c.PID], func(r *sys.Route) error { return r.AddDefaultRoute(regs[c.Link], c.Gateway, c.Replace) })
	case linux.AddBridge:
		return 0, here(func(r *sys.Route) error { return addBridge(r, c) })
	case linux.AddLinkAddress:
		return 0, here(func(r *sys.Route) error { return addLinkAddress(r, c) })
	}
	return 0, fmt.Errorf("%s: %w", call.Name(), ErrUnknown)
}

// Undo makes an inverse. It succeeds when there is nothing to undo.
func Undo(call plan.Call) error {
	switch c := call.(type) {
	case linux.DeleteLink:
		if err := here(func(r *sys.Route) error { _, err := r.DeleteLink(c.Link); return err }); err != nil {
			return fmt.Errorf("%s: %w", c.Text(), err)
		}
		return nil
	case linux.UnplugLink:
		if err := here(func(r *sys.Route) error { _, err := r.Unplug(c.Link); return err }); err != nil {
			return fmt.Errorf("%s: %w", c.Text(), err)
		}
		return nil
	case linux.EndNetwork:
		return endNetwork(c.Lock)
	case linux.DropPort:
		err := askCarrier(c.Socket, "withdraw "+c.Port+" "+c.Owner)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) { // who listened has ended
			return nil
		}
		return err
	case linux.Nft:
		return transact(c.Command, c.Message)
	case linux.NftDelete:
		if c.Data != "" {
			data, err := nft.DataOf(c.Message)
			if err != nil || string(data) != c.Data {
				return err
			}
		}
		return transact(c.Command, c.Message)
	}
	return fmt.Errorf("%s: %w", call.Name(), ErrUnknown)
}

// transact makes deletions at one moment.
func transact(command, message string) error {
	if err := nft.Delete(message); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("nft %s: %w", command, err)
	}
	return nil
}

// Read reads an inverse from a journal.
func Read(action, operand string) (plan.Call, error) {
	switch action {
	case linux.EndNetwork{}.Name():
		return linux.EndNetwork{Lock: operand}, nil
	case linux.DeleteLink{}.Name():
		return linux.DeleteLink{Link: operand}, nil
	case linux.DropPort{}.Name():
		if c, ok := linux.DropPortFromEntry(operand); ok {
			return c, nil
		}
	case linux.NftDelete{}.Name():
		if c, ok := linux.NftDeleteFromEntry(operand); ok {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%q: %w", action, ErrUnknown)
}

// Networks is how many networks the table of rules is for, 0 if there is no table.
func Networks() (int, error) {
	n, err := nft.Count(bridge.Bridges())
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	return n, err
}

// IsPublished reports whether the rules lead a port of the host to where it should.
func IsPublished(p bridge.Port) (bool, error) {
	for _, step := range bridge.Publish([]bridge.Port{p}) {
		if c, ok := step.Undo.(linux.NftDelete); ok {
			data, err := nft.DataOf(c.Message)
			return err == nil && string(data) == c.Data, err
		}
	}
	return false, nil
}

// Dropping lists the chains of others that see what the host passes on, and drop what they do
// not know.
func Dropping() ([]nft.BaseChain, error) {
	chains, err := nft.Chains()
	return slices.DeleteFunc(chains, func(c nft.BaseChain) bool { return !c.Forward || !c.Drops || c.Table == string(bridge.Table) }), err
}

// DroppingInput lists the chains of others that see what is for the host, and drop what they do not know.
func DroppingInput() ([]nft.BaseChain, error) {
	chains, err := nft.Chains()
	return slices.DeleteFunc(chains, func(c nft.BaseChain) bool { return !c.Input || !c.Drops || c.Table == string(bridge.Table) }), err
}

// Answered reports whether a process, in its network, gets an answer of the name server at an address, to a question for a
// name that need not exist. A server whose questions or answers are thrown away is waited for that long.
func Answered(pid int, server netip.Addr, name string, patience time.Duration) (bool, error) {
	fd := -1
	err := sys.InNetworkOf(pid, func() (err error) {
		family := unix.AF_INET
		if server.Is6() {
			family = unix.AF_INET6
		}
		fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: 53, Addr: server.As16()}
	if server.Is4() {
		to = &unix.SockaddrInet4{Port: 53, Addr: server.As4()}
	}
	wait := unix.NsecToTimeval(patience.Nanoseconds())
	question := append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, byte(len(name))}, name...) // id 1, recursion, one question, RFC 1035
	question = append(question, 0, 0, 1, 0, 1)                                               // an address of class IN
	if err := errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait), unix.Connect(fd, to), unix.Send(fd, question, 0)); err != nil {
		return false, fmt.Errorf("name server %s: %w", server, err)
	}
	n, _, err := unix.Recvfrom(fd, make([]byte, 512), 0)
	return err == nil && n > 0, nil
}

func findSet(c linux.NftSet) error {
	there, err := nft.Set{Table: nft.Table(c.Table), Name: c.Set}.Exists()
	if err == nil && !there {
		err = unix.ENOENT
	}
	return err
}

// Owns reports whether a network's device is there, and the network made it: a bridge with the network's address, which no other has, or
// a device in the group of those that networks make.
func Owns(n bridge.Network) (owns bool, err error) {
	link := n.Link
	if n.Shared.Kind != "" {
		link = n.Shared.Parent
	}
	err = here(func(r *sys.Route) error {
		d, err := r.Device(link)
		owns = err == nil && (n.Shared.Kind == "" && isBridge(d, n.MAC()) || n.Shared.VLAN != 0 && d.Kind == "vlan" && d.Group == linux.NetworkGroup)
		if errors.Is(err, unix.ENODEV) {
			return nil
		}
		return err
	})
	return owns, err
}

// isBridge: it is one that was made with a hardware address of a network.
func isBridge(d sys.Device, mac string) bool { return d.Kind == "bridge" && d.MAC == mac }

// addBridge makes a bridge. With Own, one of the host's is not taken for it, and gets no addresses.
func addBridge(r *sys.Route, c linux.AddBridge) error {
	err := r.AddBridge(c.Link, c.MAC, c.MTU)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	d, look := r.Device(c.Link)
	if look == nil && c.Own && !isBridge(d, c.MAC) {
		look = fmt.Errorf("device %s: %w", c.Link, ErrForeign)
	}
	return cmp.Or(look, err)
}

// here talks to the kernel about the host's devices.
func here(do func(*sys.Route) error) error {
	r, err := sys.OpenRoute()
	if err != nil {
		return err
	}
	defer r.Close()
	return do(r)
}

// inside talks about those of a process.
func inside(pid int, do func(*sys.Route) error) error {
	r, err := sys.OpenRouteOf(pid)
	if err != nil {
		return err
	}
	defer r.Close()
	return do(r)
}

func addLinkAddress(r *sys.Route, c linux.AddLinkAddress) error {
	index, err := r.LinkIndex(c.Link)
	if err != nil {
		return err
	}
	return r.AddOwnAddress(index, c.Local, c.Prefix)
}

func addVeth(c linux.AddVeth, pid int) (int, error) {
	err := here(func(r *sys.Route) error {
		bridge, err := r.LinkIndex(c.Bridge)
		if err != nil {
			return err
		}
		veth := sys.Veth{Name: c.Link, Master: bridge, Group: linux.CableGroup, PeerPID: pid, Peer: c.Peer, PeerMAC: c.MAC, MTU: c.MTU}
		err = r.AddVeth(veth)
		if errors.Is(err, unix.EEXIST) {
			// The container's last cable: that network namespace is not gone yet, see linux.UnplugLink.
			_, gone := r.DeleteLink(c.Link)
			err = cmp.Or(gone, r.AddVeth(veth))
		}
		if err != nil {
			return err
		}
		index, err := r.LinkIndex(c.Link)
		if err != nil {
			return err
		}
		fixed := ""
		if c.Fixed {
			fixed = c.MAC
		}
		return r.BridgePort(index, true, c.Isolated, fixed)
	})
	if err != nil {
		return 0, err
	}
	return linkIn(pid, c.Peer)
}

func addSubLink(c linux.AddSubLink, pid int) (int, error) {
	number := func(of, word string) int {
		for _, m := range linux.SubLinkModes[of] {
			if m.Word == word {
				return m.Number
			}
		}
		return 0
	}
	err := here(func(r *sys.Route) error {
		parent, err := r.LinkIndex(c.Parent)
		if err != nil {
			return err
		}
		return r.AddSubLink(sys.SubLink{Kind: c.Kind, Parent: parent, PID: pid, Name: c.Link, MAC: c.MAC, MTU: c.MTU,
			Number: number(c.Kind, c.Mode), Flags: number("flag", c.Flag)})
	})
	if err != nil {
		return 0, err
	}
	return linkIn(pid, c.Link)
}

// linkIn finds a device of a process's network.
func linkIn(pid int, name string) (index int, err error) {
	err = inside(pid, func(r *sys.Route) error { index, err = r.LinkIndex(name); return err })
	return index, err
}
