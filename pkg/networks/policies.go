package networks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/network/policy"
)

// ErrNoPolicy means that a network has no policy of that name.
var ErrNoPolicy = errors.New("no such policy")

const policySuffix = ".json"

// PutPolicy gives a network a policy, in place of one of the same name.
func (s *Store) PutPolicy(ctx context.Context, ref string, p policy.Policy) (Network, error) {
	if err := p.Check(); err != nil {
		return Network{}, err
	}
	return s.changePolicies(ctx, ref, func(n Network) error {
		if err := os.MkdirAll(s.path(n.Name, "policies"), 0o700); err != nil {
			return err
		}
		data, err := json.MarshalIndent(p, "", "  ")
		if err != nil {
			return err
		}
		return durable.WriteFile(s.path(n.Name, "policies", p.Name+policySuffix), append(data, '\n'), durable.Options{})
	})
}

// RemovePolicy takes a policy from a network.
func (s *Store) RemovePolicy(ctx context.Context, ref, name string) (Network, error) {
	if err := policy.ValidateName(name); err != nil {
		return Network{}, err
	}
	return s.changePolicies(ctx, ref, func(n Network) error {
		err := os.Remove(s.path(n.Name, "policies", name+policySuffix))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("network %s, policy %s: %w", n.Name, name, ErrNoPolicy)
		}
		return err
	})
}

// changePolicies holds the lock of all networks, so that the network does not go meanwhile.
func (s *Store) changePolicies(ctx context.Context, ref string, change func(Network) error) (Network, error) {
	lock, err := s.lock(ctx)
	if err != nil {
		return Network{}, err
	}
	defer lock.Release()
	n, err := s.Get(ref)
	if err != nil {
		return n, err
	}
	return n, change(n)
}

// Policies lists the policies of a network, by name.
func (s *Store) Policies(n Network) ([]policy.Policy, error) {
	entries, err := os.ReadDir(s.path(n.Name, "policies"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []policy.Policy
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), policySuffix)
		if !ok {
			continue // one that was being written
		}
		path := s.path(n.Name, "policies", e.Name())
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just been removed
		}
		var p policy.Policy
		if err == nil {
			err = json.Unmarshal(data, &p)
		}
		if err == nil && p.Name != name {
			err = fmt.Errorf("it is of policy %q", p.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, p)
	}
	return list, nil
}
