package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/internal/timerslack"
	"github.com/containr/containr/pkg/network/usermode"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// ErrCarrier means that the program that is to carry a container's packets could not.
var ErrCarrier = errors.New("the container's network could not be made")

// startNetwork starts the program that carries a container's packets, and returns when it does.
// The lock is the program's before it is executed: so whoever finds it free knows that there
// is none.
func startNetwork(c linux.StartNetwork, regs map[plan.Reg]int) error {
	if err := os.MkdirAll(filepath.Dir(c.Lock), 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(c.Lock, os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := durable.TryLockFile(lock, durable.Exclusive); err != nil {
		return fmt.Errorf("%s: %w", c.Lock, err)
	}
	if err := lock.Truncate(0); err != nil {
		return err
	}
	pid := regs[c.PID]
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	defer pidfd.Close()
	files := []*os.File{pidfd, lock}
	if c.Tap != "" {
		tap, err := unix.FcntlInt(uintptr(regs[c.Tap]), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return fmt.Errorf("tap: %w", err)
		}
		f := os.NewFile(uintptr(tap), "tap")
		defer f.Close()
		files = append(files, f)
	}
	args := make([]string, len(c.Args))
	for i, a := range c.Args {
		args[i] = strings.ReplaceAll(a, linux.PIDWord, strconv.Itoa(pid))
	}
	return execute(c.Program, args, lock, files)
}

// execute starts the program with a pipe to tell when it is ready, and the files behind it. What
// it complains of goes to the log.
func execute(program string, args []string, log *os.File, files []*os.File) error {
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	defer theirs.Close()
	// What a careless parent has left open to us is not the program's.
	if err := sys.CloseOnExec(); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	cmd := exec.Command(program, args...)
	cmd.ExtraFiles, cmd.Dir = append([]*os.File{theirs}, files...), "/"
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := timerslack.Do(cmd.Start); err != nil {
		return err
	}
	go cmd.Wait() // or it would be a zombie of ours
	theirs.Close()
	said, err := io.ReadAll(io.LimitReader(ready, maxSaid))
	if err != nil {
		return err
	}
	if text, failed := strings.CutPrefix(string(said), "error: "); failed {
		return fmt.Errorf("%w: %s", ErrCarrier, text)
	}
	if string(said) != "ready" {
		return fmt.Errorf("%w: %s ended before it was ready", ErrCarrier, program)
	}
	return nil
}

// carrierPatience is how long the program may take to answer.
const carrierPatience = 10 * time.Second

// dialCarrier connects with a socket. This package does without package net, which is as large as all of it.
func dialCarrier(socket string) (*os.File, error) {
	dir, err := os.Open(filepath.Dir(socket))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	c := os.NewFile(uintptr(fd), socket)
	wait := unix.NsecToTimeval(carrierPatience.Nanoseconds())
	if err := errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.Connect(fd, &unix.SockaddrUnix{Name: durable.SocketAddress(dir, filepath.Base(socket))})); err != nil {
		return nil, errors.Join(fmt.Errorf("connect %s: %w", socket, err), c.Close())
	}
	return c, nil
}

// askCarrier has the program that carries packets do something. An error of the kernel's comes back as its number.
func askCarrier(socket, request string) error {
	c, err := dialCarrier(socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, request+"\n"); err != nil {
		return err
	}
	said, err := io.ReadAll(io.LimitReader(c, maxSaid))
	if err != nil {
		return err
	}
	var number int
	if n, _ := fmt.Sscanf(string(said), "errno %d", &number); n == 1 {
		return unix.Errno(number)
	}
	if answer := strings.TrimSpace(string(said)); answer != "ok" {
		return fmt.Errorf("%w: %s", ErrCarrier, answer)
	}
	return nil
}

// maxSaid bounds what the program says of an error, in bytes.
const maxSaid = 64 << 10

// endPatience is how long a program whose container has ended may need to end: by itself, and
// then when it is killed.
const endPatience = 5 * time.Second

// endNetwork returns when nobody carries packets any more, and removes the lock and what lies
// beside it. The container has ended. Whoever is listed in the lock and has not ended by then is
// killed: a helper may have lost the program that was to end it.
func endNetwork(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	waited := lockWithin(f, endPatience)
	if err := endListed(f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if waited != nil {
		if err := lockWithin(f, endPatience); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	for _, name := range []string{path + usermode.ReadySuffix, path + usermode.SocketSuffix, path} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func lockWithin(f *os.File, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return durable.LockFile(ctx, f, durable.Exclusive)
}

// endListed kills the processes that are listed in a lock, if they are still the same.
func endListed(f *os.File) error {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, maxSaid))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		var pid int
		var start uint64
		if n, _ := fmt.Sscanf(line, "%d %d\n", &pid, &start); n != 2 { // a complaint, not a process
			continue
		}
		if killErr := killProcess(pid, start); killErr != nil {
			err = errors.Join(err, fmt.Errorf("process %d: %w", pid, killErr))
		}
	}
	return err
}

// killProcess kills a process, unless the number is another one's by now, and waits for its end.
func killProcess(pid int, start uint64) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if now, err := sys.StartTime(pid); err != nil || now != start {
		return nil // that one has ended
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(endPatience.Milliseconds()))
	if err == nil && n == 0 {
		err = errors.New("it was killed and does not end")
	}
	return err
}
