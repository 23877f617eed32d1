package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/durable"
)

func openStore(t *testing.T) *Store {
	t.Helper()
	dir := t.TempDir()
	s, err := OpenStore(filepath.Join(dir, "root"), filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s *Store, name string, fleeting bool) Record {
	t.Helper()
	r, err := s.Reserve(t.Context(), NewID(), name, fleeting)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := r.Commit(Record{Created: time.Now(), Config: Config{Image: "base"}, Spec: &specs.Spec{Hostname: "h"}})
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// expectEmpty checks that nothing of any container is left in the store.
func expectEmpty(t *testing.T, s *Store) {
	t.Helper()
	for _, dir := range []string{s.kept(""), s.fleeting(""), s.name("")} {
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) > 0 {
			t.Errorf("%s: %v, error %v; want nothing", dir, entries, err)
		}
	}
}

func TestStoreLife(t *testing.T) {
	for _, fleeting := range []bool{false, true} {
		t.Run(fmt.Sprintf("fleeting=%v", fleeting), func(t *testing.T) {
			s := openStore(t)
			rec := create(t, s, "web", fleeting)
			for _, ref := range []string{"web", rec.ID, rec.ID[:12], rec.ID[:3]} {
				got, err := s.Get(ref)
				if err != nil || got.ID != rec.ID || got.Name != "web" || got.Spec == nil || got.Spec.Hostname != "h" {
					t.Fatalf("Get(%s): %+v, error %v", ref, got, err)
				}
			}
			if st, err := s.State(rec.ID); err != nil || st.Status != Created {
				t.Errorf("state %+v, error %v", st, err)
			}
			err := s.Update(t.Context(), rec.ID, func(st *State) error { st.Status, st.PID = Running, 42; return nil })
			if err != nil {
				t.Fatal(err)
			}
			if st, _ := s.State(rec.ID); st.Status != Running || st.PID != 42 {
				t.Errorf("state %+v after the update", st)
			}
			if err := s.Rename(t.Context(), rec.ID, "web"); err == nil || errors.Is(err, ErrNameInUse) {
				t.Errorf("its own name again: %v", err)
			}
			if err := s.Remove(t.Context(), rec.ID, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Get("web"); !errors.Is(err, ErrNotFound) {
				t.Errorf("Get after Remove: %v", err)
			}
			if err := s.Remove(t.Context(), rec.ID, nil); !errors.Is(err, ErrNotFound) {
				t.Errorf("a second Remove: %v", err)
			}
			expectEmpty(t, s)
		})
	}
}

func TestDuplicateNameIsRefusedAndLeavesNothing(t *testing.T) {
	s := openStore(t)
	first := create(t, s, "web", false)
	id := NewID()
	_, err := s.Reserve(t.Context(), id, "web", true)
	if !errors.Is(err, ErrNameInUse) || !strings.Contains(err.Error(), first.ID[:12]) {
		t.Errorf("error %v, want ErrNameInUse by %s", err, first.ID[:12])
	}
	if _, err := s.Dir(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("the loser's directory is left: %v", err)
	}
	if err := s.Remove(t.Context(), first.ID, nil); err != nil {
		t.Fatal(err)
	}
	create(t, s, "web", false)
}

func TestReservedNameIsInUseUntilCancelled(t *testing.T) {
	s := openStore(t)
	r, err := s.Reserve(t.Context(), NewID(), "web", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reserve(t.Context(), NewID(), "web", false); !errors.Is(err, ErrNameInUse) {
		t.Errorf("error %v, want ErrNameInUse", err)
	}
	if _, err := s.Get("web"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a container that is being made can be found: %v", err)
	}
	if swept, err := s.Sweep(t.Context(), nil); err != nil || len(swept) > 0 {
		t.Errorf("Sweep took %v, error %v", swept, err)
	}
	if err := r.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	expectEmpty(t, s)
}

// The helper process reserves a name and dies without a word.
const crashStore = "CONTAINER_TEST_CRASH_STORE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashStore); dir != "" {
		s, err := OpenStore(filepath.Join(dir, "root"), filepath.Join(dir, "run"))
		if err != nil {
			os.Exit(2)
		}
		if _, err := s.Reserve(context.Background(), NewID(), "web", false); err != nil {
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestCrashFreesTheName(t *testing.T) {
	s := openStore(t)
	crash := func() {
		t.Helper()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashStore+"="+filepath.Dir(s.root))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	crash()
	rec := create(t, s, "web", false)
	if swept, err := s.Sweep(t.Context(), nil); err != nil || len(swept) != 1 {
		t.Errorf("Sweep took %v, error %v; want the crashed one", swept, err)
	}
	if got, err := s.Get("web"); err != nil || got.ID != rec.ID {
		t.Errorf("Get: %+v, error %v", got, err)
	}
	if err := s.Remove(t.Context(), rec.ID, nil); err != nil {
		t.Fatal(err)
	}
	crash()
	if _, err := s.Sweep(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	expectEmpty(t, s)
}

func TestOneProcessWinsAName(t *testing.T) {
	s := openStore(t)
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() {
			r, err := s.Reserve(t.Context(), NewID(), "web", i%2 == 0)
			if err == nil {
				_, err = r.Commit(Record{})
			}
			errs[i] = err
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, ErrNameInUse) {
			t.Error(err)
		}
	}
	if list, err := s.List(); won != 1 || err != nil || len(list) != 1 {
		t.Errorf("%d won, %d containers, error %v; want 1", won, len(list), err)
	}
}

func TestUpdatesAreNotLost(t *testing.T) {
	s := openStore(t)
	rec := create(t, s, "", true)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				if err := s.Update(t.Context(), rec.ID, func(st *State) error { st.PID++; return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if st, err := s.State(rec.ID); err != nil || st.PID != 80 {
		t.Errorf("PID %d, error %v; want 80 increments", st.PID, err)
	}
	boom := errors.New("boom")
	if err := s.Update(t.Context(), rec.ID, func(st *State) error { st.PID = 0; return boom }); !errors.Is(err, boom) {
		t.Error(err)
	}
	if st, _ := s.State(rec.ID); st.PID != 80 {
		t.Errorf("a failed change was written: %d", st.PID)
	}
}

func TestListIsNewestFirstAndToleratesDamage(t *testing.T) {
	s := openStore(t)
	a, b := create(t, s, "", false), create(t, s, "", true)
	bad := create(t, s, "bad", false)
	if err := os.WriteFile(filepath.Join(s.kept(bad.ID), recordFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := create(t, s, "newer", false)
	if err := os.WriteFile(filepath.Join(s.kept(newer.ID), recordFile), []byte(`{"version":99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := s.List()
	if len(list) != 2 || list[0].ID != b.ID || list[1].ID != a.ID {
		t.Errorf("list %v", list)
	}
	if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), bad.ID) {
		t.Errorf("error %v, want the two damaged ones named", err)
	}
}

func TestGetErrors(t *testing.T) {
	s := openStore(t)
	for _, id := range []string{strings.Repeat("ab", 32), strings.Repeat("ac", 32)} {
		r, err := s.Reserve(t.Context(), id, "", true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Commit(Record{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Get("a"); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("a: %v", err)
	}
	if _, err := s.Get("ab"); err != nil {
		t.Errorf("ab: %v", err)
	}
	for _, ref := range []string{"", "zz", "../x", ".."} {
		if _, err := s.Get(ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestStoreIsPrivate(t *testing.T) {
	s := openStore(t)
	rec := create(t, s, "", false)
	for _, path := range []string{s.kept(""), s.fleeting(""), s.name(""), s.kept(rec.ID)} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, error %v", path, info.Mode(), err)
		}
	}
}

func TestNewID(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		id := NewID()
		if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" || seen[id] || isDecimal(id[:12]) {
			t.Errorf("id %q", id)
		}
		seen[id] = true
	}
}

func TestNames(t *testing.T) {
	for range 200 {
		if name := RandomName(); ValidateName(name) != nil || strings.Count(name, "_") != 1 {
			t.Errorf("random name %q", name)
		}
	}
	for _, words := range [][]string{nameAdjectives[:], nameNouns[:]} {
		sorted := slices.Compact(slices.Sorted(slices.Values(words)))
		if len(sorted) != 64 || !slices.Equal(sorted, words) {
			t.Errorf("%d different words, want 64 in order", len(sorted))
		}
	}
	for _, name := range []string{"ab", "a.b-c_d", "9x", strings.Repeat("a", 128)} {
		if err := ValidateName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "a", ".a", "-a", "_a", "a/b", "..", "a b", "ä", strings.Repeat("a", 129)} {
		if ValidateName(name) == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestHostDevices(t *testing.T) {
	got, err := HostDevices([]Device{{Host: "/dev/null"}, {Host: "/dev/zero"}})
	if err != nil {
		t.Fatal(err)
	}
	if d := got["/dev/null"]; len(d) != 1 || d[0].Type != "c" || d[0].Major != 1 || d[0].Minor != 3 || d[0].Path != "/dev/null" {
		t.Errorf("/dev/null: %+v", d)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	if got, err := HostDevices([]Device{{Host: link}}); err != nil || got[link][0].Minor != 3 {
		t.Errorf("a link to a device: %+v, error %v", got, err)
	}
	for path, want := range map[string]string{"/dev/no-such-device": "no such file", "/etc/passwd": "not a device"} {
		if _, err := HostDevices([]Device{{Host: path}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	all, err := AllHostDevices()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if strings.HasPrefix(d.Path, "/dev/pts/") || d.Path == "/dev/console" {
			t.Errorf("%s is private to every container", d.Path)
		}
	}
}

// A directory that somebody is removing, or was killed over, is looked at by others meanwhile: they put nothing into it,
// with which it could not be removed.
func TestASweepMakesNothing(t *testing.T) {
	s := openStore(t)
	rec := create(t, s, "web", false)
	dir, err := s.Dir(rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	err = s.Remove(t.Context(), rec.ID, func() error {
		os.Remove(filepath.Join(dir, lockFile))
		if _, err := s.Sweep(t.Context(), func(string) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("error %v, want that of what is removed beside it", err)
		}
		if _, err := os.Stat(filepath.Join(dir, lockFile)); err == nil {
			t.Error("the sweep has made a lock")
		}
		return nil
	})
	if _, gone := os.Stat(dir); err != nil || gone == nil {
		t.Errorf("error %v, and the directory is there: %v", err, gone == nil)
	}
}

// A container whose renaming was cut short at any step has one name, the one of its record, and the other is free: for
// containers, and for the next renaming. Nothing is left of either when the container is removed.
func TestARenamingThatIsCutShort(t *testing.T) {
	for _, written := range []bool{false, true} {
		s := openStore(t)
		rec := create(t, s, "old", false)
		dir := s.kept(rec.ID)
		if err := os.WriteFile(filepath.Join(dir, renameFile), []byte(`["old","new"]`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(rec.ID, s.name("new")); err != nil {
			t.Fatal(err)
		}
		has, free := "old", "new"
		if written {
			has, free = free, has
			record, err := s.load(rec.ID)
			if err == nil {
				record.Name = "new"
				err = writeJSON(filepath.Join(dir, recordFile), record, durable.Options{})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if got, err := s.Get(has); err != nil || got.ID != rec.ID {
			t.Errorf("Get(%s): %+v, error %v", has, got, err)
		}
		if got, err := s.Get(free); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get(%s): %+v, error %v", free, got, err)
		}
		other := create(t, s, free, false)
		if err := s.Rename(t.Context(), rec.ID, free); !errors.Is(err, ErrNameInUse) {
			t.Errorf("the other's name: %v", err)
		}
		if err := s.Remove(t.Context(), other.ID, nil); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Rename(t.Context(), rec.ID, "third"), s.Remove(t.Context(), rec.ID, nil)); err != nil {
			t.Fatal(err)
		}
		expectEmpty(t, s)
	}
}
