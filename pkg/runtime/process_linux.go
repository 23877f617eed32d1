package runtime

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/cgroup"
	"github.com/containr/containr/pkg/host"
)

// StatePaused is the status of a container whose processes have been stopped with
// Pause. The specification leaves room for it, and callers know it by this name.
const StatePaused specs.ContainerState = "paused"

// startTime reads field 22 of /proc/PID/stat: the process's start in clock ticks
// since boot, which tells it from a later one with the same number. The process's
// state, a letter, comes with it.
func startTime(pid int) (uint64, byte) {
	text, err := sys.ReadFile("/proc/"+strconv.Itoa(pid)+"/stat", maxConfig)
	if err != nil {
		return 0, 0
	}
	// The process chooses its name, which may have parentheses and look like fields.
	end := strings.LastIndex(string(text), ") ")
	fields := strings.Fields(string(text[end+1:]))
	if end < 0 || len(fields) < 20 {
		return 0, 0
	}
	var t uint64
	for _, c := range fields[19] {
		t = t*10 + uint64(c-'0')
	}
	return t, fields[0][0]
}

// status asks the kernel whether the container's first process lives. It does not tell
// a paused container from others, see present.
func (r *Runtime) status(st *state) specs.ContainerState {
	t, kind := startTime(st.PID)
	switch {
	case t == 0 || t != st.Start || kind == 'Z' || kind == 'X':
		return specs.StateStopped
	case host.Kind(filepath.Join(r.Root, st.ID, startFile)) != host.Missing:
		return specs.StateCreated
	}
	return specs.StateRunning
}

// present is status, and asks the freezer too.
func (r *Runtime) present(st *state) (specs.ContainerState, error) {
	s := r.status(st)
	if s == specs.StateStopped || len(st.Cgroups) == 0 {
		return s, nil
	}
	switch frozen, err := r.group(st).Frozen(); {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV):
		return s, nil // somebody else has removed the group
	case err != nil:
		return s, fmt.Errorf("container %q: %w", st.ID, err)
	case frozen:
		return StatePaused, nil
	}
	return s, nil
}

func (r *Runtime) group(st *state) *cgroup.Group {
	return cgroup.Open(r.Facts.CgroupMode, st.Cgroups)
}

// ownGroup reports whether the container has control groups that hold nobody else.
func (st *state) ownGroup() bool { return len(st.Cgroups) > 0 && !st.Shared }

// loose reports whether processes of the container may outlive the first one without
// being in a control group of its own.
func (st *state) loose() bool { return st.SharedPIDs && !st.ownGroup() }

// signalProcess signals through a pidfd, so that a process that takes over the
// number between the check and the signal is never hit.
func signalProcess(pid int, start uint64, signal unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if t, _ := startTime(pid); t != start {
		return ErrNotRunning
	}
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil {
		return fmt.Errorf("signal %d to process %d: %w", int(signal), pid, err)
	}
	return nil
}

// waitGone waits, ten seconds at most, until a process has ended; its parent need
// not have noticed.
func waitGone(pid int, start uint64) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil // it is gone
	}
	defer unix.Close(fd)
	if t, _ := startTime(pid); t != start {
		return nil
	}
	return awaitEnd(fd, pid)
}

// awaitEnd waits until the process of a pidfd has ended, ten seconds at most.
func awaitEnd(fd, pid int) error {
	ended, err := pollEnd(fd, pid, time.Now().Add(endPatience))
	if err == nil && !ended {
		return &LeftError{PIDs: []int{pid}}
	}
	return err
}

// pollEnd waits until the process of a pidfd has ended, or the deadline.
func pollEnd(fd, pid int, deadline time.Time) (ended bool, err error) {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		left := min(max(time.Until(deadline), 0), time.Hour) // poll counts in an int of milliseconds
		n, err := unix.Poll(poll, int((left + time.Millisecond - 1).Milliseconds()))
		if errors.Is(err, unix.EINTR) || err == nil && n == 0 && left == time.Hour {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("wait for process %d: %w", pid, err)
		}
		return n > 0, nil
	}
}

// Processes lists the processes of a container by their numbers here. They are those in
// its control group; in a group that it shares with others, or without one, those in
// its namespaces, see crowd.
func (r *Runtime) Processes(id string) ([]int, error) {
	st, err := r.load(id)
	if err != nil {
		return nil, err
	}
	if st.ownGroup() {
		return r.group(st).Procs()
	}
	c, err := r.crowd(st)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return c.procs()
}
