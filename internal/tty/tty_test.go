package tty

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
	"pgregory.net/rapid"
)

// pair is a pseudo terminal: what is written to one end is read from the other.
type pair struct{ master, slave *os.File }

func openPair(t *testing.T) pair {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	return pair{master, slave}
}

func termios(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	got, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *got
}

func isRaw(t *testing.T, f *os.File) bool { return termios(t, f).Lflag&(unix.ICANON|unix.ECHO) == 0 }

// eventually waits for what a signal or another process brings about and nothing
// announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		case <-tick.C:
		}
	}
}

// readExactly reads as many bytes as want has and compares.
func readExactly(t *testing.T, f *os.File, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(f, got); err != nil || string(got) != want {
		t.Fatalf("read %q, error %v; want %q", got[:n], err, want)
	}
}

// connected is a running Session between a user's and a container's terminal.
type connected struct {
	user, container pair
	cancel          context.CancelFunc
	wait            func() error
}

func connect(t *testing.T, change func(*Session)) connected {
	t.Helper()
	c := connected{user: openPair(t), container: openPair(t)}
	if _, err := term.MakeRaw(int(c.container.slave.Fd())); err != nil { // bytes as they are
		t.Fatal(err)
	}
	if err := pty.Setsize(c.user.slave, &pty.Winsize{Rows: 33, Cols: 99}); err != nil {
		t.Fatal(err)
	}
	s := &Session{In: c.user.slave, Out: c.user.slave, Master: c.container.master}
	if change != nil {
		change(s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.cancel = cancel
	var err error
	done := make(chan struct{})
	go func() { defer close(done); err = s.Run(ctx) }()
	c.wait = func() error { <-done; return err }
	t.Cleanup(func() { cancel(); <-done }) // before the descriptors are closed
	return c
}

func TestSessionCarriesBytesBothWays(t *testing.T) {
	c := connect(t, nil)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	eventually(t, "raw mode", func() bool { return isRaw(t, c.user.slave) })
	for _, text := range []string{"hello", "\x03\x1a\x11\x13\x04", string(every)} {
		io.WriteString(c.user.master, text)
		readExactly(t, c.container.slave, text)
		io.WriteString(c.container.slave, text)
		readExactly(t, c.user.master, text)
	}
	c.container.slave.Close()
	if err := c.wait(); err != nil {
		t.Error(err)
	}
	if isRaw(t, c.user.slave) {
		t.Error("the terminal is left in raw mode")
	}
}

func TestSessionRestoresTheExactMode(t *testing.T) {
	user, container := openPair(t), openPair(t)
	odd := termios(t, user.slave)
	odd.Cc[unix.VINTR] = 'x'
	odd.Iflag ^= unix.IXANY
	if err := unix.IoctlSetTermios(int(user.slave.Fd()), unix.TCSETS, &odd); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &Session{In: user.slave, Out: user.slave, Master: container.master}
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if got := termios(t, user.slave); got != odd {
		t.Errorf("mode %+v, want %+v", got, odd)
	}
}

func TestSessionWithoutInputLeavesTheTerminalAlone(t *testing.T) {
	c := connect(t, func(s *Session) { s.In = nil })
	io.WriteString(c.container.slave, "out")
	readExactly(t, c.user.master, "out")
	if isRaw(t, c.user.slave) {
		t.Error("raw mode though nothing is read")
	}
	c.container.slave.Close()
	if err := c.wait(); err != nil {
		t.Error(err)
	}
}

func TestSessionEndsWithItsContextAndLosesNothing(t *testing.T) {
	c := connect(t, nil)
	eventually(t, "raw mode", func() bool { return isRaw(t, c.user.slave) })
	// The container's other processes keep its terminal open.
	last := strings.Repeat("last words ", 100)
	if _, err := io.WriteString(c.container.slave, last); err != nil {
		t.Fatal(err)
	}
	c.cancel()
	readExactly(t, c.user.master, last)
	if err := c.wait(); err != nil {
		t.Error(err)
	}
}

func TestSessionEndsThoughTheContainerReadsNothing(t *testing.T) {
	c := connect(t, nil)
	eventually(t, "raw mode", func() bool { return isRaw(t, c.user.slave) })
	keyboard := int(c.user.master.Fd())
	if err := unix.SetNonblock(keyboard, true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a full terminal", func() bool {
		unix.Write(keyboard, bytes.Repeat([]byte("x"), 1024))
		n, err := unix.IoctlGetInt(int(c.container.slave.Fd()), unix.TIOCINQ)
		return err == nil && n > 2048
	})
	c.cancel()
	if err := c.wait(); err != nil {
		t.Error(err)
	}
}

func TestSessionFollowsTheWindow(t *testing.T) {
	c := connect(t, nil)
	size := func() Size {
		got, err := WindowSize(c.container.slave)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	eventually(t, "the first size", func() bool { return size() == Size{33, 99} })
	eventually(t, "raw mode", func() bool { return isRaw(t, c.user.slave) })
	if err := pty.Setsize(c.user.slave, &pty.Winsize{Rows: 50, Cols: 132}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second size", func() bool {
		unix.Kill(unix.Getpid(), unix.SIGWINCH) // the user's terminal does this to its foreground
		return size() == Size{50, 132}
	})
}

func TestDetachKeysAreNotedAndKeptBack(t *testing.T) {
	noted := make(chan bool, 4)
	c := connect(t, func(s *Session) {
		s.Keys = []byte{0x10, 0x11}
		s.Detach = func() { noted <- true }
	})
	eventually(t, "raw mode", func() bool { return isRaw(t, c.user.slave) })
	io.WriteString(c.user.master, "a\x10b\x10\x11c\x10\x11d")
	readExactly(t, c.container.slave, "a\x10b")
	<-noted
	io.WriteString(c.container.master, "e") // the next that comes, and not c
	readExactly(t, c.container.slave, "e")
	if len(noted) != 0 {
		t.Error("noted twice")
	}
}

func TestSessionPassesSignalsOn(t *testing.T) {
	got := make(chan os.Signal, 8)
	c := connect(t, func(s *Session) { s.Signal = func(sig os.Signal) { got <- sig } })
	eventually(t, "raw mode", func() bool { return isRaw(t, c.user.slave) })
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1} {
		unix.Kill(unix.Getpid(), sig)
		if have := <-got; have != sig {
			t.Errorf("got %v, want %v", have, sig)
		}
	}
	if !isRaw(t, c.user.slave) {
		t.Error("a signal for the container ended raw mode")
	}
}

// child is what the test binary does when it is started to be killed: a Session
// on its own terminal, with a container's terminal of its own.
const childMode = "TTY_TEST_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		runChild(mode)
	}
	os.Exit(m.Run())
}

func runChild(mode string) {
	master, slave, err := pty.Open()
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	defer slave.Close()
	s := &Session{In: os.Stdin, Out: os.Stdout, Master: master, Keys: []byte("k")}
	if mode == "panic" {
		s.Detach = func() { panic("on purpose") }
	}
	os.Exit(map[bool]int{true: 0, false: 1}[s.Run(context.Background()) == nil])
}

func startChild(t *testing.T, user pair, mode string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childMode+"="+mode)
	cmd.Stdin, cmd.Stdout = user.slave, user.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	eventually(t, "raw mode", func() bool { return isRaw(t, user.slave) })
	return cmd
}

func TestTerminalIsRestoredWhateverEndsUs(t *testing.T) {
	ends := map[string]func(*testing.T, pair, *exec.Cmd){
		"panic": func(_ *testing.T, user pair, _ *exec.Cmd) { io.WriteString(user.master, "k") },
	}
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGINT} {
		ends[sig.String()] = func(t *testing.T, _ pair, cmd *exec.Cmd) {
			cmd.Process.Signal(sig)
			var exit *exec.ExitError
			err := cmd.Wait()
			if !errors.As(err, &exit) {
				t.Fatalf("ended with %v", err)
			}
			status := exit.Sys().(syscall.WaitStatus)
			if status.Signal() != sig && status.ExitStatus() != 128+int(sig) {
				t.Errorf("ended with %v, want signal %v", err, sig)
			}
		}
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			user := openPair(t)
			before := termios(t, user.slave)
			cmd := startChild(t, user, name)
			end(t, user, cmd)
			cmd.Wait()
			if after := termios(t, user.slave); after != before {
				t.Errorf("mode %+v, want %+v", after, before)
			}
		})
	}
}

func TestTerminalIsGivenBackWhileStopped(t *testing.T) {
	user := openPair(t)
	before := termios(t, user.slave)
	cmd := startChild(t, user, "stop")
	for range 2 {
		cmd.Process.Signal(unix.SIGTSTP)
		var status unix.WaitStatus
		if _, err := unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
			t.Fatalf("status %v, error %v; want stopped", status, err)
		}
		if after := termios(t, user.slave); after != before {
			t.Fatalf("stopped with mode %+v, want %+v", after, before)
		}
		cmd.Process.Signal(unix.SIGCONT)
		eventually(t, "raw mode again", func() bool { return isRaw(t, user.slave) })
	}
	cmd.Process.Signal(unix.SIGTERM)
	cmd.Wait()
	if after := termios(t, user.slave); after != before {
		t.Errorf("mode %+v, want %+v", after, before)
	}
}

func TestParseKeys(t *testing.T) {
	for in, want := range map[string]string{
		"": "\x10\x11", "ctrl-a": "\x01", "ctrl-@": "\x00", "ctrl-_": "\x1f", "ctrl-z,x": "\x1ax",
		"a,b,c": "abc", "DEL": "\x7f", "ctrl-[,ctrl-]": "\x1b\x1d", ";": ";",
	} {
		if got, err := ParseKeys(in); err != nil || string(got) != want {
			t.Errorf("%q: %q, error %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"ctrl-", "ctrl-A", "ctrl-ab", "xy", "a,,b", ",", "ä", "ctrl-1"} {
		if got, err := ParseKeys(in); err == nil {
			t.Errorf("%q was read as %q", in, got)
		}
	}
}

// TestKeyScanner: whatever is typed in whatever pieces, what is passed on and held
// back is what was typed without the whole sequences, found from the left.
func TestKeyScanner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.StringMatching(`[ab]{1,4}`).Draw(t, "keys")
		pieces := rapid.SliceOf(rapid.StringMatching(`[abc]{0,6}`)).Draw(t, "pieces")
		k := keyScanner{keys: []byte(keys)}
		var got []byte
		found := false
		for _, p := range pieces {
			var out []byte
			out, found = k.scan([]byte(p))
			got = append(got, out...)
			if found {
				break
			}
		}
		if !found {
			got = append(got, k.held...)
		}
		typed := strings.Join(pieces, "")
		if want, _, has := strings.Cut(typed, keys); string(got) != want || found != has {
			t.Errorf("keys %q in %q: got %q and %v, want %q and %v", keys, typed, got, found, want, has)
		}
		if !bytes.HasPrefix([]byte(keys), k.held) {
			t.Errorf("%q is held back for %q", k.held, keys)
		}
	})
}

func TestStreamsHandOverFiles(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s, err := OpenStreams(true, file, file, file)
	if err != nil {
		t.Fatal(err)
	}
	if s.In != file || s.Out != file || s.Err != file {
		t.Error("a file is not handed over as it is")
	}
	s.Close()
	if _, err := file.Stat(); err != nil {
		t.Errorf("our own file was closed: %v", err)
	}
}

func TestStreamsWithoutInputAreAtTheirEnd(t *testing.T) {
	s, err := OpenStreams(false, os.Stdin, os.Stdout, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, err := s.In.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read %d, error %v; want the end", n, err)
	}
}

func TestStreamsHideTerminals(t *testing.T) {
	user := openPair(t)
	if _, err := term.MakeRaw(int(user.slave.Fd())); err != nil {
		t.Fatal(err)
	}
	s, err := OpenStreams(true, user.slave, user.slave, user.slave)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]*os.File{"in": s.In, "out": s.Out, "err": s.Err} {
		if IsTerminal(f) {
			t.Errorf("the container's %s is a terminal", name)
		}
	}
	io.WriteString(user.master, "typed")
	readExactly(t, s.In, "typed")
	io.WriteString(s.Out, "out")
	readExactly(t, user.master, "out")
	io.WriteString(s.Err, "err")
	readExactly(t, user.master, "err")

	// What was written before the end is copied, though a process that outlived
	// the container still holds the stream.
	held, err := unix.Dup(int(s.Out.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(held)
	io.WriteString(s.Out, "last")
	s.Close()
	readExactly(t, user.master, "last")

	// What is typed afterwards is the shell's.
	io.WriteString(user.master, "shell")
	readExactly(t, user.slave, "shell")
}

func TestStreamsEndOfInput(t *testing.T) {
	user := openPair(t)
	s, err := OpenStreams(true, user.slave, os.Stdout, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	io.WriteString(user.master, "line\n\x04") // Ctrl-D on a terminal in its usual mode
	if got, err := io.ReadAll(s.In); err != nil || string(got) != "line\n" {
		t.Errorf("read %q, error %v", got, err)
	}
}

func TestIsTerminal(t *testing.T) {
	if IsTerminal(nil) {
		t.Error("nil is a terminal")
	}
	if !IsTerminal(openPair(t).slave) {
		t.Error("a terminal is none")
	}
}
