package testkit

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit/probe"
)

// runProbe runs the probe on this machine and returns what it printed.
func runProbe(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(Probe(t), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("probe %v: %v %s", args, err, &stderr)
	}
	return out
}

func TestProbeReportsItself(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(Probe(t), "-report")
	cmd.Dir, cmd.Env = dir, []string{"A=b c", "PATH=/x"}
	extra, err := os.Create(filepath.Join(dir, "extra"))
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close()
	cmd.ExtraFiles = []*os.File{extra}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	r := Report(t, out)
	if r.PPID != os.Getpid() || r.Cwd != dir || r.UID.Effective != os.Geteuid() || r.Status.PID != r.PID {
		t.Errorf("%+v", r)
	}
	if !slices.Equal(r.Env, []string{"A=b c", "PATH=/x", "PWD=" + dir}) && !slices.Equal(r.Env, []string{"A=b c", "PATH=/x"}) {
		t.Errorf("env %q", r.Env)
	}
	for _, fd := range r.FDs {
		// Whoever started the tests may have left descriptors open, which pass through to the probe.
		if flags, err := unix.FcntlInt(uintptr(fd.Num), unix.F_GETFD, 0); fd.Num > 3 && (err != nil || flags != 0) {
			t.Errorf("not inherited, yet reported: %+v", fd)
		}
	}
	if fd, ok := r.FD(3); !ok || fd.Target != extra.Name() {
		t.Errorf("descriptor 3: %+v", fd)
	}
	if want := Namespaces(t, 0); r.Namespaces["mnt"] != want["mnt"] || r.Namespaces["pid"] == 0 {
		t.Errorf("namespaces %v, want %v", r.Namespaces, want)
	}
	if want := Mountinfo(t, 0); len(r.Mounts) != len(want) || r.Mounts[0].Point != want[0].Point {
		t.Errorf("%d mounts, want %d", len(r.Mounts), len(want))
	}
	if r.Status.Caps != Status(t, 0).Caps {
		t.Errorf("caps %+v", r.Status.Caps)
	}
	if len(r.Errors) > 0 {
		t.Errorf("errors %q", r.Errors)
	}
}

func TestProbeReportsWhatExecveHandedOver(t *testing.T) {
	out, err := exec.Command("/bin/sh", "-c", `trap "" PIPE USR1 HUP TSTP; ulimit -S -n 64; umask 027; exec "$0" -report`, Probe(t)).Output()
	if err != nil {
		t.Fatal(err)
	}
	r := Report(t, out)
	for _, sig := range []unix.Signal{unix.SIGPIPE, unix.SIGUSR1, unix.SIGHUP, unix.SIGTSTP} {
		if !r.Signals.Ignored.Has(int(sig)) {
			t.Errorf("%v is not among the ignored signals %x", sig, r.Signals.Ignored)
		}
	}
	if r.Signals.Ignored.Has(int(unix.SIGTERM)) || r.Signals.Blocked != 0 {
		t.Errorf("%+v", r.Signals)
	}
	if r.Rlimits["RLIMIT_NOFILE"].Soft != 64 {
		t.Errorf("limit of open files %+v", r.Rlimits["RLIMIT_NOFILE"])
	}
	if r.Umask != 0o27 {
		t.Errorf("umask %o", r.Umask)
	}
}

func TestProbeReportsBlockedSignals(t *testing.T) {
	const script = `use POSIX; sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGUSR2, SIGCHLD)); exec @ARGV`
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Skip("needs perl to start a program with blocked signals")
	}
	out, err := exec.Command(perl, "-e", script, Probe(t), "-report").Output()
	if err != nil {
		t.Fatal(err)
	}
	s := Report(t, out).Signals.Blocked
	if !s.Has(int(unix.SIGUSR2)) || !s.Has(int(unix.SIGCHLD)) || s.Has(int(unix.SIGUSR1)) {
		t.Errorf("blocked %x", s)
	}
}

func TestProbeTries(t *testing.T) {
	dir := t.TempDir()
	WriteFile(t, dir+"/f", "content", 0o644)
	r := Report(t, runProbe(t, "-try", "read:"+dir+"/f", "-try", "open:/nonexistent", "-try", "unshare:nonsense",
		"-try", "syscall:39", "-try", "create:"+dir+"/new", "-try", "write:"+dir+"/f=changed", "-try", "kill:0x",
		"-try", "chroot:/nonexistent", "-try", "nothing", "-sysctl", "kernel.ostype", "-ls", dir))
	for words, want := range map[string]probe.Try{
		"read:" + dir + "/f":          {OK: true, Value: "content"},
		"open:/nonexistent":           {Errno: "ENOENT"},
		"chroot:/nonexistent":         {Errno: "ENOENT"},
		"unshare:nonsense":            {Errno: "?"},
		"create:" + dir + "/new":      {OK: true},
		"write:" + dir + "/f=changed": {OK: true},
		"kill:0x":                     {Errno: "?"},
		"nothing":                     {Errno: "?"},
	} {
		got, ok := r.Try(words)
		if !ok || got.OK != want.OK || got.Errno != want.Errno || got.Value != want.Value {
			t.Errorf("%s: got %+v, want %+v", words, got, want)
		}
	}
	if b, _ := os.ReadFile(dir + "/f"); string(b) != "changedcontent"[:7] {
		t.Errorf("file is %q", b)
	}
	if r.Sysctls["kernel.ostype"] != "Linux" {
		t.Errorf("sysctls %v", r.Sysctls)
	}
	if ls := r.Dirs[dir]; len(ls) != 1 || ls[0].Name != "f" || ls[0].Mode != "-rw-r--r--" {
		t.Errorf("ls %+v", ls)
	}
}

func TestProbeTriesAsRoot(t *testing.T) {
	RequireRoot(t)
	Leftovers(t)
	dir := t.TempDir()
	tries := []string{"mount:" + dir, "unshare:mnt,uts,ipc,net,pid,cgroup", "unshare:user", "setuid:65534", "chroot:" + dir,
		"mknod:" + dir + "/null", "chown:" + dir, "sethostname", "socket:1,1,0"}
	var args []string
	for _, s := range tries {
		args = append(args, "-try", s)
	}
	r := Report(t, runProbe(t, args...))
	for _, s := range tries {
		if got, _ := r.Try(s); !got.OK {
			t.Errorf("%+v", got)
		}
	}
}

func TestProbeActs(t *testing.T) {
	cmd := exec.Command(Probe(t), "-echo", "-alloc", "8M", "-spin", "10ms", "-fork", "2", "-stderr", "oops", "-exit", "7")
	input := "\x00\xff\r\n binary\x04"
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Run()
	if cmd.ProcessState.ExitCode() != 7 || stderr.String() != "oops" {
		t.Errorf("%v %q", cmd.ProcessState, &stderr)
	}
	rest, ok := strings.CutPrefix(stdout.String(), input)
	if !ok {
		t.Fatalf("echo: %q", &stdout)
	}
	ev := Events(t, []byte(rest))
	if len(ev) != 2 || ev[0].Spin.Wall < 10*time.Millisecond || ev[0].Spin.CPU == 0 || ev[1].Fork.Made != 2 {
		t.Errorf("%q", rest)
	}
}

func TestProbeWaitsForASignal(t *testing.T) {
	cmd := exec.Command(Probe(t), "-wait-signal", "TERM,USR1", "-stderr", "still here")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 256)
	n, _ := stdout.Read(buf)
	if ev := Events(t, buf[:n]); len(ev) != 1 || !slices.Equal(ev[0].Waiting, []string{"TERM", "USR1"}) {
		t.Errorf("%q", buf[:n])
	}
	cmd.Process.Signal(unix.SIGUSR1)
	n, _ = stdout.Read(buf)
	if ev := Events(t, buf[:n]); len(ev) != 1 || ev[0].Signal != "SIGUSR1" {
		t.Errorf("%q", buf[:n])
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestProbeRefusesWrongUsage(t *testing.T) {
	for _, args := range [][]string{{"-exit", "x"}, {"-nothing"}, {"word"}, {"-alloc", "-1"}, {"-alloc", "5X"}, {"-signal", "NONE"}, {"-write", "x"}} {
		cmd := exec.Command(Probe(t), args...)
		out, _ := cmd.Output()
		if cmd.ProcessState.ExitCode() != 2 || len(out) > 0 {
			t.Errorf("%v: %v, %q", args, cmd.ProcessState, out)
		}
	}
	cmd := exec.Command(Probe(t), "-write", "/nonexistent/x=y")
	cmd.Run()
	if cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("failed action: %v", cmd.ProcessState)
	}
}

func TestRootfsRunsTheProbeAsPID1(t *testing.T) {
	RequireRoot(t)
	Leftovers(t)
	root := Rootfs(t)
	cmd := exec.Command("/probe", "-ls", "/", "-try", "open:/etc/passwd")
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.SysProcAttr = &unix.SysProcAttr{Chroot: root, Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	r := Report(t, out)
	var names []string
	for _, n := range r.Dirs["/"] {
		names = append(names, n.Name)
	}
	if r.PID != 1 || strings.Join(names, " ") != "bin dev etc home probe proc root run sys tmp var" {
		t.Errorf("pid %d, entries %v", r.PID, names)
	}
	if try, _ := r.Try("open:/etc/passwd"); !try.OK {
		t.Errorf("%+v", try)
	}
	if len(r.Errors) == 0 {
		t.Error("no /proc, yet no errors")
	}
}

func TestRootfsCanBeReachedByAnyUser(t *testing.T) {
	RequireRoot(t)
	root := Rootfs(t)
	cmd := exec.Command(root+"/probe", "-exit", "0")
	cmd.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v %s", err, out)
	}
}

func TestReadersAgreeWithTheFiles(t *testing.T) {
	if m, ok := Mountinfo(t, os.Getpid()).At("/"); !ok || len(m.Options) == 0 {
		t.Errorf("%+v", m)
	}
	if Status(t, os.Getpid()).PID != os.Getpid() {
		t.Error("status of another process")
	}
}
