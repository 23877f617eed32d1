//go:build linux && (amd64 || arm64)

package filelimit

// getrlimit asks the kernel for RLIMIT_NOFILE of this process. The result is its answer,
// 0 or a negative error number. It is in ask_*.s.
//
//go:noescape
func getrlimit(limit *[2]uint64) int
