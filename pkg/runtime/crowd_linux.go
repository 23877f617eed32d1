package runtime

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
)

// A container without a control group of its own has no list of its processes. What
// tells them is a namespace that only they are in: their process namespace, or else the
// mount namespace. A process may leave it, but needs privileges of the host to do so.
// Of a container that has neither of its own only the first process is known.
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

// has reports whether a process is in the namespace. The error is that it cannot be
// looked at: it has ended, is a zombie, or is not ours to look into.
func (c *crowd) has(pid int) (bool, error) {
	fd, err := openNamespace(pid, c.kind)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if c.fd == 0 {
		id, err := sys.MountNamespaceID(fd)
		return err == nil && id == c.id, nil
	}
	dev, ino, err := inode(fd)
	return err == nil && dev == c.dev && ino == c.ino, nil
}

func (c *crowd) procs() ([]int, error) {
	pids, _, err := c.look()
	slices.Sort(pids)
	return pids, err
}

// look lists the processes of the namespace, newest first, and apart from them those
// that could not be looked at. Numbers go up, and so does the reading of /proc: of a
// process that forks and ends again and again, this life or the next is on one of the
// two lists. The newest lives longest, and is looked at first.
func (c *crowd) look() (in, lost []int, err error) {
	if c.fd == 0 && c.id == 0 {
		return nil, nil, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, nil, err
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	slices.Reverse(pids)
	for _, pid := range pids {
		switch ok, err := c.has(pid); {
		case ok:
			in = append(in, pid)
		case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH):
			lost = append(lost, pid)
		}
	}
	return in, lost, nil
}

// signalOthers sends a signal to all but the first process. With SIGKILL it returns when
// nobody but that is left.
func (c *crowd) signalOthers(first int, signal unix.Signal) error {
	if signal == unix.SIGKILL {
		return c.killOthers(first, time.Now().Add(endPatience))
	}
	pids, err := c.procs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if pid == first {
			continue
		}
		if err := c.signalOne(pid, signal); err != nil {
			return err
		}
	}
	return nil
}

// emptyLooks is how often nobody has to be found, if each time somebody was lost: most
// often they are strangers who end.
const emptyLooks = 20

// killOthers is in a race with processes that fork. So it waits for the end of those
// that it has killed only when it finds no others, and gives up at the deadline.
func (c *crowd) killOthers(first int, deadline time.Time) error {
	killed, known := make(map[int]bool), make(map[int]bool)
	for empty := 0; ; {
		pids, lost, err := c.look()
		if err != nil {
			return err
		}
		pids = slices.DeleteFunc(pids, func(pid int) bool { return pid == first })
		if len(pids) == 0 {
			if empty++; empty == emptyLooks || !addNew(known, lost) {
				return nil
			}
			continue
		}
		empty = 0
		if !time.Now().Before(deadline) {
			return &LeftError{PIDs: pids}
		}
		for _, pid := range pids {
			if err := c.signalOne(pid, unix.SIGKILL); err != nil {
				return err
			}
		}
		if !addNew(killed, pids) {
			if err := c.awaitOne(pids[0], deadline); err != nil {
				return err
			}
		}
	}
}

// addNew adds numbers to a set and reports whether one of them was not in it.
func addNew(set map[int]bool, pids []int) bool {
	before := len(set)
	for _, pid := range pids {
		set[pid] = true
	}
	return len(set) > before
}

// pin opens a pidfd on a process of the namespace; it is -1 if the process is not there,
// or not in it, any more.
func (c *crowd) pin(pid int) int {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1
	}
	if ok, err := c.has(pid); !ok || err != nil {
		unix.Close(fd)
		return -1
	}
	return fd
}

func (c *crowd) signalOne(pid int, signal unix.Signal) error {
	fd := c.pin(pid)
	if fd < 0 {
		return nil
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %d to process %d: %w", int(signal), pid, err)
	}
	return nil
}

// awaitOne waits for the end of a process, until the deadline at most, after which it is
// no error that it lives.
func (c *crowd) awaitOne(pid int, deadline time.Time) error {
	fd := c.pin(pid)
	if fd < 0 {
		return nil
	}
	defer unix.Close(fd)
	_, err := pollEnd(fd, pid, deadline)
	return err
}
