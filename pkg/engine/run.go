package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/child"
	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
	"github.com/containr/containr/pkg/monitor"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/registry"
	"github.com/containr/containr/pkg/runtime"
	"github.com/containr/containr/pkg/streams"
)

// RunRequest asks for a container to be made and run: in the foreground, where it is
// waited for, or detached.
type RunRequest struct {
	// Config is what the user asked for; Defaults completes it.
	Config container.Config
	// Detach has Run return when the program runs. Its output goes to its log.
	Detach bool
	Streams
	// Created, if set, is told of the container before it is started.
	Created func(container.Record) error
	// Progress, if set, is told how a pull goes on.
	Progress func(registry.Progress)

	// Before, if set, is called before each step of the plan; its error ends
	// the run.
	Before func(index int, step *plan.Step) error
	// Traced, if set, is told what each step did, when the program runs. It
	// makes the run slower.
	Traced func(p *plan.Plan, records []child.Record)

	// mounts come after those of the configuration. joined says that it has been decided
	// what it means to share another container's namespaces.
	mounts []specs.Mount
	joined bool
	// learn notes the system calls that it makes; see RecordSeccomp.
	learn *learner
}

// Streams connect a container in the foreground with its user.
type Streams struct {
	// Stdio are the container's standard input, output and error, nil for
	// our own. They are not used if Config.TTY is set. Of a detached container only
	// standard input is used; nil for what Config.Interactive says.
	Stdio [3]*os.File
	// ConsoleSize is the size of the terminal of a container with one.
	ConsoleSize *specs.Box
	// Starting, if set, is called just before the container is started: from
	// then on signals are meant for it.
	Starting func()
	// Attach is called when the container runs; what it returns is called when
	// the program has ended, before anything of the container is taken away.
	Attach func(*Running) (detach func() error, err error)
}

// Running is a container whose program has been started.
type Running struct {
	ID, Name string
	// PID is its first process.
	PID int
	// Console is our end of its terminal, to be written to; nil if it has none. What the
	// container writes to it comes from Screen. The engine closes both after detach.
	Console, Screen *os.File

	// pidfd is open on the first process; -1 if it was too quick for that.
	pidfd int
	// keeper is the container's parent, which is our child.
	keeper int
	// leave ends the waiting for a container that goes on.
	leave func()
}

// Leave has Run return while the container goes on: its user has detached from its
// terminal. It is for containers with a terminal only.
func (r *Running) Leave() { r.leave() }

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
	// Left says that it has not ended: it goes on without us.
	Left bool
}

// Run makes a container and runs it. With Config.AutoRemove nothing of it stays when it
// has ended; else its record, its state and its layer do.
//
// If the program could not be started, nothing stays either way, and ExitStatus
// says which exit status the error stands for. If ctx ends, a container in the
// foreground is killed.
func (e *Engine) Run(ctx context.Context, r RunRequest) (Exit, error) {
	record, attended, err := e.create(ctx, r.Config, prepareOptions{progress: r.Progress, consoleSize: r.ConsoleSize, mounts: r.mounts, joined: r.joined, learn: r.learn})
	if err != nil {
		return Exit{}, err
	}
	defer attended.Release()
	if r.Created != nil {
		if err := r.Created(record); err != nil {
			return Exit{}, errors.Join(err, e.remove(ctx, record))
		}
	}
	exit, started, err := e.execute(ctx, record, attended, r)
	if !started {
		err = e.diagnoseRecord(record, err)
	}
	if !started || record.Config.AutoRemove && !exit.Left {
		err = errors.Join(err, e.remove(ctx, record))
	}
	return exit, err
}

// create makes a container without running it. The lock says that it is attended to.
func (e *Engine) create(ctx context.Context, c container.Config, o prepareOptions) (container.Record, *durable.Lock, error) {
	p, err := e.prepare(ctx, c, container.NewID(), o)
	if err != nil {
		return container.Record{}, nil, err
	}
	defer p.release() // its record tells that it uses its volumes
	// Before anybody can find it, so that nobody takes it for a leftover.
	attended, err := e.attend(p.place.ID)
	if err != nil {
		return container.Record{}, nil, errors.Join(err, e.discard(ctx, p))
	}
	record, err := p.record()
	if err == nil {
		record, err = p.place.Commit(record)
	}
	if err != nil {
		return container.Record{}, nil, errors.Join(err, e.discard(ctx, p), attended.Release())
	}
	record.Spec = p.spec
	e.tell(events.Create, record)
	return record, attended, nil
}

func (e *Engine) attend(id string) (*durable.Lock, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	return containers.Attend(id)
}

// execute runs a container whose lock is held: to its end, or detached, and then the lock
// is released. started tells whether the program ever ran.
func (e *Engine) execute(ctx context.Context, record container.Record, attended *durable.Lock, r RunRequest) (exit Exit, started bool, err error) {
	rt, err := e.runtime()
	if err != nil {
		return Exit{}, false, err
	}
	containers, err := e.containers()
	if err != nil {
		return Exit{}, false, err
	}
	dir, err := containers.Dir(record.ID)
	if err != nil {
		return Exit{}, false, err
	}
	x := &execution{Engine: e, runtime: rt, containers: containers, record: record, dir: dir, request: r}
	if r.Detach {
		return x.detached(ctx, attended)
	}
	exit, started, err = x.foreground(ctx)
	if !exit.Left {
		err = errors.Join(err, e.unmountPlugins(ctx, record.ID))
	}
	if exit.Left {
		err = errors.Join(err, x.handOver(ctx, attended))
		x.copies.from.Dismiss() // whom the monitor serves from now on
	}
	return exit, started, err
}

// execution is one run from the first step of its plan to the last.
type execution struct {
	*Engine
	runtime    *runtime.Runtime
	containers *container.Store
	record     container.Record
	dir        string
	request    RunRequest
	started    *runtime.Started
	running    Running
	// copies are made of what a container in the foreground writes, unless it has our files.
	copies *output
	// forAgain: see container.State.ForAgain.
	forAgain bool
}

// detached starts the program and leaves it to the monitor. There has to be one before:
// else nobody would read what the container writes.
func (x *execution) detached(ctx context.Context, attended *durable.Lock) (exit Exit, started bool, err error) {
	m, err := x.monitor()
	if err != nil {
		return Exit{}, false, err
	}
	announced, err := m.Announce(ctx, x.record.ID)
	if err != nil {
		return Exit{}, false, err
	}
	defer announced.Close()
	given, err := x.giveDetached()
	if err != nil {
		return Exit{}, false, err
	}
	defer given.Close()
	if err := x.start(ctx, given); err != nil {
		return Exit{}, false, err
	}
	defer x.close()
	exit = Exit{ID: x.record.ID, Left: true}
	return exit, true, x.handOver(ctx, attended)
}

// handOver leaves the container to the monitor.
func (x *execution) handOver(ctx context.Context, attended *durable.Lock) error {
	m, err := x.monitor()
	if err != nil {
		return err
	}
	if err := attended.Release(); err != nil {
		return err
	}
	err = m.Adopt(ctx, x.record.ID)
	if errors.Is(err, durable.ErrLocked) || errors.Is(err, container.ErrNotFound) {
		return nil // somebody else attends to it, to stop it for instance; the monitor takes it when he lets go
	}
	if err != nil {
		return fmt.Errorf("container %s runs, and its output waits: %w", x.record.Name, err)
	}
	return nil
}

// foreground executes the plan, waits for the program to end, and undoes the plan.
func (x *execution) foreground(ctx context.Context) (exit Exit, started bool, err error) {
	given, err := x.give()
	if err != nil {
		return Exit{}, false, err
	}
	if given.Held != nil {
		defer given.Close()
	}
	if err := x.start(ctx, given); err != nil {
		return Exit{}, false, err
	}
	defer x.close()
	if x.copied() {
		if x.copies, err = x.copyOutput(given); err != nil {
			err = errors.Join(err, x.kill())
		} else {
			x.running.Screen = x.copies.screen
		}
	}
	ended := false
	defer func() {
		if !exit.Left {
			err = errors.Join(err, x.end(ended))
		}
	}()
	endChecks := x.checkHealth()
	code, waitErr := x.attended(ctx)
	endChecks()
	err = errors.Join(err, waitErr)
	if errors.Is(err, errLeft) {
		return Exit{ID: x.record.ID, Left: true}, true, nil
	}
	ended = err == nil
	exit = Exit{ID: x.record.ID, Code: code, OOMKilled: x.oomKilled(x.record, code)}
	return exit, true, errors.Join(err, x.setExited(ctx, exit))
}

// checkHealth begins the health checks of a container in the foreground, if it has any. end ends them: by then it has ended,
// or the monitor goes on with them. What is to be done with one that is unhealthy takes a monitor, and such a container is not
// run in the foreground.
func (x *execution) checkHealth() (end func()) {
	if x.record.Check == nil {
		return func() {}
	}
	command, err := x.command()
	if err != nil {
		slog.Error("check the health", "container", x.record.ID, "error", err)
		return func() {}
	}
	checks := &monitor.Checker{Root: x.root, Containers: x.containers, Runtime: x.runtime, Record: x.record, Command: command}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { checks.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// close forgets the descriptors of the running container.
func (x *execution) close() {
	if x.running.pidfd >= 0 {
		unix.Close(x.running.pidfd)
	}
	if x.running.Console != nil {
		x.running.Console.Close()
	}
	if x.running.Screen != nil {
		x.running.Screen.Close()
	}
}

// end undoes the plan. ended says that nothing runs any more.
func (x *execution) end(ended bool) error {
	if ended {
		return x.runtime.Finish(x.started)
	}
	return x.runtime.Delete(x.record.ID, true)
}

// oomKilled finds out whether SIGKILL came from the memory limit. The answer is
// worth no error: without it the exit status still says what happened.
func (e *Engine) oomKilled(record container.Record, code int) bool {
	if code != 128+int(unix.SIGKILL) || record.Config.Resources.Memory == 0 {
		return false
	}
	rt, err := e.runtime()
	if err != nil {
		return false
	}
	kills, err := rt.OOMKills(record.ID)
	return err == nil && kills > 0
}

// start executes the plan. If it fails, the runtime has undone what was done. Before the
// program runs the container's state tells its process: whoever sees that it runs, for
// it prints something, finds it, whatever has become of us.
func (x *execution) start(ctx context.Context, given *streams.Given) error {
	held, err := x.holdVolumes(ctx, x.record.Config, true)
	defer release(held) // its state tells that it runs
	if err != nil {
		return err
	}
	spec, err := x.shareVolumes(x.record.Spec, x.record.Config, x.record.ID)
	if err != nil {
		return err
	}
	spec, detach, err := x.attachVolumes(ctx, spec, x.record.Config)
	if err != nil {
		return err
	}
	defer detach()
	spec, give, err := x.mountPlugins(ctx, spec, x.record.Config, x.record.ID)
	if err != nil {
		return err
	}
	defer give()
	spec, joins, err := x.join(ctx, spec)
	if err != nil {
		return err
	}
	defer joins.close()
	if err := x.loadProfile(ctx, spec); err != nil {
		return err
	}
	req, err := x.createRequest(spec)
	if err != nil {
		return err
	}
	req.Stdio, req.Console, req.Held = given.Stdio, given.Console, given.Held
	req.Before, req.Trace = x.request.Before, x.request.Traced != nil
	var p *plan.Plan
	if x.request.Traced != nil {
		if p, err = x.compile(req); err != nil {
			return err
		}
	}
	if x.request.Starting != nil {
		x.request.Starting()
	}
	req.Made = func(s *runtime.Started) error {
		if err := joins.check(); err != nil {
			return err
		}
		if err := x.setRunning(ctx, s.PID); err != nil {
			return err
		}
		if err := x.enforce(ctx, x.record); err != nil {
			return err
		}
		return x.tellNames(ctx, x.record, s.PID)
	}
	s, err := x.runtime.Create(req)
	if errors.Is(err, runtime.ErrExists) { // who began to start it was killed: its lock is ours
		if err := x.runtime.Delete(x.record.ID, true); err != nil {
			return err
		}
		s, err = x.runtime.Create(req)
	}
	if err != nil {
		return errors.Join(err, x.forgetNames(x.record))
	}
	if x.request.Traced != nil {
		x.request.Traced(p, s.Trace)
	}
	x.started = s
	x.running = Running{ID: x.record.ID, Name: x.record.Name, PID: s.PID, keeper: s.Parent}
	x.running.pidfd, err = unix.PidfdOpen(s.PID, 0)
	if errors.Is(err, unix.ESRCH) { // it has ended already, and its keeper has reaped it
		x.running.pidfd, err = -1, nil
	}
	if err == nil && given.Console != nil && !x.request.Detach {
		x.running.Console, err = lookAtConsole(given.Held.Socket)
	}
	if err == nil && x.forAgain {
		err = x.setBegun(ctx)
	}
	if err != nil {
		x.close()
		err = errors.Join(fmt.Errorf("container %s: %w", x.record.ID, err), x.runtime.Delete(x.record.ID, true))
		_, _ = wait(s.Parent, container.ExitFile(x.dir)) // it has nothing to say about a container that was killed
		return err
	}
	x.tell(events.Start, x.record)
	return nil
}

// createRequest asks for the container, with its network as it is to be now.
func (x *execution) createRequest(spec *specs.Spec) (*runtime.CreateRequest, error) {
	req := createRequest(x.record.ID, x.dir, spec, x.runtime.Facts)
	if err := x.checkPorts(x.record); err != nil {
		return nil, err
	}
	if len(x.record.Endpoints) > 0 || byNetavark(x.record.Attachments) {
		if err := x.noteForwarding(); err != nil {
			return nil, err
		}
	}
	var err error
	if req.Replace, err = x.secretVariables(x.record.Config); err != nil {
		return nil, err
	}
	if err := x.connect(req, x.record.Name, x.record.Config, x.record.Endpoints, x.record.Published, true); err != nil {
		return nil, err
	}
	return req, x.connectPlugins(req, x.record.Config.DNS, x.record.ResolvConf, x.record.Endpoints, x.record.Attachments, x.record.Published)
}

// lookAtConsole takes a copy of the terminal's master end, which was sent before the
// program was started. The keeper keeps the message.
func lookAtConsole(socket *os.File) (*os.File, error) {
	files, err := runtime.LookInto(socket)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("terminal: %d descriptors, want 1", len(files))
	}
	return files[0], nil
}

// compile makes the plan that Create will make.
func (x *execution) compile(req *runtime.CreateRequest) (*plan.Plan, error) {
	in, err := x.runtime.Input(req)
	if err != nil {
		return nil, err
	}
	return runtime.Compile(in)
}

// setRunning writes down that the program runs.
func (x *execution) setRunning(ctx context.Context, pid int) error {
	return x.containers.Update(context.WithoutCancel(ctx), x.record.ID, func(st *container.State) error {
		*st = container.State{Status: container.Running, PID: pid, Started: time.Now().UTC(), Boot: sys.BootID(),
			Restarts: st.Restarts, Quick: st.Quick, ForAgain: st.Again}
		x.forAgain = st.ForAgain
		if x.record.Check != nil {
			st.Health = &container.HealthState{Status: container.Starting}
		}
		return nil
	})
}

// setBegun writes down that the program has been executed, of one that is started because of Again: nothing is due any more.
func (x *execution) setBegun(ctx context.Context) error {
	return x.containers.Update(context.WithoutCancel(ctx), x.record.ID, func(st *container.State) error {
		st.ForAgain = false
		return nil
	})
}

// setExited writes down how the container ended, unless it goes away with this run: then
// nobody needs it.
func (x *execution) setExited(ctx context.Context, exit Exit) error {
	var last container.State
	used := x.countUsed(x.record)
	ended := func(st *container.State) error {
		st.Status, st.PID, st.Finished = container.Exited, 0, time.Now().UTC()
		st.ExitCode, st.OOMKilled, st.Used = exit.Code, exit.OOMKilled, used
		last = *st
		return nil
	}
	var err error
	if x.record.Config.AutoRemove {
		last, err = x.containers.State(x.record.ID)
		ended(&last)
	} else {
		err = x.containers.Update(context.WithoutCancel(ctx), x.record.ID, ended)
	}
	x.tellEnd(x.record, last)
	return errors.Join(err, x.forgetNames(x.record))
}

// errLeft means that the user has left a container that goes on.
var errLeft = errors.New("the container goes on")

// attended waits for the program while the caller looks after its streams.
func (x *execution) attended(ctx context.Context) (code int, err error) {
	stop := context.AfterFunc(ctx, func() { x.kill() })
	defer stop()
	waiting, leave := context.WithCancel(context.Background())
	defer leave()
	x.running.leave = leave
	detach := func() error { return nil }
	if x.request.Attach != nil {
		if detach, err = x.request.Attach(&x.running); err != nil {
			err = errors.Join(err, x.kill())
			detach = func() error { return nil }
		}
	}
	code, waitErr := x.wait(waiting)
	if errors.Is(waitErr, context.Canceled) && err == nil {
		x.copies.stop() // first: a program that writes without end would keep detach from its end
		if err := detach(); err != nil {
			return 0, err
		}
		return 0, errLeft
	}
	err = errors.Join(err, waitErr, detach())
	if err == nil && ctx.Err() != nil && code == 128+int(unix.SIGKILL) {
		err = context.Cause(ctx)
	}
	return code, err
}

// wait waits for the exit status. The keeper of a container with a terminal or a log stays
// until it is ended, others end by themselves.
func (x *execution) wait(ctx context.Context) (int, error) {
	if !x.record.Config.TTY && x.copies == nil {
		return wait(x.running.keeper, container.ExitFile(x.dir))
	}
	keeper, err := x.runtime.Keeper(x.record.ID)
	if err != nil {
		return 0, err
	}
	defer keeper.Close()
	code, err := keeper.AwaitExit(ctx, container.ExitFile(x.dir))
	if err != nil {
		return 0, err
	}
	if x.copies != nil {
		x.copies.finish(code)
	}
	if err := keeper.End(); err != nil {
		return 0, err
	}
	return wait(x.running.keeper, container.ExitFile(x.dir)) // and there is no zombie
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

// remove deletes the container's record, name, log and layer. What is gone already is no
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
	e.forwardRest(ctx, record)
	rest := func() error {
		return errors.Join(e.forgetNames(record), e.unplug(record.ID, record.Endpoints), home.removeLayer(record.ID), e.releaseUsersOf(record.Config, record.ID), monitor.RemoveLog(e.root, e.run, record.ID))
	}
	var told error
	if len(record.Endpoints) > 0 {
		told = e.TellRefused(context.WithoutCancel(ctx)) // later nobody knows whose it was
	}
	err = containers.Remove(context.WithoutCancel(ctx), record.ID, rest)
	switch {
	case errors.Is(err, container.ErrNotFound):
		err = rest() // somebody else removes it at the same time
	case err == nil:
		e.tell(events.Destroy, record)
	}
	err = errors.Join(err, told, e.renewPolicies(ctx, record.Endpoints), e.unmountPlugins(ctx, record.ID))
	if record.Config.AutoRemove {
		err = errors.Join(err, e.removeAnonymous(ctx, record))
	}
	return err
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
