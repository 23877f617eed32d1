package usernet

import "sync"

// maxTCP is how many connections there are at the same time, those that are being made and those
// of published ports among them.
const maxTCP = 1024

// maxWide is how many of them have large buffers: those that came when there were few.
const maxWide = 8

// Buffers of a connection in bytes. What the stack keeps until the container has read it, and what it
// keeps until the host has taken it, and what is on its way there.
//
//	wide     8 * (2048 + 2048 + 256) KiB     =  34 MiB
//	narrow   1016 * (32 + 64 + 16) KiB       = 111 MiB
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
	// chunk is how much is read of the host at once.
	chunk int
}

var (
	wideSeat   = seat{wideSend, wideReceive, wideChunk}
	narrowSeat = seat{narrowSend, narrowReceive, narrowChunk}
)

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
