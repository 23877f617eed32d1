package snapshot

import (
	"archive/tar"
	"errors"
	"io"

	"github.com/containr/containr/internal/safepath"
	"golang.org/x/sys/unix"
)

// regular makes a file: four system calls for a small one that belongs to us.
func (a *applier) regular(d *safepath.Dir, base string, m meta, h *tar.Header, data *entries) error {
	if h.Size > a.limits.Bytes-a.bytes {
		return &LimitError{"Bytes", a.limits.Bytes}
	}
	a.bytes += h.Size
	a.usage.Bytes += h.Size
	owned := m.uid == a.maker.uid && m.gid == a.maker.gid
	perm := m.mode & 0o777 // set-id bits come after the owner
	if !owned || len(m.xattrs) > 0 {
		perm |= 0o600 // user attributes need it, where we are not root
	}
	var fd int
	err := a.place(d, base, func() (err error) {
		fd, err = d.Create(base, perm)
		return err
	})
	if err != nil {
		return err
	}
	err = a.fill(fd, data, h.Size, isSparse(h))
	if err == nil {
		err = a.maker.apply(openInode(fd), m, owned, perm&^a.maker.umask == m.mode)
	}
	return errors.Join(err, wrap("close", unix.Close(fd)))
}

// isSparse reports whether an archive says that a file has holes. Where they
// are, the tar reader keeps for itself.
func isSparse(h *tar.Header) bool {
	return h.Typeflag == tar.TypeGNUSparse || h.PAXRecords["GNU.sparse.map"] != "" ||
		h.PAXRecords["GNU.sparse.major"] != "" || h.PAXRecords["GNU.sparse.size"] != ""
}

// bufferSize is how much is written by one system call. More is no faster, as
// the data would leave the processor's cache.
const bufferSize = 256 << 10

// fill copies size bytes of data to the new file fd.
func (a *applier) fill(fd int, data *entries, size int64, sparse bool) error {
	if a.buf == nil {
		a.buf = make([]byte, bufferSize)
	}
	write := pwrite
	if sparse {
		write = pwriteSparse
	}
	for offset := int64(0); offset < size; {
		part, err := data.take(size-offset, a.buf)
		if err != nil {
			return archiveError(unexpected(err))
		}
		if err := write(fd, part, offset); err != nil {
			return err
		}
		offset += int64(len(part))
	}
	if sparse {
		return wrap("truncate", unix.Ftruncate(fd, size)) // it may end in a hole
	}
	return nil
}

// unexpected turns an end of file, which is too early where data is missing,
// into an error that says so.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// pwrite writes all of data at offset.
func pwrite(fd int, data []byte, offset int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(fd, data, offset)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return wrap("write", err)
		}
		data, offset = data[n:], offset+int64(n)
	}
	return nil
}

// holeSize is the unit in which zeros are left out: a block of most file
// systems.
const holeSize = 4096

var zeros [holeSize]byte

// pwriteSparse is pwrite that leaves out blocks of zeros.
func pwriteSparse(fd int, data []byte, offset int64) error {
	for len(data) > 0 {
		n := min(holeSize-int(offset%holeSize), len(data))
		if string(data[:n]) != string(zeros[:n]) {
			if err := pwrite(fd, data[:n], offset); err != nil {
				return err
			}
		}
		data, offset = data[n:], offset+int64(n)
	}
	return nil
}
