package monitor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/logs"
	"github.com/containr/containr/pkg/streams"
)

// Foreground copies what a container in the foreground writes to its log and to who runs it.
// Nothing is lost: the container waits until both have it. If who runs it is killed, a
// monitor goes on with the log.
type Foreground struct {
	copier
	position string
}

// OpenForeground opens the log of a container that has been started, and whose lock is held.
// Finish closes the ends. When write returns an error, nobody needs that output any more,
// and what the container writes to it after that is not read. Without a log, because the disk
// is full for instance, the container runs all the same.
func OpenForeground(root, run string, r container.Record, ends *streams.Ends, write func(o *streams.Output, data []byte) error) *Foreground {
	f := &Foreground{copier{id: r.ID, ends: ends, write: write}, filepath.Join(positionDir(run), r.ID)}
	o, err := r.Config.Logs()
	if err == nil {
		err = os.MkdirAll(positionDir(run), 0o700)
	}
	if err == nil {
		f.log, err = logs.OpenWriter(LogDir(root, r.ID), f.position, o)
	}
	if err != nil {
		f.report(err)
		f.log, _ = logs.OpenWriter("", "", logs.Options{Driver: logs.None})
	}
	f.chunk = o.Chunk()
	return f
}

// Start begins to copy.
func (f *Foreground) Start() { f.begin() }

// Finish copies the rest. The container has ended.
func (f *Foreground) Finish() error {
	f.finish(false)
	err := f.log.End(time.Now())
	f.close()
	if removed := os.Remove(f.position); !errors.Is(removed, fs.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	return err
}
