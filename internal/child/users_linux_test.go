//go:build amd64 || arm64

package child

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

func TestUsersAreAnothersAndTheirProcessEnds(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	own, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	used, wanted := 0, errors.New("what use says")
	err = WithUsers(func(pid int) error {
		used = pid
		ns, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/user")
		if err != nil || ns == own {
			t.Errorf("user namespace %s, %v, that of the test is %s", ns, err, own)
		}
		return wanted
	})
	if !errors.Is(err, wanted) {
		t.Errorf("%v, want %v", err, wanted)
	}
	if err := unix.Kill(used, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("process %d: %v, want that it is gone", used, err)
	}
}

const holdVariable = "CONTAINR_TEST_HOLD_USERS"

func TestUsersEndWithTheirMaker(t *testing.T) {
	if os.Getenv(holdVariable) != "" {
		err := WithUsers(func(pid int) error {
			fmt.Println("held by", pid)
			testkit.WaitToBeKilled()
			return nil
		})
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), holdVariable+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, isNumber := strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(line), "held by "))
	if err != nil || isNumber != nil {
		t.Fatalf("%q, %v", line, err)
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Ended is what a pidfd says of a process when it becomes readable; who waits for ever fails by the test's own time.
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
	_ = cmd.Wait() // killed
}
