package sys_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
)

// What is written in parts, of which some are empty, arrives whole; and nobody waits for what is not there.
func TestReadAndWriteNow(t *testing.T) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[0])
	b := make([]byte, 1000)
	if n, err := sys.ReadNow(ends[0], b); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("nothing is there: %d bytes, %v", n, err)
	}
	for _, parts := range []int{1, 3, 20} {
		list := [][]byte{nil}
		for range parts {
			list = append(list, []byte("part"), nil)
		}
		if n, err := sys.WriteNow(ends[1], list...); n != 4*parts || err != nil {
			t.Errorf("%d parts: %d bytes were written, %v", parts, n, err)
		}
		n, err := sys.ReadNow(ends[0], b)
		if want := strings.Repeat("part", parts); err != nil || !bytes.Equal(b[:n], []byte(want)) {
			t.Errorf("%d parts: %q, %v", parts, b[:n], err)
		}
	}
	if n, err := sys.WriteNow(ends[1]); n != 0 || err != nil {
		t.Errorf("nothing to write: %d, %v", n, err)
	}
	unix.Close(ends[1])
	if n, err := sys.ReadNow(ends[0], b); n != 0 || err != nil {
		t.Errorf("the end: %d, %v", n, err)
	}
	if _, err := sys.ReadNow(ends[1], b); !errors.Is(err, unix.EBADF) {
		t.Errorf("a descriptor that is closed: %v", err)
	}
}
