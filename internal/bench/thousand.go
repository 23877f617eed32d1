package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// many is how many containers there are at the same time.
const many = 1000

// thousand makes a thousand containers, starts and deletes them, and looks for what is
// left of them. Ours and the first of the peers do it.
func (b *bench) thousand(list []*ociRuntime, _ *warmer) (table, error) {
	n := b.rounds(many)
	t := table{title: fmt.Sprintf("Runtime: %d containers", n), rule: numbers,
		head: []string{"", "create, s", "start, s", "delete, s", "ms each", "processes", "mounts", "control groups", "files"},
		text: "All are created, then all are started, then all are deleted, one after another. The last four columns count what is left of them."}
	for _, r := range list[:min(2, len(list))] {
		before, err := r.remains()
		if err != nil {
			return t, err
		}
		took, err := b.createAll(r, n)
		if err != nil {
			return t, fmt.Errorf("%s: %w", r.name, err)
		}
		after, err := r.remains()
		if err != nil {
			return t, err
		}
		row := []string{r.name}
		var sum time.Duration
		for _, d := range took {
			sum += d
			row = append(row, fmt.Sprintf("%.2f", d.Seconds()))
		}
		row = append(row, number(milliseconds(sum)/float64(n)))
		for i := range after {
			row = append(row, fmt.Sprint(after[i]-before[i]))
		}
		t.rows = append(t.rows, row)
	}
	return t, nil
}

// createAll creates, starts and deletes n containers and returns how long each took.
func (b *bench) createAll(r *ociRuntime, n int) (took [3]time.Duration, err error) {
	ids, bundles, pids := make([]string, n), make([]string, n), make([]int, n)
	for i := range n {
		ids[i] = fmt.Sprintf("%s-of-%d", r.id, i)
		if bundles[i], err = b.makeBundle(ids[i], "/true", nil); err != nil {
			return took, err
		}
	}
	for i, id := range ids {
		var s sample
		if pids[i], s, err = r.create(b.dir, bundles[i], id); err != nil {
			return took, err
		}
		took[0] += s.wall
	}
	for i, id := range ids {
		s, err := r.command("start", id).measure()
		if err != nil {
			return took, err
		}
		took[1] += s.wall
		if _, _, err := wait(pids[i]); err != nil {
			return took, err
		}
	}
	for i, id := range ids {
		s, err := r.command("delete", id).measure()
		if err := errors.Join(err, os.RemoveAll(bundles[i])); err != nil {
			return took, err
		}
		took[2] += s.wall
	}
	return took, b.ctx.Err()
}

// remains counts our children, since orphans become ours, the mounts, the control groups
// of the benchmark, and the files in the runtime's state directory.
func (r *ociRuntime) remains() (counts [4]int, err error) {
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return counts, err
	}
	for _, file := range tasks {
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a thread of ours that has ended
			return counts, err
		}
		counts[0] += len(strings.Fields(string(text)))
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return counts, err
	}
	counts[1] = strings.Count(string(mounts), "\n")
	dirs, err := groupDirs(group)
	if err != nil {
		return counts, err
	}
	for _, dir := range dirs {
		counts[2] += countEntries(dir, true)
	}
	counts[3] = countEntries(r.root, false)
	return counts, nil
}

// countEntries counts what is below a directory, or only the directories.
func countEntries(dir string, directories bool) (n int) {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error { // what is not there counts nothing
		if err == nil && path != dir && (e.IsDir() || !directories) {
			n++
		}
		return nil
	})
	return n
}
