package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// extraMounts is how many mounts a host has besides its own that is busy with something.
const extraMounts = 1000

// runAmongMounts measures what the mounts of the host cost, all of which are copied into
// every new mount namespace. They are made in the benchmark's own.
func (b *bench) runAmongMounts(list []*ociRuntime, warm *warmer) (t table, err error) {
	place := filepath.Join(b.dir, "mounts")
	if err := errors.Join(os.Mkdir(place, 0o755), unix.Mount("mounts", place, "tmpfs", 0, "")); err != nil {
		return t, fmt.Errorf("%s: %w", place, err)
	}
	defer func() { err = errors.Join(err, unix.Unmount(place, unix.MNT_DETACH), os.Remove(place)) }()
	for i := range extraMounts {
		dir := filepath.Join(place, fmt.Sprint(i))
		if err := errors.Join(os.Mkdir(dir, 0o755), unix.Mount(dir, dir, "", unix.MS_BIND, "")); err != nil {
			return t, fmt.Errorf("mount %d: %w", i, err)
		}
	}
	c := runs(list, passing)
	err = race(b.ctx, options{rounds: b.rounds(60), warmUp: 2, before: warm.warm}, c)
	return raceTable(fmt.Sprintf("Runtime: run, hot, with %d more mounts", extraMounts), "The same on a host with many mounts.", c), err
}

func (b *bench) fourAtOnce(list []*ociRuntime, warm *warmer) (table, error) {
	return b.crowd(list, warm, 4, 50)
}

func (b *bench) sixteenAtOnce(list []*ociRuntime, warm *warmer) (table, error) {
	return b.crowd(list, warm, 16, 25)
}

// crowd measures several runs at the same time.
func (b *bench) crowd(list []*ociRuntime, warm *warmer, n, rounds int) (table, error) {
	var c []*contestant
	for _, r := range list {
		var commands []command
		var ids []string
		for i := range n {
			id := fmt.Sprintf("%s-%d", r.id, i)
			bundle, err := b.makeBundle(id, "/true", nil)
			if err != nil {
				return table{}, err
			}
			commands = append(commands, r.command("run", "--bundle", bundle, id))
			ids = append(ids, id)
		}
		c = append(c, &contestant{name: r.name, turn: func(int) (sample, error) { return atOnce(commands) }, mend: func() error { return r.clear(ids...) }})
	}
	err := race(b.ctx, options{rounds: b.rounds(rounds), warmUp: 2, before: warm.warm}, c)
	return raceTable(fmt.Sprintf("Runtime: run, %d at once", n), "From the start of the first to the end of the last, and the CPU time of all.", c), err
}
