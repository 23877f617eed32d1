package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/probe"
	"github.com/containr/containr/internal/testkit/procfs"
	"github.com/containr/containr/internal/testkit/program"
)

// terminal is a terminal with containr at it, and the test in the place of the person.
type terminal struct {
	t      *testing.T
	root   string // the state root
	cmd    *exec.Cmd
	master *os.File // what the person types on and looks at
	slave  *os.File // kept open, so that the terminal outlives the program
	before unix.Termios
	output chan []byte
	seen   []byte // came, but has not been expected yet
	reads  bool   // somebody fills output
}

// newTerminal makes a terminal in a state of its own, and watches what is left at the end of the test.
func newTerminal(t *testing.T) *terminal {
	t.Helper()
	program.Require(t)
	testkit.Leftovers(t)
	root := filepath.Join(t.TempDir(), "root")
	t.Cleanup(func() {
		defer func() {
			removeContainers(t, root)
			if err := program.AwaitMonitor(root); err != nil {
				t.Error(err)
			}
		}()
		for _, path := range program.LeftIn(root) {
			t.Errorf("left in the state root: %s", path)
		}
	})
	return openTerminal(t, root)
}

// openTerminal makes a terminal in a state that is there.
func openTerminal(t *testing.T, root string) *terminal {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	x := &terminal{t: t, root: root, master: master, slave: slave, output: make(chan []byte)}
	x.resize(24, 80)
	x.before = x.state()
	return x
}

// removeContainers takes away what a test that failed left behind.
func removeContainers(t *testing.T, root string) {
	names, _ := filepath.Glob(filepath.Join(root, "names", "*"))
	for _, name := range names {
		rm := exec.Command("containr", "rm", "-f", filepath.Base(name))
		rm.Env = append(os.Environ(), program.RootVar+"="+root)
		out, err := rm.CombinedOutput()
		t.Logf("%v: %s (%v)", rm.Args, out, err)
	}
}

// state is how the terminal is set: echo, line editing, signals.
func (x *terminal) state() unix.Termios {
	x.t.Helper()
	s, err := unix.IoctlGetTermios(int(x.slave.Fd()), unix.TCGETS)
	if err != nil {
		x.t.Fatal(err)
	}
	return *s
}

// isTaken waits until containr has taken the terminal: what is typed before is not for the container.
func (x *terminal) isTaken() {
	x.t.Helper()
	waitUntil(x.t, "the terminal is taken", func() bool { return x.state() != x.before })
}

func (x *terminal) resize(rows, columns uint16) {
	x.t.Helper()
	if err := pty.Setsize(x.master, &pty.Winsize{Rows: rows, Cols: columns}); err != nil {
		x.t.Fatal(err)
	}
}

// containr starts a command at the terminal, as a shell would.
func (x *terminal) containr(args ...string) {
	x.t.Helper()
	x.cmd = exec.Command("containr", args...)
	x.cmd.Env = append(os.Environ(), program.RootVar+"="+x.root)
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = x.slave, x.slave, x.slave
	x.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	if x.reads {
		return
	}
	x.reads = true
	go func() {
		defer close(x.output)
		for {
			part := make([]byte, 4096)
			n, err := x.master.Read(part)
			if n > 0 {
				x.output <- part[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	x.t.Cleanup(func() {
		x.cmd.Process.Kill()
		x.cmd.Wait()
		x.slave.Close() // the last one: the reader sees the end
		for range x.output {
		}
	})
}

func (x *terminal) types(text string) {
	x.t.Helper()
	if _, err := x.master.WriteString(text); err != nil {
		x.t.Fatal(err)
	}
}

// expect waits until the text appears, and returns what came before it.
func (x *terminal) expect(text string) string {
	x.t.Helper()
	late := time.After(patience)
	for {
		if before, after, ok := bytes.Cut(x.seen, []byte(text)); ok {
			x.seen = after
			return string(before)
		}
		select {
		case part, ok := <-x.output:
			if !ok {
				x.t.Fatalf("the terminal was closed before %q; it shows %q", text, x.seen)
			}
			x.seen = append(x.seen, part...)
		case <-late:
			x.t.Fatalf("no %q; the terminal shows %q", text, x.seen)
		}
	}
}

// ends waits for containr and checks its exit status, and that the terminal is what it was.
func (x *terminal) ends(status int) {
	x.t.Helper()
	ended := make(chan struct{})
	go func() { x.cmd.Wait(); close(ended) }()
	late := time.After(patience)
	for running := true; running; {
		select {
		case <-ended:
			running = false
		case part := <-x.output:
			x.seen = append(x.seen, part...)
		case <-late:
			x.t.Fatalf("containr does not end; the terminal shows %q", x.seen)
		}
	}
	if got := x.cmd.ProcessState.ExitCode(); got != status {
		x.t.Errorf("containr ended with %d (%v), want %d; the terminal shows %q", got, x.cmd.ProcessState, status, x.seen)
	}
	if after := x.state(); after != x.before {
		x.t.Errorf("containr left the terminal changed:\n  %+v\nwas\n  %+v", after, x.before)
	}
}

// container returns the id of process 1 of the only container, as the host counts.
func (x *terminal) container() int {
	x.t.Helper()
	files, _ := filepath.Glob(filepath.Join(x.root, "run/containers/*/state.json"))
	kept, _ := filepath.Glob(filepath.Join(x.root, "containers/*/state.json"))
	files = append(files, kept...)
	if len(files) != 1 {
		x.t.Fatalf("%d containers, want 1: %v", len(files), files)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		x.t.Fatal(err)
	}
	var state struct{ PID int }
	if err := json.Unmarshal(data, &state); err != nil || state.PID == 0 {
		x.t.Fatalf("no process in %s: %v", data, err)
	}
	return state.PID
}

func TestTerminalIsRawAndThenAsItWas(t *testing.T) {
	x := newTerminal(t)
	x.containr("run", "--rm", "-it", "base", "sh")
	x.expect("# ")
	s := x.state()
	if s.Lflag&(unix.ECHO|unix.ICANON|unix.ISIG) != 0 || s.Iflag&(unix.ICRNL|unix.IXON) != 0 || s.Oflag&unix.OPOST != 0 {
		t.Errorf("the terminal is not raw: %+v", s)
	}
	// The container's line discipline echoes.
	x.types("tty; echo se''en\r")
	x.expect("tty; echo se''en\r\n")
	x.expect("/dev/")
	x.expect("seen\r\n")
	x.types("exit 7\r")
	x.ends(7)
}

// The container's terminal has the size of ours, from its first moment on.
func TestTerminalSizeReachesTheContainer(t *testing.T) {
	x := newTerminal(t)
	x.resize(31, 97)
	x.containr("run", "--rm", "-it", "-v", testkit.Probe(t)+":/probe", "base", "/probe", "-report", "-wait-signal", "WINCH", "-report")
	// Two answers, and between them the word that it waits.
	first := x.expect(`"Waiting"`)
	if r := report(t, first); r.TTY == nil || r.TTY.Rows != 31 || r.TTY.Cols != 97 {
		t.Errorf("the terminal inside is %+v, want 31 x 97", r.TTY)
	}
	x.resize(50, 200)
	x.expect(`"SIGWINCH"`)
	x.expect("\n")
	second := x.expect("\n")
	if r := report(t, second); r.TTY == nil || r.TTY.Rows != 50 || r.TTY.Cols != 200 {
		t.Errorf("the terminal inside is %+v, want 50 x 200", r.TTY)
	}
	x.ends(0)
}

// report reads the report in what a terminal shows, where lines end in \r\n.
func report(t *testing.T, shown string) probe.Report {
	t.Helper()
	line, _, _ := strings.Cut(shown[strings.Index(shown, "{"):], "\r\n")
	return testkit.Report(t, []byte(line))
}

// What is typed goes to the program, the keys that would stop containr too.
func TestKeysReachTheProgram(t *testing.T) {
	x := newTerminal(t)
	x.containr("run", "--rm", "-it", "base", "sh", "-c",
		`trap 'echo got INT' INT; trap 'echo got QUIT' QUIT; trap 'echo got TSTP; cat; exit 5' TSTP; echo ready; while true; do sleep 0.01; done`)
	x.expect("ready\r\n")
	x.types("\x03") // Ctrl-C
	x.expect("got INT\r\n")
	x.types("\x1c") // Ctrl-\
	x.expect("got QUIT\r\n")
	x.types("\x1a")          // Ctrl-Z
	x.expect("got TSTP\r\n") // the whole line: a shell may write its end apart, amid our echo
	x.types("a line\r")
	x.expect("a line\r\na line\r\n") // echoed, and then copied by cat
	x.types("\x04")                  // Ctrl-D
	x.ends(5)
}

// The keys that detach are not for the program; those that only begin like them are. What was left goes on, and who
// comes back finds the program where it was.
func TestDetachKeys(t *testing.T) {
	x := newTerminal(t)
	x.containr("run", "--rm", "-it", "--name", "left", "base", "sh", "-c", `echo ready; head -n 1 | hexdump -C; read x; exit 3`)
	x.expect("ready\r\n")
	x.types("a\x10b\r")
	x.expect("61 10 62 0a")
	x.types("\x10\x11") // Ctrl-P Ctrl-Q
	x.expect("comes back\r\n")
	x.ends(0)
	x.containr("attach", "left")
	x.isTaken()
	x.types("\x10\x11")
	x.expect("comes back\r\n")
	x.ends(0)
	x.containr("attach", "left")
	x.isTaken()
	x.types("echoed\r")
	x.expect("echoed\r\n")
	x.ends(3)
}

// What a terminal in the foreground has seen is in the log too, with --rm as long as the container is there.
func TestTerminalInTheForegroundHasALog(t *testing.T) {
	for _, flags := range [][]string{{"-it"}, {"-t"}, {"-it", "--rm"}} {
		x := newTerminal(t)
		x.containr(append(append([]string{"run", "--name", "seen"}, flags...), "base", "sh", "-c", "echo words; exec sleep 1000")...)
		x.expect("words")
		other := openTerminal(t, x.root)
		other.containr("logs", "seen")
		other.expect("words")
		other.ends(0)
		other.containr("kill", "seen")
		other.expect("seen")
		other.ends(0)
		x.ends(137)
		if len(flags) > 1 {
			continue
		}
		x.containr("logs", "seen")
		x.expect("words")
		x.ends(0)
		x.containr("rm", "seen")
		x.ends(0)
	}
}

// Two look at the same container, and type: who has started it in the foreground, and who has attached to it. When the
// first leaves, the second stays; and when it was killed, too.
func TestTerminalInTheForegroundIsAttachedTo(t *testing.T) {
	for name, leave := range map[string]func(x *terminal){
		"left": func(x *terminal) {
			x.types("\x10\x11")
			x.expect("comes back\r\n")
			x.ends(0)
		},
		"killed": func(x *terminal) {
			x.cmd.Process.Kill()
			x.cmd.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTerminal(t)
			x.containr("run", "-it", "--rm", "--name", "shared", "base", "sh")
			x.expect("# ")
			other := openTerminal(t, x.root)
			other.containr("attach", "shared")
			other.isTaken()
			x.types("echo fir''st\r")
			x.expect("first\r\n")
			other.expect("first\r\n")
			other.types("echo sec''ond\r")
			x.expect("second\r\n")
			other.expect("second\r\n")
			leave(x)
			// What comes before the monitor has taken over is not shown, so it is typed again.
			late := time.Now().Add(patience)
			for !bytes.Contains(other.seen, []byte("third\r\n")) && time.Now().Before(late) {
				other.types("echo thi''rd\r")
				select {
				case part := <-other.output:
					other.seen = append(other.seen, part...)
				case <-time.After(100 * time.Millisecond):
				}
			}
			other.expect("third\r\n")
			other.types("exit 7\r")
			other.ends(7)
		})
	}
}

// A program that writes without end can be left.
func TestTerminalThatIsFloodedIsLeft(t *testing.T) {
	x := newTerminal(t)
	x.containr("run", "-it", "--name", "flood", "base", "yes")
	x.expect("y\r\ny\r\n")
	x.types("\x10\x11")
	x.expect("comes back\r\n")
	x.ends(0)
	x.containr("logs", "-n", "1", "flood")
	x.expect("y")
	x.ends(0)
	x.containr("rm", "-f", "flood")
	x.expect("flood")
	x.ends(0)
}

func TestDetachKeysMayBeOthers(t *testing.T) {
	x := newTerminal(t)
	x.containr("run", "--rm", "-it", "--name", "left", "--detach-keys", "ctrl-x,d", "base", "sh", "-c", `echo ready; head -n 1 | hexdump -C; read x`)
	x.expect("ready\r\n")
	x.types("\x10z\x18z\r")
	x.expect("10 7a 18 7a 0a")
	x.types("\x18d")
	x.expect("comes back\r\n")
	x.ends(0)
	x.containr("exec", "-it", "--detach-keys", "ctrl-x,d", "left", "sh")
	x.expect("# ")
	x.types("tty\r")
	x.expect("/dev/pts/1\r\n")
	x.types("exit 5\r")
	x.ends(5)
	x.containr("rm", "-f", "left")
	x.expect("left")
	x.ends(0)
}

// A program of exec that its user leaves runs on, and is not stopped by what it writes.
func TestExecRunsOnWhenItIsLeft(t *testing.T) {
	x := newTerminal(t)
	x.containr("run", "-d", "--name", "left", "base", "sleep", "1000")
	x.ends(0)
	x.containr("exec", "-it", "left", "sh", "-c", `mkfifo /go /done; echo ready; read y </go; seq 100000; echo "done $y" >/done`)
	x.expect("ready\r\n")
	x.types("\x10\x11")
	x.expect("the program goes on in container left")
	x.ends(0)
	x.containr("exec", "left", "sh", "-c", `echo well >/go; cat /done`)
	x.expect("done well")
	x.ends(0)
	x.containr("rm", "-f", "left")
	x.ends(0)
}

// A terminal whose containr was killed is somebody else's again, and the container runs on: attach finds it.
func TestTerminalOutlivesContainr(t *testing.T) {
	x := newTerminal(t)
	x.containr("run", "-it", "--name", "orphan", "base", "sh", "-c", `echo ready; read x; echo "got $x"; exit 4`)
	x.expect("ready\r\n")
	if err := x.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	x.cmd.Wait()
	if err := unix.IoctlSetTermios(int(x.slave.Fd()), unix.TCSETS, &x.before); err != nil { // as a shell does
		t.Fatal(err)
	}
	x.containr("attach", "orphan")
	x.isTaken()
	x.types("it\r")
	x.expect("got it")
	x.ends(4)
	x.containr("rm", "orphan")
	x.expect("orphan")
	x.ends(0)
}

func TestTerminalIsRestoredWhenTheContainerIsKilled(t *testing.T) {
	x := newTerminal(t)
	x.containr("run", "--rm", "-it", "base", "sh")
	x.expect("# ")
	if err := unix.Kill(x.container(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	x.ends(137)
}

func TestTerminalIsRestoredWhenContainrIsTerminated(t *testing.T) {
	x := newTerminal(t)
	x.containr("run", "--rm", "-it", "--init", "base", "sh", "-c", "echo ready; exec sleep 1000")
	x.expect("ready")
	if err := x.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	x.ends(143)
}

// A terminal that goes away is a hangup, for the container too.
func TestHangup(t *testing.T) {
	x := newTerminal(t)
	x.containr("run", "--rm", "-it", "base", "sh", "-c", `trap 'exit 9' HUP; echo ready; while true; do sleep 0.01; done`)
	x.expect("ready")
	if err := x.cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	x.ends(9)
}

// Who only looks in does not end a container in the background by closing the window.
func TestHangupOfAVisitor(t *testing.T) {
	x := newTerminal(t)
	x.containr("run", "-dit", "--name", "host", "base", "sh", "-c", `trap 'exit 9' HUP; echo ready; read x; exit 3`)
	x.ends(0)
	x.containr("attach", "host")
	x.isTaken()
	if err := x.cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	x.ends(0)
	x.containr("attach", "host")
	x.isTaken()
	x.types("on\r")
	x.ends(3)
	x.containr("rm", "host")
	x.expect("host")
	x.ends(0)
}

// A shell that somebody types at ends with its terminal, and by nothing less.
func TestHangupAtThePrompt(t *testing.T) {
	x := newTerminal(t)
	x.containr("run", "--rm", "-it", "base", "sh")
	x.expect("# ")
	if err := unix.Kill(x.container(), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	x.types("echo still h''ere\r")
	x.expect("still here")
	if err := unix.Kill(x.container(), unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	x.ends(128 + int(unix.SIGHUP))
}

// Stopped and continued by somebody else, containr gives the terminal back meanwhile.
func TestStopAndContinue(t *testing.T) {
	x := newTerminal(t)
	x.containr("run", "--rm", "-it", "base", "sh")
	x.expect("# ")
	pid := x.cmd.Process.Pid
	if err := unix.Kill(pid, unix.SIGTSTP); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "containr is stopped", func() bool {
		s, err := procfs.ReadStat(pid)
		return err == nil && s.State == "T"
	})
	if s := x.state(); s != x.before {
		t.Errorf("stopped, containr leaves the terminal raw: %+v", s)
	}
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	x.types("echo still h''ere; exit 3\r")
	x.expect("still here")
	x.ends(3)
}

// kill -9 of containr leaves a container that runs on. It can be removed.
func TestKilledContainrLeavesAContainerThatCanBeRemoved(t *testing.T) {
	x := newTerminal(t)
	pipe := filepath.Join(t.TempDir(), "alive")
	if err := unix.Mkfifo(pipe, 0o666); err != nil {
		t.Fatal(err)
	}
	x.containr("run", "--name", "orphan", "-it", "-v", pipe+":/alive", "base", "sh", "-c",
		`trap '' HUP; echo ready; while true; do echo alive > /alive; done`)
	x.expect("ready")
	pid := x.container()
	if err := x.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	x.cmd.Wait()
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for range 2 { // the second was written after containr was dead
		if _, err := reader.Read(make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
	}
	rm := exec.Command("containr", "rm", "-f", "orphan")
	rm.Env = append(os.Environ(), program.RootVar+"="+x.root)
	if out, err := rm.CombinedOutput(); err != nil {
		t.Fatalf("containr rm -f: %v\n%s", err, out)
	}
	waitUntil(t, "the container's process has gone", func() bool {
		s, err := procfs.ReadStat(pid)
		return err != nil || s.State == "Z"
	})
}

// Step by step: every step is shown and waited for, until the person has seen enough.
func TestStep(t *testing.T) {
	x := newTerminal(t)
	x.containr("run", "--rm", "--step", "base", "echo", "the program's output")
	x.expect("Enter: make this step")
	x.types("\n")
	x.expect("Enter: make this step")
	x.types("c\n")
	x.expect("the program's output")
	x.ends(0)
}

func TestStepCanBeStopped(t *testing.T) {
	for name, answer := range map[string]string{"q": "q\n", "Ctrl-C": "\x03"} {
		for _, made := range []int{3, 60} { // while containr makes steps, and while the child does
			t.Run(fmt.Sprintf("%s after %d steps", name, made), func(t *testing.T) {
				x := newTerminal(t)
				x.containr("run", "--rm", "--step", "base", "echo", "the program's output")
				for range made {
					x.expect("Enter: make this step")
					x.types("\n")
				}
				x.expect("Enter: make this step")
				x.types(answer)
				x.expect("containr: stopped before the next step")
				x.ends(125)
				if strings.Contains(string(x.seen), "the program's output") {
					t.Error("the program ran")
				}
			})
		}
	}
}

// Progress is shown on a terminal, and nowhere else.
func TestProgressOfAPull(t *testing.T) {
	x := newTerminal(t)
	host := newRegistry(t).Host()
	x.containr("pull", host+"/base")
	x.expect(host + "/base:latest\r\n")
	x.ends(0)
}

// A check that finds nothing says so to a person. Scripts, which rely on silence then, are in testdata.
func TestCheckSaysOnATerminalThatAllIsWell(t *testing.T) {
	x := newTerminal(t)
	x.containr("volume", "create", "kept")
	x.expect("kept")
	x.ends(0)
	x.containr("system", "check")
	x.expect("No problem was found: images 0, containers 0, volumes 1, and the blobs and layers that they have.")
	x.ends(0)
	x.containr("volume", "rm", "kept")
	x.expect("kept")
	x.ends(0)
}
