package testkit

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containr/containr/internal/testkit/procfs"
)

// ReleaseHierarchies ends the cgroup v1 hierarchies that exist but are mounted nowhere that the test sees, and waits
// until they are gone. Call it as root, with the machine's lock held, after a test that mounted hierarchies of its own.
//
// A hierarchy is of the whole machine: every /proc/PID/cgroup lists it, and programs such as containerd give up on one
// whose mount they cannot find. It ends at its last unmount, but only if the kernel has by then forgotten the groups in
// it, which it does some time after their rmdir; otherwise it stays, mounted nowhere, until somebody mounts it and
// unmounts it once more (cgroup_kill_sb in kernel/cgroup/cgroup.c).
func ReleaseHierarchies() error {
	point, err := os.MkdirTemp("", "hierarchy")
	if err != nil {
		return err
	}
	defer os.Remove(point)
	deadline := time.Now().Add(settleTime)
	// Who mounts a hierarchy that is about to end waits for that, and then has made it anew. So each look comes twice as
	// long after the one before: on a slow machine the kernel needs more than the first ten milliseconds.
	for pause := 10 * time.Millisecond; ; pause *= 2 {
		unseen, err := unseenHierarchies()
		if err != nil || len(unseen) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cgroup hierarchies that are mounted nowhere stay: %s", strings.Join(unseen, ", "))
		}
		for _, options := range unseen {
			// EBUSY: the kernel is about to end it. EPERM: it has ended, and a cgroup namespace may not make it anew.
			err := syscall.Mount("cgroup", point, "cgroup", 0, options)
			if err != nil && !errors.Is(err, syscall.EBUSY) && !errors.Is(err, syscall.EPERM) {
				return fmt.Errorf("mounting the cgroup hierarchy %s to end it: %w", options, err)
			} else if err == nil {
				if err := syscall.Unmount(point, 0); err != nil {
					return fmt.Errorf("unmounting the cgroup hierarchy %s: %w", options, err)
				}
			}
		}
		time.Sleep(pause) // between two looks at what the kernel does in the background
	}
}

// unseenHierarchies returns the mount options of the version 1 hierarchies without a mount here.
func unseenHierarchies() ([]string, error) {
	groups, err := procfs.Cgroups(os.Getpid())
	if err != nil {
		return nil, err
	}
	mounts, err := procfs.Mountinfo(0)
	if err != nil {
		return nil, err
	}
	var unseen []string
	for _, g := range groups {
		if len(g.Controllers) == 0 { // its controllers have left it already: the kernel is about to end it
			continue
		}
		mounted := func(m procfs.Mount) bool { return m.Type == "cgroup" && m.SuperHas(g.Controllers[0]) }
		if g.Hierarchy == 0 || slices.ContainsFunc(mounts, mounted) {
			continue
		}
		options := strings.Join(g.Controllers, ",")
		if strings.HasPrefix(options, "name=") {
			options = "none," + options
		}
		unseen = append(unseen, options)
	}
	return unseen, nil
}
