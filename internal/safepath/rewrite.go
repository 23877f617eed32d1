package safepath

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ReadOwn reads a file of limit bytes at most that somebody else may have put something else in the place of. It follows no link in the last
// place and waits for no fifo. Errors wrap ErrNotRegular and ErrTooLarge.
func ReadOwn(path string, limit int64) ([]byte, error) {
	f, err := openOwn(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f, limit)
}

// Rewrite gives a file in place, as it may be mounted somewhere, another content, if it has the one that it is thought to have, or none; somebody else may write it
// as well, or put something else in its place: see ReadOwn. It reports whether the file has what it was to get. It is never empty in between; of who is killed meanwhile stays
// one content or the other, or parts of both.
func Rewrite(path string, was, now []byte) (has bool, err error) {
	f, err := openOwn(path, unix.O_RDWR)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err := readBounded(f, int64(max(len(was), len(now))))
	if errors.Is(err, ErrTooLarge) { // it is another's
		return false, nil
	}
	if err != nil || bytes.Equal(text, now) {
		return err == nil, err
	}
	if !bytes.Equal(text, was) && len(text) > 0 {
		return false, nil
	}
	if _, err := f.WriteAt(now, 0); err != nil {
		return false, err
	}
	return true, f.Truncate(int64(len(now)))
}

func openOwn(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		if err == nil {
			err = fmt.Errorf("%s: %w", path, ErrNotRegular)
		}
		return nil, err
	}
	return f, nil
}

func readBounded(f *os.File, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		return nil, fmt.Errorf("%s: %w", f.Name(), ErrTooLarge)
	}
	return text, err
}
