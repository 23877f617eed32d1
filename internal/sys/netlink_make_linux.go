package sys

import (
	"encoding/binary"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// Numbers of linux/if_link.h and linux/veth.h that golang.org/x/sys does not have.
const (
	ifaceAddress     = 1  // IFLA_ADDRESS
	ifaceMTU         = 4  // IFLA_MTU
	ifaceMaster      = 10 // IFLA_MASTER
	ifaceProtInfo    = 12 // IFLA_PROTINFO
	infoKind         = 1  // IFLA_INFO_KIND
	infoData         = 2  // IFLA_INFO_DATA
	vethPeer         = 1  // VETH_INFO_PEER
	ifaceGroup       = 27 // IFLA_GROUP
	ifaceSendQueues  = 31 // IFLA_NUM_TX_QUEUES
	ifaceTakeQueues  = 32 // IFLA_NUM_RX_QUEUES
	bridgeHairpin    = 4  // IFLA_BRPORT_MODE
	bridgeLearning   = 8  // IFLA_BRPORT_LEARNING
	bridgeIsolated   = 33 // IFLA_BRPORT_ISOLATED
	nested           = 0x8000
	noDuplicateCheck = 0x02 // IFA_F_NODAD
)

func u32(n int) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }

func u16(n int) []byte { return binary.NativeEndian.AppendUint16(nil, uint16(n)) }

// named appends what a new device is called and has.
func named(body []byte, name, mac string, mtu int) []byte {
	body = attribute(body, unix.IFLA_IFNAME, append([]byte(name), 0))
	if mac != "" {
		body = attribute(body, ifaceAddress, []byte(mac))
	}
	if mtu != 0 {
		body = attribute(body, ifaceMTU, u32(mtu))
	}
	return body
}

// AddBridge makes a bridge that is up. mac is 6 bytes or empty, mtu 0 for the kernel's.
func (r *Route) AddBridge(name, mac string, mtu int) error {
	body := named(linkMessage(0, unix.IFF_UP, unix.IFF_UP), name, mac, mtu)
	body = attribute(body, unix.IFLA_LINKINFO|nested, attribute(nil, infoKind, []byte("bridge")))
	return r.ask(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, body, nil)
}

// Veth is a pair of devices, each of which receives what the other sends.
type Veth struct {
	// Name is the end here, and Master the index of the bridge that it is plugged into.
	Name   string
	Master int
	// Group is the group of devices that the end here is in.
	Group int
	// PeerPID is the process in whose network namespace the other end, Peer, is.
	PeerPID int
	Peer    string
	// PeerMAC is 6 bytes or empty, MTU 0 for the kernel's.
	PeerMAC string
	MTU     int
}

// AddVeth makes the pair. The end here is up, the other is not.
func (r *Route) AddVeth(v Veth) error {
	peer := oneQueue(named(linkMessage(0, 0, 0), v.Peer, v.PeerMAC, v.MTU))
	peer = attribute(peer, unix.IFLA_NET_NS_PID, u32(v.PeerPID))
	info := attribute(nil, infoKind, []byte("veth"))
	info = attribute(info, infoData|nested, attribute(nil, vethPeer|nested, peer))
	body := oneQueue(named(linkMessage(0, unix.IFF_UP, unix.IFF_UP), v.Name, "", v.MTU))
	body = attribute(body, ifaceMaster, u32(v.Master))
	body = attribute(body, ifaceGroup, u32(v.Group))
	body = attribute(body, unix.IFLA_LINKINFO|nested, info)
	return r.ask(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, body, nil)
}

// oneQueue says that a cable has one queue each way, which is what it uses. The kernel would make one for each processor
// otherwise, and then wait, at both ends, until nobody looks at those that it does not use, Linux 5.13.
func oneQueue(body []byte) []byte {
	return attribute(attribute(body, ifaceSendQueues, u32(1)), ifaceTakeQueues, u32(1))
}

// SubLink is a device that shares another one, of the host's.
type SubLink struct {
	// Kind is macvlan, ipvlan or vlan; Parent is the index of the device that is shared.
	Kind   string
	Parent int
	// PID is the process in whose network namespace the device called Name will be, 0 for here.
	PID  int
	Name string
	// MAC is 6 bytes or empty, MTU 0 for the parent's.
	MAC string
	MTU int
	// Number is the mode of macvlan and ipvlan, or the id of a VLAN; Flags are ipvlan's.
	Number, Flags int
	// Group is the group of devices that it is in, 0 for the kernel's.
	Group int
}

// AddSubLink makes the device. One that is here is up, one in another namespace is not.
// EOPNOTSUPP means that the kernel does not know the kind.
func (r *Route) AddSubLink(l SubLink) error {
	up := uint32(unix.IFF_UP)
	if l.PID != 0 {
		up = 0
	}
	body := named(linkMessage(0, up, up), l.Name, l.MAC, l.MTU)
	body = attribute(body, unix.IFLA_LINK, u32(l.Parent))
	if l.Group != 0 {
		body = attribute(body, ifaceGroup, u32(l.Group))
	}
	if l.PID != 0 {
		body = attribute(body, unix.IFLA_NET_NS_PID, u32(l.PID))
	}
	var data []byte
	switch l.Kind {
	case "macvlan":
		data = attribute(data, 1, u32(l.Number)) // IFLA_MACVLAN_MODE
	case "ipvlan":
		data = attribute(data, 1, u16(l.Number)) // IFLA_IPVLAN_MODE
		data = attribute(data, 2, u16(l.Flags))  // IFLA_IPVLAN_FLAGS
	case "vlan":
		data = attribute(data, 1, u16(l.Number)) // IFLA_VLAN_ID
	}
	info := attribute(attribute(nil, infoKind, []byte(l.Kind)), infoData|nested, data)
	body = attribute(body, unix.IFLA_LINKINFO|nested, info)
	return r.ask(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, body, nil)
}

// BridgePort says what a bridge does with a device that is plugged into it. With hairpin it
// sends back what has come from there, if it is meant to go there; isolated ones do not
// reach each other, Linux 4.18. If fixed is a hardware address, 6 bytes, the bridge knows that it is there and nowhere else, and
// learns none from what comes from there.
func (r *Route) BridgePort(index int, hairpin, isolated bool, fixed string) error {
	flag := map[bool]byte{true: 1}
	body := linkMessage(index, 0, 0)
	body[0] = unix.AF_BRIDGE
	info := attribute(nil, bridgeHairpin, []byte{flag[hairpin]})
	if isolated {
		info = attribute(info, bridgeIsolated, []byte{1})
	}
	if fixed != "" {
		info = attribute(info, bridgeLearning, []byte{0})
	}
	body = attribute(body, ifaceProtInfo|nested, info)
	if err := r.ask(unix.RTM_SETLINK, unix.NLM_F_ACK, body, nil); err != nil || fixed == "" {
		return err
	}
	// struct ndmsg. The entry is static, and sticky: it does not follow frames that come from elsewhere, Linux 4.20. It goes with
	// the device.
	const master, sticky, noARP = 0x04, 0x40, 0x40 // NTF_MASTER, NTF_STICKY, NUD_NOARP
	entry := append([]byte{unix.AF_BRIDGE, 0, 0, 0}, u32(index)...)
	entry = append(entry, u16(noARP)...)
	entry = append(entry, master|sticky, 0)
	return r.ask(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK, attribute(entry, unix.NDA_LLADDR, []byte(fixed)), nil)
}

// AddOwnAddress is AddAddress for an address that nobody else can have: the kernel does
// not ask the neighbours first.
func (r *Route) AddOwnAddress(index int, local string, prefix int) error {
	a := Address{Local: local, Prefix: prefix}
	if len(local) == 16 {
		a.Flags = noDuplicateCheck
	}
	return r.AddAddress(index, a)
}

// AddDefaultRoute sends what has no other route to a gateway, 4 or 16 bytes, through a
// device; to whom it may concern there if all of them are 0. With replace it takes the place of all that there are.
func (r *Route) AddDefaultRoute(index int, gateway string, replace bool) error {
	body := make([]byte, unix.SizeofRtMsg)
	body[0] = unix.AF_INET
	if len(gateway) == 16 {
		body[0] = unix.AF_INET6
	}
	body[4], body[5], body[6], body[7] = unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST
	if strings.Trim(gateway, "\x00") != "" {
		body = attribute(body, unix.RTA_GATEWAY, []byte(gateway))
	} else {
		body[6] = unix.RT_SCOPE_LINK
	}
	body = attribute(body, unix.RTA_OIF, u32(index))
	if replace {
		if err := r.deleteDefaultRoutes(body[0]); err != nil {
			return err
		}
	}
	return r.ask(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, body, nil)
}

// deleteDefaultRoutes deletes all default routes of a family, of which the kernel deletes one at a time.
func (r *Route) deleteDefaultRoutes(family byte) error {
	for {
		body := make([]byte, unix.SizeofRtMsg)
		body[0], body[4], body[6] = family, unix.RT_TABLE_MAIN, unix.RT_SCOPE_NOWHERE
		err := r.ask(unix.RTM_DELROUTE, unix.NLM_F_ACK, body, nil)
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) { // of version 6, what is left is the entry that stands for none
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// DeleteLink deletes a device by its name, and reports whether there was one.
func (r *Route) DeleteLink(name string) (bool, error) {
	body := attribute(linkMessage(0, 0, 0), unix.IFLA_IFNAME, append([]byte(name), 0))
	err := r.ask(unix.RTM_DELLINK, unix.NLM_F_ACK, body, nil)
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return err == nil, err
}

// LinkIndex finds a device by its name; ENODEV if there is none.
func (r *Route) LinkIndex(name string) (int, error) {
	index := 0
	body := attribute(linkMessage(0, 0, 0), unix.IFLA_IFNAME, append([]byte(name), 0))
	err := r.ask(unix.RTM_GETLINK, unix.NLM_F_ACK, body, func(body []byte) {
		if len(body) >= unix.SizeofIfInfomsg {
			index = int(int32(binary.NativeEndian.Uint32(body[4:])))
		}
	})
	if err == nil && index == 0 {
		err = unix.ENODEV
	}
	return index, err
}

// Device is what tells whose a device is.
type Device struct {
	// Kind is what ip-link(8) calls its type, such as bridge or vlan; empty if it is hardware.
	Kind string
	// MAC is 6 bytes, or as many as its hardware has; Group the group that it is in.
	MAC   string
	Group int
}

// Device looks at a device; ENODEV if there is none of that name.
func (r *Route) Device(name string) (Device, error) {
	var d Device
	body := attribute(linkMessage(0, 0, 0), unix.IFLA_IFNAME, append([]byte(name), 0))
	err := r.ask(unix.RTM_GETLINK, unix.NLM_F_ACK, body, func(body []byte) {
		if len(body) < unix.SizeofIfInfomsg {
			return
		}
		attributes(body[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
			switch {
			case kind == ifaceAddress:
				d.MAC = string(value)
			case kind == ifaceGroup && len(value) >= 4:
				d.Group = int(binary.NativeEndian.Uint32(value))
			case kind == unix.IFLA_LINKINFO:
				attributes(value, func(kind uint16, value []byte) {
					if kind == infoKind {
						d.Kind = strings.TrimRight(string(value), "\x00")
					}
				})
			}
		})
	})
	return d, err
}

// RoutePrefix is the destination of a route: an address of 4 or 16 bytes and how many bits
// of it count.
type RoutePrefix struct {
	Address string
	Bits    int
}

// Routes lists where the namespace knows a way to, without the way to everywhere.
func (r *Route) Routes() ([]RoutePrefix, error) {
	var list []RoutePrefix
	err := r.ask(unix.RTM_GETROUTE, unix.NLM_F_DUMP, make([]byte, unix.SizeofRtMsg), func(body []byte) {
		if len(body) < unix.SizeofRtMsg || body[7] != unix.RTN_UNICAST {
			return
		}
		p := RoutePrefix{Bits: int(body[1])}
		attributes(body[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
			if kind == unix.RTA_DST {
				p.Address = string(value)
			}
		})
		if p.Address != "" {
			list = append(list, p)
		}
	})
	return list, err
}
