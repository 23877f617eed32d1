package logs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ReadOptions say what of a log is read.
type ReadOptions struct {
	// Since and Until bound the times of the records; zero for no bound.
	Since, Until time.Time
	// Tail is how many of the last records are read, if it is Last; else all are.
	Last bool
	Tail int
	// Match, if set, chooses lines; it is given them without their ends, also those that are several records. Tail counts lines then,
	// and At tells the place behind the last record that was read.
	Match func(line []byte) bool
	// Follow goes on with what is written later, until Ended says that nothing will be,
	// or Until is over. Ended is asked again when something changes in one of the
	// directories in Watch.
	Follow bool
	Ended  func() (bool, error)
	Watch  []string
	// From, if it is not zero, leaves out what is before this place. If the file has been
	// removed meanwhile, all that is there is read.
	From Position
	// At, if set, is told before each record which place comes after it.
	At *Position
	// Idle, if set, is called when all that is there has been read. An error of it ends the reading.
	Idle func() error
	// waits is called before waiting for more.
	waits func() error
}

// Position is a place in a log whose files are not compressed.
type Position struct {
	// Inode is that of the file, and Offset counts its bytes.
	Inode  uint64
	Offset int64
}

// Read calls each for the records of the log in a directory, in their order. A log that
// is not there is empty. An error of each ends it.
func Read(ctx context.Context, dir string, o ReadOptions, each func(Record) error) error {
	o, each, end := matching(o, each)
	err := read(ctx, dir, o, each)
	if err == nil {
		err = end()
	}
	return err
}

func read(ctx context.Context, dir string, o ReadOptions, each func(Record) error) error {
	r := &reader{dir: dir, o: o, each: each}
	defer r.close()
	if o.Follow {
		if err := r.watch(); err != nil {
			return err
		}
		defer context.AfterFunc(ctx, func() { r.events.SetReadDeadline(time.Unix(1, 0)) })()
	}
	if err := r.open(); err != nil {
		return err
	}
	if err := r.skip(); err != nil {
		return err
	}
	if err := r.goTo(o.From); err != nil {
		return err
	}
	err := r.read(ctx)
	if ctx.Err() != nil { // it ends the waiting as Until does
		return ctx.Err()
	}
	if errors.Is(err, errUntil) {
		return nil
	}
	return err
}

// errUntil means that all later records are too late.
var errUntil = errors.New("the rest is later")

type reader struct {
	dir  string
	o    ReadOptions
	each func(Record) error
	// files are to be read, the oldest first.
	files  []*source
	events *os.File
	quick  quick
}

// source is one file of the log.
type source struct {
	file  *os.File
	inode uint64
	in    *bufio.Reader
	// part is the beginning of a line that is being written.
	part []byte
	// at is behind the last line.
	at int64
}

func (r *reader) close() {
	for _, s := range r.files {
		s.file.Close()
	}
	if r.events != nil {
		r.events.Close()
	}
}

// open opens all files. The newest come first, so that one that is renamed meanwhile is
// found twice and not missed. If a new file has begun meanwhile, the numbers mean others
// now, and all are opened again.
func (r *reader) open() error {
	for {
		if err := r.openAll(); err != nil {
			return err
		}
		var st unix.Stat_t
		if len(r.files) == 0 || unix.Stat(filepath.Join(r.dir, FileName), &st) != nil || st.Ino == r.files[len(r.files)-1].inode {
			return nil // the last of them is the newest, or the newest is just being made
		}
		for _, s := range r.files {
			s.file.Close()
		}
		r.files = nil
	}
}

// openAll opens all files once. One number is missing while files are renamed.
func (r *reader) openAll() error {
	for n, misses := 0, 0; misses < 2; n++ {
		s, err := r.openFile(n)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			misses++
			continue
		case err != nil:
			return fmt.Errorf("log: %w", err)
		}
		misses = 0
		if len(r.files) > 0 && r.files[0].inode == s.inode {
			s.file.Close()
			continue
		}
		r.files = append([]*source{s}, r.files...)
	}
	return nil
}

// openFile opens the nth file, compressed or not; 0 is the one that grows.
func (r *reader) openFile(n int) (*source, error) {
	path := filepath.Join(r.dir, FileName)
	if n > 0 {
		path = filepath.Join(r.dir, older(n))
	}
	f, err := os.Open(path)
	if err == nil {
		return newSource(f, f)
	}
	if n == 0 || !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if f, err = os.Open(path + zipped); err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return newSource(f, z)
}

func newSource(f *os.File, in io.Reader) (*source, error) {
	_, inode, err := identify(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &source{file: f, inode: inode, in: bufio.NewReaderSize(in, 64<<10)}, nil
}

// line returns the next whole line, or io.EOF if there is none yet.
func (s *source) line() ([]byte, error) {
	line, err := s.in.ReadSlice('\n')
	if err == nil && s.part == nil {
		return line, nil
	}
	s.part = append(s.part, line...)
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = s.in.ReadSlice('\n')
		s.part = append(s.part, line...)
	}
	if err != nil {
		return nil, err
	}
	whole := s.part
	s.part = nil
	return whole, nil
}

// goTo goes to a place, and forgets the files before it.
func (r *reader) goTo(p Position) error {
	for i, s := range r.files {
		if p.Inode == 0 || s.inode != p.Inode {
			continue
		}
		for _, older := range r.files[:i] {
			older.file.Close()
		}
		r.files = r.files[i:]
		if _, err := s.file.Seek(p.Offset, io.SeekStart); err != nil {
			return fmt.Errorf("log: %w", err)
		}
		s.in.Reset(s.file)
		s.at = p.Offset
		return nil
	}
	return nil
}

// skip passes over all but the last records, if only they are wanted.
func (r *reader) skip() error {
	if !r.o.Last {
		return nil
	}
	wanted := r.o.Tail
	for i := len(r.files) - 1; i >= 0; i-- {
		count, err := countLines(r.files[i])
		if err != nil {
			return fmt.Errorf("log: %w", err)
		}
		over := max(count-wanted, 0)
		for range over {
			if _, err := r.files[i].line(); err != nil {
				return fmt.Errorf("log: %w", err)
			}
		}
		wanted -= count - over
	}
	return nil
}

// countLines counts the whole lines of a file, and goes back to its beginning.
func countLines(s *source) (int, error) {
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", s.file.Fd()))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var in io.Reader = f
	if filepath.Ext(s.file.Name()) == zipped {
		if in, err = gzip.NewReader(f); err != nil {
			return 0, err
		}
	}
	count, b := 0, make([]byte, 64<<10)
	for {
		n, err := in.Read(b)
		count += bytes.Count(b[:n], []byte{'\n'})
		if errors.Is(err, io.EOF) {
			return count, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// read reads all files, and then, if it is to follow, waits for more.
func (r *reader) read(ctx context.Context) error {
	for {
		ended := true
		if r.o.Follow {
			var err error
			if ended, err = r.o.Ended(); err != nil {
				return err
			}
		}
		if err := r.readOlder(); err != nil {
			return err
		}
		moved, err := r.readNewest()
		switch {
		case err != nil:
			return err
		case moved:
			continue
		}
		if r.o.Idle != nil {
			if err := r.o.Idle(); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
		if r.o.waits != nil {
			if err := r.o.waits(); err != nil {
				return err
			}
		}
		if err := r.await(ctx); err != nil {
			return err
		}
	}
}

// readOlder reads all files but the newest.
func (r *reader) readOlder() error {
	for len(r.files) > 1 {
		if err := r.readFile(r.files[0]); err != nil {
			return err
		}
		r.files[0].file.Close()
		r.files = r.files[1:]
	}
	return nil
}

// readNewest reads the file that grows, or that did when it was opened. If it has been
// renamed, the next one is opened, and moved is true; also if there are files now where there
// was none.
func (r *reader) readNewest() (moved bool, err error) {
	if len(r.files) == 0 {
		err := r.open()
		return len(r.files) > 0, err
	}
	s := r.files[0]
	next := r.after(s)
	// What it has got before it was renamed is read after that was seen.
	if err := r.readFile(s); err != nil || next < 0 {
		return false, err
	}
	n, err := r.openFile(next)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // it is just being made
	}
	if err != nil {
		return false, fmt.Errorf("log: %w", err)
	}
	if n.inode == s.inode || r.after(s) != next { // renamed again: what was opened may be a later one
		n.file.Close()
		return true, nil
	}
	s.file.Close()
	r.files[0] = n
	return true, nil
}

// after finds the number of the file that follows another, -1 if that one still grows. While
// files are renamed, one number is missing, and a file moves on before the one that follows it.
func (r *reader) after(s *source) int {
	for n, misses := 0, 0; misses < 2; n++ {
		path := filepath.Join(r.dir, FileName)
		if n > 0 {
			path = filepath.Join(r.dir, older(n))
		}
		var st unix.Stat_t
		switch err := unix.Stat(path, &st); {
		case err != nil:
			misses++
		case st.Ino == s.inode:
			return n - 1
		default:
			misses = 0
		}
	}
	return 0 // it is compressed, or has fallen off the end
}

// readFile reads the lines that are there.
func (r *reader) readFile(s *source) error {
	for {
		line, err := s.line()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("log: %w", err)
		}
		s.at += int64(len(line))
		if r.o.At != nil {
			*r.o.At = Position{s.inode, s.at}
		}
		rec, ok := r.quick.record(line)
		if !ok {
			if rec, err = parseRecord(line); err != nil {
				return err
			}
		}
		if !r.o.Until.IsZero() && rec.Time.After(r.o.Until) {
			return errUntil
		}
		if rec.Time.Before(r.o.Since) {
			continue
		}
		if err := r.each(rec); err != nil {
			return err
		}
	}
}

// watch begins to notice what happens to the log.
func (r *reader) watch() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("log: inotify: %w", err)
	}
	r.events = os.NewFile(uintptr(fd), "inotify")
	for _, dir := range append(r.o.Watch, r.dir) {
		_, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE|unix.IN_DELETE_SELF)
		if err != nil {
			return fmt.Errorf("log: watch %s: %w", dir, err)
		}
	}
	return nil
}

// await waits until something has happened, or Until is over.
func (r *reader) await(ctx context.Context) error {
	if !r.o.Until.IsZero() {
		r.events.SetReadDeadline(r.o.Until)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var b [4096]byte
	_, err := r.events.Read(b[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errUntil
	}
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	return nil
}
