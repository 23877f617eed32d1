package monitor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
)

// protocol is the version of what is said over the socket and of what the monitor does. It is raised when a client could
// be wrong about an older monitor. It is a variable because tests build monitors of other versions.
var protocol = "1"

// answerLeaves is the answer of a monitor that makes room for another one.
const answerLeaves = "leaves"

// parseVersion splits a line into the number that it begins with and the rest. A line without one is of version 0, which
// had no numbers.
func parseVersion(line string) (version int, rest string) {
	first, rest, _ := strings.Cut(line, " ")
	version, err := strconv.Atoi(first)
	if err != nil || version < 0 {
		return 0, line
	}
	return version, rest
}

// ownVersion is protocol as a number.
func ownVersion() int {
	version, _ := parseVersion(protocol + " ")
	return version
}

// outlived reports whether another monitor should take this one's place: a client speaks a newer version, or a package manager
// has put another program where this one's was. Of two installations beside each other neither outlives the other as long as
// they speak the same version, or they would take the containers from each other all the time.
func outlived(asked int) bool {
	if asked > ownVersion() {
		return true
	}
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return false
	}
	path, replaced := strings.CutSuffix(path, " (deleted)")
	if !replaced {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// leave has the monitor let go of all containers, between two chunks of their output, and end. They run on, and who asked
// for it starts another monitor.
func (m *Monitor) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stop()
	m.listen.Close()
}

// leaving reports whether the monitor lets go of its containers.
func (m *Monitor) leaving() bool { return m.stays.Err() != nil }

// leavePatience is how long a monitor may take to leave. It holds no lock for longer than a command needs that it waits
// for, and it has no command to wait for.
const leavePatience = 10 * time.Second

// peer returns a descriptor of the process at the other end of a connection, which can be waited for; nil if it is in
// another PID namespace. It is that process for sure if something comes from it afterwards.
func peer(conn net.Conn) (*os.File, error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(controlErr, os.NewSyscallError("getsockopt", err)); err != nil {
		return nil, err
	}
	if cred.Pid == 0 {
		return nil, nil
	}
	fd, err := unix.PidfdOpen(int(cred.Pid), unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return os.NewFile(uintptr(fd), "process "+strconv.Itoa(int(cred.Pid))), nil
}

// awaitLeft waits until a monitor that leaves has ended. One that does not know how to leave is killed, which loses nothing;
// so is one that takes too long.
func awaitLeft(ctx context.Context, process *os.File, knowsHow bool) error {
	if process == nil {
		return errors.New("monitor: it is older than this program, and in another PID namespace, from where it cannot be ended")
	}
	if knowsHow {
		if ended, err := awaitEnd(ctx, process); ended || err != nil {
			return err
		}
	}
	raw, err := process.SyscallConn()
	if err != nil {
		return err
	}
	controlErr := raw.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
	if errors.Is(err, unix.ESRCH) {
		err = nil
	}
	if err := errors.Join(controlErr, os.NewSyscallError("pidfd_send_signal", err)); err != nil {
		return fmt.Errorf("monitor: end an older one: %w", err)
	}
	_, err = awaitEnd(ctx, process)
	return err
}

// awaitEnd waits for the end of a process, for leavePatience.
func awaitEnd(ctx context.Context, process *os.File) (ended bool, err error) {
	if err := process.SetReadDeadline(time.Now().Add(leavePatience)); err != nil {
		return false, err
	}
	defer context.AfterFunc(ctx, func() { process.SetReadDeadline(time.Unix(1, 0)) })()
	err = sys.AwaitReadable(process)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, ctx.Err()
	}
	return err == nil, err
}
