package testkit

import (
	"bytes"
	"testing"
)

// straceTries is how often Strace makes an attempt that strace itself spoilt.
const straceTries = 5

// Strace makes an attempt that runs something under strace, and returns what it printed and its error. The attempt is made
// again, which the log of the test tells, if strace gave up on a fault of its own.
//
// strace 6.1 (and 6.19, src/strace.c) takes a thread whose signal it cannot ask about for a stopped one. But the thread may have
// been killed between the signal and the question, by the exit_group of another thread. strace then has it listen for the end of a
// stop, the kernel says EIO, and strace ends with exit status 1. Every program with threads that get signals can meet that, and
// every Go program is one. Four of 300 runs did, of a C program of a dozen threads with timers.
func Strace(t testing.TB, attempt func() ([]byte, error)) ([]byte, error) {
	t.Helper()
	for n := 1; ; n++ {
		out, err := attempt()
		if err == nil || n == straceTries || !straceGaveUp(out) {
			return out, err
		}
		t.Logf("strace gave up, and the attempt is made again: %s", out)
	}
}

// straceGaveUp finds the complaint of strace's ptrace_restart about the request that nothing but a mistaken stop leads to.
func straceGaveUp(out []byte) bool {
	for line := range bytes.Lines(out) {
		if bytes.HasPrefix(line, []byte("strace: ptrace(PTRACE_LISTEN,")) && bytes.HasSuffix(bytes.TrimSpace(line), []byte(": Input/output error")) {
			return true
		}
	}
	return false
}
