package safepath

import (
	"os"
	"path/filepath"
	"testing"
	"time"

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
	// Of the top itself, too: an attribute, and the list of who may what with new files, see acl(5): here, as the mode would have it.
	acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 5, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255}
	ok(unix.Setxattr(from, "user.color", []byte("green"), 0))
	withACL := unix.Setxattr(from, "system.posix_acl_default", acl, 0)
	if withACL != nil && withACL != unix.EOPNOTSUPP {
		t.Fatal(withACL)
	}
	ok(os.Chmod(from, 0o750))
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
	past := time.Unix(1e9, 5)
	ok(os.Chtimes(from, past, past))
	ok(CopyTree(int(a.Fd()), int(b.Fd()), true))
	top, err := os.Stat(to)
	ok(err)
	if !top.ModTime().Equal(past) || top.Mode().Perm() != 0o750 {
		t.Errorf("the top has the mode %v and the time %v", top.Mode(), top.ModTime())
	}
	for name, want := range map[string]string{"user.color": "green", "system.posix_acl_default": string(acl)} {
		if withACL != nil && name != "user.color" {
			continue
		}
		value := make([]byte, 100)
		n, err := unix.Getxattr(to, name, value)
		if err != nil || string(value[:n]) != want {
			t.Errorf("the top has %s: %q, error %v", name, value[:max(n, 0)], err)
		}
	}
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
