package usernet

import (
	"errors"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
)

// loop is one goroutine that reads the tap, and reads and writes the host's sockets of TCP. The kernel tells it by an epoll(7) what has
// happened, which is itself watched by Go's, so that nothing waits inside a call; the stack tells it by its events, which come with an
// endpoint's lock held and so are only noted.
type loop struct {
	poll, wake int
	file       *os.File // is poll
	link       *link
	// scratch is what bytes of the host pass through, and message where the stack takes them from.
	scratch []byte

	mu sync.Mutex
	// asleep says that the goroutine looks at list only when it is woken.
	asleep  bool
	list    []worker
	members map[int32]worker
	last    int32
}

// Numbers that are no members'.
const (
	tapNumber  = 1
	wakeNumber = 2
)

// worker is something that has work to do for the loop now and then.
type worker interface {
	// happened notes what epoll has told, and returns whether there is work.
	happened(events uint32) bool
	work()
	where() *place
}

// place is what the loop knows of a worker, under its lock.
type place struct {
	number int32
	queued bool
}

func (p *place) where() *place { return p }

func newLoop(l *link) (*loop, error) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(poll)
		return nil, os.NewSyscallError("eventfd", err)
	}
	for _, err := range []error{unix.SetNonblock(poll, true), sys.WatchNow(poll, l.fd, tapNumber), sys.WatchNow(poll, wake, wakeNumber)} {
		if err != nil {
			unix.Close(poll)
			unix.Close(wake)
			return nil, os.NewSyscallError("epoll", err)
		}
	}
	return &loop{poll: poll, wake: wake, file: os.NewFile(uintptr(poll), "epoll"), link: l, scratch: make([]byte, wideChunk),
		members: map[int32]worker{}, last: wakeNumber}, nil
}

// watch begins to tell w of what happens to fd.
func (l *loop) watch(w worker, fd int) error {
	l.mu.Lock()
	for l.last = max(l.last+1, wakeNumber+1); l.members[l.last] != nil; l.last = max(l.last+1, wakeNumber+1) { // it goes round
	}
	w.where().number = l.last
	l.members[l.last] = w
	number := l.last
	l.mu.Unlock()
	err := sys.WatchNow(l.poll, fd, number)
	if err != nil {
		l.forget(w)
	}
	return err
}

// forget tells w of nothing any more. Its descriptor is closed by who has it.
func (l *loop) forget(w worker) {
	l.mu.Lock()
	delete(l.members, w.where().number)
	l.mu.Unlock()
}

// ready has w work. Anybody may call it, with any lock held but the loop's.
func (l *loop) ready(w worker) {
	l.mu.Lock()
	wake := false
	if p := w.where(); !p.queued {
		p.queued = true
		l.list = append(l.list, w)
		wake, l.asleep = l.asleep, false
	}
	l.mu.Unlock()
	if wake {
		one := [8]byte{1}
		_, _ = sys.WriteNow(l.wake, one[:]) // a full counter wakes, too
	}
}

// run works until the tap is gone.
func (l *loop) run() error {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return err
	}
	frame := make([]byte, maxFrame)
	events := make([]unix.EpollEvent, 64)
	var failed error
	// What happens while this works is told once more when it has returned false, so it need not look twice.
	err = raw.Read(func(uintptr) bool {
		l.mu.Lock()
		l.asleep = false
		l.mu.Unlock()
		// Whoever always has something, the tap or a connection, has one turn, and then all are asked what has happened.
		for look, tap := true, false; ; {
			if look {
				var n int
				n, failed = sys.HappenedNow(l.poll, events)
				switch {
				case errors.Is(failed, unix.EINTR):
					continue
				case failed != nil:
					return true
				}
				tap = l.tell(events[:n]) || tap // it is told once: what was left is remembered
				look = n == len(events)
			}
			if tap {
				tap = l.more(frame)
				look = look || tap
				if l.link.failed {
					return true // the container has ended
				}
			}
			l.drain()
			if !look && l.rest() {
				return false
			}
			look = true
		}
	})
	return errors.Join(err, failed)
}

// rest goes to sleep if there is nothing to do.
func (l *loop) rest() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asleep = len(l.list) == 0
	return l.asleep
}

// tell has who is concerned note what has happened, and reports whether the tap has something.
func (l *loop) tell(list []unix.EpollEvent) (tap bool) {
	for _, e := range list {
		switch e.Fd {
		case tapNumber:
			tap = true
		case wakeNumber: // each write is told: it need not be read
		default:
			l.mu.Lock()
			w := l.members[e.Fd]
			l.mu.Unlock()
			if w != nil && w.happened(e.Events) {
				l.ready(w)
			}
		}
	}
	return tap
}

// framesAtOnce is how many frames of the tap are read before others have their turn.
const framesAtOnce = 32

// smallFrame is the length in bytes of frames, all together, whose acknowledgement can wait.
const smallFrame = 1024

// more passes some frames to the stack, and lets it look at them. It reports whether there may be others.
func (l *loop) more(frame []byte) bool {
	n, size := 0, 0
	more := true
	for ; n < framesAtOnce; n++ {
		last := l.link.readOne(frame)
		if more = last > 0; !more {
			break
		}
		size += last
	}
	if n > 0 {
		l.link.patient.Store(size < smallFrame)
		runtime.Gosched()
		l.link.patient.Store(false)
	}
	return more
}

// drain has those work who have said that they are ready.
func (l *loop) drain() {
	l.mu.Lock()
	list := l.list
	l.list = nil
	for _, w := range list {
		w.where().queued = false
	}
	l.mu.Unlock()
	for _, w := range list {
		w.work()
	}
	clear(list)
	l.mu.Lock()
	if l.list == nil {
		l.list = list[:0]
	}
	l.mu.Unlock()
}
