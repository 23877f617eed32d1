package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s: %q, %v; want %q", path, got, err, want)
	}
}

// A file is there as a whole or not at all, whatever was there, and a link is not followed to somebody else's file.
func TestWriteFileReplacesFilesAlone(t *testing.T) {
	dir := t.TempDir()
	file, link, other := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "other")
	if err := WriteFile(file, 0o600, text("one")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if err := WriteFile(file, 0o600, func(w io.Writer) error { return errors.Join(text("half")(w), broken) }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	wantFile(t, file, "one")
	if err := errors.Join(os.WriteFile(other, []byte("other's"), 0o600), os.Symlink("other", link)); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(link, 0o600, text("two")); err != nil {
		t.Fatal(err)
	}
	wantFile(t, other, "other's")
	wantFile(t, link, "two")
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, "loop"), 0o600, text("")); !errors.Is(err, unix.ELOOP) {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 4 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A fifo stays one, and so does a link to a stream, which goes on where it is.
func TestWriteFileLeavesStreamsAndTheirLinks(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := WriteFile(fifo, 0o600, text("through")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 7)
	if _, err := io.ReadFull(reader, got); err != nil || string(got) != "through" {
		t.Errorf("read %q, %v", got, err)
	}

	stream, err := os.Create(filepath.Join(dir, "stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if err := text("before ")(stream); err != nil {
		t.Fatal(err)
	}
	// As /dev/stdout is: a link in a directory of its own to one of the links in /proc.
	link := filepath.Join(dir, "stdout")
	if err := os.Symlink("/proc/self/fd/"+fmt.Sprint(stream.Fd()), link); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"one ", "two"} {
		if err := WriteFile(link, 0o600, text(s)); err != nil {
			t.Fatal(err)
		}
	}
	wantFile(t, stream.Name(), "before one two")
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link: %v, %v", info, err)
	}
}
