package ocicli

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/containr/containr/internal/testkit"
)

// A criu that does not come to its end is killed, which is said, and a container that it was to freeze goes on; what it
// was to bring back is removed. The first hangs before it does anything, the second in the middle: the memory goes to a
// server that does not take it.
func TestCRIUTakesTooLong(t *testing.T) {
	c := newCounting(t, func(spec *specs.Spec) {
		spec.Process.Args = append([]string{"/probe", "-alloc", "16M"}, spec.Process.Args[1:]...)
	})
	c.start("c")
	slow := filepath.Join(t.TempDir(), "criu")
	testkit.WriteFile(t, slow, "#!/bin/sh\ncase $1 in --version) echo Version: 3.17 ;; *) exec sleep 1000 ;; esac\n", 0o755)
	c.refused("had not come to its end after 100ms, and was killed", "--criu", slow, "checkpoint", "--criu-timeout", "100ms", "--image-path", c.image, "c")
	c.more(len(c.counted()))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c.refused("hint: if it only needs more time", "checkpoint", "--criu-timeout", "3s", "--page-server", l.Addr().String(), "--image-path", c.image, "c")
	if s := c.status("c"); s != "running" {
		t.Errorf("status %s", s)
	}
	c.more(len(c.counted()))
	c.must("checkpoint", "--image-path", c.image, "c")
	c.notRestored("had not come to its end after 100ms, and was killed", "--criu-timeout", "100ms")
	c.refused("must not be negative", "restore", "--criu-timeout", "-1s", "--image-path", c.image, "c")
	defer c.quoteLog("restore.log")
	n := len(c.counted())
	c.must("restore", "--detach", "--image-path", c.image, "c")
	c.more(n)
}

// Flags that are passed on to criu, and those that are about the end of a container that was brought back. The container
// holds a file open whose name is gone, which has another name.
func TestCRIUFlags(t *testing.T) {
	c := newCounting(t, func(spec *specs.Spec) {
		count := spec.Process.Args[len(spec.Process.Args)-2:]
		spec.Process.Args = append([]string{"/probe", "-lock", "/data/open"}, count...)
	})
	c.start("c")
	open, other := filepath.Join(c.data, "open"), filepath.Join(c.data, "other")
	if err := errors.Join(os.Link(open, other), os.Remove(open)); err != nil {
		t.Fatal(err)
	}
	c.refusedWithout("--link-remap", "--file-locks")
	first := filepath.Join(filepath.Dir(c.image), "first")
	c.must("checkpoint", "--pre-dump", "--image-path", first, "c")
	c.must("checkpoint", "--link-remap", "--file-locks", "--parent-path", "../first", "--auto-dedup", "--tcp-skip-in-flight", "--manage-cgroups-mode", "full",
		"--empty-ns", "network", "--image-path", c.image, "c")
	n := len(c.counted())
	defer c.quoteLog("restore.log")
	path, pidFile := filepath.Join(t.TempDir(), "pidfd"), filepath.Join(t.TempDir(), "pid")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := c.command("restore", "--keep", "--no-subreaper", "--pidfd-socket", path, "--pid-file", pidFile, "--file-locks", "--auto-dedup", "--manage-cgroups-mode", "full", "--empty-ns", "network", "--image-path", c.image, "c")
	out, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out // files, as "run" had
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	checkPidfd(t, l, "standard", pidFile)
	c.more(n)
	c.must("kill", "c", "KILL")
	_ = cmd.Wait() // the exit code says it
	if code := cmd.ProcessState.ExitCode(); code != 137 {
		t.Errorf("exit code %d", code)
	}
	c.waitStopped("c")
	c.must("delete", "c")
}
