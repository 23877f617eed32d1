package cgroup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/host"
)

// Signal sends a signal to every process of the group and of the groups below it. A
// group that is gone has none. The group is frozen meanwhile, so that a process which
// forks does not leave a child behind that nobody has signalled; a group that somebody
// has frozen stays so, but for SIGKILL on version 1, where the frozen cannot die.
//
// Each process is signalled through a pidfd that was opened while the list named it, so
// that a number which passes to a stranger meanwhile is of no consequence.
func (g *Group) Signal(signal unix.Signal) error {
	paused, err := g.Frozen()
	if err != nil && !isGone(err) {
		return fmt.Errorf("signal the control group: %w", err)
	}
	if !paused {
		// Where it cannot be frozen, for want of a freezer or because a process
		// waits for a device, the signal goes to those who are there now.
		patience, cancel := context.WithTimeout(context.Background(), freezePatience)
		frozen := g.Freeze(patience) == nil
		cancel()
		if frozen {
			defer func() { _ = g.Thaw() }() // the group may have died meanwhile
		}
	}
	if err := g.signalAll(signal); err != nil {
		return fmt.Errorf("signal the control group: %w", err)
	}
	if paused && signal == unix.SIGKILL && g.mode == host.CgroupV1 {
		return g.Thaw()
	}
	return nil
}

func (g *Group) signalAll(signal unix.Signal) error {
	pids, err := g.Procs()
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(pids, killBatchSize) {
		if err := g.signalBatch(batch, signal); err != nil {
			return err
		}
	}
	return nil
}

// signalBatch pins some processes, looks whether they are still in the group, and
// signals those that are.
func (g *Group) signalBatch(pids []int, signal unix.Signal) error {
	fds := make([]int, len(pids))
	for i, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			fd = -1 // it has ended
		} else {
			defer unix.Close(fd)
		}
		fds[i] = fd
	}
	still, err := g.Procs()
	if err != nil {
		return err
	}
	for i, pid := range pids {
		if _, ok := slices.BinarySearch(still, pid); !ok || fds[i] < 0 {
			continue
		}
		if err := unix.PidfdSendSignal(fds[i], signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal %d to process %d: %w", int(signal), pid, err)
		}
	}
	return nil
}
