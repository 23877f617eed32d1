package usernet

import (
	"bytes"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/containr/containr/internal/sys"
)

// stage is how far a connection has come. Each has its own part of stream.work.
type stage int

const (
	// dialing: the host connects; somebody waits for done.
	dialing stage = iota
	// waiting: the container's kernel is asked to take the connection, by somebody who calls ready when it has.
	waiting
	// entering: a client waits for the container to take the connection.
	entering
	// joined: bytes go both ways.
	joined
	// ending: the container has yet to take what was sent.
	ending
	// gone: nothing is left.
	gone
)

// stream is a connection of TCP: the container's end, ep, and the host's, fd. Who has it is the loop, once it is joined or enters: nothing
// else reads or writes it, and it has no goroutine and no buffer of its own. What one side does not take stays in the other one's kernel or stack.
type stream struct {
	place
	network *Network
	seat    *seat
	fd      int
	ep      tcpip.Endpoint
	queue   waiter.Queue
	entry   waiter.Entry
	stage   stage
	done    chan error  // of dialing
	handed  atomic.Bool // by who waited

	// readable and writable are what is known of fd: until a call has said otherwise. ended says that its last byte may have come, so that only 0 or an
	// error ends its being readable.
	readable, writable, ended bool
	// noInput and noOutput: the end of what comes from the container, and of what comes from the host, was passed on.
	noInput, noOutput bool
	// rest is what the stack had no room for, and small how many small pieces it has taken since it was empty.
	rest  []byte
	small int

	// Of who enters.
	attempts []ends
	timer    *time.Timer
	// tries counts them, and late is the one that has taken too long.
	tries int32
	late  atomic.Int32
}

// ends are both ends of what a client says to the container.
type ends struct{ from, to tcpip.FullAddress }

// interesting is what the stack is to tell of.
const interesting = waiter.ReadableEvents | waiter.WritableEvents | waiter.EventHUp | waiter.EventErr | waiter.EventRdHUp

// NotifyEvent is told by the stack, with locks held.
func (s *stream) NotifyEvent(waiter.EventMask) { s.network.loop.ready(s) }

func (s *stream) happened(events uint32) bool {
	if events&^unix.EPOLLOUT != 0 {
		s.readable = true
	}
	if events&^(unix.EPOLLIN|unix.EPOLLOUT) != 0 {
		s.ended = true
	}
	if events&^unix.EPOLLIN != 0 {
		s.writable = true
	}
	return s.stage != waiting && s.stage != entering
}

// own begins to be told of ep by the stack.
func (s *stream) own(ep tcpip.Endpoint) {
	s.ep = ep
	s.entry.Init(s, interesting)
	s.queue.EventRegister(&s.entry)
}

// fit gives the connection the buffers of its seat, which stay as they are.
func (s *stream) fit() {
	s.ep.SocketOptions().SetSendBufferSize(s.seat.send, true)
	s.ep.SocketOptions().SetReceiveBufferSize(s.seat.receive, true)
}

func (s *stream) work() {
	switch s.stage {
	case dialing:
		if s.readable || s.writable {
			s.stage = waiting
			s.done <- sys.ErrorNow(s.fd)
		}
	case waiting:
		if !s.handed.Load() {
			return
		}
		s.begin()
	case entering:
		s.enter()
	case joined:
		s.pass()
	case ending:
		s.end()
	}
}

// begin passes on what may have come already.
func (s *stream) begin() {
	s.fit()
	s.stage, s.readable, s.writable, s.ended = joined, true, true, true
	s.pass()
}

// enter goes on to connect a client with the container, by one attempt after another.
func (s *stream) enter() {
	for {
		if s.ep != nil {
			state := tcp.EndpointState(s.ep.State())
			switch state {
			case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
				if s.late.Load() != s.tries {
					return
				}
			case tcp.StateEstablished, tcp.StateCloseWait:
				s.timer.Stop()
				s.begin()
				return
			}
			s.leave()
		}
		if len(s.attempts) == 0 {
			s.stage = gone
			s.network.loop.forget(s)
			sys.ResetNow(s.fd) // the client sees that the container did not take it
			s.network.seats.free(s.seat)
			return
		}
		next := s.attempts[0]
		s.attempts = s.attempts[1:]
		// The same client may have a connection from this port to the same port of the container, through another one of the host's.
		if s.attempt(next) && next.from.Port != 0 {
			next.from.Port = 0
			s.attempt(next)
		}
	}
}

// attempt begins to connect, and leaves no endpoint if that fails at once. It reports whether the port was in use.
func (s *stream) attempt(e ends) (used bool) {
	ep, failed := s.network.stack.NewEndpoint(tcp.ProtocolNumber, protocolOf(toAddr(e.to.Addr)), &s.queue)
	if failed != nil {
		return false
	}
	s.own(ep)
	ep.SocketOptions().SetReuseAddress(true)
	if failed := ep.Bind(e.from); failed != nil {
		s.leave()
		return true
	}
	failed = ep.Connect(e.to)
	switch failed.(type) {
	case nil, *tcpip.ErrConnectStarted:
		s.tries++
		mine := s.tries
		s.timer = time.AfterFunc(insidePatience, func() {
			s.late.Store(mine)
			s.network.loop.ready(s)
		})
		return false
	}
	s.leave()
	_, used = failed.(*tcpip.ErrPortInUse)
	return used
}

// leave gives up an attempt.
func (s *stream) leave() {
	if s.timer != nil {
		s.timer.Stop()
	}
	s.queue.EventUnregister(&s.entry)
	s.ep.Abort()
	s.ep = nil
}

// turns is how often bytes of the host are read before others have their turn.
const turns = 4

func (s *stream) pass() {
	err := s.passOut()
	for i := 0; err == nil && (s.readable || s.rest != nil) && !s.noOutput; i++ {
		if i == turns {
			s.network.loop.ready(s)
			break
		}
		var more bool
		if more, err = s.passIn(); !more {
			break
		}
	}
	switch {
	case err != nil: // a connection that was cut off is not to look as if it had ended
		sys.ResetNow(s.fd)
		s.ep.Abort()
	case s.noInput && s.noOutput:
		sys.CloseNow(s.fd)
	default:
		return
	}
	s.network.loop.forget(s)
	s.stage = ending
	s.ep.Close()
	s.end()
}

// end is over when the container has taken what was sent: until then the stack keeps it.
func (s *stream) end() {
	if s.ep.Readiness(waiter.EventHUp)&waiter.EventHUp == 0 {
		return
	}
	s.stage = gone
	s.queue.EventUnregister(&s.entry)
	s.network.seats.free(s.seat)
}

var errStack = errors.New("connection with the container failed")

// passOut has the host take what has come from the container.
func (s *stream) passOut() error {
	for !s.noInput && s.writable {
		to := writer{fd: s.fd}
		_, failed := s.ep.Read(&to, tcpip.ReadOptions{})
		switch {
		case errors.Is(to.err, unix.EAGAIN):
			s.writable = false
		case to.err != nil:
			return to.err
		}
		switch failed.(type) {
		case nil, *tcpip.ErrBadBuffer: // once more: the end may have come as well; or nothing was taken, and it is not writable
		case *tcpip.ErrWouldBlock:
			return nil
		case *tcpip.ErrClosedForReceive:
			if tcp.EndpointState(s.ep.State()) == tcp.StateError {
				return errStack
			}
			s.noInput = true
			return sys.EndNow(s.fd)
		default:
			return errStack
		}
	}
	return nil
}

// writer writes to a socket of the host, straight from the stack's pieces.
type writer struct {
	fd  int
	err error
}

func (w *writer) Write(b []byte) (n int, err error) {
	for n < len(b) {
		size, err := sys.WriteNow(w.fd, b[n:])
		if err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			w.err = err
			return n, err
		}
		n += size
	}
	return n, nil
}

// passIn has the stack take what has come from the host. It reports whether there may be more, and room.
func (s *stream) passIn() (bool, error) {
	if s.small == maxSmall && !s.drain() {
		return false, nil
	}
	data := s.rest
	if data == nil {
		scratch := s.network.loop.scratch[:s.seat.chunk]
		size, err := sys.ReadNow(s.fd, scratch)
		switch {
		case errors.Is(err, unix.EINTR):
			return true, nil
		case errors.Is(err, unix.EAGAIN):
			s.readable, s.ended = false, false
			return false, nil
		case err != nil:
			return false, err
		case size == 0:
			s.noOutput = true
			if failed := s.ep.Shutdown(tcpip.ShutdownWrite); failed != nil {
				return false, errStack
			}
			return false, nil
		}
		if data = scratch[:size]; size < smallWrite {
			s.small++
		}
		s.readable = size == len(scratch) || s.ended
	}
	message := bytes.NewReader(data)
	for message.Len() > 0 {
		_, failed := s.ep.Write(message, tcpip.WriteOptions{Atomic: true})
		if _, full := failed.(*tcpip.ErrWouldBlock); full {
			s.rest = bytes.Clone(data[len(data)-message.Len():]) // it tells when there is room
			return false, nil
		}
		if failed != nil {
			return false, errStack
		}
	}
	s.rest = nil
	return s.readable, nil
}

// drain reports whether the container has taken all that was sent. If not, the stack tells when it has.
func (s *stream) drain() bool {
	// The stack tells of room when a buffer is half empty. Of one of two bytes that is when all is gone.
	options := s.ep.SocketOptions()
	options.SetSendBufferSize(2, false)
	if s.ep.Readiness(waiter.WritableEvents)&waiter.WritableEvents == 0 {
		return false
	}
	// The stack changes this size, too, when it tells of room: it reads it, and writes it back a moment later. That may undo what is set
	// here, so it is set until it stays.
	for ok := false; !ok; ok = options.GetSendBufferSize() == s.seat.send {
		options.SetSendBufferSize(s.seat.send, true)
	}
	s.small = 0
	return true
}
