package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/erofs"
)

// Problem is something in a store that is not as it should be. Repairing always removes
// it: snapshots can be made again.
type Problem struct {
	// Path is the file or directory, below the store.
	Path string
	// Text says what is wrong, in words.
	Text string
}

// Check looks for snapshots that are not whole, that lack what they build on or that
// keep does not want, and for what killed processes have left. With repair all of it is
// removed. Files in snapshots are not compared with their layers, of which nothing but
// the archive is known; of an image, all but those blocks that hold nothing but data of files.
func (s *Store) Check(ctx context.Context, keep func(ChainID) bool, repair bool) ([]Problem, error) {
	problems, err := s.check(ctx, keep)
	if err == nil && repair && len(problems) > 0 {
		_, err = s.collect(ctx, func(all map[ChainID]Info, leased []ChainID) ([]ChainID, error) {
			kept, look := closure(all, leased, keep), soundness{s, all, make(map[ChainID]string)}
			var doomed []ChainID
			for chain := range all {
				if !kept[chain] || look.unsound(chain) != "" {
					doomed = append(doomed, chain)
				}
			}
			return doomed, nil
		})
	}
	if err != nil {
		return problems, fmt.Errorf("check snapshots: %w", err)
	}
	return problems, nil
}

func (s *Store) check(ctx context.Context, keep func(ChainID) bool) ([]Problem, error) {
	lock, err := s.lock(ctx, durable.Exclusive) // only then a free workspace is one of the dead
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	all, leased, dead, err := s.survey()
	if err != nil {
		return nil, err
	}
	kept, look := closure(all, leased, keep), soundness{s, all, make(map[ChainID]string)}
	var problems []Problem
	report := func(path, text string) {
		if name, err := filepath.Rel(s.dir, path); err == nil {
			path = name
		}
		problems = append(problems, Problem{path, text})
	}
	for _, chain := range slices.Sorted(maps.Keys(all)) {
		dir, err := s.path(chain)
		if err != nil {
			return nil, err
		}
		if reason := look.unsound(chain); reason != "" {
			report(dir, reason)
		} else if !kept[chain] {
			report(dir, "no image and no container needs it")
		}
	}
	for _, dir := range dead {
		report(dir, "a process that was killed left it")
	}
	shorts, err := filepath.Glob(filepath.Join(globQuote(s.dir), shortDir, "*"))
	for _, link := range shorts {
		if _, err := os.Stat(link); errors.Is(err, fs.ErrNotExist) {
			report(link, "it leads to no snapshot")
		}
	}
	return problems, err
}

// soundness looks at snapshots, at each once.
type soundness struct {
	store *Store
	all   map[ChainID]Info
	known map[ChainID]string
}

// unsound says why a snapshot cannot be used, or "".
func (l *soundness) unsound(chain ChainID) string {
	reason, ok := l.known[chain]
	if !ok {
		reason = l.look(chain)
		l.known[chain] = reason
	}
	return reason
}

func (l *soundness) look(chain ChainID) string {
	info := l.all[chain]
	switch {
	case info.Short == "":
		return "it is half made: there is no description of it"
	case info.doubtful():
		return "the machine was restarted before it was on the disk"
	case Chain(info.Parent, info.DiffID) != chain:
		return "its description is that of another one"
	}
	if info.Parent != "" {
		if parent, ok := l.all[info.Parent]; !ok || l.unsound(info.Parent) != "" || parent.Short == "" {
			return "what it builds on, " + string(info.Parent) + ", is missing or not whole"
		}
	}
	info.Chain = chain
	if st, err := os.Lstat(l.store.fs(info)); err != nil || !st.IsDir() {
		return "its files are missing"
	}
	if info.Image {
		return l.store.unsoundImage(info)
	}
	return ""
}

// unsoundImage says what is wrong with a layer that is an image, or "".
func (s *Store) unsoundImage(info Info) string {
	if st, err := os.Lstat(s.image(info)); err != nil || !st.Mode().IsRegular() {
		return "its image is missing"
	}
	if info.ImageSum == (erofs.Sum{}) {
		return "" // made by a version that noted nothing
	}
	if err := erofs.Check(s.image(info), info.ImageSum); err != nil {
		return "its image is damaged: " + err.Error()
	}
	return ""
}
