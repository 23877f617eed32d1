package safepath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// tree makes a directory with a file outside of it, and opens it.
func tree(t testing.TB) (r *Root, dir, outside string) {
	t.Helper()
	base := t.TempDir()
	dir, outside = base+"/tree", base+"/outside"
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.Mkdir(outside, 0o755))
	must(t, os.WriteFile(outside+"/secret", []byte("secret"), 0o640))
	r, err := OpenRoot(dir)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r, dir, outside
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestClean(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "/": "", ".": "", "..": "", "../../..": "", "a": "a", "/a/b": "a/b", "a//b/": "a/b", "./a/./b": "a/b",
		"a/../..//b": "b", "../a": "a", "a/..": "", "...": "...", ".a/..b": ".a/..b",
	} {
		if got, err := Clean(name); got != want || err != nil {
			t.Errorf("Clean(%q) = %q, %v, want %q", name, got, err, want)
		}
	}
	if _, err := Clean("a\x00b"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("Clean of a name with NUL: %v", err)
	}
}

// Whatever links a tree has, a walk ends where the kernel's own lookup ends.
func TestWalkEqualsKernel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r, dir, _ := tree(t)
		component := rapid.SampledFrom([]string{"a", "b", "c", "..", "."})
		name := func(label string) string {
			s := strings.Join(rapid.SliceOfN(component, 1, 4).Draw(rt, label), "/")
			if rapid.Bool().Draw(rt, "absolute") {
				s = "/" + s
			}
			return s
		}
		for range rapid.IntRange(1, 12).Draw(rt, "objects") {
			at := filepath.Join(dir, filepath.Clean("/"+name("object")))
			if rapid.Bool().Draw(rt, "link") {
				os.Symlink(name("target"), at)
			} else {
				os.MkdirAll(at, 0o755)
			}
		}
		for range 10 {
			checkWalk(t, rt, r, name("lookup"))
		}
	})
}

func checkWalk(t *testing.T, rt *rapid.T, r *Root, name string) {
	clean, _ := Clean(name) // which a kernel lookup would not do
	fd, err := openat2(r.top.fd, clean, unix.O_PATH|unix.O_DIRECTORY, 0, inRoot)
	d, werr := r.Dir(name, nil)
	if (err == nil) != (werr == nil) {
		rt.Fatalf("%q: kernel %v, walk %v", name, err, werr)
	}
	if err != nil {
		if !errors.Is(werr, err) {
			rt.Fatalf("%q: kernel %v, walk %v", name, err, werr)
		}
		return
	}
	defer unix.Close(fd)
	var want unix.Stat_t
	must(t, unix.Fstat(fd, &want))
	got, err := d.Lstat("")
	must(t, err)
	real, err := r.top.Lstat(d.Path())
	must(t, err)
	if got.Ino != want.Ino || real.Ino != want.Ino {
		rt.Fatalf("%q: walk ended at %q", name, d.Path())
	}
}

// Nothing that a name or a link says leads out of the tree.
func TestStaysInside(t *testing.T) {
	r, dir, outside := tree(t)
	must(t, os.Symlink(outside, dir+"/absolute"))
	must(t, os.Symlink("../../../../../../../.."+outside, dir+"/climbing"))
	must(t, os.Symlink("../outside/secret", dir+"/last"))
	must(t, os.Symlink("/proc/self/root", dir+"/magic"))
	for _, name := range []string{"absolute", "climbing", "magic", "absolute/secret", "../outside/secret", outside + "/secret", "last", "magic" + outside} {
		if f, err := r.OpenFile(name, unix.O_RDONLY, 0); err == nil {
			f.Close()
			t.Errorf("OpenFile(%q) succeeded", name)
		}
		if _, err := r.ReadFile(name, 100); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadFile(%q): %v, want that it does not exist", name, err)
		}
		if d, err := r.Dir(name, nil); err == nil {
			t.Errorf("Dir(%q) = %q", name, d.Path())
		}
	}
}

// Changing a name that is a link never changes what it leads to.
func TestLinksAreNotFollowed(t *testing.T) {
	r, dir, outside := tree(t)
	secret := outside + "/secret"
	must(t, os.Symlink(secret, dir+"/l"))
	before, err := os.Lstat(secret)
	must(t, err)
	d, base, err := r.Parent("l")
	must(t, err)
	if err := d.Chmod(base, 0o777); !errors.Is(err, unix.ENOTSUP) {
		t.Errorf("Chmod of a link: %v, want %v", err, unix.ENOTSUP)
	}
	must(t, d.Chown(base, os.Getuid(), os.Getgid()))
	must(t, d.Chtimes(base, time.Unix(1, 2), time.Unix(3, 4)))
	if err := d.Setxattr(base, "user.evil", []byte("x")); err == nil {
		t.Error("Setxattr of a link succeeded")
	}
	if _, err := d.Create(base, 0o600); !errors.Is(err, unix.EEXIST) {
		t.Errorf("Create over a link: %v", err)
	}
	if _, err := d.Open(base, unix.O_WRONLY|unix.O_TRUNC); !errors.Is(err, unix.ELOOP) {
		t.Errorf("Open of a link: %v", err)
	}
	must(t, d.Link(d, base, "second"))
	must(t, d.RemoveAll(base))
	must(t, d.Remove("second"))
	after, err := os.Lstat(secret)
	must(t, err)
	if before.Mode() != after.Mode() || !before.ModTime().Equal(after.ModTime()) || before.Size() != after.Size() {
		t.Errorf("the target changed: %v, was %v", after, before)
	}
}

// The last component must be one.
func TestOneComponent(t *testing.T) {
	r, _, outside := tree(t)
	d, err := r.Dir("", nil)
	must(t, err)
	for _, base := range []string{"", ".", "..", "a/b", "../outside/new", outside + "/new", "a\x00"} {
		_, created := d.Create(base, 0o600)
		for call, err := range map[string]error{
			"Create": created, "Mkdir": d.Mkdir(base, 0o700), "Symlink": d.Symlink("x", base), "Link": d.Link(d, "x", base),
			"Mknod": d.Mknod(base, unix.S_IFIFO|0o600, 0), "Remove": d.Remove(base), "RemoveAll": d.RemoveAll(base), "Rename": d.Rename("x", d, base),
		} {
			if !errors.Is(err, unix.EINVAL) {
				t.Errorf("%s(%q): %v, want %v", call, base, err, unix.EINVAL)
			}
		}
	}
}

func TestReadFile(t *testing.T) {
	r, dir, _ := tree(t)
	must(t, os.Mkdir(dir+"/etc", 0o755))
	must(t, os.WriteFile(dir+"/etc/passwd", []byte("root:x:0:0"), 0o644))
	must(t, os.Symlink("/etc/passwd", dir+"/link"))
	must(t, unix.Mkfifo(dir+"/fifo", 0o644))
	must(t, os.WriteFile(dir+"/large", make([]byte, 101), 0o644))
	f, err := os.Create(dir + "/huge")
	must(t, err)
	must(t, f.Truncate(1<<40))
	must(t, f.Close())
	for _, name := range []string{"etc/passwd", "link", "/../link"} {
		if data, err := r.ReadFile(name, 100); string(data) != "root:x:0:0" || err != nil {
			t.Errorf("ReadFile(%q) = %q, %v", name, data, err)
		}
	}
	for name, want := range map[string]error{"fifo": ErrNotRegular, "etc": ErrNotRegular, "": ErrNotRegular, "large": ErrTooLarge, "huge": ErrTooLarge, "none": fs.ErrNotExist} {
		if _, err := r.ReadFile(name, 100); !errors.Is(err, want) {
			t.Errorf("ReadFile(%q): %v, want %v", name, err, want)
		}
	}
	if err := unix.Mknod(dir+"/device", unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))); err != nil {
		t.Skipf("cannot make a device: %v", err)
	}
	if _, err := r.ReadFile("device", 100); !errors.Is(err, ErrNotRegular) {
		t.Errorf("ReadFile of a device: %v, want %v", err, ErrNotRegular)
	}
}

// What is missing is made where its name leads.
func TestMakeParent(t *testing.T) {
	r, dir, _ := tree(t)
	must(t, os.Symlink("/x/y", dir+"/l"))
	var made []string
	remedy := func(d *Dir, base string) (string, error) {
		if base == "redirected" {
			return "/elsewhere", nil
		}
		made = append(made, join(d.Path(), base))
		return "", d.Mkdir(base, 0o755)
	}
	for _, c := range []struct{ name, at, made string }{
		{"a/b/c/f", "a/b/c", "a a/b a/b/c"},
		{"l/z/f", "x/y/z", "x x/y x/y/z"},
		{"l/../f", "l", ""}, // names are cleaned before links are followed
		{"redirected/q/f", "elsewhere/q", "elsewhere elsewhere/q"},
		{"l/f", "x/y", ""},
	} {
		made = nil
		d, base, err := r.MakeParent(c.name, remedy)
		must(t, err)
		if c.name == "l/../f" {
			if d.Path() != "" || base != "f" {
				t.Errorf("%s: at %q", c.name, d.Path())
			}
			continue
		}
		if d.Path() != c.at || base != filepath.Base(c.name) || strings.Join(made, " ") != c.made {
			t.Errorf("%s: at %q with %q made, want %q, %q", c.name, d.Path(), made, c.at, c.made)
		}
	}
	if _, _, err := r.Parent("/"); !errors.Is(err, unix.EISDIR) {
		t.Errorf("Parent of the root: %v", err)
	}
	must(t, os.WriteFile(dir+"/file", nil, 0o644))
	if _, err := r.Dir("file", nil); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("Dir of a file: %v", err)
	}
}

// Directories are remembered, but not after they were replaced, and never more
// than some.
func TestCache(t *testing.T) {
	r, dir, _ := tree(t)
	for i := range 3 * cacheSize {
		must(t, os.MkdirAll(fmt.Sprintf("%s/d%d/sub", dir, i), 0o755))
	}
	for range 2 {
		for i := range 3 * cacheSize {
			d, err := r.Dir(fmt.Sprintf("d%d/sub", i), nil)
			must(t, err)
			if want := fmt.Sprintf("d%d/sub", i); d.Path() != want {
				t.Fatalf("Dir = %q, want %q", d.Path(), want)
			}
		}
	}
	if n := len(r.cache.dirs); n > cacheSize {
		t.Errorf("%d directories are held open", n)
	}
	must(t, os.Symlink("d1", dir+"/l"))
	if d, err := r.Dir("l/sub", nil); err != nil || d.Path() != "d1/sub" {
		t.Fatalf("Dir = %v, %v", d, err)
	}
	top, err := r.Dir("", nil)
	must(t, err)
	must(t, top.Remove("l"))
	must(t, top.Symlink("d2", "l"))
	if d, err := r.Dir("l/sub", nil); err != nil || d.Path() != "d2/sub" {
		t.Errorf("after the link changed: %v, %v", d, err)
	}
	d, err := r.Dir("d3/sub", nil)
	must(t, err)
	must(t, d.RemoveAll("nothing")) // forgets all directories but d
	must(t, d.Mkdir("new", 0o700))
	must(t, d.RemoveAll("nothing"))
	must(t, d.Mkdir("newer", 0o700))
}

// Removal copes with any depth, with directories closed to us, and with links.
func TestRemoveAll(t *testing.T) {
	r, dir, outside := tree(t)
	must(t, os.Mkdir(dir+"/x", 0o755))
	deep, err := r.Dir("x", nil)
	must(t, err)
	top, err := r.Dir("", nil)
	must(t, err)
	at := deep.fd
	for i := range 3 * maxOpen { // deeper than PATH_MAX with these names
		name := strings.Repeat("d", 20)
		must(t, unix.Mkdirat(at, name, 0o755))
		must(t, unix.Symlinkat(outside, at, "link"))
		next, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		must(t, err)
		if i > 0 {
			unix.Close(at)
		}
		at = next
	}
	unix.Close(at)
	must(t, os.MkdirAll(dir+"/x/closed/inner", 0o755))
	must(t, os.WriteFile(dir+"/x/closed/inner/f", nil, 0))
	must(t, os.Chmod(dir+"/x/closed/inner", 0))
	must(t, os.Chmod(dir+"/x/closed", 0))
	must(t, top.RemoveAll("x"))
	must(t, top.RemoveAll("x"))
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := os.Stat(outside + "/secret"); err != nil {
		t.Error(err)
	}
	must(t, os.Mkdir(dir+"/y", 0o755))
	must(t, RemoveAll(dir+"/y"))
	must(t, RemoveAll(dir+"/y"))
	must(t, RemoveAll(dir+"/none/none"))
}

// Attributes, times and modes arrive where they should.
func TestMetadata(t *testing.T) {
	r, dir, _ := tree(t)
	must(t, os.MkdirAll(dir+"/a/d", 0o755))
	d, base, err := r.Parent("a/d")
	must(t, err)
	must(t, d.Chmod(base, 0o2751))
	if err := d.Setxattr(base, "user.note", []byte("hello")); errors.Is(err, unix.ENOTSUP) {
		t.Skip("this file system has no attributes")
	}
	long := strings.Repeat("v", 3000)
	must(t, d.Setxattr(base, "user.long", []byte(long)))
	names, err := d.Listxattr(base)
	must(t, err)
	if s := strings.Join(names, " "); !strings.Contains(s, "user.note") || !strings.Contains(s, "user.long") {
		t.Errorf("Listxattr = %q", names)
	}
	if v, err := d.Getxattr(base, "user.long"); string(v) != long {
		t.Errorf("Getxattr: %d bytes, %v", len(v), err)
	}
	if _, err := d.Getxattr(base, "user.none"); !errors.Is(err, unix.ENODATA) {
		t.Errorf("Getxattr of none: %v", err)
	}
	must(t, d.Chtimes(base, time.Unix(-5, 6), time.Unix(1<<33, 7)))
	st, err := d.Lstat(base)
	must(t, err)
	if st.Mode != unix.S_IFDIR|0o2751 || st.Atim != (unix.Timespec{Sec: -5, Nsec: 6}) || st.Mtim != (unix.Timespec{Sec: 1 << 33, Nsec: 7}) {
		t.Errorf("mode %o, times %v %v", st.Mode, st.Atim, st.Mtim)
	}
	if list, err := d.Names(""); err != nil || len(list) != 1 || list[0] != "d" {
		t.Errorf("Names = %q, %v", list, err)
	}
}

// Two may remove one tree: what is gone when it is listed is no error.
func TestADirectoryThatIsGoneHasNothingInIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	must(t, os.Mkdir(dir, 0o700))
	fd, err := openList(unix.AT_FDCWD, dir)
	must(t, err)
	must(t, os.Remove(dir))
	if list, err := names(fd); err != nil || len(list) > 0 {
		t.Errorf("%v, error %v", list, err)
	}
}
