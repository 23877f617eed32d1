package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/registry"
	"github.com/containr/containr/pkg/runtime"
)

// RunRequest asks for a container to be made, run in the foreground, and waited
// for.
type RunRequest struct {
	// Config is what the user asked for; Defaults completes it.
	Config container.Config
	// Stdio are the container's standard input, output and error, nil for
	// our own. They are not used if Config.TTY is set.
	Stdio [3]*os.File
	// ConsoleSize is the size of the terminal of a container with one.
	ConsoleSize *specs.Box
	// Starting, if set, is called just before the container is started: from
	// then on signals are meant for it.
	Starting func()
	// Attach is called when the container runs; what it returns is called when
	// the program has ended, before anything of the container is taken away.
	Attach func(*Running) (detach func() error, err error)
	// Progress, if set, is told how a pull goes on.
	Progress func(registry.Progress)

	// Before, if set, is called before each step of the plan; its error ends
	// the run.
	Before func(index int, step *plan.Step) error
	// Traced, if set, is told what each step did, when the program runs. It
	// makes the run slower.
	Traced func(p *plan.Plan, records []child.Record)
}

// Running is a container whose program has been started.
type Running struct {
	ID, Name string
	// PID is its first process.
	PID int
	// Console is our end of its terminal; nil if it has none. The engine
	// closes it after detach.
	Console *os.File

	// pidfd is open on the first process; -1 if it was too quick for that.
	pidfd int
	// keeper is the container's parent, which is our child.
	keeper int
}

// Signal sends a signal to the first process. One that has ended is no error.
func (r *Running) Signal(sig os.Signal) error {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return fmt.Errorf("signal %v: not a number", sig)
	}
	if r.pidfd < 0 {
		return nil
	}
	err := unix.PidfdSendSignal(r.pidfd, number, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// Forward makes the first process the one that signals are forwarded to.
func (r *Running) Forward(f *sys.Forwarding) error {
	if r.pidfd < 0 {
		return nil
	}
	return f.To(r.pidfd)
}

// Exit is how a container ended.
type Exit struct {
	ID string
	// Code is the program's exit status, or 128 and the number of the signal
	// that ended it.
	Code int
	// OOMKilled says that the container's memory limit ended it.
	OOMKilled bool
}

// Run runs a container in the foreground. With Config.AutoRemove nothing of it
// stays; else its record, its state and its layer do.
//
// If the program could not be started, nothing stays either way, and ExitStatus
// says which exit status the error stands for. If ctx ends, the container is
// killed.
func (e *Engine) Run(ctx context.Context, r RunRequest) (Exit, error) {
	rt, err := e.runtime()
	if err != nil {
		return Exit{}, err
	}
	p, err := e.prepare(ctx, r.Config, container.NewID(), prepareOptions{r.Progress, r.ConsoleSize})
	if err != nil {
		return Exit{}, err
	}
	// Before anybody can find it, so that nobody takes it for a leftover.
	attended, err := e.attend(p.place.ID)
	if err != nil {
		return Exit{}, errors.Join(err, e.discard(ctx, p))
	}
	defer attended.Release()
	record, err := p.record()
	if err == nil {
		record, err = p.place.Commit(record)
	}
	if err != nil {
		return Exit{}, errors.Join(err, e.discard(ctx, p))
	}
	e.tell(events.Create, record)
	run := &execution{Engine: e, runtime: rt, prepared: p, request: r, id: record.ID, record: record}
	exit, started, err := run.do(ctx)
	if !started {
		err = e.diagnose(p, err)
	}
	if !started || p.config.AutoRemove {
		err = errors.Join(err, e.remove(ctx, record))
	}
	return exit, err
}

func (e *Engine) attend(id string) (*durable.Lock, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	return containers.Attend(id)
}

// execution is one run from the first step of its plan to the last.
type execution struct {
	*Engine
	*prepared
	runtime *runtime.Runtime
	request RunRequest
	id      string
	record  container.Record
	started *runtime.Started
	running Running
	begun   time.Time
}

// do executes the plan, waits for the program to end, and undoes the plan. started
// tells whether the program ever ran.
func (x *execution) do(ctx context.Context) (exit Exit, started bool, err error) {
	console, err := x.start(ctx)
	if err != nil {
		return Exit{}, false, err
	}
	ended := false
	defer func() { err = errors.Join(err, x.end(ended)) }()
	if x.running.pidfd >= 0 {
		defer unix.Close(x.running.pidfd)
	}
	if console != nil {
		defer console.Close()
		x.running.Console = console
	}
	x.tell(events.Start, x.record)
	code, err := x.attended(ctx)
	ended = err == nil
	exit = Exit{ID: x.id, Code: code, OOMKilled: x.oomKilled(code)}
	last := container.State{Status: container.Exited, Started: x.begun, Finished: time.Now().UTC(), ExitCode: code, OOMKilled: exit.OOMKilled}
	x.tellEnd(x.record, last)
	return exit, true, errors.Join(err, x.setState(ctx, last))
}

// end undoes the plan. ended says that nothing runs any more.
func (x *execution) end(ended bool) error {
	if ended {
		return x.runtime.Finish(x.started)
	}
	return x.runtime.Delete(x.id, true)
}

// oomKilled finds out whether SIGKILL came from the memory limit. The answer is
// worth no error: without it the exit status still says what happened.
func (x *execution) oomKilled(code int) bool {
	if code != 128+int(unix.SIGKILL) || x.config.Resources.Memory == 0 {
		return false
	}
	kills, err := x.runtime.OOMKills(x.id)
	return err == nil && kills > 0
}

// start executes the plan. If it fails, the runtime has undone what was done. Before the
// program runs the container's state tells its process: whoever sees that it runs, for
// it prints something, finds it, whatever has become of us.
func (x *execution) start(ctx context.Context) (console *os.File, err error) {
	req := x.prepared.request()
	req.Stdio, req.Before, req.Trace = x.request.Stdio, x.request.Before, x.request.Traced != nil
	var receiver *os.File
	if x.config.TTY {
		if req.Console, receiver, err = socketPair(); err != nil {
			return nil, fmt.Errorf("console: %w", err)
		}
		defer receiver.Close()
		defer req.Console.Close()
	}
	var p *plan.Plan
	if x.request.Traced != nil {
		if p, err = x.compile(req); err != nil {
			return nil, err
		}
	}
	if x.request.Starting != nil {
		x.request.Starting()
	}
	req.Made = func(s *runtime.Started) error {
		x.begun = time.Now().UTC()
		return x.setState(ctx, container.State{Status: container.Running, PID: s.PID, Started: x.begun})
	}
	s, err := x.runtime.Create(req)
	if err != nil {
		return nil, err
	}
	if x.request.Traced != nil {
		x.request.Traced(p, s.Trace)
	}
	x.started = s
	x.running = Running{ID: x.id, Name: x.place.Name, PID: s.PID, keeper: s.Parent}
	x.running.pidfd, err = unix.PidfdOpen(s.PID, 0)
	if errors.Is(err, unix.ESRCH) { // it has ended already, and its keeper has reaped it
		x.running.pidfd, err = -1, nil
	}
	if err == nil && receiver != nil {
		console, err = receiveFile(receiver)
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("container %s: %w", x.id, err), x.runtime.Delete(x.id, true))
		_, _ = wait(s.Parent, exitFile(x.place.Dir)) // it has nothing to say about a container that was killed
		return nil, err
	}
	return console, nil
}

// compile makes the plan that Create will make.
func (x *execution) compile(req *runtime.CreateRequest) (*plan.Plan, error) {
	in, err := x.runtime.Input(req)
	if err != nil {
		return nil, err
	}
	return runtime.Compile(in)
}

// setState writes the container's state, unless it goes away with this run: then
// nobody needs it but while it runs.
func (x *execution) setState(ctx context.Context, st container.State) error {
	if x.config.AutoRemove && st.Status == container.Exited {
		return nil
	}
	containers, err := x.containers()
	if err != nil {
		return err
	}
	return containers.Update(context.WithoutCancel(ctx), x.id, func(old *container.State) error {
		*old = st
		return nil
	})
}

// attended waits for the program while the caller looks after its streams.
func (x *execution) attended(ctx context.Context) (code int, err error) {
	stop := context.AfterFunc(ctx, func() { x.kill() })
	defer stop()
	detach := func() error { return nil }
	if x.request.Attach != nil {
		if detach, err = x.request.Attach(&x.running); err != nil {
			err = errors.Join(err, x.kill())
			detach = func() error { return nil }
		}
	}
	code, waitErr := wait(x.running.keeper, exitFile(x.place.Dir))
	err = errors.Join(err, waitErr, detach())
	if err == nil && ctx.Err() != nil && code == 128+int(unix.SIGKILL) {
		err = context.Cause(ctx)
	}
	return code, err
}

func (x *execution) kill() error { return x.running.Signal(unix.SIGKILL) }

// wait waits for the container's keeper, which ends after the container, and reads
// the exit status that it has left.
func wait(keeper int, file string) (code int, err error) {
	for {
		_, err := unix.Wait4(keeper, nil, 0, nil)
		if err == nil {
			return runtime.ReadExit(file)
		}
		if !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("wait for the keeper, process %d: %w", keeper, err)
		}
	}
}

// remove deletes the container's record, name and layer. What is gone already is no
// error.
func (e *Engine) remove(ctx context.Context, record container.Record) error {
	containers, err := e.containers()
	if err != nil {
		return err
	}
	home, err := e.homeOf(record.Config)
	if err != nil {
		return err
	}
	err = containers.Remove(context.WithoutCancel(ctx), record.ID)
	switch {
	case errors.Is(err, container.ErrNotFound):
		err = nil // somebody else removes it at the same time
	case err == nil:
		e.tell(events.Destroy, record)
	}
	return errors.Join(err, home.removeLayer(record.ID))
}

// ExitStatus is what `run` exits with for an error: 127 if the program was not
// found, 126 if it could not be executed, 125 for everything else.
func ExitStatus(err error) int {
	var step *runtime.StepError
	if !errors.As(err, &step) {
		return 125
	}
	if _, ok := step.Program(); !ok {
		return 125
	}
	if step.Errno == plan.ENOENT {
		return 127
	}
	return 126
}

// socketPair makes the two ends that a terminal is sent through.
func socketPair() (send, receive *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "console"), os.NewFile(uintptr(fds[1]), "console"), nil
}

// receiveFile takes the terminal's master end, which was sent before the program
// was started.
func receiveFile(socket *os.File) (*os.File, error) {
	data, control := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(socket.Fd()), data, control, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return nil, fmt.Errorf("terminal: receive: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("terminal: %d control messages, want 1: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("terminal: %d descriptors, want 1: %w", len(fds), err)
	}
	return os.NewFile(uintptr(fds[0]), "/dev/ptmx"), nil
}
