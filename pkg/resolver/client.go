package resolver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/internal/timerslack"
)

// ErrPort means that names cannot be answered, as something else listens where they are asked for.
var ErrPort = errors.New("another name server listens there")

// Client talks to the resolver of a state root, and starts it if need be.
type Client struct {
	// Run is the run directory.
	Run string
	// Program is the program that is executed with the words resolver and Run.
	Program string
	// File and Carrier: see Options. Carrier is given only with File.
	File, Carrier string
}

// Running reports whether there is a resolver.
func (c *Client) Running() bool {
	lock, err := durable.TryAcquireExisting(filepath.Join(c.Run, lockName), durable.Shared)
	if err == nil {
		lock.Release()
	}
	return errors.Is(err, durable.ErrLocked)
}

// Needed reports whether there are names to be answered and nobody does.
func (c *Client) Needed() bool {
	entries, err := os.ReadDir(dirOf(c.Run))
	return err == nil && len(entries) > 0 && !c.Running()
}

// attempts is how often a resolver that ends just then is started again.
const attempts = 5

// errEnded means that the resolver has ended instead of answering.
var errEnded = errors.New("it has ended")

// Look returns when all entries that are written by now can be asked for at these addresses.
func (c *Client) Look(ctx context.Context, gateways []netip.Addr) error {
	line := fmt.Sprintf("%d look", protocol)
	for _, g := range gateways {
		line += " " + g.String()
	}
	var last error
	for range attempts {
		answer, err := c.ask(ctx, line)
		text, failed := strings.CutPrefix(answer, answerError)
		switch {
		case errors.Is(err, errEnded):
			last = err
		case err != nil:
			return fmt.Errorf("resolver: %w", err)
		case answer == answerOK:
			return nil
		case answer == answerLeaves:
			last = errEnded
		case failed && strings.Contains(text, unix.EADDRINUSE.Error()):
			return fmt.Errorf("resolver: %s: %w", text, ErrPort)
		default:
			return fmt.Errorf("resolver: it answers %q", answer)
		}
	}
	return fmt.Errorf("resolver: it ends each time: %w", last)
}

// ask sends a request, and starts the resolver if nobody listens.
func (c *Client) ask(ctx context.Context, line string) (string, error) {
	dir, err := os.Open(c.Run)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", durable.SocketAddress(dir, socketName))
		if err == nil {
			defer conn.Close()
			return exchange(conn, line)
		}
		if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err := c.start(ctx); err != nil {
			return "", err
		}
	}
}

func exchange(conn net.Conn, line string) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(2 * requestPatience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(conn, line); err != nil {
		return "", errEnded
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", err
	}
	if err != nil {
		return "", errEnded
	}
	return strings.TrimSuffix(answer, "\n"), nil
}

// start starts the resolver, and returns when it answers requests, or when there is another
// that does. One that ends holds its lock to the last, and one that somebody else has just started has it and does not
// answer yet.
func (c *Client) start(ctx context.Context) error {
	starting, err := durable.Acquire(ctx, filepath.Join(c.Run, startName), durable.Exclusive)
	if err != nil {
		return err
	}
	defer starting.Release()
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
	return err
}

// maxLog bounds the resolver's log, in bytes.
const maxLog = 1 << 20

func (c *Client) execute() error {
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	defer theirs.Close()
	log, err := os.OpenFile(filepath.Join(c.Run, logName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	if info, err := log.Stat(); err == nil && info.Size() > maxLog {
		if err := log.Truncate(0); err != nil {
			return err
		}
	}
	// What a careless parent has left open to us is not the resolver's.
	if err := sys.CloseOnExec(); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	cmd := exec.Command(c.Program, "resolver", c.Run)
	if c.File != "" {
		cmd.Args = append(cmd.Args, c.File, c.Carrier)
	}
	cmd.Stderr, cmd.ExtraFiles, cmd.Dir = log, []*os.File{theirs}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := timerslack.Do(cmd.Start); err != nil {
		return err
	}
	theirs.Close()
	said, err := io.ReadAll(ready)
	if err != nil {
		return err
	}
	if string(said) != "ready" {
		return fmt.Errorf("it did not start (%v): see %s", cmd.Wait(), log.Name())
	}
	return cmd.Process.Release()
}
