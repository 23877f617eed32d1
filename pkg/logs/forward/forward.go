// Package forward passes on what containers write to those who collect it: a syslog server,
// or systemd's journal.
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
// between the two. What a connection had accepted when it broke may be lost: neither protocol
// has an answer that would tell.
//
// When the container has ended, a server that does not answer is waited for Linger long.
package forward

import (
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
	// Host is the name of the machine.
	Host string
	// Attributes are what belongs to every line: labels and variables.
	Attributes map[string]string
}

// Target takes lines.
type Target interface {
	// Send sends one record, within a time of its own. After an error it is tried again.
	Send(logs.Record) error
	Close() error
}

// Open returns what sends to where the options say. Nothing is connected yet.
func Open(o logs.Options, s Source) (Target, error) {
	switch o.Driver {
	case logs.Syslog:
		return newSyslog(o, s)
	case logs.Journald:
		return newJournal(JournalSocket, o, s), nil
	}
	return nil, fmt.Errorf("the log driver %s passes nothing on", o.Driver)
}

// Options say what is passed on.
type Options struct {
	// Dir is the directory of the log, Position the file that says how far it has been sent.
	Dir, Position string
	Target        Target
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
	var at logs.Position
	read := logs.ReadOptions{Follow: true, Ended: o.Ended, Watch: o.Watch, From: readPosition(f), At: &at}
	return logs.Read(ctx, o.Dir, read, func(r logs.Record) error {
		if err := send(ctx, o, r); err != nil {
			return err
		}
		return writePosition(f, at)
	})
}

// send tries until it has sent.
func send(ctx context.Context, o Options, r logs.Record) error {
	var since time.Time // when the container was first seen to have ended
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := o.Target.Send(r)
		if err == nil {
			return nil
		}
		if pause == firstPause && o.Failed != nil {
			o.Failed(err)
		}
		ended, endErr := o.Ended()
		if endErr != nil {
			return endErr
		}
		if ended && since.IsZero() {
			since = time.Now()
		}
		if ended && time.Since(since) >= Linger {
			return fmt.Errorf("%w: %w", ErrGivenUp, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
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
