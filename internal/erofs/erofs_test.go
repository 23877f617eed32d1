package erofs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tree is what a test writes, and knows of it.
type tree struct {
	root *Node
	data map[*Node][]byte
	puts []*Node // in the order of their data
}

// write makes an image.
func (tr *tree) write(t testing.TB, dir string) string {
	t.Helper()
	file, _ := tr.writeNoted(t, dir)
	return file
}

// writeNoted makes an image, and notes what it is.
func (tr *tree) writeNoted(t testing.TB, dir string) (string, Sum) {
	t.Helper()
	image, err := os.Create(filepath.Join(dir, "image"))
	if err != nil {
		t.Fatal(err)
	}
	spool, err := os.Create(filepath.Join(dir, "spool"))
	if err != nil {
		t.Fatal(err)
	}
	w := NewWriter(image, spool)
	for i, n := range tr.puts {
		data := tr.data[n]
		rest := data
		err := w.Put(n, int64(len(data)), i%2 == 0, func(most int64) ([]byte, error) {
			p := rest[:min(most, 5000, int64(len(rest)))]
			rest = rest[len(p):]
			return p, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Finish(tr.root, [16]byte{1, 2, 3}), image.Close(), spool.Close()); err != nil {
		t.Fatal(err)
	}
	return image.Name(), w.Sum()
}

// randomTree makes one of everything, with names and sizes where the format has its edges.
func randomTree(seed uint64, files int) *tree {
	r := rand.New(rand.NewPCG(seed, 1))
	tr := &tree{root: &Node{}, data: map[*Node][]byte{}}
	dirs := []*Node{tr.root}
	var others []*Node
	describe := func(n *Node, kind uint32) {
		n.Mode = kind | uint32(r.IntN(0o10000))
		n.UID, n.GID = uint32(r.Uint64()>>r.IntN(64)), uint32(r.Uint64()>>r.IntN(64))
		n.Seconds, n.Nanoseconds = r.Int64N(1<<36)-1000, uint32(r.IntN(1e9))
		for range max(0, r.IntN(6)-3) {
			if n.Xattrs == nil {
				n.Xattrs = map[string]string{}
			}
			name := "trusted." + strings.Repeat("n", 1+r.IntN(240))
			if kind == Dir || kind == Regular {
				name = []string{"user.", "security.", "trusted.", "trusted.overlay."}[r.IntN(4)] + strings.Repeat("x", 1+r.IntN(100))
			}
			n.Xattrs[name] = strings.Repeat("v", r.IntN([]int{10, 300, 5000, maxXattr}[r.IntN(4)]))
		}
	}
	describe(tr.root, Dir)
	tr.root.Children = map[string]*Node{}
	for i := range files {
		parent := dirs[r.IntN(len(dirs))]
		name := fmt.Sprintf("%s%d", []string{"f", "-", "+", ".", "..", "\xff", strings.Repeat("long", 60)}[r.IntN(7)], i)
		n := &Node{}
		switch r.IntN(12) {
		case 0, 1:
			describe(n, Dir)
			n.Children = map[string]*Node{}
			dirs = append(dirs, n)
		case 2:
			describe(n, Link)
			n.Target = strings.Repeat("t", 1+r.IntN([]int{20, 4000, 4094}[r.IntN(3)]))
		case 3:
			describe(n, []uint32{CharDev, BlockDev}[r.IntN(2)])
			n.Major, n.Minor = uint32(r.IntN(1<<12)), uint32(r.IntN(1<<20))
		case 4:
			describe(n, []uint32{Fifo, Socket}[r.IntN(2)])
		case 5:
			if len(others) > 0 {
				n = others[r.IntN(len(others))]
			} else {
				describe(n, Fifo)
			}
		default:
			describe(n, Regular)
			data := make([]byte, r.IntN([]int{1, 100, 4096, 4200, 9000, 300000}[r.IntN(6)])+r.IntN(2))
			for at := 0; at < len(data); at += 4096 * (1 + r.IntN(3)) { // the rest is zeros
				for j := at; j < min(at+2000, len(data)); j++ {
					data[j] = byte(r.Uint32())
				}
			}
			tr.data[n] = data
			tr.puts = append(tr.puts, n)
		}
		if n.Type() != Dir {
			others = append(others, n)
		}
		parent.Children[name] = n
	}
	return tr
}

// list says what a tree is, a line for each name.
func (tr *tree) list() []string {
	var out []string
	names := map[*Node]int{}
	var count func(n *Node)
	count = func(n *Node) {
		for _, c := range n.Children {
			names[c]++
			if c.Type() == Dir {
				names[n]++
				count(c)
			}
		}
		if n.Type() == Dir {
			names[n]++
		}
	}
	count(tr.root)
	names[tr.root]++
	var walk func(path string, n *Node)
	walk = func(path string, n *Node) {
		st := unix.Stat_t{Mode: n.Mode, Uid: n.UID, Gid: n.GID}
		st.Mtim.Sec, st.Mtim.Nsec = n.Seconds, int64(n.Nanoseconds)
		if n.Type() == CharDev || n.Type() == BlockDev {
			st.Rdev = unix.Mkdev(n.Major, n.Minor)
		}
		attrs := map[string]string{}
		for name, value := range n.Xattrs {
			attrs[name] = value
		}
		out = append(out, line(path, &st, names[n], n.Target, tr.data[n], attrs))
		for name, c := range n.Children {
			walk(path+"/"+name, c)
		}
	}
	walk("", tr.root)
	slices.Sort(out)
	return out
}

func line(path string, st *unix.Stat_t, links int, target string, data []byte, attrs map[string]string) string {
	var all []string
	for name, value := range attrs {
		all = append(all, fmt.Sprintf("%s=%x", name, sha256.Sum256([]byte(value))))
	}
	slices.Sort(all)
	return fmt.Sprintf("%q mode %o owner %d:%d time %d.%09d device %d links %d target %q data %d %x attributes %s", path, st.Mode, st.Uid, st.Gid,
		st.Mtim.Sec, st.Mtim.Nsec, st.Rdev, links, target, len(data), sha256.Sum256(data), all)
}

// read says what the kernel sees in an image, in the same words.
func read(t testing.TB, image string) []string {
	t.Helper()
	mount := mounted(t, image)
	top := fmt.Sprintf("/proc/self/fd/%d", mount.Fd())
	var out []string
	var walk func(rel string)
	walk = func(rel string) {
		path := top + "/." + rel
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatalf("lstat %s: %v", rel, err)
		}
		var target string
		var data []byte
		var err error
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err = os.Readlink(path)
		case unix.S_IFREG:
			data, err = os.ReadFile(path)
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, line(rel, &st, int(st.Nlink), target, data, attributes(t, path)))
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			walk(rel + "/" + e.Name())
		}
	}
	walk("")
	slices.Sort(out)
	return out
}

func attributes(t testing.TB, path string) map[string]string {
	t.Helper()
	names := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, names)
	if err != nil {
		t.Fatalf("attributes of %s: %v", path, err)
	}
	out := map[string]string{}
	for name := range strings.SplitSeq(string(names[:n]), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatalf("attribute %s of %s: %v", name, path, err)
		}
		out[name] = string(value[:n])
	}
	return out
}

// mounted mounts an image until the end of the test.
func mounted(t testing.TB, image string) *os.File {
	t.Helper()
	mount, err := Mount(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mount.Close() })
	return mount
}

// needKernel skips where no image can be mounted.
func needKernel(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "none"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := Mount(file.Name()); errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOTBLK) {
		t.Skipf("the kernel mounts no EROFS image from a file here: %v", err)
	}
}

// Any tree, read by the kernel, is the one that was written; and fsck.erofs has nothing to say of it.
func TestKernelReadsWhatIsWritten(t *testing.T) {
	needKernel(t)
	for seed := range uint64(30) {
		tr := randomTree(seed, []int{0, 1, 10, 100, 700}[seed%5])
		image := tr.write(t, t.TempDir())
		want, have := tr.list(), read(t, image)
		if !slices.Equal(want, have) {
			t.Errorf("seed %d:", seed)
			for i := range max(len(want), len(have)) {
				if i >= len(want) || i >= len(have) || want[i] != have[i] {
					t.Fatalf("%d lines, want %d; first other one: %.600s\nwant %.600s", len(have), len(want), at(have, i), at(want, i))
				}
			}
		}
		fsck(t, image)
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

// fsck asks erofs-utils, if they are there.
func fsck(t *testing.T, image string) {
	t.Helper()
	if _, err := exec.LookPath("fsck.erofs"); err != nil {
		t.Logf("not checked by fsck.erofs: %v", err)
		return
	}
	if said, err := exec.Command("fsck.erofs", "--extract", image).CombinedOutput(); err != nil || bytes.Contains(said, []byte("<E>")) {
		t.Errorf("fsck.erofs: %v\n%s", err, said)
	}
}

// The same calls make the same bytes.
func TestImagesAreReproducible(t *testing.T) {
	sum := func() [32]byte {
		data, err := os.ReadFile(randomTree(7, 300).write(t, t.TempDir()))
		if err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256(data)
	}
	if a, b := sum(), sum(); a != b {
		t.Errorf("two images of one tree differ: %x, %x", a, b)
	}
}

// Directories of many names are searched by halving: each name must be found, and none that is not there.
func TestLargeDirectoriesAreSearched(t *testing.T) {
	needKernel(t)
	tr := &tree{root: &Node{Mode: Dir | 0o755, Children: map[string]*Node{}}}
	for i := range 5000 {
		tr.root.Children[fmt.Sprintf("%d-%s", i*i, strings.Repeat("n", i%200))] = &Node{Mode: Fifo | 0o600, Seconds: int64(i)}
	}
	top := fmt.Sprintf("/proc/self/fd/%d/", mounted(t, tr.write(t, t.TempDir())).Fd())
	for name, n := range tr.root.Children {
		var st unix.Stat_t
		if err := unix.Lstat(top+name, &st); err != nil || st.Mtim.Sec != n.Seconds {
			t.Fatalf("%s: %v, time %d, want %d", name, err, st.Mtim.Sec, n.Seconds)
		}
		if err := unix.Lstat(top+name+"x", &st); err != unix.ENOENT {
			t.Fatalf("%sx: %v, want %v", name, err, unix.ENOENT)
		}
	}
}

// A file with holes takes what its data takes, however long it is.
func TestHolesTakeNoRoom(t *testing.T) {
	needKernel(t)
	const size = 3 << 30
	n := &Node{Mode: Regular | 0o600}
	dir := t.TempDir()
	image, err := os.Create(dir + "/image")
	if err != nil {
		t.Fatal(err)
	}
	spool, err := os.Create(dir + "/spool")
	if err != nil {
		t.Fatal(err)
	}
	w := NewWriter(image, spool)
	piece, at := make([]byte, 1<<20), int64(0)
	err = w.Put(n, size, true, func(most int64) ([]byte, error) {
		clear(piece)
		if at == 1<<30 {
			copy(piece[5000:], "in the middle")
		}
		p := piece[:min(most, int64(len(piece)))]
		at += int64(len(p))
		return p, nil
	})
	root := &Node{Mode: Dir | 0o755, Children: map[string]*Node{"f": n}}
	if err := errors.Join(err, w.Finish(root, [16]byte{}), image.Close(), spool.Close()); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(image.Name()); err != nil || st.Size() > 2<<20 {
		t.Errorf("the image has %d bytes, error %v", st.Size(), err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d/f", mounted(t, image.Name()).Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for offset, want := range map[int64]string{1<<30 + 5000: "in the middle", 1<<30 - 13: strings.Repeat("\x00", 13), size - 13: strings.Repeat("\x00", 13)} {
		have := make([]byte, 13)
		if _, err := f.ReadAt(have, offset); err != nil || string(have) != want {
			t.Errorf("at %d: %q, error %v, want %q", offset, have, err, want)
		}
	}
	if st, err := f.Stat(); err != nil || st.Size() != size {
		t.Errorf("%d bytes, error %v, want %d", st.Size(), err, size)
	}
}

// What the format cannot say is an error, never another tree.
func TestRefusals(t *testing.T) {
	dir := func(children map[string]*Node) *Node { return &Node{Mode: Dir | 0o755, Children: children} }
	twice := dir(nil)
	for what, root := range map[string]*Node{
		"a root that is a file":     {Mode: Regular},
		"a name with a slash":       dir(map[string]*Node{"a/b": {Mode: Fifo}}),
		"a name with a zero":        dir(map[string]*Node{"a\x00b": {Mode: Fifo}}),
		"a name of 256 bytes":       dir(map[string]*Node{strings.Repeat("n", 256): {Mode: Fifo}}),
		"no name":                   dir(map[string]*Node{"": {Mode: Fifo}}),
		"the parent":                dir(map[string]*Node{"..": {Mode: Fifo}}),
		"a directory of two names":  dir(map[string]*Node{"a": twice, "b": twice}),
		"an attribute of no kind":   dir(map[string]*Node{"a": {Mode: Fifo, Xattrs: map[string]string{"system.other": ""}}}),
		"an attribute too long":     dir(map[string]*Node{"a": {Mode: Fifo, Xattrs: map[string]string{"user.a": strings.Repeat("v", 1<<16)}}}),
		"too many attributes":       dir(map[string]*Node{"a": {Mode: Fifo, Xattrs: many(5)}}),
		"more of an access control": dir(map[string]*Node{"a": {Mode: Fifo, Xattrs: map[string]string{"system.posix_acl_access2": ""}}}),
	} {
		image, err := os.Create(filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		if err := NewWriter(image, image).Finish(root, [16]byte{}); err == nil {
			t.Errorf("%s is accepted", what)
		}
		image.Close()
	}
	w := NewWriter(nil, nil)
	short := func(int64) ([]byte, error) { return nil, nil }
	if err := w.Put(&Node{Mode: Regular}, 10, false, short); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("data that ends too early: %v", err)
	}
}

func many(n int) map[string]string {
	all := map[string]string{}
	for i := range n {
		all[fmt.Sprint("user.", i)] = strings.Repeat("v", maxXattr)
	}
	return all
}
