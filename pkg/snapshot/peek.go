package snapshot

import (
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Peek looks at the file name in the tree of chain: its mode as stat(2) has it, and, of a regular file, the first limit
// bytes. Symbolic links are followed inside the tree. A missing file wraps fs.ErrNotExist.
func (s *Store) Peek(chain ChainID, name string, limit int64) (mode uint32, head []byte, err error) {
	mode, head, err = s.peek(chain, name, limit)
	if err != nil {
		return 0, nil, fmt.Errorf("look at %s: %w", name, err)
	}
	return mode, head, nil
}

func (s *Store) peek(chain ChainID, name string, limit int64) (uint32, []byte, error) {
	all, err := s.chain(chain)
	if err != nil {
		return 0, nil, err
	}
	v, err := s.openView(nil, all)
	if err != nil {
		return 0, nil, err
	}
	defer v.close()
	name, n, err := v.resolve(name, true)
	switch {
	case err != nil:
		return 0, nil, err
	case !n.exists():
		return 0, nil, fs.ErrNotExist
	case n.st.Mode&unix.S_IFMT != unix.S_IFREG:
		return n.st.Mode, nil, nil
	}
	d, base, err := v.at(n, name)
	if err != nil {
		return 0, nil, err
	}
	fd, err := d.Open(base, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return 0, nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, limit))
	return n.st.Mode, head, err
}
