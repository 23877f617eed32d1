//go:build linux && (amd64 || arm64)

package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
		if err := os.WriteFile(fifo, []byte(`{"root":{"path":"no-such-root"}}`), 0); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // the log says it
		if said, err := os.ReadFile(log); err != nil || !strings.Contains(string(said), dir+"/no-such-root") {
			t.Errorf("with %q it answers %s, %v", more, said, err)
		}
		os.Remove(log)
	}
}
