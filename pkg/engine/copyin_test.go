package engine

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/containr/containr/internal/safepath"
)

// copyIn unpacks an archive of these entries into a directory, as a copy to the host does.
func copyIn(t *testing.T, dir string, entries ...tar.Header) error {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		h.Mode |= 0o600
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len("hostile"))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			w.Write([]byte("hostile"))
		}
	}
	w.Close()
	root, err := safepath.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	u := &unpacking{root: root, uid: os.Geteuid(), gid: os.Getegid()}
	return u.unpack(t.Context(), &b)
}

// TestAnArchiveStaysInItsDirectory: whatever names and links say, nothing outside of the directory that is copied to changes.
func TestAnArchiveStaysInItsDirectory(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	for name, entries := range map[string]func(outside string) []tar.Header{
		"climbing": func(string) []tar.Header { return []tar.Header{file("../../victim"), file("a/../../victim")} },
		"absolute": func(o string) []tar.Header { return []tar.Header{file(o + "/victim")} },
		"through a link": func(o string) []tar.Header {
			return []tar.Header{{Typeflag: tar.TypeSymlink, Name: "l", Linkname: o}, file("l/victim")}
		},
		"through a climbing link": func(string) []tar.Header {
			return []tar.Header{{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../outside"}, file("l/victim")}
		},
		"over a link": func(o string) []tar.Header {
			return []tar.Header{{Typeflag: tar.TypeSymlink, Name: "l", Linkname: o + "/victim"}, file("l")}
		},
		"a hard link": func(o string) []tar.Header {
			return []tar.Header{{Typeflag: tar.TypeLink, Name: "l", Linkname: o + "/victim"}, file("l")}
		},
		"a hard link to a link": func(o string) []tar.Header {
			return []tar.Header{{Typeflag: tar.TypeSymlink, Name: "s", Linkname: o + "/victim"}, {Typeflag: tar.TypeLink, Name: "l", Linkname: "s"}, file("l")}
		},
		"a mode through a link": func(o string) []tar.Header {
			return []tar.Header{{Typeflag: tar.TypeSymlink, Name: "d", Linkname: o}, {Typeflag: tar.TypeDir, Name: "d", Mode: 0o777}}
		},
	} {
		top := t.TempDir()
		outside, inside := filepath.Join(top, "outside"), filepath.Join(top, "inside")
		for _, d := range []string{outside, inside} {
			if err := os.Mkdir(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		victim := filepath.Join(outside, "victim")
		if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := copyIn(t, inside, entries(outside)...)
		if data, readErr := os.ReadFile(victim); readErr != nil || string(data) != "untouched" {
			t.Errorf("%s: the victim is %q, %v (%v)", name, data, readErr, err)
		}
		if info, statErr := os.Stat(outside); statErr != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: the directory is %v, %v", name, info.Mode(), statErr)
		}
		if all, _ := filepath.Glob(filepath.Join(top, "*")); len(all) != 2 {
			t.Errorf("%s: beside the directory there are %v", name, all)
		}
	}
}

func TestACopyLosesWhatGivesRights(t *testing.T) {
	dir := t.TempDir()
	if err := copyIn(t, dir, tar.Header{Typeflag: tar.TypeReg, Name: "suid", Mode: 0o6755}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "suid")); err != nil || info.Mode() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := copyIn(t, dir, tar.Header{Typeflag: tar.TypeDir, Name: "sgid", Mode: 0o2755}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "sgid")); err != nil || info.Mode() != os.ModeDir|0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	err := copyIn(t, dir, tar.Header{Typeflag: tar.TypeBlock, Name: "disk", Devmajor: 8})
	if err == nil || !strings.Contains(err.Error(), "device") {
		t.Errorf("device: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "disk")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("device: %v", err)
	}
}

// TestManyDirectoriesTakeLittleMemory: of a directory is kept what it is given in the end, and that is bounded.
func TestManyDirectoriesTakeLittleMemory(t *testing.T) {
	const count, each = 200, 500 << 10
	archive := func(key string) io.Reader {
		r, w := io.Pipe()
		t.Cleanup(func() { r.Close() })
		go func() {
			out := tar.NewWriter(w)
			for i := range count {
				h := tar.Header{Typeflag: tar.TypeDir, Name: "é" + strconv.Itoa(i), Mode: 0o700, PAXRecords: map[string]string{key: strings.Repeat("a", each)}}
				if err := out.WriteHeader(&h); err != nil {
					w.CloseWithError(err)
					return
				}
			}
			w.CloseWithError(out.Close())
		}()
		return r
	}
	for name, u := range map[string]*unpacking{"a comment": {archive: true}, "an attribute": {}} {
		root, err := safepath.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		u.root, u.uid, u.gid = root, os.Geteuid(), os.Getegid()
		key := "SCHILY.xattr.user.a"
		if u.archive {
			key = "comment"
		}
		var before, after runtime.MemStats
		tr := tar.NewReader(archive(key))
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range count {
			h, err := tr.Next()
			if err != nil {
				t.Fatal(err)
			}
			if err := u.entry(h, tr); err != nil {
				t.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > count*each/4 {
			t.Errorf("%s: %d directories with %d bytes of it take %d bytes of memory", name, count, each, grown)
		}
		runtime.KeepAlive(u)
	}
	root, err := safepath.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	u := &unpacking{root: root, archive: true, uid: os.Geteuid(), gid: os.Getegid(), kept: maxKept - count*each/2}
	if err := u.unpack(t.Context(), archive("SCHILY.xattr.user.a")); !errors.Is(err, errArchive) {
		t.Errorf("attributes beyond the bound: %v", err)
	}
}

// TestHolesAreNotFilled: a small archive does not fill the disk with a file of nothing.
func TestHolesAreNotFilled(t *testing.T) {
	const size = 1 << 30
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	h := &tar.Header{Typeflag: tar.TypeReg, Name: "huge", Mode: 0o600, Size: 5, PAXRecords: map[string]string{ // the writer refuses the real ones
		"XNU.sparse.name": "huge", "XNU.sparse.size": strconv.Itoa(size), "XNU.sparse.numblocks": "1", "XNU.sparse.map": "10000,5"}}
	if err := w.WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("there"))
	w.Close()
	archive := bytes.ReplaceAll(b.Bytes(), []byte("XNU.sparse"), []byte("GNU.sparse"))
	dir := t.TempDir()
	root, err := safepath.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	u := &unpacking{root: root, uid: os.Geteuid(), gid: os.Getegid()}
	if err := u.unpack(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "huge"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if taken := info.Sys().(*syscall.Stat_t).Blocks * 512; info.Size() != size || taken > 1<<20 {
		t.Errorf("the file has %d bytes, and takes %d of the disk", info.Size(), taken)
	}
	got := make([]byte, 7)
	if _, err := f.ReadAt(got, 9999); err != nil || string(got) != "\x00there\x00" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestOwnersOutOfRangeAreRefused: the kernel would make them others, 1<<32 root, and -1 whoever unpacks.
func TestOwnersOutOfRangeAreRefused(t *testing.T) {
	for _, id := range []int64{-1, 1<<32 - 1, 1 << 32, 1<<40 + 1000} {
		for _, h := range []tar.Header{{Uid: int(id)}, {Gid: int(id)}} {
			for _, kind := range []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink} {
				h.Typeflag, h.Name, h.Linkname, h.Mode, h.Format = kind, "mine", "", 0o4755, tar.FormatGNU // PAX has no negative ones
				if kind == tar.TypeSymlink {
					h.Linkname = "elsewhere"
				}
				var b bytes.Buffer
				w := tar.NewWriter(&b)
				if err := errors.Join(w.WriteHeader(&h), w.Close()); err != nil {
					t.Fatal(err)
				}
				dir := t.TempDir()
				root, err := safepath.OpenRoot(dir)
				if err != nil {
					t.Fatal(err)
				}
				u := &unpacking{root: root, archive: true}
				if err := u.unpack(t.Context(), &b); !errors.Is(err, errArchive) {
					t.Errorf("%c of %d:%d: %v", kind, h.Uid, h.Gid, err)
				}
				root.Close()
				if _, err := os.Lstat(filepath.Join(dir, "mine")); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%c of %d:%d was made: %v", kind, h.Uid, h.Gid, err)
				}
			}
		}
	}
}

// TestAnImportedVolumeIsAsPrivateAsTheOneThatWasExported: the directory itself has its owner and mode in the archive, too.
func TestAnImportedVolumeIsAsPrivateAsTheOneThatWasExported(t *testing.T) {
	e := New(Options{Root: t.TempDir()})
	private, err := e.CreateVolume(t.Context(), VolumeRequest{Name: "private"})
	if err != nil {
		t.Fatal(err)
	}
	path := func(name string) string {
		v, err := e.Volume(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return v.Path
	}
	if err := os.Chmod(path(private.Name), 0o700|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	owner := os.Geteuid()
	if owner == 0 {
		owner = 999
		if err := os.Chown(path(private.Name), owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := e.ExportVolume(t.Context(), "private", false, &b); err != nil {
		t.Fatal(err)
	}
	if _, err := e.ImportVolume(t.Context(), "again", &b, 0); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path("again"))
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); info.Mode() != os.ModeDir|os.ModeSticky|0o700 || int(st.Uid) != owner {
		t.Errorf("the volume is %v, of %d", info.Mode(), st.Uid)
	}
}

func TestADirectoryIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := copyIn(t, dir, tar.Header{Typeflag: tar.TypeReg, Name: "d"}); !errors.Is(err, ErrIsDirectory) {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := copyIn(t, dir, tar.Header{Typeflag: tar.TypeDir, Name: "f"}); !errors.Is(err, ErrNotDirectory) {
		t.Error(err)
	}
}

// swapper is an archive during whose reading, once, something happens.
type swapper struct {
	r     io.Reader
	after int // bytes
	swap  func()
}

func (s *swapper) Read(p []byte) (int, error) {
	if s.after <= 0 && s.swap != nil {
		s.swap()
		s.swap = nil
	}
	n, err := s.r.Read(p[:min(len(p), 512)])
	s.after -= n
	return n, err
}

// TestACopyDressesWhatItMade: a program that puts its own file in the place of the copy, while that is written, does not have
// it made root's, and executable with root's rights.
func TestACopyDressesWhatItMade(t *testing.T) {
	for name, entries := range map[string][]tar.Header{
		"file":      {{Typeflag: tar.TypeReg, Name: "new", Mode: 0o6755, Size: 512}},
		"directory": {{Typeflag: tar.TypeDir, Name: "new", Mode: 0o6755}, {Typeflag: tar.TypeReg, Name: "other", Mode: 0o600, Size: 512}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			theirs, place := filepath.Join(dir, "theirs"), filepath.Join(dir, "new")
			if err := os.WriteFile(theirs, []byte("program"), 0o700); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, h := range entries {
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
				w.Write(make([]byte, h.Size))
			}
			w.Close()
			root, err := safepath.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			swap := func() {
				if err := os.Rename(place, filepath.Join(dir, "away")); err != nil {
					t.Error(err)
				}
				if err := os.Rename(theirs, place); err != nil {
					t.Error(err)
				}
			}
			u := &unpacking{root: root, uid: os.Geteuid(), gid: os.Getegid()}
			err = u.unpack(t.Context(), &swapper{&b, 512 * len(entries), swap})
			info, statErr := os.Stat(place)
			if statErr != nil {
				t.Fatal(statErr)
			}
			if info.Mode() != 0o700 {
				t.Errorf("the stranger's file has mode %v now (the copy: error %v)", info.Mode(), err)
			}
		})
	}
}
