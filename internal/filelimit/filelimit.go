// Package filelimit knows the soft limit of open files that this process was started
// with.
//
// # Theory of operation
//
// Programs that use select(2) break on descriptors above 1023, and so the soft limit
// RLIMIT_NOFILE is low while the hard limit is high. Programs in Go do not mind: the
// package syscall raises the soft limit of every one of them when it is initialized. It
// gives it back to the processes that it starts itself, but containers are not started
// by it, and it tells nobody what the limit was.
//
// So the kernel is asked before that. Go initializes packages in the order of their
// import paths, each as soon as what it imports is ready. This one imports nothing, and
// its path comes before those that syscall needs; so it is early enough, and cannot use
// syscall to ask. A test checks that the answer is the original one.
//
// containr-runtime lowers the limit before Go begins, so that Go does not read files that
// it can do without, see its entry. There the original is found in lowered, and the limit
// given back at the same early moment.
package filelimit

var soft, hard = read()

// lowered is the limit that this process was started with, soft and hard, if a program's
// own entry has lowered it until now.
var lowered [2]uint64

func read() (uint64, uint64) {
	if lowered[1] != 0 {
		prlimit(&lowered, nil)
		return lowered[0], lowered[1]
	}
	var limit [2]uint64
	if prlimit(nil, &limit) != 0 {
		return 0, 0
	}
	return limit[0], limit[1]
}

// Original returns the soft and the hard limit that this process was started with. Both
// are 0 where that is not known: on architectures that containers cannot be started on.
func Original() (uint64, uint64) { return soft, hard }
