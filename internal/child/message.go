package child

import (
	"encoding/binary"
	"fmt"

	"github.com/containr/containr/pkg/plan"
)

// The messages on the sync socket. Their lengths differ, and a SOCK_SEQPACKET
// socket keeps messages apart, so the length tells them apart. Only a message that
// carries a descriptor may have any length: its text is the name of a register.
const (
	// The program has done its part and waits: the baton is the host's.
	messageBaton     = "b"
	messageBatonSize = 1
	// MessageReady is written right before the system call filter is loaded:
	// what is left is to execute the user's program.
	MessageReady     = "ok"
	messageReadySize = len(MessageReady)
	// The program asks whether it may make a step: its index, 4 bytes.
	messagePauseSize = 4
	// The keeper tells the process id of the container, 8 bytes.
	messagePIDSize = 8
	// The program tells a number, its lowest bytes.
	NumberSize = 5
	// The program tells the process id of a sibling that it has made, which goes on in its
	// place when the host has answered: its lowest bytes.
	InsideSize = 6
	// A step has failed: the first 24 bytes of the status block.
	messageFailed     = 2
	messageFailedSize = 24
)

// EventKind says what Next saw.
type EventKind uint8

const (
	// Baton: the host may go on with its steps and must call Continue.
	Baton EventKind = iota
	// Ready: only the filter and the user's program are left.
	Ready
	// Pause: the program waits for Continue before Step.
	Pause
	// Born: the keeper has made the container; PID is its number.
	Born
	// Number: the program tells a number, which is in Number.
	Number
	// Inside: the program goes on as another process; PID is its number.
	Inside
	// Failed: Step failed with Errno, and the program has ended.
	Failed
	// Closed: the socket is closed. After Ready it means that the user's
	// program runs; without it, that the program was killed.
	Closed
	// Descriptor: the program has sent FD, which is the caller's now, for the host's
	// register Reg.
	Descriptor
)

// Event is one message of the program.
type Event struct {
	Kind  EventKind
	Step  int
	Errno plan.Errno
	PID   int
	FD    int
	Reg   plan.Reg
	// Number is what a program tells that has to say a result of its own.
	Number int
}

func (p *Program) decode(b []byte) (Event, error) {
	switch len(b) {
	case 0:
		return Event{Kind: Closed}, nil
	case messageBatonSize:
		return Event{Kind: Baton}, nil
	case messageReadySize:
		return Event{Kind: Ready}, nil
	case messagePauseSize:
		return Event{Kind: Pause, Step: int(binary.LittleEndian.Uint32(b))}, nil
	case messagePIDSize:
		return Event{Kind: Born, PID: int(binary.LittleEndian.Uint32(b))}, nil
	case NumberSize:
		return Event{Kind: Number, Number: int(binary.LittleEndian.Uint32(b))}, nil
	case InsideSize:
		return Event{Kind: Inside, PID: int(binary.LittleEndian.Uint32(b))}, nil
	case messageFailedSize:
		pc, errno := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
		return Event{Kind: Failed, Step: p.StepOf(pc), Errno: plan.Errno(errno)}, nil
	}
	return Event{}, fmt.Errorf("sync: message of %d bytes", len(b))
}
