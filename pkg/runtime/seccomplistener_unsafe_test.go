package runtime

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	testprobe "github.com/containr/containr/internal/testkit/probe"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/seccomp"
)

// notifyPolicy leaves the making of nodes to an agent.
func notifyPolicy(path string) *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: path, ListenerMetadata: "nodes",
		Syscalls: []specs.LinuxSyscall{{Names: []string{"mknod", "mknodat"}, Action: specs.ActNotify}}}
}

// agent answers all that it is asked with EXDEV, which no kernel says about mknod.
type agent struct {
	t      *testing.T
	socket int
	states chan specs.ContainerProcessState
}

func newAgent(t *testing.T, path string) *agent {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	bound := path
	if len(path) > maxSocketPath {
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		bound = filepath.Join("/proc/self/fd", itoa(int(dir.Fd())), filepath.Base(path))
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: bound}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 8); err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, socket: fd, states: make(chan specs.ContainerProcessState, 8)}
	done := make(chan struct{})
	go func() { defer close(done); a.serve() }()
	t.Cleanup(func() {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR) // accept returns
		<-done
		_ = unix.Close(fd)
	})
	return a
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func (a *agent) serve() {
	for {
		conn, _, err := unix.Accept4(a.socket, unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		listener, state, err := receiveState(conn)
		unix.Close(conn)
		if err != nil {
			a.t.Error(err)
			continue
		}
		a.states <- state
		go answer(listener)
	}
}

// receiveState reads the one message of a connection.
func receiveState(conn int) (int, specs.ContainerProcessState, error) {
	var state specs.ContainerProcessState
	text, oob := make([]byte, 1<<16), make([]byte, 256)
	n, oobn, _, _, err := unix.Recvmsg(conn, text, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, state, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return -1, state, errors.Join(err, errors.New("not one control message"))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, state, errors.Join(err, errors.New("not one descriptor"))
	}
	if err := json.Unmarshal(text[:n], &state); err != nil {
		return fds[0], state, err
	}
	if n, err := unix.Read(conn, text); n != 0 || err != nil {
		return fds[0], state, errors.New("the connection goes on after the state")
	}
	return fds[0], state, nil
}

// The structures of seccomp_unotify(2).
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	val   int64
	error int32
	flags uint32
}

// answer ends when the filter is gone: the kernel says ENOENT.
func answer(listener int) {
	defer unix.Close(listener)
	const recv, send = 0xc0502100, 0xc0182101
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); errors.Is(err, unix.EINTR) {
			continue
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			return
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), recv, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue
		}
		r := response{id: n.id, error: -int32(unix.EXDEV)}
		unix.Syscall(unix.SYS_IOCTL, uintptr(listener), send, uintptr(unsafe.Pointer(&r)))
	}
}

func notifySpec(args ...string) *specs.Spec {
	spec := exampleSpec(args...)
	spec.Annotations = map[string]string{"color": "blue"}
	return spec
}

// An agent gets listener and state of the first process, with and without
// no_new_privs, and of a further one; and its word counts.
func TestSeccompAgent(t *testing.T) {
	for name, change := range map[string]func(*specs.Spec, *string){
		"no_new_privs": func(*specs.Spec, *string) {},
		"privileged":   func(s *specs.Spec, _ *string) { s.Process.NoNewPrivileges = false },
		"user":         func(s *specs.Spec, _ *string) { s.Process.User = specs.User{UID: 1000, GID: 1000} },
		"user namespace": func(s *specs.Spec, _ *string) {
			u := userSpec()
			s.Linux = u.Linux
		},
		"long path": func(_ *specs.Spec, path *string) {
			*path = filepath.Join(filepath.Dir(*path), strings.Repeat("x", 120), "agent")
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec := notifySpec()
			path := filepath.Join(t.TempDir(), "agent")
			change(spec, &path)
			spec.Linux.Seccomp = notifyPolicy(path)
			testkit.RequireRoot(t)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			a := newAgent(t, path)
			c := runWaiting(t, spec)
			checkState(t, <-a.states, specs.StateCreating, c.PID, c.PID)
			out, err := c.exec(exampleSpec("/probe", "-try", "mknod:/tmp/x").Process, os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			checkAnswer(t, testkit.Report(t, out))
			state := <-a.states
			checkState(t, state, specs.StateRunning, state.Pid, c.PID)
			if state.Pid == c.PID {
				t.Error("the further process has the number of the first")
			}
		})
	}
}

func checkAnswer(t *testing.T, r testprobe.Report) {
	t.Helper()
	if len(r.Tries) != 1 || r.Tries[0].Errno != "EXDEV" {
		t.Errorf("%+v: want the agent's answer, EXDEV", r.Tries)
	}
	if r.Status.Seccomp != 2 || len(r.FDs) != 3 {
		t.Errorf("seccomp mode %d, descriptors %+v", r.Status.Seccomp, r.FDs)
	}
}

func checkState(t *testing.T, s specs.ContainerProcessState, status specs.ContainerState, pid, first int) {
	t.Helper()
	if s.Pid != pid || s.State.Pid != first || s.State.Status != status || s.Metadata != "nodes" || s.Version != specs.Version ||
		len(s.Fds) != 1 || s.Fds[0] != specs.SeccompFdName || s.State.ID != "test" || s.State.Annotations["color"] != "blue" || s.State.Bundle == "" {
		t.Errorf("state %+v: want process %d of the container %d, %s", s, pid, first, status)
	}
}

// Also a container that waits for its start is in its agent's hands.
func TestSeccompAgentOfCreated(t *testing.T) {
	h := newHooked(t)
	path := filepath.Join(t.TempDir(), "agent")
	h.spec.Linux.Seccomp = notifyPolicy(path)
	h.spec.Process.Args = []string{"/probe", "-try", "mknod:/tmp/x", "-save", "/tmp/program"}
	a := newAgent(t, path)
	s, err := h.create(true)
	if err != nil {
		t.Fatal(err)
	}
	state := <-a.states
	if state.Pid != s.PID || state.State.Status != specs.StateCreating {
		t.Errorf("state %+v", state)
	}
	if err := h.r.Start("hooked"); err != nil {
		t.Fatal(err)
	}
	reap(s.PID)
	checkAnswer(t, h.said("program")[0].Report)
	if err := h.r.Delete("hooked", false); err != nil {
		t.Error(err)
	}
}

// Without its agent the container does not start, and a policy that cannot be kept is
// refused.
func TestSeccompWithoutAgent(t *testing.T) {
	testkit.Leftovers(t)
	spec := notifySpec("/probe")
	spec.Linux.Seccomp = notifyPolicy(filepath.Join(t.TempDir(), "nobody"))
	if step := stepError(t, spec); step.Errno != plan.ENOENT || Hint(step) == "" {
		t.Errorf("error %v, hint %q", step, Hint(step))
	}
	for want, change := range map[string]func(*specs.LinuxSeccomp){
		"listenerPath is missing": func(p *specs.LinuxSeccomp) { p.ListenerPath, p.ListenerMetadata = "", "" },
		"listenerMetadata":        func(p *specs.LinuxSeccomp) { p.ListenerPath = "" },
		"not an absolute path":    func(p *specs.LinuxSeccomp) { p.ListenerPath = "agent" },
		"write cannot be left":    func(p *specs.LinuxSeccomp) { p.Syscalls[0].Names = []string{"write"} },
		"WAIT_KILLABLE_RECV needs Linu": func(p *specs.LinuxSeccomp) {
			p.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}
		},
	} {
		spec := notifySpec("/probe")
		spec.Linux.Seccomp = notifyPolicy("/run/agent")
		change(spec.Linux.Seccomp)
		wantRefusal(t, spec, want)
	}
}

// A path that nobody uses is ignored, as the specification says.
func TestSeccompPathWithoutNotify(t *testing.T) {
	testkit.Leftovers(t)
	spec := notifySpec("/probe")
	spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/no/body",
		Syscalls: []specs.LinuxSyscall{{Names: []string{"mknod", "mknodat"}, Action: specs.ActErrno}}}
	if r := probe(t, spec); r.Status.Seccomp != 2 {
		t.Errorf("seccomp mode %d", r.Status.Seccomp)
	}
}

// The kernel takes every flag, alone and together. Those that it does not know are
// refused; TestSeccompWithoutAgent.
func TestSeccompFlags(t *testing.T) {
	testkit.RequireRoot(t)
	facts := machine(t)
	const tsync specs.LinuxSeccompFlag = "SECCOMP_FILTER_FLAG_TSYNC"
	for _, flags := range [][]specs.LinuxSeccompFlag{
		{}, {specs.LinuxSeccompFlagLog}, {specs.LinuxSeccompFlagSpecAllow}, {tsync},
		{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow, tsync}, {specs.LinuxSeccompFlagWaitKillableRecv, tsync},
	} {
		spec := notifySpec()
		path := filepath.Join(t.TempDir(), "agent")
		a := newAgent(t, path)
		spec.Linux.Seccomp = notifyPolicy(path)
		spec.Linux.Seccomp.Flags = flags
		t.Run("", func(t *testing.T) {
			if err := checkListener(spec.Linux.Seccomp, facts); err != nil {
				t.Skip(err)
			}
			c := runWaiting(t, spec)
			checkState(t, <-a.states, specs.StateCreating, c.PID, c.PID)
			if s := testkit.Status(t, c.PID); s.Seccomp != 2 {
				t.Errorf("%v: seccomp mode %d", flags, s.Seccomp)
			}
		})
	}
}

// Names that no architecture has are told, and change nothing.
func TestSeccompNamesThatNobodyKnows(t *testing.T) {
	spec := notifySpec("/bin/sh")
	spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow,
		Syscalls: []specs.LinuxSyscall{{Names: []string{"mknod", "raed", "wirte"}, Action: specs.ActErrno}}}
	steps, err := seccomp.Plan(spec.Linux.Seccomp, "amd64")
	if err != nil || len(steps) != 1 || !strings.HasSuffix(steps[0].Why, "no architecture has: raed, wirte") {
		t.Errorf("%v, %v", steps, err)
	}
}
