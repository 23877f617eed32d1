package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// BaseChain is a chain that packets pass, of whatever table.
type BaseChain struct {
	// Family, Table and Chain are its names, as nft(8) takes them.
	Family, Table, Chain string
	// Forward: it sees what the host passes on. Input: it sees what is for the host. Drops: it drops what none of its rules
	// decides.
	Forward, Input, Drops bool
}

// Chains lists the chains of IP that packets pass, of all tables. What the older iptables has
// made, without nftables, is not among them.
func Chains() ([]BaseChain, error) {
	fd, err := open()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	const getChain, input, forward, accept = 4, 1, 2, 1 // NFT_MSG_GETCHAIN, NF_INET_LOCAL_IN, NF_INET_FORWARD, NF_ACCEPT
	m := []byte(Table("").message(getChain, flagDump))
	m[16] = unix.AF_UNSPEC
	binary.NativeEndian.PutUint32(m[8:], 1)
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	families := map[byte]string{1: "inet", 2: "ip", 10: "ip6"} // NFPROTO_
	var list []BaseChain
	buf := make([]byte, maxAnswer)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return nil, fmt.Errorf("nftables: %w", err)
		}
		for b := buf[:n]; len(b) >= 16; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < 16 || size > len(b) {
				return nil, errors.New("nftables: a message is cut off")
			}
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return list, nil
			case unix.NLMSG_ERROR:
				return nil, unix.Errno(-int32(binary.NativeEndian.Uint32(b[16:])))
			}
			if size >= header && families[b[16]] != "" {
				hook, policy := find(b[header:size], 4, 1), find(b[header:size], 5)
				if len(hook) == 4 && len(policy) == 4 {
					list = append(list, BaseChain{Family: families[b[16]],
						Table: strings.TrimRight(string(find(b[header:size], 1)), "\x00"), Chain: strings.TrimRight(string(find(b[header:size], 3)), "\x00"),
						Forward: binary.BigEndian.Uint32(hook) == forward, Input: binary.BigEndian.Uint32(hook) == input, Drops: binary.BigEndian.Uint32(policy) != accept})
				}
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}
