// Package usermode plans the network of a container that no device of the host's carries: its
// packets go to a program of the same user, which speaks for it by ordinary sockets.
//
// # Theory of operation
//
// An ordinary user may make network devices, but only in a network namespace that his user
// namespace owns, and no cable leads out of it. What leads out is a tap: a device whose other
// end is a file descriptor. So
//
//  1. the container's process, which has all privileges in its own namespace at that time, opens
//     /dev/net/tun while it still sees the host's files, makes the device, and gives it addresses
//     and the route to everywhere, all by ioctl(2), whose errors are results of steps;
//  2. the descriptor goes to the host, by the socket that is there for such things;
//  3. the host starts the program that reads and writes frames there. It is outside: it is in
//     no namespace of the container's, and the container cannot see or signal it.
//
// The program ends with the container's first process, of which it has the pidfd, and the
// device goes with it. Nobody else has to be alive for that. The inverse in the journal is to
// wait for it: then its ports are free again.
//
// The backends pasta and slirp4netns make the device by themselves, in the namespaces of the
// process that they are told. As they do not all end with a container, the same program of ours
// stands above them.
package usermode

import (
	"net/netip"
	"strconv"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// The backends, as users name them.
const (
	Builtin = "builtin"
	Pasta   = "pasta"
	Slirp   = "slirp4netns"
)

// Interface is the container's device, and index its number.
const (
	Interface = "eth0"
	index     = 100
)

// Port is a port of the host that leads to one of the container's.
type Port struct {
	Protocol string
	// HostIP is the address of the host; not valid for all.
	HostIP          netip.Addr
	Host, Container uint16
}

// Input is what the plan depends on.
type Input struct {
	Backend string
	// Program carries the packets, and Helper is the program of a backend that is not ours.
	Program, Helper string
	// Lock is a file that the program holds a lock on while it runs.
	Lock string
	// PID is the register of the container's first process.
	PID plan.Reg
	// Net has the container's addresses. Without IPv6 in the kernel those of version 6 are left
	// out.
	Net  Net
	IPv6 bool
	// HostLoopback lets the container reach what listens at the host's loopback addresses, by
	// the address of the gateway.
	HostLoopback bool
	MTU          int
	// UserNS says that the container has a user namespace of its own.
	UserNS bool
	// Root says that who starts the program is root.
	Root  bool
	Ports []Port
	// Control, if not empty, is a socket where the program is asked for further ports; see Carry. What comes through
	// ports then goes to addresses that Entrance names.
	Control string
}

// Net is the network between a container and the program. The host part of every address is
// fixed, as others' is: the gateway has .2, whoever answers for names .3, the container .100.
type Net struct{ IPv4, IPv6 netip.Prefix }

// DefaultNet is where a container is unless told: the network that slirp4netns made usual.
func DefaultNet() Net {
	return Net{IPv4: netip.MustParsePrefix("10.0.2.0/24"), IPv6: netip.MustParsePrefix("fd00:c0a7::/64")}
}

// Numbers of those in the network.
const (
	gatewayHost   = 2
	namesHost     = 3
	containerHost = 100
)

func at(p netip.Prefix, host byte) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	b[len(b)-1] |= host
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Container, Gateway and Names are the addresses of version 4.
func (n Net) Container() netip.Addr { return at(n.IPv4, containerHost) }

// Gateway is the host's address there.
func (n Net) Gateway() netip.Addr { return at(n.IPv4, gatewayHost) }

// Names is where names are asked for.
func (n Net) Names() netip.Addr { return at(n.IPv4, namesHost) }

// Container6, Gateway6 and Names6 are those of version 6.
func (n Net) Container6() netip.Addr { return at(n.IPv6, containerHost) }

// Gateway6 is the host's address there.
func (n Net) Gateway6() netip.Addr { return at(n.IPv6, gatewayHost) }

// Names6 is where names are asked for.
func (n Net) Names6() netip.Addr { return at(n.IPv6, namesHost) }

// sync is the register of the child's socket to the host.
const sync = "sync"

// Connect plans the network of a container that is born.
func Connect(in Input) []plan.Step {
	if in.Backend != Builtin {
		return helper(in)
	}
	b := plan.Build(plan.Child, plan.NetworkChapter)
	device(b, in)
	b.Do("who reads the other end is the host's", linux.SendFD{Socket: sync, FD: "tap", Data: "tap"})
	addresses(b, in)
	if in.IPv6 {
		addresses6(b, in)
	}
	b.By(plan.Host).Do("a program of the same user carries what the container sends, by sockets of its own",
		linux.StartNetwork{Program: in.Program, Args: Args(in), Lock: in.Lock, PID: in.PID, Tap: "tap"}).
		Reverse(linux.EndNetwork{Lock: in.Lock})
	return b.Steps
}

// Device is the file that taps are made from.
const Device = "/dev/net/tun"

func device(b *plan.Builder, in Input) {
	b.Do("a device whose other end is a descriptor: the only one that leads out of an ordinary user's network",
		linux.Openat{Dir: linux.CWD, Path: Device, Flags: linux.ORdwr | linux.OCloexec}).As("tap")
	b.Do("its number is known before", linux.LinkRequest{FD: "tap", Request: linux.TapIndex, Index: index})
	b.Do("the container's device", linux.LinkRequest{FD: "tap", Request: linux.MakeTap, Interface: Interface})
	b.Do("long segments go through it whole", linux.LinkRequest{FD: "tap", Request: linux.TapOffload})
}

func addresses(b *plan.Builder, in Input) {
	const why = "the container's address"
	n := in.Net
	b.Do("a request about an interface goes through any socket", linux.Socket{}).As("inet")
	if in.MTU != 0 {
		b.Do("the longest packet that was asked for", linux.LinkRequest{FD: "inet", Request: linux.LinkMTU, Interface: Interface, Number: in.MTU})
	}
	b.Do(why, linux.LinkRequest{FD: "inet", Request: linux.LinkAddress, Interface: Interface, Address: string(n.Container().AsSlice())})
	b.Do(why, linux.LinkRequest{FD: "inet", Request: linux.LinkMask, Interface: Interface, Address: mask(n.IPv4.Bits())})
	if in.IPv6 {
		const alone = "nobody else is there who could have its addresses, so nobody is asked"
		b.Do(alone, linux.Openat{Dir: linux.CWD, Path: "/proc/sys/net/ipv6/conf/" + Interface + "/accept_dad", Flags: linux.OWronly | linux.OCloexec}).As("dad")
		b.Do(alone, linux.Write{FD: "dad", Data: "0"})
	}
	b.Do("the device is up", linux.LinkUp{Socket: "inet", Interface: Interface})
	b.Do("everything else is behind the gateway", linux.LinkRequest{FD: "inet", Request: linux.LinkGateway, Address: string(n.Gateway().AsSlice())})
}

func addresses6(b *plan.Builder, in Input) {
	n := in.Net
	b.Do("a socket of the kind for requests about version 6", linux.Socket{V6: true}).As("inet6")
	b.Do("the container's address of version 6", linux.LinkRequest{FD: "inet6", Request: linux.LinkAddress, Index: index, Address: string(n.Container6().AsSlice()), Number: n.IPv6.Bits()})
	b.Do("everything else is behind the gateway", linux.LinkRequest{FD: "inet6", Request: linux.LinkGateway, Index: index, Address: string(n.Gateway6().AsSlice())})
}

// mask is a prefix' length as 4 bytes.
func mask(bits int) string {
	v := ^uint32(0) << (32 - bits)
	return string([]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// Args are the words that our program is told.
func Args(in Input) []string {
	args := []string{"serve", "--net", in.Net.IPv4.String()}
	if in.IPv6 {
		args = append(args, "--net6", in.Net.IPv6.String())
	}
	if in.MTU != 0 {
		args = append(args, "--mtu", strconv.Itoa(in.MTU))
	}
	if in.HostLoopback {
		args = append(args, "--host-loopback")
	}
	if in.Control != "" {
		args = append(args, "--control", in.Control)
	}
	for _, p := range in.Ports {
		args = append(args, "--publish", p.String())
	}
	return args
}

// Relay plans that a program of the host listens at ports, for a container in a bridged network, whose addresses these are, and hands on what comes.
func Relay(program, lock string, pid plan.Reg, to4, to6 netip.Addr, ports []Port) []plan.Step {
	args := []string{"relay"}
	if to4.IsValid() {
		args = append(args, "--to4", to4.String())
	}
	if to6.IsValid() {
		args = append(args, "--to6", to6.String())
	}
	for _, p := range ports {
		args = append(args, "--publish", p.String())
	}
	b := plan.Build(plan.Host, plan.NetworkChapter)
	b.Do("a program of the host listens at published ports, so that the host's rules for what comes in decide", linux.StartNetwork{Program: program, Args: args, Lock: lock, PID: pid}).
		Reverse(linux.EndNetwork{Lock: lock}).Early()
	return b.Steps
}

// Carry plans that a program which carries packets already, and is asked at a socket, listens at further ports, which are
// the owner's, a word.
func Carry(socket, owner string, ports []Port) []plan.Step {
	b := plan.Build(plan.Host, plan.NetworkChapter)
	for _, p := range ports {
		b.Do("who comes to this port of the host is led into the user's own network, as who he is",
			linux.CarryPort{Socket: socket, Port: p.String(), Owner: owner}).Reverse(linux.DropPort{Socket: socket, Port: p.String(), Owner: owner})
	}
	return b.Steps
}

// Entrance is the address, in the network of a hub, that stands for an address of the host at which a port is published, with
// its version of IP. An invalid or unspecified one stands for all of the host's: that is the hub's own. Others are made of the host's: of
// version 4 by its first four bits, in 240.0.0.0/4, which is nobody's; of version 6 by its last 64, in the hub's prefix.
func (n Net) Entrance(host netip.Addr, six bool) netip.Addr {
	switch {
	case (!host.IsValid() || host.IsUnspecified()) && six:
		return n.Container6()
	case !host.IsValid() || host.IsUnspecified():
		return n.Container()
	case host.Is4():
		b := host.As4()
		b[0] |= 0xf0
		return netip.AddrFrom4(b)
	}
	own, b := n.IPv6.Addr().As16(), host.As16()
	for i := range 8 {
		b[8+i] ^= b[i]
		b[i] = own[i]
	}
	b[8] |= 0x80 // the numbers of those who are there are small
	return netip.AddrFrom16(b)
}

// String is ADDRESS:PORT:CONTAINERPORT/PROTOCOL, with all addresses written as *.
func (p Port) String() string {
	host := "*"
	if p.HostIP.IsValid() {
		host = p.HostIP.String()
		if p.HostIP.Is6() {
			host = "[" + host + "]"
		}
	}
	return host + ":" + strconv.Itoa(int(p.Host)) + ":" + strconv.Itoa(int(p.Container)) + "/" + p.Protocol
}
