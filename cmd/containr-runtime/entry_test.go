//go:build linux && (amd64 || arm64)

package main

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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

// A program that starts at entry has one processor, and its arguments and the rest of its
// environment are what it was given. It is asked while it waits for a configuration.
func TestEntry(t *testing.T) {
	program, err := testkit.Build("github.com/containr/containr/cmd/containr-runtime", "", "-ldflags=-E main.entry")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	fifo := filepath.Join(dir, "config.json")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	for _, more := range [][]string{nil, {"--chapters"}} { // an even and an odd number of words to be moved
		cmd := exec.Command(program, append([]string{"--root", dir, "--log", log, "explain", "--bundle", dir}, append(more, "last-argument")...)...)
		cmd.Env = append(os.Environ(), "GOMAXPROCS=7", "GODEBUG=schedtrace=1")
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 40) // "SCHED 0ms: gomaxprocs=1 ..."
		if _, err := io.ReadFull(stderr, first); err != nil || !strings.Contains(string(first), "gomaxprocs=1 ") {
			t.Errorf("the scheduler says %q, %v, on a machine with %d processors", first, err, runtime.NumCPU())
		}
		go io.Copy(io.Discard, stderr)
		config, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits until the program reads
		if err != nil {
			t.Fatal(err)
		}
		checkProcess(t, cmd.Process.Pid)
		if table := variableOf(t, program, cmd.Process.Pid, "runtime.buckhash"); table != 0 {
			t.Errorf("it has a table of samples of what is allocated, at %#x", table)
		}
		if _, err := config.WriteString(`{"root":{"path":"no-such-root"}}`); err != nil {
			t.Fatal(err)
		}
		config.Close()
		_ = cmd.Wait() // the log says it
		if said, err := os.ReadFile(log); err != nil || !strings.Contains(string(said), dir+"/no-such-root") {
			t.Errorf("with %q it answers %s, %v", more, said, err)
		}
		os.Remove(log)
	}
}

// checkProcess checks that a runtime has the limit of open files that Go gives it, and
// the timer slack that it was started with but for one thread, sysmon.
func checkProcess(t *testing.T, pid int) {
	t.Helper()
	var ours, its unix.Rlimit
	if err := errors.Join(unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &its), unix.Getrlimit(unix.RLIMIT_NOFILE, &ours)); err != nil {
		t.Fatal(err)
	}
	if its != ours {
		t.Errorf("its limit of open files is %+v, as a Go program it has %+v", its, ours)
	}
	if got, want := slackOf(t, pid), slackOf(t, os.Getpid()); got != want {
		t.Errorf("its first thread has a timer slack of %s ns, it was started with %s", got, want)
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range threads {
		thread, err := strconv.Atoi(filepath.Base(path))
		if err == nil && slackOf(t, thread) == "10000000" {
			return
		}
	}
	t.Errorf("none of its %d threads has a timer slack of ten milliseconds", len(threads))
}

// variableOf reads a pointer or number of a process.
func variableOf(t *testing.T, program string, pid int, name string) uint64 {
	t.Helper()
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(s elf.Symbol) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("%s has no symbol %s", program, name)
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	var b [8]byte
	if _, err := memory.ReadAt(b[:], int64(list[i].Value)); err != nil {
		t.Fatal(err)
	}
	return binary.LittleEndian.Uint64(b[:])
}

// slackOf returns the timer slack of a thread.
func slackOf(t *testing.T, thread int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", thread))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// What the entry changes for the runtime alone does not reach a container.
func TestEntryIsNotInherited(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: it makes a container of root")
	}
	testkit.Leftovers(t)
	program, err := testkit.Build("github.com/containr/containr/cmd/containr-runtime", "", "-ldflags=-E main.entry")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", program, root+"/program").CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	config := `{"ociVersion":"1.0.2","root":{"path":"root"},"process":{"args":["/program"],"cwd":"/"},
		"linux":{"namespaces":[{"type":"pid"},{"type":"mount"}]}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	runtime := func(script string, args ...string) {
		t.Helper()
		args = append([]string{"-c", script + `; exec "$0" "$@"`, program, "--root", filepath.Join(dir, "state"), "--cgroup-manager", "disabled"}, args...)
		log := filepath.Join(dir, "log") // a pipe would not end before the container does
		f, err := os.Create(log)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd := exec.Command("sh", args...)
		cmd.Stderr = f
		if err := cmd.Run(); err != nil {
			said, _ := os.ReadFile(log) // only for the message
			t.Fatalf("%v: %v: %s", args, err, said)
		}
	}
	pid := filepath.Join(dir, "pid")
	runtime("ulimit -S -n 123", "create", "--bundle", dir, "--pid-file", pid, "entry-test")
	defer runtime(":", "delete", "--force", "entry-test")
	text, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	first, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := slackOf(t, first), slackOf(t, os.Getpid()); got != want {
		t.Errorf("the container has a timer slack of %s ns, the runtime was started with %s", got, want)
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(first, unix.RLIMIT_NOFILE, nil, &limit); err != nil || limit.Cur != 123 {
		t.Errorf("the container may open %d files, %v, the runtime was started with 123", limit.Cur, err)
	}
}
