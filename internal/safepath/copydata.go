package safepath

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// CopyData makes the file dst, which is empty, a copy of the size bytes of src, sharing
// their blocks where the file system can (FICLONE), else in the kernel and keeping holes.
func CopyData(dst, src int, size int64) error {
	if unix.IoctlFileClone(dst, src) == nil {
		return nil
	}
	for offset := int64(0); offset < size; {
		begin, err := unix.Seek(src, offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // only a hole is left
		}
		if err != nil {
			return os.NewSyscallError("seek", err)
		}
		end, err := unix.Seek(src, begin, unix.SEEK_HOLE)
		if err != nil {
			return os.NewSyscallError("seek", err)
		}
		if err := copyRange(dst, src, begin, end); err != nil {
			return err
		}
		offset = end
	}
	return os.NewSyscallError("truncate", unix.Ftruncate(dst, size))
}

// copyRange copies the bytes from begin to end, in the kernel if it can.
func copyRange(dst, src int, begin, end int64) error {
	for begin < end {
		in, out := begin, begin
		n, err := unix.CopyFileRange(src, &in, dst, &out, int(min(end-begin, 1<<30)), 0)
		switch {
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			return copyPlain(dst, src, begin, end)
		case err != nil:
			return os.NewSyscallError("copy_file_range", err)
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		begin += int64(n)
	}
	return nil
}

func copyPlain(dst, src int, begin, end int64) error {
	buf := make([]byte, min(end-begin, 256<<10))
	for begin < end {
		n, err := unix.Pread(src, buf[:min(int64(len(buf)), end-begin)], begin)
		if err != nil {
			return os.NewSyscallError("read", err)
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		for done := 0; done < n; {
			wrote, err := unix.Pwrite(dst, buf[done:n], begin+int64(done))
			if err != nil {
				return os.NewSyscallError("write", err)
			}
			done += wrote
		}
		begin += int64(n)
	}
	return nil
}
