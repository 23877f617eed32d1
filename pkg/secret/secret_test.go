package secret

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Secrets)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s *Store, name, content string) Secret {
	t.Helper()
	v, err := s.Create(t.Context(), Secret{Name: name}, []byte(content), false)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What is kept comes back, by name, id and the beginning of the id; nothing of it is in any file, and the files are for
// their owner alone.
func TestSecretsAreSealed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	s := open(t, dir)
	content := strings.Repeat("swordfish", 3)
	v := create(t, s, "db", content)
	create(t, s, "other", "x\x00\n")
	for _, name := range []string{"db", v.ID, v.ID[:6]} {
		if got, err := s.Get(name); err != nil || got.Name != "db" || got.ID != v.ID {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{"db": content, "other": "x\x00\n"} {
		if got, err := s.Content(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		info, infoErr := e.Info()
		if err := errors.Join(err, infoErr); err != nil || bytes.Contains(data, []byte("swordfish")) || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 2 || list[0].Name != "db" {
		t.Errorf("%+v, %v", list, err)
	}
}

// Nothing is overwritten unasked; replaced content keeps its id; what is in use stays.
func TestCreateAndRemove(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "secrets"))
	v := create(t, s, "db", "old")
	if _, err := s.Create(t.Context(), Secret{Name: "db"}, []byte("new"), false); !errors.Is(err, ErrExists) {
		t.Errorf("%v", err)
	}
	got, err := s.Create(t.Context(), Secret{Name: "db"}, []byte("new"), true)
	content, readErr := s.Content("db")
	if err := errors.Join(err, readErr); err != nil || got.ID != v.ID || !got.Created.Equal(v.Created) || string(content) != "new" {
		t.Errorf("%+v, %q, %v", got, content, err)
	}
	for _, c := range []struct{ name, content string }{{"", "x"}, {"../db", "x"}, {"a/b", "x"}, {".x", "x"}, {strings.Repeat("a", 129), "x"}, {"empty", ""}, {"long", strings.Repeat("a", MaxSize+1)}} {
		if _, err := s.Create(t.Context(), Secret{Name: c.name}, []byte(c.content), false); err == nil {
			t.Errorf("%q of %d bytes was made", c.name, len(c.content))
		}
	}
	if _, err := s.Create(t.Context(), Secret{Name: "most"}, bytes.Repeat([]byte("a"), MaxSize), false); err != nil {
		t.Error(err)
	}
	if _, err := s.Remove(t.Context(), "db", func(Secret) error { return ErrInUse }); !errors.Is(err, ErrInUse) {
		t.Errorf("%v", err)
	}
	if _, err := s.Remove(t.Context(), v.ID[:8], func(Secret) error { return nil }); err != nil {
		t.Error(err)
	}
	var missing *NotFoundError
	if _, err := s.Get("mist"); !errors.As(err, &missing) || missing.Near != "most" {
		t.Errorf("%v", err)
	}
}

// A file that is another secret's, that was changed, or whose key is gone is refused, and no error says what is in it.
func TestFilesAreNotExchanged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	s := open(t, dir)
	create(t, s, "low", "swordfish-low")
	create(t, s, "high", "swordfish-high")
	refused := func(what, name string) {
		t.Helper()
		got, err := s.Content(name)
		if err == nil || got != nil || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "low.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "high.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("a file of another name", "high")
	if err := os.WriteFile(filepath.Join(dir, "high.json"), bytes.Replace(data, []byte(`"low"`), []byte(`"high"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("a file that was given another name", "high")
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, bytes.Repeat([]byte("k"), keySize), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("another key", "low")
	if err := os.WriteFile(key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("an empty key", "low")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	refused("no key", "low")
	if _, err := s.Create(t.Context(), Secret{Name: "new"}, []byte("x"), false); !errors.Is(err, ErrSealed) {
		t.Errorf("a new key was made, which opens none of the secrets: %v", err)
	}
}

// A key elsewhere is used, and not replaced when it is not there.
func TestKeyElsewhere(t *testing.T) {
	dir, elsewhere := filepath.Join(t.TempDir(), "secrets"), filepath.Join(t.TempDir(), "stick")
	s := open(t, dir)
	if err := os.Symlink(elsewhere, filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), Secret{Name: "db"}, []byte("x"), false); err == nil {
		t.Error("a key was made in the place of a link to nothing")
	}
	if err := os.WriteFile(elsewhere, bytes.Repeat([]byte("k"), keySize), 0o600); err != nil {
		t.Fatal(err)
	}
	create(t, s, "db", "x")
	if got, err := s.Content("db"); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

// On a full disk a secret stays what it was.
func TestFullDisk(t *testing.T) {
	testkit.RequireRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no tmpfs can be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := open(t, filepath.Join(dir, "secrets"))
	create(t, s, "db", "old")
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	if err := filler.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"db", "new"} {
		if _, err := s.Create(t.Context(), Secret{Name: name}, bytes.Repeat([]byte("n"), 9000), true); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := s.Content("db"); err != nil || string(got) != "old" {
		t.Errorf("%q, %v", got, err)
	}
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := s.Remove(t.Context(), "db", func(Secret) error { return nil }); err != nil {
		t.Errorf("remove on a full disk: %v", err)
	}
}

const writerEnv = "CONTAINR_TEST_SECRET_WRITER"

// TestMain is also the process that is killed: it makes, replaces and removes secrets without end.
func TestMain(m *testing.M) {
	dir := os.Getenv(writerEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	s, err := Open(dir, Secrets)
	for i := 0; err == nil; i++ {
		_, err = s.Create(context.Background(), Secret{Name: "db"}, bytes.Repeat([]byte{byte('a' + i%26)}, 5000), true)
		if err == nil {
			_, err = s.Create(context.Background(), Secret{Name: "coming"}, []byte("here"), true)
		}
		if err == nil {
			_, err = s.Remove(context.Background(), "coming", func(Secret) error { return nil })
		}
		if i == 0 {
			os.Stdout.WriteString("begun\n")
		}
	}
	os.Stderr.WriteString(err.Error())
	os.Exit(1)
}

// Whoever is killed at whatever moment leaves secrets that can be opened, whole, and nothing in the way of the next one.
func TestKilledWriters(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	s := open(t, dir)
	chance := rand.New(rand.NewPCG(7, 7))
	for round := range 40 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatalf("round %d: it did not begin: %v", round, err)
		}
		time.Sleep(time.Duration(chance.IntN(8000)) * time.Microsecond) // the moment, not a wait for something
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		list, err := s.List()
		if err != nil || len(list) == 0 {
			t.Fatalf("round %d: %v, %v", round, list, err)
		}
		for _, v := range list {
			got, err := s.Content(v.Name)
			if err != nil || v.Name == "db" && (len(got) != 5000 || len(bytes.Trim(got, string(got[:1]))) > 0) {
				t.Fatalf("round %d: %s: %d bytes, %v", round, v.Name, len(got), err)
			}
		}
	}
	create(t, s, "last", "x")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != keyFile && !strings.HasSuffix(e.Name(), suffix) {
			t.Errorf("%s is left", e.Name())
		}
	}
}
