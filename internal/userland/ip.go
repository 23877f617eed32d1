package userland

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// link is a network interface, as rtnetlink(7) tells.
type link struct {
	index, mtu, master, peer int
	flags                    uint32
	name, qdisc              string
	hardware                 []byte
	state                    byte
	queue                    int
	deviceType               uint16
}

// netAddress is an address of an interface.
type netAddress struct {
	index int
	scope byte
	net   netip.Prefix
	label string
}

// route is a line of a routing table.
type route struct {
	table, out   int
	proto, scope byte
	to           netip.Prefix // not valid for the default route
	via, source  netip.Addr
	metric       uint32
}

// dump asks the kernel for all objects of a kind and calls each with the fixed header and the attributes of one.
func dump(request, family int, header int, each func(fixed []byte, attrs map[uint16][]byte)) error {
	answer, err := syscall.NetlinkRIB(request, family)
	if err != nil {
		return fmt.Errorf("ask the kernel over netlink: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(answer)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if m.Header.Type == syscall.NLMSG_DONE || len(m.Data) < header {
			continue
		}
		attrs := map[uint16][]byte{}
		for data := m.Data[header:]; len(data) >= 4; {
			size := int(binary.NativeEndian.Uint16(data))
			if size < 4 || size > len(data) {
				break
			}
			attrs[binary.NativeEndian.Uint16(data[2:])&0x3fff] = data[4:size]
			data = data[min((size+3)&^3, len(data)):]
		}
		each(m.Data[:header], attrs)
	}
	return nil
}

func number32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

func text(b []byte) string { return strings.TrimRight(string(b), "\x00") }

// links lists the interfaces of this network namespace.
func links() ([]link, error) {
	var all []link
	err := dump(unix.RTM_GETLINK, unix.AF_UNSPEC, unix.SizeofIfInfomsg, func(fixed []byte, attrs map[uint16][]byte) {
		l := link{
			index: int(number32(fixed[4:])), flags: number32(fixed[8:]), deviceType: binary.NativeEndian.Uint16(fixed[2:]),
			name: text(attrs[unix.IFLA_IFNAME]), qdisc: text(attrs[unix.IFLA_QDISC]), hardware: attrs[unix.IFLA_ADDRESS],
			mtu: int(number32(attrs[unix.IFLA_MTU])), master: int(number32(attrs[unix.IFLA_MASTER])), peer: int(number32(attrs[unix.IFLA_LINK])),
			queue: int(number32(attrs[unix.IFLA_TXQLEN])),
		}
		if s := attrs[unix.IFLA_OPERSTATE]; len(s) > 0 {
			l.state = s[0]
		}
		all = append(all, l)
	})
	return all, err
}

func netAddresses() ([]netAddress, error) {
	var all []netAddress
	err := dump(unix.RTM_GETADDR, unix.AF_UNSPEC, unix.SizeofIfAddrmsg, func(fixed []byte, attrs map[uint16][]byte) {
		raw := attrs[unix.IFA_LOCAL]
		if raw == nil {
			raw = attrs[unix.IFA_ADDRESS]
		}
		if ip, ok := netip.AddrFromSlice(raw); ok {
			all = append(all, netAddress{int(number32(fixed[4:])), fixed[3], netip.PrefixFrom(ip, int(fixed[1])), text(attrs[unix.IFA_LABEL])})
		}
	})
	return all, err
}

func routes(family int) ([]route, error) {
	var all []route
	err := dump(unix.RTM_GETROUTE, family, unix.SizeofRtMsg, func(fixed []byte, attrs map[uint16][]byte) {
		if int(fixed[0]) != family {
			return
		}
		r := route{table: int(fixed[4]), proto: fixed[5], scope: fixed[6], out: int(number32(attrs[unix.RTA_OIF])), metric: number32(attrs[unix.RTA_PRIORITY])}
		if table := attrs[unix.RTA_TABLE]; table != nil {
			r.table = int(number32(table))
		}
		r.via, _ = netip.AddrFromSlice(attrs[unix.RTA_GATEWAY])
		r.source, _ = netip.AddrFromSlice(attrs[unix.RTA_PREFSRC])
		if to, ok := netip.AddrFromSlice(attrs[unix.RTA_DST]); ok {
			r.to = netip.PrefixFrom(to, int(fixed[1]))
		}
		all = append(all, r)
	})
	return all, err
}

func runIP(p *Proc) error {
	var brief, four, six bool
	args := p.Args
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-4":
			four = true
		case "-6":
			six = true
		case "-br", "-brief":
			brief = true
		case "--help", "-h":
			p.help()
			return nil
		default:
			return Usagef("unknown flag %q", args[0])
		}
		args = args[1:]
	}
	if len(args) == 0 {
		return Usagef("missing object: link, address or route")
	}
	object, rest := args[0], args[1:]
	if len(rest) > 0 && slices.Contains([]string{"show", "list", "ls", "s", "l"}, rest[0]) {
		rest = rest[1:]
	}
	if len(rest) > 0 && rest[0] == "dev" {
		rest = rest[1:]
	}
	device := ""
	if len(rest) > 0 {
		device = rest[0]
	}
	if len(rest) > 1 || slices.Contains([]string{"add", "del", "set", "flush", "change", "replace"}, device) {
		return Usagef("this ip only shows: ip link|address|route [show [dev NAME]]")
	}
	switch {
	case strings.HasPrefix("link", object):
		return p.showLinks(device, brief, false, func(netip.Addr) bool { return false })
	case strings.HasPrefix("address", object):
		return p.showLinks(device, brief, true, func(a netip.Addr) bool { return four == six || four == a.Is4() })
	case strings.HasPrefix("route", object):
		family := unix.AF_INET
		if six {
			family = unix.AF_INET6
		}
		return p.showRoutes(family, device)
	}
	return Usagef("unknown object %q", object)
}

func (p *Proc) showLinks(device string, brief, addresses bool, wanted func(netip.Addr) bool) error {
	all, err := links()
	if err != nil {
		return err
	}
	addrs, err := netAddresses()
	if err != nil {
		return err
	}
	byIndex := map[int]string{}
	for _, l := range all {
		byIndex[l.index] = l.name
	}
	shown := false
	for _, l := range all {
		if device != "" && device != l.name {
			continue
		}
		shown = true
		mine := slices.DeleteFunc(slices.Clone(addrs), func(a netAddress) bool { return a.index != l.index || !wanted(a.net.Addr()) })
		if brief {
			p.briefLink(l, mine, addresses)
			continue
		}
		p.showLink(l, byIndex)
		for _, a := range mine {
			p.showAddress(a)
		}
	}
	if !shown && device != "" {
		return fmt.Errorf("%s: no such interface", device)
	}
	return nil
}

// stateName names an operational state (RFC 2863; Documentation/networking/operstates.rst of the kernel).
func stateName(state byte) string {
	names := []string{"UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP"}
	if int(state) < len(names) {
		return names[state]
	}
	return fmt.Sprint(state)
}

func (p *Proc) briefLink(l link, addrs []netAddress, addresses bool) {
	var words []string
	for _, a := range addrs {
		words = append(words, a.net.String())
	}
	if !addresses {
		words = []string{hardwareString(l.hardware), "<" + flagNames(l.flags) + ">"}
	}
	fmt.Fprintf(p.Out, "%-16s %-14s %s\n", l.name, stateName(l.state), strings.Join(words, " "))
}

func (p *Proc) showLink(l link, byIndex map[int]string) {
	name := l.name
	if l.peer != 0 && l.peer != l.index {
		peer, ok := byIndex[l.peer]
		if !ok { // the other end is in another network namespace
			peer = fmt.Sprintf("if%d", l.peer)
		}
		name += "@" + peer
	}
	line := fmt.Sprintf("%d: %s: <%s> mtu %d qdisc %s", l.index, name, flagNames(l.flags), l.mtu, l.qdisc)
	if l.master != 0 {
		line += " master " + byIndex[l.master]
	}
	line += " state " + stateName(l.state)
	if l.queue > 0 {
		line += fmt.Sprintf(" qlen %d", l.queue)
	}
	kind := "ether"
	switch {
	case l.deviceType == unix.ARPHRD_LOOPBACK:
		kind = "loopback"
	case l.deviceType != unix.ARPHRD_ETHER:
		kind = fmt.Sprintf("[%d]", l.deviceType)
	}
	fmt.Fprintf(p.Out, "%s\n    link/%s %s\n", line, kind, hardwareString(l.hardware))
}

func hardwareString(hardware []byte) string {
	return joined(hardware, ":", func(b byte) string { return fmt.Sprintf("%02x", b) })
}

func flagNames(flags uint32) string {
	var words []string
	for _, f := range []struct {
		bit  uint32
		name string
	}{
		{unix.IFF_LOOPBACK, "LOOPBACK"}, {unix.IFF_BROADCAST, "BROADCAST"}, {unix.IFF_POINTOPOINT, "POINTOPOINT"}, {unix.IFF_MULTICAST, "MULTICAST"},
		{unix.IFF_NOARP, "NOARP"}, {unix.IFF_PROMISC, "PROMISC"}, {unix.IFF_UP, "UP"}, {unix.IFF_LOWER_UP, "LOWER_UP"},
	} {
		if flags&f.bit != 0 {
			words = append(words, f.name)
		}
	}
	if flags&unix.IFF_UP != 0 && flags&unix.IFF_RUNNING == 0 {
		words = append([]string{"NO-CARRIER"}, words...)
	}
	return strings.Join(words, ",")
}

// scopeName names the reach of an address or a route (rtnetlink(7)).
func scopeName(scope byte) string {
	switch scope {
	case unix.RT_SCOPE_UNIVERSE:
		return "global"
	case unix.RT_SCOPE_LINK:
		return "link"
	case unix.RT_SCOPE_HOST:
		return "host"
	}
	return fmt.Sprint(scope)
}

func (p *Proc) showAddress(a netAddress) {
	family := "inet6"
	if a.net.Addr().Is4() {
		family = "inet"
	}
	line := fmt.Sprintf("    %s %s scope %s", family, a.net, scopeName(a.scope))
	if a.label != "" {
		line += " " + a.label
	}
	fmt.Fprintln(p.Out, line)
}

func (p *Proc) showRoutes(family int, device string) error {
	all, err := routes(family)
	if err != nil {
		return err
	}
	interfaces, err := links()
	if err != nil {
		return err
	}
	byIndex := map[int]string{}
	for _, l := range interfaces {
		byIndex[l.index] = l.name
	}
	protos := map[byte]string{unix.RTPROT_KERNEL: "kernel", unix.RTPROT_BOOT: "boot", unix.RTPROT_STATIC: "static", unix.RTPROT_DHCP: "dhcp", unix.RTPROT_RA: "ra"}
	for _, r := range all {
		if r.table != unix.RT_TABLE_MAIN || device != "" && byIndex[r.out] != device {
			continue
		}
		line := "default"
		if r.to.IsValid() {
			line = strings.TrimSuffix(r.to.String(), "/32")
		}
		if r.via.IsValid() {
			line += " via " + r.via.String()
		}
		line += " dev " + byIndex[r.out]
		if proto, ok := protos[r.proto]; ok && r.proto != unix.RTPROT_BOOT {
			line += " proto " + proto
		}
		if r.scope != unix.RT_SCOPE_UNIVERSE {
			line += " scope " + scopeName(r.scope)
		}
		if r.source.IsValid() {
			line += " src " + r.source.String()
		}
		if r.metric != 0 {
			line += fmt.Sprintf(" metric %d", r.metric)
		}
		fmt.Fprintln(p.Out, line)
	}
	return nil
}
