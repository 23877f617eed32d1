package ocicli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// A program in the foreground that wants a terminal gets one of its own, which is
// shown on the caller's: with run as with exec.
func TestForegroundTerminal(t *testing.T) {
	s := newSite(t, func(spec *specs.Spec) {
		spec.Process.Terminal = true
		spec.Process.Args = []string{"/probe", "-report"}
	})
	if report := testkit.Report(t, onTerminal(t, s, "run", "c")); report.TTY == nil || !report.FDs[0].TTY {
		t.Errorf("run: the program has no terminal of its own: %+v", report.FDs)
	}
	still := newSite(t, nil)
	still.must("run", "-d", "c")
	defer still.run("delete", "--force", "c")
	if report := testkit.Report(t, onTerminal(t, still, "exec", "-t", "c", "/probe", "-report")); report.TTY == nil || !report.FDs[0].TTY {
		t.Errorf("exec: the program has no terminal of its own: %+v", report.FDs)
	}
}

// onTerminal calls the runtime on a new terminal and returns what that showed. The
// terminal's settings are the same afterwards.
func onTerminal(t *testing.T, s *site, args ...string) []byte {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	cmd := s.command(args...)
	cmd.Stdin, cmd.Stdout = slave, slave
	errs, err := os.Create(filepath.Join(t.TempDir(), "err"))
	if err != nil {
		t.Fatal(err)
	}
	defer errs.Close()
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	shown := make(chan []byte, 1)
	go func() {
		text, _ := io.ReadAll(master) // ends with EIO when no slave is open
		shown <- text
	}()
	kill := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	kill.Stop()
	after, e := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	slave.Close()
	text := <-shown
	if err := errors.Join(err, e); err != nil {
		complaint, _ := os.ReadFile(errs.Name())
		t.Fatalf("%q: %v: %s%s", args, err, complaint, text)
	}
	if *after != *before {
		t.Errorf("%q: the terminal is not as it was: %+v, was %+v", args, after, before)
	}
	return text
}
