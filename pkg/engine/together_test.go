package engine

import (
	"context"
	"slices"
	"testing"
	"time"
)

// While a container is started the standard streams of this process are the container's: a name that is printed then would be
// in its log. So what is done to one container at a time is told before the next one is begun.
func TestOneAtATimeIsToldBeforeTheNext(t *testing.T) {
	e := New(Options{Root: t.TempDir()})
	begun := make(chan int, 3)
	told := 0
	e.Each(t.Context(), []string{"a", "b", "c"}, 1, func(_ context.Context, i int) error {
		begun <- i
		return nil
	}, func(i int, err error) {
		told++
		if own := <-begun; own != i || err != nil {
			t.Errorf("%d is told, error %v, as the outcome of %d", i, err, own)
		}
		select {
		case next := <-begun:
			t.Fatalf("%d is begun before %d is told", next, i)
		case <-time.After(20 * time.Millisecond): // what is wrong has time to happen
		}
	})
	if told != 3 {
		t.Errorf("%d are told", told)
	}
}

// Together, they are told in the order in which they are named, whichever is done first; one that has two names is worked on by one.
func TestTogetherIsToldInOrder(t *testing.T) {
	e, record, attended := stopped(t)
	if err := attended.Release(); err != nil {
		t.Fatal(err)
	}
	last := make(chan bool)
	var order, own []int
	e.Each(t.Context(), []string{"web", "other", record.ID}, 3, func(_ context.Context, i int) error {
		switch i {
		case 0:
			<-last
			own = append(own, i)
		case 1:
			close(last)
		case 2:
			own = append(own, i)
		}
		return nil
	}, func(i int, err error) { order = append(order, i) })
	if !slices.Equal(order, []int{0, 1, 2}) || !slices.Equal(own, []int{0, 2}) {
		t.Errorf("told in the order %v, the container of two names was dealt with in the order %v", order, own)
	}
}
