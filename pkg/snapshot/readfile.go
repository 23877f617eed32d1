package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrTooLarge says that a file has more bytes than the caller wants to read.
var ErrTooLarge = errors.New("file too large")

// ErrNotRegular says that a name leads to something that is no regular file.
var ErrNotRegular = errors.New("not a regular file")

// ReadFile returns the content of the regular file name in the tree of chain, of at
// most limit bytes. Symbolic links are followed inside the tree and never lead out
// of it. Fifos, devices and the like are not opened (ErrNotRegular); a larger file
// is ErrTooLarge; a missing one wraps fs.ErrNotExist.
func (s *Store) ReadFile(chain ChainID, name string, limit int64) ([]byte, error) {
	data, err := s.readFile(chain, name, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

func (s *Store) readFile(chain ChainID, name string, limit int64) ([]byte, error) {
	all, err := s.chain(chain)
	if err != nil {
		return nil, err
	}
	v, err := s.openView(nil, all)
	if err != nil {
		return nil, err
	}
	defer v.close()
	name, n, err := v.resolve(name, true)
	switch {
	case err != nil:
		return nil, err
	case !n.exists():
		return nil, fs.ErrNotExist
	case n.st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, ErrNotRegular
	case n.st.Size > limit:
		return nil, ErrTooLarge
	}
	d, base, err := v.at(n, name)
	if err != nil {
		return nil, err
	}
	fd, err := d.Open(base, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
