package usernet

import (
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
)

// outside is the host's side of a connection. There is one reader and one writer.
type outside struct {
	*net.TCPConn
	raw           syscall.RawConn
	input, output transfer
}

// transfer is one call of read or write. The function that makes it is made once.
type transfer struct {
	bytes []byte
	size  int
	err   error
	do    func(fd uintptr) bool
}

func newOutside(c *net.TCPConn) (*outside, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	o := &outside{TCPConn: c, raw: raw}
	in, out := &o.input, &o.output
	in.do = func(fd uintptr) bool { return in.done(sys.ReadNow(int(fd), in.bytes)) }
	out.do = func(fd uintptr) bool { return out.done(sys.WriteNow(int(fd), out.bytes)) }
	return o, nil
}

// done notes what a call has said. False has it made again when the kernel is ready.
func (t *transfer) done(size int, err error) bool {
	t.size, t.err = size, err
	return !errors.Is(err, unix.EAGAIN)
}

// Read reads what there is.
func (o *outside) Read(b []byte) (int, error) {
	t := &o.input
	t.bytes = b
	for {
		if err := o.raw.Read(t.do); err != nil {
			return 0, err
		}
		switch {
		case errors.Is(t.err, unix.EINTR):
			continue
		case t.err == nil && t.size == 0 && len(b) > 0:
			return 0, io.EOF
		}
		return t.size, t.err
	}
}

// Write writes all of it.
func (o *outside) Write(b []byte) (n int, err error) {
	t := &o.output
	for n < len(b) {
		t.bytes = b[n:]
		if err := o.raw.Write(t.do); err != nil {
			return n, err
		}
		if t.err != nil && !errors.Is(t.err, unix.EINTR) {
			return n, t.err
		}
		n += t.size
	}
	return n, nil
}
