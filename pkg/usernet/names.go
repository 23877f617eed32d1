package usernet

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// namesPort is where names are asked for.
const namesPort = 53

// tcpNamesPatience is how long one name server may take to take a connection.
const tcpNamesPatience = 5 * time.Second

// errNoServers means that the host does not ask anybody for names.
var errNoServers = errors.New("/etc/resolv.conf names no server")

// dialNames connects with a name server of the host. Packets of UDP go to each of them: whoever answers first
// answers.
func (n *Network) dialNames(ctx context.Context, network string) (net.Conn, error) {
	servers := n.o.NameServers()
	if len(servers) == 0 {
		return nil, errNoServers
	}
	if network == "udp" && len(servers) > 1 {
		return dialAll(servers)
	}
	var all error
	for _, s := range servers {
		d := net.Dialer{Timeout: tcpNamesPatience}
		c, err := d.DialContext(ctx, network, net.JoinHostPort(s.String(), strconv.Itoa(namesPort)))
		if err == nil {
			return c, nil
		}
		all = errors.Join(all, err)
	}
	return nil, all
}

// everybody is a socket that sends to several servers. The asker takes the first answer and
// drops others, as it does with a packet that comes twice.
type everybody struct {
	*net.UDPConn
	to []netip.AddrPort
}

func dialAll(servers []netip.Addr) (net.Conn, error) {
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, err
	}
	e := &everybody{UDPConn: c}
	for _, s := range servers {
		e.to = append(e.to, netip.AddrPortFrom(s, namesPort))
	}
	return e, nil
}

// Write sends to all, and fails if that works for none.
func (e *everybody) Write(b []byte) (int, error) {
	var all error
	sent := false
	for _, to := range e.to {
		_, err := e.WriteToUDPAddrPort(b, to)
		sent = sent || err == nil
		all = errors.Join(all, err)
	}
	if sent {
		return len(b), nil
	}
	return 0, all
}

// Read returns what a server has sent; what others send is dropped.
func (e *everybody) Read(b []byte) (int, error) {
	for {
		size, from, err := e.ReadFromUDPAddrPort(b)
		if err != nil {
			return 0, err
		}
		for _, to := range e.to {
			if to.Port() == from.Port() && to.Addr().Unmap() == from.Addr().Unmap() {
				return size, nil
			}
		}
	}
}

// maxServers is how many name servers are asked, as resolv.conf(5) has it.
const maxServers = 3

// HostNameServers reads whom the host asks for names, each time, since that changes.
func HostNameServers() []netip.Addr {
	f, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	defer f.Close()
	var list []netip.Addr
	for s := bufio.NewScanner(f); s.Scan() && len(list) < maxServers; {
		words := strings.Fields(s.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil {
			list = append(list, a)
		}
	}
	return list
}
