package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/host"
)

// OOMNotice is the kernel's notice that a group runs out of memory: a descriptor that
// becomes readable. It holds it open until Close.
type OOMNotice struct {
	// File is readable when something has happened; Take then says what.
	File  *os.File
	group *Group
	kills uint64
}

// NotifyOOM asks for a notice. On version 1 it is an eventfd that the file
// cgroup.event_control ties to memory.oom_control, and comes when the group is out of
// memory; on version 2 it is inotify(7) on memory.events, and comes when a process has
// been killed for it.
//
// The error wraps ErrNoController when the group has no memory controller.
func (g *Group) NotifyOOM() (*OOMNotice, error) {
	dir, ok := g.path("memory")
	if !ok {
		return nil, fmt.Errorf("out of memory notice: %w: memory", ErrNoController)
	}
	n := &OOMNotice{group: g}
	var err error
	if g.mode == host.CgroupV2 {
		err = n.watch(dir)
	} else {
		err = n.register(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("out of memory notice: %w", err)
	}
	return n, nil
}

func (n *OOMNotice) watch(dir string) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	n.File = os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir+"/memory.events", unix.IN_MODIFY); err != nil {
		n.File.Close()
		return &os.PathError{Op: "inotify_add_watch", Path: dir + "/memory.events", Err: err}
	}
	if n.kills, err = n.group.OOMKills(); err != nil {
		n.File.Close()
		return err
	}
	return nil
}

func (n *OOMNotice) register(dir string) error {
	control, err := n.group.open(dir+"/memory.oom_control", os.O_RDONLY)
	if err != nil {
		return err
	}
	defer control.Close() // the kernel keeps what it needs
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("eventfd2", err)
	}
	n.File = os.NewFile(uintptr(fd), "eventfd")
	line := strconv.Itoa(fd) + " " + strconv.Itoa(int(control.Fd()))
	if err := n.group.write(dir+"/cgroup.event_control", line); err != nil {
		n.File.Close()
		return err
	}
	return nil
}

// Take reads the notice and reports how many there are: processes killed on version
// 2, occasions on version 1. It is 0 when the group changed for another reason, or when
// it has gone: the kernel gives notice of that too.
func (n *OOMNotice) Take() (uint64, error) {
	var b [4096]byte
	count, err := unix.Read(int(n.File.Fd()), b[:])
	if errors.Is(err, unix.EAGAIN) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("out of memory notice: %w", err)
	}
	if n.group.mode == host.CgroupV2 {
		before := n.kills
		n.kills, err = n.group.OOMKills()
		return n.kills - min(before, n.kills), err
	}
	if dir, _ := n.group.path("memory"); count != 8 || unix.Access(dir, unix.F_OK) != nil {
		return 0, nil
	}
	return uint64(b[0]) | uint64(b[1])<<8, nil // an eventfd's count, of which two bytes are plenty
}

// Close gives the notice back.
func (n *OOMNotice) Close() error { return n.File.Close() }
