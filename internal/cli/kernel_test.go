package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/internal/testkit/probe"
)

// TestMain has containers that name no network have none: tests run beside each other in one network namespace.
func TestMain(m *testing.M) {
	os.Setenv("CONTAINR_RUN_NETWORK", "none") // it does not fail
	testkit.Main(m)
}

// place is a private state root and a root file system for containers.
type place struct {
	t          *testing.T
	root, tree string
}

func newPlace(t *testing.T) place {
	testkit.RequireRoot(t)
	root := t.TempDir()
	warmUp(t)
	testkit.Leftovers(t)
	return place{t, root, testkit.Rootfs(t)}
}

// warmUp makes the control group above those of all containers, which is meant to
// stay.
var warmUp = func() func(*testing.T) {
	var once sync.Once
	return func(t *testing.T) {
		once.Do(func() { place{t, t.TempDir(), testkit.Rootfs(t)}.run("", "/probe", "-exit", "0") })
	}
}()

// containr runs a command line with the place's state root.
func (p place) containr(args ...string) invocation {
	p.t.Helper()
	return invoke(p.t, append([]string{"--root", p.root}, args...)...)
}

// run runs the tree's program with flags of run.
func (p place) run(flags string, program ...string) invocation {
	p.t.Helper()
	args := append([]string{"run", "--rm"}, strings.Fields(flags)...)
	return p.containr(append(append(args, "--rootfs", p.tree), program...)...)
}

func (p place) report(flags string, program ...string) probe.Report {
	p.t.Helper()
	got := p.run(flags, append([]string{"/probe"}, program...)...)
	if got.status != 0 || got.err != "" {
		p.t.Fatalf("status %d, message %q", got.status, got.err)
	}
	return testkit.Report(p.t, []byte(got.out))
}

// expectNothingLeft checks that the place holds no container.
func (p place) expectNothingLeft() {
	p.t.Helper()
	for _, dir := range []string{"containers", "names", "layers", "run/containers", "run/runtime"} {
		entries, err := os.ReadDir(filepath.Join(p.root, dir))
		if err != nil && !os.IsNotExist(err) || len(entries) > 0 {
			p.t.Errorf("%s: %v, error %v", dir, entries, err)
		}
	}
}

func TestRunGivesDockersDefaults(t *testing.T) {
	p := newPlace(t)
	r := p.report("", "-report", "-sysctl", "net.ipv4.ping_group_range")
	if r.PID != 1 || r.UID.Real != 0 || r.Cwd != "/" || len(r.Hostname) != 12 {
		t.Errorf("PID %d, UID %v, directory %s, host name %s", r.PID, r.UID, r.Cwd, r.Hostname)
	}
	if r.Sysctls["net.ipv4.ping_group_range"] != "0 2147483647" {
		t.Errorf("sysctls %v", r.Sysctls)
	}
	if len(r.FDs) != 3 {
		t.Errorf("descriptors %+v, want the standard three", r.FDs)
	}
	if r.TTY != nil {
		t.Errorf("a terminal without -t: %+v", r.TTY)
	}
	p.expectNothingLeft()
}

func TestRunFlagsReachTheKernel(t *testing.T) {
	p := newPlace(t)
	r := p.report("-u 1000:1000 --group-add 5 -w /tmp -e A=1 --hostname h --umask 0077 --ulimit nofile=64:64 --oom-score-adj 500 --read-only --tmpfs /scratch",
		"-report", "-try", "create:/x", "-try", "create:/scratch/x")
	switch {
	case r.UID.Effective != 1000 || r.GID.Effective != 1000 || len(r.Groups) != 2:
		t.Errorf("ids %v %v %v", r.UID, r.GID, r.Groups)
	case r.Cwd != "/tmp" || r.Hostname != "h" || r.Umask != 0o077 || r.OOMScoreAdj != 500:
		t.Errorf("directory %s, host name %s, umask %o, score %d", r.Cwd, r.Hostname, r.Umask, r.OOMScoreAdj)
	case r.Rlimits["RLIMIT_NOFILE"].Soft != 64:
		t.Errorf("limits %v", r.Rlimits["RLIMIT_NOFILE"])
	case !strings.Contains(strings.Join(r.Env, " "), "A=1"):
		t.Errorf("variables %v", r.Env)
	}
	if try, _ := r.Try("create:/x"); try.Errno != "EROFS" {
		t.Errorf("the root is not read-only: %+v", try)
	}
	if try, _ := r.Try("create:/scratch/x"); !try.OK {
		t.Errorf("the tmpfs cannot be written: %+v", try)
	}
}

func TestExitStatuses(t *testing.T) {
	p := newPlace(t)
	if err := os.WriteFile(filepath.Join(p.tree, "plain"), []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.tree, "script"), []byte("#!/missing\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		flags  string
		args   []string
		status int
		text   string
	}{
		{"", []string{"/probe", "-exit", "7"}, 7, ""},
		{"", []string{"/probe", "-signal", "KILL"}, 0, ""}, // PID 1 cannot kill itself
		{"--pid host", []string{"/probe", "-signal", "KILL"}, 128 + 9, ""},
		{"-m 24m --memory-swap 24m", []string{"/probe", "-alloc", "200M"}, 128 + 9, "memory limit"},
		{"", []string{"/none"}, 127, "no such file"},
		{"", []string{"none"}, 127, "PATH"},
		{"", []string{"/plain"}, 126, "permission denied"},
		{"", []string{"/script"}, 127, "interpreter"},
		{"", nil, 125, "no command specified"},
		{"-u nobody-here", []string{"/probe"}, 125, "unknown user"},
		{"-m 1m", []string{"/probe"}, 125, "the smallest limit is 6MiB"},
		{"-v /nonexistent:/x", []string{"/probe"}, 125, "bind source for /x"},
		{"--security-opt seccomp=/nonexistent", []string{"/probe"}, 125, "seccomp profile"},
		{"--device /etc/passwd", []string{"/probe"}, 125, "not a device"},
	} {
		got := p.run(tt.flags, tt.args...)
		if got.status != tt.status || !strings.Contains(got.err, tt.text) {
			t.Errorf("%s %q: status %d, message %q; want %d and %q", tt.flags, tt.args, got.status, got.err, tt.status, tt.text)
		}
		p.expectNothingLeft()
	}
	if got := p.containr("run", "--rootfs", filepath.Join(p.tree, "plain"), "/probe"); got.status != 125 || !strings.Contains(got.err, "not a directory") {
		t.Errorf("a root file system that is a file: %+v", got)
	}
}

func TestStreamsAreBinarySafeAndApart(t *testing.T) {
	p := newPlace(t)
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	in := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(in, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := invokeWith(t, f, "--root", p.root, "run", "--rm", "-i", "--rootfs", p.tree, "/probe", "-stderr", "apart", "-echo")
	if got.status != 0 || got.out != string(data) || got.err != "apart" {
		t.Errorf("status %d, %d bytes of %d, error stream %q", got.status, len(got.out), len(data), got.err)
	}
	// Without -i nothing is read.
	if got := invokeWith(t, f, "--root", p.root, "run", "--rm", "--rootfs", p.tree, "/probe", "-echo"); got.out != "" || got.status != 0 {
		t.Errorf("without -i: %+v", got)
	}
}

func TestSignalsReachTheProgram(t *testing.T) {
	p := newPlace(t)
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	status := make(chan int, 1)
	go func() {
		program := Program{In: null, Out: w, Err: null}
		status <- program.Main([]string{"--root", p.root, "run", "--rm", "--rootfs", p.tree, "/probe", "-wait-signal", "USR1,TERM", "-exit", "5"})
		w.Close()
	}()
	events := json.NewDecoder(out)
	var event map[string]any
	if err := events.Decode(&event); err != nil { // it waits
		t.Fatal(err)
	}
	unix.Kill(unix.Getpid(), unix.SIGUSR1)
	if err := events.Decode(&event); err != nil || event["Signal"] == nil {
		t.Errorf("event %v, error %v", event, err)
	}
	if got := <-status; got != 5 {
		t.Errorf("status %d, want 5", got)
	}
}

func TestTerminal(t *testing.T) {
	p := newPlace(t)
	user, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	if err := pty.Setsize(slave, &pty.Winsize{Rows: 31, Cols: 97}); err != nil {
		t.Fatal(err)
	}
	status := make(chan int, 1)
	go func() {
		program := Program{In: slave, Out: slave, Err: slave}
		status <- program.Main([]string{"--root", p.root, "run", "--rm", "-it", "--rootfs", p.tree, "/probe", "-report", "-echo", "-exit", "3"})
		slave.Close()
	}()
	var seen bytes.Buffer
	read := make(chan bool)
	go func() {
		defer close(read)
		buf := make([]byte, 4096)
		asked := false
		for {
			n, err := user.Read(buf)
			seen.Write(buf[:n])
			if err != nil {
				return
			}
			if !asked && bytes.Contains(seen.Bytes(), []byte("}\r\n")) {
				io.WriteString(user, "typed\n\x04") // the container's terminal echoes, and takes Ctrl-D for the end
				asked = true
			}
		}
	}()
	select {
	case got := <-status:
		if got != 3 {
			t.Errorf("status %d, want 3", got)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the container does not end")
	}
	<-read
	line, _, _ := bytes.Cut(seen.Bytes(), []byte("\r\n"))
	report := testkit.Report(t, line)
	if report.TTY == nil || report.TTY.Rows != 31 || report.TTY.Cols != 97 {
		t.Errorf("terminal %+v, want 31 rows and 97 columns", report.TTY)
	}
	if n := strings.Count(seen.String(), "typed\r\n"); n != 2 {
		t.Errorf("%d times typed, want an echo of the terminal and one of the program: %q", n, seen.String())
	}
}

func TestNamesOfContainers(t *testing.T) {
	p := newPlace(t)
	first := p.containr("run", "--name", "web", "--rootfs", p.tree, "/probe", "-exit", "4")
	if first.status != 4 {
		t.Fatalf("%+v", first)
	}
	second := p.run("--name web", "/probe")
	if second.status != 125 || !strings.Contains(second.err, "name is already in use") || !strings.Contains(second.err, "hint: ") {
		t.Errorf("%+v", second)
	}
	if got := p.containr("rm", "web"); got.status != 0 || got.out != "web\n" {
		t.Errorf("%+v", got)
	}
	if got := p.containr("rm", "web"); got.status != 1 || !strings.Contains(got.err, "no such container") {
		t.Errorf("%+v", got)
	}
	p.expectNothingLeft()
}

func TestImagesFromATree(t *testing.T) {
	p := newPlace(t)
	if got := p.containr("import", "-c", `CMD ["/probe", "-stdout", "from the image"]`, "-c", "ENV A=1", p.tree, "example/tree:1"); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	if got := p.containr("tag", "example/tree:1", "other:2"); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	got := p.containr("images", "--format", "{{.Repository}} {{.Tag}}")
	if got.out != "example/tree 1\nother 2\n" {
		t.Errorf("%+v", got)
	}
	if got := p.containr("images"); !strings.HasPrefix(got.out, "REPOSITORY ") || strings.Count(got.out, "\n") != 3 {
		t.Errorf("%+v", got)
	}
	if got := p.containr("image", "inspect", "--format", "{{.Os}} {{.Config.Env}}", "other:2"); got.out != "linux [A=1]\n" {
		t.Errorf("%+v", got)
	}
	if got := p.containr("run", "--rm", "--pull", "never", "example/tree:1"); got.status != 0 || got.out != "from the image" {
		t.Errorf("%+v", got)
	}
	if got := p.containr("run", "--name", "user", "other:2"); got.status != 0 {
		t.Errorf("%+v", got)
	}
	if got := p.containr("rmi", "other:2"); got.status != 0 || !strings.Contains(got.out, "Untagged: ") {
		t.Errorf("%+v", got)
	}
	if got := p.containr("rmi", "example/tree:1"); got.status != 1 || !strings.Contains(got.err, "in use") {
		t.Errorf("an image with a container: %+v", got)
	}
	if got := p.containr("rm", "user"); got.status != 0 {
		t.Errorf("%+v", got)
	}
	if got := p.containr("rmi", "example/tree:1"); got.status != 0 || !strings.Contains(got.out, "Deleted: ") {
		t.Errorf("%+v", got)
	}
	if got := p.containr("run", "--pull", "never", "example/tree:1"); got.status != 125 || !strings.Contains(got.err, "--pull never") {
		t.Errorf("%+v", got)
	}
	p.expectNothingLeft()
}

func TestMappedUsers(t *testing.T) {
	p := newPlace(t)
	// Nobody else gets to the state root, and whose users are others need not.
	if err := os.Chmod(p.root, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := p.containr("import", p.tree, "tree:1"); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	got := p.containr("run", "--rm", "--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536", "tree:1", "/probe", "-report", "-try", "create:/x", "-try", "open-rw:/etc/hosts", "-ls", "/etc")
	if got.status != 0 {
		t.Fatalf("%+v", got)
	}
	r := testkit.Report(t, []byte(got.out))
	if r.UID.Real != 0 || len(strings.Fields(r.UIDMap)) != 3 || strings.Fields(r.UIDMap)[1] != "100000" || strings.Fields(r.GIDMap)[1] != "200000" {
		t.Errorf("user %v, maps %q and %q", r.UID, r.UIDMap, r.GIDMap)
	}
	for _, try := range r.Tries {
		if !try.OK {
			t.Errorf("%+v", try)
		}
	}
	p.expectClosedToOthers()
	if got := p.containr("rmi", "tree:1"); got.status != 0 {
		t.Errorf("%+v", got)
	}
	if info, err := os.Stat(p.root); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the state root was opened: %v, error %v", info.Mode(), err)
	}
	if _, err := os.Stat(filepath.Join(p.root, "mapped")); err == nil {
		t.Error("the image was copied")
	}
	p.expectNothingLeft()
}

// expectClosedToOthers checks that no user of the host, not even one whose ids are a
// container's, can change what root works with, or get to set-user-ID programs of
// images (CVE-2021-41091, CVE-2021-41103).
func (p place) expectClosedToOthers() {
	p.t.Helper()
	err := filepath.WalkDir(p.root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); name == "fs" || name == "upper" || name == "work" {
			return filepath.SkipDir // of an image or a container
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		passage := path == p.root || path == filepath.Join(p.root, "mapped")
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 0 || info.Mode()&0o022 != 0 || info.Mode()&0o007 != 0 && !(passage && info.Mode()&0o006 == 0) {
			p.t.Errorf("%s: owner %d, mode %v", path, uid, info.Mode())
		}
		if info.Mode()&0o007 == 0 && info.Mode()&0o070 == 0 {
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		p.t.Error(err)
	}
}

func TestInit(t *testing.T) {
	init, err := testkit.Build("github.com/containr/containr/cmd/containr-init", runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	beside := filepath.Join(filepath.Dir(self), "containr-init") // go test runs us in a directory of its own
	testkit.AddProgram(t, filepath.Dir(self), init, "containr-init")
	defer os.Remove(beside)
	p := newPlace(t)
	r := p.report("--init", "-report")
	if r.PID == 1 || r.PPID != 1 {
		t.Errorf("PID %d, parent %d; want the init as parent", r.PID, r.PPID)
	}
	for program, want := range map[string]int{"-exit 6": 6, "-signal KILL": 128 + 9} {
		if got := p.run("--init", append([]string{"/probe"}, strings.Fields(program)...)...); got.status != want {
			t.Errorf("%s: %+v, want %d", program, got, want)
		}
	}
	if got := p.run("--init", "/none"); got.status != 127 {
		t.Errorf("%+v", got)
	}
}

func TestExplainLeavesNothing(t *testing.T) {
	p := newPlace(t)
	for _, as := range []string{"config", "spec", "plan", "words", "json"} {
		got := p.containr("explain", "--as", as, "run", "--name", "xx", "--rootfs", p.tree, "/probe")
		if got.status != 0 || got.out == "" || got.err != "" {
			t.Errorf("%s: %+v", as, got)
		}
	}
	if got := p.containr("explain", "--zoom", "chapters", "run", "--rootfs", p.tree, "/probe"); strings.Contains(got.out, "mount(") {
		t.Errorf("chapters show calls:\n%s", got.out)
	}
	run := "run --rootfs " + p.tree + " /probe"
	if got := p.containr("explain", "--diff", run, run); got.status != 0 || got.out != "" {
		t.Errorf("a command differs from itself: %+v", got)
	}
	got := p.containr("explain", "--diff", run, "run --hostname other --rootfs "+p.tree+" /probe")
	if got.status != 0 || !strings.Contains(got.out, `+    sethostname("other"`) {
		t.Errorf("%+v", got)
	}
	if got := p.containr("explain", "run", "--rootfs", p.tree); got.status != 125 {
		t.Errorf("%+v", got)
	}
	p.expectNothingLeft()
}

// TestKilledInTheForeground: a container outlives the containr that ran it, and when
// it has ended the next command that stumbles over it takes it away.
func TestKilledInTheForeground(t *testing.T) {
	program, err := testkit.Build("github.com/containr/containr/cmd/containr", runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(program, "--root", p.root, "run", "--rm", "--name", "web", "--rootfs", p.tree, "/probe", "-wait-signal", "TERM")
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := out.Read(make([]byte, 1)); err != nil { // it waits
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if got := p.run("--name web", "/probe"); got.status != 125 || !strings.Contains(got.err, "in use") {
		t.Errorf("it still runs: %+v", got)
	}
	states, err := filepath.Glob(filepath.Join(p.root, "run", "containers", "*", "state.json"))
	if err != nil || len(states) != 1 {
		t.Fatalf("states %v, error %v", states, err)
	}
	var state struct{ PID int }
	data, err := os.ReadFile(states[0])
	if err == nil {
		err = json.Unmarshal(data, &state)
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Kill(state.PID, unix.SIGTERM)
	io.Copy(io.Discard, out) // until it has ended
	if got := p.containr("rm", "-f", "web"); got.status != 0 && !strings.Contains(got.err, "no such container") {
		t.Errorf("%+v", got)
	}
	if got := p.run("--name web", "/probe", "-exit", "2"); got.status != 2 {
		t.Errorf("%+v", got)
	}
	p.expectNothingLeft()
}

func TestExplainedProgramIsTheContainer(t *testing.T) {
	p := newPlace(t)
	if got := p.containr("import", p.tree, "tree:1"); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	got := p.containr("explain", "--as", "elf", "run", "--rm", "--name", "alone", "--hostname", "alone", "tree:1", "/probe", "-report")
	if got.status != 0 || !strings.Contains(got.err, "container alone") {
		t.Fatalf("status %d: %s", got.status, got.err)
	}
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte(got.out), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program).Output()
	if err != nil {
		t.Fatal(err)
	}
	if r := testkit.Report(t, out); r.PID != 1 || r.Hostname != "alone" || r.Status.Seccomp != 2 {
		t.Errorf("PID %d, host name %s, seccomp %d", r.PID, r.Hostname, r.Status.Seccomp)
	}
	if got := p.containr("rm", "alone"); got.status != 0 {
		t.Errorf("%+v", got)
	}
	p.expectNothingLeft()
}

func TestDebugTracesTheSteps(t *testing.T) {
	p := newPlace(t)
	got := p.containr("--debug", "run", "--rm", "--rootfs", p.tree, "/probe", "-stdout", "out")
	if got.status != 0 || got.out != "out" || !strings.Contains(got.err, "execve(\"/probe\"") || !strings.Contains(got.err, " = 0  <") {
		t.Errorf("status %d, output %q, trace:\n%s", got.status, got.out, got.err)
	}
}

// A reader of the messages that goes away, as head does, must not keep containr from
// taking the container away.
func TestReaderOfMessagesGoesAway(t *testing.T) {
	p := newPlace(t)
	program, err := testkit.Build("github.com/containr/containr/cmd/containr", "")
	if err != nil {
		t.Fatal(err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reader.Close()
	defer writer.Close()
	cmd := exec.Command(program, "--root", p.root, "--debug", "run", "--rm", "--rootfs", p.tree, "/probe", "-exit", "4")
	cmd.Stderr = writer
	_ = cmd.Run() // its exit status is the program's or ours
	if cmd.ProcessState.ExitCode() < 0 {
		t.Errorf("ended by a signal: %v", cmd.ProcessState)
	}
	p.expectNothingLeft()
}
