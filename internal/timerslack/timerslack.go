// Package timerslack knows the timer slack that this process was started with.
//
// # Theory of operation
//
// A thread that sleeps may be woken later than it asked for by its timer slack, 50
// microseconds mostly, so that the kernel can wake several at once; see PR_SET_TIMERSLACK
// in prctl(2). Threads and processes inherit it from the thread that makes them.
//
// Go's runtime has a thread, sysmon, that looks after the others. It sleeps for 20
// microseconds at a time while a program is young, again and again in the few
// milliseconds that containr-runtime or a short command of containr takes. So these set a slack
// of ten milliseconds at their entry, before Go begins: sysmon inherits it and wakes up
// when the kernel has something else to do anyway. The program's first thread takes the original
// back when it gets to main (Restore). Others may come from sysmon and have its slack.
// What they start must not: a container would sleep as badly as sysmon does.
package timerslack

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// original is what this process was started with, in nanoseconds, if a program's own
// entry has changed it, else 0. That entry is assembly, and sets it before Go begins.
var original uint64

// Original is the timer slack that this process was started with, in nanoseconds, or 0
// if all its threads have that.
func Original() uint64 { return original }

// Restore gives the calling thread the original timer slack.
func Restore() {
	if original != 0 {
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(original), 0, 0, 0) // it takes every number
	}
}

// Do calls a function that starts processes, on a thread that they inherit the original
// timer slack from.
func Do(start func() error) error {
	if original == 0 {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	Restore()
	return start()
}
