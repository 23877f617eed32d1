package plan

import (
	"fmt"
	"strconv"
)

// Errno is a Linux error number. The numbers are the same on every
// architecture that containr runs on (include/uapi/asm-generic/errno.h);
// package syscall's are not used because planners compile on every system.
type Errno uint16

// The error numbers that plans tolerate or that hints are known for.
const (
	EPERM        Errno = 1
	ENOENT       Errno = 2
	ESRCH        Errno = 3
	EINTR        Errno = 4
	EIO          Errno = 5
	E2BIG        Errno = 7
	ENOEXEC      Errno = 8
	EBADF        Errno = 9
	ECHILD       Errno = 10
	EAGAIN       Errno = 11
	ENOMEM       Errno = 12
	EACCES       Errno = 13
	EFAULT       Errno = 14
	EBUSY        Errno = 16
	EEXIST       Errno = 17
	EXDEV        Errno = 18
	ENODEV       Errno = 19
	ENOTDIR      Errno = 20
	EISDIR       Errno = 21
	EINVAL       Errno = 22
	EMFILE       Errno = 24
	ENOTTY       Errno = 25
	ETXTBSY      Errno = 26
	ENOSPC       Errno = 28
	EROFS        Errno = 30
	EPIPE        Errno = 32
	ERANGE       Errno = 34
	ENOSYS       Errno = 38
	ENOTEMPTY    Errno = 39
	ELOOP        Errno = 40
	ENODATA      Errno = 61
	EBADMSG      Errno = 74
	EUSERS       Errno = 87
	EOPNOTSUP    Errno = 95
	ECONNREFUSED Errno = 111
	EUCLEAN      Errno = 117
	EDQUOT       Errno = 122
)

var errnoText = [...]struct {
	e          Errno
	name, text string
}{
	{EPERM, "EPERM", "operation not permitted"},
	{ENOENT, "ENOENT", "no such file or directory"},
	{ESRCH, "ESRCH", "no such process"},
	{EINTR, "EINTR", "interrupted system call"},
	{EIO, "EIO", "input/output error"},
	{E2BIG, "E2BIG", "argument list too long"},
	{ENOEXEC, "ENOEXEC", "exec format error"},
	{EBADF, "EBADF", "bad file descriptor"},
	{ECHILD, "ECHILD", "no child processes"},
	{EAGAIN, "EAGAIN", "resource temporarily unavailable"},
	{ENOMEM, "ENOMEM", "cannot allocate memory"},
	{EACCES, "EACCES", "permission denied"},
	{EFAULT, "EFAULT", "bad address"},
	{EBUSY, "EBUSY", "device or resource busy"},
	{EEXIST, "EEXIST", "file exists"},
	{EXDEV, "EXDEV", "invalid cross-device link"},
	{ENODEV, "ENODEV", "no such device"},
	{ENOTDIR, "ENOTDIR", "not a directory"},
	{EISDIR, "EISDIR", "is a directory"},
	{EINVAL, "EINVAL", "invalid argument"},
	{EMFILE, "EMFILE", "too many open files"},
	{ENOTTY, "ENOTTY", "inappropriate ioctl for device"},
	{ETXTBSY, "ETXTBSY", "text file busy"},
	{ENOSPC, "ENOSPC", "no space left on device"},
	{EROFS, "EROFS", "read-only file system"},
	{EPIPE, "EPIPE", "broken pipe"},
	{ERANGE, "ERANGE", "numerical result out of range"},
	{ENOSYS, "ENOSYS", "function not implemented"},
	{ENOTEMPTY, "ENOTEMPTY", "directory not empty"},
	{ELOOP, "ELOOP", "too many levels of symbolic links"},
	{ENODATA, "ENODATA", "no data available"},
	{EBADMSG, "EBADMSG", "bad message"},
	{EUSERS, "EUSERS", "too many users"},
	{EOPNOTSUP, "EOPNOTSUP", "operation not supported"},
	{ECONNREFUSED, "ECONNREFUSED", "connection refused"},
	{EUCLEAN, "EUCLEAN", "structure needs cleaning"},
	{EDQUOT, "EDQUOT", "disk quota exceeded"},
}

// Error is the kernel's sentence for the number.
func (e Errno) Error() string {
	for _, t := range errnoText {
		if t.e == e {
			return t.text
		}
	}
	return "errno " + strconv.Itoa(int(e))
}

// Name is the constant's name, "ENOENT".
func (e Errno) Name() string {
	for _, t := range errnoText {
		if t.e == e {
			return t.name
		}
	}
	return strconv.Itoa(int(e))
}

// ErrnoByName is the reverse of Name.
func ErrnoByName(name string) (Errno, error) {
	for _, t := range errnoText {
		if t.name == name {
			return t.e, nil
		}
	}
	n, err := strconv.ParseUint(name, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("unknown error name %q", name)
	}
	return Errno(n), nil
}
