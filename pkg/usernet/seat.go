package usernet

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/waiter"
)

// maxTCP is how many connections there are at the same time, those that are being made and those
// of published ports among them.
const maxTCP = 1024

// maxWide is how many of them have large buffers: those that came when there were few.
const maxWide = 8

// Buffers of a connection in bytes. What the stack keeps until the container has read it, what it
// keeps until the host has taken it, and what is on its way, which is there for each direction.
//
//	wide     8 * (2048 + 2048 + 2*256) KiB     =  36 MiB
//	narrow   1016 * (32 + 64 + 2*16) KiB       = 127 MiB
//
// To this come the stack's own records, and the rounding of its pieces, at the worst to twice
// their length. A narrow connection still fills a cable: the container is a millisecond away.
const (
	bufferMin = 4 << 10

	wideSend    = 2 << 20
	wideReceive = 2 << 20
	wideChunk   = 256 << 10

	narrowSend    = 32 << 10
	narrowReceive = 64 << 10
	narrowChunk   = 16 << 10
)

// seat is what a connection may take of our memory.
type seat struct {
	send, receive int64
	// chunks are what bytes are copied through.
	chunks *sync.Pool
}

var (
	wideSeat   = seat{wideSend, wideReceive, newChunks(wideChunk)}
	narrowSeat = seat{narrowSend, narrowReceive, newChunks(narrowChunk)}
)

func newChunks(size int) *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, size); return &b }}
}

// seats are those of all connections.
type seats struct {
	mu           sync.Mutex
	wide, narrow int // how many are free
}

func newSeats() *seats { return &seats{wide: maxWide, narrow: maxTCP - maxWide} }

// take returns false if all are taken. Whoever has one frees it.
func (l *seats) take() (*seat, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.wide > 0:
		l.wide--
		return &wideSeat, true
	case l.narrow > 0:
		l.narrow--
		return &narrowSeat, true
	}
	return nil, false
}

func (l *seats) free(s *seat) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s == &wideSeat {
		l.wide++
	} else {
		l.narrow++
	}
}

// Bound of small pieces.
const (
	// smallWrite is how long a piece is, in bytes, that costs the stack more than its content.
	smallWrite = 4 << 10
	// maxSmall is how many of them are written until the container has taken all there is. Its
	// buffer is counted in bytes of content: somebody who sends one byte at a time to one who does
	// not read would fill it with a record for each.
	maxSmall = 32
)

// inside is the container's side of a connection.
type inside struct {
	*gonet.TCPConn
	ep    tcpip.Endpoint
	queue *waiter.Queue
	send  int64
	small int
}

func newInside(queue *waiter.Queue, ep tcpip.Endpoint) *inside {
	return &inside{TCPConn: gonet.NewTCPConn(queue, ep), ep: ep, queue: queue}
}

// fit gives the connection the buffers of its seat, which stay as they are.
func (in *inside) fit(s *seat) {
	in.send = s.send
	in.ep.SocketOptions().SetSendBufferSize(s.send, true)
	in.ep.SocketOptions().SetReceiveBufferSize(s.receive, true)
}

// Write sends to the container. There is one writer.
func (in *inside) Write(b []byte) (int, error) {
	if len(b) < smallWrite {
		if in.small++; in.small > maxSmall {
			in.drain()
			in.small = 1
		}
	}
	return in.TCPConn.Write(b)
}

// drain waits until the container has taken what was sent, or the connection has failed.
func (in *inside) drain() {
	// The stack tells of room when a buffer is half empty. Of one of two bytes that is when all is gone.
	options := in.ep.SocketOptions()
	options.SetSendBufferSize(2, false)
	in.await(waiter.WritableEvents, func() {})
	// While it tells, it writes the size that it has read before, holding a lock. We had that, too, when this returns.
	for ok := false; !ok; ok = options.GetSendBufferSize() == in.send {
		options.SetSendBufferSize(in.send, true)
	}
}

// finish ends the connection and waits until the container has taken what was sent: until then
// the stack keeps it.
func (in *inside) finish() { in.await(waiter.EventHUp, func() { in.Close() }) }

// await does something and waits until an event has come, or a failure.
func (in *inside) await(event waiter.EventMask, do func()) {
	entry, ready := waiter.NewChannelEntry(event | waiter.EventHUp | waiter.EventErr)
	in.queue.EventRegister(&entry)
	defer in.queue.EventUnregister(&entry)
	do()
	for in.ep.Readiness(event)&event == 0 {
		<-ready
	}
}
