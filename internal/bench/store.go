package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containr/containr/pkg/image"
)

// store measures what people wait for in a store of many images: the list of them, the
// sum of what they take, a check of them all, and their removal.
func (b *bench) store() (tables []table, err error) {
	e, err := b.newEngine("store")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.remove()) }()
	n := b.rounds(many)
	if err := b.fill(e, n); err != nil {
		return nil, err
	}
	t := table{title: fmt.Sprintf("Store: %d images", n), rule: numbers,
		head: []string{"", "ms, median", "ms, least", "processor ms, median"},
		text: "Each image is one small layer, its configuration and its manifest. Removing them all is done once."}
	const often = 11
	for _, c := range []struct {
		name   string
		rounds int
		args   []string
	}{
		{"`containr images`", often, []string{"images"}},
		{"`containr image inspect` of one", often, []string{"image", "inspect", "image0:1"}},
		{"`containr system df`", often, []string{"system", "df"}},
		{"`containr system check`", often, []string{"system", "check"}},
		{"`containr image prune --all --force`", 1, []string{"image", "prune", "--all", "--force"}},
	} {
		var walls, cpus []float64
		for range c.rounds {
			s, err := e.command(c.args...).measure()
			if err != nil {
				return nil, err
			}
			walls, cpus = append(walls, milliseconds(s.wall)), append(cpus, milliseconds(s.cpu))
		}
		sum := summarize(walls)
		t.rows = append(t.rows, []string{c.name, number(sum.median), number(sum.min), number(summarize(cpus).median)})
	}
	return []table{t}, b.ctx.Err()
}

// fill makes n images that have nothing in common.
func (b *bench) fill(e *engine, n int) error {
	s, err := image.Open(filepath.Join(e.root, "content"))
	if err != nil {
		return err
	}
	s.Volatile = true
	dir := filepath.Join(b.dir, "tree")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, "file"), fmt.Append(nil, i), 0o600); err != nil {
			return err
		}
		if _, err := s.Import(b.ctx, image.ImportRequest{Name: fmt.Sprintf("image%d:1", i), Dir: dir}); err != nil {
			return err
		}
	}
	return nil
}
