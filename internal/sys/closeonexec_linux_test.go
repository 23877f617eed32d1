package sys

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What a parent has left open is not passed on to the programs that are executed, also where the kernel cannot mark many
// descriptors at once; and an error that does not mean that is told.
func TestNothingOfOthersIsPassedOn(t *testing.T) {
	defer func() { closeRange = unix.CloseRange }()
	for name, answer := range map[string]error{"of this kernel": nil, "Linux 5.10": unix.EINVAL, "Linux 5.8": unix.ENOSYS} {
		closeRange = unix.CloseRange
		if answer != nil {
			closeRange = func(_, _, _ uint) error { return answer }
		}
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], 0); err != nil { // without close-on-exec, as a careless parent makes it
			t.Fatal(err)
		}
		if !inherited(t, pipe[1]) {
			t.Fatal("the test sees nothing")
		}
		if err := CloseOnExec(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if inherited(t, pipe[1]) {
			t.Errorf("close_range %s: descriptor %d is passed on", name, pipe[1])
		}
		if err := errors.Join(unix.Close(pipe[0]), unix.Close(pipe[1])); err != nil {
			t.Error(err)
		}
	}
	closeRange = func(_, _, _ uint) error { return unix.EPERM }
	if err := CloseOnExec(); !errors.Is(err, unix.EPERM) {
		t.Errorf("error %v, want EPERM", err)
	}
}

// inherited reports whether a program that this process executes has the pipe that fd is open on.
func inherited(t *testing.T, fd int) bool {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ls", "-l", "/proc/self/fd").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(out), "pipe:["+strconv.FormatUint(st.Ino, 10)+"]")
}
