package runtime

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
)

// A container without a control group of its own has no list of its processes. What
// tells them is a namespace that only they are in: their process namespace, or else the
// mount namespace, which every container has. A process may leave it, but needs
// privileges of the host to do so.
//
// A namespace is known by its inode number as long as it exists, and we make sure of
// that by holding it open. When the first process has ended there is nothing to open
// any more, and the number may already be another container's. Then only the kernel's
// other number counts, which is never used twice, but which it gives to mount
// namespaces only and since Linux 6.11. Before, processes that outlive the first one
// in such a container are not found: nobody else's are ever taken for the container's.

// The members of state.Crowd.
const (
	crowdPID   = "pid"
	crowdMount = "mnt"
)

// crowdOf names the namespace that tells the processes of a new container; empty if it
// joins those of others.
func crowdOf(spec *specs.Spec) string {
	switch {
	case ownNamespace(spec, specs.PIDNamespace):
		return crowdPID
	case ownNamespace(spec, specs.MountNamespace):
		return crowdMount
	}
	return ""
}

// ownNamespace reports whether the container gets a new namespace of that kind.
func ownNamespace(s *specs.Spec, kind specs.LinuxNamespaceType) bool {
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == kind {
			return ns.Path == ""
		}
	}
	return false
}

// mountNamespaceID is 0 where the kernel gives no such numbers.
func mountNamespaceID(pid int) uint64 {
	fd, err := openNamespace(pid, crowdMount)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	id, err := sys.MountNamespaceID(fd)
	if err != nil {
		return 0
	}
	return id
}

func openNamespace(pid int, kind string) (int, error) {
	return unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/"+kind, unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// crowd is the processes of one namespace. The zero value has none.
type crowd struct {
	kind string
	// fd holds the namespace, whose inode is dev and ino, if it is more than 0.
	fd       int
	dev, ino uint64
	// id is the mount namespace's number when there is no fd.
	id uint64
}

// crowd finds what tells a container's processes. The caller closes it.
func (r *Runtime) crowd(st *state) (*crowd, error) {
	c := &crowd{kind: st.Crowd}
	if st.Crowd == "" {
		return c, nil
	}
	fd, err := openNamespace(st.PID, st.Crowd)
	if t, _ := startTime(st.PID); err == nil && t != st.Start {
		unix.Close(fd)
		err = unix.ESRCH
	}
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH): // ended, or a zombie: without namespaces
		c.id = st.MountNS
		return c, nil
	case err != nil:
		return nil, fmt.Errorf("namespace of process %d: %w", st.PID, err)
	}
	c.fd = fd
	if c.dev, c.ino, err = inode(fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return c, nil
}

func inode(fd int) (dev, ino uint64, err error) {
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return 0, 0, os.NewSyscallError("fstat", err)
	}
	return uint64(s.Dev), s.Ino, nil
}

func (c *crowd) close() {
	if c.fd > 0 {
		unix.Close(c.fd)
	}
}

// has reports whether a process is in the namespace.
func (c *crowd) has(pid int) bool {
	if c.fd == 0 && c.id == 0 {
		return false
	}
	fd, err := openNamespace(pid, c.kind)
	if err != nil {
		return false // it has ended, or is not ours to look into
	}
	defer unix.Close(fd)
	if c.fd == 0 {
		id, err := sys.MountNamespaceID(fd)
		return err == nil && id == c.id
	}
	dev, ino, err := inode(fd)
	return err == nil && dev == c.dev && ino == c.ino
}

func (c *crowd) procs() ([]int, error) {
	if c.fd == 0 && c.id == 0 {
		return nil, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && c.has(pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// signalOthers sends a signal to all but the first process. With SIGKILL it waits for
// their end and looks again until there are none: they may have had children meanwhile.
func (c *crowd) signalOthers(first int, signal unix.Signal) error {
	for {
		pids, err := c.procs()
		if err != nil {
			return err
		}
		if i := slices.Index(pids, first); i >= 0 {
			pids = slices.Delete(pids, i, i+1)
		}
		for _, pid := range pids {
			if err := c.signalOne(pid, signal); err != nil {
				return err
			}
		}
		if signal != unix.SIGKILL || len(pids) == 0 {
			return nil
		}
	}
}

func (c *crowd) signalOne(pid int, signal unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil // it has ended
	}
	defer unix.Close(fd)
	if !c.has(pid) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %d to process %d: %w", int(signal), pid, err)
	}
	if signal == unix.SIGKILL {
		return awaitEnd(fd, pid)
	}
	return nil
}
