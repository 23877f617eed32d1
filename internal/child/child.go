// Package child runs the part of a plan that a container's first process makes
// by itself, between its birth and the moment when it becomes the user's
// program.
//
// # Theory of operation
//
// Between clone and execve a process made by a Go program must not run Go: the
// other threads of the runtime do not exist in it. What is left is data. So the
// steps of the Child (and of the Keeper, its parent) are lowered to an array of
// 80-byte instructions, each of them one system call, and the strings and
// structures that those calls point to. A position-independent interpreter of
// some 300 bytes of assembly, which needs no stack, no thread-local storage and
// no library, executes the array. See Instruction for the format and interp_*.s
// for the loop.
//
// Interpreter and array together are a complete program, so they are written to
// a memfd as an ELF executable of a few pages (elf.go). Start then makes a process
// with CLONE_VM|CLONE_VFORK, which borrows this process's memory for the few calls
// of the *preamble* only: it moves the descriptors that the program needs to known
// numbers and executes the memfd. From then on nothing of containr is left in the
// process: no memory, no environment, no descriptor, and /proc/self/exe is the
// memfd. That is why a container cannot reach the host's binary (CVE-2019-5736),
// and why a created container waits in some 30 kB.
//
// The program and the host talk over a socket pair of type SOCK_SEQPACKET, called
// sync; a message's length says what it is (message.go). When the user's program
// is executed, the socket closes by itself.
//
// In the preamble all signals are blocked and no Go code runs, so nothing needs
// runtime.LockOSThread; the calling thread is held for 0.1 to 0.2 ms, most of it
// the making of a network namespace. The memory that the preamble reads is
// allocated outside of the Go heap and freed after the program has started.
//
// The package holds, with internal/sys and internal/filelimit, the project's
// assembly, and with the first of them the only use of unsafe.
package child

import (
	"errors"

	"github.com/containr/containr/pkg/plan"
)

// Sync is the register that holds the program's end of the sync socket.
const Sync plan.Reg = "sync"

// ErrUnsupported means that there is no interpreter for this architecture.
var ErrUnsupported = errors.New("containers cannot be started on this architecture (there is an interpreter for amd64 and arm64)")

// Instruction is one system call as the interpreter reads it, 80 bytes:
//
//	 0  nr      system call number
//	 4  deref   bit i: Args[i] is the address of the value (a register)
//	 5  flags   see the flag constants
//	 6  again   how often the call is made again after EAGAIN
//	 8  ok      four error numbers to tolerate, 0 where unused
//	16  args    six arguments
//	64  dst     where to store the result, 0 for nowhere
//	72  next    bytes from here to the next instruction after success
//	76  other   the same after a tolerated error, and for the parent of a clone
type Instruction struct {
	Nr    uint32
	Deref uint8
	Flags uint8
	Again uint16
	Ok    [plan.MaxTolerated]uint16
	Args  [6]uint64
	Dst   uint64
	Next  int32
	Other int32
}

// The bits of Instruction.Flags.
const (
	flagAnyError  = 1 << iota // every error is tolerated
	flagZeroFails             // result 0 is EPIPE: the peer is gone
	flagClone                 // a positive result (the parent) continues at Other
	flagStamp                 // store result and clock in the trace, see status.delta
)

// InstructionSize is the size of an Instruction.
const InstructionSize = 80

// The interpreter's second input is the status block, 48 bytes:
//
//	 0  kind    the number messageFailed
//	 8  pc      address of the instruction that failed
//	16  errno   its error
//	24  sync    descriptor that the first 24 bytes are written to
//	32  code    exit code after a failure
//	40  delta   distance from an instruction to its trace record
const (
	statusSync  = 24
	statusCode  = 32
	statusDelta = 40
	statusSize  = 48
)

// A trace record lies at the instruction's address plus delta: the raw result,
// the clock before the call, the clock after it; 24 of the 80 bytes are used.

// FailureCode is the exit code of a program whose step failed.
const FailureCode = 125
