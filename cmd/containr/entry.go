//go:build linux && (amd64 || arm64)

package main

import "runtime"

// profileRate tells the entry where the variable is: assembly may not name it.
//
//lint:ignore U1000 the entry uses it
var profileRate = &runtime.MemProfileRate

// entry is where the kernel starts the program that make builds: the linker is told so
// with -E. It does for short commands what the entry of cmd/containr-runtime does, and
// says why: a limit of three open files, a timer slack of ten milliseconds, and one
// processor, before any Go code runs. It goes on to where Go starts.
//
// containr also has commands for which that would be wrong, which pull and unpack and
// serve with many threads. So the entry looks for one of the words run, exec, start,
// create and cleanup among the arguments, which are names of short commands. Where there
// is none, it only turns off Go's samples of what is allocated, for which nothing in the
// program asks. A word that means something else there does little harm: internal/cli
// takes the processors back (internal/processors), and what remains is a sysmon that
// looks after the others a hundred times in a second.
//
// The words are shorter than eight bytes, so that eight bytes of an argument, and a mask,
// are all that has to be compared. What lies behind a shorter argument is another one, the
// environment, or the program's name, which the kernel puts at the end.
//
// GOMAXPROCS=01 is put behind what the user has in the environment, not before it as the
// runtime does, so that a GOMAXPROCS of the user's counts, here and for programs that
// containr starts. Go takes the first. What is below the end of the environment is moved
// down by two words, since the stack pointer has to stay a multiple of 16.
//
// It is in entry_linux_*.s. Without -E the program starts as every other, and is slower.
//
//lint:ignore U1000 the linker uses it
func entry()
