package events

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containr/containr/internal/durable"
)

// Bounds of the journal.
const (
	MaxFile  = 4 << 20 // bytes, above which a file gets a successor
	MaxFiles = 4
)

// lockPatience is how long an event may wait for others to be written. It is a matter of
// microseconds, unless a writer was stopped at the wrong moment.
const lockPatience = 5 * time.Second

// Journal is the journal in a directory. Any number of processes may use it at once.
type Journal struct {
	dir           string
	maxFile, keep int
	last          atomic.Int64 // the number of the file that was written to, or 0
}

// Open names the journal of a state root. Nothing is opened or made yet.
func Open(root string) *Journal {
	return &Journal{dir: filepath.Join(root, "events"), maxFile: MaxFile, keep: MaxFiles}
}

// suffix of the files' names.
const suffix = ".jsonl"

func (j *Journal) path(number int) string {
	return filepath.Join(j.dir, fmt.Sprintf("%08d", number)+suffix)
}

// numbers lists the files, the oldest first.
func (j *Journal) numbers() ([]int, error) {
	entries, err := os.ReadDir(j.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []int
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), suffix)
		if n, err := strconv.Atoi(digits); ok && err == nil && n > 0 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Append writes an event down, with the time that it is now. When it returns, every reader
// can see it.
func (j *Journal) Append(e Event) error {
	if err := j.append(e); err != nil {
		return fmt.Errorf("event %s %s: %w", e.Type, e.Status(), err)
	}
	return nil
}

func (j *Journal) append(e Event) error {
	lock, err := j.lock()
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(j.dir, 0o700); err != nil {
			return err
		}
		lock, err = j.lock()
	}
	if err != nil {
		return err
	}
	defer lock.Release()
	f, torn, err := j.current()
	if err != nil {
		return err
	}
	defer f.Close()
	e.Time = time.Now().UTC()
	line, err := e.line()
	if err != nil {
		return err
	}
	if torn {
		line = append([]byte{'\n'}, line...)
	}
	_, err = f.Write(line)
	return errors.Join(err, f.Close())
}

func (j *Journal) lock() (*durable.Lock, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lockPatience)
	defer cancel()
	return durable.Acquire(ctx, filepath.Join(j.dir, "lock"), durable.Exclusive)
}

// current opens the file to write to, and says whether its last line is not complete. The
// caller holds the lock.
func (j *Journal) current() (f *os.File, torn bool, err error) {
	f, number, err := j.newest()
	if err != nil {
		return nil, false, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() >= int64(j.maxFile) {
		f.Close()
		numbers, err := j.numbers()
		if err == nil {
			err = j.makeRoom(numbers)
		}
		if err != nil {
			return nil, false, err
		}
		f, err = j.open(number + 1)
		return f, false, err
	}
	if err == nil && info.Size() > 0 {
		var last [1]byte
		_, err = f.ReadAt(last[:], info.Size()-1)
		torn = last[0] != '\n'
	}
	if err != nil {
		f.Close()
		return nil, false, err
	}
	return f, torn, nil
}

// newest opens the newest file, and makes the first one. A process that has written before
// need not list them all: where its file is and none comes after it, it still is the
// newest, as files are removed from the oldest on. The caller holds the lock.
func (j *Journal) newest() (*os.File, int, error) {
	last := int(j.last.Load())
	if _, err := os.Lstat(j.path(last + 1)); last > 0 && errors.Is(err, fs.ErrNotExist) {
		f, err := durable.OpenFile(j.path(last), os.O_RDWR|os.O_APPEND, 0)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, last, err
		}
	}
	numbers, err := j.numbers()
	if err != nil {
		return nil, 0, err
	}
	number := 1
	if len(numbers) > 0 {
		number = numbers[len(numbers)-1]
	}
	f, err := j.open(number)
	return f, number, err
}

func (j *Journal) open(number int) (*os.File, error) {
	f, err := durable.OpenFile(j.path(number), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err == nil {
		j.last.Store(int64(number))
	}
	return f, err
}

// makeRoom removes the oldest of these files, so that there is one less than there may be.
func (j *Journal) makeRoom(numbers []int) error {
	for _, n := range numbers[:max(0, len(numbers)-j.keep+1)] {
		if err := os.Remove(j.path(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
