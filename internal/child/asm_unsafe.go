//go:build linux && (amd64 || arm64)

package child

import "unsafe"

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// In interp_*.s.
func interpreter()
func interpreterEnd()
func interpreterBounds() (begin *byte, size uintptr)
func launch(args *cloneArgs, pc, status uintptr, all, old *uint64) int
func clock() uint64

// Interpreter returns this architecture's interpreter.
func Interpreter() []byte {
	begin, size := interpreterBounds()
	return unsafe.Slice(begin, size)
}
