package runtime

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/internal/timerslack"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

const goarch = linux.Arch(runtime.GOARCH)

// host makes a host action. The result is a descriptor for the actions that open
// something.
func (e *execution) host(call plan.Call) (int, error) {
	if e.o.Actions.Links {
		switch call.(type) {
		case linux.AddAddress, linux.RaiseLink:
			return e.o.Actions.Do(call, e.regs)
		}
	}
	switch c := call.(type) {
	case linux.MakeDir:
		return 0, unix.Mkdir(c.Path, c.Mode)
	case linux.WriteFile:
		return 0, e.control.write(c.Path, c.Data)
	case linux.ChangeOwner:
		return 0, unix.Lchown(c.Path, int(c.UID), -1)
	case linux.CopyFile:
		return 0, copyControl(c.From, c.To)
	case linux.Attach:
		return 0, writeControl(c.Path, strconv.Itoa(e.regs[c.PID]))
	case linux.WriteProc:
		return 0, e.writeProc(c.File, c.Data)
	case linux.MapIDs:
		return 0, e.mapIDs(c)
	case linux.OpenHost:
		return e.keep(unix.Open(c.Path, int(c.Flags.ForArch(goarch))|unix.O_CLOEXEC, 0o600))
	case linux.OpenPidfd:
		return e.openPidfd(c)
	case linux.RunHook:
		return 0, runHook(c, e.regs[c.PID], e.o.Inside)
	case linux.MoveLink:
		return moveLink(c, e.regs[c.PID])
	case linux.AddAddress:
		return 0, addAddress(c, e.regs[c.PID], e.regs[c.Link])
	case linux.RaiseLink:
		return 0, raiseLink(e.regs[c.PID], e.regs[c.Link])
	case linux.SendListener:
		return 0, sendListener(c, e.regs[c.PID], e.regs[c.Listener])
	case linux.DeviceFilter:
		return 0, attachDeviceFilter(c)
	case linux.UserNamespace:
		return e.keep(mapOnly(c))
	case linux.Fsopen:
		return e.keep(e.o.open(e))
	case linux.Openat:
		return e.keep(unix.Openat(e.dir(c.Dir), c.Path, int(c.Flags.ForArch(goarch)), c.Mode))
	case linux.Openat2:
		how := unix.OpenHow{Flags: uint64(c.Flags.ForArch(goarch)), Mode: uint64(c.Mode), Resolve: uint64(c.Resolve)}
		return e.keep(unix.Openat2(e.dir(c.Dir), c.Path, &how))
	case linux.OpenTree:
		return e.keep(unix.OpenTree(e.dir(c.Dir), c.Path, uint(c.Flags)))
	case linux.MountSetattr:
		return 0, e.mountSetattr(c)
	case linux.Mount:
		return 0, unix.Mount(c.Source, c.Target, c.Type, uintptr(c.Flags), c.Data)
	case linux.ServeFuse:
		return 0, e.serve(c)
	case linux.CopyTree:
		return 0, safepath.CopyTree(e.regs[c.From], e.regs[c.To], c.Top)
	case linux.StartUnit:
		return 0, startUnit(c, e.regs[c.PID])
	case linux.SetUnit:
		return 0, setUnit(c)
	}
	if e.o.Actions.Do != nil {
		return e.o.Actions.Do(call, e.regs)
	}
	return 0, e.o.Actions.undo(call)
}

// keep notes a descriptor that is to be closed at the end.
func (e *execution) keep(fd int, err error) (int, error) {
	if err == nil {
		e.files = append(e.files, fd)
	}
	return fd, err
}

// dir is the descriptor that paths are relative to.
func (e *execution) dir(fd linux.FD) int {
	if fd == linux.CWD {
		return unix.AT_FDCWD
	}
	return e.regs[plan.Reg(fd)]
}

// mountSetattr changes a detached mount of the host's.
func (e *execution) mountSetattr(c linux.MountSetattr) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if c.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := unix.MountAttr{Attr_set: uint64(c.Set), Attr_clr: uint64(c.Clear), Propagation: uint64(c.Propagation)}
	if c.UserNS != "" {
		attr.Userns_fd = uint64(e.regs[plan.Reg(c.UserNS)])
	}
	return unix.MountSetattr(e.regs[plan.Reg(c.Dir)], c.Path, flags, &attr)
}

// openPidfd looks at the start time after opening: from then on the number may go to
// somebody else, the descriptor may not.
func (e *execution) openPidfd(c linux.OpenPidfd) (int, error) {
	fd, err := unix.PidfdOpen(c.PID, 0)
	if err != nil {
		return 0, err
	}
	e.files = append(e.files, fd)
	if t, _ := startTime(c.PID); c.Start != 0 && t != c.Start {
		return 0, unix.ESRCH
	}
	return fd, nil
}

// control is the control file that was written last. A list of devices goes to one
// file, line by line; it is opened once.
type control struct {
	path string
	fd   int
}

func (c *control) write(path, data string) error {
	if c.path != path {
		c.close()
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		c.path, c.fd = path, fd
	}
	_, err := unix.Write(c.fd, []byte(data))
	return err
}

func (c *control) close() {
	if c.path != "" {
		_ = unix.Close(c.fd) // a control file acts when it is written
		c.path = ""
	}
}

// writeControl writes a control file in one write(2): the kernel acts on each.
func writeControl(path, data string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(data))
	return errors.Join(err, unix.Close(fd))
}

func copyControl(from, to string) error {
	old, err := readControl(to)
	if err != nil || old != "" {
		return err
	}
	data, err := readControl(from)
	if err != nil {
		return err
	}
	return writeControl(to, data)
}

// readControl reads a control file of at most a page, without white space around.
func readControl(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	var b [4096]byte
	n, err := unix.Read(fd, b[:])
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return "", err
	}
	return strings.TrimSpace(string(b[:n])), nil
}

// mapIDs runs the helper, which knows processes by number. That it is the right one is
// checked just before, and the helper checks whose process it is.
func (e *execution) mapIDs(c linux.MapIDs) error {
	dir, err := e.procDir()
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	args := []string{strconv.Itoa(e.pid)}
	for _, n := range c.Map {
		args = append(args, strconv.FormatUint(uint64(n), 10))
	}
	var out []byte
	err = timerslack.Do(func() (err error) {
		out, err = exec.Command(c.Program, args...).CombinedOutput()
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w: %s", c.Program, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// undo makes an inverse. It succeeds when there is nothing to undo.
func (a Actions) undo(call plan.Call) error {
	switch c := call.(type) {
	case linux.RemoveDir:
		return removeDir(c.Path)
	case linux.StopUnit:
		return stopUnit(c)
	case linux.Umount:
		return unmount(c)
	}
	if a.Undo != nil {
		return a.Undo(call)
	}
	return fmt.Errorf("%s: the host has no such action", call.Name())
}

// unmount takes a mount away, unless it is gone: then the directory is none, or none
// that is mounted on.
func unmount(c linux.Umount) error {
	err := unix.Unmount(c.Target, int(c.Flags)|unix.UMOUNT_NOFOLLOW)
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return fmt.Errorf("umount %s: %w", c.Target, err)
}

// removeDir removes a directory. A control group stays busy for a moment after its
// last process has ended, so EBUSY is tried again, for two seconds at most.
func removeDir(path string) error {
	for wait := time.Millisecond; ; wait *= 2 {
		err := unix.Rmdir(path)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || wait > time.Second {
			return fmt.Errorf("rmdir %s: %w", path, err)
		}
		time.Sleep(wait)
	}
}

// ended is inverses for a container whose processes have ended. Its cables are not deleted but taken out of their switch: the
// kernel frees them together with the network namespace, while nobody waits. That is no sooner if others are in the namespace.
func ended(calls []plan.Call) []plan.Call {
	out := slices.Clone(calls)
	for i, c := range out {
		if link, ok := c.(linux.DeleteLink); ok {
			out[i] = linux.UnplugLink(link)
		}
	}
	return out
}

// undoAll makes all inverses, as far as possible, and returns the errors. The kernel takes its time with network devices,
// some 20 ms in which it does nothing but wait until nobody looks at one any more; the rest goes on meanwhile, as nothing
// depends on when a device goes.
func (a Actions) undoAll(calls []plan.Call) error {
	errs := make([]error, len(calls))
	var links sync.WaitGroup
	for i, c := range calls {
		if _, isLink := c.(linux.DeleteLink); isLink {
			links.Go(func() { errs[i] = a.undo(c) })
		} else {
			errs[i] = a.undo(c)
		}
	}
	links.Wait()
	return errors.Join(errs...)
}

// attachDeviceFilter lets only the devices of the filter into a control group.
func attachDeviceFilter(c linux.DeviceFilter) error {
	fd, err := unix.Open(c.Cgroup, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if c.Replace {
		return sys.ReplaceDeviceFilter(fd, []byte(c.Program))
	}
	return sys.AttachDeviceFilter(fd, []byte(c.Program))
}
