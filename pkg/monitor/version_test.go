package monitor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/testkit"
)

// formerVar names the environment variable with the run directory of a monitor that this test binary takes the part of.
const formerVar = "CONTAINR_TEST_FORMER"

func TestMain(m *testing.M) {
	if run := os.Getenv(formerVar); run != "" {
		if err := formerMonitor(run); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// formerMonitor answers as monitors did that knew of no versions, and does not end by itself.
func formerMonitor(run string) error {
	if _, err := durable.TryAcquire(filepath.Join(run, lockName), durable.Exclusive); err != nil {
		return err
	}
	l, err := durable.Listen(run, socketName)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		if _, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
			io.WriteString(conn, "error unknown request\n")
		}
		conn.Close()
	}
}

// A monitor that does not know how to leave is ended all the same, and one that does what it is asked for takes its place.
func TestMonitorWithoutVersionsIsReplaced(t *testing.T) {
	testkit.RequireRoot(t)
	program, err := testkit.Build("github.com/containr/containr/cmd/containr-monitor", runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	former := exec.Command(os.Args[0])
	former.Env = append(os.Environ(), formerVar+"="+dir)
	former.Stderr = os.Stderr
	out, err := former.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := former.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	t.Cleanup(func() { former.Process.Kill() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the former monitor says %q, %v", line, err)
	}
	go func() { ended <- former.Wait() }()
	c := &Client{Options: Options{Root: dir, Run: dir, Command: []string{"/bin/true"}}, Program: program}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const id = "0123456789012345678901234567890123456789012345678901234567890123"
	if err := c.Adopt(ctx, id); err == nil || !strings.Contains(err.Error(), "no such container") {
		t.Errorf("the answer of the new monitor is %v", err)
	}
	select {
	case <-ended:
	case <-ctx.Done():
		t.Error("the former monitor is still there")
	}
	lock, err := durable.Acquire(ctx, filepath.Join(dir, lockName), durable.Exclusive) // the new one ends when it is idle
	if err != nil {
		t.Fatal(err)
	}
	lock.Release()
}

// Commands that look whether there is a monitor do not keep one from starting.
func TestMonitorStartsThoughOthersLook(t *testing.T) {
	dir := t.TempDir()
	c := &Client{Options: Options{Root: dir, Run: dir}}
	path := filepath.Join(dir, lockName)
	for range 2 {
		looker, err := durable.TryAcquire(path, durable.Shared)
		if err != nil {
			t.Fatal(err)
		}
		theirs, ready, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			ended <- Run(Options{Root: dir, Run: dir, Ready: ready})
			ready.Close()
		}()
		runtime.Gosched()
		looker.Release()
		said, err := io.ReadAll(theirs)
		if err != nil || string(said) != "ready" {
			t.Fatalf("it says %q (%v), and ends with %v", said, err, <-ended)
		}
		theirs.Close()
		if !c.Running() {
			t.Error("it does not seem to run")
		}
		if err := <-ended; err != nil { // it is idle
			t.Fatal(err)
		}
	}
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		line, rest string
		version    int
	}{{"adopt 12", "adopt 12", 0}, {"3 adopt 12", "adopt 12", 3}, {"-1 x", "-1 x", 0}, {"12", "", 12}, {"", "", 0}} {
		if version, rest := parseVersion(c.line); version != c.version || rest != c.rest {
			t.Errorf("%q is version %d of %q, want %d of %q", c.line, version, rest, c.version, c.rest)
		}
	}
	if own := ownVersion(); own < 1 || outlived(own) || outlived(own-1) || !outlived(own+1) {
		t.Errorf("version %d, and who leaves for whom is wrong", own)
	}
}
