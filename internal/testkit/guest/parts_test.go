package guest

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/guest/wire"
)

func TestCpio(t *testing.T) {
	dir := t.TempDir()
	testkit.WriteFile(t, dir+"/d/f", "12345", 0o640)
	if err := os.Symlink("f", dir+"/d/l"); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	c := newCpio(&buf)
	c.file("/etc/x", 0o644, "first")
	c.tree("/etc", dir)
	c.dir("/etc", 0o700)
	c.tree("/one", dir+"/d/f")
	c.entry("/dev/console", unix.S_IFCHR|0o600, 0, 0, unix.Mkdev(5, 1), "")
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	r, err := cpio.Newc.NewFileReader(tempFile(t, buf.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(r)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, rec := range records {
		got = append(got, rec.Name)
		switch rec.Name {
		case "etc/d/f":
			b := make([]byte, rec.FileSize)
			if _, err := rec.ReadAt(b, 0); string(b) != "12345" || rec.Mode != unix.S_IFREG|0o640 {
				t.Errorf("%v %q %v", rec, b, err)
			}
		case "dev/console":
			if rec.Rmajor != 5 || rec.Rminor != 1 {
				t.Errorf("%v", rec)
			}
		}
	}
	want := []string{"etc", "etc/x", "etc/d", "etc/d/f", "etc/d/l", "one", "dev/console"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	c = newCpio(io.Discard)
	c.tree("/x", dir+"/missing")
	if err := c.close(); !os.IsNotExist(err) {
		t.Errorf("missing file: %v", err)
	}
}

func tempFile(t *testing.T, b []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestRedirectMovesOutputFiles(t *testing.T) {
	o := Options{Run: "X", Args: []string{"-test.v", "-test.coverprofile=/home/c.out", "-test.testlogfile=/tmp/l", "--test.gocoverdir=/home/d", "-own=1", "word"},
		Out: map[string]string{"/a": "/b"}}
	redirect(&o)
	if want := []string{"-test.run=X", "-test.v", "-test.coverprofile=/out/1/coverprofile", "-test.gocoverdir=/out/3/gocoverdir", "-own=1", "word"}; !slices.Equal(o.Args, want) {
		t.Errorf("args %q", o.Args)
	}
	if want := map[string]string{"/a": "/b", "/out/1/coverprofile": "/home/c.out", "/out/3/gocoverdir": "/home/d"}; !reflect.DeepEqual(o.Out, want) {
		t.Errorf("out %v", o.Out)
	}
	if want := []string{"/out/1", "/out/3", "/out/3/gocoverdir"}; !slices.Equal(o.dirs, want) {
		t.Errorf("dirs %v", o.dirs)
	}
}

func TestLastVariableStays(t *testing.T) {
	if got := environment([]string{"A=1", "B=2", "AB=3"}, nil, []string{"C=4", "A=5"}); !slices.Equal(got, []string{"B=2", "AB=3", "C=4", "A=5"}) {
		t.Error(got)
	}
}

func TestModulesResolveInOrder(t *testing.T) {
	m := wire.Modules{Needs: map[string][]string{"a": {"b", "c"}, "b": {"c"}, "c": nil, "d": {"builtin"}, "x": {"y"}, "y": {"x"}},
		Aliases: map[string][]string{"fs-a": {"a", "d"}}}
	for name, want := range map[string][]string{"a": {"c", "b", "a"}, "fs-a": {"c", "b", "a", "d"}, "x": {"y", "x"}, "none": nil} {
		if got := m.Resolve(name); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestModuleDescriptions(t *testing.T) {
	for path, want := range map[string]string{"a/nf-nat.ko": "nf_nat", "x.ko.xz": "x", "modules.dep": ""} {
		if got := moduleName(path); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
	info := map[string][]string{"depends": {"llc,stp"}, "softdep": {"pre: br-netfilter crc32c post: x", "post: y"}}
	if got := needs(info); !slices.Equal(got, []string{"llc", "stp", "br_netfilter", "crc32c"}) {
		t.Error(got)
	}
	if _, err := modinfo([]byte("no ELF")); err == nil {
		t.Error("no error")
	}
}

func TestVersionsAreOrderedByNumber(t *testing.T) {
	names := []string{"linux-image-6.18.5+deb13-x", "linux-image-6.18.12+deb13-x", "linux-image-6.18.9+deb13-x"}
	if got := slices.MaxFunc(names, compareVersions); got != names[1] {
		t.Error(got)
	}
}

func TestVmlinuxRefuses(t *testing.T) {
	image := make([]byte, 4096)
	copy(image[0x202:], "HdrS")
	image[0x24c] = 64 // a payload of zeros
	for name, b := range map[string][]byte{"short": image[:100], "no magic": make([]byte, 4096), "unknown compression": image,
		"payload outside": append(slices.Clone(image[:0x24c]), 0xff, 0xff, 0xff, 0x7f)} {
		if _, err := vmlinux(b); !errors.Is(err, errNoVmlinux) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestArchivesStayInTheirDirectory(t *testing.T) {
	for name, head := range map[string]tar.Header{
		"dots":     {Name: "../escaped", Typeflag: tar.TypeReg, Mode: 0o644},
		"via link": {Name: "link/escaped", Typeflag: tar.TypeReg, Mode: 0o644},
	} {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		w.WriteHeader(&tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: ".."})
		w.WriteHeader(&head)
		w.Close()
		dir := t.TempDir()
		err := untar(&buf, dir+"/root", func(string) bool { return true })
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if left, _ := filepath.Glob(dir + "/escaped"); len(left) > 0 {
			t.Errorf("%s: escaped", name)
		}
	}
}

func TestFrames(t *testing.T) {
	var buf bytes.Buffer
	wire.Write(&buf, wire.Stdout, []byte("hi"))
	wire.WriteJSON(&buf, wire.Exit, wire.Status{Code: 3})
	whole := buf.String()
	if k, b, err := wire.Read(&buf); k != wire.Stdout || string(b) != "hi" || err != nil {
		t.Errorf("%c %q %v", k, b, err)
	}
	if k, b, err := wire.Read(&buf); k != wire.Exit || string(b) != `{"Code":3}` || err != nil {
		t.Errorf("%c %q %v", k, b, err)
	}
	if _, _, err := wire.Read(&buf); err != io.EOF {
		t.Errorf("end: %v", err)
	}
	for _, broken := range []string{whole[:3], whole[:6], "o\xff\xff\xff\xff"} {
		if _, _, err := wire.Read(strings.NewReader(broken)); err == nil || err == io.EOF {
			t.Errorf("%q: %v", broken, err)
		}
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	seen := 0
	tl := &tail{max: 5, word: "cd", seen: func() { seen++ }}
	for _, s := range []string{"abc", "defg", "cd", "0123456"} {
		tl.Write([]byte(s))
	}
	if tl.String() != "23456" || seen != 1 {
		t.Errorf("%s, seen %d times", tl, seen)
	}
}

// fakeMonitor answers as QEMU would, with the lines given, whatever is asked.
func fakeMonitor(t *testing.T, lines ...string) (*monitor, error) {
	t.Helper()
	ours, theirs, err := socketPairs(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(ours) })
	for _, line := range append([]string{`{"QMP": {"version": {}}}`}, lines...) {
		if _, err := theirs[0].WriteString(line + "\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Shutdown(int(theirs[0].Fd()), unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(theirs) })
	return newMonitor(ours[0])
}

func TestMonitor(t *testing.T) {
	const ok, event = `{"return": {}}`, `{"event": "MIGRATION", "data": {"status": "%"}}`
	told := func(status string) string { return strings.ReplaceAll(event, "%", status) }
	m, err := fakeMonitor(t, ok, ok, told("setup"), ok, told("active"), told("completed"), `{"error": {"desc": "no such command"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.do("migrate", map[string]any{"uri": "x"}); err != nil {
		t.Error(err)
	}
	if err := m.untilMigrated(); err != nil {
		t.Error(err)
	}
	if err := m.do("dance", nil); err == nil || err.Error() != "monitor: dance: no such command" {
		t.Error(err)
	}
	if err := m.do("cont", nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the emulator has ended: %v", err)
	}
	m, err = fakeMonitor(t, ok, ok, told("failed"))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.untilMigrated(); err == nil || !strings.Contains(err.Error(), "failed") {
		t.Error(err)
	}
	if _, err := fakeMonitor(t, ok); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

// TestSavedMachineIsOneOfItsKind: another emulator, kernel argument, initramfs or disk is another machine.
func TestSavedMachineIsOneOfItsKind(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("CONTAINR_GUEST_CACHE", cache)
	qemu := filepath.Join(cache, "qemu")
	testkit.WriteFile(t, qemu, "#!/bin/sh\necho version 1\n", 0o755)
	initrd := tempFile(t, []byte("a"))
	m := machine{kernel: Kernels[0], qemu: qemu, initrd: initrd, memory: 1024, cpus: 2}
	first, err := m.saved()
	if err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, first.dir+"/index.json", `{"Key": "`+first.key+`", "Greeting": {"Release": "6"}}`, 0o644)
	if g, ok := first.load(); !ok || g.Release != "6" {
		t.Errorf("%+v %v", g, ok)
	}
	more, security := m, m
	more.cpus, security.userland = 1, SELinux
	for name, other := range map[string]machine{"cpus": more, "userland": security} {
		if s, err := other.saved(); err != nil || s.dir == first.dir {
			t.Errorf("%s: in the same place, error %v", name, err)
		}
	}
	for name, change := range map[string]func() machine{
		"initramfs": func() machine { n := m; n.initrd = tempFile(t, []byte("b")); return n },
		"version":   func() machine { testkit.WriteFile(t, qemu, "#!/bin/sh\necho version 2\n", 0o755); return m },
	} {
		s, err := change().saved()
		if err != nil || s.dir != first.dir {
			t.Errorf("%s: in another place, error %v", name, err)
		}
		if _, ok := s.load(); ok {
			t.Errorf("%s: taken for the same", name)
		}
	}
}

func TestShellQuote(t *testing.T) {
	if got := shellQuote("a b'c"); got != `'a b'\''c'` {
		t.Error(got)
	}
}
