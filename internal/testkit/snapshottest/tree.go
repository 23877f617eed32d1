package snapshottest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/snapshot"
)

// again writes down what became of a container as a layer, unpacks it on the container's chain, and checks that it makes
// the tree that the container saw.
func (x *suite) again(t *testing.T, c container, archives ...[]byte) {
	t.Helper()
	want := wholeSeconds(t, c.mounts, x.Driver() == snapshot.Fuse)
	var buf bytes.Buffer
	if err := x.Diff(t.Context(), &buf, c.chain, c.upper, snapshot.ArchiveOptions{}); err != nil {
		t.Fatal(err)
	}
	next := x.prepare(t, unpack(t, x.Store, append(slices.Clone(archives), buf.Bytes())...))
	have := look(t, next.mounts)
	if x.Driver() == snapshot.Fuse {
		want, have = withoutLinks(want), withoutLinks(have)
	}
	same(t, "the container's layer on its chain", want, have)
}

// withoutLinks is a tree without the names that files share: fuse-overlayfs counts those that it has been asked for.
func withoutLinks(tree testkit.Tree) testkit.Tree {
	out := testkit.Tree{}
	for name, line := range tree {
		line, _, _ = strings.Cut(line, " same-file-as=")
		out[name], _, _ = strings.Cut(line, " links=")
	}
	return out
}

// wholeSeconds is a tree with times cut to seconds, as archives have them. careful leaves files alone that need no change:
// fuse-overlayfs goes on to show two names of a lower layer as one file when it has copied each of them up by itself.
func wholeSeconds(t *testing.T, mounts []snapshot.Mount, careful bool) (tree testkit.Tree) {
	t.Helper()
	within(t, mounts, func(dir string) error {
		times := map[string]unix.Timespec{}
		err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				return err
			}
			if !careful || st.Mtim.Nsec != 0 {
				st.Mtim.Nsec = 0
				times[path] = st.Mtim
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, path := range slices.Backward(slices.Sorted(maps.Keys(times))) { // what is in a directory before it: copying up may change it
			if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{times[path], times[path]}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
		}
		tree = testkit.Fingerprint(t, dir)
		return nil
	})
	return tree
}

// whiteouts: what lower layers have can be removed, made again, and made something else; the container's layer says so.
func whiteouts(t *testing.T, x *suite) {
	base := layer(t, dir("d"), file("d/a", "a"), file("d/b", "b"), dir("again"), file("again/old", "x"), dir("becomes"), file("becomes/x", "x"), file("file", "x"))
	chain := unpack(t, x.Store, base)
	c := x.prepare(t, chain)
	within(t, c.mounts, func(dir string) error {
		err := errors.Join(os.Remove(dir+"/d/a"), os.RemoveAll(dir+"/again"), os.Mkdir(dir+"/again", 0o755), os.WriteFile(dir+"/again/new", []byte("new"), 0o644),
			os.RemoveAll(dir+"/becomes"), os.WriteFile(dir+"/becomes", []byte("a file"), 0o644),
			os.Remove(dir+"/file"), os.Mkdir(dir+"/file", 0o755), os.WriteFile(dir+"/file/in", []byte("a directory"), 0o644))
		names, _ := filepath.Glob(dir + "/again/*")
		if len(names) != 1 {
			t.Errorf("a directory that was made again has %q", names)
		}
		reads(t, dir+"/d/a", "")
		reads(t, dir+"/becomes", "a file")
		reads(t, dir+"/file/in", "a directory")
		return err
	})
	x.again(t, c, base)
}

// rename: files move, also over others, and so do directories of the container's own. One of a lower layer moves too, or
// the kernel says EXDEV, as overlayfs does: mv(1) and all that move directories cope.
func rename(t *testing.T, x *suite) {
	base := layer(t, dir("d"), file("d/a", "a"), file("d/b", "b"), dir("lower"), file("lower/in", "in"))
	c := x.prepare(t, unpack(t, x.Store, base))
	within(t, c.mounts, func(dir string) error {
		err := errors.Join(os.Rename(dir+"/d/a", dir+"/moved"), os.Rename(dir+"/d/b", dir+"/moved"),
			os.Mkdir(dir+"/own", 0o755), os.WriteFile(dir+"/own/f", []byte("f"), 0o644), os.Rename(dir+"/own", dir+"/d/own"))
		reads(t, dir+"/d/a", "")
		reads(t, dir+"/moved", "b")
		reads(t, dir+"/d/own/f", "f")
		switch err := os.Rename(dir+"/lower", dir+"/elsewhere"); {
		case err == nil:
			reads(t, dir+"/elsewhere/in", "in")
		case errors.Is(err, unix.EXDEV):
			reads(t, dir+"/lower/in", "in")
		default:
			t.Errorf("a directory of a lower layer: %v", err)
		}
		return err
	})
	x.again(t, c, base)
}

// changes: what a container did is listed, and nothing else.
func changes(t *testing.T, x *suite) {
	chain := unpack(t, x.Store, layer(t, dir("d"), file("d/same", "same"), file("d/changed", "old"), file("gone", "x"), dir("untouched"), file("untouched/f", "f")))
	c := x.prepare(t, chain)
	within(t, c.mounts, func(dir string) error {
		if _, err := os.ReadFile(dir + "/untouched/f"); err != nil {
			return err
		}
		return errors.Join(os.WriteFile(dir+"/d/changed", []byte("newer"), 0o644), os.WriteFile(dir+"/d/new", nil, 0o644), os.Remove(dir+"/gone"))
	})
	all, err := x.Changes(t.Context(), chain, c.upper, nil)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, c := range all {
		have = append(have, fmt.Sprintf("%s %s", c.Kind, c.Path))
	}
	if want := []string{"C /", "C /d", "C /d/changed", "A /d/new", "D /gone"}; !slices.Equal(have, want) {
		t.Errorf("changes %q, want %q", have, want)
	}
}

// links: names of one file stay so, in the layers and when a container writes to it through one of them.
func links(t *testing.T, x *suite) {
	base := layer(t, dir("d"), file("d/a", "text"), hardLink("b", "d/a"), symlink("s", "b"))
	chain := unpack(t, x.Store, base)
	mounts, err := x.View(t.Context(), chain)
	if err != nil {
		t.Fatal(err)
	}
	within(t, mounts, func(dir string) error { return oneFile(t, dir+"/d/a", dir+"/b") })
	c := x.prepare(t, chain)
	within(t, c.mounts, func(dir string) error {
		if err := errors.Join(os.WriteFile(dir+"/new", []byte("new"), 0o644), os.Link(dir+"/new", dir+"/d/also")); err != nil {
			return err
		}
		return oneFile(t, dir+"/new", dir+"/d/also")
	})
	x.again(t, c, base)
}

func oneFile(t *testing.T, a, b string) error {
	var first, second unix.Stat_t
	err := errors.Join(unix.Lstat(a, &first), unix.Lstat(b, &second))
	if first.Ino != second.Ino || first.Nlink != 2 || second.Nlink != 2 {
		t.Errorf("%s and %s are inodes %d and %d with %d and %d names", filepath.Base(a), filepath.Base(b), first.Ino, second.Ino, first.Nlink, second.Nlink)
	}
	return err
}

// attributes: owners, modes, times, extended attributes and capabilities are those of the layers, and a container can
// set its own; writing to a file takes its capabilities away and leaves the rest.
func attributes(t *testing.T, x *suite) {
	const capabilities = "\x01\x00\x00\x02" + "\x00\x20\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
	base := layer(t, dir("d").owned(1, 2).mode(0o1777).xattr("user.dir", "of a directory"),
		file("f", "text").owned(1000, 1001).mode(0o4755).xattr("user.name", "value").xattr("trusted.name", "secret").xattr("security.capability", capabilities),
		symlink("l", "f").owned(5, 6))
	chain := unpack(t, x.Store, base, layer(t, file("other", "x")))
	c := x.prepare(t, chain)
	within(t, c.mounts, func(dir string) error {
		for name, want := range map[string]string{"f user.name": "value", "f trusted.name": "secret", "f security.capability": capabilities, "d user.dir": "of a directory"} {
			var path, xattr string
			fmt.Sscan(name, &path, &xattr)
			if have := xattrOf(dir+"/"+path, xattr); have != want {
				t.Errorf("%s: %q, want %q", name, have, want)
			}
		}
		for name, want := range map[string]unix.Stat_t{"d": {Mode: unix.S_IFDIR | 0o1777, Uid: 1, Gid: 2}, "f": {Mode: unix.S_IFREG | 0o4755, Uid: 1000, Gid: 1001}, "l": {Mode: unix.S_IFLNK | 0o777, Uid: 5, Gid: 6}} {
			var st unix.Stat_t
			if err := unix.Lstat(dir+"/"+name, &st); err != nil || st.Mode != want.Mode || st.Uid != want.Uid || st.Gid != want.Gid || int64(st.Mtim.Sec) != stamp.Unix() {
				t.Errorf("%s: mode %o, owner %d:%d, time %d, error %v", name, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, err)
			}
		}
		f, err := os.OpenFile(dir+"/f", os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString("more")
		err = errors.Join(err, f.Close(), unix.Lsetxattr(dir+"/d", "user.mine", []byte("mine"), 0), unix.Lremovexattr(dir+"/d", "user.dir"))
		if have := xattrOf(dir+"/f", "security.capability"); have != "" {
			t.Errorf("a file that was written to has capabilities %q", have)
		}
		if have := xattrOf(dir+"/f", "user.name"); have != "value" {
			t.Errorf("a file that was written to has lost an attribute: %q", have)
		}
		return err
	})
	x.again(t, c, base, layer(t, file("other", "x")))
}

// xattrOf reads an attribute, "" if it is not there.
func xattrOf(path, name string) string {
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(path, name, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// sparse: holes take no room, in a view and in a container.
func sparse(t *testing.T, x *suite) {
	in := t.TempDir()
	f, err := os.Create(in + "/sparse")
	if err != nil {
		t.Fatal(err)
	}
	const size, end = 16 << 20, 8 << 20
	_, err = f.WriteAt([]byte("end"), end)
	if err := errors.Join(err, f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(in + "/sparse")
	if err != nil {
		t.Fatal(err)
	}
	archive, err := exec.Command("tar", "-c", "--sparse", "--format=posix", "-C", in, "sparse").Output()
	if err != nil {
		t.Fatalf("tar: %v", err)
	}
	chain := unpack(t, x.Store, archive, layer(t, file("other", "x")))
	check := func(dir string) error {
		var st unix.Stat_t
		if err := unix.Lstat(dir+"/sparse", &st); err != nil {
			return err
		}
		if st.Size != size || st.Blocks*512 > 1<<20 && x.Driver() != snapshot.Erofs {
			t.Errorf("%d bytes take %d on disk", st.Size, st.Blocks*512)
		}
		have, err := os.ReadFile(dir + "/sparse")
		if !bytes.Equal(have, data) {
			t.Error("the content is another")
		}
		return err
	}
	mounts, err := x.View(t.Context(), chain)
	if err != nil {
		t.Fatal(err)
	}
	within(t, mounts, check)
	within(t, x.prepare(t, chain).mounts, check)
	// EROFS counts holes as blocks of a file (st_blocks), whatever the image has of them.
	for _, i := range mounts[0].Images {
		if st, err := os.Stat(i.File); err != nil || st.Size() > 1<<20 {
			t.Errorf("an image with a file of holes has %d bytes, error %v", st.Size(), err)
		}
	}
}
