package networks

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/netip"
	"os"

	"github.com/containr/containr/internal/durable"
)

// Where networks get their addresses when nobody asks for some: pool is divided into
// networks of poolBits. The range is one that few use, and not docker's, so that both can
// be on a machine.
var pool = netip.MustParsePrefix("10.192.0.0/12")

const poolBits = 20

// complete fills in what of the subnets is left open and refuses what cannot be.
func complete(n *Network, others []Network, routes []netip.Prefix) error {
	if !has(n.Subnets, netip.Addr.Is4) {
		free, err := freeRange(others, routes)
		if err != nil {
			return err
		}
		n.Subnets = append([]Subnet{{Prefix: free}}, n.Subnets...)
	}
	for i := range n.Subnets {
		s := &n.Subnets[i]
		if !s.Prefix.IsValid() { // of version 6
			s.Prefix = localRange()
		}
		if err := s.complete(); err != nil {
			return err
		}
		if err := overlaps(s.Prefix, others, routes); err != nil {
			return err
		}
	}
	return nil
}

func has(subnets []Subnet, version func(netip.Addr) bool) bool {
	for _, s := range subnets {
		if s.Prefix.IsValid() && version(s.Prefix.Addr()) {
			return true
		}
	}
	return false
}

// complete checks a subnet, and gives it its first address for the gateway.
func (s *Subnet) complete() error {
	if s.Prefix != s.Prefix.Masked() {
		return fmt.Errorf("subnet %s: bits behind its length are set: %s is meant?", s.Prefix, s.Prefix.Masked())
	}
	if s.Prefix.Addr().BitLen()-s.Prefix.Bits() < 2 {
		return fmt.Errorf("subnet %s: it has no place for a gateway and a container", s.Prefix)
	}
	if !s.Gateway.IsValid() {
		s.Gateway = s.Prefix.Addr().Next()
	}
	if !s.Prefix.Contains(s.Gateway) {
		return fmt.Errorf("gateway %s: it is not in the subnet %s", s.Gateway, s.Prefix)
	}
	if s.Range.IsValid() && (!s.Prefix.Contains(s.Range.Addr()) || s.Range.Bits() < s.Prefix.Bits()) {
		return fmt.Errorf("address range %s: it is not in the subnet %s", s.Range, s.Prefix)
	}
	return nil
}

// overlaps refuses a range of which something is taken, and says by whom.
func overlaps(p netip.Prefix, others []Network, routes []netip.Prefix) error {
	for _, o := range others {
		for _, s := range o.Subnets {
			if s.Prefix.Overlaps(p) {
				return fmt.Errorf("subnet %s: network %s has %s: %w", p, o.Name, s.Prefix, ErrOverlap)
			}
		}
	}
	for _, r := range routes {
		if r.Overlaps(p) {
			return fmt.Errorf("subnet %s: the host has a route to %s: %w", p, r, ErrOverlap)
		}
	}
	return nil
}

func freeRange(others []Network, routes []netip.Prefix) (netip.Prefix, error) {
	for p := netip.PrefixFrom(pool.Addr(), poolBits); pool.Contains(p.Addr()); p = following(p) {
		if overlaps(p, others, routes) == nil {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("every range in %s is taken: %w", pool, ErrOverlap)
}

// following is the range of the same length behind p.
func following(p netip.Prefix) netip.Prefix {
	size := new(big.Int).Lsh(big.NewInt(1), uint(p.Addr().BitLen()-p.Bits()))
	return netip.PrefixFrom(plus(p.Addr(), size), p.Bits())
}

// plus is the address that lies n behind a; invalid if there is none.
func plus(a netip.Addr, n *big.Int) netip.Addr {
	sum := new(big.Int).SetBytes(a.AsSlice())
	sum.Add(sum, n)
	b := make([]byte, a.BitLen()/8)
	if sum.BitLen() > a.BitLen() {
		return netip.Addr{}
	}
	out, _ := netip.AddrFromSlice(sum.FillBytes(b))
	return out
}

// localRange makes up a range for local use, as RFC 4193 wants it: 40 random bits, so that
// two networks that are joined one day do not have the same.
func localRange() netip.Prefix {
	b := [16]byte{0: 0xfd}
	rand.Read(b[1:6])
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

func (s *Store) lockLeases(ctx context.Context, n Network) (*durable.Lock, error) {
	return durable.Acquire(ctx, s.path(n.Name, "lock"), durable.Exclusive)
}

// leases returns who has which address, without those that are gone; their links are
// removed. The caller holds the lock.
func (s *Store) leases(n Network, alive func(id string) bool) (map[netip.Addr]string, error) {
	entries, err := os.ReadDir(s.path(n.Name, "leases"))
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	out := map[netip.Addr]string{}
	for _, e := range entries {
		path := s.path(n.Name, "leases", e.Name())
		id, err := os.Readlink(path)
		a, parseErr := netip.ParseAddr(e.Name())
		if err != nil || parseErr != nil {
			continue
		}
		lives, asked := known[id]
		if !asked {
			lives = alive(id)
			known[id] = lives
		}
		if !lives {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			continue
		}
		out[a] = id
	}
	return out, nil
}

// Leases returns who has which address of a network.
func (s *Store) Leases(n Network) (map[netip.Addr]string, error) {
	return s.leases(n, func(string) bool { return true })
}

// Lease gives a container an address of each of a network's subnets: the one of wanted
// that is in it, or the lowest that is free. They are the container's until Release, or
// until there is no such container: alive tells.
func (s *Store) Lease(ctx context.Context, name, id string, wanted []netip.Addr, alive func(id string) bool) (Network, []netip.Prefix, error) {
	n, err := s.Get(name)
	if err != nil {
		return n, nil, err
	}
	lock, err := s.lockLeases(ctx, n)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil, &NotFoundError{Ref: name} // it has just been removed
	}
	if err != nil {
		return n, nil, err
	}
	defer lock.Release()
	if n, err = s.Get(n.Name); err != nil { // it may have been removed while we waited
		return n, nil, err
	}
	taken, err := s.leases(n, alive)
	if err != nil {
		return n, nil, err
	}
	given, err := n.choose(wanted, taken)
	if err != nil {
		return n, nil, fmt.Errorf("network %s: %w", n.Name, err)
	}
	for i, p := range given {
		if err := os.Symlink(id, s.path(n.Name, "leases", p.Addr().String())); err != nil {
			for _, made := range given[:i] {
				err = errors.Join(err, os.Remove(s.path(n.Name, "leases", made.Addr().String())))
			}
			return n, nil, err
		}
	}
	return n, given, nil
}

// Release gives back all addresses of a container in a network. A network that is gone is
// no error.
func (s *Store) Release(name, id string) error {
	entries, err := os.ReadDir(s.path(name, "leases"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		path := s.path(name, "leases", e.Name())
		if owner, readErr := os.Readlink(path); readErr == nil && owner == id {
			if removeErr := os.Remove(path); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
				err = errors.Join(err, removeErr)
			}
		}
	}
	return err
}

// choose finds an address in each subnet.
func (n Network) choose(wanted []netip.Addr, taken map[netip.Addr]string) ([]netip.Prefix, error) {
	var given []netip.Prefix
	used := 0
	for _, s := range n.Subnets {
		var a netip.Addr
		for _, w := range wanted {
			if w.Is4() == s.Prefix.Addr().Is4() {
				a, used = w, used+1
			}
		}
		if a.IsValid() {
			if err := s.check(a, taken); err != nil {
				return nil, err
			}
		} else if a = s.free(taken, n.Random); !a.IsValid() {
			return nil, fmt.Errorf("subnet %s: %d addresses are taken: %w", s.Prefix, len(taken), ErrFull)
		}
		given = append(given, netip.PrefixFrom(a, s.Prefix.Bits()))
	}
	if used < len(wanted) {
		return nil, fmt.Errorf("address %s: the network has no subnet of this version of IP: %w", wanted[len(wanted)-1], ErrAddress)
	}
	return given, nil
}

// check refuses an address that a container cannot have, with the reason.
func (s Subnet) check(a netip.Addr, taken map[netip.Addr]string) error {
	switch {
	case !s.Prefix.Contains(a):
		return fmt.Errorf("address %s: it is not in the subnet %s: %w", a, s.Prefix, ErrAddress)
	case a == s.Gateway:
		return fmt.Errorf("address %s: it is the gateway's: %w", a, ErrAddress)
	case s.special(a):
		return fmt.Errorf("address %s: it is that of the network itself, or of all in it: %w", a, ErrAddress)
	case taken[a] != "":
		return fmt.Errorf("address %s: container %s has it: %w", a, taken[a][:min(12, len(taken[a]))], ErrAddress)
	}
	return nil
}

// special: the first and last addresses of a subnet of version 4, and the first of one of
// version 6, stand for something else.
func (s Subnet) special(a netip.Addr) bool {
	return a == s.Prefix.Addr() || a.Is4() && !s.Prefix.Contains(a.Next())
}

// free is an address that nobody has: the lowest, or with random any that chance finds soon.
func (s Subnet) free(taken map[netip.Addr]string, random bool) netip.Addr {
	const attempts = 100 // of which one succeeds even if nine of ten addresses are taken
	within := s.Prefix
	if s.Range.IsValid() {
		within = s.Range
	}
	size := new(big.Int).Lsh(big.NewInt(1), uint(within.Addr().BitLen()-within.Bits()))
	for range attempts {
		if !random {
			break
		}
		offset, _ := rand.Int(rand.Reader, size) // it does not fail
		a := plus(within.Addr(), offset)
		if a != s.Gateway && !s.special(a) && taken[a] == "" {
			return a
		}
	}
	return s.lowest(taken)
}

func (s Subnet) lowest(taken map[netip.Addr]string) netip.Addr {
	within := s.Prefix
	if s.Range.IsValid() {
		within = s.Range
	}
	for a := within.Addr(); within.Contains(a); a = a.Next() {
		if a != s.Gateway && !s.special(a) && taken[a] == "" {
			return a
		}
	}
	return netip.Addr{}
}
