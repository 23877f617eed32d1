package child

import (
	"os"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
)

// run lowers and runs steps of the child and returns the events and the exit code.
func run(t *testing.T, o Options, build func(b *plan.Builder)) ([]Event, int) {
	t.Helper()
	b := plan.Build(plan.Child, plan.ProgramChapter)
	build(b)
	o.Arch, o.FirstFD = linux.Arch(runtime.GOARCH), 3
	p, err := Lower(&plan.Plan{Steps: b.Steps}, o)
	if err != nil {
		t.Fatal(err)
	}
	proc, err := Start(p, nil, o.Values)
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	var events []Event
	for {
		e, err := proc.Next()
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
		if e.Kind == Baton || e.Kind == Pause {
			if err := proc.Continue(); err != nil {
				t.Fatal(err)
			}
		}
		if e.Kind == Closed {
			break
		}
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(proc.PID, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	if ws.Signaled() {
		t.Fatalf("killed by %v", ws.Signal())
	}
	return events, ws.ExitStatus()
}

func TestRunsProgram(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	events, code := run(t, Options{Values: map[plan.Reg]int{"out": int(w.Fd())}}, func(b *plan.Builder) {
		b.Do("standard output is the pipe", linux.Dup3{Old: "out", New: "1"})
		b.Do("nothing else is inherited", linux.CloseRange{First: 4})
		b.Do("the program", linux.Execve{Path: "/bin/sh", Args: []string{"sh", "-c", "echo hello; ls /proc/self/fd | wc -l; exit 7"}, Env: []string{"PATH=/bin"}})
	})
	w.Close()
	out := make([]byte, 100)
	n, _ := r.Read(out)
	t.Logf("%q %v", out[:n], events)
	if code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
}

func TestReportsFailure(t *testing.T) {
	events, code := run(t, Options{}, func(b *plan.Builder) {
		b.Do("tolerated", linux.Chdir{Path: "/nowhere"}).Ok(plan.ENOENT)
		b.Do("not tolerated", linux.Chdir{Path: "/nowhere"})
		b.Do("not reached", linux.ExitGroup{Code: 0})
	})
	if len(events) != 2 || events[0].Kind != Failed || events[0].Step != 1 || events[0].Errno != plan.ENOENT {
		t.Errorf("events %v", events)
	}
	if code != FailureCode {
		t.Errorf("exit code %d", code)
	}
}

// What a program says right before its end is heard, whenever the host listens.
func TestLastWordsAreHeard(t *testing.T) {
	for i := range 50 {
		events, code := run(t, Options{}, func(b *plan.Builder) {
			b.Do("ready", linux.Write{FD: linux.FD(Sync), Data: MessageReady})
			b.Do("fails at once", linux.Chdir{Path: "/nowhere"})
		})
		kinds := []EventKind{}
		for _, e := range events {
			kinds = append(kinds, e.Kind)
		}
		if !slices.Equal(kinds, []EventKind{Ready, Failed, Closed}) || code != FailureCode {
			t.Fatalf("run %d: events %v, exit code %d", i, events, code)
		}
	}
}
