package snapshot

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

func TestReadFileSeesTheMergedTree(t *testing.T) {
	needRoot(t)
	s := open(t, Options{})
	chain := unpack(t, s,
		archive(t, dir("etc", 0o755), reg("etc/passwd", "old"), reg("etc/group", "group"), reg("etc/gone", "x"),
			dir("usr", 0o755), dir("usr/lib", 0o755), reg("usr/lib/os-release", "debian")),
		archive(t, reg("etc/passwd", "new"), whiteout("etc/.wh.gone"), symlink("etc/os-release", "../usr/lib/os-release"),
			symlink("lib", "usr/lib"), symlink("etc/absolute", "/lib/os-release"), symlink("etc/climbing", "../../../../etc/group"),
			symlink("etc/circle", "circle"), symlink("etc/nowhere", "/none"), fifo("etc/fifo"), reg("big", strings.Repeat("x", 100))),
	)
	for name, want := range map[string]string{
		"/etc/passwd": "new", "etc/group": "group", "/etc/os-release": "debian", "/lib/os-release": "debian",
		"/etc/absolute": "debian", "/etc/climbing": "group", "/etc/../../etc/group": "group",
	} {
		if got, err := s.ReadFile(chain, name, 50); err != nil || string(got) != want {
			t.Errorf("%s: %q, error %v; want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]error{
		"/etc/gone": fs.ErrNotExist, "/none": fs.ErrNotExist, "/etc/nowhere": fs.ErrNotExist, "/etc/passwd/x": fs.ErrNotExist,
		"/etc": ErrNotRegular, "/etc/fifo": ErrNotRegular, "/": ErrNotRegular, "/big": ErrTooLarge,
	} {
		if got, err := s.ReadFile(chain, name, 50); !errors.Is(err, want) {
			t.Errorf("%s: %q, error %v; want %v", name, got, err, want)
		}
	}
	if _, err := s.ReadFile(chain, "/etc/circle", 50); err == nil {
		t.Error("a circle of links has an end")
	}
}
