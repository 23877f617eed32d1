package networks

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "networks"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func everybody(string) bool { return true }

func create(t *testing.T, s *Store, n Network, routes ...netip.Prefix) Network {
	t.Helper()
	n, err := s.Create(context.Background(), n, routes)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var p = netip.MustParsePrefix

func TestChosenRangesNeverOverlap(t *testing.T) {
	s := open(t)
	route := p("10.192.0.0/19") // the first two ranges
	var all []netip.Prefix
	for i := range 5 {
		n := create(t, s, Network{Name: fmt.Sprint("n", i), Subnets: []Subnet{{}}}, route)
		for _, subnet := range n.Subnets {
			for _, other := range append(all, route) {
				if subnet.Prefix.Overlaps(other) {
					t.Errorf("network %s has %s, which overlaps %s", n.Name, subnet.Prefix, other)
				}
			}
			if subnet.Gateway != subnet.Prefix.Addr().Next() {
				t.Errorf("gateway %s of %s", subnet.Gateway, subnet.Prefix)
			}
			all = append(all, subnet.Prefix)
		}
		if len(n.Subnets) != 2 || !n.Subnets[1].Prefix.Addr().IsPrivate() || !n.Subnets[1].Prefix.Addr().Is6() {
			t.Errorf("subnets %v: want one of each version, that of version 6 for local use", n.Subnets)
		}
	}
	list, err := s.List()
	if err != nil || len(list) != 5 {
		t.Errorf("%d networks, error %v", len(list), err)
	}
}

func TestNetworksThatCannotBe(t *testing.T) {
	s := open(t)
	create(t, s, Network{Name: "one", Bridge: "br1", Subnets: []Subnet{{Prefix: p("10.1.0.0/24")}}})
	for name, tc := range map[string]struct {
		n    Network
		want error
	}{
		"the name":                {Network{Name: "one"}, ErrExists},
		"the device":              {Network{Name: "two", Bridge: "br1"}, ErrExists},
		"another's addresses":     {Network{Name: "two", Subnets: []Subnet{{Prefix: p("10.1.0.0/16")}}}, ErrOverlap},
		"the host's addresses":    {Network{Name: "two", Subnets: []Subnet{{Prefix: p("192.0.2.128/25")}}}, ErrOverlap},
		"bits behind the length":  {Network{Name: "two", Subnets: []Subnet{{Prefix: p("10.2.0.1/24")}}}, nil},
		"no room":                 {Network{Name: "two", Subnets: []Subnet{{Prefix: p("10.2.0.0/31")}}}, nil},
		"a gateway of elsewhere":  {Network{Name: "two", Subnets: []Subnet{{Prefix: p("10.2.0.0/24"), Gateway: netip.MustParseAddr("10.3.0.1")}}}, nil},
		"a range that is greater": {Network{Name: "two", Subnets: []Subnet{{Prefix: p("10.2.0.0/24"), Range: p("10.2.0.0/16")}}}, nil},
	} {
		if _, err := s.Create(context.Background(), tc.n, []netip.Prefix{p("192.0.2.0/24")}); err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: error %v; want %v", name, err, tc.want)
		}
	}
	if list, _ := s.List(); len(list) != 1 {
		t.Errorf("%d networks: a refused one is there", len(list))
	}
	for _, name := range []string{"", "none", "host", "bridge", "../x", "-x", "a b"} {
		if ValidateName(name) == nil {
			t.Errorf("name %q is taken", name)
		}
	}
}

// Processes that ask at the same time never get the same address.
func TestLeasesAreGivenOnce(t *testing.T) {
	s := open(t)
	n := create(t, s, Network{Name: "n", Subnets: []Subnet{{Prefix: p("10.1.0.0/26")}, {Prefix: p("fd00:1::/64")}}})
	const count = 61 // 64 but for the network, the gateway and all
	given := make([][]netip.Prefix, count)
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() {
			own, err := Open(s.dir) // as another process does
			if err == nil {
				_, given[i], err = own.Lease(context.Background(), "n", fmt.Sprintf("%064d", i), nil, everybody)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := map[netip.Addr]bool{n.Subnets[0].Gateway: true, n.Subnets[1].Gateway: true}
	for _, addresses := range given {
		if len(addresses) != 2 {
			t.Fatalf("addresses %v", addresses)
		}
		for i, a := range addresses {
			if seen[a.Addr()] || !n.Subnets[i].Prefix.Contains(a.Addr()) || a.Bits() != n.Subnets[i].Prefix.Bits() {
				t.Errorf("address %s", a)
			}
			seen[a.Addr()] = true
		}
	}
	if _, _, err := s.Lease(context.Background(), "n", "late", nil, everybody); !errors.Is(err, ErrFull) {
		t.Errorf("a full network: error %v", err)
	}
	if err := s.Release("n", fmt.Sprintf("%064d", 7)); err != nil {
		t.Fatal(err)
	}
	_, again, err := s.Lease(context.Background(), "n", "late", nil, everybody)
	if err != nil || again[0] != given[7][0] {
		t.Errorf("got %v, error %v; want what was given back, %v", again, err, given[7])
	}
}

// What a container had that is gone, whatever killed it, others can have.
func TestLeasesOfTheDeadAreFree(t *testing.T) {
	s := open(t)
	create(t, s, Network{Name: "n", Subnets: []Subnet{{Prefix: p("10.1.0.0/30")}}})
	dead := func(id string) bool { return id != "dead" }
	if _, _, err := s.Lease(context.Background(), "n", "dead", nil, everybody); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(context.Background(), "n", everybody, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("removed under a container: error %v", err)
	}
	_, got, err := s.Lease(context.Background(), "n", "living", nil, dead)
	if err != nil || got[0].Addr() != netip.MustParseAddr("10.1.0.2") {
		t.Errorf("got %v, error %v", got, err)
	}
	if err := s.Release("n", "living"); err != nil {
		t.Fatal(err)
	}
	told := false
	if _, err := s.Remove(context.Background(), "n", dead, func(_ Network, last bool) error { told = last; return nil }); err != nil || !told {
		t.Errorf("remove: error %v, told that it is the last: %v", err, told)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "n")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
	}
}

func TestWantedAddresses(t *testing.T) {
	s := open(t)
	create(t, s, Network{Name: "n", Subnets: []Subnet{{Prefix: p("10.1.0.0/24"), Range: p("10.1.0.128/25")}}})
	lease := func(id string, wanted ...string) ([]netip.Prefix, error) {
		var list []netip.Addr
		for _, w := range wanted {
			list = append(list, netip.MustParseAddr(w))
		}
		_, given, err := s.Lease(context.Background(), "n", id, list, everybody)
		return given, err
	}
	if got, err := lease("a", "10.1.0.9"); err != nil || got[0] != p("10.1.0.9/24") {
		t.Errorf("got %v, error %v", got, err)
	}
	if got, err := lease("b"); err != nil || got[0] != p("10.1.0.128/24") {
		t.Errorf("got %v, error %v; want the first of the range", got, err)
	}
	for _, wanted := range []string{"10.1.0.9", "10.1.0.1", "10.1.0.0", "10.1.0.255", "10.2.0.1", "fd00::2"} {
		if _, err := lease("c", wanted); !errors.Is(err, ErrAddress) {
			t.Errorf("%s: error %v", wanted, err)
		}
	}
	if n, err := s.Get("nn"); !errors.Is(err, ErrNotFound) || n.Name != "" {
		t.Errorf("network nn: %v, error %v", n, err)
	}
}
