package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/host"
)

// A keeper that holds the streams: whatever becomes of those who read them, what the container writes is there, and its
// exit status too, until somebody ends the keeper.
func TestKeeperHoldsTheStreams(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.Leftovers(t)
	facts, err := host.Probe()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	spec := exampleSpec("/probe")
	spec.Root.Path = testkit.Rootfs(t)
	r := &Runtime{Root: filepath.Join(dir, "state"), Facts: facts}
	out, in := makePipe(t)
	ear, bell := makePipe(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendmsg(pair[0], []byte("streams"), unix.UnixRights(int(out.Fd())), nil, 0); err != nil {
		t.Fatal(err)
	}
	socket := os.NewFile(uintptr(pair[1]), "socket")
	exit := filepath.Join(dir, "exit")
	s, err := r.Create(&CreateRequest{ID: "held", Bundle: dir, Spec: spec, Stdio: [3]*os.File{nil, in, in}, ExitFile: exit, Held: &Held{socket, ear, bell}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{out, in, ear, bell, socket} { // nothing of it is ours any more
		f.Close()
	}
	unix.Close(pair[0])

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for range 2 { // whoever comes, and as often
		k, err := r.Keeper("held")
		if err != nil {
			t.Fatal(err)
		}
		code, err := k.AwaitExit(ctx, exit)
		if err != nil || code != 0 {
			t.Errorf("exit status %d: %v", code, err)
		}
		files, err := k.Look()
		if err != nil || len(files) != 1 {
			t.Fatalf("%d descriptors: %v", len(files), err)
		}
		if waiting, err := unix.IoctlGetInt(int(files[0].Fd()), unix.TIOCINQ); err != nil || waiting == 0 {
			t.Errorf("%d bytes wait in the pipe: %v", waiting, err)
		}
		files[0].Close()
		k.Close()
	}
	if info, err := r.State("held"); err != nil || info.Status != "stopped" {
		t.Errorf("state %+v: %v", info, err)
	}
	if err := r.Delete("held", false); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Keeper("held"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the keeper of a container that was deleted: %v", err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(s.Parent, &status, 0, nil); err != nil || status.Signal() != unix.SIGKILL {
		t.Errorf("the keeper ended by itself: %v, %v", status, err)
	}
}

// A program can make its parent trace it, and then stops at every signal, which wait4(2) tells its parent as if it
// had asked. The keeper takes neither that nor the end of such a thread for the end of the container, and lets go on
// what has stopped.
func TestProgramThatAsksToBeTraced(t *testing.T) {
	testkit.Leftovers(t)
	for _, who := range []string{"process", "thread", "sibling"} {
		exit := filepath.Join(t.TempDir(), "exit")
		spec := exampleSpec("/probe", "-trace-me", who, "-exit", "7")
		if who == "sibling" { // what only a process that is not the first of a PID namespace can: have a child of its parent end after it
			spec.Process.Args = []string{"/probe", "-sibling", "42", "-exit", "7"}
			spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
		}
		p := compileInput(t, Input{ID: "test", Spec: spec, Root: testkit.Rootfs(t), ExitFile: exit})
		s, err := Start(p, StartOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ended := time.AfterFunc(30*time.Second, func() { // longer than any test's patience: it hangs
			t.Errorf("%s: the keeper waits for ever", who)
			unix.Kill(s.PID, unix.SIGKILL)
			unix.Kill(s.Parent, unix.SIGKILL)
		})
		reap(s.Parent)
		if code, err := ReadExit(exit); err != nil || code != 7 {
			t.Errorf("%s: exit status %d, error %v; want 7", who, code, err)
		}
		if ended.Stop(); unix.Kill(s.PID, 0) == nil {
			t.Errorf("%s: it runs on", who)
			unix.Kill(s.PID, unix.SIGKILL)
		}
		if err := (Actions{}).undoAll(p.Undo()); err != nil {
			t.Error(err)
		}
	}
}

func makePipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe")
}
