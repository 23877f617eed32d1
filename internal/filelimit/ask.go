//go:build linux && (amd64 || arm64)

package filelimit

// prlimit sets RLIMIT_NOFILE of this process, if set is not nil, and asks for it, if limit
// is not nil. The result is the kernel's, 0 or a negative error number. It is in ask_*.s.
//
//go:noescape
func prlimit(set, limit *[2]uint64) int
