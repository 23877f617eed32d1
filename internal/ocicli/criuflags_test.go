package ocicli

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/creack/pty"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/probe"
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
	requireMemoryTracking(t)
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
	c.back(n)
	c.must("kill", "c", "KILL")
	_ = cmd.Wait() // the exit code says it
	if code := cmd.ProcessState.ExitCode(); code != 137 {
		t.Errorf("exit code %d", code)
	}
	c.waitStopped("c")
	c.must("delete", "c")
}

// A container whose descriptors are the terminal of the shell that it was started from has that of the shell that it is
// brought back from.
func TestCRIUShellJob(t *testing.T) {
	c := newCounting(t, func(spec *specs.Spec) {
		spec.Process.Args = append(spec.Process.Args, "-report", "-exit", "7")
	})
	_, run := c.onShell("run", "c")
	t.Cleanup(func() { c.run("delete", "--force", "c") })
	c.until(func(list []probe.Counted) bool { return len(list) > 2 })
	c.must("checkpoint", "--shell-job", "--image-path", c.image, "c")
	if _ = run.Wait(); run.ProcessState.ExitCode() != 137 { // it waits for the container, which is killed
		t.Errorf("run: %v", run.ProcessState)
	}
	n := len(c.counted())
	defer c.quoteLog("restore.log")
	shown, restore := c.onShell("restore", "--shell-job", "--image-path", c.image, "c")
	c.back(n)
	c.must("kill", "c", "USR1")
	if _ = restore.Wait(); restore.ProcessState.ExitCode() != 7 {
		t.Errorf("restore: %v", restore.ProcessState)
	}
	if r := testkit.Report(t, <-shown); !r.FDs[0].TTY || !r.FDs[1].TTY {
		t.Errorf("it has no terminal: %+v", r.FDs)
	}
}

// onShell starts the runtime in a session of its own, on a terminal. What is shown there comes when all have left it.
func (c *counting) onShell(args ...string) (<-chan []byte, *exec.Cmd) {
	c.t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		c.t.Fatal(err)
	}
	defer slave.Close()
	cmd := c.command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	shown := make(chan []byte, 1)
	go func() {
		text, _ := io.ReadAll(master) // ends with EIO when no slave is open
		master.Close()
		shown <- text
	}()
	return shown, cmd
}
