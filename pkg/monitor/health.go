package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/runtime"
)

// checkHealth runs the checks of a container until ctx ends. What was found is in the
// container's state, so that another monitor goes on from there.
func (c *adopted) checkHealth(ctx context.Context, r container.Record) {
	for {
		st, err := c.m.containers.State(c.id)
		if err != nil {
			slog.Error("read the state", "container", c.id, "error", err)
			return
		}
		if st.Health == nil {
			return
		}
		if !wait(ctx, time.Until(st.Health.Due(*r.Check, st.Started))) {
			return
		}
		if info, err := c.m.runtime.State(c.id); err != nil || info.Status == runtime.StatePaused {
			if !wait(ctx, r.Check.Interval) {
				return
			}
			continue
		}
		result := c.check(ctx, r.Check)
		if ctx.Err() != nil {
			return // the container ended meanwhile
		}
		if err := c.note(r, result); err != nil {
			slog.Error("note the health", "container", c.id, "error", err)
			return
		}
	}
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
func (c *adopted) note(r container.Record, result container.HealthResult) error {
	var before, now string
	err := c.m.containers.Update(background, c.id, func(st *container.State) error {
		if st.Health == nil || st.Status != container.Running {
			return nil
		}
		next := st.Health.Next(*r.Check, st.Started, result)
		before, now = st.Health.Status, next.Status
		st.Health = &next
		return nil
	})
	if err != nil {
		return err
	}
	if now == container.Unhealthy && !c.acted {
		// Also if it has become so before: whoever was to do it then may have been killed.
		c.acted = true
		defer c.act(r.Check.OnFailure)
	}
	if before == now {
		return nil
	}
	c.acted = now == container.Unhealthy
	ev := r.Event(events.HealthStatus)
	ev.Detail = now
	if err := events.Open(c.m.o.Root).Append(ev); err != nil {
		slog.Error("write the event", "container", c.id, "error", err)
	}
	return nil
}

// act does what is to be done with a container that is unhealthy.
func (c *adopted) act(what string) {
	switch what {
	case container.HealthKill:
		if err := c.m.runtime.Kill(c.id, unix.SIGKILL, false); err != nil {
			slog.Error("kill the unhealthy", "container", c.id, "error", err)
		}
	case container.HealthRestart, container.HealthStop:
		c.m.keep()
		go func() {
			defer c.m.done()
			c.m.command(what, c.id)
		}()
	}
}

// command executes a command of containr's for a container.
func (m *Monitor) command(args ...string) {
	cmd := exec.Command(m.o.Command[0], append(m.o.Command[1:len(m.o.Command):len(m.o.Command)], args...)...)
	cmd.Stderr, cmd.Dir = os.Stderr, "/"
	if err := cmd.Run(); err != nil {
		slog.Error("command", "args", args, "error", err)
	}
}

// check runs the program of a check once.
func (c *adopted) check(ctx context.Context, check *container.Check) container.HealthResult {
	result := container.HealthResult{Start: time.Now().UTC()}
	code, output, err := c.runCheck(ctx, check)
	result.End, result.ExitCode, result.Output = time.Now().UTC(), code, output
	if err != nil {
		result.ExitCode, result.Output = -1, err.Error()
	}
	return result
}

func (c *adopted) runCheck(ctx context.Context, check *container.Check) (code int, output string, err error) {
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
	apart, err := c.m.runtime.Apart(c.id, checkGroup)
	if err != nil && !errors.Is(err, runtime.ErrNoGroup) {
		in.Close()
		return 0, "", err
	}
	s, err := c.m.runtime.Exec(&runtime.ExecRequest{ID: c.id, Apart: apart, Stdio: [3]*os.File{null, in, in}, Change: func(p *specs.Process) error {
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
			slog.Error("remove the health check's control group", "container", c.id, "error", err)
		}
	}
	if limit.Err() != nil && ctx.Err() == nil {
		return -1, "", fmt.Errorf("health check exceeded timeout (%v)", check.Timeout)
	}
	return code, output, err
}

// checkGroup is the control group of a container's health check, below its own.
const checkGroup = "containr-check"

// checkPatience is how long the end of what a check has started may take.
const checkPatience = 10 * time.Second

// killCheck ends a check that takes too long, and all that it has started: without a
// control group what has not left its session.
func (c *adopted) killCheck(program *os.Process, apart *runtime.Apart) {
	if apart == nil {
		_ = unix.Kill(-program.Pid, unix.SIGKILL) // it has a session of its own; it may have ended
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkPatience)
	defer cancel()
	if err := apart.Kill(ctx); err != nil {
		slog.Error("end the health check", "container", c.id, "error", err)
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
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}
