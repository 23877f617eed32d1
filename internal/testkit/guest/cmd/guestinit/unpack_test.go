package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/guest/wire"
)

// archive makes a cpio archive with an implementation that is not ours.
func archive(t *testing.T, records ...cpio.Record) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := cpio.Newc.Writer(&buf)
	if err := cpio.WriteRecords(w, records); err != nil {
		t.Fatal(err)
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestUnpack(t *testing.T) {
	testkit.RequireRoot(t)
	dir := t.TempDir()
	testkit.WriteFile(t, dir+"/d/f", "old, and longer than the new one", 0o600)
	program := cpio.StaticFile("d/f", "new", 0o755|unix.S_ISUID)
	program.UID = 7
	content := archive(t, cpio.Directory("d", 0o701), program, cpio.Symlink("d/l", "f"), cpio.CharDev("d/null", 0o666, 1, 3), cpio.StaticFile("d/empty", "", 0o644))
	if err := unpackCpio(bytes.NewReader(content), dir); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir+"/d/f", &st); err != nil || st.Uid != 7 || st.Mode != unix.S_IFREG|unix.S_ISUID|0o755 {
		t.Errorf("%+v %v", st, err)
	}
	if b, err := os.ReadFile(dir + "/d/l"); err != nil || string(b) != "new" {
		t.Errorf("%q %v", b, err)
	}
	if fi, err := os.Stat(dir + "/d"); err != nil || fi.Mode().Perm() != 0o701 {
		t.Errorf("%v %v", fi, err)
	}
	if err := unix.Lstat(dir+"/d/null", &st); err != nil || st.Rdev != unix.Mkdev(1, 3) || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		t.Errorf("%+v %v", st, err)
	}
	for n := range len(content) - len("TRAILER!!!\x00\x00\x00\x00") {
		if err := unpackCpio(bytes.NewReader(content[:n]), t.TempDir()); err == nil {
			t.Fatalf("an archive that ends after %d bytes is taken", n)
		}
	}
}

func TestJobComesAfterItsFiles(t *testing.T) {
	job, err := wire.Job{Argv: []string{"\xff"}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	empty := archive(t)
	frames := func(send ...any) *bytes.Buffer {
		var buf bytes.Buffer
		for i := 0; i < len(send); i += 2 {
			if err := wire.Write(&buf, send[i].(wire.Kind), send[i+1].([]byte)); err != nil {
				t.Fatal(err)
			}
		}
		return &buf
	}
	got, err := receiveJob(frames(wire.Files, empty[:9], wire.Files, empty[9:], wire.Files, []byte{}, wire.Run, job))
	if err != nil || got.Argv[0] != "\xff" {
		t.Errorf("%+v %v", got, err)
	}
	for want, buf := range map[string]*bytes.Buffer{
		"in the place of files":   frames(wire.Run, job),
		"in the place of the job": frames(wire.Files, empty, wire.Files, []byte{}, wire.Exit, job),
		"EOF":                     frames(wire.Files, empty, wire.Files, []byte{}),
	} {
		if _, err := receiveJob(buf); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
