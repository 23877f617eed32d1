package safepath

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRewrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	for _, c := range []struct {
		there, was, now, want string
		has                   bool
	}{
		{"old", "old", "new and longer", "new and longer", true}, {"old and longer", "old and longer", "new", "new", true}, {"", "old", "new", "new", true},
		{"new", "old", "new", "new", true}, {"own", "old", "new", "own", false}, {"old and much longer", "old", "new", "old and much longer", false},
	} {
		if err := os.WriteFile(path, []byte(c.there), 0o644); err != nil {
			t.Fatal(err)
		}
		has, err := Rewrite(path, []byte(c.was), []byte(c.now))
		if text, _ := os.ReadFile(path); err != nil || has != c.has || string(text) != c.want {
			t.Errorf("%+v: %v, %v, %q", c, has, err, text)
		}
	}
	// Something else in its place: a fifo is not waited for, a link not followed, a file without end not read.
	dir := t.TempDir()
	other, fifo, link, endless := filepath.Join(dir, "other"), filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "endless")
	if err := errors.Join(os.WriteFile(other, []byte("old"), 0o600), unix.Mkfifo(fifo, 0o600), os.Symlink(other, link), os.WriteFile(endless, nil, 0o600), os.Truncate(endless, 1<<40)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{fifo, link, endless} {
		if has, err := Rewrite(p, []byte("old"), []byte("new")); has || p != endless && err == nil {
			t.Errorf("%s: %v, %v", p, has, err)
		}
		if _, err := ReadOwn(p, 1<<10); err == nil {
			t.Errorf("%s was read", p)
		}
	}
	if text, _ := os.ReadFile(other); string(text) != "old" {
		t.Errorf("what the link leads to has %q", text)
	}
}
