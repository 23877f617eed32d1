// Package forward passes on what containers write to those who collect it: a server of syslog, GELF or
// fluentd, or systemd's journal.
//
// # Theory of operation
//
// What a container writes goes to the files of its log first, as with the driver json-file
// (package logs). A process of its own, `containr container forward`, which the monitor keeps
// running as long as the container runs, follows these files as `logs --follow` does,
// and sends each line on. So the files are the buffer between the two, and their bounds, max-size
// and max-file, are its bounds:
//
//   - the container never waits for the server, whatever becomes of that;
//   - a server that is away for a while gets later what the files still have;
//   - `containr logs` reads the same files, with any driver;
//   - the monitor needs to know nothing of networks and certificates, and stays small.
//
// How far it has come is written down after each line, so that a forwarder that was killed is
// followed by one that goes on from there. A line is sent again only if its sender was killed
// between the two. What a connection had accepted when it broke may be lost: only fluentd
// answers, to all the lines that it got at once, and no line counts as sent before its answer has come.
// In turn lines arrive twice if the answer is lost.
//
// When the container has ended, a server that does not answer is waited for Linger long.
package forward

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containr/containr/pkg/logs"
)

// Linger is how long, after the end of a container, is waited for a server that takes nothing.
const Linger = 10 * time.Second

// Pauses between attempts to send a line.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

// sendTime is how long one line may take to be sent.
const sendTime = 10 * time.Second

// Source is the container whose lines these are.
type Source struct {
	ID, Name, Image string
	// ImageID is the digest of the image's configuration, Command what runs.
	ImageID, Command string
	Created          time.Time
	// Host is the name of the machine.
	Host string
	// Attributes are what belongs to every line: labels and variables.
	Attributes map[string]string
}

// Target takes lines.
type Target interface {
	// Send sends records from the first on, as many as it can at once, within a time of its own, and returns how many
	// the server has now; none after an error, and then it is tried again. Precondition: there is a record.
	Send([]logs.Record) (int, error)
	Close() error
}

// Open returns what sends to where the options say. Nothing is connected yet.
func Open(o logs.Options, s Source) (Target, error) {
	switch o.Driver {
	case logs.Syslog:
		return newSyslog(o, s)
	case logs.Journald:
		return newJournal(JournalSocket, o, s), nil
	case logs.Gelf:
		return newGelf(o, s)
	case logs.Fluentd:
		return newFluentd(o, s), nil
	}
	return nil, fmt.Errorf("the log driver %s passes nothing on", o.Driver)
}

// Options say what is passed on.
type Options struct {
	// Dir is the directory of the log, Position the file that says how far it has been sent.
	Dir, Position string
	Target        Target
	// Pause is how long is waited before the first attempt anew, which doubles with each; 0 is 50 ms. After Retries of them a
	// line is lost, 0 is never.
	Pause   time.Duration
	Retries int
	// Ended reports whether nothing more will be written; it is asked again when
	// something changes in one of the directories in Watch.
	Ended func() (bool, error)
	Watch []string
	// Failed is told of an error once, until something has been sent again.
	Failed func(error)
}

// ErrGivenUp means that not everything was sent by the end.
var ErrGivenUp = errors.New("not all lines were passed on")

// Run passes on a log until its container has ended and all is sent, or until that is
// given up.
func Run(ctx context.Context, o Options) error {
	f, err := os.OpenFile(o.Position, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("position of the log: %w", err)
	}
	defer f.Close()
	b := &batch{o: o, file: f}
	read := logs.ReadOptions{Follow: true, Ended: o.Ended, Watch: o.Watch, From: readPosition(f), At: &b.at,
		Idle: func() error { return b.send(ctx) }}
	err = logs.Read(ctx, o.Dir, read, func(r logs.Record) error { return b.add(ctx, r) })
	if err != nil && !b.stopped { // what was read before is sent all the same
		err = errors.Join(err, b.send(ctx))
	}
	return err
}

// Bounds of what is sent at once: records, and bytes of their lines.
const (
	maxBatch      = 256
	maxBatchBytes = 64 << 10
)

// batch is what has been read and not sent.
type batch struct {
	o       Options
	file    *os.File        // of the position
	at      logs.Position   // after the last record that was read
	records []logs.Record   // the oldest first
	ends    []logs.Position // after each of them
	bytes   int
	stopped bool // sending has failed for good
}

// add takes a record, and sends when it is full.
func (b *batch) add(ctx context.Context, r logs.Record) error {
	b.records, b.ends, b.bytes = append(b.records, r), append(b.ends, b.at), b.bytes+len(r.Data)
	if len(b.records) < maxBatch && b.bytes < maxBatchBytes {
		return nil
	}
	return b.send(ctx)
}

// send sends all that there is.
func (b *batch) send(ctx context.Context) (err error) {
	defer func() { b.stopped = err != nil }()
	for len(b.records) > 0 {
		n, err := b.try(ctx)
		if err != nil {
			return err
		}
		if err := writePosition(b.file, b.ends[n-1]); err != nil {
			return err
		}
		b.records, b.ends = b.records[n:], b.ends[n:]
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	b.records, b.ends, b.bytes = nil, nil, 0
	return nil
}

// try tries until something has been sent, and returns how many records need no more attention.
func (b *batch) try(ctx context.Context) (int, error) {
	var since time.Time // when the container was first seen to have ended
	pause := cmp.Or(b.o.Pause, firstPause)
	for tries := 0; ; tries++ {
		n, err := b.o.Target.Send(b.records)
		if err == nil {
			return n, nil
		}
		if b.o.Retries > 0 && tries >= b.o.Retries {
			b.failed(fmt.Errorf("a line is lost after %d attempts: %w", tries+1, err))
			return 1, nil
		}
		if tries == 0 {
			b.failed(err)
		}
		ended, endErr := b.o.Ended()
		if endErr != nil {
			return 0, endErr
		}
		if ended && since.IsZero() {
			since = time.Now()
		}
		if ended && time.Since(since) >= Linger {
			return 0, fmt.Errorf("%w: %w", ErrGivenUp, err)
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(pause):
		}
		pause = max(pause, min(2*pause, lastPause))
	}
}

func (b *batch) failed(err error) {
	if b.o.Failed != nil {
		b.o.Failed(err)
	}
}

const positionSize = 16

func readPosition(f *os.File) logs.Position {
	var b [positionSize]byte
	if n, _ := f.ReadAt(b[:], 0); n < len(b) { // it is new
		return logs.Position{}
	}
	return logs.Position{Inode: binary.LittleEndian.Uint64(b[:]), Offset: int64(binary.LittleEndian.Uint64(b[8:]))}
}

func writePosition(f *os.File, at logs.Position) error {
	var b [positionSize]byte
	binary.LittleEndian.PutUint64(b[:], at.Inode)
	binary.LittleEndian.PutUint64(b[8:], uint64(at.Offset))
	if _, err := f.WriteAt(b[:], 0); err != nil {
		return fmt.Errorf("position of the log: %w", err)
	}
	return nil
}
