package cniplugin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/containr/containr/pkg/networks"
)

// ipam is what host-local is told.
type ipam struct {
	Type    string         `json:"type"`
	DataDir string         `json:"dataDir"`
	Subnet  string         `json:"subnet"`
	Gateway string         `json:"gateway"`
	Start   string         `json:"rangeStart"`
	End     string         `json:"rangeEnd"`
	Ranges  [][]ipamRange  `json:"ranges"`
	Routes  []*types.Route `json:"routes"`
	Resolv  string         `json:"resolvConf"`
}

type ipamRange struct {
	Subnet  string `json:"subnet"`
	Gateway string `json:"gateway"`
	Start   string `json:"rangeStart"`
	End     string `json:"rangeEnd"`
}

// defaultDataDir is where addresses are noted, beside those of the plugin that others have of this name.
const defaultDataDir = "/var/lib/cni/containr"

// subnets are the ranges that a network has, one of each version of IP.
func (r *request) subnets() ([]networks.Subnet, error) {
	i := r.Config.IPAM
	if i.Resolv != "" {
		return nil, invalid("resolvConf: it is not read; the engine knows the name servers")
	}
	ranges := i.Ranges
	if i.Subnet != "" {
		ranges = append([][]ipamRange{{{i.Subnet, i.Gateway, i.Start, i.End}}}, ranges...)
	}
	var list []networks.Subnet
	for _, set := range ranges {
		if len(set) != 1 {
			return nil, invalid("ranges: a set of %d; one range for each address is known", len(set))
		}
		one := set[0]
		if one.Start != "" || one.End != "" {
			return nil, invalid("rangeStart, rangeEnd: a range is a whole subnet here: %s", one.Subnet)
		}
		p, err := netip.ParsePrefix(one.Subnet)
		if err != nil {
			return nil, invalid("subnet %q: it is no range of addresses, such as 10.1.0.0/24", one.Subnet)
		}
		s := networks.Subnet{Prefix: p.Masked()}
		if one.Gateway != "" {
			if s.Gateway, err = netip.ParseAddr(one.Gateway); err != nil {
				return nil, invalid("gateway %q: it is no address", one.Gateway)
			}
		}
		list = append(list, s)
	}
	if len(list) == 0 {
		return nil, invalid("ipam: it has no ranges")
	}
	return list, nil
}

// store opens the addresses of the request's network. One whose ranges have been changed in the file is another one.
func (r *request) store() (*networks.Store, string, []networks.Subnet, error) {
	subnets, err := r.subnets()
	if err != nil {
		return nil, "", nil, err
	}
	dir := r.Config.IPAM.DataDir
	if dir == "" {
		dir = defaultDataDir
	}
	sum := sha256.Sum256(fmt.Append(nil, subnets))
	store, err := networks.Open(filepath.Join(dir, r.Config.Name+"-"+hex.EncodeToString(sum[:8])))
	return store, "net", subnets, err
}

func (r *request) holder() string { return r.Container + "/" + r.Interface }

func everybody(string) bool { return true }

// addAddresses gives an address of each range.
func addAddresses(r *request) (*types100.Result, error) {
	store, name, subnets, err := r.store()
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	if _, err := store.Get(name); errors.Is(err, networks.ErrNotFound) {
		_, err = store.Create(ctx, networks.Network{Name: name, Driver: networks.DriverMACVLAN, Subnets: slices.Clone(subnets)}, nil)
		if err != nil && !errors.Is(err, networks.ErrExists) {
			return nil, err
		}
	}
	n, given, err := store.Lease(ctx, name, r.holder(), r.wanted(), everybody)
	if err != nil {
		return nil, err
	}
	out := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, Routes: r.Config.IPAM.Routes}
	for i, p := range given {
		if !slices.ContainsFunc(subnets, func(s networks.Subnet) bool { return s.Prefix == n.Subnets[i].Prefix }) {
			continue // a range of version 4 that the store adds to one of version 6
		}
		out.IPs = append(out.IPs, &types100.IPConfig{Gateway: n.Subnets[i].Gateway.AsSlice(),
			Address: net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}})
	}
	return out, nil
}

// wanted are the addresses that were asked for, in one of the ways there are.
func (r *request) wanted() []netip.Addr {
	var list []netip.Addr
	for _, text := range append(slices.Clone(r.Config.RuntimeConfig.IPs), r.Args["IP"]) {
		if p, err := netip.ParsePrefix(text); err == nil {
			list = append(list, p.Addr())
		} else if a, err := netip.ParseAddr(text); err == nil {
			list = append(list, a)
		}
	}
	return list
}

func delAddresses(r *request) error {
	store, name, _, err := r.store()
	if err != nil {
		return err
	}
	return store.Release(name, r.holder())
}

func checkAddresses(r *request) error {
	store, name, _, err := r.store()
	if err != nil {
		return err
	}
	n, err := store.Get(name)
	if err != nil {
		return err
	}
	leases, err := store.Leases(n)
	for _, id := range leases {
		if id == r.holder() {
			return nil
		}
	}
	return errors.Join(err, fmt.Errorf("container %s, interface %s: it has no address any more", r.Container, r.Interface))
}

// checkValid refuses a GC that does not say who is still there: without the list everybody would be gone.
func (r *request) checkValid() error {
	var told map[string]json.RawMessage
	if err := json.Unmarshal(r.Raw, &told); err != nil {
		return err
	}
	if _, ok := told["cni.dev/valid-attachments"]; !ok {
		return invalid("cni.dev/valid-attachments is missing: who is still there?")
	}
	return nil
}

// collectAddresses gives back what nobody has that is still there.
func collectAddresses(r *request) error {
	store, name, _, err := r.store()
	if err != nil {
		return err
	}
	if err := r.checkValid(); err != nil {
		return err
	}
	n, err := store.Get(name)
	if errors.Is(err, networks.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	leases, err := store.Leases(n)
	for _, id := range leases {
		if !slices.ContainsFunc(r.Config.Valid, func(a attachment) bool { return a.Container+"/"+a.Interface == id }) {
			err = errors.Join(err, store.Release(name, id))
		}
	}
	return err
}
