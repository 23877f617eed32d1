package runtime

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/pkg/plan/linux"
)

// mapOnly makes a user namespace that is nothing but its maps and returns its
// descriptor. A namespace begins with a process: one is born in it, waits until the
// maps are written and the namespace is open, and is killed.
func mapOnly(c linux.UserNamespace) (int, error) {
	fd := -1
	err := child.WithUsers(func(pid int) (err error) {
		dir := "/proc/" + strconv.Itoa(pid) + "/"
		if err := errors.Join(writeMap(dir+"uid_map", c.UIDMap), writeMap(dir+"gid_map", c.GIDMap)); err != nil {
			return err
		}
		fd, err = unix.Open(dir+"ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

func writeMap(path, text string) error {
	if err := writeControl(path, text); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
