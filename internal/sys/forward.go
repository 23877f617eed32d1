//go:build linux

package sys

import "golang.org/x/sys/unix"

// Forwarded are the signals that are passed on to a program that runs in the
// foreground. Left out are
//
//   - SIGKILL and SIGSTOP, which nobody can catch;
//   - SIGCHLD and SIGPIPE, which are about us;
//   - SIGURG, SIGPROF and SIGVTALRM: Go's runtime sends SIGURG to itself all the time,
//     and the others belong to profilers;
//   - SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGTRAP, which are about our own code;
//   - SIGTTIN and SIGTTOU, with which the kernel tells us that we are a background
//     job; passing them on would hide it;
//   - the real-time signals 32 to 34, which C libraries keep for themselves.
var Forwarded = [...]unix.Signal{
	unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGABRT,
	unix.SIGIO, unix.SIGPWR, unix.SIGSYS, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGSTKFLT, unix.SIGTSTP, unix.SIGCONT, unix.SIGWINCH,
	35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64,
}
