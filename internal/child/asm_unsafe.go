//go:build linux && (amd64 || arm64)

package child

import "unsafe"

// cloneArgs is struct clone_args of clone3(2). Left out are two addresses for thread
// ids, and what sets up a stack, thread-local storage and fixed process ids.
type cloneArgs struct {
	flags, pidfd uint64
	_            [2]uint64
	exitSignal   uint64
	_            [5]uint64
	cgroup       uint64
}

// In interp_*.s.

//lint:ignore U1000 its bytes are copied, it is not called
func interpreter()

//lint:ignore U1000 it marks the end of interpreter
func interpreterEnd()
func interpreterBounds() (begin *byte, size uintptr)
func launch(args *cloneArgs, pc, status uintptr, all, old *uint64, slack uint64) int
func clock() uint64

// Interpreter returns this architecture's interpreter.
func Interpreter() []byte {
	begin, size := interpreterBounds()
	return unsafe.Slice(begin, size)
}
