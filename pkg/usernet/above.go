package usernet

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/network/usermode"
)

// readyPatience is how long a helper may take until it carries packets.
const readyPatience = 20 * time.Second

// aboveOptions are what above is told.
type aboveOptions struct {
	// fifo is where the helper writes when it is ready; empty if it does so on descriptor 3.
	fifo string
	// socket is where it takes orders for ports.
	socket string
	// stdin is a file that the helper has as its standard input, if not empty.
	stdin  string
	ports  []usermode.Port
	helper []string
}

// above runs somebody else's program that carries the packets, and ends it with the container.
//
// The helper's end is not left to this process alone: it is told to end when its descriptor 4
// does, the kernel kills it with us where its privileges allow that, and it is listed in the
// lock, so that whoever undoes the network finds it.
func above(args []string, ready *os.File) error {
	runtime.LockOSThread() // the kernel counts the end of the thread that has started the helper
	var o aboveOptions
	flags := flag.NewFlagSet("above", flag.ContinueOnError)
	flags.StringVar(&o.fifo, "fifo", "", "where the helper says that it is ready")
	flags.StringVar(&o.socket, "socket", "", "where it is asked for ports")
	flags.StringVar(&o.stdin, "stdin", "", "what the helper has as its standard input")
	flags.Var((*ports)(&o.ports), "publish", "ADDRESS:PORT:CONTAINERPORT/PROTOCOL")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.helper = flags.Args(); len(o.helper) == 0 {
		return errors.New("above: what?")
	}
	if o.socket != "" {
		if err := os.Chdir(filepath.Dir(o.socket)); err != nil {
			return err
		}
		o.socket = filepath.Base(o.socket)
	}
	h, err := startHelper(o)
	if err != nil {
		return err
	}
	defer h.end()
	if err := h.awaitReady(); err != nil {
		return err
	}
	for _, p := range o.ports {
		if err := askFor(o.socket, p); err != nil {
			return err
		}
	}
	if err := tellReady(ready); err != nil {
		return err
	}
	return h.wait()
}

// process is a helper that runs.
type process struct {
	cmd   *exec.Cmd
	pidfd int
	ready *os.File
	lives *os.File // its other end is the helper's
}

func startHelper(o aboveOptions) (*process, error) {
	h := &process{cmd: exec.Command(o.helper[0], o.helper[1:]...)}
	var theirs *os.File
	var err error
	if o.fifo != "" {
		if err := unix.Mkfifo(o.fifo, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, &fs.PathError{Op: "mkfifo", Path: o.fifo, Err: err}
		}
		if h.ready, err = os.OpenFile(o.fifo, os.O_RDWR|unix.O_NONBLOCK, 0); err != nil {
			return nil, err
		}
		theirs, err = os.Open(os.DevNull)
	} else {
		h.ready, theirs, err = os.Pipe()
	}
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	gone, lives, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer gone.Close()
	h.lives = lives
	h.cmd.ExtraFiles, h.cmd.Stdout, h.cmd.Stderr = []*os.File{theirs, gone}, os.Stderr, os.Stderr // files: nobody waits for who inherits them
	if o.stdin != "" {
		in, err := os.Open(o.stdin)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		h.cmd.Stdin = in
	}
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, PidFD: &h.pidfd}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	return h, signLock(h.cmd.Process.Pid)
}

// awaitReady returns when the helper carries packets, or has ended instead.
func (h *process) awaitReady() error {
	fd := int(h.ready.Fd())
	ready, err := h.poll(fd, readyPatience)
	switch {
	case err != nil:
		return err
	case !ready:
		_ = unix.Kill(h.cmd.Process.Pid, unix.SIGKILL) // it may have ended by itself
		_ = h.cmd.Wait()                               // which says that
		return fmt.Errorf("%s: %s", h.cmd.Path, complaints())
	}
	return nil
}

// complaints are what has been written to the log, which is the lock, but for the lines about
// processes.
func complaints() string {
	text, err := io.ReadAll(io.NewSectionReader(os.Stderr, 0, 1<<16))
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && (line[0] < '0' || line[0] > '9') {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// poll waits for a descriptor, and for the ends of helper and container: then it returns false.
func (h *process) poll(fd int, patience time.Duration) (bool, error) {
	timeout := -1
	if patience > 0 {
		timeout = int(patience.Milliseconds())
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(h.pidfd), Events: unix.POLLIN}, {Fd: pidFD, Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, timeout)
		if !errors.Is(err, unix.EINTR) {
			return fds[0].Revents&unix.POLLIN != 0, err
		}
	}
}

// wait returns when the container has ended, or the helper.
func (h *process) wait() error {
	_, err := h.poll(-1, 0)
	return err
}

// end ends the helper.
func (h *process) end() {
	_ = unix.PidfdSendSignal(h.pidfd, unix.SIGKILL, nil, 0) // it may have ended
	_ = h.cmd.Wait()                                        // it was killed
	h.lives.Close()
}

// askFor has slirp4netns lead a port of the host to the container. What is asked is numbers, addresses and the names of protocols, which JSON has as
// they are.
func askFor(socket string, p usermode.Port) error {
	host := "0.0.0.0"
	if p.HostIP.IsValid() {
		host = p.HostIP.String()
	}
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, `{"execute":"add_hostfwd","arguments":{"proto":"%s","host_addr":"%s","host_port":%d,"guest_port":%d}}`,
		p.Protocol, host, p.Host, p.Container); err != nil {
		return err
	}
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(c, 1<<16))
	if err != nil {
		return fmt.Errorf("publish %s: %w", p, err)
	}
	if !strings.Contains(string(answer), `"return"`) || strings.Contains(string(answer), `"error"`) {
		return fmt.Errorf("publish %s: slirp4netns: %s", p, strings.TrimSpace(string(answer)))
	}
	return nil
}
