package monitor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/logs"
	"github.com/containr/containr/pkg/streams"
)

// Foreground copies what a container in the foreground writes to its log and to who runs it.
// Nothing is lost: the container waits until both have it. If who runs it is killed, a
// monitor goes on with the log.
//
// It also answers "attach" at a socket of the container's own, as the monitor does at its: who
// else wants to see the output gets it from here.
type Foreground struct {
	copier
	position, run string

	listen net.Listener // nil if there is no socket
	talks  sync.WaitGroup
	mu     sync.Mutex // for conns, which is nil when nobody is served any more
	conns  map[net.Conn]bool
}

// foregroundSocket is the name in positionDir of the socket of a container in the foreground.
func foregroundSocket(id string) string { return id + ".sock" }

// OpenForeground opens the log of a container that has been started, and whose lock is held.
// Finish or Leave closes the ends. When write returns an error, nobody needs that output any
// more, and what the container writes to it after that is not read. Without a log, because the
// disk is full for instance, the container runs all the same.
func OpenForeground(root, run string, r container.Record, ends *streams.Ends, write func(o *streams.Output, data []byte) error) *Foreground {
	f := &Foreground{copier: copier{id: r.ID, ends: ends, write: write, hub: newHub()},
		position: filepath.Join(positionDir(run), r.ID), run: run, conns: map[net.Conn]bool{}}
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

// Start begins to copy, and to answer. Without a socket nobody can attach, and all else goes on.
func (f *Foreground) Start() {
	var err error
	if f.listen, err = durable.Listen(positionDir(f.run), foregroundSocket(f.id)); err != nil {
		f.report(fmt.Errorf("nobody can attach: %w", err))
	} else {
		go f.serve()
	}
	f.begin()
}

// Finish copies the rest. The container has ended, and code is its exit status.
func (f *Foreground) Finish(code int) error {
	f.finish(false)
	err := f.log.End(time.Now())
	f.hub.close()
	f.hub.end(code)
	f.hangUp()
	f.close()
	if removed := os.Remove(f.position); !errors.Is(removed, fs.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	return err
}

// Stop stops copying where it is. The container goes on, and a monitor can go on with its log.
func (f *Foreground) Stop() {
	f.finish(true)
	f.close()
}

// Dismiss lets go of all who are attached, after Stop. They look for the monitor then.
func (f *Foreground) Dismiss() {
	f.hub.close()
	f.hub.drop()
	f.hangUp()
}

// serve answers until the socket is closed.
func (f *Foreground) serve() {
	for {
		conn, err := f.listen.Accept()
		if err != nil {
			return // it was closed
		}
		f.mu.Lock()
		if f.conns == nil {
			conn.Close()
		} else {
			f.conns[conn] = true
			f.talks.Go(func() { f.answer(conn) })
		}
		f.mu.Unlock()
	}
}

// answer sends what the container writes to a client, until it ends or the client goes.
func (f *Foreground) answer(conn net.Conn) {
	defer conn.Close()
	line, err := bufio.NewReader(io.LimitReader(conn, 1024)).ReadString('\n')
	if err != nil {
		return
	}
	if _, request := parseVersion(strings.TrimSuffix(line, "\n")); request != "attach "+f.id {
		reply(conn, errors.New("unknown request"))
		return
	}
	c := newClient()
	if !f.hub.add(c) {
		return
	}
	f.hub.serve(conn, c)
}

// hangUp closes the socket, and waits until the clients have what waits for them; for lastWords
// at most.
func (f *Foreground) hangUp() {
	if f.listen == nil {
		return
	}
	f.listen.Close()
	os.Remove(filepath.Join(positionDir(f.run), foregroundSocket(f.id))) // or who removes the container does
	f.mu.Lock()
	for conn := range f.conns {
		conn.SetDeadline(time.Now().Add(lastWords))
	}
	f.conns = nil
	f.mu.Unlock()
	f.talks.Wait()
}

// AttachForeground has who runs a container in the foreground send what it writes. The result is nil
// if there is nobody who does.
func AttachForeground(ctx context.Context, run, id string) (*Attachment, error) {
	dir, err := os.Open(positionDir(run))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", durable.SocketAddress(dir, foregroundSocket(id)))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	a := &Attachment{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
	a.process, err = peer(conn)
	if err == nil {
		_, err = fmt.Fprintf(conn, "%s attach %s\n", protocol, id)
	}
	var text string
	if err == nil {
		text, err = a.in.ReadString('\n')
	}
	if err != nil { // it has just ended
		return nil, a.Close()
	}
	if _, answer := parseVersion(strings.TrimSuffix(text, "\n")); answer != "ok" {
		a.Close()
		return nil, fmt.Errorf("attach: who runs the container answers %q", answer)
	}
	return a, nil
}
