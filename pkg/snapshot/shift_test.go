package snapshot

import (
	"archive/tar"
	"context"
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestShiftedOwners(t *testing.T) {
	needRoot(t)
	maps := []IDMap{{Container: 0, Host: 100000, Size: 1000}, {Container: 5000, Host: 300000, Size: 1}}
	s := open(t, Options{Rootless: true, UIDMap: maps, GIDMap: maps})
	owned := func(name string, uid int) entry {
		e := reg(name, "x")
		e.Uid, e.Gid = uid, uid
		return e
	}
	caps := owned("caps", 0)
	const revision2 = "\x01\x00\x00\x02" + "\x00\x20\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
	caps.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": revision2}
	chain := unpack(t, s, archive(t, owned("root", 0), owned("user", 999), owned("far", 5000), owned("implied/file", 7), caps))
	mounts, err := s.Prepare(t.Context(), chain, filepath.Join(t.TempDir(), "upper"), filepath.Join(t.TempDir(), "work"))
	if err != nil {
		t.Fatal(err)
	}
	tree := mounts[0].Lower[0]
	for name, want := range map[string]uint32{
		".": 100000, "root": 100000, "user": 100999, "far": 300000, "implied": 100000, "implied/file": 100007,
	} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(tree, name), &st); err != nil || st.Uid != want || st.Gid != want {
			t.Errorf("%s: owner %d:%d, error %v; want %d", name, st.Uid, st.Gid, err, want)
		}
	}
	// Read from the initial namespace, revision 3 is shown as it is stored.
	value := make([]byte, 64)
	n, err := unix.Lgetxattr(filepath.Join(tree, "caps"), "security.capability", value)
	if want := "\x01\x00\x00\x03" + revision2[4:] + "\xa0\x86\x01\x00"; err != nil || string(value[:n]) != want {
		t.Errorf("capability %q, error %v; want %q", value[:max(n, 0)], err, want)
	}
}

func TestUnmappedOwnersAreRefused(t *testing.T) {
	maps := []IDMap{{Container: 0, Host: 100000, Size: 1000}}
	mk := maker{}
	var err error
	if mk.shift, err = newShift(maps, maps); err != nil {
		t.Fatal(err)
	}
	for _, h := range []tar.Header{{Uid: 1000}, {Gid: 1000}, {Uid: 1 << 31}} {
		if m, err := mk.newMeta(&h); !errors.Is(err, ErrUnmapped) {
			t.Errorf("%d:%d became %d:%d, error %v", h.Uid, h.Gid, m.uid, m.gid, err)
		}
	}
	s := open(t, Options{Rootless: true, UIDMap: []IDMap{{Container: 1, Host: 1, Size: 1}}, GIDMap: maps})
	if _, err := s.Extract(context.Background(), "", nil, ExtractOptions{}); err == nil {
		t.Error("a map without root was accepted")
	}
}
