package runtime

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// procDir opens /proc/PID of the container's first process. Once it is open, it is that
// process or nothing: what is opened below it when the process has gone is ESRCH.
// Before, the process may have ended, and its number be somebody else's: nobody waits
// for it but its parent, which is us or the keeper that we wait for, so a process with
// that parent is the one. Otherwise the answer is ESRCH too.
func (e *execution) procDir() (int, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(e.pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, gone(err)
	}
	want := os.Getpid()
	if e.proc.PID != e.pid {
		want = e.proc.PID
	}
	parent, err := parentOf(fd)
	if err == nil && parent != want && !(e.moved && parent == os.Getpid()) {
		err = unix.ESRCH
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// parentOf reads field 4 of a process's stat (proc(5)).
func parentOf(dir int) (int, error) {
	fd, err := unix.Openat(dir, "stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, gone(err)
	}
	defer unix.Close(fd)
	var b [1024]byte
	n, err := unix.Read(fd, b[:])
	if err != nil {
		return 0, gone(err)
	}
	// The process chooses its name, field 2, and may put parentheses into it.
	text := string(b[:n])
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0, unix.EIO
	}
	return strconv.Atoi(fields[1])
}

// gone makes one error of those by which /proc says that there is no such process.
func gone(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return unix.ESRCH
	}
	return err
}

// writeProc writes a file in /proc/PID of the container's first process in one write(2).
func (e *execution) writeProc(file, data string) error {
	dir, err := e.procDir()
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat(dir, file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(data))
	return errors.Join(err, unix.Close(fd))
}
