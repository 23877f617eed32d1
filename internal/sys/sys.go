// Package sys wraps the Linux system calls of the host side that golang.org/x/sys
// lacks.
//
// # Theory of operation
//
// One file holds one call or one family of calls. A wrapper takes Go values, lays
// out the kernel's structure, and returns the kernel's error number wrapped with the
// step that failed. It decides nothing. Forwarding is more than a call: it passes signals
// on from a handler, a few instructions of assembly. This package and internal/child are the only
// ones that import unsafe, in files named for it.
package sys
