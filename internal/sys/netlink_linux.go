package sys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Route is a socket to the kernel's table of network devices, rtnetlink(7). It speaks
// about the network namespace that it was opened in.
type Route struct {
	fd  int
	seq uint32
}

// Link is a network device.
type Link struct {
	Index int
	Name  string
}

// Address is an address of a network device. Local, Peer and Broadcast are 4 or 16
// bytes in network order, Peer and Broadcast empty where there is none.
type Address struct {
	Prefix                 int
	Local, Peer, Broadcast string
	// Flags are the IFA_F_ bits.
	Flags uint32
}

// OpenRoute opens a socket in the caller's network namespace.
func OpenRoute() (*Route, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &Route{fd: fd}, nil
}

// OpenRouteOf opens a socket in the network namespace of a process. The calling thread
// is there for a moment.
func OpenRouteOf(pid int) (r *Route, err error) {
	err = InNetworkOf(pid, func() error { r, err = OpenRoute(); return err })
	return r, err
}

// InNetworkOf calls do, which opens sockets, in the network namespace of a process.
func InNetworkOf(pid int, do func() error) error {
	runtime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("own network namespace: %w", err)
	}
	defer unix.Close(own)
	err = inNetworkAt("/proc/"+strconv.Itoa(pid)+"/ns/net", do)
	if back := unix.Setns(own, unix.CLONE_NEWNET); back != nil {
		// The thread stays locked: nobody else may run on it.
		return errors.Join(err, fmt.Errorf("back to the own network namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}

func inNetworkAt(path string, do func() error) error {
	ns, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(ns)
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("setns %s: %w", path, err)
	}
	return do()
}

// Close closes the socket.
func (r *Route) Close() { _ = unix.Close(r.fd) }

// Links lists the devices of the namespace.
func (r *Route) Links() ([]Link, error) {
	var list []Link
	err := r.ask(unix.RTM_GETLINK, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfInfomsg), func(body []byte) {
		if len(body) < unix.SizeofIfInfomsg {
			return
		}
		l := Link{Index: int(int32(binary.NativeEndian.Uint32(body[4:])))}
		attributes(body[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
			if kind == unix.IFLA_IFNAME {
				l.Name = unix.ByteSliceToString(value)
			}
		})
		list = append(list, l)
	})
	return list, err
}

// Addresses lists the addresses of a device that last and are valid everywhere: those
// that somebody has given it for good.
func (r *Route) Addresses(index int) ([]Address, error) {
	const permanent = 0x80 // IFA_F_PERMANENT
	var list []Address
	err := r.ask(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg), func(body []byte) {
		if len(body) < unix.SizeofIfAddrmsg || int(binary.NativeEndian.Uint32(body[4:])) != index {
			return
		}
		a := Address{Prefix: int(body[1]), Flags: uint32(body[2])}
		attributes(body[unix.SizeofIfAddrmsg:], func(kind uint16, value []byte) {
			switch kind {
			case unix.IFA_LOCAL:
				a.Local = string(value)
			case unix.IFA_ADDRESS:
				a.Peer = string(value)
			case unix.IFA_BROADCAST:
				a.Broadcast = string(value)
			case unix.IFA_FLAGS:
				a.Flags = binary.NativeEndian.Uint32(value)
			}
		})
		if a.Local == "" || a.Local == a.Peer { // of version 6, or without a peer
			a.Local, a.Peer = a.Peer, ""
		}
		if scope := body[3]; scope == unix.RT_SCOPE_UNIVERSE && a.Flags&permanent != 0 {
			list = append(list, a)
		}
	})
	return list, err
}

// Prefix is a network of version 4. (net/netip would be in every program that uses this package.)
type Prefix struct {
	Address [4]byte
	Bits    int
}

// LocalPrefixes lists the addresses of version 4 that the kernel takes for its own because of a device: those of its table
// of local routes.
func (r *Route) LocalPrefixes(index int) ([]Prefix, error) {
	// A kernel before 4.20 does not know it, and tells of all tables: the visitor looks.
	_ = unix.SetsockoptInt(r.fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	question := make([]byte, unix.SizeofRtMsg)
	question[0], question[4], question[7] = unix.AF_INET, unix.RT_TABLE_LOCAL, unix.RTN_LOCAL
	var list []Prefix
	err := r.ask(unix.RTM_GETROUTE, unix.NLM_F_DUMP, question, func(body []byte) {
		if len(body) < unix.SizeofRtMsg || body[0] != unix.AF_INET || body[4] != unix.RT_TABLE_LOCAL || body[7] != unix.RTN_LOCAL {
			return
		}
		device, to := 0, [4]byte{} // without an attribute it is the route to everywhere
		attributes(body[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
			switch {
			case kind == unix.RTA_DST && len(value) == 4:
				to = [4]byte(value)
			case kind == unix.RTA_OIF && len(value) == 4:
				device = int(binary.NativeEndian.Uint32(value))
			}
		})
		if device == index {
			list = append(list, Prefix{to, int(body[1])})
		}
	})
	return list, err
}

// Unicast reports whether packets to an address, of 4 or 16 bytes, are for one other machine, by the routes there are now. They are not if
// the address is the host's own, of a group, or nobody's.
func (r *Route) Unicast(address []byte) (is bool, err error) {
	question := make([]byte, unix.SizeofRtMsg)
	question[0], question[1] = unix.AF_INET, byte(8*len(address))
	if len(address) == 16 {
		question[0] = unix.AF_INET6
	}
	err = r.ask(unix.RTM_GETROUTE, unix.NLM_F_ACK, attribute(question, unix.RTA_DST, address), func(body []byte) {
		is = len(body) >= unix.SizeofRtMsg && body[7] == unix.RTN_UNICAST
	})
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL): // no route, or one of the types unreachable, prohibit and blackhole
		return false, nil
	}
	return is, err
}

// Move moves a device to the network namespace of a process, under a name there.
func (r *Route) Move(index, pid int, name string) error {
	body := linkMessage(index, 0, 0)
	body = attribute(body, unix.IFLA_NET_NS_PID, binary.NativeEndian.AppendUint32(nil, uint32(pid)))
	body = attribute(body, unix.IFLA_IFNAME, append([]byte(name), 0))
	return r.ask(unix.RTM_NEWLINK, unix.NLM_F_ACK, body, nil)
}

// Up brings a device up.
func (r *Route) Up(index int) error {
	return r.ask(unix.RTM_NEWLINK, unix.NLM_F_ACK, linkMessage(index, unix.IFF_UP, unix.IFF_UP), nil)
}

// AddAddress gives a device an address.
func (r *Route) AddAddress(index int, a Address) error {
	body := make([]byte, unix.SizeofIfAddrmsg)
	body[0], body[1] = unix.AF_INET, byte(a.Prefix)
	if len(a.Local) == 16 {
		body[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(body[4:], uint32(index))
	body = attribute(body, unix.IFA_LOCAL, []byte(a.Local))
	peer := a.Peer
	if peer == "" {
		peer = a.Local
	}
	body = attribute(body, unix.IFA_ADDRESS, []byte(peer))
	if a.Broadcast != "" {
		body = attribute(body, unix.IFA_BROADCAST, []byte(a.Broadcast))
	}
	if a.Flags != 0 {
		body = attribute(body, unix.IFA_FLAGS, binary.NativeEndian.AppendUint32(nil, a.Flags))
	}
	return r.ask(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, body, nil)
}

// linkMessage is struct ifinfomsg.
func linkMessage(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

// attribute appends struct rtattr with its value, padded to 4 bytes.
func attribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, -len(value)&3)...)
}

// attributes visits a list of struct rtattr.
func attributes(b []byte, visit func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return
		}
		visit(binary.NativeEndian.Uint16(b[2:])&0x3fff, b[unix.SizeofRtAttr:n])
		b = b[min(len(b), (n+3)&^3):]
	}
}

// ask sends a request and visits what is answered until the kernel says that this was
// all, or that it failed.
func (r *Route) ask(kind, flags uint16, body []byte, visit func(body []byte)) error {
	r.seq++
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = binary.NativeEndian.AppendUint32(b, r.seq)
	b = append(binary.NativeEndian.AppendUint32(b, 0), body...)
	if err := unix.Sendto(r.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(r.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if done, err := r.answers(buf[:n], visit); done || err != nil {
			return err
		}
	}
}

// answers visits the messages of one datagram.
func (r *Route) answers(b []byte, visit func(body []byte)) (done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.SizeofNlMsghdr || n > len(b) {
			return true, errors.New("netlink: a message is cut off")
		}
		kind, body := binary.NativeEndian.Uint16(b[4:]), b[unix.SizeofNlMsghdr:n]
		switch {
		case binary.NativeEndian.Uint32(b[8:]) != r.seq:
		case kind == unix.NLMSG_DONE:
			return true, nil
		case kind == unix.NLMSG_ERROR && len(body) >= 4:
			if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
				return true, unix.Errno(-code)
			}
			return true, nil
		case visit != nil:
			visit(body)
		}
		b = b[min(len(b), (n+3)&^3):]
	}
	return false, nil
}
