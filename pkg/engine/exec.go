package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/safepath"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/runtime"
	"github.com/containr/containr/pkg/streams"
)

// ExecRequest asks for a further program in a container that runs.
type ExecRequest struct {
	Container string
	Args      []string
	// Env is added to the container's environment: KEY=VALUE.
	Env []string
	// User is user[:group], names or numbers; empty is the container's.
	User string
	// WorkDir is an absolute path; empty is the container's.
	WorkDir    string
	Privileged bool
	TTY        bool
	// Detach has Exec return when the program runs. Its output goes nowhere.
	Detach bool
	Streams
}

// Exec runs a further program in a container and waits for it, unless it is detached.
func (e *Engine) Exec(ctx context.Context, r ExecRequest) (Exit, error) {
	record, rt, err := e.running(ctx, r.Container)
	if err != nil {
		return Exit{}, err
	}
	st, err := e.State(record)
	if err != nil {
		return Exit{}, err
	}
	if st.Status == container.Paused {
		return Exit{}, fmt.Errorf("container %s: %w", record.Name, ErrPaused)
	}
	change, err := e.changeProcess(record, st, r)
	if err != nil {
		return Exit{}, err
	}
	given, err := execStreams(r)
	if err != nil {
		return Exit{}, err
	}
	defer given.Close()
	stdio := given.Stdio
	if !r.TTY && !r.Detach {
		stdio = r.Stdio
	}
	variables, err := e.secretVariables(record.Config)
	if err != nil {
		return Exit{}, err
	}
	s, err := rt.Exec(&runtime.ExecRequest{ID: record.ID, OwnHome: true, Replace: variables, Change: change, Console: given.Console, Stdio: stdio, Starting: r.Starting})
	if err != nil {
		return Exit{}, diagnoseIn(st.PID, r.WorkDir, err)
	}
	id := container.NewID()
	e.tellExec(record, id, r.Args)
	if r.Detach {
		return Exit{ID: record.ID, Left: true}, nil
	}
	exit, err := e.attendExec(ctx, record, r, given, s)
	if err == nil && !exit.Left {
		e.tell(events.ExecDie, record, "execID", id, "exitCode", strconv.Itoa(exit.Code))
	}
	return exit, err
}

// execStreams makes the terminal or the empty streams of a program.
func execStreams(r ExecRequest) (*streams.Given, error) {
	if r.TTY {
		return streams.New(true, true)
	}
	g := new(streams.Given)
	if !r.Detach {
		return g, nil
	}
	for i := range g.Stdio {
		f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			g.Close()
			return nil, err
		}
		g.Stdio[i] = f
	}
	return g, nil
}

// attendExec waits for a program while the caller looks after its streams.
func (e *Engine) attendExec(ctx context.Context, record container.Record, r ExecRequest, given *streams.Given, s *runtime.Started) (exit Exit, err error) {
	run := Running{ID: record.ID, Name: record.Name, PID: s.PID}
	if run.pidfd, err = unix.PidfdOpen(s.PID, unix.PIDFD_NONBLOCK); err != nil { // our child: it is there until we have waited for it
		return Exit{}, fmt.Errorf("process %d: %w", s.PID, err)
	}
	process := os.NewFile(uintptr(run.pidfd), "process "+strconv.Itoa(s.PID))
	defer process.Close()
	if r.TTY {
		if run.Console, err = lookAtConsole(given.Held.Socket); err != nil {
			return Exit{}, errors.Join(err, run.Signal(unix.SIGKILL))
		}
		defer run.Console.Close()
	}
	leaving, leave := context.WithCancel(ctx)
	defer leave()
	run.leave = leave
	detach := func() error { return nil }
	if r.Attach != nil {
		if detach, err = r.Attach(&run); err != nil {
			return Exit{}, errors.Join(err, run.Signal(unix.SIGKILL))
		}
	}
	_, err = awaitProcess(leaving, process, -1)
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		return Exit{ID: record.ID, Left: true}, errors.Join(detach(), e.holdTerminal(run.Console))
	}
	if err != nil {
		return Exit{}, errors.Join(err, run.Signal(unix.SIGKILL), detach())
	}
	code, err := waitStatus(s.PID)
	return Exit{ID: record.ID, Code: code}, errors.Join(err, detach())
}

// holdTerminal keeps the terminal of a program that its user has left.
func (e *Engine) holdTerminal(terminal *os.File) error {
	m, err := e.monitor()
	if err != nil {
		return err
	}
	return m.Drain(terminal)
}

// waitStatus waits for a child of ours.
func waitStatus(pid int) (int, error) {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR), err == nil && status.Stopped():
			continue // stopped: it has made us trace it, which we do not; a signal that kills ends it all the same
		case err != nil:
			return 0, fmt.Errorf("wait for process %d: %w", pid, err)
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		}
		return status.ExitStatus(), nil
	}
}

// changeProcess returns what makes the program's process of the container's.
func (e *Engine) changeProcess(record container.Record, st container.State, r ExecRequest) (func(*specs.Process) error, error) {
	machine, err := e.machine()
	if err != nil {
		return nil, err
	}
	x := container.Exec{Args: r.Args, Env: r.Env, User: r.User, WorkDir: r.WorkDir, Privileged: r.Privileged, TTY: r.TTY,
		ConsoleSize: r.ConsoleSize, Machine: machine}
	if r.User != "" {
		// What the container's files say now, looked up inside its root.
		root, err := safepath.OpenRoot(fmt.Sprintf("/proc/%d/root", st.PID))
		if err != nil {
			return nil, fmt.Errorf("container %s: %w", record.Name, err)
		}
		defer root.Close()
		for name, to := range map[string]*[]byte{"etc/passwd": &x.Passwd, "etc/group": &x.Group} {
			if *to, err = root.ReadFile(name, maxUserDatabase); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
	}
	return func(p *specs.Process) error { return x.Change(p, record.Config) }, nil
}
