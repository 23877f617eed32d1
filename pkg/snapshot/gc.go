package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/containr/containr/internal/durable"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// GC removes all snapshots but those that keep wants, those they build on and
// those that an Unpack under way needs; also what killed processes left
// behind. It returns the chains that were removed. It does not wait for
// unpacking to end.
func (s *Store) GC(ctx context.Context, keep func(ChainID) bool) ([]ChainID, error) {
	removed, err := s.collect(ctx, func(all map[ChainID]Info, leased []ChainID) ([]ChainID, error) {
		kept := closure(all, leased, keep)
		var doomed []ChainID
		for chain := range all {
			if !kept[chain] {
				doomed = append(doomed, chain)
			}
		}
		return doomed, nil
	})
	if err != nil {
		return removed, fmt.Errorf("collect snapshots: %w", err)
	}
	return removed, nil
}

// Remove removes one snapshot, on which no other may build (ErrInUse). It is
// the caller who knows that it is not mounted.
func (s *Store) Remove(ctx context.Context, chain ChainID) error {
	_, err := s.collect(ctx, func(all map[ChainID]Info, leased []ChainID) ([]ChainID, error) {
		if _, ok := all[chain]; !ok {
			return nil, ErrNotFound
		}
		if slices.Contains(leased, chain) {
			return nil, ErrInUse
		}
		for _, info := range all {
			if info.Parent == chain {
				return nil, ErrInUse
			}
		}
		return []ChainID{chain}, nil
	})
	if err != nil {
		return fmt.Errorf("remove snapshot %s: %w", chain, err)
	}
	return nil
}

// closure returns the chains that leased or keep ask for, with those they
// build on.
func closure(all map[ChainID]Info, leased []ChainID, keep func(ChainID) bool) map[ChainID]bool {
	kept := make(map[ChainID]bool)
	mark := func(chain ChainID) {
		for chain != "" && !kept[chain] {
			kept[chain] = true
			chain = all[chain].Parent
		}
	}
	for _, chain := range leased {
		if _, ok := all[chain]; ok {
			mark(chain)
		}
	}
	for chain := range all {
		if keep(chain) {
			mark(chain)
		}
	}
	return kept
}

// collect removes what choose chooses. All that takes time, deleting, happens
// after the lock is released, in a workspace of our own.
func (s *Store) collect(ctx context.Context, choose func(all map[ChainID]Info, leased []ChainID) ([]ChainID, error)) ([]ChainID, error) {
	lock, err := s.lock(ctx, durable.Exclusive)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	all, leased, dead, err := s.survey()
	if err != nil {
		return nil, err
	}
	doomed, err := choose(all, leased)
	if err != nil {
		return nil, err
	}
	sortChildrenFirst(doomed, all)
	trash, err := s.newWorkspaceLocked(nil)
	if err != nil {
		return nil, err
	}
	err = s.discard(trash, all, doomed, dead)
	err = errors.Join(err, s.sweep(), lock.Release(), trash.close())
	return doomed, err
}

// survey finds all snapshots, doubtful ones included, the chains that are in
// use by living processes, and the workspaces of dead ones.
func (s *Store) survey() (all map[ChainID]Info, leased []ChainID, dead []string, err error) {
	if all, err = s.everything(); err != nil {
		return nil, nil, nil, err
	}
	staging := filepath.Join(s.dir, stagingDir)
	entries, err := os.ReadDir(staging)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, e := range entries {
		dir := filepath.Join(staging, e.Name())
		gone, err := abandoned(dir)
		if err != nil {
			return nil, nil, nil, err
		}
		if gone {
			dead = append(dead, dir)
			continue
		}
		lease, err := readLease(dir)
		if err != nil {
			return nil, nil, nil, err
		}
		leased = append(leased, lease...)
	}
	return all, leased, dead, nil
}

// everything finds all directories that stand for a chain, also those that
// Stat does not admit to. Their Info may be empty.
func (s *Store) everything() (map[ChainID]Info, error) {
	dirs, err := filepath.Glob(filepath.Join(globQuote(s.dir), "*", "*"))
	if err != nil {
		return nil, err
	}
	all := make(map[ChainID]Info)
	for _, dir := range dirs {
		chain := ChainID(filepath.Base(filepath.Dir(dir)) + ":" + filepath.Base(dir))
		if digest.Digest(chain).Validate() != nil {
			continue
		}
		info, err := readInfo(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		all[chain] = info
	}
	return all, nil
}

// sortChildrenFirst orders chains so that a crash between two removals leaves
// no snapshot without the one that it builds on.
func sortChildrenFirst(chains []ChainID, all map[ChainID]Info) {
	depth := func(c ChainID) (n int) {
		for c != "" {
			n, c = n+1, all[c].Parent
		}
		return n
	}
	slices.SortFunc(chains, func(a, b ChainID) int { return depth(b) - depth(a) })
}

// discard moves the doomed snapshots and the workspaces of the dead into
// trash.
func (s *Store) discard(trash *workspace, all map[ChainID]Info, doomed []ChainID, dead []string) error {
	var dirs []string
	for _, chain := range doomed {
		dir, err := s.path(chain)
		if err != nil {
			return err
		}
		dirs = append(dirs, dir)
	}
	for i, dir := range append(dirs, dead...) {
		err := os.Rename(dir, filepath.Join(trash.dir, strconv.Itoa(i)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sweep removes short names that lead nowhere.
func (s *Store) sweep() error {
	shorts, err := filepath.Glob(filepath.Join(globQuote(s.dir), shortDir, "*"))
	if err != nil {
		return err
	}
	var all []error
	for _, link := range shorts {
		if _, err := os.Stat(link); errors.Is(err, fs.ErrNotExist) {
			all = append(all, os.Remove(link))
		}
	}
	return errors.Join(all...)
}

// Sync flushes the file system that holds the store (syncfs(2), which writes
// everything that waits there), so that all snapshots outlive a power failure,
// and returns how many had not been flushed before.
// Call it when there is time; without it they count as missing after a reboot.
func (s *Store) Sync(ctx context.Context) (n int, err error) {
	if n, err = s.sync(ctx); err != nil {
		return n, fmt.Errorf("flush snapshots: %w", err)
	}
	return n, nil
}

func (s *Store) sync(ctx context.Context) (n int, err error) {
	all, err := s.List()
	if err != nil {
		return 0, err
	}
	all = slices.DeleteFunc(all, func(i Info) bool { return i.UnsyncedBoot == "" })
	if len(all) == 0 {
		return 0, nil
	}
	d, err := os.Open(s.dir)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return 0, os.NewSyscallError("syncfs", err)
	}
	lock, err := s.lock(ctx, durable.Shared) // against removal meanwhile
	if err != nil {
		return 0, err
	}
	defer lock.Release()
	for _, info := range all {
		if !s.Has(info.Chain) {
			continue
		}
		info.UnsyncedBoot = ""
		if err := writeInfo(filepath.Dir(s.fs(info)), info, durable.Options{}); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
