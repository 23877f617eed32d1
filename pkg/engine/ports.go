package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/container"
)

// ErrPortTaken means that somebody else has a port of the host.
var ErrPortTaken = errors.New("the port is taken")

// ErrLowPort means that only the administrator may listen at a port of the host.
var ErrLowPort = errors.New("an ordinary user may not listen there")

// unprivilegedPort is the lowest port that everybody may listen at.
func unprivilegedPort() uint16 {
	const usual = 1024
	n, err := strconv.ParseUint(strings.TrimSpace(string(readIfThere("/proc/sys/net/ipv4/ip_unprivileged_port_start"))), 10, 16)
	if err != nil {
		return usual
	}
	return uint16(n)
}

// choosePorts decides which ports of the host those are that the user left open. Ports of
// other containers are not chosen, whether those run or not.
func (e *Engine) choosePorts(ctx context.Context, ports []container.Port) ([]container.Port, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	var others []container.Port
	if slices.ContainsFunc(ports, func(p container.Port) bool { return p.HostPort == 0 || p.HostEnd > p.HostPort }) {
		records, err := containers.List()
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			others = append(others, r.Published...)
		}
	}
	var out []container.Port
	for _, p := range ports {
		chosen, err := choosePort(p, append(others, out...))
		if err != nil {
			return nil, err
		}
		out = append(out, chosen)
	}
	return out, nil
}

// choosePort takes the one port that was asked for, or else a free one.
func choosePort(p container.Port, others []container.Port) (container.Port, error) {
	first, last, start := p.HostPort, p.HostEnd, 0
	if first == 0 {
		first, last = dynamicPorts()
		start = rand.IntN(int(last-first) + 1)
	}
	count := int(last-first) + 1
	for i := range count {
		p.HostPort = first + uint16((start+i)%count)
		p.HostEnd = p.HostPort
		taken := slices.ContainsFunc(others, func(o container.Port) bool { return samePort(o, p) })
		if count == 1 || !taken && listening(p) == nil {
			return p, nil
		}
	}
	return p, fmt.Errorf("ports %d-%d/%s: %w", first, last, p.Protocol, ErrPortTaken)
}

// dynamicPorts is the range that the host takes ports from when a program does not care.
func dynamicPorts() (first, last uint16) {
	f := strings.Fields(string(readIfThere("/proc/sys/net/ipv4/ip_local_port_range")))
	if len(f) == 2 {
		a, errA := strconv.ParseUint(f[0], 10, 16)
		b, errB := strconv.ParseUint(f[1], 10, 16)
		if errA == nil && errB == nil && 0 < a && a <= b {
			return uint16(a), uint16(b)
		}
	}
	return 32768, 60999
}

// samePort reports whether a packet may be for both.
func samePort(a, b container.Port) bool {
	all := func(p container.Port) bool { return p.HostIP == "" }
	any4 := func(p container.Port) bool { return p.HostIP == "0.0.0.0" }
	any6 := func(p container.Port) bool { return p.HostIP == "::" }
	six := func(p container.Port) bool { return strings.Contains(p.HostIP, ":") }
	if a.HostPort != b.HostPort || a.Protocol != b.Protocol {
		return false
	}
	return all(a) || all(b) || a.HostIP == b.HostIP || (any4(a) || any4(b)) && !six(a) && !six(b) || (any6(a) || any6(b)) && six(a) && six(b)
}

// checkPorts refuses ports of the host that somebody has: another container that runs, or a
// program of the host.
func (e *Engine) checkPorts(record container.Record) error {
	if len(record.Published) == 0 {
		return nil
	}
	containers, err := e.containers()
	if err != nil {
		return err
	}
	records, err := containers.List()
	if err != nil {
		return err
	}
	for _, p := range record.Published {
		for _, o := range records {
			if o.ID == record.ID || !slices.ContainsFunc(o.Published, func(other container.Port) bool { return samePort(other, p) }) {
				continue
			}
			if st, err := e.State(o); err == nil && st.PID != 0 {
				return fmt.Errorf("port %s of the host: container %s has it: %w", portText(p), o.Name, ErrPortTaken)
			}
		}
		if err := listening(p); err != nil {
			return err
		}
	}
	return nil
}

func portText(p container.Port) string {
	text := strconv.Itoa(int(p.HostPort)) + "/" + p.Protocol
	if p.HostIP != "" {
		text = net.JoinHostPort(p.HostIP, strconv.Itoa(int(p.HostPort))) + "/" + p.Protocol
	}
	return text
}

// listening looks whether a program of the host has a port: then it is an error that says
// which.
func listening(p container.Port) error {
	if forAll(p.HostIP) {
		return fmt.Errorf("port %s of the host: the address is for all machines of a network, and none of the host's own: %w", portText(p), syscall.EADDRNOTAVAIL)
	}
	address := net.JoinHostPort(p.HostIP, strconv.Itoa(int(p.HostPort)))
	var err error
	switch p.Protocol {
	case "tcp":
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			err = l.Close()
		}
	case "udp":
		var c net.PacketConn
		if c, err = net.ListenPacket("udp", address); err == nil {
			err = c.Close()
		}
	case "sctp":
		err = bindSCTP(p)
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port %s of the host: %s has it: %w", portText(p), portHolder(p), ErrPortTaken)
	case errors.Is(err, syscall.EACCES) && p.HostPort < unprivilegedPort():
		return fmt.Errorf("port %s of the host: ports below %d are the administrator's: %w", portText(p), unprivilegedPort(), ErrLowPort)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("port %s of the host: the host has no such address: %w", portText(p), err)
	}
	return err
}

// bindSCTP fails if a port of SCTP cannot be had. On a kernel that does not know the protocol nobody has one.
func bindSCTP(p container.Port) error {
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(p.HostPort)})
	if a, err := netip.ParseAddr(p.HostIP); err == nil && a.Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: int(p.HostPort), Addr: a.As4()}
	} else if err == nil {
		to = &unix.SockaddrInet6{Port: int(p.HostPort), Addr: a.As16()}
	} else if !hostHasIPv6() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: int(p.HostPort)}
	}
	fd, err := unix.Socket(family, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, to)
}

// forAll reports whether an address is for more than one machine: a program may listen there, but no connection has it.
func forAll(address string) bool {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	if a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return true
	}
	own, _ := net.InterfaceAddrs() // who has none has no broadcast address either
	broadcast := false
	for _, o := range own {
		n, ok := o.(*net.IPNet)
		if !ok || n.IP.To4() == nil {
			continue
		}
		ones, bits := n.Mask.Size()
		if ip, _ := netip.AddrFromSlice(n.IP.To4()); ip == a {
			return false
		} else if p := netip.PrefixFrom(ip, ones); bits == 32 && ones < 31 && p.Contains(a) && (!p.Contains(a.Next()) || !p.Contains(a.Prev())) {
			broadcast = true
		}
	}
	return broadcast
}

// portHolder says which process has a port.
func portHolder(p container.Port) string {
	inodes := map[string]bool{}
	if p.Protocol == "sctp" {
		for line := range strings.Lines(string(readIfThere("/proc/net/sctp/eps"))) {
			f := strings.Fields(line) // ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS
			if len(f) >= 8 && f[5] == strconv.Itoa(int(p.HostPort)) {
				inodes["socket:["+f[7]+"]"] = true
			}
		}
	}
	for _, suffix := range []string{"", "6"} {
		for line := range strings.Lines(string(readIfThere("/proc/net/" + p.Protocol + suffix))) {
			f := strings.Fields(line)
			if len(f) < 10 || !strings.HasSuffix(f[1], fmt.Sprintf(":%04X", p.HostPort)) {
				continue
			}
			if listens := f[3] == "0A"; listens || p.Protocol == "udp" {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is right
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && inodes[to] {
			pid := strings.Split(link, "/")[2]
			name := strings.TrimSpace(string(readIfThere("/proc/" + pid + "/comm")))
			return "process " + pid + " (" + name + ")"
		}
	}
	return "a process"
}
