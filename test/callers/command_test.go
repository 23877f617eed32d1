package callers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// patience is how long a command or a condition may take; an emulated machine takes much of it.
const patience = 2 * time.Minute

// runtimeVar names the environment variable with the path of a ready-made containr-runtime, for machines without Go.
const runtimeVar = "CONTAINR_TEST_RUNTIME"

// runtimePath returns the path of containr-runtime, building it if need be.
func runtimePath(t *testing.T) string {
	t.Helper()
	if path := os.Getenv(runtimeVar); path != "" {
		return path
	}
	path, err := testkit.Build("github.com/containr/containr/cmd/containr-runtime", runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// caller is a program with the flags that every call of it has.
type caller struct {
	argv, env []string
	// lone is the network of containers whose network is not what is tested. It is "none", unless that costs more than all else.
	lone string
	// direct does a call without the program, see aside; false if it cannot.
	direct func(ctx context.Context, args []string) (answer, bool)
	asides bool
	// user is who calls, in dir, if it is not root.
	user *syscall.Credential
	dir  string
}

// aside is the same caller for what is not tested itself: looks at a state that the test waits for, and removals. An emulated
// processor starts a client such as docker's for a second and a half; so this goes without, where that can be.
func (c caller) aside() caller {
	c.asides = true
	return c
}

// answer is what a command said.
type answer struct {
	code           int
	stdout, stderr string
}

// command prepares a call.
func (c caller) command(ctx context.Context, args ...string) *exec.Cmd {
	argv := append(append([]string{}, c.argv...), args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = append(os.Environ(), c.env...), c.dir
	if c.user != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.user}
	}
	cmd.WaitDelay = time.Second
	return cmd
}

// call runs a command to its end.
func (c caller) call(t *testing.T, args ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if c.asides && c.direct != nil {
		if a, ok := c.direct(ctx, args); ok {
			return a
		}
	}
	cmd := c.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s%s", cmd, err, &stdout, &stderr)
	}
	return answer{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// wants runs a command that must end with this code and print this.
func (c caller) wants(t *testing.T, code int, stdout string, args ...string) {
	t.Helper()
	if a := c.call(t, args...); a.code != code || a.stdout != stdout {
		t.Errorf("%s: exit code %d, want %d; prints %q, want %q\n%s", strings.Join(args, " "), a.code, code, a.stdout, stdout, a.stderr)
	}
}

// must runs a command that must succeed, and returns what it printed.
func (c caller) must(t *testing.T, args ...string) string {
	t.Helper()
	a := c.call(t, args...)
	if a.code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", strings.Join(args, " "), a.code, a.stdout, a.stderr)
	}
	return a.stdout
}

// eventually waits until a command prints text that satisfies ok.
func (c caller) eventually(t *testing.T, ok func(string) bool, args ...string) {
	t.Helper()
	var last answer
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		last = c.call(t, args...)
		if last.code == 0 && ok(last.stdout) {
			return
		}
		time.Sleep(50 * time.Millisecond) // between two looks
	}
	t.Fatalf("%s: still prints %q\n%s", strings.Join(args, " "), last.stdout, last.stderr)
}

// is tells whether output is this word.
func is(word string) func(string) bool {
	return func(out string) bool { return strings.TrimSpace(out) == word }
}

// terminal runs a command on a terminal of 33 lines and 97 columns, types the input, and returns the exit code and
// what the terminal showed.
func (c caller) terminal(t *testing.T, input string, args ...string) (code int, screen string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := c.command(ctx, args...)
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 97})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.WriteString(f, input); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(f) // fails with EIO when the command has closed the other side
	if err != nil && !errors.Is(err, unix.EIO) {
		t.Fatal(err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// daemon starts a program that runs until the end of the test, and is then ended by TERM. Its log is shown when the
// test fails.
func daemon(t *testing.T, argv ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer stop.Stop()
		cmd.Process.Signal(unix.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			showLog(t, argv[0], log)
		}
		log.Close()
	})
}

// showLog prints the end of a log, without what is mere information.
func showLog(t *testing.T, name string, log *os.File) {
	text, err := os.ReadFile(log.Name())
	if err != nil {
		t.Error(err)
		return
	}
	var kept []string
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "level=info") && !strings.Contains(line, "level=debug") {
			kept = append(kept, line)
		}
	}
	const most = 40
	t.Logf("the end of the log of %s:\n%s", name, strings.Join(kept[max(0, len(kept)-most):], ""))
}
