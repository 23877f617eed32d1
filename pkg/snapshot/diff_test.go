package snapshot

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containr/containr/internal/safepath"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// fractions are what an archive of whole seconds leaves out of a fingerprint.
var fractions = regexp.MustCompile(`(-?\d+)\.\d{9}`)

func wholeSeconds(tree map[string]string) map[string]string {
	out := map[string]string{}
	for name, line := range tree {
		out[name] = fractions.ReplaceAllString(line, "$1")
	}
	return out
}

// theseChanges are made to a mounted tree by the kernel, as a program in a container would.
func theseChanges(root string) error {
	at := func(name string) string { return filepath.Join(root, name) }
	sock, err := net.Listen("unix", at("socket"))
	if err != nil {
		return err
	}
	sock.(*net.UnixListener).SetUnlinkOnClose(false)
	return errors.Join(sock.Close(),
		os.WriteFile(at("etc/new"), []byte("new"), 0o640),
		os.WriteFile(at("etc/edited"), []byte("changed"), 0o644),
		os.Chtimes(at("etc/touched"), stamp, stamp.Add(time.Hour)),
		os.Chmod(at("etc/moded"), 0o4711),
		os.Lchown(at("etc/owned"), 1000, 70000),
		unix.Lsetxattr(at("etc/noted"), "user.note", []byte("a\x00b"), 0),
		os.Remove(at("etc/gone")),
		os.RemoveAll(at("removed")),
		os.RemoveAll(at("again")), os.Mkdir(at("again"), 0o750), os.WriteFile(at("again/other"), []byte("o"), 0o600),
		os.Remove(at("file")), os.Mkdir(at("file"), 0o755), os.WriteFile(at("file/inside"), nil, 0o600),
		os.RemoveAll(at("tree")), os.Symlink("etc", at("tree")),
		os.Link(at("etc/linked"), at("etc/another")),
		unix.Mkfifo(at("fifo"), 0o622),
		unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		os.Truncate(at("sparse"), 1<<20),
		os.MkdirAll(at("deep/er/still"), 0o711),
		os.Rename(at("etc/moved"), at("deep/moved")),
	)
}

// theseAre the changes, as a user is told.
var theseAre = strings.Fields(`C:/ C:/again D:/again/one A:/again/other D:/again/two A:/deep A:/deep/er A:/deep/er/still A:/deep/moved
	C:/etc A:/etc/another C:/etc/edited D:/etc/gone C:/etc/linked C:/etc/moded D:/etc/moved A:/etc/new C:/etc/noted C:/etc/owned
	C:/etc/touched A:/fifo C:/file A:/file/inside A:/null D:/removed A:/socket C:/sparse C:/tree`)

func changedBase(t *testing.T) [][]byte {
	var entries []entry
	for _, name := range strings.Fields("edited touched moded owned noted gone linked moved kept") {
		entries = append(entries, reg("etc/"+name, name))
	}
	entries = append(entries, reg("removed/a/b", "x"), reg("again/one", "1"), reg("again/two", "2"), reg("file", "f"), reg("tree/a", "a"), reg("sparse", "s"), reg("usr/bin/kept", "k"))
	return [][]byte{archive(t, entries...), archive(t, reg("usr/lib/kept", "k"), reg("again/two", "2!"))}
}

// A layer of what a container changed, put on the layers that it was made of, is the tree that the container saw.
func TestTheLayerOfAContainerMakesItsTree(t *testing.T) {
	needRoot(t)
	for driver, o := range drivers {
		t.Run(driver, func(t *testing.T) {
			s := open(t, o)
			base := changedBase(t)
			chain := unpack(t, s, base...)
			dir := t.TempDir()
			upper := dir + "/upper"
			mounts, err := s.Prepare(t.Context(), chain, upper, dir+"/work")
			if err != nil {
				t.Fatal(err)
			}
			var want map[string]string
			inMountNamespace(t, func() error {
				if err := errors.Join(os.Mkdir(dir+"/target", 0o755), mounts[0].mount(dir+"/target")); err != nil {
					return err
				}
				defer unix.Unmount(dir+"/target", unix.MNT_DETACH)
				if err := theseChanges(dir + "/target"); err != nil {
					return err
				}
				want, err = fingerprint(dir + "/target")
				return err
			})
			checkChanges(t, s, chain, upper)
			delete(want, "socket")
			layer := diffOf(t, s, chain, upper)
			if again := diffOf(t, s, chain, upper); !bytes.Equal(layer, again) {
				t.Error("the second layer of the same tree has other bytes")
			}
			onTop := open(t, Options{})
			got := mounted(t, onTop, unpack(t, onTop, append(base, layer)...))
			if d := diff(wholeSeconds(want), wholeSeconds(got)); d != "" {
				t.Errorf("the layer makes another tree:\n%s\nlayer:\n%s", d, tarNames(t, layer))
			}
			checkExport(t, s, chain, upper, want)
		})
	}
}

func checkChanges(t *testing.T, s *Store, chain ChainID, upper string) {
	t.Helper()
	changes, err := s.Changes(t.Context(), chain, upper, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range changes {
		got = append(got, c.Kind.String()+":"+c.Path)
	}
	if !slices.Equal(got, theseAre) {
		t.Errorf("changes\n got %v\nwant %v", got, theseAre)
	}
}

// checkExport checks that the whole tree comes out, but for its root and the socket.
func checkExport(t *testing.T, s *Store, chain ChainID, upper string, want map[string]string) {
	t.Helper()
	var b bytes.Buffer
	if err := s.Export(t.Context(), &b, chain, upper, ArchiveOptions{}); err != nil {
		t.Fatal(err)
	}
	flat := open(t, Options{})
	got := viewed(t, flat, unpack(t, flat, b.Bytes()))
	got["."] = want["."]
	if d := diff(wholeSeconds(want), wholeSeconds(got)); d != "" {
		t.Errorf("exported, it is another tree:\n%s", d)
	}
}

func diffOf(t testing.TB, s *Store, chain ChainID, upper string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Diff(t.Context(), &b, chain, upper, ArchiveOptions{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarNames(t testing.TB, archive []byte) string {
	t.Helper()
	var b strings.Builder
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%c %s %s\n", h.Typeflag, h.Name, h.Linkname)
	}
}

// Any layer, unpacked and written down again, does the same to the layers below it.
func TestLayersWrittenDownAgainAreTheSame(t *testing.T) {
	needRoot(t)
	checked := 0
	rapid.Check(t, func(rt *rapid.T) {
		all, m, refusal := drawLayers(rt)
		if refusal != nil || len(all) < 2 {
			return
		}
		var archives [][]byte
		for _, entries := range all {
			archives = append(archives, archive(t, entries...))
		}
		s := open(t, Options{})
		defer safepath.RemoveAll(s.dir)
		chain := unpack(t, s, archives...)
		info, err := s.Stat(chain)
		if err != nil {
			rt.Fatal(err)
		}
		if info.OpaqueRoot {
			return // no upper directory is
		}
		checked++
		last := len(archives) - 1
		native, copied := s.With(Native), s.dir+"/copied"
		if err := native.Copy(t.Context(), chain, copied); err != nil {
			rt.Fatal(err)
		}
		for way, layer := range map[string][]byte{"overlay": diffOf(t, s, info.Parent, s.fs(info)), "native": diffOf(t, native, info.Parent, copied)} {
			again := open(t, Options{})
			got := mounted(t, again, unpack(t, again, append(slices.Clone(archives[:last]), layer)...))
			if d := diff(wholeSeconds(m.fingerprint()), wholeSeconds(got)); d != "" {
				rt.Fatalf("%s:\n%s\nwritten again:\n%s\n%s", way, d, tarNames(t, layer), listing(all))
			}
			safepath.RemoveAll(again.dir)
		}
	})
	if checked == 0 {
		t.Error("no chain was checked")
	}
}

// Two images are compared by what is in them, not by the layers that it is in.
func TestCompareLooksAtContent(t *testing.T) {
	s := open(t, Options{Rootless: os.Geteuid() != 0})
	f := func(name, data string) entry { return own(reg(name, data)) }
	a := unpack(t, s, archive(t, own(dir("d", 0o755)), f("d/same", "x"), f("d/other", "x"), f("gone", "x")))
	b := unpack(t, s, archive(t, own(dir("d", 0o755)), f("d/same", "x")), archive(t, f("d/other", "y"), f("new", "")))
	var got []string
	changes, err := s.Compare(t.Context(), a, b)
	for _, c := range changes {
		got = append(got, c.Kind.String()+":"+c.Path)
	}
	if want := []string{"C:/", "C:/d", "C:/d/other", "D:/gone", "A:/new"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if changes, err := s.Compare(t.Context(), a, a); err != nil || len(changes) > 0 {
		t.Errorf("with itself: %v, %v", changes, err)
	}
}

// The owners in a layer are those of the container, whatever ids the host has for them.
func TestOwnersAreThoseOfTheContainer(t *testing.T) {
	needRoot(t)
	maps := []IDMap{{Container: 0, Host: 100000, Size: 65536}}
	s := open(t, Options{Rootless: true, UIDMap: maps, GIDMap: maps})
	chain := unpack(t, s, archive(t, reg("f", "x")))
	upper := t.TempDir() + "/upper"
	if _, err := s.Prepare(t.Context(), chain, upper, upper+".work"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(upper+"/new", nil, 0o755), os.Lchown(upper+"/new", 100005, 100006)); err != nil {
		t.Fatal(err)
	}
	layer := tar.NewReader(bytes.NewReader(diffOf(t, s, chain, upper)))
	h, err := layer.Next()
	for err == nil && h.Name != "new" {
		h, err = layer.Next()
	}
	if err != nil || h.Uid != 5 || h.Gid != 6 {
		t.Errorf("%+v, %v", h, err)
	}
	if err := os.Lchown(upper+"/new", 5, 5); err != nil {
		t.Fatal(err)
	}
	if err := s.Diff(t.Context(), io.Discard, chain, upper, ArchiveOptions{}); !errors.Is(err, ErrUnmapped) {
		t.Errorf("an owner of nobody in the container: %v", err)
	}
}

// Times can be bounded, so that the same content is the same layer tomorrow.
func TestTimesAreBounded(t *testing.T) {
	s := open(t, Options{Rootless: os.Geteuid() != 0, Driver: Native})
	chain := unpack(t, s, archive(t, own(reg("old", "x"))))
	upper := t.TempDir() + "/upper"
	if _, err := s.Prepare(t.Context(), chain, upper, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(upper+"/new", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	latest := time.Unix(1600000000, 0)
	if err := s.Diff(t.Context(), &b, chain, upper, ArchiveOptions{Latest: latest}); err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil || h.ModTime.After(latest) {
			t.Errorf("%s: %v, %v", h.Name, h.ModTime, err)
		}
	}
}

// An archive is one for others too.
func TestOtherToolsUnderstandTheLayer(t *testing.T) {
	needRoot(t)
	path, err := exec.LookPath("tar")
	if err != nil {
		t.Skip("tar is not installed")
	}
	s := open(t, Options{})
	chain := unpack(t, s, changedBase(t)...)
	upper := t.TempDir() + "/upper"
	if _, err := s.Prepare(t.Context(), chain, upper, upper+".work"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(upper+"/a/b", 0o755), os.WriteFile(upper+"/a/b/c", []byte("c"), 0o600)); err != nil {
		t.Fatal(err)
	}
	list := exec.Command(path, "t")
	list.Stdin = bytes.NewReader(diffOf(t, s, chain, upper))
	out, err := list.CombinedOutput()
	if err != nil || string(out) != "./\na/\na/b/\na/b/c\n" {
		t.Errorf("%q, %v", out, err)
	}
}
