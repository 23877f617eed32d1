package durable

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrCorrupt says that a journal is damaged where no crash can have damaged it:
// a bad record is followed by a good one.
var ErrCorrupt = errors.New("corrupt journal")

// Journal is an append-only file of records. A record is one line of text: the
// CRC-32 of the record in eight hexadecimal digits, a space, the record, a line
// feed. It can be read with cat, and repaired with an editor.
//
// A Journal has one writer at a time; that is for the caller to see to, by a
// lock. It may be read while it is being written.
type Journal struct {
	file     *os.File
	volatile bool
	end      int64 // length of the good part of the file
}

// OpenJournal opens the journal at path to append to it, creating it if need be,
// and returns the records that it holds. A torn tail, which is what a crash
// leaves of a record that was being written, is cut off.
func OpenJournal(path string, o Options) (*Journal, [][]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, o.mode())
	if err != nil {
		return nil, nil, err
	}
	j := &Journal{file: f, volatile: o.Volatile}
	records, err := j.recover(path)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return j, records, nil
}

// recover reads what there is, and makes the file end after the last good
// record and its name survive power failure.
func (j *Journal) recover(path string) ([][]byte, error) {
	data, err := io.ReadAll(j.file)
	if err != nil {
		return nil, err
	}
	records, good, err := parseJournal(path, data)
	if err != nil {
		return nil, err
	}
	j.end = int64(good)
	if good < len(data) {
		if err := j.file.Truncate(j.end); err != nil {
			return nil, err
		}
	}
	if len(data) == 0 && !j.volatile {
		return nil, SyncDir(filepath.Dir(path))
	}
	return records, nil
}

// ReadJournal returns the records of the journal at path without changing it.
// A torn tail is ignored. An error wraps fs.ErrNotExist or [ErrCorrupt] where
// that is the cause.
func ReadJournal(path string) ([][]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	records, _, err := parseJournal(path, data)
	return records, err
}

// Append adds one record, which must not contain a line feed, and returns when
// it is on the disk (unless the journal is volatile). If it fails, the journal
// is as before.
func (j *Journal) Append(record []byte) error {
	if bytes.IndexByte(record, '\n') >= 0 {
		return fmt.Errorf("append to journal %s: record contains a line feed", j.file.Name())
	}
	line := formatRecord(record)
	// One write at a known place: what a failed one left behind is overwritten
	// by the next.
	if _, err := j.file.WriteAt(line, j.end); err != nil {
		return errors.Join(err, j.file.Truncate(j.end))
	}
	if !j.volatile {
		if err := j.file.Sync(); err != nil {
			return errors.Join(err, j.file.Truncate(j.end))
		}
	}
	j.end += int64(len(line))
	return nil
}

// Close closes the file. The journal cannot be used afterwards; closing it twice
// is harmless.
func (j *Journal) Close() error {
	err := j.file.Close()
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}

// formatRecord makes the line of a record. The checksum is that of gzip and
// Ethernet: its tables are made in a tenth of the time of CRC-32C's (0.14 ms),
// which matters to a program that writes a dozen short records in its life.
func formatRecord(record []byte) []byte {
	return fmt.Appendf(nil, "%08x %s\n", crc32.ChecksumIEEE(record), record)
}

// parseJournal returns the records in data, and the length of the part of data
// that holds them. A bad line at the very end is a torn tail; a bad line before
// a good one is corruption.
func parseJournal(path string, data []byte) (records [][]byte, good int, err error) {
	torn := 0 // number of the first bad line
	offset := 0
	for number := 1; offset < len(data); number++ {
		line, _, complete := bytes.Cut(data[offset:], []byte{'\n'})
		offset += len(line) + 1
		record, ok := parseRecord(line)
		switch {
		case !ok || !complete:
			if torn == 0 {
				torn = number
			}
		case torn != 0:
			return nil, 0, fmt.Errorf("read journal %s: line %d is damaged and line %d is not: %w", path, torn, number, ErrCorrupt)
		default:
			records = append(records, record)
			good = offset
		}
	}
	return records, good, nil
}

// parseRecord checks one line, without its line feed.
func parseRecord(line []byte) ([]byte, bool) {
	const prefix = len("00000000 ")
	if len(line) < prefix {
		return nil, false
	}
	record := line[prefix:]
	return record, bytes.Equal(append(line[:len(line):len(line)], '\n'), formatRecord(record))
}
