//go:build linux && (amd64 || arm64)

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// built is containr as make links it.
func built(t *testing.T) string {
	t.Helper()
	program, err := testkit.Build("github.com/containr/containr/cmd/containr", "", "-ldflags=-E main.entry")
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// without returns this process's environment without GOMAXPROCS, and with more.
func without(more ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "GOMAXPROCS=") })
	return append(env, more...)
}

// Short commands have one processor or what the user says, and sysmon sleeps; others are
// ordinary Go programs. They are asked while they wait for a file of variables.
func TestEntry(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("skipped: with one processor there is no difference to see")
	}
	program, dir := built(t), t.TempDir()
	fifo := filepath.Join(dir, "variables")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		words  []string
		env    []string
		procs  int
		sleepy bool
	}{
		{[]string{"run"}, nil, 1, true},
		{[]string{"container", "run"}, nil, 1, true}, // another number of words to be moved
		{[]string{"create"}, nil, 1, true},
		{[]string{"run"}, []string{"GOMAXPROCS=7"}, 7, true},
		{[]string{"load"}, nil, runtime.NumCPU(), false},
	} {
		args := append([]string{"--root", dir}, c.words...)
		if c.sleepy {
			args = append(args, "--env-file", fifo, "--rootfs", dir, "true")
		} else {
			args = append(args, "--input", fifo)
		}
		cmd := exec.Command(program, args...)
		cmd.Env = without(append(c.env, "GODEBUG=schedtrace=1")...)
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(stderr)
		first, err := lines.ReadString('\n') // "SCHED 0ms: gomaxprocs=1 ..."
		if want := fmt.Sprintf("gomaxprocs=%d ", c.procs); err != nil || !strings.Contains(first, want) {
			t.Errorf("%s with %q: the scheduler says %q, %v, want %s", args, c.env, first, err, want)
		}
		done := make(chan struct{})
		go func() { lines.WriteTo(devNull{}); close(done) }()
		variables, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits until the program reads
		if err != nil {
			t.Fatal(err)
		}
		check(t, strings.Join(args, " "), cmd.Process.Pid, c.sleepy)
		_ = cmd.Process.Kill() // it cannot have ended
		variables.Close()
		<-done
		_ = cmd.Wait() // it was killed
	}
}

type devNull struct{}

func (devNull) Write(b []byte) (int, error) { return len(b), nil }

// check looks at the limit of open files, and at the timer slack of every thread.
func check(t *testing.T, what string, pid int, sleepy bool) {
	t.Helper()
	var ours, its unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &its); err != nil {
		t.Fatal(err)
	}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &ours); err != nil {
		t.Fatal(err)
	}
	if its != ours {
		t.Errorf("%s: its limit of open files is %+v, as a Go program it has %+v", what, its, ours)
	}
	if got, want := slackOf(t, pid), slackOf(t, os.Getpid()); got != want {
		t.Errorf("%s: its first thread has a timer slack of %s ns, it was started with %s", what, got, want)
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	found := slices.ContainsFunc(threads, func(path string) bool {
		thread, err := strconv.Atoi(filepath.Base(path))
		return err == nil && slackOf(t, thread) == "10000000"
	})
	if found != sleepy {
		t.Errorf("%s: a thread with a timer slack of ten milliseconds: %t, want %t", what, found, sleepy)
	}
}

func slackOf(t *testing.T, thread int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", thread))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// The variable that the entry adds is no variable of the user's.
func TestEntryLeavesTheEnvironment(t *testing.T) {
	program, dir := built(t), t.TempDir()
	for _, env := range [][]string{nil, {"GOMAXPROCS=7"}, {"GOMAXPROCS=1", "LAST=1"}} {
		cmd := exec.Command(program, "--root", dir, "explain", "--as", "config", "run", "-e", "GOMAXPROCS", "--rootfs", dir, "true")
		cmd.Env = without(env...)
		cmd.Stderr = os.Stderr
		said, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var config struct{ Env []string }
		if err := json.Unmarshal(said, &config); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		if want := append(env, "GOMAXPROCS")[:1]; !slices.Equal(config.Env, want) {
			t.Errorf("with %q the container has %q, want %q", env, config.Env, want)
		}
	}
}
