package safepath

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A copy of a tree has the links, holes, modes, times and attributes of the tree.
func TestCopyTreeKeepsLinksAndHoles(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(os.Mkdir(filepath.Join(from, "sub"), 0o700))
	ok(os.WriteFile(filepath.Join(from, ".one"), []byte("text"), 0o640))
	ok(os.Link(filepath.Join(from, ".one"), filepath.Join(from, "sub", "two")))
	ok(unix.Setxattr(filepath.Join(from, ".one"), "user.color", []byte("blue"), 0))
	sparse, err := os.Create(filepath.Join(from, "sparse"))
	ok(err)
	_, err = sparse.WriteAt([]byte("end"), 64<<20)
	ok(err)
	ok(sparse.Close())
	a, err := os.Open(from)
	ok(err)
	defer a.Close()
	b, err := os.Open(to)
	ok(err)
	defer b.Close()
	ok(CopyTree(int(a.Fd()), int(b.Fd()), true))
	one, err := os.Stat(filepath.Join(to, ".one"))
	ok(err)
	two, err := os.Stat(filepath.Join(to, "sub", "two"))
	ok(err)
	if !os.SameFile(one, two) {
		t.Error("two names of one file are two files in the copy")
	}
	was, err := os.Stat(filepath.Join(from, ".one"))
	ok(err)
	if one.Mode() != was.Mode() || !one.ModTime().Equal(was.ModTime()) {
		t.Errorf("got %v %v, want %v %v", one.Mode(), one.ModTime(), was.Mode(), was.ModTime())
	}
	color := make([]byte, 8)
	n, err := unix.Getxattr(filepath.Join(to, ".one"), "user.color", color)
	if err != nil || string(color[:n]) != "blue" {
		t.Errorf("attribute %q, %v", color[:n], err)
	}
	var st unix.Stat_t
	ok(unix.Stat(filepath.Join(to, "sparse"), &st))
	if st.Size != 64<<20+3 || st.Blocks > 256 {
		t.Errorf("%d bytes in %d blocks: the hole was filled", st.Size, st.Blocks)
	}
}
