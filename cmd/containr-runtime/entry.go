//go:build linux && (amd64 || arm64)

package main

import "runtime"

// profileRate tells the entry where the variable is: assembly may not name it.
//
//lint:ignore U1000 the entry uses it
var profileRate = &runtime.MemProfileRate

// entry is where the kernel starts the program that make builds: the linker is told so
// with -E. It changes four things that Go looks at before any Go code runs, and goes on
// to where Go starts. They are worth it because a verb is one thread of work of a few
// milliseconds, and Go is made for programs that stay.
//
// GOMAXPROCS=1 in the environment: Go makes ready for as many threads as there are
// processors, starts some of them before main, and wakes them again and again, since each
// might have something to do. That was a tenth of a run, and a sixth of a start or a
// delete. A GOMAXPROCS that the caller has set comes after it, and Go takes the first.
//
// A timer slack of ten milliseconds: the thread that looks after the others (sysmon)
// sleeps for 20 microseconds at a time, and up to ten milliseconds when there is nothing
// to do. It slept 125 times in a run under strace, 12 times with a slack of a tenth of
// this, and often took the processor away from a system call that took a little longer,
// to no avail, since nobody else wanted it. See internal/timerslack, which takes the
// slack back.
//
// A limit of three open files: Go opens files of its own before anything else, to learn
// how large huge pages are and how many processors its control group may use. For the
// second it reads /proc/self/mountinfo, which on a busy host is long. It does without
// where it cannot open them, and it needs neither here. internal/filelimit takes the
// limit back, before anything else is opened. Three, since a Go program opens /dev/null
// in the place of standard descriptors that are closed.
//
// MemProfileRate of zero: Go takes the first object for a sample of what is allocated. It
// makes a table of 1.4 MB for it, touches ten pages, and walks the stack, before it looks
// whether anything in the program can ask for the profile, which nothing here does.
//
// The kernel leaves on the stack, upwards: the number of arguments, the pointers to them,
// a zero, the pointers to the environment's strings, a zero, and the auxiliary vector.
// What is below the environment is moved down by two words, since the stack pointer has
// to stay a multiple of 16, and the gap filled with two pointers to the same string.
//
// It is in entry_linux_*.s. Without -E the program starts as every other, and is slower.
//
//lint:ignore U1000 the linker uses it
func entry()
