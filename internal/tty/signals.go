package tty

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// endingSignals end a process that does not handle them, and are how users and
// service managers ask for it.
var endingSignals = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT}

// forwardedSignals are passed on to a container with a terminal, beside those. Left
// out are
//
//   - SIGKILL and SIGSTOP, which nobody can catch;
//   - SIGCHLD and SIGPIPE, which are about us;
//   - SIGURG, with which Go's scheduler interrupts its own threads;
//   - SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGTRAP, which are our own faults;
//   - SIGTTIN and SIGTTOU: we used the terminal from the background and must
//     stop, or would try again for ever;
//   - SIGPROF and SIGVTALRM, which belong to Go's profiler;
//   - SIGWINCH, SIGTSTP and SIGCONT, which are about the terminal: see Session;
//   - the real-time signals, which no terminal sends.
var forwardedSignals = []os.Signal{
	unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGABRT, unix.SIGIO, unix.SIGPWR,
	unix.SIGSYS, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGSTKFLT,
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
