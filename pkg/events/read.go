package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Query says which events to read.
type Query struct {
	// Since and Until bound their times; zero is no bound.
	Since, Until time.Time
	// Follow waits for those to come, until Until or the end of the context.
	Follow bool
}

// Read calls f with each event of the query, in order, until f fails or there are no more. If
// ctx ends before that, its error is returned.
func (j *Journal) Read(ctx context.Context, q Query, f func(Event) error) error {
	r := &reader{Journal: j, query: q, f: f}
	if q.Follow {
		if err := r.watch(); err != nil {
			return fmt.Errorf("events: %w", err)
		}
		defer r.notice.Close()
		if !q.Until.IsZero() {
			var cancel func()
			ctx, cancel = context.WithDeadlineCause(ctx, q.Until, errEnough)
			defer cancel()
		}
		stop := context.AfterFunc(ctx, func() { r.notice.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	defer func() { r.file.Close() }()
	err := r.all(ctx)
	if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = context.Cause(ctx)
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// errEnough ends a reading: what follows is later than Until.
var errEnough = errors.New("no more")

// reader goes through the files of a journal.
type reader struct {
	*Journal
	query  Query
	f      func(Event) error
	notice *os.File // becomes readable when the journal changes; nil if nobody waits
	number int      // of the file that is open, 0 before the first
	file   *os.File
	rest   []byte // the beginning of a line whose end is not there yet
}

// watch asks for notice of changes, before anything is read: what comes afterwards is seen
// or announced.
func (r *reader) watch() error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	r.notice = os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, r.dir, unix.IN_MODIFY|unix.IN_CREATE); err != nil {
		r.notice.Close()
		return &fs.PathError{Op: "inotify_add_watch", Path: r.dir, Err: err}
	}
	return nil
}

// all reads the files one after the other, and waits where there is no more.
func (r *reader) all(ctx context.Context) error {
	for {
		// Whether there is another file is asked first: if there is, nobody writes to this one any more.
		next, err := r.next()
		if err != nil {
			return err
		}
		if err := r.toEnd(); err != nil {
			return err
		}
		switch {
		case next != 0:
			err = r.turnTo(next)
		case !r.query.Follow:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		default:
			err = r.wait()
		}
		if err != nil {
			return err
		}
	}
}

// next is the number of the file after the one that is open, 0 if there is none. Files
// that were last written to before Since are left out.
func (r *reader) next() (int, error) {
	numbers, err := r.numbers()
	if err != nil {
		return 0, err
	}
	for _, n := range numbers {
		if n > r.number && !r.tooOld(n) {
			return n, nil
		}
	}
	return 0, nil
}

// clockTick is more than the time of a file can lag behind the clock.
const clockTick = time.Second

func (r *reader) tooOld(number int) bool {
	info, err := os.Stat(r.path(number))
	return err == nil && info.ModTime().Add(clockTick).Before(r.query.Since)
}

// turnTo opens a file. One that was removed meanwhile is empty.
func (r *reader) turnTo(number int) error {
	f, err := os.Open(r.path(number))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.file.Close()
	r.number, r.file, r.rest = number, f, nil
	return nil
}

// toEnd reads what the file has got.
func (r *reader) toEnd() error {
	if r.file == nil {
		return nil
	}
	var chunk [32 << 10]byte
	for {
		n, err := r.file.Read(chunk[:])
		if lineErr := r.lines(chunk[:n]); lineErr != nil {
			return lineErr
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// lines takes the lines out of what was read.
func (r *reader) lines(chunk []byte) error {
	for len(chunk) > 0 {
		line, after, whole := bytes.Cut(chunk, []byte{'\n'})
		if len(r.rest) < 2*maxLine { // what is longer is no event; its end is passed over
			r.rest = append(r.rest, line...)
		}
		if !whole {
			return nil
		}
		e, ok := parse(string(r.rest))
		r.rest, chunk = r.rest[:0], after
		if !ok || e.Time.Before(r.query.Since) {
			continue
		}
		if !r.query.Until.IsZero() && e.Time.After(r.query.Until) {
			return errEnough
		}
		if err := r.f(e); err != nil {
			return err
		}
	}
	return nil
}

// wait returns when something may be new.
func (r *reader) wait() error {
	var notices [4096]byte
	_, err := r.notice.Read(notices[:])
	return err
}
