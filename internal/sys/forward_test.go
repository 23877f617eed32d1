//go:build linux

package sys

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// In the environment, it makes the test binary the program that signals are forwarded to.
const listener = "CONTAINR_TEST_LISTENER"

func TestMain(m *testing.M) {
	if os.Getenv(listener) != "" {
		listen()
	}
	os.Exit(m.Run())
}

// listen prints the numbers of the signals that it gets, and ends with SIGTERM.
func listen() {
	signals := make(chan os.Signal, 100)
	for _, n := range Forwarded {
		signal.Notify(signals, n)
	}
	fmt.Println("ready")
	for s := range signals {
		fmt.Println(int(s.(syscall.Signal)))
		if s == unix.SIGTERM {
			os.Exit(0)
		}
	}
}

// startListener returns a pidfd of the listener and what it prints.
func startListener(t *testing.T) (int, *bufio.Scanner) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), listener+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("listener: %q", lines.Text())
	}
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd, lines
}

// received reads n numbers.
func received(t *testing.T, lines *bufio.Scanner, n int) map[string]bool {
	got := map[string]bool{}
	for range n {
		if !lines.Scan() {
			t.Fatalf("the listener ended after %v", got)
		}
		got[lines.Text()] = true
	}
	return got
}

// send sends a signal to this process. The kernel has delivered it to one of the threads
// when the call returns if it is this one; any other is about to run.
func send(t *testing.T, n unix.Signal) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Tgkill(unix.Getpid(), unix.Gettid(), n); err != nil {
		t.Fatal(err)
	}
}

// Signals from before there is a process reach it, and all those from after.
func TestForward(t *testing.T) {
	fd, lines := startListener(t)
	var f Forwarding
	f.Start()
	defer f.Stop()
	held := []unix.Signal{unix.SIGUSR1, unix.SIGTSTP, unix.SIGHUP, 35, 64}
	for _, n := range held {
		send(t, n)
	}
	if err := f.To(fd); err != nil {
		t.Fatal(err)
	}
	got := received(t, lines, len(held))
	for _, n := range held {
		if !got[fmt.Sprint(int(n))] {
			t.Errorf("signal %d was held and not passed on: %v", n, got)
		}
	}
	for _, n := range Forwarded {
		if n == unix.SIGTERM {
			continue
		}
		send(t, n)
		if got := received(t, lines, 1); !got[fmt.Sprint(int(n))] {
			t.Errorf("signal %d: the listener got %v", n, got)
		}
	}
	send(t, unix.SIGTERM)
	if got := received(t, lines, 1); !got["15"] || lines.Scan() {
		t.Errorf("after SIGTERM: %v, then %q", got, lines.Text())
	}
	send(t, unix.SIGUSR1) // nobody is there any more
}

// What os/signal tells comes back with Stop, and nothing is passed on any more.
func TestForwardStops(t *testing.T) {
	fd, lines := startListener(t)
	told := make(chan os.Signal, 10)
	signal.Notify(told, unix.SIGUSR1)
	defer signal.Stop(told)
	var f Forwarding
	f.Stop() // nothing was started
	f.Start()
	if err := f.To(fd); err != nil {
		t.Fatal(err)
	}
	send(t, unix.SIGUSR1)
	received(t, lines, 1)
	f.Stop()
	send(t, unix.SIGUSR1)
	<-told
	select {
	case s := <-told:
		t.Errorf("told of %v, which was passed on", s)
	default:
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil {
		t.Fatal(err)
	}
	if got := received(t, lines, 1); !got["15"] {
		t.Errorf("passed on after Stop: %v", got)
	}
}

// Signals that come while the process is named are neither lost nor doubled. A SIGTSTP
// that waits is dropped by the kernel when SIGCONT comes, so it is left out.
func TestForwardMeanwhile(t *testing.T) {
	fd, lines := startListener(t)
	var f Forwarding
	f.Start()
	defer f.Stop()
	go func() {
		for _, n := range Forwarded {
			if n != unix.SIGTERM && n != unix.SIGTSTP {
				unix.Kill(unix.Getpid(), n)
			}
		}
	}()
	if err := f.To(fd); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for range len(Forwarded) - 2 {
		if !lines.Scan() {
			t.Fatalf("the listener ended after %v", counts)
		}
		counts[lines.Text()]++
	}
	for n, times := range counts {
		if times != 1 {
			t.Errorf("signal %s came %d times", n, times)
		}
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil {
		t.Fatal(err)
	}
	var rest []string
	for lines.Scan() {
		rest = append(rest, lines.Text())
	}
	if got := strings.Join(rest, " "); got != "15" {
		t.Errorf("then came %q, want 15", got)
	}
}
