//go:build linux && (amd64 || arm64)

package sys

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Forwarding signals to a process is a few instructions in a signal handler of our own
// (forward_*.s), not a goroutine behind os/signal: Go's runtime starts two threads for
// the first signal that it tells a program of, and for each further one it switches to
// another thread and back, which for all of them takes half as long as the start of a
// container. The handler calls nothing of Go; it runs on the signal stack that Go has
// made for each of its threads, as handlers of C code in Go programs do.

// What the handler works with: a pidfd, or -1 while there is nobody to forward to; how
// many threads are in the handler; and the signals that are held, bit n-1 for signal n.
var (
	forwardTo   int32 = -1
	forwardBusy int32
	forwardHeld uint64
)

// In forward_*.s. The addresses are those of the handler and, where the kernel wants
// to be told, of the code that it returns to.
func forwardCode() (handler, restorer uintptr)

//lint:ignore U1000 the kernel calls it
func forwardSignal()

// signalAction is the kernel's struct sigaction.
type signalAction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// Forwarding is the forwarding of this process's signals. There can be one at a time.
type Forwarding struct {
	started bool
	old     [len(Forwarded)]signalAction
}

// Start catches the signals of Forwarded, all of them when it returns. They are held
// until there is a process to forward them to, each number once. What os/signal was
// asked to tell of these signals it does not tell until Stop.
func (f *Forwarding) Start() {
	f.started = true
	atomic.StoreInt32(&forwardTo, -1)
	atomic.StoreUint64(&forwardHeld, 0)
	handler, restorer := forwardCode()
	act := signalAction{handler: handler, flags: saRestart | saOnstack, mask: ^uint64(0)}
	if restorer != 0 {
		act.flags, act.restorer = act.flags|saRestorer, restorer
	}
	for i, n := range Forwarded {
		signalAct(n, &act, &f.old[i])
	}
}

// To forwards what was held, and from now on every signal, to the process that a pidfd
// is open on. One that has ended gets none, which is no error. The descriptor is copied.
func (f *Forwarding) To(pidfd int) error {
	fd, err := unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return fmt.Errorf("forward signals: %w", err)
	}
	atomic.StoreInt32(&forwardTo, int32(fd))
	held := atomic.SwapUint64(&forwardHeld, 0)
	for _, n := range Forwarded {
		if held>>(n-1)&1 != 0 {
			_ = unix.PidfdSendSignal(fd, n, nil, 0) // it may have ended
		}
	}
	return nil
}

// Stop gives the signals back to who had them before Start. What is held is lost. Without
// a Start before it does nothing.
func (f *Forwarding) Stop() {
	if !f.started {
		return
	}
	f.started = false
	for i, n := range Forwarded {
		signalAct(n, &f.old[i], nil)
	}
	fd := atomic.SwapInt32(&forwardTo, -1)
	for atomic.LoadInt32(&forwardBusy) != 0 {
		runtime.Gosched() // another thread is about to use it, for a microsecond
	}
	if fd >= 0 {
		unix.Close(int(fd))
	}
}

const (
	saRestorer = 0x04000000
	saOnstack  = 0x08000000
	saRestart  = 0x10000000
)

// signalAct is rt_sigaction(2), which refuses only signals that there are not.
func signalAct(n unix.Signal, act, old *signalAction) {
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(n), uintptr(unsafe.Pointer(act)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
}
