// Package networks keeps networks, and who has which of their addresses.
//
// # Theory of operation
//
// A network is a directory that is called as it is:
//
//	networks/NAME/
//	  network.json   what it is; without it there is no network (written last, removed first)
//	  policies/NAME.json who may talk to whom in it, if there is such a thing
//	  leases/ADDRESS a symbolic link whose text is the id of the container with this address
//	  lock           held while addresses are given out
//
// An address is taken by making its link, which one process can do and no other. There is no
// list to be kept in step with anything: a link whose container is gone counts for nothing,
// whatever was killed when, and is taken away by the next one who looks for an address.
//
// networks.lock is held while networks come and go, so that two of them never get ranges of
// addresses that overlap. Nothing here is in the kernel: package network plans that.
package networks

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/spelling"
)

// Default is the network of those who do not name one.
const Default = "containr"

// DefaultBridge is the device of the network Default.
const DefaultBridge = "containr0"

// Drivers: a bridge, or shares of a device of the host's, with MAC addresses of their own or
// with the device's.
const (
	DriverBridge  = "bridge"
	DriverMACVLAN = "macvlan"
	DriverIPVLAN  = "ipvlan"
)

// Errors that callers tell apart.
var (
	// ErrNotFound means that there is no network of that name or id.
	ErrNotFound = errors.New("no such network")
	// ErrExists means that there is one already.
	ErrExists = errors.New("there is a network of this name")
	// ErrOverlap means that addresses belong to another network, or to one that the host is in.
	ErrOverlap = errors.New("the addresses overlap with those of another network")
	// ErrAddress means that a container cannot have an address.
	ErrAddress = errors.New("the address cannot be had")
	// ErrFull means that all addresses are taken.
	ErrFull = errors.New("no address is free")
	// ErrInUse means that containers are in the network.
	ErrInUse = errors.New("the network is in use")
)

// version is the layout of network.json.
const version = 1

// Subnet is a range of addresses.
type Subnet struct {
	Prefix  netip.Prefix `json:"prefix"`
	Gateway netip.Addr   `json:"gateway"`
	// Range, if it is valid, is the part of Prefix that containers get theirs from when they
	// do not ask for one.
	Range netip.Prefix `json:"range,omitzero"`
}

// Network is what is kept of a network.
type Network struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Driver  string    `json:"driver"`
	Created time.Time `json:"created"`
	// Backend is who makes it, if that is another program; empty is containr itself.
	Backend string `json:"backend,omitempty"`
	// Bridge is the name of its device, empty if it has none of its own.
	Bridge string `json:"bridge"`
	// Parent is the host's device that macvlan and ipvlan share, in a Mode with a Flag. If VLAN
	// is not 0 the device is the network's, and made of the device Base.
	Parent  string   `json:"parent,omitempty"`
	Mode    string   `json:"mode,omitempty"`
	Flag    string   `json:"flag,omitempty"`
	Base    string   `json:"base,omitempty"`
	VLAN    int      `json:"vlan,omitempty"`
	MTU     int      `json:"mtu,omitempty"`
	Subnets []Subnet `json:"subnets"`
	// Internal networks lead nowhere; isolated ones keep their containers apart; unmasked
	// ones show their addresses to other machines.
	Internal bool `json:"internal,omitempty"`
	Isolated bool `json:"isolated,omitempty"`
	Unmasked bool `json:"unmasked,omitempty"`
	// Random gives containers addresses by chance, and not the lowest that is free.
	Random bool `json:"random,omitempty"`
	// NoNames: its containers do not find each other by name.
	NoNames bool              `json:"noNames,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Options map[string]string `json:"options,omitempty"`
}

// Resolver is the address where names of its containers are asked for: the host's first in it. It is invalid if nobody
// answers there. The host is in networks of the driver bridge only; and the network Default has no names, as docker's has
// none: who does not care for a network shall not pay for them.
func (n Network) Resolver() netip.Addr {
	if n.NoNames || n.Name == Default || n.Driver != DriverBridge || len(n.Subnets) == 0 {
		return netip.Addr{}
	}
	return n.Subnets[0].Gateway
}

// Store is the directory of networks. Any number of processes may use one.
type Store struct{ dir string }

// Open opens the store in a directory, which is made if it is missing.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("network store: %w", err)
	}
	return &Store{dir}, nil
}

func (s *Store) path(name string, more ...string) string {
	return filepath.Join(append([]string{s.dir, name}, more...)...)
}

func isName(s string) bool { return spelling.IsName(s, 128) }

// ValidateName refuses what is no name for a network.
func ValidateName(name string) error {
	if !isName(name) {
		return fmt.Errorf("network name %q: use letters, digits and _.- after a letter or digit, at most 128", name)
	}
	if name == "none" || name == "host" || name == "bridge" || name == "default" {
		return fmt.Errorf("network name %q: it stands for something already", name)
	}
	return nil
}

// Get finds a network by its name, its id, or the beginning of its id. "bridge" and
// "default", docker's words, are the network Default.
func (s *Store) Get(ref string) (Network, error) {
	if ref == "bridge" || ref == "default" {
		ref = Default
	}
	if isName(ref) {
		if n, err := s.read(ref); !errors.Is(err, fs.ErrNotExist) {
			return n, err
		}
	}
	list, err := s.List()
	var found []Network
	var names []string
	for _, n := range list {
		names = append(names, n.Name)
		if ref != "" && strings.HasPrefix(n.ID, ref) {
			found = append(found, n)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return Network{}, fmt.Errorf("network %s: the id of %d networks begins like that", ref, len(found))
	}
	return Network{}, errors.Join(&NotFoundError{Ref: ref, Near: spelling.Nearest(ref, names)}, err)
}

// NotFoundError says that there is no network of a name, and which one may be meant.
type NotFoundError struct{ Ref, Near string }

// Error says so.
func (e *NotFoundError) Error() string { return fmt.Sprintf("network %s: %v", e.Ref, ErrNotFound) }

// Unwrap is ErrNotFound.
func (e *NotFoundError) Unwrap() error { return ErrNotFound }

func (s *Store) read(name string) (Network, error) {
	var n Network
	path := s.path(name, "network.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return n, err
	}
	if err := json.Unmarshal(data, &n); err != nil {
		return n, fmt.Errorf("%s: %w", path, err)
	}
	if n.Version > version {
		return n, fmt.Errorf("%s: layout %d: written by a newer containr", path, n.Version)
	}
	return n, nil
}

// List returns all networks, by name.
func (s *Store) List() ([]Network, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("network store: %w", err)
	}
	var list []Network
	var failures []error
	for _, e := range entries {
		n, err := s.read(e.Name())
		switch {
		case err == nil:
			list = append(list, n)
		case e.IsDir() && !errors.Is(err, fs.ErrNotExist):
			failures = append(failures, err)
		}
	}
	return list, errors.Join(failures...)
}

func (s *Store) lock(ctx context.Context) (*durable.Lock, error) {
	return durable.Acquire(ctx, filepath.Join(s.dir, "..", "networks.lock"), durable.Exclusive)
}

// Create makes a network. ID, Created and what of the subnets is left open are filled in.
// routes are the ranges of addresses that the host knows a way to: they are refused, or
// left out where there is a choice.
func (s *Store) Create(ctx context.Context, n Network, routes []netip.Prefix) (Network, error) {
	lock, err := s.lock(ctx)
	if err != nil {
		return n, err
	}
	defer lock.Release()
	if err := s.sweep(); err != nil {
		return n, err
	}
	if _, err := s.read(n.Name); !errors.Is(err, fs.ErrNotExist) {
		return n, errors.Join(fmt.Errorf("network %s: %w", n.Name, ErrExists), err)
	}
	others, err := s.List()
	if err != nil {
		return n, err
	}
	id := make([]byte, 32)
	rand.Read(id)
	n.Version, n.ID, n.Created = version, hex.EncodeToString(id), time.Now().UTC()
	if n.Bridge == "" && n.Driver == DriverBridge {
		n.Bridge = "ctr-" + n.ID[:11]
	}
	if i := slices.IndexFunc(others, func(o Network) bool { return n.Bridge != "" && o.Bridge == n.Bridge }); i >= 0 {
		return n, fmt.Errorf("network %s: device %s is that of network %s: %w", n.Name, n.Bridge, others[i].Name, ErrExists)
	}
	if err := complete(&n, others, routes); err != nil {
		return n, fmt.Errorf("network %s: %w", n.Name, err)
	}
	return n, s.write(n)
}

// Sweep removes what is left of networks whose making or removal was cut off.
func (s *Store) Sweep(ctx context.Context) error {
	lock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Release()
	return s.sweep()
}

// sweep removes directories without a network. The caller holds the lock.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("network store: %w", err)
	}
	for _, e := range entries {
		if _, err := os.Lstat(s.path(e.Name(), "network.json")); e.IsDir() && errors.Is(err, fs.ErrNotExist) {
			if err := os.RemoveAll(s.path(e.Name())); err != nil {
				return fmt.Errorf("network %s: %w", e.Name(), err)
			}
		}
	}
	return nil
}

func (s *Store) write(n Network) error {
	if err := os.MkdirAll(s.path(n.Name, "leases"), 0o700); err != nil {
		return err
	}
	data, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(s.path(n.Name, "network.json"), append(data, '\n'), durable.Options{})
}

// Remove forgets a network that no container is in; alive tells which containers there are.
// gone is called before with what else there is: it takes the network out of the kernel.
func (s *Store) Remove(ctx context.Context, ref string, alive func(id string) bool, gone func(n Network, last bool) error) (Network, error) {
	lock, err := s.lock(ctx)
	if err != nil {
		return Network{}, err
	}
	defer lock.Release()
	n, err := s.Get(ref)
	if err != nil {
		return n, err
	}
	giving, err := s.lockLeases(ctx, n)
	if err != nil {
		return n, err
	}
	defer giving.Release()
	leases, err := s.leases(n, alive)
	if err != nil {
		return n, err
	}
	for _, id := range leases {
		return n, fmt.Errorf("network %s: container %s is in it: %w", n.Name, id[:min(12, len(id))], ErrInUse)
	}
	others, err := s.List()
	if err != nil {
		return n, err
	}
	if err := gone(n, len(others) == 1); err != nil {
		return n, fmt.Errorf("network %s: %w", n.Name, err)
	}
	if err := os.Remove(s.path(n.Name, "network.json")); err != nil {
		return n, err
	}
	return n, os.RemoveAll(s.path(n.Name))
}
