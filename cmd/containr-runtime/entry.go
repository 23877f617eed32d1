//go:build linux && (amd64 || arm64)

package main

// entry is where the kernel starts the program that make builds: the linker is told so
// with -E. It adds GOMAXPROCS=1 to the environment, and goes on to where Go starts.
//
// A verb is one thread of work that waits for the kernel most of the time. Go makes ready
// for as many threads as there are processors all the same, starts some of them before
// main, and wakes them again and again, since each might have something to do. That was
// a tenth of a run, and a sixth of a start or a delete. The variable is how Go is told,
// and it looks at it before any Go code runs; so it has to be there when the kernel has
// done its part and Go has not begun with its own.
//
// The kernel leaves on the stack, upwards: the number of arguments, the pointers to them,
// a zero, the pointers to the environment's strings, a zero, and the auxiliary vector.
// What is below the environment is moved down by two words, since the stack pointer has
// to stay a multiple of 16, and the gap filled with two pointers to the same string. A
// GOMAXPROCS that the caller has set comes after it, and Go takes the first.
//
// It is in entry_linux_*.s. Without -E the program starts as every other, and is slower.
//
//lint:ignore U1000 the linker uses it
func entry()
