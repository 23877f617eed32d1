package container

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// A container that is made while others look for what a crash left is not taken for that: not at the moment, either, at which
// it has its record and its maker lets go of it.
func TestSweepLeavesWhatIsJustMade(t *testing.T) {
	s, err := OpenStore(t.TempDir(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var sweepers sync.WaitGroup
	for range 4 {
		sweepers.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.Sweep(context.Background(), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var makers sync.WaitGroup
	for w := range 4 {
		makers.Go(func() {
			for i := range 150 {
				id := fmt.Sprintf("%064x", w*1000+i)
				r, err := s.Reserve(ctx, id, "", true)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := r.Commit(Record{}); err != nil {
					t.Error(err)
				}
				if !s.Alive(id) {
					t.Errorf("container %d of maker %d is gone as soon as it is made", i, w)
				}
			}
		})
	}
	makers.Wait()
	cancel()
	sweepers.Wait()
	if left, err := s.List(); err != nil || len(left) != 600 {
		t.Errorf("%d containers are left of 600 (%v)", len(left), err)
	}
}
