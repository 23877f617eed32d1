package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestOptionsOfTheDriver(t *testing.T) {
	for _, test := range []struct {
		options map[string]string
		want    Place
		err     string
	}{
		{nil, Place{}, ""},
		{map[string]string{"type": "none", "device": "/srv/", "o": "bind"}, Place{"bind", "/srv", []string{"bind"}, 0}, ""},
		{map[string]string{"type": "none", "device": "/srv", "o": "ro,rbind,rslave"}, Place{"bind", "/srv", []string{"rbind", "ro", "rslave"}, 0}, ""},
		{map[string]string{"type": "bind", "device": "/srv"}, Place{"bind", "/srv", []string{"bind"}, 0}, ""},
		{map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=5,noexec"}, Place{"tmpfs", "tmpfs", []string{"size=1m", "uid=5", "noexec"}, 0}, ""},
		{map[string]string{"type": "tmpfs"}, Place{"tmpfs", "tmpfs", nil, 0}, ""},
		{map[string]string{"type": "ext4", "device": "/dev/sdb1", "o": "noatime,data=journal"}, Place{"ext4", "/dev/sdb1", []string{"noatime", "data=journal"}, 0}, ""},
		{map[string]string{"type": "overlay", "o": "lowerdir=/a:/b"}, Place{"overlay", "overlay", []string{"lowerdir=/a:/b"}, 0}, ""},
		{map[string]string{"o": "ro"}, Place{}, "option type is missing"},
		{map[string]string{"typ": "tmpfs"}, Place{}, "did you mean type?"},
		{map[string]string{"type": "none", "device": "/srv"}, Place{}, "needs o=bind"},
		{map[string]string{"type": "none", "device": "srv", "o": "bind"}, Place{}, "name a directory"},
		{map[string]string{"type": "none", "device": "/srv", "o": "bind,uid=5"}, Place{}, "attributes and propagations alone"},
		{map[string]string{"type": "ext4", "device": "/srv", "o": "bind"}, Place{}, "a directory of the host has type=none"},
		{map[string]string{"type": "tmpfs", "o": "sise=1m"}, Place{}, "see tmpfs(5)"},
		{map[string]string{"type": "tmpfs", "o": "size="}, Place{}, "see tmpfs(5)"},
		{map[string]string{"type": "ext4", "device": "sdb1"}, Place{}, "name the block device"},
		{map[string]string{"type": "../ext4", "device": "/dev/sdb1"}, Place{}, "not the name of a file system"},
		{map[string]string{"type": "ext4", "device": "/img", "o": "loop"}, Place{}, "makes no loop device"},
		{map[string]string{"type": "ext4", "device": "/dev/x", "o": "containr.subpath=../.."}, Place{}, "not an option of a volume"},
		{map[string]string{"type": "ext4", "device": "/dev/x", "o": "remount"}, Place{}, "not an option of a volume"},
		{map[string]string{"type": "ext4", "device": "/dev/x", "o": "rshared"}, Place{}, "not an option of a volume"},
		{map[string]string{"type": "none", "device": "/a\x00b", "o": "bind"}, Place{}, "zero byte"},
	} {
		got, err := ParseOptions(test.options)
		switch {
		case test.err == "" && (err != nil || !reflect.DeepEqual(got, test.want)):
			t.Errorf("%v: %+v, %v, want %+v", test.options, got, err, test.want)
		case test.err != "" && (!errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), test.err)):
			t.Errorf("%v: %v, want %q", test.options, err, test.err)
		}
	}
}

func TestFileSystemsThatCannotBeVolumes(t *testing.T) {
	const known, modules = "nodev\tproc\n\text4\nnodev\toverlay\n", "kernel/fs/xfs/xfs.ko.zst: kernel/lib/libcrc32c.ko\nkernel/fs/nfs/nfs.ko:\n"
	for kind, want := range map[string]string{"ext4": "", "xfs": "", "overlay": "", "proc": "not on a device", "btrfs": "no module of it", "nfs": "network of each container"} {
		got := Place{Type: kind}.problem(known, modules)
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}

// What is elsewhere is never filled, replaced or removed.
func TestContentElsewhereIsLeftAlone(t *testing.T) {
	ctx := context.Background()
	s, err := Open(filepath.Join(t.TempDir(), "volumes"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("the host's"), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := s.Create(ctx, Volume{Name: "v", Options: map[string]string{"type": "none", "device": dir, "o": "bind"}}, nil)
	if err != nil || v.Version != layoutOptions {
		t.Fatalf("layout %d, %v", v.Version, err)
	}
	if done, err := s.Fill(ctx, "v", idle, fillWith(content)); done || err != nil {
		t.Errorf("filled: %v, %v", done, err)
	}
	if err := s.Replace(ctx, "v", func() error { return nil }, fillWith(content)); !errors.Is(err, ErrElsewhere) {
		t.Errorf("replaced: %v", err)
	}
	to := filepath.Join(t.TempDir(), "copy")
	if err := s.Copy("v", to); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(to, "file")); string(text) != "the host's" {
		t.Errorf("the copy has %q, %v", text, err)
	}
	if _, err := s.Remove(ctx, "v", nothingAgainst); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(file); string(text) != "the host's" {
		t.Errorf("the host's file has %q, %v", text, err)
	}
}
