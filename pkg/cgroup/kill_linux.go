package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/host"
)

// Kill ends every process of the group and of the groups below it, and returns when
// none is left. A group that is gone has none. Processes that the kernel cannot end
// now (waiting for a device, say) make it wait until ctx ends.
//
// Since Linux 5.14 version 2 does it in one write, and no process can escape by
// forking. Before, and in version 1, the group is frozen, each process is sent
// SIGKILL through its pidfd, and the group let go, until the list is empty.
func (g *Group) Kill(ctx context.Context) error {
	if len(g.paths) == 0 {
		return nil
	}
	if g.mode == host.CgroupV2 {
		err := g.write(g.paths[0]+"/cgroup.kill", "1")
		if err == nil {
			err = g.await(ctx, g.paths[0], "populated", false)
			if err == nil || isGone(err) {
				return nil
			}
			return fmt.Errorf("kill the control group: %w", err)
		}
		if !isGone(err) {
			return fmt.Errorf("kill the control group: %w", err)
		}
	}
	return g.killEach(ctx)
}

func (g *Group) killEach(ctx context.Context) error {
	for {
		pids, err := g.Procs()
		if err != nil || len(pids) == 0 {
			return err
		}
		if slices.Contains(pids, os.Getpid()) {
			return errors.New("kill the control group: containr itself is in it")
		}
		if err := ctx.Err(); err != nil { // without a freezer, those that fork may win
			return fmt.Errorf("kill the control group: %w", err)
		}
		if err := g.killBatch(ctx, pids); err != nil {
			return fmt.Errorf("kill the control group: %w", err)
		}
	}
}

const (
	// killBatchSize bounds the open descriptors.
	killBatchSize = 256
	// freezePatience bounds the wait for processes that cannot stop now. They are
	// killed unfrozen: what they fork meanwhile is found in the next round.
	freezePatience = time.Second
)

// killBatch kills some of the listed processes and waits for their end. A number
// could have passed to a stranger since it was listed; so each process is pinned by a
// pidfd first, and killed only if the list still names it after that.
func (g *Group) killBatch(ctx context.Context, pids []int) error {
	patience, cancel := context.WithTimeout(ctx, freezePatience)
	frozen := g.Freeze(patience) == nil
	cancel()
	pids = pids[:min(len(pids), killBatchSize)]
	waits := make([]unix.PollFd, 0, len(pids))
	defer func() {
		for _, w := range waits {
			unix.Close(int(w.Fd))
		}
	}()
	pinned := make([]int, 0, len(pids))
	for _, pid := range pids {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			waits = append(waits, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
			pinned = append(pinned, pid)
		}
	}
	still, err := g.Procs()
	for i, pid := range pinned {
		if _, ok := slices.BinarySearch(still, pid); ok && err == nil {
			err = unix.PidfdSendSignal(int(waits[i].Fd), unix.SIGKILL, nil, 0)
		}
	}
	if frozen {
		err = errors.Join(err, g.Thaw())
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return awaitEnds(ctx, waits)
}

// awaitEnds waits until each process has ended: its pidfd becomes readable.
func awaitEnds(ctx context.Context, waits []unix.PollFd) error {
	for i := range waits {
		if err := pollUntil(ctx, waits[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}
