package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/runtime"
)

// Checker runs the health checks of a container that runs.
type Checker struct {
	// Root is the state root, where events are written to.
	Root       string
	Containers *container.Store
	Runtime    *runtime.Runtime
	Record     container.Record
	// Do executes a command of containr's for the container that is unhealthy: restart or stop.
	Do func(args ...string) error
	// Command is containr, with what makes it use this state root: `container probe` asks by http, tcp and grpc.
	Command []string

	// acted says that what is to be done with an unhealthy container has been begun.
	acted atomic.Bool
}

// Run checks until ctx ends. What was found is in the container's state, so that who checks after us goes on from there.
// What cannot be read or noted now, as the disk is full for instance, is tried again.
func (c *Checker) Run(ctx context.Context) {
	for {
		again, err := c.step(ctx)
		if ctx.Err() != nil || errors.Is(err, container.ErrNotFound) {
			return // it has ended meanwhile, or is gone
		}
		if err != nil {
			slog.Error("check the health", "container", c.Record.ID, "error", err)
		}
		if !again || err != nil && !wait(ctx, c.Record.Check.Interval) {
			return
		}
	}
}

// step waits until a check is due, makes it, and notes what it found.
func (c *Checker) step(ctx context.Context) (again bool, err error) {
	check := c.Record.Check
	st, err := c.Containers.State(c.Record.ID)
	if err != nil {
		return true, err
	}
	if st.Health == nil || !wait(ctx, time.Until(st.Health.Due(*check, st.Started))) {
		return false, nil
	}
	if info, err := c.Runtime.State(c.Record.ID); err != nil || info.Status == runtime.StatePaused {
		return wait(ctx, check.Interval), nil
	}
	result := c.check(ctx, check)
	if ctx.Err() != nil {
		return false, nil
	}
	return true, c.note(ctx, result)
}

// wait waits for a time, or returns false when ctx ends.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// note takes a check into the state, and does what is to be done with a container that
// has become unhealthy.
func (c *Checker) note(ctx context.Context, result container.HealthResult) error {
	var before, now string
	err := c.Containers.Update(background, c.Record.ID, func(st *container.State) error {
		if st.Health == nil || st.Status != container.Running {
			return nil
		}
		next := st.Health.Next(*c.Record.Check, st.Started, result)
		before, now = st.Health.Status, next.Status
		st.Health = &next
		return nil
	})
	if err != nil {
		return err
	}
	if before != now {
		c.acted.Store(false)
		ev := c.Record.Event(events.HealthStatus)
		ev.Detail = now
		if err := events.Open(c.Root).Append(ev); err != nil {
			slog.Error("write the event", "container", c.Record.ID, "error", err)
		}
	}
	if now == container.Unhealthy && !c.acted.Swap(true) {
		// Also if it has become so before: whoever was to do it then may have been killed, or have failed.
		c.act(ctx)
	}
	return nil
}

// act does what is to be done with a container that is unhealthy. What fails is tried again after the next check.
func (c *Checker) act(ctx context.Context) {
	failed := func(err error) {
		if err != nil {
			c.acted.Store(false)
			slog.Error("end the unhealthy", "container", c.Record.ID, "error", err)
		}
	}
	switch what := c.Record.Check.OnFailure; what {
	case container.HealthKill:
		failed(c.Runtime.Kill(c.Record.ID, unix.SIGKILL, false))
	case container.HealthRestart, container.HealthStop:
		go func() { failed(c.Do(what, c.Record.ID)) }()
	default:
		r, err := c.Containers.Get(c.Record.ID) // the policy may be another by now
		if err == nil && r.Config.Restart.Policy == container.RestartOnUnhealthy {
			go func() { failed(c.end(ctx)) }()
			return
		}
		failed(err)
		c.acted.Store(false) // there may be such a policy later
	}
}

// end asks the program to end, and kills it when its time is over, as stop does. ctx ends with the container.
func (c *Checker) end(ctx context.Context) error {
	signal, timeout := unix.Signal(c.Record.StopSignal), container.DefaultStopTimeout
	if signal == 0 {
		signal = unix.SIGTERM
	}
	if t := c.Record.Config.StopTimeout; t != nil {
		timeout = *t
	}
	if err := c.Runtime.Kill(c.Record.ID, signal, false); err != nil || timeout < 0 || !wait(ctx, time.Duration(timeout)*time.Second) {
		return err
	}
	return c.Runtime.Kill(c.Record.ID, unix.SIGKILL, false)
}

// check runs the program of a check once.
func (c *Checker) check(ctx context.Context, check *container.Check) container.HealthResult {
	result := container.HealthResult{Start: time.Now().UTC()}
	code, output, err := c.runCheck(ctx, check)
	result.End, result.ExitCode, result.Output = time.Now().UTC(), code, output
	if err != nil {
		result.ExitCode, result.Output = -1, err.Error()
	}
	return result
}

func (c *Checker) runCheck(ctx context.Context, check *container.Check) (code int, output string, err error) {
	if check.Probe != "" {
		return c.probe(ctx, check)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, "", err
	}
	defer null.Close()
	out, in, err := os.Pipe()
	if err != nil {
		return 0, "", err
	}
	defer out.Close()
	apart, err := c.Runtime.Apart(c.Record.ID, checkGroup)
	if err != nil && !errors.Is(err, runtime.ErrNoGroup) {
		in.Close()
		return 0, "", err
	}
	s, err := c.Runtime.Exec(&runtime.ExecRequest{ID: c.Record.ID, Apart: apart, Stdio: [3]*os.File{null, in, in}, Change: func(p *specs.Process) error {
		p.Args, p.Terminal, p.ConsoleSize = check.Args, false, nil
		return nil
	}})
	in.Close()
	if err != nil {
		return 0, "", err
	}
	program, err := os.FindProcess(s.PID) // our child, which keeps its number until we have waited for it
	if err != nil {
		return 0, "", err
	}
	limit, cancel := context.WithTimeout(ctx, check.Timeout)
	defer cancel()
	killed := make(chan struct{})
	stop := context.AfterFunc(limit, func() {
		defer close(killed)
		c.killCheck(program, apart)
	})
	output, err = head(out, limit)
	code = reap(program)
	if !stop() {
		<-killed
	}
	if apart != nil {
		if err := apart.Remove(); err != nil {
			slog.Error("remove the health check's control group", "container", c.Record.ID, "error", err)
		}
	}
	if limit.Err() != nil && ctx.Err() == nil {
		return -1, "", tooLong(check)
	}
	return code, output, err
}

// probe has containr ask the container. That is another process, since what speaks HTTP is larger than the monitor.
func (c *Checker) probe(ctx context.Context, check *container.Check) (code int, output string, err error) {
	limit, cancel := context.WithTimeout(ctx, check.Timeout)
	defer cancel()
	cmd := exec.CommandContext(limit, c.Command[0], append(c.Command[1:len(c.Command):len(c.Command)], "container", "probe", c.Record.ID)...)
	cmd.Dir = "/"
	said, err := cmd.CombinedOutput()
	if limit.Err() != nil && ctx.Err() == nil {
		return -1, "", tooLong(check)
	}
	if cmd.ProcessState == nil {
		return 0, "", err // it could not be executed
	}
	return exitCode(cmd.ProcessState), string(said[:min(len(said), container.MaxHealthOutput)]), nil
}

func tooLong(check *container.Check) error {
	return fmt.Errorf("health check exceeded timeout (%v)", check.Timeout)
}

// checkGroup is the control group of a container's health check, below its own.
const checkGroup = "containr-check"

// checkPatience is how long the end of what a check has started may take.
const checkPatience = 10 * time.Second

// killCheck ends a check that takes too long, and all that it has started: without a
// control group what has not left its session.
func (c *Checker) killCheck(program *os.Process, apart *runtime.Apart) {
	if apart == nil {
		_ = unix.Kill(-program.Pid, unix.SIGKILL) // it has a session of its own; it may have ended
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkPatience)
	defer cancel()
	if err := apart.Kill(ctx); err != nil {
		slog.Error("end the health check", "container", c.Record.ID, "error", err)
		_ = program.Kill()
	}
}

// head reads a pipe to its end, or until ctx ends, and returns the beginning.
func head(out *os.File, ctx context.Context) (string, error) {
	defer context.AfterFunc(ctx, func() { out.SetReadDeadline(time.Now()) })()
	b, err := io.ReadAll(io.LimitReader(out, container.MaxHealthOutput))
	if err == nil {
		_, err = io.Copy(io.Discard, out)
	}
	if ctx.Err() != nil {
		err = nil
	}
	return string(b), err
}

// reap waits for a child and returns its exit status, -1 if that cannot be known.
func reap(program *os.Process) int {
	state, err := program.Wait()
	if err != nil {
		return -1
	}
	return exitCode(state)
}

// exitCode is how a process ended, as shells say it.
func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}
