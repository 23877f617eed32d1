package durable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestWriteFileReplacesWholeContent(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	for _, want := range []string{"a longer first version", "second", ""} {
		if err := WriteFile(path, []byte(want), Options{Mode: 0o640}); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Fatalf("read back %q, %v; want %q", got, err, want)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v; want 0640", info.Mode(), err)
	}
	expectNames(t, dir, "state.json")
}

// A reader beside many writers must only ever see whole versions.
func TestWriteFileIsAtomicForReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	version := func(c byte) []byte { return bytes.Repeat([]byte{c}, 64<<10) }
	if err := WriteFile(path, version('a'), Options{Volatile: true}); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for _, c := range []byte("abcd") {
		writers.Go(func() {
			for range 25 {
				if err := WriteFile(path, version(c), Options{Volatile: true}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for {
		data, err := os.ReadFile(path)
		if err != nil || len(data) != 64<<10 || !bytes.Equal(data, version(data[0])) {
			t.Fatalf("read a mixture: %d bytes, %v", len(data), err)
		}
		select {
		case <-done:
			expectNames(t, filepath.Dir(path), "f")
			return
		default:
		}
	}
}

func TestWriteFileLeavesNothingOnFailure(t *testing.T) {
	dir := t.TempDir()
	// A directory cannot be replaced by a file: the rename, the last step, fails.
	path := filepath.Join(dir, "taken")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("x"), Options{}); err == nil {
		t.Fatal("replaced a directory")
	}
	expectNames(t, dir, "taken")
	if err := WriteFile(filepath.Join(dir, "absent", "f"), nil, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}

// What the reserve of a file is for: a disk without room takes new contents all the same, and
// again and again, in the room that is kept.
func TestReserveTakesNewContents(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	if err := useSpare(path, []byte("x"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a reserve: %v", err)
	}
	if err := WriteFile(path, []byte("at first"), Options{}); err != nil {
		t.Fatal(err)
	}
	if err := Reserve(path, Options{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(spareOf(path)); err != nil || info.Sys().(*syscall.Stat_t).Blocks*512 < spareSize {
		t.Errorf("the reserve is a hole, or none: %v", err)
	}
	for _, want := range []string{"second, which is longer", "third", "fourth, longer again"} {
		if err := useSpare(path, []byte(want), Options{}); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Fatalf("read back %q, %v; want %q", got, err, want)
		}
	}
	expectNames(t, dir, "state.json", "state.json.spare")
}

func TestIsTemporary(t *testing.T) {
	for name, want := range map[string]bool{
		"state.json": false, "state.json.tmp-12-0": true, ".tmp-": false, "tmp-1": false,
	} {
		if IsTemporary(name) != want {
			t.Errorf("IsTemporary(%q) = %v", name, !want)
		}
	}
}

func TestLocksExclude(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	acquire := func(kind Kind) *Lock {
		t.Helper()
		l, err := Acquire(t.Context(), path, kind)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	first, second := acquire(Shared), acquire(Shared)
	if _, err := TryAcquire(path, Exclusive); !errors.Is(err, ErrLocked) {
		t.Errorf("exclusive beside shared: %v", err)
	}
	first.Release()
	second.Release()
	writer := acquire(Exclusive)
	if _, err := TryAcquire(path, Shared); !errors.Is(err, ErrLocked) {
		t.Errorf("shared beside exclusive: %v", err)
	}
	if err := writer.Release(); err != nil {
		t.Error(err)
	}
	if err := writer.Release(); err != nil {
		t.Errorf("second release: %v", err)
	}
	acquire(Exclusive).Release()
}

func TestAcquireEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := Acquire(t.Context(), path, Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() {
		_, err := Acquire(ctx, path, Exclusive)
		result <- err
	}()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// Whoever gave up waiting must not get the lock in the end and keep it.
	held.Release()
	again, err := Acquire(t.Context(), path, Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
}

// A counter in a file, read and written back under the lock, shows every lost
// exclusion.
func TestLockGuardsCriticalSection(t *testing.T) {
	dir := t.TempDir()
	lock, counter := filepath.Join(dir, "lock"), filepath.Join(dir, "counter")
	if err := os.WriteFile(counter, []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	increment := func() error {
		l, err := Acquire(context.Background(), lock, Exclusive)
		if err != nil {
			return err
		}
		defer l.Release()
		data, err := os.ReadFile(counter)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(data))
		if err != nil {
			return err
		}
		return os.WriteFile(counter, []byte(strconv.Itoa(n+1)), 0o600)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				if err := increment(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if data, _ := os.ReadFile(counter); string(data) != "160" {
		t.Errorf("counter %s, want 160", data)
	}
}

func TestJournalKeepsRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	want := []string{`{"op":"mount"}`, "", "two words", "\x00\xff binary"}
	for i, record := range want {
		j, got, err := OpenJournal(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		expectRecords(t, got, want[:i])
		if err := j.Append([]byte(record)); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(j.Close(), j.Close()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	expectRecords(t, got, want)
}

func TestJournalRefusesLineFeed(t *testing.T) {
	j, _, err := OpenJournal(filepath.Join(t.TempDir(), "j"), Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Append([]byte("two\nlines")); err == nil {
		t.Error("accepted a record with a line feed")
	}
}

// Whatever prefix of the file a crash leaves, the whole records in it are read,
// nothing else is, and appending goes on from there.
func TestJournalSurvivesTornWriteAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	records := []string{"first", "second record", "third"}
	var whole []byte
	var ends []int
	for _, r := range records {
		whole = append(whole, formatRecord([]byte(r))...)
		ends = append(ends, len(whole))
	}
	for cut := range len(whole) + 1 {
		complete := 0
		for complete < len(ends) && ends[complete] <= cut {
			complete++
		}
		path := filepath.Join(dir, fmt.Sprint(cut))
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		j, got, err := OpenJournal(path, Options{Volatile: true})
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		expectRecords(t, got, records[:complete])
		if err := errors.Join(j.Append([]byte("next")), j.Close()); err != nil {
			t.Fatal(err)
		}
		got, err = ReadJournal(path)
		if err != nil {
			t.Fatalf("cut at %d, after append: %v", cut, err)
		}
		expectRecords(t, got, append(records[:complete:complete], "next"))
	}
}

func TestJournalIgnoresGarbageTailButNotDamageInTheMiddle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	good := string(formatRecord([]byte("a")))
	cases := []struct {
		content string
		records []string
		corrupt bool
	}{
		{good + "\x00\x00\x00\x00", []string{"a"}, false},
		{good + "00000000 a\n", []string{"a"}, false},
		{good + "junk\nmore junk\n", []string{"a"}, false},
		{good + strings.ToUpper(good), []string{"a"}, false},
		{good + "junk\n" + good, nil, true},
		{strings.Replace(good, " a", " b", 1) + good, nil, true},
	}
	for _, c := range cases {
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadJournal(path)
		if errors.Is(err, ErrCorrupt) != c.corrupt || (err != nil) != c.corrupt {
			t.Errorf("%q: error %v", c.content, err)
		}
		expectRecords(t, got, c.records)
		if _, _, err := OpenJournal(path, Options{}); errors.Is(err, ErrCorrupt) != c.corrupt {
			t.Errorf("open %q: error %v", c.content, err)
		}
	}
}

func TestReadJournalOfMissingFile(t *testing.T) {
	if _, err := ReadJournal(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func FuzzJournalNeverInventsRecords(f *testing.F) {
	f.Add([]byte("junk\n"), []byte("record"))
	f.Fuzz(func(t *testing.T, tail, record []byte) {
		record = bytes.ReplaceAll(record, []byte{'\n'}, nil)
		content := append(formatRecord(record), tail...)
		records, good, err := parseJournal("fuzz", content)
		if err != nil {
			return
		}
		if len(records) == 0 || !bytes.Equal(records[0], record) {
			t.Fatalf("lost the record before the tail")
		}
		var again []byte
		for _, r := range records {
			again = append(again, formatRecord(r)...)
		}
		if !bytes.Equal(again, content[:good]) {
			t.Fatalf("good part is not what was written")
		}
	})
}

func expectNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("directory holds %v, want %v", got, want)
	}
}

func expectRecords(t *testing.T, got [][]byte, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got records %q, want %q", got, want)
	}
	for i := range got {
		if string(got[i]) != want[i] {
			t.Fatalf("got records %q, want %q", got, want)
		}
	}
}

// A lock that has to exist makes no file, so that its directory can go away meanwhile.
func TestAcquireExisting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if _, err := AcquireExisting(t.Context(), path, Exclusive); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: error %v", err)
	}
	if _, err := TryAcquireExisting(path, Exclusive); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: error %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file was made: %v", err)
	}
	held, err := Acquire(t.Context(), path, Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TryAcquireExisting(path, Exclusive); !errors.Is(err, ErrLocked) {
		t.Errorf("held: error %v", err)
	}
	held.Release()
	again, err := AcquireExisting(t.Context(), path, Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
}
