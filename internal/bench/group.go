package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	groupRoot = "/sys/fs/cgroup"
	// group is the control group that all containers of the benchmark are below.
	group = "/containr-bench"
)

// groupDirs lists a control group's directories: one on version 2, one in each
// hierarchy on version 1.
func groupDirs(name string) ([]string, error) {
	if _, err := os.Stat(groupRoot + "/cgroup.procs"); err == nil {
		return []string{groupRoot + name}, nil
	}
	hierarchies, err := filepath.Glob(groupRoot + "/*/cgroup.procs")
	var dirs []string
	for _, h := range hierarchies {
		dirs = append(dirs, filepath.Dir(h)+name)
	}
	return dirs, err
}

// removeGroups removes the benchmark's control groups, and those that a peer left in
// them.
func removeGroups() error {
	dirs, err := groupDirs(group)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		var inner []string
		walk := func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				inner = append(inner, path)
			}
			return nil // what is not there needs no removal
		}
		if err := filepath.WalkDir(dir, walk); err != nil {
			return err
		}
		for i := len(inner) - 1; i >= 0; i-- {
			if err := unix.Rmdir(inner[i]); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("rmdir %s: %w", inner[i], err)
			}
		}
	}
	return nil
}

// warmer moves this process between two control groups, which the kernel has to wait
// for after a pause, so that what is measured next need not.
type warmer struct{ there, back string }

func newWarmer() (*warmer, error) {
	dirs, err := groupDirs(group + "/warm")
	if err != nil || len(dirs) == 0 {
		return nil, errors.Join(err, errors.New("no control groups are mounted at "+groupRoot))
	}
	dir := dirs[len(dirs)-1]
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// This process's own group may be any; the root of the hierarchy takes it back at the end of each move.
	root := filepath.Dir(filepath.Dir(dir))
	return &warmer{dir + "/cgroup.procs", root + "/cgroup.procs"}, nil
}

func (w *warmer) warm() error {
	self := []byte(strconv.Itoa(os.Getpid()))
	return errors.Join(os.WriteFile(w.there, self, 0), os.WriteFile(w.back, self, 0))
}
