package tty

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// endingSignals end a process that does not handle them, and are how users and
// service managers ask for it.
var endingSignals = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT}

// forwardedSignals are passed on to the container. Left out are
//
//   - SIGKILL and SIGSTOP, which nobody can catch;
//   - SIGCHLD and SIGPIPE, which are about us;
//   - SIGURG, with which Go's scheduler interrupts its own threads;
//   - SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGTRAP, which are our own faults;
//   - SIGTTIN and SIGTTOU: we used the terminal from the background and must
//     stop, or would try again for ever;
//   - SIGPROF and SIGVTALRM, which belong to Go's profiler;
//   - SIGWINCH, SIGTSTP and SIGCONT, which depend on whether there is a
//     terminal: see Session and Forward.
var forwardedSignals = []os.Signal{
	unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
	unix.SIGALRM, unix.SIGABRT, unix.SIGIO, unix.SIGPWR, unix.SIGSYS, unix.SIGXCPU,
	unix.SIGXFSZ, unix.SIGSTKFLT,
}

// The real-time signals that programs may use and that Go lets be caught: C
// libraries keep 32 and 33, and musl 34, which Go leaves alone as well.
const (
	firstRealTime = 35
	lastRealTime  = 64
)

// Forward passes signals that we get on to a container without a terminal until
// stop is called. SIGTSTP (Ctrl-Z) and SIGCONT are among them, so Ctrl-Z does
// not stop us: as with docker, it is the container that decides, and most
// programs that are PID 1 ignore it.
func Forward(send func(os.Signal)) (stop func()) {
	signals := make(chan os.Signal, 32)
	signal.Notify(signals, forwardedSignals...)
	signal.Notify(signals, unix.SIGTSTP, unix.SIGCONT, unix.SIGWINCH)
	for n := firstRealTime; n <= lastRealTime; n++ {
		signal.Notify(signals, syscall.Signal(n))
	}
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case sig := <-signals:
				send(sig)
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(signals)
		close(done)
		running.Wait()
	}
}

// dieOf ends us as if we had not handled the signal, so that our parent sees what
// happened. Go answers an unhandled SIGQUIT with a listing of its goroutines,
// which is nothing for users: it becomes the exit status that a shell would give.
func dieOf(sig os.Signal) {
	number := sig.(syscall.Signal) // signal.Notify gives no others here
	if number != unix.SIGQUIT {
		signal.Reset(sig)
		unix.Kill(unix.Getpid(), number)
	}
	os.Exit(128 + int(number))
}
