package ocicli

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
)

// --pidfd-socket: a descriptor of the container's first process, and one of a further
// process, come over the socket, with runc's words.
func TestPidfdSocket(t *testing.T) {
	s := newSite(t, nil)
	path := filepath.Join(t.TempDir(), "pidfd")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pidFile := filepath.Join(t.TempDir(), "pid")
	s.must("create", "--pidfd-socket", path, "--pid-file", pidFile, "c")
	defer s.run("delete", "--force", "c")
	checkPidfd(t, l, "standard", pidFile)
	s.must("start", "c")
	s.must("exec", "-d", "--pidfd-socket", path, "--pid-file", pidFile, "c", "/probe", "-wait-signal", "USR1")
	checkPidfd(t, l, "setns", pidFile)
}

// checkPidfd takes the next connection and asks the kernel whose descriptor came.
func checkPidfd(t *testing.T, l *net.UnixListener, word, pidFile string) {
	t.Helper()
	if err := l.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, control := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	n, m, _, _, err := c.ReadMsgUnix(b, control)
	if err != nil || string(b[:n]) != word {
		t.Fatalf("%q came, error %v, want %q", b[:n], err, word)
	}
	messages, err := unix.ParseSocketControlMessage(control[:m])
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d messages, error %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("descriptors %v, error %v", fds, err)
	}
	defer unix.Close(fds[0])
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fds[0]))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(info), "\nPid:\t"+string(pid)+"\n") {
		t.Errorf("%s: the descriptor is not of process %s:\n%s", word, pid, info)
	}
}

// NOTIFY_SOCKET: what the container says through its own socket reaches the caller's,
// when it is that it is ready, and with the process to watch; nothing else does.
func TestNotifySocket(t *testing.T) {
	s := newSite(t, nil)
	path := filepath.Join(t.TempDir(), "notify")
	host, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	s.env = []string{"NOTIFY_SOCKET=" + path}
	s.must("create", "c")
	defer s.run("delete", "--force", "c")
	pid := s.pid("c")
	made := watchDir(t, filepath.Join(s.root, "c", "notify"))
	start := s.command("start", "c")
	if err := start.Start(); err != nil {
		t.Fatal(err)
	}
	made()
	inside := &net.UnixAddr{Net: "unixgram", Name: fmt.Sprintf("/proc/%d/root/run/notify/notify.sock", pid)}
	c, err := net.DialUnix("unixgram", nil, inside)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, text := range []string{"STATUS=half", "MAINPID=1\nREADY=1"} {
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := host.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	for _, want := range []string{"READY=1\n", fmt.Sprintf("MAINPID=%d\n", pid), "BARRIER=1"} {
		n, err := host.Read(b) // which closes a descriptor that comes with it, so start goes on
		if err != nil || string(b[:n]) != want {
			t.Fatalf("the caller was told %q, error %v, want %q", b[:n], err, want)
		}
	}
	if err := start.Wait(); err != nil {
		t.Errorf("start: %v", err)
	}
}

// watchDir returns a function that waits until a file in a directory has got its
// permissions, which is the last that is done to a new socket.
func watchDir(t *testing.T, dir string) (made func()) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_ATTRIB); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000); n != 1 || err != nil {
			t.Fatalf("nothing has been made accessible in %s: %v", dir, err)
		}
	}
}

// --preserve-fds: the program gets those descriptors of the caller's, and never one of
// the runtime's own, whatever its number.
func TestPreservedDescriptorsAreTheCallers(t *testing.T) {
	s := newSite(t, nil)
	s.must("run", "-d", "c")
	defer s.run("delete", "--force", "c")
	spec := exampleSpec()
	given := filepath.Join(t.TempDir(), "given")
	testkit.WriteFile(t, given, "", 0o600)
	f, err := os.Open(given)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	call := func(args ...string) (string, error) {
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd := s.command(args...)
		cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = []*os.File{f, f}, out, out
		err = cmd.Run()
		text, _ := os.ReadFile(out.Name())
		return string(text), err
	}
	spec.Root, spec.Mounts = &specs.Root{Path: "rootfs"}, spec.Mounts[:6]
	spec.Process.Terminal, spec.Process.Args = false, []string{"/probe", "-report"}
	s.write(spec)
	for _, verb := range [][]string{{"run", "--preserve-fds"}, {"exec", "--preserve-fds"}} {
		with := func(count string) []string {
			if verb[0] == "run" {
				return append(slices.Clone(verb), count, "d")
			}
			return append(slices.Clone(verb), count, "c", "/probe", "-report")
		}
		out, err := call(with("2")...)
		if err != nil {
			t.Fatalf("%s 2: %v: %s", verb[0], err, out)
		}
		if r := testkit.Report(t, []byte(out)); len(r.FDs) != 5 || r.FDs[3].Target != given || r.FDs[4].Target != given {
			t.Errorf("%s 2: descriptors %+v", verb[0], r.FDs)
		}
		for _, count := range []string{"3", "4", "5", "6", "7", "300"} {
			if out, err := call(with(count)...); err == nil || !strings.Contains(out, "was not inherited itself") {
				t.Errorf("%s %s: error %v: %s", verb[0], count, err, out)
			}
		}
	}
}
