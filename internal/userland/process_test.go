package userland

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

// output runs a command as a process and returns what it printed and its status.
func output(t *testing.T, args ...string) (string, int) {
	t.Helper()
	cmd := command(t, args...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestTheNameChoosesTheCommand(t *testing.T) {
	for _, c := range []struct {
		args   []string
		want   string
		status int
	}{
		{[]string{"/bin/echo", "x"}, "x\n", 0},
		{[]string{"base", "echo", "x"}, "x\n", 0},
		{[]string{"-sh", "-c", "echo login"}, "login\n", 0},
		{[]string{"no-such"}, "base: no-such: no such command; 'base --list' shows all\n", 127},
		{[]string{"sh", "-c", "exit 3"}, "", 3},
		{[]string{"yes", "--help"}, "Usage: yes [TEXT...]\n\nPrint a line again and again.\n", 0},
	} {
		if out, status := output(t, c.args...); out != c.want || status != c.status {
			t.Errorf("%q: printed %q with status %d", c.args, out, status)
		}
	}
	if out, status := output(t, "base", "--list"); status != 0 || strings.Count(out, "\n") < len(Names()) {
		t.Errorf("base --list printed %q", out)
	}
}

func TestCommandsThatBecomeAnother(t *testing.T) {
	for _, c := range []struct {
		args   []string
		want   string
		status int
	}{
		{[]string{"env", "-i", "A=1", "sh", "-c", "echo $A"}, "1\n", 0},
		{[]string{"env", "-C", "/", "sh", "-c", "pwd"}, "/\n", 0},
		{[]string{"env", "-u", "HOME", "sh", "-c", "echo [$HOME]"}, "[]\n", 0},
		{[]string{"env", "no-such-command"}, "env: no-such-command: file does not exist\n", 127},
		{[]string{"env", "/"}, "env: /: permission denied\n", 126},
		{[]string{"nice", "-n", "5", "sh", "-c", "ps -o ni= -p $$ | tr -d ' '"}, "5\n", 0},
		{[]string{"nice"}, "0\n", 0},
		{[]string{"setsid", "sh", "-c", "test $(ps -o sid= -p $$) = $(ps -o pid= -p $$)"}, "", 0},
		{[]string{"nohup", "sh", "-c", "kill -HUP $$; echo still here"}, "still here\n", 0},
		{[]string{"which", "no-such-command"}, "", 1},
		{[]string{"tty"}, "not a tty\n", 1},
	} {
		if out, status := output(t, c.args...); out != c.want || status != c.status {
			t.Errorf("%q: printed %q with status %d, want %q with status %d", c.args, out, status, c.want, c.status)
		}
	}
	if out, _ := output(t, "which", "sh"); !strings.HasSuffix(out, "/sh\n") {
		t.Errorf("which sh printed %q", out)
	}
}

func TestChrootDropsPrivileges(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to change the root directory")
	}
	out, status := output(t, "chroot", "--userspec", "12:34", "/", "sh", "-c", "id -u; id -g; id -G")
	if out != "12\n34\n34\n" || status != 0 {
		t.Errorf("printed %q with status %d", out, status)
	}
	if out, status := output(t, "chroot", "/no/such/dir"); status == 0 || !strings.Contains(out, "/no/such/dir: no such file or directory") {
		t.Errorf("printed %q with status %d", out, status)
	}
}

func TestTailFollows(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteString("first\n")
	cmd := command(t, "tail", "-f", name)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	in := bufio.NewReader(pipe)
	for _, want := range []string{"first\n", "second\n", "third\n"} {
		if line, err := in.ReadString('\n'); line != want {
			t.Fatalf("read %q, %v; want %q", line, err, want)
		}
		switch want {
		case "first\n":
			f.WriteString("second\n")
		case "second\n": // the file begins anew
			f.Truncate(0)
			f.WriteAt([]byte("third\n"), 0)
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 143 {
		t.Errorf("after SIGTERM the status is %d", code)
	}
}

func TestDigestsAreChecked(t *testing.T) {
	tree(t)
	sums := must(t, "sha256sum", "a", "b")
	os.WriteFile("sums", []byte(sums), 0o644)
	if out := must(t, "sha256sum", "-c", "sums"); out != "a: OK\nb: OK\n" {
		t.Errorf("printed %q", out)
	}
	os.WriteFile("b", []byte("changed"), 0o644)
	if out, complaint, status := run(t, "", "sha256sum", "-c", "-q", "sums"); out != "b: FAILED\n" || status != 1 || !strings.Contains(complaint, "1 digests") {
		t.Errorf("printed %q, complained %q, status %d", out, complaint, status)
	}
	os.WriteFile("sums", []byte("nonsense\n"), 0o644)
	refuse(t, "not a line", "sha256sum", "-c", "sums")
}

func TestHexdumpShowsBytes(t *testing.T) {
	in := "0123456789abcdef" + "0123456789abcdef" + "0123456789abcdef" + "\x00end"
	want := `00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|
*
00000030  00 65 6e 64                                       |.end|
00000034
`
	if out, _, _ := run(t, in, "hexdump", "-C"); out != want {
		t.Errorf("printed\n%swant\n%s", out, want)
	}
	if out, _, _ := run(t, in, "hexdump", "-s", "49", "-n", "3"); !strings.HasPrefix(out, "00000031  65 6e 64 ") {
		t.Errorf("-s and -n printed %q", out)
	}
}

func TestDuCountsLinksOnce(t *testing.T) {
	t.Chdir(t.TempDir())
	os.WriteFile("big", make([]byte, 100<<10), 0o644)
	must(t, "ln", "big", "same")
	must(t, "mkdir", "-p", "x/y")
	if out := must(t, "du", "-ab", "--max-depth", "1"); strings.Count(out, "102400\t") != 1 {
		t.Errorf("printed\n%s", out)
	}
	if out := must(t, "du", "-sh", "."); !strings.HasSuffix(out, "\t.\n") || strings.Count(out, "\n") != 1 {
		t.Errorf("du -s printed %q", out)
	}
}

func TestHumanSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1023: "1023", 1024: "1.0K", 1536: "1.5K", 10240: "10K", 1 << 20: "1.0M", 1<<20 - 1: "1.0M", 5<<30 + 1: "5.1G"} {
		if got := humanSize(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
}

func TestNcSpeaksToUnixSockets(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err == nil {
			conn.Write([]byte("from a unix socket"))
			conn.Close()
		}
	}()
	if out := must(t, "nc", "-U", dir+"/s"); out != "from a unix socket" {
		t.Errorf("nc -U printed %q", out)
	}
}

func TestMountAndMknodSayWhatIsWrong(t *testing.T) {
	if _, complaint, status := run(t, "", "mount", "-t", "no-such-type", "none", t.TempDir()); status != 1 || complaint == "" {
		t.Errorf("status %d, complained %q", status, complaint)
	}
	refuse(t, "extra operand", "mount", "a", "b", "c")
	refuse(t, "invalid type", "mknod", "x", "q")
	refuse(t, "major and a minor", "mknod", "x", "c")
}

func TestProcessesAreEndedByName(t *testing.T) {
	for _, c := range [][]string{{"killall", "-9", "named-to-die"}, {"pkill", "-x", "named-to-die"}, {"pkill", "-s", "USR1", "-f", "named-to-die"}} {
		path := filepath.Join(t.TempDir(), "named-to-die")
		sleep, err := exec.LookPath("sleep")
		if err != nil {
			t.Skip(err)
		}
		if err := os.Symlink(sleep, path); err != nil {
			t.Fatal(err)
		}
		victim := exec.Command(path, "60")
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		if _, complaint, status := run(t, "", c...); status != 0 {
			t.Errorf("%v: status %d, complained %q", c, status, complaint)
			victim.Process.Kill()
		}
		if err := victim.Wait(); err == nil {
			t.Errorf("%v: it lived on", c)
		}
	}
	if _, complaint, status := run(t, "", "killall", "nobody-is-called-so"); status != 1 || !strings.Contains(complaint, "no process") {
		t.Errorf("nobody to kill: status %d, complained %q", status, complaint)
	}
}

func TestXargsRunsSeveralAtOnce(t *testing.T) {
	// Each of the two waits for the other, so that one after the other never ends.
	t.Chdir(t.TempDir())
	out, complaint, status := run(t, "a b\n", "timeout", "20", "sh", "-c", `xargs -P 2 -n 1 sh -c 'touch $0; while ! [ -e a -a -e b ]; do sleep 0.01; done'`)
	if status != 0 {
		t.Errorf("status %d, printed %q, complained %q", status, out, complaint)
	}
	cmd := command(t, "xargs", "-P", "0", "-n", "1", "sh", "-c", "exit 3")
	cmd.Stdin = strings.NewReader("a b c\n")
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 123 {
		t.Errorf("of commands that failed: %v", err)
	}
}

func TestSttySetsTheTerminal(t *testing.T) {
	master, terminal, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer terminal.Close()
	stty := func(args ...string) string {
		t.Helper()
		cmd := command(t, append([]string{"stty"}, args...)...)
		cmd.Stdin = terminal
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("stty %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	stty("rows", "30", "cols", "99")
	if got := stty("size"); got != "30 99\n" {
		t.Errorf("size %q", got)
	}
	stty("-echo", "raw")
	if got := stty("-a"); !strings.Contains(got, " -echo ") || !strings.Contains(got, " -icanon ") {
		t.Errorf("raw and without echo: %s", got)
	}
	stty("sane")
	if got := stty("-a"); !strings.Contains(got, " echo ") || !strings.Contains(got, " icanon ") {
		t.Errorf("sane: %s", got)
	}
	cmd := command(t, "stty", "nonsense")
	cmd.Stdin = terminal
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), `unknown setting "nonsense"`) {
		t.Errorf("an unknown setting: %v: %s", err, out)
	}
}
