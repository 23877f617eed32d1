package monitor

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/timerslack"
)

// Client talks to the monitor of a state root, and starts it if need be.
type Client struct {
	// Options are those of a monitor that is started.
	Options
	// Program is the monitor's program; empty if it was not found.
	Program string
}

// ErrNoProgram means that the monitor's program was not found.
var ErrNoProgram = errors.New("containr-monitor, which looks after containers in the background, is not there")

// Running reports whether there is a monitor.
func (c *Client) Running() bool {
	lock, err := durable.TryAcquireExisting(filepath.Join(c.Run, lockName), durable.Shared)
	if err == nil {
		lock.Release()
	}
	return errors.Is(err, durable.ErrLocked)
}

// attempts is how often a monitor that ends just then is started again.
const attempts = 5

// Adopt has the monitor look after a container. The error wraps durable.ErrLocked if
// somebody else attends to it.
func (c *Client) Adopt(ctx context.Context, id string) error {
	conn, _, err := c.request(ctx, "adopt "+id)
	if err == nil {
		conn.Close()
	}
	return err
}

// Announce tells the monitor that a container is about to be started. When the caller
// closes the answer, or is killed, the monitor looks after the container if nobody does.
func (c *Client) Announce(ctx context.Context, id string) (io.Closer, error) {
	conn, _, err := c.request(ctx, "announce "+id)
	return conn, err
}

// Ensure starts the monitor if there is none.
func (c *Client) Ensure(ctx context.Context) error {
	conn, err := c.dial(ctx)
	if err == nil {
		conn.Close()
	}
	return err
}

// Attachment is what a container writes from now on.
type Attachment struct {
	conn net.Conn
	in   *bufio.Reader
	// process is the one that sends it, if that is not the monitor; nil also if it is in
	// another PID namespace.
	process *os.File
}

// Attach has the monitor send what a container writes that runs.
func (c *Client) Attach(ctx context.Context, id string) (*Attachment, error) {
	return c.attach(ctx, "attach "+id)
}

// Await has the monitor send what a container writes that is about to be started.
func (c *Client) Await(ctx context.Context, id string) (*Attachment, error) {
	return c.attach(ctx, "await "+id)
}

func (c *Client) attach(ctx context.Context, line string) (*Attachment, error) {
	conn, in, err := c.request(ctx, line)
	if err != nil {
		return nil, err
	}
	return &Attachment{conn: conn, in: in}, nil
}

// Next returns the next frame. The error is io.ErrUnexpectedEOF if the monitor has ended
// before the container, and wraps net.ErrClosed after Close.
func (a *Attachment) Next() (Kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(a.in, head[:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	data := make([]byte, binary.LittleEndian.Uint32(head[1:]))
	if _, err := io.ReadFull(a.in, data); err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return Kind(head[0]), data, nil
}

// Number is the data of frames that hold a number.
func Number(data []byte) int { return int(binary.LittleEndian.Uint32(data)) }

// Close ends the attachment; the container goes on.
func (a *Attachment) Close() error {
	if a.process != nil {
		a.process.Close()
	}
	return a.conn.Close()
}

// AwaitSender waits until the process that sends the output has ended, and with it the locks
// that it held, if it is not the monitor. It is for when Next returned io.ErrUnexpectedEOF.
func (a *Attachment) AwaitSender(ctx context.Context) error {
	if a.process == nil {
		return nil
	}
	_, err := awaitEnd(ctx, a.process)
	return err
}

// request sends a request and reads the answer. A monitor that leaves is waited for, and another one started.
func (c *Client) request(ctx context.Context, line string) (net.Conn, *bufio.Reader, error) {
	var last error
	for range attempts {
		conn, err := c.dial(ctx)
		if err != nil {
			return nil, nil, err
		}
		in := bufio.NewReaderSize(conn, 64<<10)
		answer, err := c.ask(ctx, conn, in, line)
		if err == nil && answer == "ok" {
			return conn, in, nil
		}
		conn.Close()
		switch text, failed := strings.CutPrefix(answer, "error "); {
		case errors.Is(err, errLeft):
			last = err // it has just ended
		case err != nil:
			return nil, nil, err
		case answer == "busy":
			return nil, nil, fmt.Errorf("monitor: %s: %w", line, durable.ErrLocked)
		case failed:
			return nil, nil, fmt.Errorf("monitor: %s: %s", line, text)
		default:
			return nil, nil, fmt.Errorf("monitor: %s: it answers %q", line, answer)
		}
	}
	return nil, nil, fmt.Errorf("monitor: %s: it ends each time: %w", line, last)
}

// errLeft means that the monitor has ended instead of answering.
var errLeft = errors.New("it has ended")

// ask sends one request over a connection and returns the answer, which the monitor that gave it is new enough for.
func (c *Client) ask(ctx context.Context, conn net.Conn, in *bufio.Reader, line string) (answer string, err error) {
	process, err := peer(conn)
	if errors.Is(err, unix.ESRCH) {
		return "", errLeft
	}
	if err != nil {
		return "", fmt.Errorf("monitor: %w", err)
	}
	if process != nil {
		defer process.Close()
	}
	if _, err := fmt.Fprintf(conn, "%s %s\n", protocol, line); err != nil {
		return "", fmt.Errorf("%w: %w", errLeft, err)
	}
	text, err := in.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%w: %w", errLeft, err)
	}
	version, answer := parseVersion(strings.TrimSuffix(text, "\n"))
	if version == 0 || answer == answerLeaves {
		if c.Program == "" {
			return "", ErrNoProgram // nobody would take its place
		}
		return "", errors.Join(awaitLeft(ctx, process, version > 0), errLeft)
	}
	return answer, nil
}

// dial connects, and starts the monitor if nobody answers.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	dir, err := os.Open(c.Run)
	if err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	defer dir.Close()
	for failed := 0; ; {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", durable.SocketAddress(dir, socketName))
		if err == nil {
			return conn, nil
		}
		if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("monitor: %w", err)
		}
		err = c.start(ctx)
		if (errors.Is(err, errKilled) || errors.Is(err, errHeld)) && failed < attempts {
			failed++ // another one may have more luck
			continue
		}
		if err != nil {
			return nil, err
		}
	}
}

// errKilled means that the monitor was killed while it started.
var errKilled = errors.New("it was killed")

// errHeld means that the monitor found its lock held: by another one, or by a command that just looked whether there is
// one.
var errHeld = errors.New("there was another one, which does not answer")

// start starts the monitor, and returns when it answers requests, or when there is
// another that does.
func (c *Client) start(ctx context.Context) error {
	if c.Program == "" {
		return ErrNoProgram
	}
	starting, err := durable.Acquire(ctx, filepath.Join(c.Run, "monitor.start"), durable.Exclusive)
	if err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	defer starting.Release()
	// A monitor that ends holds its lock to the last, and one that somebody else has just
	// started has it and does not answer yet.
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	lock, err := durable.Acquire(short, filepath.Join(c.Run, lockName), durable.Shared)
	switch {
	case err == nil:
		lock.Release()
		return c.execute()
	case short.Err() != nil && ctx.Err() == nil:
		return nil // perhaps it answers now
	}
	return fmt.Errorf("monitor: %w", err)
}

func (c *Client) execute() error {
	ready, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	defer ready.Close()
	defer theirs.Close()
	log, err := openLog(filepath.Join(c.Run, logName))
	if err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	defer log.Close()
	if err := keepOthersOut(); err != nil {
		return err
	}
	cmd := exec.Command(c.Program, append([]string{c.Root, c.Run}, c.Command...)...)
	cmd.Stderr, cmd.ExtraFiles, cmd.Dir = log, []*os.File{theirs}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := timerslack.Do(cmd.Start); err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	theirs.Close()
	said, err := io.ReadAll(ready)
	if err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	if string(said) != "ready" {
		err := cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signal() == unix.SIGKILL {
			return fmt.Errorf("monitor: %w while it started: see %s", errKilled, log.Name())
		}
		if err == nil {
			return fmt.Errorf("monitor: %w: see %s", errHeld, log.Name())
		}
		return fmt.Errorf("monitor: it did not start (%v): see %s", err, log.Name())
	}
	return cmd.Process.Release()
}

// maxLog bounds the monitor's own log, in bytes.
const maxLog = 1 << 20

func openLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.Size() > maxLog {
		err = f.Truncate(0)
		return f, err
	}
	return f, nil
}
