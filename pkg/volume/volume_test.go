package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
)

// The test binary plays other processes when this variable names their role.
const roleVariable = "VOLUME_TEST_ROLE"

var roles = map[string]func(*Store) error{
	"create": func(s *Store) error {
		_, err := s.Create(context.Background(), Volume{Name: "made"}, content)
		return err
	},
	"fill": func(s *Store) error {
		_, err := s.Fill(context.Background(), "empty", idle, fillWith(content))
		return err
	},
	"remove": func(s *Store) error {
		_, err := s.Remove(context.Background(), "whole", nothingAgainst)
		return err
	},
	"replace": func(s *Store) error {
		return s.Replace(context.Background(), "whole", func() error { return nil }, fillWith(content))
	},
	"clone": func(s *Store) error {
		_, err := s.Create(context.Background(), Volume{Name: "made"}, func(dir string) error { return s.Copy("whole", dir) })
		return err
	},
	"sweep": func(s *Store) error { return s.Sweep(context.Background()) },
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		s, err := Open(os.Args[1])
		if err == nil {
			err = roles[role](s)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func idle() (bool, error)         { return true, nil }
func nothingAgainst(Volume) error { return nil }
func open(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "volumes"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// files is how many files content makes.
const files = 20

// content is what volumes are filled with here.
func content(dir string) error {
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), bytes.Repeat([]byte{byte(i)}, 5000), 0o640); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o751)
}

// fillWith makes the directory first, as Fill wants it.
func fillWith(fill func(string) error) func(string) error {
	return func(dir string) error {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		return fill(dir)
	}
}

// count says how many files a volume has; one that is there and not whole fails the test.
func count(t testing.TB, s *Store, name string) int {
	t.Helper()
	entries, err := os.ReadDir(s.Path(name))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(s.Path(name), e.Name()))
		if err != nil || len(data) != 5000 {
			t.Errorf("volume %s: %s has %d bytes, %v", name, e.Name(), len(data), err)
		}
	}
	return len(entries)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, s *Store, name string, fill func(string) error) Volume {
	t.Helper()
	v, err := s.Create(t.Context(), Volume{Name: name}, fill)
	must(t, err)
	return v
}

func TestVolumesAreMadeFoundAndRemoved(t *testing.T) {
	s := open(t)
	create(t, s, "b", content)
	create(t, s, "a", nil)
	list, err := s.List()
	if err != nil || len(list) != 2 || list[0].Name != "a" || list[1].Name != "b" {
		t.Fatalf("got %v, %v", list, err)
	}
	if _, err := s.Create(t.Context(), Volume{Name: "a"}, nil); !errors.Is(err, ErrExists) {
		t.Errorf("made twice: %v", err)
	}
	create(t, s, "database", nil)
	_, err = s.Get("databse")
	var missing *NotFoundError
	if !errors.As(err, &missing) || missing.Near != "database" {
		t.Errorf("got %v, want the name that is near", err)
	}
	refused := errors.New("no")
	if _, err := s.Remove(t.Context(), "b", func(Volume) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v, want what the check said", err)
	}
	if count(t, s, "b") != files {
		t.Error("a volume that was not to be removed has lost files")
	}
	_, err = s.Remove(t.Context(), "b", nothingAgainst)
	must(t, err)
	if _, err := s.Get("b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want that it is gone", err)
	}
	for _, name := range []string{"", ".", "..", "a/b", ".hidden", "a@", "@a", "a@b@c", strings.Repeat("x", 129)} {
		if _, err := s.Create(t.Context(), Volume{Name: name}, nil); !errors.Is(err, ErrName) {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

func TestFailedContentLeavesNoVolume(t *testing.T) {
	s := open(t)
	failure := errors.New("the disk is full")
	_, err := s.Create(t.Context(), Volume{Name: "a"}, func(dir string) error { return errors.Join(content(dir), failure) })
	if !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	left(t, s, 0)
	create(t, s, "a", nil)
	if _, err := s.Fill(t.Context(), "a", idle, fillWith(func(dir string) error { return errors.Join(content(dir), failure) })); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	if n := count(t, s, "a"); n != 0 {
		t.Errorf("%d files are left of a copy that failed", n)
	}
	entries, err := os.ReadDir(s.path("a"))
	if err != nil || len(entries) != 3 {
		t.Errorf("got %v, %v; want volume.json, data and lock", entries, err)
	}
}

// left checks how many entries the store has.
func left(t testing.TB, s *Store, want int) {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) != want {
		t.Errorf("got %v, %v; want %d entries", entries, err, want)
	}
}

func TestOnlyEmptyVolumesAreFilled(t *testing.T) {
	s := open(t)
	create(t, s, "a", nil)
	done, err := s.Fill(t.Context(), "a", func() (bool, error) { return false, nil }, fillWith(content))
	if done || err != nil || count(t, s, "a") != 0 {
		t.Errorf("filled under the eyes of a container: %v, %v", done, err)
	}
	// Somebody writes to it while its content is prepared: what he wrote stays.
	done, err = s.Fill(t.Context(), "a", idle, fillWith(func(dir string) error {
		return errors.Join(content(dir), os.WriteFile(filepath.Join(s.Path("a"), "his"), make([]byte, 5000), 0o600))
	}))
	if done || err != nil || count(t, s, "a") != 1 {
		t.Errorf("got %v, %v and %d files, want the one that he wrote", done, err, count(t, s, "a"))
	}
	must(t, os.Remove(filepath.Join(s.Path("a"), "his")))
	done, err = s.Fill(t.Context(), "a", idle, fillWith(content))
	if !done || err != nil || count(t, s, "a") != files {
		t.Errorf("got %v, %v and %d files", done, err, count(t, s, "a"))
	}
	if info, err := os.Stat(s.Path("a")); err != nil || info.Mode().Perm() != 0o751 {
		t.Errorf("the top has mode %v, %v; want that of what was copied", info.Mode(), err)
	}
	done, err = s.Fill(t.Context(), "a", idle, func(string) error { t.Error("asked to fill what is full"); return nil })
	if done || err != nil {
		t.Errorf("got %v, %v", done, err)
	}
}

func TestAHeldVolumeIsNotRemoved(t *testing.T) {
	s := open(t)
	create(t, s, "a", nil)
	held, err := s.Hold(t.Context(), "a")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Remove(ctx, "a", nothingAgainst); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want to have waited", err)
	}
	held.Release()
	_, err = s.Remove(t.Context(), "a", nothingAgainst)
	must(t, err)
	if _, err := s.Hold(t.Context(), "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// Who waits for the lock of a volume that is removed, and made anew, gets that of the new one.
func TestALockIsOfTheVolumeThatIsThere(t *testing.T) {
	s := open(t)
	create(t, s, "a", nil)
	lock, err := durable.Acquire(t.Context(), s.path("a", lockFile), durable.Exclusive)
	must(t, err)
	got := make(chan error)
	go func() {
		held, err := s.Hold(t.Context(), "a")
		if err == nil && !held.IsOf(s.path("a", lockFile)) {
			err = errors.New("the lock is not that of the volume")
		}
		got <- err
	}()
	info, err := os.Stat(s.path("a", lockFile))
	must(t, err)
	for waiter := fmt.Sprintf(":%d ", info.Sys().(*syscall.Stat_t).Ino); ; runtime.Gosched() {
		locks, err := os.ReadFile("/proc/locks")
		must(t, err)
		if _, waits, _ := strings.Cut(string(locks), "-> FLOCK"); strings.Contains(waits, waiter) {
			break
		}
	}
	must(t, os.Rename(s.path("a"), s.path(".old-1")))
	create(t, s, "a", nil)
	must(t, lock.Release())
	must(t, <-got)
}

func TestManyMakeTheSameVolume(t *testing.T) {
	s := open(t)
	var wg sync.WaitGroup
	made := make(chan bool, 16)
	for range cap(made) {
		wg.Go(func() {
			other, err := Open(s.dir) // as another process would
			if err == nil {
				_, err = other.Create(t.Context(), Volume{Name: "a"}, content)
			}
			if err != nil && !errors.Is(err, ErrExists) {
				t.Error(err)
			}
			made <- err == nil
		})
	}
	wg.Wait()
	close(made)
	n := 0
	for ok := range made {
		if ok {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d were told that they made it", n)
	}
	if count(t, s, "a") != files {
		t.Error("it is not whole")
	}
	left(t, s, 1)
}

// A process that is killed at any of its calls leaves volumes as they were or as they were to be, and what is left besides
// goes with the next one.
func TestKilledAtEveryCall(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed: it kills at each call")
	}
	for _, role := range []string{"create", "fill", "remove", "replace", "clone", "sweep"} {
		t.Run(role, func(t *testing.T) {
			killed := 0
			for n := 1; ; n++ {
				s := prepared(t, role)
				cmd := exec.Command(strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace="+calls, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", calls, n),
					"/proc/self/exe", s.dir)
				self, err := os.Executable()
				must(t, err)
				cmd.Args[len(cmd.Args)-2] = self
				// One thread makes the calls, so that they can be counted.
				cmd.Env = append(os.Environ(), roleVariable+"="+role, "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1")
				out, err := cmd.CombinedOutput()
				look(t, s, role, err == nil, n)
				if t.Failed() {
					t.Fatalf("killed at call %d: %s", n, out)
				}
				if err == nil {
					break
				}
				killed++
			}
			if killed < 5 {
				t.Errorf("killed at %d calls only", killed)
			}
			t.Logf("killed at %d calls", killed)
		})
	}
}

// calls are those that change something.
const calls = "mkdirat,openat,renameat,renameat2,rename,unlinkat,fchmodat,fsync,syncfs,write,copy_file_range,linkat,flock"

// prepared makes a store for a role: an empty volume, a whole one, and what a crash has left.
func prepared(t *testing.T, role string) *Store {
	s := open(t)
	create(t, s, "empty", nil)
	create(t, s, "whole", content)
	if role == "sweep" {
		must(t, os.Rename(s.path("whole"), s.path(".old-1")))
		create(t, s, "whole", content)
	}
	return s
}

// look checks what a role has left, and that the next one finds all in order.
func look(t *testing.T, s *Store, role string, done bool, n int) {
	t.Helper()
	list, err := s.List()
	must(t, err)
	have := map[string]int{}
	for _, v := range list {
		have[v.Name] = count(t, s, v.Name)
	}
	empty, isEmpty := have["empty"]
	whole, isWhole := have["whole"]
	made, isMade := have["made"]
	switch {
	case !isEmpty || empty != 0 && (role != "fill" || empty != files):
		t.Errorf("call %d: the empty volume has %d files", n, empty)
	case role != "remove" && !isWhole || isWhole && whole != files:
		t.Errorf("call %d: the whole volume has %d files", n, whole)
	case isMade && made != files:
		t.Errorf("call %d: the new volume has %d files", n, made)
	case done && (role == "create" || role == "clone") && !isMade, done && role == "fill" && empty != files, done && role == "remove" && isWhole:
		t.Errorf("%s did nothing", role)
	}
	// The same once more works, and takes away what is left.
	s.Remove(t.Context(), "made", nothingAgainst)
	if err := s.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := s.Fill(t.Context(), "empty", idle, fillWith(content)); err != nil || count(t, s, "empty") != files {
		t.Errorf("call %d: it cannot be filled any more: %v", n, err)
	}
	entries, err := os.ReadDir(s.path("empty"))
	if err != nil || len(entries) != 3 {
		t.Errorf("call %d: left: %v %v", n, entries, err)
	}
	want := 1
	if isWhole {
		want++
	}
	left(t, s, want)
}

// Fill and create on a disk that is full leave what was.
func TestAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a small disk needs root")
	}
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"))
	defer unix.Unmount(dir, 0)
	s, err := Open(filepath.Join(dir, "volumes"))
	must(t, err)
	create(t, s, "a", nil)
	if _, err := s.Create(t.Context(), Volume{Name: "b"}, content); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v, want that the disk is full", err)
	}
	if _, err := s.Fill(t.Context(), "a", idle, fillWith(content)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v, want that the disk is full", err)
	}
	left(t, s, 1)
	if count(t, s, "a") != 0 {
		t.Error("half a copy stays")
	}
}
