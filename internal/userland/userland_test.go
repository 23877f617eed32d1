package userland

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// commandVar makes the test binary act as the program of the user land: some commands replace their process.
const commandVar = "CONTAINR_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(commandVar) != "" {
		os.Unsetenv(commandVar)
		os.Exit(Main(os.Args))
	}
	os.Exit(m.Run())
}

// command is a command as a process. Its first word is its name, as a link in /bin would give it.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &exec.Cmd{Path: self, Args: args, Env: append(os.Environ(), commandVar+"=1")}
}

// run runs a command in this process and returns what it printed, what it complained, and its status.
func run(t *testing.T, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	c := find(args[0])
	if c == nil {
		t.Fatalf("no command %q", args[0])
	}
	var out, complaints bytes.Buffer
	status = Run(c, args[1:], strings.NewReader(stdin), &out, &complaints)
	return out.String(), complaints.String(), status
}

// tree makes the files that the tests work on, in a directory of their own, and goes there.
func tree(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, content := range map[string]string{
		"a":           "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\ntwelve\n",
		"b":           "3 pear\n10 apple\n2 fig\n2 fig\n",
		"csv":         "name:x:10\nroot:y:2\nno delimiter\nlast::7\n",
		"text":        "The quick brown fox\njumps over [the] lazy dog.\n\n\tTabbed line\nfoo.bar(baz)\n",
		"empty":       "",
		"d/e/deep":    "deep\n",
		"d/f":         "f\n",
		"d/.hidden":   "h\n",
		"no-newline":  "no newline at end",
		"d/with name": "blank\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", "link"); err != nil {
		t.Fatal(err)
	}
}

// sameAsHost are command lines whose output and status must be those of the host's own commands.
var sameAsHost = []struct {
	stdin string
	args  []string
}{
	{"", []string{"cat", "a", "b"}},
	{"", []string{"cat", "-n", "text"}},
	{"\x01\x7f\xff\t\n", []string{"cat", "-A"}},
	{"", []string{"head", "-n", "3", "a"}},
	{"", []string{"cat", "-b", "text"}},
	{"", []string{"cat", "-s", "text"}},
	{"", []string{"cat", "-e", "text"}},
	{"", []string{"head", "-c", "-5", "a"}},
	{"", []string{"head", "-v", "-n", "1", "a"}},
	{"", []string{"tail", "-v", "-n", "1", "a"}},
	{"", []string{"sort", "-V", "a"}},
	{"10.2\n9.10\n9.9\n", []string{"sort", "-V"}},
	{"x 9a\nx 10a\ny 1b\n", []string{"sort", "-k2.1n"}},
	{"a  b\na c\n", []string{"sort", "-k2"}},
	{"a  b\na c\n", []string{"sort", "-b", "-k2"}},
	{"k:ab\nk:aa\nj:b\n", []string{"sort", "-t:", "-k2.2,2.2"}},
	{"a\nb\n", []string{"sort", "-m"}},
	{"b1\na1\na2\n", []string{"uniq", "-w", "1"}},
	{"xa\nya\nyb\n", []string{"uniq", "-s", "1"}},
	{"a  x\nb  x\n", []string{"uniq", "-f", "1"}},
	{"abc\n", []string{"tr", "-t", "abc", "x"}},
	{"", []string{"grep", "-a", "o", "a"}},
	{"", []string{"grep", "-rn", "deep", "."}},
	{"", []string{"grep", "-R", "one", "link"}},
	{"", []string{"egrep", "one|two", "a"}},
	{"", []string{"fgrep", ".", "text"}},
	{"", []string{"sed", "-n", "-i.bak", "p", "a"}},
	{"", []string{"ls", "-R"}},
	{"", []string{"ls", "-p"}},
	{"", []string{"ls", "-L", "link"}},
	{"", []string{"ls", "-X"}},
	{"", []string{"ls", "-v"}},
	{"", []string{"date", "-u", "-d", "@0", "-Iseconds"}},
	{"", []string{"date", "-u", "-d", "@0", "-I"}},
	{"", []string{"date", "-u", "-d", "@0", "-Iminutes"}},
	{"abc\nDEF\n", []string{"dd", "conv=ucase", "status=none"}},
	{"abcde", []string{"dd", "bs=4", "conv=sync", "status=none"}},
	{"abcde", []string{"dd", "ibs=2", "obs=4", "count=2", "status=none"}},
	{"", []string{"find", "-L", ".", "-name", "link", "-type", "f"}},
	{"", []string{"find", ".", "-regex", ".*/cs[uvw]"}},
	{"one two\nthree\n", []string{"xargs", "-E", "two", "echo"}},
	{"", []string{"cmp", "-l", "a", "b"}},
	{"", []string{"sha256sum", "a"}},
	{"long line of text\n", []string{"fold", "-w", "5"}},
	{"long line of text\n", []string{"fold", "-s", "-w", "8"}},
	{"", []string{"expr", "1", "+", "2", "*", "3"}},
	{"", []string{"expr", "(", "1", "+", "2", ")", "*", "3"}},
	{"", []string{"expr", "7", "%", "4"}},
	{"", []string{"expr", "1", "/", "0"}},
	{"", []string{"expr", "a", "+", "1"}},
	{"", []string{"expr", "abc", ":", "a\\(.\\)"}},
	{"", []string{"expr", "abc", ":", "b"}},
	{"", []string{"expr", "abc", ":", ".*"}},
	{"", []string{"expr", "length", "hello"}},
	{"", []string{"expr", "substr", "hello", "2", "3"}},
	{"", []string{"expr", "index", "hello", "lx"}},
	{"", []string{"expr", "10", "<", "9"}},
	{"", []string{"expr", "b", ">", "a"}},
	{"", []string{"expr", "0", "|", "5"}},
	{"", []string{"expr", "3", "&", "0"}},
	{"", []string{"expr", "1", "+"}},
	{"", []string{"head", "-2", "a"}},
	{"", []string{"head", "-n", "-10", "a"}},
	{"", []string{"head", "-c", "5", "a", "b"}},
	{"", []string{"tail", "-n", "2", "a"}},
	{"", []string{"tail", "-n", "+11", "a"}},
	{"", []string{"tail", "-3", "a"}},
	{"", []string{"tail", "-c", "4", "no-newline"}},
	{"", []string{"wc", "-l", "a"}},
	{"", []string{"wc", "-c", "no-newline"}},
	{"", []string{"wc", "-w", "text"}},
	{"a b\n", []string{"wc"}},
	{"", []string{"tac", "a"}},
	{"abc\ndef\n", []string{"rev"}},
	{"", []string{"nl", "text"}},
	{"", []string{"nl", "-b", "a", "text"}},
	{"", []string{"cut", "-d:", "-f1,3", "csv"}},
	{"", []string{"cut", "-d:", "-f2-", "-s", "csv"}},
	{"", []string{"cut", "-c2-4", "a"}},
	{"", []string{"cut", "-c", "-2", "a"}},
	{"", []string{"cut", "-d:", "-f1", "--complement", "csv"}},
	{"hello world\n", []string{"tr", "a-z", "A-Z"}},
	{"hello world\n", []string{"tr", "-d", "lo"}},
	{"aabbcc\n", []string{"tr", "-s", "a-c"}},
	{"a1b2\n", []string{"tr", "-cd", "[:digit:]"}},
	{"a\tb\n", []string{"tr", "\\t", ":"}},
	{"Hello\n", []string{"tr", "[:upper:]", "[:lower:]"}},
	{"", []string{"sort", "a"}},
	{"", []string{"sort", "-r", "a"}},
	{"", []string{"sort", "-n", "b"}},
	{"", []string{"sort", "-u", "b"}},
	{"", []string{"sort", "-k2", "b"}},
	{"", []string{"sort", "-t:", "-k3n", "csv"}},
	{"2K\n1G\n300\n1M\n", []string{"sort", "-h"}},
	{"b\na\n", []string{"sort", "-c"}},
	{"", []string{"uniq", "b"}},
	{"", []string{"uniq", "-c", "b"}},
	{"", []string{"uniq", "-d", "b"}},
	{"", []string{"uniq", "-u", "b"}},
	{"", []string{"seq", "5"}},
	{"", []string{"seq", "-w", "8", "11"}},
	{"", []string{"seq", "1", "0.5", "3"}},
	{"", []string{"seq", "5", "-2", "-3"}},
	{"", []string{"seq", "-s,", "3"}},
	{"", []string{"paste", "a", "b"}},
	{"", []string{"paste", "-s", "-d,", "b"}},
	{"", []string{"grep", "o", "a"}},
	{"", []string{"grep", "-c", "e", "a"}},
	{"", []string{"grep", "-n", "^t", "a"}},
	{"", []string{"grep", "-v", "e", "a", "b"}},
	{"", []string{"grep", "-i", "THE", "text"}},
	{"", []string{"grep", "-w", "fox", "text"}},
	{"", []string{"grep", "-F", "[the]", "text"}},
	{"", []string{"grep", "-E", "(fox|dog)", "text"}},
	{"", []string{"grep", "\\(fox\\|dog\\)", "text"}},
	{"", []string{"grep", "foo.bar(baz)", "text"}},
	{"", []string{"grep", "[[:upper:]]", "text"}},
	{"", []string{"grep", "-o", "[a-z]*o[a-z]*", "text"}},
	{"", []string{"grep", "-A1", "-B1", "-n", "five", "a"}},
	{"", []string{"grep", "-C1", "t", "a"}},
	{"", []string{"grep", "-l", "o", "a", "empty"}},
	{"", []string{"grep", "-L", "o", "a", "empty"}},
	{"", []string{"grep", "-q", "nothing", "a"}},
	{"", []string{"grep", "-m2", "e", "a"}},
	{"", []string{"grep", "-x", "one", "a"}},
	{"", []string{"grep", "-e", "one", "-e", "two", "a"}},
	{"", []string{"grep", "-rh", "deep", "d"}},
	{"", []string{"grep", "*", "text"}},
	{"", []string{"sed", "s/o/0/", "a"}},
	{"", []string{"sed", "s/o/0/g", "text"}},
	{"", []string{"sed", "-n", "2,4p", "a"}},
	{"", []string{"sed", "-n", "/two/,/four/p", "a"}},
	{"", []string{"sed", "$d", "a"}},
	{"", []string{"sed", "3q", "a"}},
	{"", []string{"sed", "/^$/d;s/^/> /", "text"}},
	{"", []string{"sed", "-E", "s/([a-z]+) ([a-z]+)/\\2 \\1/", "text"}},
	{"", []string{"sed", "s/\\(q[a-z]*\\)/<\\1>/", "text"}},
	{"", []string{"sed", "s/t/&&/2", "text"}},
	{"", []string{"sed", "y/abc/xyz/", "text"}},
	{"", []string{"sed", "-n", "$=", "a"}},
	{"", []string{"sed", "2a\\\nafter", "a"}},
	{"", []string{"sed", "2i before", "a"}},
	{"", []string{"sed", "2c changed", "a"}},
	{"", []string{"sed", "N;s/\\n/+/", "a"}},
	{"", []string{"sed", "-n", "H;${x;s/\\n/,/g;p}", "a"}},
	{"", []string{"sed", ":l;N;$!bl;s/\\n/ /g", "a"}},
	{"", []string{"sed", "1!G;h;$!d", "a"}},
	{"", []string{"sed", "s|one|/x/|", "a"}},
	{"", []string{"sed", "2,3{s/t/T/;s/e/E/}", "a"}},
	{"", []string{"sed", "/four/,+2d", "a"}},
	{"", []string{"basename", "/x/y.go", ".go"}},
	{"", []string{"basename", "/"}},
	{"", []string{"dirname", "/x/y", "z", "/a"}},
	{"", []string{"readlink", "link"}},
	{"", []string{"readlink", "a"}},
	{"", []string{"md5sum", "a", "empty"}},
	{"", []string{"sha256sum", "a"}},
	{"", []string{"sha512sum", "a"}},
	{"hello", []string{"base64"}},
	{"aGVsbG8=\n", []string{"base64", "-d"}},
	{"", []string{"cmp", "a", "b"}},
	{"", []string{"cmp", "a", "a"}},
	{"", []string{"find", "d", "-type", "f", "-name", "f"}},
	{"", []string{"find", "d/e", "-maxdepth", "0"}},
	{"", []string{"find", "d", "(", "-name", "deep", "-o", "-name", "nope", ")", "-print"}},
	{"", []string{"find", "d", "-name", "deep", "-exec", "echo", "<{}>", ";"}},
	{"", []string{"find", "d/e", "-type", "f", "-exec", "echo", "{}", "+"}},
	{"", []string{"find", ".", "-empty", "-type", "f"}},
	{"", []string{"find", ".", "-path", "./d/e/*"}},
	{"", []string{"find", "d", "!", "-type", "f", "-name", "e"}},
	{"", []string{"stat", "-c", "%n %s %a %A %F %h %u %g", "a", "d", "link"}},
	{"", []string{"echo", "-n", "a", "b"}},
	{"", []string{"echo", "-e", "a\\tb\\x41\\0101\\\\c\\q"}},
	{"", []string{"echo", "-e", "stop\\chere"}},
	{"", []string{"echo", "-x", "y"}},
	{"", []string{"true"}},
	{"", []string{"false"}},
	{"", []string{"cut", "-b", "2-3", "text"}},
	{"12 a\n3 b\n", []string{"tr", "0-9", "\\060"}},
	{"", []string{"find", ".", "-size", "+1c", "-name", "b"}},
	{"", []string{"find", ".", "-size", "-1k", "-type", "f"}},
	{"", []string{"find", ".", "-perm", "644", "-name", "a"}},
	{"", []string{"find", ".", "-perm", "/111", "-name", "d"}},
	{"", []string{"find", ".", "-perm", "-u=rw", "-name", "b"}},
	{"", []string{"find", ".", "-mmin", "-5", "-name", "a"}},
	{"", []string{"find", ".", "-mtime", "+1"}},
	{"", []string{"find", ".", "-iname", "A", "-links", "1", "-user", "0"}},
	{"", []string{"find", "d", "-name", "deep", "-print0"}},
	{"", []string{"find", "-name", "a", "-quit"}},
	{"", []string{"sort", "-f", "text"}},
	{"", []string{"sort", "-b", "-k", "2,2", "b"}},
	{"", []string{"uniq", "-i", "text"}},
	{"x 1\ny 1\n", []string{"uniq", "-f", "1"}},
	{"", []string{"wc", "-L", "text"}},
	{"", []string{"wc", "-m", "text"}},
	{"", []string{"tail", "-c", "+5", "no-newline"}},
	{"", []string{"head", "-n1", "-q", "a", "b"}},
	{"", []string{"sed", "-n", "l", "b"}},
	{"", []string{"sed", "/one/{n;s/^/+/}", "a"}},
	{"", []string{"sed", "$!N;P;D", "a"}},
	{"", []string{"sed", "/t/!d;=", "a"}},
	{"", []string{"sed", "s/e/E/;t;s/$/ (no e)/", "a"}},
	{"", []string{"sed", "2r b", "a"}},
	{"", []string{"sed", "x;G", "b"}},
	{"", []string{"sed", "5Q3", "a"}},
	{"", []string{"sed", "-s", "1d", "a", "b"}},
	{"", []string{"sha1sum", "a"}},
	{"", []string{"arch"}},
	{"", []string{"ls", "-lS", "--full-time"}},
	{"", []string{"ls", "-U", "empty"}},
	{"", []string{"readlink", "-f", "link"}},
	{"", []string{"strings", "a"}},
	{"", []string{"printf", "%s-%05d-%x\\n", "a", "42", "255"}},
	{"", []string{"test", "-f", "a"}},
	{"", []string{"test", "-d", "a"}},
	{"", []string{"test", "1", "-lt", "2", "-a", "x", "=", "x"}},
	{"", []string{"[", "-z", "", "]"}},
	{"a b\n'c d' e\\ f\n", []string{"xargs", "-n1", "echo", "-"}},
	{"a\nb c\n", []string{"xargs", "-I{}", "echo", "<{}>"}},
	{"", []string{"date", "-u", "-d", "@86400", "+%Y-%m-%d %H:%M:%S %a %j %s %e"}},
	{"", []string{"date", "-u", "-d", "2024-02-29 12:34:56", "+%F %T %A %B"}},
	{"", []string{"id", "-u"}},
	{"", []string{"id"}},
	{"", []string{"id", "root"}},
	{"", []string{"id", "-Gn"}},
	{"", []string{"whoami"}},
	{"", []string{"uname", "-srm"}},
	{"", []string{"hostname"}},
	{"", []string{"nproc"}},
	{"", []string{"pwd"}},
	{"", []string{"ls", "-1"}},
	{"", []string{"ls", "-A", "d"}},
	{"", []string{"ls", "-1F"}},
	{"", []string{"ls", "-ld", "/dev/null", "/tmp", "/proc/self/../.."}},
	{"", []string{"ls", "-lan", "d"}},
	{"", []string{"ls", "-R", "d"}},
	{"", []string{"du", "-s", "--apparent-size", "-b", "a"}},
	{"", []string{"realpath", "link"}},
}

func TestCommandsPrintWhatTheHostsCommandsPrint(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	t.Setenv("TZ", "UTC")
	for _, c := range sameAsHost {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			path, err := exec.LookPath(c.args[0])
			if err != nil {
				t.Skipf("the host has no %s to compare with", c.args[0])
			}
			tree(t)
			host := exec.Command(path, c.args[1:]...)
			host.Stdin = strings.NewReader(c.stdin)
			want, err := host.Output()
			if err != nil && host.ProcessState == nil {
				t.Fatal(err)
			}
			got, complaint, status := run(t, c.stdin, c.args...)
			if got != string(want) || status != host.ProcessState.ExitCode() {
				t.Errorf("got status %d:\n%s%s\nthe host's command gives status %d:\n%s", status, got, complaint, host.ProcessState.ExitCode(), want)
			}
		})
	}
}

func TestEveryCommandHelps(t *testing.T) {
	for _, name := range Names() {
		out, complaint, status := run(t, "", name, "--help")
		if status != 0 || !strings.HasPrefix(out, "Usage: "+name) || complaint != "" {
			t.Errorf("%s --help: status %d, printed %q, complained %q", name, status, out, complaint)
		}
	}
}

func TestTableIsSortedAndComplete(t *testing.T) {
	if !slices.IsSorted(Names()) {
		t.Error("the table is not in alphabetical order")
	}
	needed := "sh cat ls cp mv rm mkdir rmdir ln chmod chown touch echo printf true false test [ env printenv id whoami hostname uname pwd ps kill sleep date head tail wc sort uniq grep sed cut tr tee find xargs basename dirname readlink realpath stat df du mount umount dd seq sha256sum md5sum tar gzip gunzip free uptime nproc yes time which mktemp"
	for name := range strings.FieldsSeq(needed) {
		if find(name) == nil {
			t.Errorf("no %s", name)
		}
	}
	for i := range commands {
		if c := &commands[i]; c.Does == "" || c.Run == nil || !strings.HasSuffix(c.Does, ".") {
			t.Errorf("%s: the row is not complete", c.Name)
		}
	}
}

func TestUnknownFlagsAreRefused(t *testing.T) {
	for _, name := range []string{"cat", "ls", "cp", "rm", "grep", "sort", "id", "ps", "df"} {
		_, complaint, status := run(t, "", name, "--no-such-flag")
		if status != 2 || !strings.Contains(complaint, "no-such-flag") {
			t.Errorf("%s --no-such-flag: status %d, complained %q", name, status, complaint)
		}
	}
}

func TestMissingFilesAreNamed(t *testing.T) {
	tree(t)
	for _, name := range []string{"cat", "head", "tail", "wc", "ls", "rm", "stat", "sort", "md5sum", "du"} {
		_, complaint, status := run(t, "", name, "missing", "a")
		if status != 1 || !strings.Contains(complaint, "missing: no such file or directory") {
			t.Errorf("%s missing: status %d, complained %q", name, status, complaint)
		}
	}
}
