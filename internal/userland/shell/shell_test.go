package shell

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// helperVar makes the test binary act as a shell: tests of signals and of exec need a process of their own.
const helperVar = "CONTAINR_TEST_SHELL"

func TestMain(m *testing.M) {
	if os.Getenv(helperVar) != "" {
		os.Unsetenv(helperVar)
		os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// process is a shell as a process.
func process(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), helperVar+"=1")
	return cmd
}

// script runs a script in a process and returns what it printed, on both streams, and its status.
func script(t *testing.T, text string, args ...string) (string, int) {
	t.Helper()
	cmd := process(t, append([]string{"-c", text}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestScripts(t *testing.T) {
	for _, c := range []struct {
		name, script, want string
		status             int
	}{
		{"status", "false; echo $?; true; echo $?; (exit 7); echo $?", "1\n0\n7\n", 0},
		{"exit", "exit 9", "", 9},
		{"errexit", "set -e; false; echo not here", "", 1},
		{"not found", "no-such-command; echo $?", "sh: no-such-command: not found\n127\n", 0},
		{"no permission", "/etc/passwd; echo $?", "sh: /etc/passwd: permission denied\n126\n", 0},
		{"directory", "/etc; echo $?", "sh: /etc: is a directory\n126\n", 0},
		{"missing path", "/no/such; echo $?", "sh: /no/such: not found\n127\n", 0},
		{"killed", "sh -c 'kill -9 $$'; echo $?", "sh: sh: killed\n137\n", 0},
		{"pipe", "printf 'b\\na\\n' | sort | head -n 1", "a\n", 0},
		{"function", "f() { echo \"$1-$#\"; return 3; }; f a b; echo $?", "a-2\n3\n", 0},
		{"loop", "for i in 1 2 3; do [ $i = 2 ] && continue; echo $i; done", "1\n3\n", 0},
		{"case", "case abc in x) echo no;; a*) echo yes;; esac", "yes\n", 0},
		{"here", "x=1; cat <<E\nx is $x\nE\n", "x is 1\n", 0},
		{"arithmetic", "echo $((2 * (3 + 4)))", "14\n", 0},
		{"exit trap", "trap 'echo bye' EXIT; echo hello; exit 4", "hello\nbye\n", 4},
		{"trap on signal", "trap 'echo got it' USR1; kill -USR1 $$; sleep 0.1; echo after", "got it\nafter\n", 0},
		{"trap at the end", "trap 'echo got it; exit 3' USR1; sh -c \"kill -USR1 $$; sleep 0.1\"", "got it\n", 3},
		{"trap ignores", "trap '' TERM; kill -TERM $$; sleep 0.05; echo alive", "alive\n", 0},
		{"trap is reset", "trap 'echo no' USR1; trap - USR1; trap", "", 0},
		{"trap lists", "trap 'echo x' TERM; trap", "trap -- 'echo x' TERM\n", 0},
		{"trap of nothing", "trap 'echo x' NOPE; echo $?", "sh: trap: NOPE: no such signal\n1\n", 0},
		{"background pid", "sleep 10 & p=$!; kill -0 $p && echo alive; kill $p; wait $p; echo $?", "alive\nsh: sleep: terminated\n143\n", 0},
		{"background status", "sh -c 'exit 5' & wait $!; echo $?", "5\n", 0},
		{"several in the background", "for i in 1 2 3; do sh -c \"exit $i\" & pids=\"$pids $!\"; done; for p in $pids; do wait $p; echo $?; done", "1\n2\n3\n", 0},
		{"background of builtins", "{ :; } & wait $!; echo $?", "0\n", 0},
		{"exec replaces", "echo $$; exec sh -c 'echo $$'", "", 0},
		{"exec redirects", "exec 2>&1; echo to stderr >&2", "to stderr\n", 0},
		{"exec of nothing", "exec no-such-command; echo not here", "sh: no-such-command: not found\n", 127},
		{"exec in a subshell", "(exec echo inside); echo outside", "inside\noutside\n", 0},
		{"umask", "umask 027; umask", "0027\n", 0},
		{"umask of nothing", "umask 9; echo $?", "sh: umask: 9: not an octal number\n1\n", 0},
		{"limit", "ulimit -c 0; ulimit -c; ulimit -Hc", "0\n0\n", 0},
		{"test", "[ -d / ] && [ 3 -gt 2 ] && echo yes", "yes\n", 0},
		{"command substitution", "x=$(echo a; echo b); echo \"$x\"", "a\nb\n", 0},
		{"globs", "cd /; echo et[c]", "etc\n", 0},
		{"syntax error", "if", "", 2},
		{"environment", "A=1 sh -c 'echo $A'; export B=2; sh -c 'echo $B'; C=3; sh -c 'echo [$C]'", "1\n2\n[]\n", 0},
		{"own names stay inside", "sleep 0 & wait; env | grep __sh || echo none", "none\n", 0},
		{"status of time", "time sh -c 'exit 6' 2>/dev/null; echo $?", "6\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, status := script(t, c.script)
			switch c.name {
			case "exec replaces":
				lines := strings.Fields(got)
				if len(lines) != 2 || lines[0] != lines[1] {
					t.Errorf("the process ids before and after exec are %q", lines)
				}
				return
			case "syntax error":
				got = ""
			case "status of time":
				got = got[strings.LastIndexByte(strings.TrimSpace(got), '\n')+1:]
			}
			if got != c.want || status != c.status {
				t.Errorf("%s\nprinted %q with status %d, want %q with status %d", c.script, got, status, c.want, c.status)
			}
		})
	}
}

func TestParameters(t *testing.T) {
	if got, _ := script(t, `echo "$0 $# $1 $2"`, "name", "a b", "c"); got != "name 2 a b c\n" {
		t.Errorf("-c gave %q", got)
	}
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte("echo \"$# $1\"\nexit 3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := process(t, file, "x").CombinedOutput()
	if string(out) != "1 x\n" || err == nil || err.(*exec.ExitError).ExitCode() != 3 {
		t.Errorf("a script file printed %q, %v", out, err)
	}
	for _, args := range [][]string{{"-c"}, {"-q"}, {"-o"}} {
		var out, complaint bytes.Buffer
		if status := Main(args, strings.NewReader(""), &out, &complaint); status != 2 || !strings.Contains(complaint.String(), "usage") {
			t.Errorf("sh %q: status %d, %q", args, status, complaint.String())
		}
	}
	if out, err := process(t, "/no/such/script").CombinedOutput(); err == nil || err.(*exec.ExitError).ExitCode() != 127 {
		t.Errorf("a missing script: %q, %v", out, err)
	}
}

func TestScriptsWithoutAHeader(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/s", []byte("echo plain $1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, status := script(t, dir+"/s x"); got != "plain x\n" || status != 0 {
		t.Errorf("printed %q, status %d", got, status)
	}
}

func TestStandardInputIsSharedWithCommands(t *testing.T) {
	cmd := process(t)
	cmd.Stdin = strings.NewReader("read line\nfor the variable\ncat\nfor cat\n")
	// A pipe is read byte by byte, so that what follows a command is left for it.
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "for cat\n" {
		t.Errorf("printed %q, %v", out, err)
	}
	cmd = process(t)
	cmd.Stdin = strings.NewReader("trap 'echo end' EXIT\nf() {\n echo in\n}\nf\nexit 5\necho not here\n")
	out, err = cmd.CombinedOutput()
	if string(out) != "in\nend\n" || err == nil || err.(*exec.ExitError).ExitCode() != 5 {
		t.Errorf("printed %q, %v", out, err)
	}
}

func TestWaitEndsWithATrappedSignal(t *testing.T) {
	cmd := process(t, "-c", "trap 'kill $p; echo stopping; exit 3' TERM; sleep 60 & p=$!; echo ready; wait $p; echo not here")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(out)
	if line, err := in.ReadString('\n'); line != "ready\n" {
		t.Fatalf("printed %q, %v", line, err)
	}
	start := time.Now()
	cmd.Process.Signal(syscall.SIGTERM)
	rest, _ := io.ReadAll(in)
	cmd.Wait()
	if string(rest) != "stopping\n" || cmd.ProcessState.ExitCode() != 3 || time.Since(start) > 30*time.Second {
		t.Errorf("printed %q, ended with %v", rest, cmd.ProcessState)
	}
}

func TestBuiltin(t *testing.T) {
	for _, c := range []struct {
		args   []string
		want   string
		status int
	}{
		{[]string{"printf", "%s=%d\n", "a", "1", "b", "2"}, "a=1\nb=2\n", 0},
		{[]string{"test", "a", "=", "b"}, "", 1},
		{[]string{"[", "-e", "/", "]"}, "", 0},
		{[]string{"[", "x"}, "", 2},
		{[]string{"test", "$HOME", "=", "x"}, "", 1},
	} {
		var out, complaint bytes.Buffer
		if status := Builtin(c.args, strings.NewReader(""), &out, &complaint); out.String() != c.want || status != c.status {
			t.Errorf("%q: printed %q, complained %q, status %d", c.args, out.String(), complaint.String(), status)
		}
	}
}

// screen is a shell on a terminal of its own.
type screen struct {
	t     *testing.T
	term  *os.File
	cmd   *exec.Cmd
	shown chan string // what the shell wrote, in pieces
	seen  string
}

func onTerminal(t *testing.T) *screen {
	t.Helper()
	cmd := process(t)
	cmd.Env = append(cmd.Env, "PS1=ready> ", "PATH="+os.Getenv("PATH"))
	cmd.Dir = t.TempDir()
	term, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 100})
	if err != nil {
		t.Skipf("no terminal to be had: %v", err)
	}
	s := &screen{t: t, term: term, cmd: cmd, shown: make(chan string, 1000)}
	go func() {
		defer close(s.shown)
		for buf := make([]byte, 4096); ; {
			n, err := term.Read(buf)
			if err != nil {
				return
			}
			s.shown <- string(buf[:n])
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		term.Close()
	})
	return s
}

// expect waits until the screen shows text, and drops what was shown up to there.
func (s *screen) expect(text string) {
	s.t.Helper()
	limit := time.After(20 * time.Second)
	for !strings.Contains(s.seen, text) {
		select {
		case piece, ok := <-s.shown:
			s.seen += piece
			if !ok {
				s.t.Fatalf("the shell ended; waiting for %q, the screen shows %q", text, s.seen)
			}
		case <-limit:
			s.t.Fatalf("waiting for %q, the screen shows %q", text, s.seen)
		}
	}
	s.seen = s.seen[strings.Index(s.seen, text)+len(text):]
}

func (s *screen) typed(text string) { s.term.WriteString(text) }

func TestTerminal(t *testing.T) {
	s := onTerminal(t)
	s.expect("ready> ")
	s.typed("echo one$((1+1))\r")
	s.expect("one2")
	s.expect("ready> ")
	s.typed("for i in a b; do\r")
	s.expect("> ")
	s.typed("echo item-$i-end; done\r")
	s.expect("item-b-end")
	s.expect("ready> ")
	s.typed("abandoned\x03") // Ctrl-C at the prompt
	s.expect("^C")
	s.expect("ready> ")
	s.typed("if\rfi )\r") // a syntax error does not end the shell
	s.expect("ready> ")
	s.typed("echo > a-file-to-complete\r")
	s.expect("ready> ")
	s.typed("echo a-fi\t | tr a-z A-Z\r")
	s.expect("A-FILE-TO-COMPLETE")
	s.expect("ready> ")
	s.typed("\x1b[A\x1b[A\r") // the line before the last, from the history: makes the file again
	s.expect("ready> ")
	s.typed("trap 'echo good\"\"bye' EXIT\r")
	s.expect("ready> ")
	s.typed("\x04") // Ctrl-D
	s.expect("goodbye")
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("the shell ended with %v", err)
	}
}

func TestCtrlCEndsTheCommandNotTheShell(t *testing.T) {
	s := onTerminal(t)
	s.expect("ready> ")
	s.typed("while true; do echo tick\"\"tack; sleep 5; done\r")
	s.expect("ticktack")
	s.typed("\x03")
	s.expect("ready> ")
	s.typed("echo status $?\r")
	s.expect("status 130")
	s.typed("exit 3\r")
	s.cmd.Wait()
	if code := s.cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("the shell ended with status %d", code)
	}
}
