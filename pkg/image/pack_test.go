package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// packed packs dir, and describes the entries one by one.
func packed(t *testing.T, dir string) ([]byte, []string) {
	t.Helper()
	var buf bytes.Buffer
	if err := Pack(t.Context(), &buf, dir, time.Time{}); err != nil {
		t.Fatal(err)
	}
	var lines []string
	tr := tar.NewReader(bytes.NewReader(buf.Bytes()))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return buf.Bytes(), lines
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%c %s %04o %d", h.Typeflag, h.Name, h.Mode, h.ModTime.Unix())
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		if len(body) > 0 {
			line += " " + string(body)
		}
		if h.Uname+h.Gname != "" || h.Uid != os.Getuid() || h.Gid != os.Getgid() {
			t.Errorf("%s: owner %d %d %q %q", h.Name, h.Uid, h.Gid, h.Uname, h.Gname)
		}
		if v, ok := h.PAXRecords["SCHILY.xattr.user.note"]; ok {
			line += " note=" + v
		}
		lines = append(lines, line)
	}
}

func TestPackKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(at("b-file"), []byte("content"), 0o640), unix.Chmod(at("b-file"), 0o4751),
		os.Mkdir(at("a-dir"), 0o700), unix.Chmod(at("a-dir"), 0o1777),
		os.Link(at("b-file"), at("a-dir/z-link")), os.Symlink("/etc/../passwd", at("c-symlink")), mkfifo(at("d-fifo")), os.Chmod(at("d-fifo"), 0o600))
	socket, err := net.Listen("unix", at("e-socket"))
	must(err)
	defer socket.Close()
	long := strings.Repeat("long-name-", 20)
	must(os.WriteFile(at(long), nil, 0o600))
	note := ""
	if err := unix.Lsetxattr(at("b-file"), "user.note", []byte("a b"), 0); err == nil {
		note = " note=a b"
	} else {
		t.Logf("extended attributes are not tested: %v", err)
	}
	when := time.Unix(1700000000, 999)
	for _, name := range []string{"b-file", "d-fifo", long, "a-dir", "."} {
		must(os.Chtimes(at(name), when, when))
	}
	ts := unix.NsecToTimespec(when.UnixNano())
	must(unix.UtimesNanoAt(unix.AT_FDCWD, at("c-symlink"), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	must(os.Chmod(dir, 0o755))
	want := []string{
		"5 ./ 0755 1700000000",
		"5 a-dir/ 1777 1700000000",
		"0 a-dir/z-link 4751 1700000000 content" + note,
		"1 b-file 4751 1700000000 -> a-dir/z-link",
		"2 c-symlink 0777 1700000000 -> /etc/../passwd",
		"6 d-fifo 0600 1700000000",
		"0 " + long + " 0600 1700000000",
	}
	first, got := packed(t, dir)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("packed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if second, _ := packed(t, dir); !bytes.Equal(first, second) {
		t.Error("the same tree gives different bytes")
	}
}

func TestPackKeepsDevices(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Skipf("skipped: making a device needs privileges: %v", err)
	}
	data, _ := packed(t, dir)
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := tr.Next()
		if err != nil {
			t.Fatal("no device in it")
		}
		if h.Typeflag == tar.TypeChar {
			if h.Devmajor != 1 || h.Devminor != 3 {
				t.Errorf("device %d:%d", h.Devmajor, h.Devminor)
			}
			return
		}
	}
}

// What was a file or directory when it was looked at may be a link when it is
// opened.
func TestPackNeverOpensLinks(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Symlink("/etc/passwd", filepath.Join(dir, "file")), os.Symlink("/", filepath.Join(dir, "dir"))); err != nil {
		t.Fatal(err)
	}
	parent, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer parent.Close()
	if _, err := openAt(parent, "file", "file", 0); !errors.Is(err, unix.ELOOP) {
		t.Errorf("file: %v", err)
	}
	if _, err := openAt(parent, "dir", "dir", unix.O_DIRECTORY); !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		t.Errorf("directory: %v", err)
	}
}

func TestPackEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Pack(ctx, io.Discard, t.TempDir(), time.Time{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := Pack(t.Context(), io.Discard, filepath.Join(t.TempDir(), "none"), time.Time{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestImportDirectoryIsReproducible(t *testing.T) {
	dir := writeTree(t, map[string][]byte{"etc/motd": []byte("hi"), "bin/sh": []byte("#!")})
	created := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	var ids []string
	for range 2 {
		s := newStore(t)
		img, err := s.Import(t.Context(), ImportRequest{Name: "app", Dir: dir, Created: created})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, img.ManifestDigest.String())
	}
	if ids[0] != ids[1] {
		t.Errorf("manifests %q", ids)
	}
}
