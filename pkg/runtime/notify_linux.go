package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/host"
)

// A service that systemd starts with Type=notify says when it is ready by a datagram to
// the socket that $NOTIFY_SOCKET names, see sd_notify(3). If it is in a container, it
// is given another socket, in a directory of the container's that is mounted at
// /run/notify, and what it says there is said once more to the real one: only
// "READY=..." is, so that a container does not get to say "MAINPID=1". The main process
// is ours to name.

const (
	notifyDir    = "notify"
	notifySocket = "notify.sock"
	notifyInside = "/run/notify"
)

// notifyMount adds the directory of the socket, which will be there, to what is asked, and returns the variable that names the socket.
func (r *Runtime) notifyMount(in *Input) string {
	dir := filepath.Join(r.Root, in.ID, notifyDir)
	changed := *in.Spec
	in.Spec = &changed
	in.Spec.Mounts = slices.Concat(in.Spec.Mounts, []specs.Mount{{Destination: notifyInside, Source: dir,
		Type: "bind", Options: []string{"bind", "nosuid", "noexec", "nodev", "ro"}}})
	if in.Sources == nil {
		in.Sources = make(map[string]host.Source)
	}
	in.Sources[dir] = host.Look(filepath.Dir(r.Root)) // a directory on the same file system
	return "NOTIFY_SOCKET=" + notifyInside + "/" + notifySocket
}

// Relay carries what a container says to its notify socket to the caller's own. A nil
// Relay carries nothing.
type Relay struct {
	fd   int
	path string
	host string
}

// Relay makes the container's end of the notify socket, for a container that was made
// with CreateRequest.Notify and waits for its start. Create itself makes it for one that
// does not wait, see Started.
func (r *Runtime) Relay(id string) (*Relay, error) {
	path := filepath.Join(r.Root, id, notifyDir, notifySocket)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := bindAt(fd, path); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("notify socket of container %q: %w", id, err)
	}
	return &Relay{fd: fd, path: path, host: os.Getenv("NOTIFY_SOCKET")}, nil
}

// bindAt binds a socket to a path that may be longer than a socket's address, through
// the directory. Everybody in the container may write to it.
func bindAt(fd int, path string) error {
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	defer unix.Close(dir)
	short := "/proc/self/fd/" + strconv.Itoa(dir) + "/" + filepath.Base(path)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: short}); err != nil {
		return &os.PathError{Op: "bind", Path: path, Err: err}
	}
	return os.Chmod(path, 0o777)
}

// Forward waits until the container says that it is ready, and says so to the caller's
// notify socket, with mainPID as the process to watch. It returns at once when the first
// process, pid, ends before.
func (n *Relay) Forward(pid, mainPID int) error {
	if n == nil {
		return nil
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pidfd_open %d: %w", pid, err)
	}
	defer unix.Close(pidfd)
	for {
		fds := []unix.PollFd{{Fd: int32(n.fd), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
		if fds[0].Revents != 0 {
			if ready, err := n.ready(); err != nil || ready != "" {
				return errors.Join(err, n.tell(ready, mainPID))
			}
		} else if fds[1].Revents != 0 {
			return nil
		}
	}
}

// ready reads a datagram and returns its line READY=, if it has one.
func (n *Relay) ready() (string, error) {
	var b [4096]byte
	count, _, err := unix.Recvfrom(n.fd, b[:], unix.MSG_DONTWAIT)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return "", nil
	}
	if err != nil {
		return "", os.NewSyscallError("recvfrom", err)
	}
	for line := range strings.SplitSeq(string(b[:count]), "\n") {
		if strings.HasPrefix(line, "READY=") {
			return line, nil
		}
	}
	return "", nil
}

// tell says to the caller's socket that the container is ready, and waits until that
// has been heard: the other side closes what came with BARRIER=1.
func (n *Relay) tell(ready string, mainPID int) error {
	if ready == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrUnix{Name: n.host} // one that begins with @ is abstract
	say := func(what string, rights []byte) error {
		if err := unix.Sendmsg(fd, []byte(what), rights, to, unix.MSG_NOSIGNAL); err != nil {
			return fmt.Errorf("notify socket %s: sendmsg: %w", n.host, err)
		}
		return nil
	}
	if err := say(ready+"\n", nil); err != nil {
		return err
	}
	if err := say("MAINPID="+strconv.Itoa(mainPID)+"\n", nil); err != nil {
		return err
	}
	return n.barrier(say)
}

// barrierPatience is how long the other side may take, in milliseconds: as systemd's own.
const barrierPatience = 30_000

func (n *Relay) barrier(say func(string, []byte) error) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(pipe[0])
	err := say("BARRIER=1", unix.UnixRights(pipe[1]))
	unix.Close(pipe[1])
	if err != nil {
		return err
	}
	poll := []unix.PollFd{{Fd: int32(pipe[0])}} // POLLHUP comes unasked
	err = unix.EINTR
	for errors.Is(err, unix.EINTR) {
		_, err = unix.Poll(poll, barrierPatience)
	}
	if err != nil {
		return os.NewSyscallError("poll", err)
	}
	return nil
}

// Close ends the relay.
func (n *Relay) Close() {
	if n != nil {
		unix.Close(n.fd)
	}
}
