package runtime

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// mapOnly makes a user namespace that is nothing but its maps and returns its
// descriptor. A namespace begins with a process: a program of one step is born in it,
// waits until the maps are written and the namespace is open, and is killed.
func mapOnly(c linux.UserNamespace) (int, error) {
	clone := linux.Clone{Flags: linux.CloneNewuser}
	b := plan.Build(plan.Host, plan.RootfsChapter)
	b.Do("a process to begin a user namespace with", clone)
	b.By(plan.Child).Do("wait to be killed", linux.Read{FD: linux.FD(child.Sync), Size: 1})
	prog, err := child.Lower(&plan.Plan{Steps: b.Steps}, child.Options{Arch: goarch, FirstFD: 3})
	if err != nil {
		return -1, err
	}
	proc, err := child.Start(prog, &clone, nil)
	if err != nil {
		return -1, err
	}
	defer func() {
		_ = unix.Kill(proc.PID, unix.SIGKILL) // it is not reaped yet, so the number is its own
		reap(proc.PID)
		proc.Close()
	}()
	dir := "/proc/" + strconv.Itoa(proc.PID) + "/"
	if err := errors.Join(writeMap(dir+"uid_map", c.UIDMap), writeMap(dir+"gid_map", c.GIDMap)); err != nil {
		return -1, err
	}
	return unix.Open(dir+"ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

func writeMap(path, text string) error {
	if err := writeControl(path, text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
