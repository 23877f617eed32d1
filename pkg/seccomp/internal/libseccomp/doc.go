// Package libseccomp makes filters with the C library libseccomp, the way runc
// does, for a test that compares verdicts.
//
// It is the only cgo in this module and is built only with the tag libseccomp:
//
//	go test -tags libseccomp ./pkg/seccomp
//
// That needs a C compiler and the library's headers (Debian: libseccomp-dev).
package libseccomp
