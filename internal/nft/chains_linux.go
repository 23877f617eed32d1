package nft

import (
	"encoding/binary"

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
	const getChain, input, forward, accept = 4, 1, 2, 1 // NFT_MSG_GETCHAIN, NF_INET_LOCAL_IN, NF_INET_FORWARD, NF_ACCEPT
	question := []byte(Table("").message(getChain, flagDump))
	question[16] = unix.AF_UNSPEC
	families := map[byte]string{1: "inet", 2: "ip", 10: "ip6"} // NFPROTO_
	var list []BaseChain
	err := dump(string(question), func(m []byte) {
		b := m[header:]
		hook, policy := find(b, 4, 1), find(b, 5)
		if families[m[16]] == "" || len(hook) != 4 || len(policy) != 4 {
			return
		}
		list = append(list, BaseChain{Family: families[m[16]], Table: word(find(b, 1)), Chain: word(find(b, 3)),
			Forward: binary.BigEndian.Uint32(hook) == forward, Input: binary.BigEndian.Uint32(hook) == input, Drops: binary.BigEndian.Uint32(policy) != accept})
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}
