package logs

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// FileName is the name of the file that grows.
const FileName = "json.log"

// zipped ends the name of a compressed file.
const zipped = ".gz"

// older is the name of the nth file before the one that grows.
func older(n int) string { return FileName + "." + strconv.Itoa(n) }

// Writer fills a log. It is for one goroutine at a time.
type Writer struct {
	dir  string
	o    Options
	file *os.File // nil with the driver None
	at   position
	keep *positionFile
	// lost counts the bytes that could not be written since the last that could.
	lost int
	// filled counts those that are missing where the log has gone on since; see Filled.
	filled   int
	unpacked error // see Unpacked
	line     []byte
}

// OpenWriter opens the log in a directory, which is made if it is missing. The file
// position, which is made too, belongs to this log; it need not outlive a boot. Nobody
// else may have opened either for writing.
func OpenWriter(dir, position string, o Options) (*Writer, error) {
	w := &Writer{dir: dir, o: o}
	if o.Driver == None {
		return w, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	var err error
	if w.keep, w.at, err = openPosition(position); err != nil {
		return nil, fmt.Errorf("log position: %w", err)
	}
	if err = w.open(); err == nil {
		err = w.cutBack()
	}
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("log: %w", err)
	}
	return w, nil
}

func (w *Writer) open() (err error) {
	w.file, err = os.OpenFile(filepath.Join(w.dir, FileName), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	return err
}

// cutBack takes away what was written to the log and does not count.
func (w *Writer) cutBack() error {
	size, inode, err := identify(w.file)
	if err != nil {
		return err
	}
	switch {
	case w.at.inode == inode && size > w.at.size:
		return w.file.Truncate(w.at.size)
	case w.at.inode == inode:
	case w.at.inode != 0: // moved on to this file, and not arrived
		if err := w.file.Truncate(0); err != nil {
			return err
		}
		w.at.size, w.at.inode = 0, inode
	default: // the position did not outlive a boot
		if w.at.size, err = endOfLines(w.file, size); err != nil {
			return err
		}
		w.at.inode = inode
		return w.file.Truncate(w.at.size)
	}
	return nil
}

func identify(f *os.File) (size int64, inode uint64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, 0, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return st.Size, st.Ino, nil
}

// endOfLines finds the end of the last whole line.
func endOfLines(f *os.File, size int64) (int64, error) {
	b := make([]byte, min(size, 8*MaxLine))
	if _, err := f.ReadAt(b, size-int64(len(b))); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	return size - int64(len(b)) + int64(bytes.LastIndexByte(b, '\n')) + 1, nil
}

// Logged reports whether what lies in the stream's tray is in the log.
func (w *Writer) Logged(s Stream) bool { return w.keep != nil && w.at.tray == s }

// Write logs data, which lies in the stream's tray, and takes note of that. The caller
// empties the tray and calls Emptied.
//
// If the log cannot be written the data is lost, and Write returns the error once; the
// note is taken all the same.
func (w *Writer) Write(s Stream, data []byte, now time.Time) error {
	if w.keep == nil {
		return nil
	}
	tail := &w.at.tails[s-1]
	lines := w.line[:0]
	rest := data
	if len(*tail) > 0 {
		rest = append(*tail, data...)
	}
	for len(rest) > 0 {
		n := bytes.IndexByte(rest[:min(len(rest), MaxLine)], '\n') + 1
		if n == 0 {
			if len(rest) < MaxLine {
				break
			}
			n = MaxLine
		}
		lines = appendRecord(lines, Record{s, now, rest[:n]})
		rest = rest[n:]
	}
	*tail = append([]byte(nil), rest...)
	w.at.tray = s
	failed := w.append(lines, len(data), now)
	w.line = lines[:0]
	if cap(w.line) > 1<<17 {
		w.line = nil
	}
	return errors.Join(failed, w.keep.write(&w.at))
}

// Filled returns how many bytes of output are missing in the log where it goes on since the last call, because it could not
// be written meanwhile.
func (w *Writer) Filled() int {
	n := w.filled
	w.filled = 0
	return n
}

// Emptied takes note that the tray of the last Write is empty.
func (w *Writer) Emptied() error {
	if w.keep == nil {
		return nil
	}
	w.at.tray = 0
	return w.keep.emptied()
}

// End logs what is left of lines that will not be completed.
func (w *Writer) End(now time.Time) error {
	if w.keep == nil {
		return nil
	}
	var lines []byte
	count := 0
	for i, tail := range w.at.tails {
		if len(tail) > 0 {
			lines = appendRecord(lines, Record{Stream(i + 1), now, tail})
			count += len(tail)
			w.at.tails[i] = nil
		}
	}
	return errors.Join(w.append(lines, count, now), w.keep.write(&w.at))
}

// Unpacked returns why an older file could not be compressed since the last call. It stays as it is, and can be read.
func (w *Writer) Unpacked() error {
	err := w.unpacked
	w.unpacked = nil
	return err
}

// append writes whole lines, of count bytes of output, to the log, or none of them.
func (w *Writer) append(lines []byte, count int, now time.Time) error {
	if len(lines) == 0 {
		return nil
	}
	if w.lost > 0 {
		note := fmt.Sprintf("[%d bytes of output are missing here: the log could not be written]\n", w.lost)
		lines = append(appendRecord(nil, Record{Stderr, now, []byte(note)}), lines...)
	}
	err := w.rotate(int64(len(lines)))
	if err == nil {
		_, err = w.file.Write(lines)
	}
	if err == nil {
		w.at.size += int64(len(lines))
		w.lost, w.filled = 0, w.filled+w.lost
		return nil
	}
	w.lost += count
	if w.file != nil {
		err = errors.Join(err, w.file.Truncate(w.at.size))
	}
	if w.lost > count {
		return nil // it was said before
	}
	return fmt.Errorf("log: %w", err)
}

// rotate begins a new file if the one that grows has no room for n more bytes.
func (w *Writer) rotate(n int64) error {
	if w.file != nil && (w.at.size == 0 || w.at.size+n <= w.o.MaxSize) {
		return nil
	}
	if w.file != nil {
		if err := w.moveUp(); err != nil {
			return err
		}
		if err := w.file.Close(); err != nil {
			return err
		}
		w.file = nil
	}
	if err := w.open(); err != nil {
		w.file = nil
		return err
	}
	size, inode, err := identify(w.file)
	w.at.size, w.at.inode = size, inode
	return err
}

// moveUp renames the files, the oldest first. If it is interrupted there is a gap in the
// numbers, which the next time closes.
func (w *Writer) moveUp() error {
	path := func(n int, suffix string) string {
		if n == 0 {
			return filepath.Join(w.dir, FileName+suffix)
		}
		return filepath.Join(w.dir, older(n)+suffix)
	}
	there := func(n int) bool {
		return unix.Access(path(n, ""), unix.F_OK) == nil || unix.Access(path(n, zipped), unix.F_OK) == nil
	}
	last := 1
	for last < w.o.MaxFiles-1 && there(last) {
		last++
	}
	for n := min(last, w.o.MaxFiles-1); n >= 1; n-- {
		for _, suffix := range [...]string{zipped, ""} {
			from, to := path(n-1, suffix), path(n, suffix)
			err := os.Rename(from, to)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err == nil && suffix == "" {
				os.Remove(path(n, zipped))
			}
			if err == nil && suffix == zipped {
				os.Remove(path(n, ""))
			}
		}
	}
	if w.o.MaxFiles == 1 {
		return os.Remove(path(0, ""))
	}
	if w.o.Compress {
		w.unpacked = compress(path(1, ""))
	}
	return nil
}

// compress replaces a file by its compressed form.
func compress(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path+zipped+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	err = errors.Join(err, z.Close(), out.Close())
	if err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	if err := os.Rename(out.Name(), path+zipped); err != nil {
		return err
	}
	return os.Remove(path)
}

// Close closes the files.
func (w *Writer) Close() error {
	var err error
	if w.file != nil {
		err = w.file.Close()
	}
	if w.keep != nil {
		err = errors.Join(err, w.keep.file.Close())
	}
	return err
}
