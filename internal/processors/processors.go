// Package processors gives this process all the processors that it may use, if it was
// started with one.
//
// # Theory of operation
//
// Go makes ready for as many threads as there are processors, before main, and starts
// some of them; it takes the number from the environment variable GOMAXPROCS. The entry
// of cmd/containr adds that variable, with the value Marked, for commands that do one
// thing after another. Nobody else writes the number so, and so it is known here who did.
// A GOMAXPROCS of the user's stands before it, and Go has taken that.
//
// Clean, the first thing in main, takes the variable out of the environment again, so
// that no program that is started later finds it. All, before work that many threads can
// do at once, has Go count the processors and use them.
package processors

import (
	"os"
	"runtime"
	"sync"
)

// Marked is the number one in the way that only the entry of cmd/containr writes it.
const Marked = "01"

// one tells that this process was started with one processor by its entry.
var one bool

// Clean takes what the entry has added out of the environment. It is to be called before
// there is a second goroutine.
func Clean() {
	if one = os.Getenv("GOMAXPROCS") == Marked; one {
		_ = os.Unsetenv("GOMAXPROCS") // it fails for an empty name only
	}
}

// All has Go use all processors. It costs some ten microseconds, and nothing if that was
// so from the beginning. It may be called by many at once, and again.
func All() { all() }

var all = sync.OnceFunc(func() {
	if one {
		runtime.SetDefaultGOMAXPROCS()
	}
})
