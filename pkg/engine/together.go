package engine

import (
	"context"
	"sync"
)

// Together is how many containers are worked on at the same time by what is done to many. Most of the work is waiting: for
// processes that end, and for the monitor, which then cleans up.
const Together = 8

// attendedKey marks a context in which all containers have been attended to.
type attendedKey struct{}

// Each does something to each of some containers, width of them at a time, and tells the outcomes in the order in which they are
// named, each as soon as all before it are known. do and told are given the index; told is not called by two goroutines at a time.
//
// What killed processes have left undone is done once, not before each of them; of the container that do asks Get for, it is still
// done each time. One that is named twice, by whatever of its names, is dealt with by one goroutine, in order. If one is worked on at
// a time it is told of before the next is begun: what is started has this process's streams replaced for a moment, and what is
// written by others then would be the container's.
func (e *Engine) Each(ctx context.Context, refs []string, width int, do func(ctx context.Context, i int) error, told func(i int, err error)) {
	if len(refs) > 1 {
		if _, err := e.attendToAll(ctx); err == nil { // else each tells the error
			ctx = context.WithValue(ctx, attendedKey{}, true)
		}
	}
	if width == 1 {
		for i := range refs {
			told(i, do(ctx, i))
		}
		return
	}
	outcomes := make([]chan error, len(refs))
	for i := range outcomes {
		outcomes[i] = make(chan error, 1)
	}
	lanes := e.lanes(refs)
	next := make(chan []int, len(lanes))
	for _, lane := range lanes {
		next <- lane
	}
	close(next)
	var workers sync.WaitGroup
	for range min(width, len(lanes)) {
		workers.Go(func() {
			for lane := range next {
				for _, i := range lane {
					outcomes[i] <- do(ctx, i)
				}
			}
		})
	}
	for i := range refs {
		told(i, <-outcomes[i])
	}
	workers.Wait()
}

// lanes are the indices of containers, those of the same container in one lane.
func (e *Engine) lanes(refs []string) [][]int {
	var lanes [][]int
	containers, err := e.containers()
	lane := make(map[string]int)
	for i, ref := range refs {
		key := "of no container: " + ref
		if err == nil {
			if record, err := containers.Get(ref); err == nil {
				key = record.ID
			}
		}
		n, ok := lane[key]
		if !ok {
			n, lane[key] = len(lanes), len(lanes)
			lanes = append(lanes, nil)
		}
		lanes[n] = append(lanes[n], i)
	}
	return lanes
}
