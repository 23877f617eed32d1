package testkit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFingerprintTells changes one property at a time: each must show, and be gone when undone.
func TestFingerprintTells(t *testing.T) {
	dir := t.TempDir()
	f := filepath.Join(dir, "d/f")
	when := time.Unix(1e9, 123456789)
	WriteFile(t, f, "one", 0o644)
	if err := os.Symlink("f", filepath.Join(dir, "d/l")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "d/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(f, when, when)
	base := Fingerprint(t, dir)
	if len(base) != 5 {
		t.Fatalf("%d entries in %v", len(base), base)
	}
	if d := base.Diff(Fingerprint(t, dir)); d != nil {
		t.Fatalf("two readings differ: %v", d)
	}
	changes := map[string]func() error{
		"content": func() error {
			if err := os.WriteFile(f, []byte("two"), 0o644); err != nil {
				return err
			}
			return os.Chtimes(f, when, when)
		},
		"mode":  func() error { return os.Chmod(f, 0o600) },
		"time":  func() error { return os.Chtimes(f, when, when.Add(time.Nanosecond)) },
		"xattr": func() error { return unix.Setxattr(f, "user.x", []byte("y"), 0) },
		"link":  func() error { return os.Link(f, filepath.Join(dir, "g")) },
	}
	for name, change := range changes {
		before := Fingerprint(t, dir)
		if err := change(); err != nil {
			if name == "xattr" && err == unix.ENOTSUP {
				t.Logf("this file system has no user attributes")
				continue
			}
			t.Fatal(name, err)
		}
		if d := before.Diff(Fingerprint(t, dir)); len(d) == 0 {
			t.Errorf("%s: no difference", name)
		}
	}
	d := strings.Join(base.Diff(Fingerprint(t, dir)), "\n")
	for _, want := range []string{"- d/f mode=100644", "+ d/f mode=100600", "+ g mode="} {
		if !strings.Contains(d, want) {
			t.Errorf("no %q in\n%s", want, d)
		}
	}
}
