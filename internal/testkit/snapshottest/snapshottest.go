// Package snapshottest is what every way of presenting layers must do: the conformance suite of [snapshot.Driver].
//
// # Theory of operation
//
// A driver is asked for nothing but its answers to Prepare and View, which the suite mounts as they say, in mount
// namespaces that end with the test. It looks at the trees from outside, as a container would, and compares them with what
// the layers say and with each other: a driver that passes cannot be told from another by a program in a container, but
// by its speed and by what it takes on disk. The exceptions are allowed by name: rename, below, and what fuse-overlayfs says of
// files with several names, which it counts as far as it has been asked for them, and EROFS of the blocks of files with holes.
//
// All of it needs root. The drivers are run by pkg/snapshot's tests, each on a file system that it can work on.
package snapshottest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/snapshot"
)

// Run holds a driver to all rules. open opens an empty store of that driver with further options; beside it, on the same
// file system, containers will have their upper directories.
func Run(t *testing.T, open func(t testing.TB, o snapshot.Options) (s *snapshot.Store, beside string)) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: sets owners, makes devices and trusted attributes, mounts")
	}
	for _, rule := range []struct {
		name string
		test func(*testing.T, *suite)
	}{
		{"commit", commit},
		{"nothing", nothing},
		{"view", view},
		{"private", private},
		{"whiteouts", whiteouts},
		{"rename", rename},
		{"changes", changes},
		{"links", links},
		{"attributes", attributes},
		{"sparse", sparse},
		{"layers", manyLayers},
		{"ids", mapped},
		{"id-mapped", idMapped},
		{"usage", usage},
		{"removal", removal},
	} {
		t.Run(rule.name, func(t *testing.T) {
			x := &suite{open: open}
			x.Store, x.beside = open(t, snapshot.Options{})
			rule.test(t, x)
		})
	}
}

// suite is a store of the driver under test.
type suite struct {
	*snapshot.Store
	open   func(testing.TB, snapshot.Options) (*snapshot.Store, string)
	beside string // a directory for containers
	n      int    // of containers
}

// container is what was prepared for one container.
type container struct {
	chain  snapshot.ChainID
	upper  string
	mounts []snapshot.Mount
}

// prepare makes a container.
func (x *suite) prepare(t *testing.T, chain snapshot.ChainID) container {
	t.Helper()
	x.n++
	base := filepath.Join(x.beside, fmt.Sprint("container", x.n))
	if err := os.Mkdir(base, 0o700); err != nil {
		t.Fatal(err)
	}
	c := container{chain: chain, upper: filepath.Join(base, "upper")}
	var err error
	if c.mounts, err = x.Prepare(t.Context(), chain, c.upper, filepath.Join(base, "work")); err != nil {
		t.Fatal(err)
	}
	return c
}

// viewed is what the chain looks like, prepared what a new container of it does.
func (x *suite) viewed(t *testing.T, chain snapshot.ChainID) testkit.Tree {
	t.Helper()
	mounts, err := x.View(t.Context(), chain)
	if err != nil {
		t.Fatal(err)
	}
	return look(t, mounts)
}

func (x *suite) prepared(t *testing.T, chain snapshot.ChainID) testkit.Tree {
	t.Helper()
	return look(t, x.prepare(t, chain).mounts)
}

func look(t *testing.T, mounts []snapshot.Mount) (tree testkit.Tree) {
	t.Helper()
	within(t, mounts, func(dir string) error {
		tree = testkit.Fingerprint(t, dir)
		return nil
	})
	return tree
}

// same fails if two trees differ.
func same(t *testing.T, what string, want, have testkit.Tree) {
	t.Helper()
	for i, line := range want.Diff(have) {
		if i == 20 {
			t.Errorf("%s: and so on", what)
			break
		}
		t.Errorf("%s: %s", what, line)
	}
}

// reads fails unless a file has this text; empty means that it must not be there.
func reads(t *testing.T, path, want string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if want == "" {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there: %q, error %v", filepath.Base(path), data, err)
		}
		return
	}
	if err != nil || string(data) != want {
		t.Errorf("%s: %q, error %v, want %q", filepath.Base(path), data, err, want)
	}
}

// commit: a chain is what its layers say, in their order, whether it is looked at or written to.
func commit(t *testing.T, x *suite) {
	base := layer(t, dir("d"), file("d/kept", "kept"), file("d/changed", "old"), file("d/gone", "x"), dir("full"), file("full/1", "1"), symlink("link", "d/kept"), dir("e"), file("e/deep", "x"))
	top := layer(t, file("d/changed", "new"), gone("d/", "gone"), opaque("full"), file("full/2", "2"), file("e", "was a directory"), fifo("d/fifo"), device("null", 1, 3))
	chain := unpack(t, x.Store, base, top)
	check := func(dir string) error {
		reads(t, dir+"/d/kept", "kept")
		reads(t, dir+"/link", "kept")
		reads(t, dir+"/d/changed", "new")
		reads(t, dir+"/d/gone", "")
		reads(t, dir+"/full/1", "")
		reads(t, dir+"/full/2", "2")
		reads(t, dir+"/e", "was a directory")
		var st unix.Stat_t
		if err := unix.Lstat(dir+"/null", &st); err != nil || st.Mode != unix.S_IFCHR|0o660 || st.Rdev != unix.Mkdev(1, 3) {
			t.Errorf("device: mode %o, number %x, error %v", st.Mode, st.Rdev, err)
		}
		if err := unix.Lstat(dir+"/d/fifo", &st); err != nil || st.Mode != unix.S_IFIFO|0o622 {
			t.Errorf("fifo: mode %o, error %v", st.Mode, err)
		}
		return nil
	}
	mounts, err := x.View(t.Context(), chain)
	if err != nil {
		t.Fatal(err)
	}
	within(t, mounts, check)
	within(t, x.prepare(t, chain).mounts, check)
	same(t, "a container and the view", x.viewed(t, chain), x.prepared(t, chain))
}

// nothing: no layers are an empty directory of root's.
func nothing(t *testing.T, x *suite) {
	for what, tree := range map[string]testkit.Tree{"view": x.viewed(t, ""), "container": x.prepared(t, "")} {
		if len(tree) != 1 {
			t.Errorf("%s of no layers: %v", what, tree)
		}
	}
}

// view: nobody can write to it, be it of one layer or many.
func view(t *testing.T, x *suite) {
	one, two := layer(t, file("a", "a")), layer(t, file("b", "b"))
	for _, archives := range [][][]byte{{one}, {one, two}} {
		mounts, err := x.View(t.Context(), unpack(t, x.Store, archives...))
		if err != nil {
			t.Fatal(err)
		}
		within(t, mounts, func(dir string) error {
			if err := os.WriteFile(dir+"/new", nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("%d layers: a file can be made: %v", len(archives), err)
			}
			if err := os.Chmod(dir+"/a", 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("%d layers: a mode can be changed: %v", len(archives), err)
			}
			return nil
		})
	}
}

// private: what one container does, no other one sees, nor the view, and it is there when the container is mounted again.
func private(t *testing.T, x *suite) {
	chain := unpack(t, x.Store, layer(t, dir("d"), file("d/f", "below"), file("gone", "x")), layer(t, file("d/g", "above")))
	clean := x.viewed(t, chain)
	c := x.prepare(t, chain)
	within(t, c.mounts, func(dir string) error {
		return errors.Join(os.Remove(dir+"/gone"), os.WriteFile(dir+"/d/f", []byte("mine"), 0o644),
			os.WriteFile(dir+"/new", []byte("new"), 0o644), os.Chmod(dir+"/d", 0o700))
	})
	same(t, "the view", clean, x.viewed(t, chain))
	same(t, "another container", clean, x.prepared(t, chain))
	within(t, c.mounts, func(dir string) error {
		reads(t, dir+"/gone", "")
		reads(t, dir+"/d/f", "mine")
		reads(t, dir+"/new", "new")
		return nil
	})
	again, err := x.Prepare(t.Context(), chain, c.upper, filepath.Join(filepath.Dir(c.upper), "work"))
	if err != nil {
		t.Fatalf("prepared a second time: %v", err)
	}
	within(t, again, func(dir string) error {
		reads(t, dir+"/d/f", "mine")
		return nil
	})
}

// manyLayers: 128 of them, each with a file of its own and a new version of one that all have.
func manyLayers(t *testing.T, x *suite) {
	const n = 128
	var archives [][]byte
	for i := range n {
		archives = append(archives, layer(t, file(fmt.Sprintf("f%03d", i), fmt.Sprint(i)), file("last", fmt.Sprint(i))))
	}
	chain := unpack(t, x.Store, archives...)
	tree := x.viewed(t, chain)
	if want := n + 2; len(tree) != want {
		t.Errorf("%d names, want %d", len(tree), want)
	}
	same(t, "a container", tree, x.prepared(t, chain))
	within(t, x.prepare(t, chain).mounts, func(dir string) error {
		reads(t, dir+"/last", fmt.Sprint(n-1))
		reads(t, dir+"/f000", "0")
		return nil
	})
}

// mapped: in a store for a user namespace, owners on disk are the host's ids of those that the layers name.
func mapped(t *testing.T, x *suite) {
	maps := []snapshot.IDMap{{Container: 0, Host: 100000, Size: 1000}, {Container: 5000, Host: 300000, Size: 1}}
	s, beside := x.open(t, snapshot.Options{Rootless: true, UIDMap: maps, GIDMap: maps})
	y := &suite{Store: s, beside: beside}
	chain := unpack(t, s, layer(t, file("root", "x"), file("user", "x").owned(999, 5000)), layer(t, file("above", "x").owned(7, 7)))
	want := map[string][2]uint32{"root": {100000, 100000}, "user": {100999, 300000}, "above": {100007, 100007}, ".": {100000, 100000}}
	check := func(dir string) error {
		for name, ids := range want {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil || st.Uid != ids[0] || st.Gid != ids[1] {
				t.Errorf("%s: owner %d:%d, error %v, want %d:%d", name, st.Uid, st.Gid, err, ids[0], ids[1])
			}
		}
		return nil
	}
	mounts, err := y.View(t.Context(), chain)
	if err != nil {
		t.Fatal(err)
	}
	within(t, mounts, check)
	within(t, y.prepare(t, chain).mounts, check)
	bad := layer(t, file("stranger", "x").owned(4000, 0))
	if _, err := s.Extract(t.Context(), "", strings.NewReader(string(bad)), snapshot.ExtractOptions{}); !errors.Is(err, snapshot.ErrUnmapped) {
		t.Errorf("an owner without an id on the host: %v, want %v", err, snapshot.ErrUnmapped)
	}
}

// usage: what a layer holds is told, each link once, and what others hold is not counted.
func usage(t *testing.T, x *suite) {
	base := layer(t, dir("d"), file("d/a", "12345"), hardLink("d/b", "d/a"), symlink("l", "d"))
	chain := unpack(t, x.Store, base, layer(t, file("d/c", "123")))
	for c, want := range map[snapshot.ChainID]snapshot.Usage{chain: {Bytes: 3, Inodes: 2}, parentOf(t, x, chain): {Bytes: 5, Inodes: 3}} {
		if have, err := x.Usage(c); err != nil || have != want {
			t.Errorf("%s: %+v, error %v, want %+v", c, have, err, want)
		}
	}
}

func parentOf(t *testing.T, x *suite, chain snapshot.ChainID) snapshot.ChainID {
	t.Helper()
	info, err := x.Stat(chain)
	if err != nil {
		t.Fatal(err)
	}
	return info.Parent
}

// removal: what others build on stays; from the top down all goes, and nothing of it is left on disk.
func removal(t *testing.T, x *suite) {
	chain := unpack(t, x.Store, layer(t, dir("d"), file("d/a", "a")), layer(t, file("d/b", "b")))
	x.viewed(t, chain)
	parent := parentOf(t, x, chain)
	if err := x.Remove(t.Context(), parent); !errors.Is(err, snapshot.ErrInUse) {
		t.Errorf("remove what another builds on: %v, want %v", err, snapshot.ErrInUse)
	}
	for _, c := range []snapshot.ChainID{chain, parent} {
		if err := x.Remove(t.Context(), c); err != nil {
			t.Errorf("remove: %v", err)
		}
		if x.Has(c) {
			t.Errorf("%s is still there", c)
		}
	}
	if err := x.Remove(t.Context(), chain); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("remove it again: %v, want %v", err, snapshot.ErrNotFound)
	}
	if problems, err := x.Check(t.Context(), func(snapshot.ChainID) bool { return false }, false); err != nil || len(problems) > 0 {
		t.Errorf("the store afterwards: %v, error %v", problems, err)
	}
}
