package cli

import (
	"os"
	"sync"

	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/engine"
)

// signalQueue passes our signals on to a container. It is opened before the
// container starts, and holds back what comes until there is somebody to deliver
// it to, so that no signal is lost in between.
type signalQueue struct {
	running chan *engine.Running // holds one
	closed  chan struct{}
	once    sync.Once
	stop    func()
}

func newSignalQueue() *signalQueue {
	return &signalQueue{running: make(chan *engine.Running, 1), closed: make(chan struct{}), stop: func() {}}
}

// open begins to catch signals.
func (q *signalQueue) open() { q.stop = tty.Forward(q.pass) }

func (q *signalQueue) pass(sig os.Signal) {
	select {
	case r := <-q.running:
		q.running <- r
		r.Signal(sig) // an error means that it has ended
	case <-q.closed:
	}
}

// deliver names who the signals are for.
func (q *signalQueue) deliver(r *engine.Running) { q.running <- r }

// close ends the passing on. It may be called twice.
func (q *signalQueue) close() {
	q.once.Do(func() {
		close(q.closed)
		q.stop()
	})
}
